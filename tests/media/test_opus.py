"""libopus: sizes, what peers may send, and that everything is freed."""

from __future__ import annotations

import ctypes
import gc
import weakref
from array import array
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relaycall.errors import MediaError
from relaycall.media import opus
from relaycall.media.audio import (
    APPLICATION,
    COMPLEXITY,
    LOSS_PERCENT,
    PAYLOAD_BYTES,
    PAYLOADS,
    AudioEncoding,
    ConstantRateOpus,
    ToneSource,
)
from relaycall.media.files import FileSource
from relaycall.media.opus import FRAME_BYTES, FRAME_SAMPLES, MAX_PAYLOAD, Decoder, Encoder, has_copy
from tests.media.listening import similarity, tone_share

SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"


def encoder() -> Encoder:
    return Encoder(APPLICATION, COMPLEXITY, PAYLOAD_BYTES)


def blocks() -> list[bytes]:
    source = FileSource(SPEECH)
    found = list(iter(source.read, None))
    source.close()
    return found


def tone_packets(count: int) -> list[bytes]:
    tone, one = ToneSource(440), encoder()
    return [one.encode(tone.read() or b"") for _ in range(count)]


def energy(pcm: bytes) -> float:
    return sum(sample * sample for sample in array("h", pcm)) / FRAME_SAMPLES


def test_speech_goes_through() -> None:
    one, other = encoder(), Decoder()
    original = blocks()
    packets = [one.encode(block) for block in original]
    assert {len(packet) for packet in packets} == {PAYLOAD_BYTES}
    heard = [other.decode(packet) or b"" for packet in packets]
    assert {len(pcm) for pcm in heard} == {FRAME_BYTES}
    assert similarity(array("h", b"".join(original)), array("h", b"".join(heard))) > 0.97


@pytest.mark.parametrize("application", ["audio", "voip"])
@pytest.mark.parametrize("complexity", [0, 5, 10])
def test_every_packet_has_one_size(application: str, complexity: int) -> None:
    one = Encoder(application, complexity, 60)
    kinds = [bytes(FRAME_BYTES), b"\xff\x7f\x00\x80" * (FRAME_BYTES // 4), *blocks()[:30]]
    assert {len(one.encode(block)) for block in kinds} == {60}


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 2, FRAME_BYTES - 1, FRAME_BYTES + 2, 10 * FRAME_BYTES])
def test_another_number_of_bytes_is_not_encoded(size: int) -> None:
    with pytest.raises(MediaError):
        encoder().encode(bytes(size))


def test_a_lost_packet_is_made_up_for() -> None:
    packets = tone_packets(30)
    decoder = Decoder()
    pcm = [decoder.decode(packet) or b"" for packet in packets[:25]]
    made_up = decoder.conceal()
    assert len(made_up) == FRAME_BYTES
    assert energy(made_up) == pytest.approx(energy(pcm[-1]), rel=0.5)
    tail = array("h", pcm[-1] + made_up)
    assert tone_share(array("h", b"".join([*pcm[-4:], made_up])), 440) > 0.8, "it goes on as before"
    assert max(abs(tail[n] - tail[n - 1]) for n in range(950, 970)) < 1200, "without a click"
    assert energy(decoder.decode(packets[26]) or b"") > 0


def test_without_a_packet_before_silence_is_made_up() -> None:
    assert Decoder().conceal() == bytes(FRAME_BYTES)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(MAX_PAYLOAD + 1),
        b"\xff",  # code 3 without its count
        b"\xfc\xff\xfe"[:0],
        bytes([0b11111_0_11, 6]) + bytes(60),  # six frames of 20 ms: 120 ms
        bytes([0b00011_0_00]) + bytes(30),  # 60 ms of SILK
        bytes([0b11100_0_00]) + bytes(30),  # 2.5 ms
        bytes([0b11111_0_01]) + bytes(30),  # two of 20 ms
    ],
    ids=repr,
)
def test_what_is_not_20_ms_is_refused(payload: bytes) -> None:
    decoder = Decoder()
    assert decoder.decode(payload) is None
    assert len(decoder.decode(tone_packets(1)[0]) or b"") == FRAME_BYTES


