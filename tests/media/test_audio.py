"""What a call sends: sizes, pace, sources."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
import weakref
from array import array
from pathlib import Path

import pytest
from aiortc.mediastreams import MediaStreamError

from relaycall.errors import ConfigError, MediaError
from relaycall.media.audio import (
    FRAME_BYTES,
    FRAME_SAMPLES,
    MAX_BURST,
    MIN_STEP,
    PAYLOAD_BYTES,
    PAYLOADS,
    AudioEncoding,
    AudioSource,
    ConstantRateOpus,
    OpusTrack,
    SilenceSource,
    ToneSource,
)
from relaycall.media.files import FileSource
from tests.media.listening import tone_share

SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"


class ListSource:
    """Gives what it is told to give; an exception is raised."""

    def __init__(self, *blocks: bytes | Exception | None) -> None:
        self.blocks = list(blocks)

    def read(self) -> bytes | None:
        block = self.blocks.pop(0)
        if isinstance(block, Exception):
            raise block
        return block

    def close(self) -> None:
        pass


def stall(seconds: float) -> None:
    """Keep the event loop from running."""
    time.sleep(seconds)


def blocks_of(source: AudioSource) -> list[bytes]:
    blocks = []
    while (block := source.read()) is not None:
        blocks.append(block)
    source.close()
    return blocks


def test_speech_silence_and_noise_have_one_size() -> None:
    speech = blocks_of(FileSource(SPEECH))
    noise = [bytes((7 * n * n + block) % 256 for n in range(FRAME_BYTES)) for block in range(20)]
    loudest = [b"\xff\x7f\x00\x80" * (FRAME_BYTES // 4)] * 20
    encoder = ConstantRateOpus()
    blocks = speech + [bytes(FRAME_BYTES)] * 100 + noise + loudest + speech[:50]
    sizes = {len(bytes(encoder.encode(block, n * FRAME_SAMPLES))) for n, block in enumerate(blocks)}
    assert sizes == {PAYLOAD_BYTES}


async def test_mute_changes_neither_size_nor_pace() -> None:
    source = FileSource(SPEECH)
    track = OpusTrack(source)
    track.muted = True
    packets = []
    for number in range(40):
        packets.append(await track.recv())
        track.muted = number % 3 == 0
    track.stop()
    source.close()
    assert {len(bytes(packet)) for packet in packets} == {PAYLOAD_BYTES}
    assert [packet.pts for packet in packets] == [number * FRAME_SAMPLES for number in range(40)]


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets come as fast as they are asked for."""

    async def at_once(seconds: float) -> None:
        pass

    monkeypatch.setattr("relaycall.media.audio.asyncio.sleep", at_once)


@pytest.mark.parametrize(("bitrate", "size"), PAYLOADS.items())
@pytest.mark.parametrize("loss", [0.0, 0.1])
async def test_each_step_has_one_size_in_speech_silence_and_mute(
    bitrate: int, size: int, loss: float, no_waiting: None
) -> None:
    source = ListSource(*blocks_of(FileSource(SPEECH))[:300], None)
    track = OpusTrack(source)
    track.set_encoding(AudioEncoding(bitrate, loss))
    sizes = set()
    for number in range(400):
        track.muted = number // 50 % 3 == 1
        sizes.add(len(bytes(await track.recv())))
    assert track.finished.is_set(), "there was speech, mute, and silence"
    assert sizes == {size}
    assert track.encoding == AudioEncoding(bitrate, loss)


async def test_the_size_changes_at_most_every_5_seconds(no_waiting: None) -> None:
    track = OpusTrack(SilenceSource())
    sizes = [len(bytes(await track.recv()))]
    wanted = itertools.cycle([AudioEncoding(16000), AudioEncoding(24000, 0.1), AudioEncoding(32000, 0.2)])
    for _ in range(1200):
        track.set_encoding(next(wanted))
        sizes.append(len(bytes(await track.recv())))
    changes = [number for number in range(1, len(sizes)) if sizes[number] != sizes[number - 1]]
    assert changes[0] == 1, "the first at once"
    assert len(changes) >= 4
    assert min(later - earlier for earlier, later in itertools.pairwise(changes)) >= MIN_STEP == 250


async def test_a_change_that_waits_is_made_and_the_expected_loss_does_not_wait(no_waiting: None) -> None:
    track = OpusTrack(SilenceSource())
    track.set_encoding(AudioEncoding(24000))
    await track.recv()
    track.set_encoding(AudioEncoding(16000, 0.1))
    assert len(bytes(await track.recv())) == 60
    assert track.encoding == AudioEncoding(24000, 0.1)
    sizes = [len(bytes(await track.recv())) for _ in range(MIN_STEP)]
    assert sizes == [60] * (MIN_STEP - 2) + [40] * 2
    assert track.encoding == AudioEncoding(16000, 0.1)


async def test_the_same_encoding_again_changes_nothing(no_waiting: None, monkeypatch: pytest.MonkeyPatch) -> None:
    configured: list[AudioEncoding] = []
    monkeypatch.setattr(ConstantRateOpus, "configure", lambda self, encoding: configured.append(encoding))
    track = OpusTrack(SilenceSource())
    for loss in (0.0, 0.0, 0.1, 0.1, 0.1):
        track.set_encoding(AudioEncoding(expected_loss=loss))
        await track.recv()
    assert configured == [AudioEncoding(expected_loss=0.1)]


