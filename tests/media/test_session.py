"""Two sessions over a path: sound, sizes, attacks, and what is left after close()."""

from __future__ import annotations

import asyncio
import itertools
import struct
import threading
import time
from array import array
from pathlib import Path
from typing import Any

import pytest
from aiortc.rtp import RtcpByePacket, RtcpPacket, RtcpPsfbPacket, RtcpSdesPacket
from av import AudioFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaycall.errors import CallClosed, ConfigError, MediaError
from relaycall.media.audio import AudioEncoding, AudioSource, SilenceSource, ToneSource
from relaycall.media.files import FileSink, FileSource
from relaycall.media.session import AudioSession
from relaycall.media.srtp import IncomingSrtp, OutgoingSrtp, derive_keys
from relaycall.media.transport import PacketPath
from tests.media.listening import read_samples, similarity, tone_share
from tests.media.paths import MemoryPath, memory_pair, udp_pair
from tests.waiting import eventually

SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"
CALL_KEY = bytes(range(32))
CALLER, CALLEE = 0x11111111, 0x22222222
AUDIO_SIZE = 12 + 80 + 16

pytestmark = pytest.mark.usefixtures("no_leaks")


def session(path: PacketPath, *, caller: bool, source: AudioSource | None = None, **others: Any) -> AudioSession:
    local, remote = (CALLER, CALLEE) if caller else (CALLEE, CALLER)
    arguments: dict[str, Any] = {"call_key": CALL_KEY, "local_ssrc": local, "remote_ssrc": remote} | others
    return AudioSession(path, caller=caller, source=source or SilenceSource(), **arguments)


class Call:
    """A caller and a callee, started on entry and closed on exit."""

    def __init__(self, caller: dict[str, Any] | None = None, callee: dict[str, Any] | None = None) -> None:
        self.caller_path, self.callee_path = memory_pair()
        self.caller = session(self.caller_path, caller=True, **caller or {})
        self.callee = session(self.callee_path, caller=False, **callee or {})

    async def __aenter__(self) -> Call:
        await self.caller.start()
        await self.callee.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.caller.close()
        await self.callee.close()