def test_stereo_and_other_modes_of_20_ms_are_heard_as_mono() -> None:
    for configuration in (1, 5, 9, 13, 15, 19, 23, 27, 31):
        for stereo in (0, 1):
            payload = bytes([configuration << 3 | stereo << 2]) + bytes(range(60))
            assert len(Decoder().decode(payload) or b"") == FRAME_BYTES


DECODER = Decoder()  # one for all: what came before must not matter


@given(st.binary(max_size=MAX_PAYLOAD), st.booleans())
@example(b"\xff" * MAX_PAYLOAD, True)
@example(b"\x7f" * 1400, True)
def test_any_bytes_are_survived(payload: bytes, lose_one: bool) -> None:
    pcm = DECODER.decode(payload)
    assert pcm is None or len(pcm) == FRAME_BYTES
    if lose_one:
        assert len(DECODER.conceal()) == FRAME_BYTES


@given(st.integers(0, 255), st.integers(0, 255), st.binary(min_size=1, max_size=300))
def test_any_header_is_survived(first: int, second: int, rest: bytes) -> None:
    pcm = DECODER.decode(bytes([first, second]) + rest)
    assert pcm is None or len(pcm) == FRAME_BYTES


def test_nothing_is_written_beyond_a_frame() -> None:
    """The samples lie in the middle of a larger block; 120 ms must not touch what surrounds them."""
    decoder = Decoder()
    block = (ctypes.c_int16 * (3 * FRAME_SAMPLES))(*[7] * (3 * FRAME_SAMPLES))
    decoder._pcm = type(decoder._pcm).from_buffer(block, FRAME_BYTES)
    for payload in (bytes([0b11111_0_11, 6]) + bytes(60), bytes([0b00011_0_00]) + bytes(30), tone_packets(1)[0]):
        decoder.decode(payload)
    decoder.conceal()
    assert set(block[:FRAME_SAMPLES]) | set(block[2 * FRAME_SAMPLES :]) == {7}
    assert set(block[FRAME_SAMPLES : 2 * FRAME_SAMPLES]) != {7}


# --- copies -----------------------------------------------------------------------------------------------------------


@cache
def protected(bitrate: int = 32000) -> list[bytes]:
    """Speech in packets that hold copies."""
    one = ConstantRateOpus()
    one.configure(AudioEncoding(bitrate, 0.1))
    return [bytes(one.encode(block, 0)) for block in blocks()]


def sound_of(blocks: list[bytes]) -> array[int]:
    return array("h", b"".join(blocks))


@pytest.mark.parametrize(("bitrate", "size"), [(32000, 80), (24000, 60)])
def test_packets_of_speech_hold_copies_within_their_size(bitrate: int, size: int) -> None:
    packets = protected(bitrate)
    assert {len(packet) for packet in packets} == {size}
    assert 0.7 < sum(map(has_copy, packets)) / len(packets) < 0.95, "of speech with pauses"


def test_there_are_no_copies_unless_asked_for_or_where_there_is_no_room() -> None:
    assert not any(map(has_copy, map(encoder().encode, blocks())))
    assert not any(map(has_copy, protected(16000)))


def test_silence_has_no_copies_and_the_same_size() -> None:
    one = encoder()
    one.configure(PAYLOAD_BYTES, loss_percent=LOSS_PERCENT[32000])
    packets = [one.encode(bytes(FRAME_BYTES)) for _ in range(100)]
    assert {len(packet) for packet in packets} == {PAYLOAD_BYTES}
    assert not any(map(has_copy, packets[10:]))