@pytest.mark.parametrize(
    ("bitrate", "loss"), [(0, 0), (31999, 0), (64000, 0), (32000, -0.1), (32000, 1.1), (32000, math.nan)]
)
def test_an_encoding_out_of_range(bitrate: int, loss: float) -> None:
    with pytest.raises(ConfigError):
        AudioEncoding(bitrate, loss)


async def test_the_source_goes_on_while_muted() -> None:
    source = ListSource(*[bytes(FRAME_BYTES)] * 4, None)
    track = OpusTrack(source)
    track.muted = True
    for _ in range(5):
        await track.recv()
    assert source.blocks == []
    assert track.finished.is_set()


async def test_the_pace_does_not_drift() -> None:
    track = OpusTrack(SilenceSource())
    loop = asyncio.get_running_loop()
    await track.recv()
    start = loop.time()
    for number in range(1, 41):
        packet = await track.recv()
        stall(0.003)  # work between packets must not add up
        assert packet.pts == number * FRAME_SAMPLES
    assert 0.78 < loop.time() - start < 1.0
    track.stop()


async def test_a_short_stall_is_caught_up() -> None:
    track = OpusTrack(SilenceSource())
    await track.recv()
    stall(0.06)
    assert [(await track.recv()).pts for _ in range(5)] == [n * FRAME_SAMPLES for n in range(1, 6)]


async def test_after_a_long_stall_packets_are_left_out_not_sent_at_once() -> None:
    track = OpusTrack(SilenceSource())
    loop = asyncio.get_running_loop()
    await track.recv()
    start = loop.time()
    stall(0.5)
    arrivals = []
    for _ in range(12):
        packet = await track.recv()
        arrivals.append((loop.time() - start, packet.pts / 48000))
    at_once = sum(1 for arrival, _ in arrivals if arrival < 0.51)
    assert at_once <= MAX_BURST
    assert all(-0.01 < arrival - timestamp < 0.1 for arrival, timestamp in arrivals), "timestamps are truthful"
    steps = {round((later - earlier) / 0.02) for (_, earlier), (_, later) in itertools.pairwise(arrivals)}
    assert steps == {1}


async def test_silence_follows_the_end_of_the_source() -> None:
    track = OpusTrack(ListSource(bytes(FRAME_BYTES), None))
    await track.recv()
    assert not track.finished.is_set()
    for _ in range(3):
        assert len(bytes(await track.recv())) == PAYLOAD_BYTES
    assert track.finished.is_set()
    assert track.error is None


@pytest.mark.parametrize("block", [b"", bytes(FRAME_BYTES - 2), ZeroDivisionError(), StopIteration(), MediaError("x")])
async def test_a_source_that_fails_ends(block: bytes | Exception) -> None:
    track = OpusTrack(ListSource(bytes(FRAME_BYTES), block))
    sizes = {len(bytes(await track.recv())) for _ in range(4)}
    assert sizes == {PAYLOAD_BYTES}
    assert track.finished.is_set()
    assert isinstance(track.error, MediaError)


async def test_a_stopped_track_gives_nothing() -> None:
    track = OpusTrack(SilenceSource())
    track.stop()
    with pytest.raises(MediaStreamError):
        await track.recv()


async def test_stopping_frees_the_encoder_and_ends_a_wait() -> None:
    track = OpusTrack(SilenceSource())
    await track.recv()
    waiting = asyncio.ensure_future(track.recv())
    await asyncio.sleep(0)
    gone = weakref.ref(track._encoder)
    track.stop()
    assert gone() is None
    with pytest.raises(MediaStreamError):
        await waiting


async def test_packets_are_due_at_whole_packet_times_after_the_begin() -> None:
    track = OpusTrack(SilenceSource())
    loop = asyncio.get_running_loop()
    begin = loop.time() + 0.05
    track.begin(begin)
    for number in range(4):
        packet = await track.recv()
        assert packet.pts == number * FRAME_SAMPLES
        assert begin + number * 0.02 - 0.001 <= loop.time() < begin + number * 0.02 + 0.2
    track.stop()


def test_tracks_have_fresh_names() -> None:
    assert len({OpusTrack(SilenceSource()).id for _ in range(10)}) == 10


def test_a_tone_is_pure_and_joins_each_second() -> None:
    tone = ToneSource(440.0, -12)
    samples = array("h", b"".join(tone.read() or b"" for _ in range(100)))
    assert len(samples) == 96000
    assert tone_share(samples, 440) > 0.999
    peak = 32767 * 10 ** (-12 / 20)
    assert max(samples) == pytest.approx(peak, abs=2)
    steepest = peak * 2 * math.pi * 440 / 48000
    assert max(abs(samples[n] - samples[n - 1]) for n in range(1, len(samples))) <= steepest + 1


@pytest.mark.parametrize(
    ("frequency", "level"), [(0, -12), (0.3, -12), (30000, -12), (-5, -12), (440, 1), (math.nan, -12), (440, math.nan)]
)
def test_a_tone_out_of_range(frequency: float, level: float) -> None:
    with pytest.raises(ConfigError):
        ToneSource(frequency, level)