@pytest.fixture
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiortc sends RTCP every 0.5 s instead of every 0.5 to 1.5 s."""
    monkeypatch.setattr("random.random", lambda: 0.0)


async def until(condition: Any, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (counters have no event)
            await asyncio.sleep(0.005)


# --- sound ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_tone_and_speech_are_heard(tmp_path: Path) -> None:
    async with Call(
        {"source": ToneSource(440), "sink": FileSink(tmp_path / "caller.ogg")},
        {"source": FileSource(SPEECH), "sink": FileSink(tmp_path / "callee.wav")},
    ) as call:
        await until(lambda: min(call.caller.frames_heard, call.callee.frames_heard) >= 100)
        stats = call.callee.stats()
    tone = read_samples(tmp_path / "callee.wav")
    assert len(tone) >= 100 * 960
    assert tone_share(tone[4800:], 440) > 0.95
    assert tone_share(tone[4800:], 470) < 0.05
    assert similarity(read_samples(SPEECH)[: 100 * 960], read_samples(tmp_path / "caller.ogg")) > 0.9
    assert stats.frames_received >= stats.frames_heard >= 100
    assert stats.lost == stats.late == stats.undecodable == 0
    assert stats.jitter_ms < 50
    assert 20 <= stats.playout_target_ms <= 400
    assert 0 < stats.playout_delay_ms < 700
    assert stats.transport.received_sizes == stats.transport.sent_sizes == {AUDIO_SIZE}


async def test_over_loopback_udp() -> None:
    one, other = udp_pair()
    caller, callee = session(one, caller=True), session(other, caller=False)
    await caller.start()
    await callee.start()
    await until(lambda: min(caller.frames_heard, callee.frames_heard) >= 25)
    await caller.close()
    await callee.close()
    one.close()
    other.close()


async def test_speech_silence_and_mute_look_alike_on_the_wire() -> None:
    async with Call({"source": FileSource(SPEECH)}) as call:
        await until(lambda: call.caller.frames_sent >= 40)
        call.caller.muted = True
        await until(lambda: call.caller.frames_sent >= 60)
        call.caller.muted = False
        await until(lambda: call.caller.frames_sent >= 80)
    packets = call.caller_path.audio_sent()
    assert {len(packet) for packet in packets + call.callee_path.audio_sent()} == {AUDIO_SIZE}
    assert {packet[0] for packet in packets} == {0x80}, "no header extension, no CSRC, no padding"
    assert {packet[1] for packet in packets} == {0x80 | 111}
    headers = [struct.unpack("!HLL", packet[2:12]) for packet in packets]
    steps = {
        ((later[0] - earlier[0]) % 65536, (later[1] - earlier[1]) % 2**32)
        for earlier, later in itertools.pairwise(headers)
    }
    assert steps == {(1, 960)}, "muting leaves no gap"
    assert {ssrc for _, _, ssrc in headers} == {CALLER}


async def test_mute_is_silence_and_may_be_set_before_the_start() -> None:
    heard: list[int] = []

    def hear(frame: AudioFrame) -> None:
        heard.append(max(array("h", bytes(frame.planes[0])[:1920])))

    async with Call({"source": ToneSource(440, -6)}, {"on_frame": hear}) as call:
        call.caller.muted = True
        await until(lambda: len(heard) >= 20)
        muted = len(heard)
        call.caller.muted = False
        await until(lambda: len(heard) >= muted + 20)
        assert call.caller.muted is False
    assert max(heard[2:18]) < 100
    assert min(heard[muted + 5 : muted + 20]) > 5000

    path, _ = memory_pair()
    early = session(path, caller=True, source=ToneSource())
    early.muted = True
    assert early.muted
    await early.close()


async def test_silence_follows_a_source_that_ends() -> None:
    class Short(SilenceSource):
        left = 3

        def read(self) -> bytes | None:
            self.left -= 1
            return super().read() if self.left >= 0 else None

    async with Call({"source": Short()}) as call:
        async with asyncio.timeout(2):
            await call.caller.finished.wait()
        await until(lambda: call.caller.frames_sent >= 20)
        assert call.caller.source_error is None
    assert {len(packet) for packet in call.caller_path.audio_sent()} == {AUDIO_SIZE}


async def test_a_source_that_fails_is_told() -> None:
    class Broken(SilenceSource):
        def read(self) -> bytes | None:
            raise OSError

    async with Call({"source": Broken()}) as call:
        await until(lambda: call.caller.frames_sent >= 3)
        assert isinstance(call.caller.source_error, MediaError)
        assert call.caller.finished.is_set()


async def test_one_lost_packet_costs_20_ms() -> None:
    frames: list[int] = []
    call = Call(None, {"on_frame": lambda frame: frames.append(frame.pts or 0)})
    count = 0

    def lose_one(packet: bytes) -> bytes | None:
        nonlocal count
        count += packet[1] == 0x80 | 111
        return None if count == 10 else packet

    call.caller_path.alter = lose_one
    async with call:
        await until(lambda: len(frames) >= 30)
        stats = call.callee.stats()
    assert frames == [960 * number for number in range(len(frames))], "without a gap"
    assert stats.lost == 1
    assert 1 <= stats.concealed <= 3, "a busy machine may be late; aiortc makes it 14"
    assert stats.frames_heard >= 26


async def test_frames_are_heard_at_the_moments_when_packets_are_sent() -> None:
    """One wake-up does for both."""
    loop = asyncio.get_running_loop()
    read: list[float] = []
    heard: list[float] = []

    class Watched(SilenceSource):
        def read(self) -> bytes | None:
            read.append(loop.time())
            return super().read()

    async with Call(None, {"source": Watched(), "on_frame": lambda frame: heard.append(loop.time())}):
        await until(lambda: len(heard) >= 40)
    apart = sorted(min(abs(one - other) for other in read) for one in heard[2:38])
    assert apart[len(apart) // 2] < 0.002


async def test_what_is_held_back_at_the_end_is_recorded(tmp_path: Path) -> None:
    call = Call({"source": ToneSource(440)}, {"sink": FileSink(tmp_path / "heard.wav")})
    async with call:
        await until(lambda: call.callee.frames_heard >= 20)
        received = call.callee.frames_received
        await call.callee.close()
        assert call.callee.frames_heard >= received
    removed = round(call.callee._playout.removed_ms * 48)  # by a busy machine's delay, brought back
    assert len(read_samples(tmp_path / "heard.wav")) + removed >= 960 * received


@pytest.mark.slow
async def test_lost_packets_are_restored_and_counted_apart() -> None:
    class Voice(FileSource):
        """From where there is no pause for seconds."""

        def __init__(self) -> None:
            super().__init__(SPEECH)
            for _ in range(20):
                self.read()

    call = Call({"source": Voice()})
    count = 0

    def lose_each_tenth(packet: bytes) -> bytes | None:
        nonlocal count
        count += packet[1] == 0x80 | 111
        return None if packet[1] == 0x80 | 111 and count % 10 == 0 else packet

    call.caller_path.alter = lose_each_tenth
    call.caller.set_encoding(32000, 0.1)
    async with call:
        await until(lambda: call.callee.stats().recovered >= 3, 10)
        stats = call.callee.stats()
    assert call.caller.encoding == AudioEncoding(32000, 0.1)
    assert stats.transport.received_sizes == {AUDIO_SIZE}
    assert stats.recovered <= count // 10
    assert stats.frames_heard <= stats.frames_received


@pytest.mark.slow
@pytest.mark.parametrize(("bitrate", "size"), [(24000, 60), (16000, 40)])
async def test_at_another_bit_rate_packets_have_another_size_and_are_heard(bitrate: int, size: int) -> None:
    async with Call({"source": ToneSource()}) as call:
        assert call.caller.encoding == AudioEncoding()
        await until(lambda: call.callee.frames_heard >= 10)
        call.caller.set_encoding(bitrate)
        await until(lambda: call.caller.encoding.bitrate == bitrate)
        heard = call.callee.frames_heard
        await until(lambda: call.callee.frames_heard >= heard + 20)
        call.caller.muted = True
        await until(lambda: call.callee.frames_heard >= heard + 40)
        stats = call.callee.stats()
    sizes = [len(packet) for packet in call.caller_path.audio_sent()]
    assert set(sizes) == {AUDIO_SIZE, 12 + size + 16}
    assert sizes == sorted(sizes, reverse=True), "one change"
    assert stats.undecodable == 0


async def test_an_encoding_that_does_not_exist_is_refused() -> None:
    path, _ = memory_pair()
    one = session(path, caller=True)
    with pytest.raises(ConfigError, match="32000, 24000 or 16000"):
        one.set_encoding(20000)
    with pytest.raises(ConfigError):
        one.set_encoding(32000, 2.0)
    await one.close()
    one.set_encoding(24000)


@pytest.mark.slow
async def test_what_waits_on_the_way_is_measured_and_another_path_begins_anew() -> None:
    call = Call()
    waits = 0.0

    def delay(packet: bytes) -> bytes | None:
        asyncio.get_running_loop().call_later(waits, call.callee_path.deliver, packet)
        return None

    call.caller_path.alter = delay
    assert call.callee.queue_ms == 0
    async with call:
        await until(lambda: call.callee.frames_heard >= 25)
        waits = 0.15
        await until(lambda: call.callee.queue_ms > 120)
        call.callee.path_changed()
        received = call.callee.frames_received
        await until(lambda: call.callee.frames_received >= received + 10)
        assert call.callee.queue_ms < 80


class BrokenSink:
    written = closed = 0

    def write(self, frame: AudioFrame) -> None:
        self.written += 1
        raise ValueError("canary")

    def close(self) -> None:
        self.closed += 1
        raise ValueError("canary")


async def test_a_sink_that_raises_is_given_no_more_and_the_sound_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    sink, heard = BrokenSink(), []
    async with Call(caller={"source": ToneSource()}, callee={"sink": sink, "on_frame": heard.append}):
        await eventually(lambda: len(heard) > 5)
    assert (sink.written, sink.closed) == (1, 1)
    assert caplog.messages == ["the sink raised ValueError and is given no more"]


async def test_a_callback_that_raises_is_not_called_again(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def fail(frame: AudioFrame) -> None:
        nonlocal calls
        calls += 1
        raise ValueError

    async with Call(None, {"on_frame": fail}) as call:
        await until(lambda: call.callee.frames_heard >= 5)
        assert call.callee.on_frame is None
    assert calls == 1
    assert caplog.messages == ["on_frame raised ValueError and is not called again"]


# --- RTCP and statistics ----------------------------------------------------------------------------------------------


async def test_reports_give_round_trip_and_loss() -> None:
    async with Call() as call:
        await until(lambda: call.caller.stats().round_trip_ms is not None, 8)
        stats = call.caller.stats()
    assert stats.round_trip_ms is not None
    assert 0 <= stats.round_trip_ms < 1000
    assert stats.lost_by_peer == 0
    assert stats.transport.rtcp_received > 0


@pytest.mark.slow
async def test_rtcp_names_are_random_and_only_known_kinds_are_sent(quick_reports: None) -> None:
    names = []
    for _ in range(2):
        async with Call() as call:
            await until(lambda call=call: len(call.caller_path.rtcp_sent()) >= 2)
        incoming = IncomingSrtp(derive_keys(CALL_KEY, caller=False).receive, CALLER)
        packets = [RtcpPacket.parse(incoming.unprotect_rtcp(packet)) for packet in call.caller_path.rtcp_sent()]
        kinds = {bytes(packet)[1] for compound in packets for packet in compound}
        assert kinds <= {200, 201, 202, 203}
        description = next(packet for compound in packets for packet in compound if isinstance(packet, RtcpSdesPacket))
        [(kind, name)] = description.chunks[0].items
        assert kind == 1
        names.append(name)
    assert names[0] != names[1]
    assert {len(name) for name in names} == {16}


async def test_statistics_before_start_and_after_close() -> None:
    path, _ = memory_pair()
    one = session(path, caller=True)
    assert (one.stats().frames_sent, one.stats().round_trip_ms, one.stats().lost_by_peer) == (0, None, None)
    await one.start()
    await one.close()
    counters = one.stats().transport
    counters.dropped.replay = 7
    assert one.stats().transport.dropped.replay == 0, "a copy"


# --- attacks ----------------------------------------------------------------------------------------------------------


async def test_another_key_is_not_heard() -> None:
    async with Call(None, {"call_key": bytes(32)}) as call:
        await until(lambda: call.caller.frames_sent >= 15)
        dropped = call.callee.stats().transport.dropped
        assert dropped.authentication >= 10
    assert call.callee.frames_heard == call.callee.frames_received == 0


async def test_bad_packets_are_counted_and_sound_goes_on() -> None:
    async with Call() as call:
        await until(lambda: call.callee.frames_heard >= 5)
        packet = call.caller_path.audio_sent()[-2]  # the last may still be on its way
        deliver = call.callee_path.deliver
        deliver(packet)  # a replay
        deliver(packet[:-1] + bytes([packet[-1] ^ 1]))
        deliver(packet[:3] + bytes([packet[3] + 1 & 0xFF]) + packet[4:])
        deliver(packet[:1] + bytes([96]) + packet[2:])
        deliver(packet[:8] + b"\0\0\0\1" + packet[12:])
        deliver(b"\x90" + packet[1:])
        deliver(b"")
        deliver(b"\0" * 20)
        heard = call.callee.frames_heard
        counters = call.callee.stats().transport
        dropped = counters.dropped
        await until(lambda: call.callee.frames_heard >= heard + 5)
    assert counters.copies + dropped.replay + dropped.authentication == 3
    assert (dropped.wrong_payload_type, dropped.wrong_ssrc, dropped.malformed, dropped.not_media) == (1, 1, 1, 2)


async def test_a_goodbye_and_other_rtcp_from_the_peer_end_nothing() -> None:
    call = Call()
    # An SRTCP stream of its own, far ahead of what the session sends.
    peer = OutgoingSrtp(derive_keys(CALL_KEY, caller=True).send, CALLER)
    report = struct.pack("!BBHL", 0x80, 201, 1, CALLER)
    async with call:
        await until(lambda: call.callee.frames_heard >= 5)
        for packet in (RtcpByePacket([CALLER]), RtcpByePacket([]), RtcpPsfbPacket(1, CALLER, CALLEE)):
            call.callee_path.deliver(peer.protect_rtcp(report + bytes(packet)))
        heard = call.callee.frames_heard
        await until(lambda: call.callee.frames_heard >= heard + 10)
        counters = call.callee.stats().transport
    assert (counters.goodbyes, counters.dropped.rtcp_kind) == (2, 1)


async def test_an_authentic_peer_that_sends_nonsense_harms_itself_only(quick_reports: None) -> None:
    path = MemoryPath()
    callee = session(path, caller=False)
    await callee.start()
    peer = OutgoingSrtp(derive_keys(CALL_KEY, caller=True).send, CALLER)
    payloads = [b"", b"\xff", b"\xff" * 1400, b"\0", bytes(80), b"\xfc\xff\xfe", bytes(range(200))]
    for number in range(200):
        timestamp = (number % 2) * 0xFFFFFFFF  # overflows aiortc's jitter estimate, if it is let through
        header = struct.pack("!BBHLL", 0x80, 111, 1000 + number, timestamp, CALLER)
        path.deliver(peer.protect_rtp(header + payloads[number % len(payloads)]))
    await until(lambda: any(packet[1] == 201 for packet in path.sent))
    stats = callee.stats()
    assert stats.undecodable > 0
    assert stats.transport.dropped.malformed > 0
    start = time.monotonic()
    await callee.close()
    assert time.monotonic() - start < 0.5


@pytest.mark.slow
@settings(max_examples=20, suppress_health_check=list(HealthCheck), deadline=None)
@given(garbage=st.lists(st.binary(max_size=1600), max_size=20))
async def test_garbage_is_dropped_and_sound_goes_on(garbage: list[bytes]) -> None:
    async with Call() as call:
        for packet in garbage:
            call.callee_path.deliver(packet)
        dropped = call.callee.stats().transport.dropped
        assert dropped.not_media + dropped.wrong_payload_type + dropped.wrong_ssrc >= len(garbage) - dropped.malformed
        await until(lambda: call.callee.frames_heard >= 2)


# --- life and end -----------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_or_heard_before_start() -> None:
    caller_path, callee_path = memory_pair()
    caller, callee = session(caller_path, caller=True), session(callee_path, caller=False)
    await caller.start()
    await until(lambda: caller.frames_sent >= 3)
    assert callee_path.sent == []
    assert callee.frames_received == 0
    await callee.start()
    await callee.start()
    await until(lambda: callee.frames_heard >= 3)
    await caller.close()
    await callee.close()


async def test_close_is_quick_and_can_be_repeated(tmp_path: Path) -> None:
    call = Call({"source": FileSource(SPEECH), "sink": FileSink(tmp_path / "heard.wav")})
    async with call:
        await until(lambda: call.caller.frames_heard >= 3)
        start = time.monotonic()
        await asyncio.gather(*(call.caller.close() for _ in range(5)))
        await call.caller.close()
        assert time.monotonic() - start < 0.5
        sent = len(call.caller_path.sent)
        assert call.caller_path.sent[-1][1] == 200 + 3, "the last packet says goodbye"
        await asyncio.sleep(0.1)
        assert len(call.caller_path.sent) == sent
        assert call.caller_path.receiver is None
    with pytest.raises(CallClosed):
        await call.caller.start()


async def test_a_call_has_no_thread_of_its_own() -> None:
    threads = threading.active_count()
    async with Call() as call:
        await until(lambda: call.callee.frames_heard >= 3)
        assert threading.active_count() == threads


async def test_close_before_and_right_after_start() -> None:
    path, _ = memory_pair()
    await session(path, caller=True, source=FileSource(SPEECH)).close()
    one = session(path, caller=True, source=FileSource(SPEECH))
    await one.start()
    await one.close()


async def test_a_path_that_closes_ends_the_sending_and_close_works() -> None:
    call = Call({"source": FileSource(SPEECH)})
    async with call:
        await until(lambda: call.caller.frames_sent >= 3)
        call.caller_path.closed = True
        await asyncio.sleep(0.1)
        sent = call.caller.frames_sent
        await asyncio.sleep(0.1)
        assert call.caller.frames_sent == sent
        start = time.monotonic()
        await call.caller.close()
        assert time.monotonic() - start < 0.5


async def test_a_path_that_is_closed_from_the_start() -> None:
    path, _ = memory_pair()
    path.closed = True
    one = session(path, caller=True, source=FileSource(SPEECH))
    with pytest.raises(CallClosed):
        await one.start()
    await one.close()


@pytest.mark.slow
async def test_close_is_bounded_when_aiortc_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call({"source": FileSource(SPEECH)})
    async with call:
        await until(lambda: call.caller.frames_sent >= 3)
        assert call.caller._sender is not None
        assert call.caller._receiver is not None
        for part in (call.caller._sender, call.caller._receiver):
            stop = part.stop

            async def hang(stop: Any = stop) -> None:
                await stop()
                await asyncio.Event().wait()

            part.stop = hang
        start = time.monotonic()
        await call.caller.close()
        assert time.monotonic() - start < 2.0


async def test_close_survives_a_source_and_a_path_that_raise() -> None:
    class Awkward(SilenceSource):
        def close(self) -> None:
            raise OSError

    async with Call({"source": Awkward()}) as call:
        await until(lambda: call.caller.frames_sent >= 1)


async def test_a_recording_that_fails_does_not_end_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FileSink(tmp_path / "heard.wav")
    async with Call(None, {"sink": sink}) as call:
        await until(lambda: call.callee.frames_heard >= 3)
        monkeypatch.setattr(sink._recording, "write", lambda pcm: 1 / 0)
        heard = call.callee.frames_heard
        await until(lambda: call.callee.frames_heard >= heard + 5)
        assert isinstance(sink.error, MediaError)


@pytest.mark.parametrize(
    "wrong",
    [
        {"remote_ssrc": CALLER},
        {"local_ssrc": 0},
        {"local_ssrc": 1 << 32},
        {"remote_ssrc": -1},
        {"payload_type": 95},
        {"payload_type": 128},
        {"payload_type": 72},
        {"call_key": bytes(31)},
    ],
)
async def test_bad_arguments_are_refused(wrong: dict[str, Any]) -> None:
    path, _ = memory_pair()
    with pytest.raises(ConfigError):
        session(path, caller=True, **wrong)
    assert path.receiver is None