def test_a_lost_packet_is_restored_from_the_one_after_it() -> None:
    """Each second one is lost. The lost ones, by what came of them, are compared with what was said there."""
    packets, original = protected(), blocks()
    results: dict[str, list[bytes]] = {"restored": [], "made up": []}
    said: list[bytes] = []
    one, other = Decoder(), Decoder()
    for number in range(0, len(packets) - 1, 2):
        one.decode(packets[number - 1]) if number else None
        other.decode(packets[number - 1]) if number else None
        pcm = one.restore(packets[number + 1])
        assert (pcm is not None) == has_copy(packets[number + 1])
        if pcm is None:
            one.conceal()
        made_up = other.conceal()
        if pcm is not None:
            results["restored"].append(pcm)
            results["made up"].append(made_up)
            said.append(original[number])
    assert len(said) > 200
    assert similarity(sound_of(said), sound_of(results["restored"]), 0) > 0.9
    assert similarity(sound_of(said), sound_of(results["made up"]), 0) < 0.8


def test_after_a_packet_that_is_no_voice_nothing_is_restored() -> None:
    """libopus would conceal, and say nothing of it."""
    decoder = Decoder()
    copies = next(packet for packet in protected()[20:] if has_copy(packet))
    decoder.decode(tone_packets(1)[0])
    assert decoder.restore(copies) is None
    decoder.decode(copies)
    assert decoder.restore(copies) is not None


def library_says_copy(payload: bytes) -> bool:
    function = opus._library().opus_packet_has_lbrr
    function.argtypes = [ctypes.c_char_p, ctypes.c_int32]
    return bool(function(payload, len(payload)) == 1)


VOICE_20_MS = st.sampled_from([1, 5, 9, 13, 15])


@given(st.tuples(VOICE_20_MS, st.integers(0, 7)), st.binary(max_size=400))
@example((1, 3), b"\xc1\xff\xff\x02" + bytes(range(256)))
@example((9, 3), b"\x41\xff")
@example((9, 3), b"\x41\x50\xff" + bytes(79))
def test_what_holds_a_copy_is_what_libopus_says(first: tuple[int, int], rest: bytes) -> None:
    payload = bytes([first[0] << 3 | first[1]]) + rest
    if not hasattr(opus._library(), "opus_packet_has_lbrr"):
        pytest.skip("libopus is older than 1.4")
    one_frame = Decoder().decode(payload) is not None and (payload[0] & 3 == 0 or payload[1] & 0x3F == 1)
    assert has_copy(payload) <= library_says_copy(payload)
    if one_frame:
        assert has_copy(payload) == library_says_copy(payload)


@pytest.mark.parametrize("start", [b"\x49", b"\x4a", b"\x4b\x02", b"\x4b\x42\x00", b"\x4b\x00"])
def test_several_frames_in_a_packet_hold_no_copy_of_20_ms(start: bytes) -> None:
    assert not has_copy(start + b"\x7f" * 60)
    assert has_copy(b"\x48" + b"\x7f" * 60), "the same in one frame does"


@given(st.binary(max_size=MAX_PAYLOAD + 10))
@example(b"")
@example(b"\x0b\x41" + b"\xff" * 1498)
def test_any_bytes_restore_20_ms_or_nothing(payload: bytes) -> None:
    decoder = Decoder()
    for _ in range(2):
        pcm = decoder.restore(payload)
        assert pcm is None or len(pcm) == FRAME_BYTES
        assert pcm is None or has_copy(payload)


# --- changed at work --------------------------------------------------------------------------------------------------

ENCODINGS = [AudioEncoding(bitrate, loss) for bitrate in PAYLOADS for loss in (0.0, 0.1)]


@pytest.mark.parametrize("first", ENCODINGS, ids=str)
def test_a_change_makes_no_click(first: AudioEncoding) -> None:
    for second in ENCODINGS:
        one, other, tone = ConstantRateOpus(), Decoder(), ToneSource(440, -9)
        sound = array("h")
        for number in range(60):
            if number in (0, 30):
                one.configure(second if number else first)
            sound.frombytes(other.decode(bytes(one.encode(tone.read() or b"", 0))) or b"")
        steps = [abs(sound[n] - sound[n - 1]) for n in range(9600, len(sound))]
        assert max(steps) < 1200, f"to {second}"  # the tone's own: 669; with a new encoder: up to 9800


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_speech_goes_through_in_each_way(encoding: AudioEncoding) -> None:
    one, other = ConstantRateOpus(), Decoder()
    one.configure(encoding)
    packets = [bytes(one.encode(block, 0)) for block in blocks()]
    assert {len(packet) for packet in packets} == {PAYLOADS[encoding.bitrate]}
    if encoding.bitrate < 32000:
        assert {packet[0] >= 0x80 for packet in packets} == {False}, "as a voice: CELT needs more bits"
    heard = [other.decode(packet) or b"" for packet in packets]
    assert similarity(array("h", b"".join(blocks())), array("h", b"".join(heard))) > 0.95


# --- life and end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "destroy"), [(encoder, "opus_encoder_destroy"), (Decoder, "opus_decoder_destroy")], ids=["enc", "dec"]
)
def test_it_is_freed_once_by_close_or_when_collected(
    make: type[Decoder], destroy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[object] = []
    library = opus._library()
    real = getattr(library, destroy)
    monkeypatch.setattr(library, destroy, lambda state: freed.append(state) or real(state))
    closed = make()
    closed.close()
    closed.close()
    assert len(freed) == 1
    dropped = make()
    gone = weakref.ref(dropped)
    del dropped, closed
    gc.collect()
    assert gone() is None
    assert len(freed) == 2


def test_after_close_nothing_is_called() -> None:
    one, other = encoder(), Decoder()
    one.close()
    other.close()
    with pytest.raises(MediaError):
        one.encode(bytes(FRAME_BYTES))
    with pytest.raises(MediaError):
        one.configure(60)
    assert other.decode(b"\xff\xfe") is None
    assert other.restore(next(filter(has_copy, protected()))) is None
    assert other.conceal() == bytes(FRAME_BYTES)


def test_states_cannot_be_mixed_up() -> None:
    library = opus._library()
    one, other = encoder(), Decoder()
    for wrong in (one._state, 0x1000, b"state"):
        with pytest.raises(ctypes.ArgumentError):
            library.opus_decode(wrong, b"x", 1, other._pcm, FRAME_SAMPLES, 0)
    with pytest.raises(ctypes.ArgumentError):
        library.opus_encode(other._state, bytes(FRAME_BYTES), FRAME_SAMPLES, one._payload, PAYLOAD_BYTES)


# --- where it comes from ----------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_loaded() -> object:
    opus._library.cache_clear()
    yield
    opus._library.cache_clear()


@pytest.mark.usefixtures("nothing_loaded")
def test_it_is_the_one_pyav_brings() -> None:
    assert Path(opus._library()._name).parent.name in ("av.libs", ".dylibs")


@pytest.mark.usefixtures("nothing_loaded")
def test_without_libopus_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libopus.so").write_text("not a library")
    monkeypatch.setattr(opus, "_places", lambda: iter([str(tmp_path / "libopus.so"), "no-such.so", "libc.so.6"]))
    for make in (encoder, Decoder):
        with pytest.raises(MediaError, match=r"libopus was not found\. Install"):
            make()


def test_the_systems_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.__file__", str(tmp_path / "av" / "__init__.py"))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: f"lib{name}.found")
    (tmp_path / "av.libs").mkdir()
    (tmp_path / "av.libs" / "libopus-1.so").touch()
    (tmp_path / "av.libs" / "libopusfile.so").touch()
    assert list(opus._places()) == [str(tmp_path / "av.libs" / "libopus-1.so"), "libopus.so.0", "libopus.found"]
