"""Video from the packets of a peer to pictures: over two transports, with real codecs, losses, and a peer that lies."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
from av import VideoFrame

from relaycall.media.srtp import RTP_HEADER_SIZE, TAG_SIZE, derive_keys
from relaycall.media.transport import RtpTransport
from relaycall.media.video import receiver as video_receiver
from relaycall.media.video.decoder import Decoded, FrameDecoder
from relaycall.media.video.feedback import ARRIVALS, WANTS, Arrivals, Wants, decode_arrivals, decode_wants
from relaycall.media.video.format import VideoCodec
from relaycall.media.video.frames import EncodedFrame
from relaycall.media.video.pieces import FIRST, KEYFRAME
from relaycall.media.video.receiver import FREEZE, MAX_LINE, VideoReceiver
from relaycall.media.video.sinks import WAITING, SeenTrack
from relaycall.media.video.stream import VIDEO_PAYLOAD_TYPES
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.media.paths import MemoryPath, memory_pair
from tests.media.video.coded import (
    H264,
    KEY_SLICE,
    PICTURE_PARAMETERS,
    STEP,
    VP8,
    encode,
    h264_parameters,
    one_keyframe,
    shade,
    some_frames,
    vp8_header,
)
from tests.waiting import eventually

CALLER_SSRC, CALLEE_SSRC = 0x0A0A0A0A, 0x0B0B0B0B
Frame = tuple[bytes, bool]


class Sink:
    """Keeps what is seen."""

    def __init__(self) -> None:
        self.frames: list[VideoFrame] = []
        self.times: list[float] = []
        self.closed = 0

    def write(self, frame: VideoFrame) -> None:
        self.frames.append(frame)
        self.times.append(time.monotonic())

    def close(self) -> None:
        self.closed += 1

    @property
    def shades(self) -> list[int]:
        return [shade(frame) for frame in self.frames]


class Peer:
    """Sends frames, and what is wanted of them again.

    Attributes:
        lose: whether to lose a packet, by its number and how often it was sent before.
        answers: whether to send again.
    """

    def __init__(self, path: MemoryPath) -> None:
        self.transport = transport(path, caller=True)
        self.transport.on_kind = {ARRIVALS: self._take_arrivals, WANTS: self._take_wants}
        path.alter = self._alter
        self.lose: Callable[[int, int], bool] = lambda number, times: False
        self.answers = True
        self.wants: list[Wants] = []
        self.arrivals: list[Arrivals] = []
        self.number, self.timestamp = 0x8000 - 3, (1 << 32) - 3 * STEP
        self._sent: dict[int, bytes] = {}
        self._times: dict[bytes, int] = {}

    @property
    def keyframes(self) -> int:
        return sum(wants.keyframe for wants in self.wants)

    def send(self, frames: Iterable[Frame], codec: VideoCodec = VP8, piece: int = 60) -> None:
        for data, keyframe in frames:
            cuts = [data[start : start + piece] for start in range(0, len(data), piece)]
            for index, cut in enumerate(cuts):
                payload = bytes([(0 if index else FIRST) | (KEYFRAME if keyframe else 0)]) + cut
                packet = self.transport.send_video(
                    self.number, codec.payload_type, self.timestamp, payload, last=index == len(cuts) - 1
                )
                assert packet is not None
                self._sent[self.number] = packet
                self.number += 1
            self.timestamp += STEP

    async def show(self, frames: Iterable[Frame], codec: VideoCodec = VP8, interval: float = 0.004) -> None:
        for frame in frames:
            self.send([frame], codec)
            await asyncio.sleep(interval)

    def _alter(self, packet: bytes) -> bytes | None:
        if packet[1] & 0x7F not in VIDEO_PAYLOAD_TYPES:
            return packet
        times = self._times[packet] = self._times.get(packet, -1) + 1
        return None if self.lose(int.from_bytes(packet[2:4], "big"), times) else packet

    def _take_arrivals(self, data: bytes) -> None:
        self.arrivals.append(decode_arrivals(data))

    def _take_wants(self, data: bytes) -> None:
        wants = decode_wants(data)
        self.wants.append(wants)
        for number in wants.numbers if self.answers else ():
            self.transport.send_video_again(self._sent[number])


def transport(path: MemoryPath, *, caller: bool) -> RtpTransport:
    ours, theirs = (CALLER_SSRC, CALLEE_SSRC) if caller else (CALLEE_SSRC, CALLER_SSRC)
    keys = derive_keys(bytes(32), caller=caller)
    made = RtpTransport(path, keys, local_ssrc=ours, remote_ssrc=theirs, payload_type=111)
    made.open()
    return made


class Call:
    """A peer, a receiver and its sink."""

    def __init__(self) -> None:
        here, there = memory_pair()
        self.peer = Peer(there)
        self.transport = transport(here, caller=False)
        self.sink = Sink()
        self.rtt: float | None = 0.01
        self.receiver = self.receive(self.sink)

    def receive(self, sink: Any, takes: tuple[VideoCodec, ...] = (VP8, H264)) -> VideoReceiver:
        self.receiver = VideoReceiver(self.transport, takes, sink, rtt=lambda: self.rtt)
        return self.receiver

    async def seen(self, count: int) -> None:
        await eventually(lambda: len(self.sink.frames) >= count)


@pytest.fixture
async def call(nothing_left_behind: None) -> AsyncIterator[Call]:  # noqa: F811
    made = Call()
    yield made
    await made.receiver.close()
    for end in (made.transport, made.peer.transport):
        end.close()


@pytest.fixture
def given_to_decoder(monkeypatch: pytest.MonkeyPatch) -> list[EncodedFrame]:
    """Every frame that a decoder gets."""
    frames: list[EncodedFrame] = []
    decode = FrameDecoder.decode

    def spy(self: FrameDecoder, frame: EncodedFrame) -> Decoded:
        frames.append(frame)
        return decode(self, frame)

    monkeypatch.setattr(FrameDecoder, "decode", spy)
    return frames


def references_are_whole(given: list[EncodedFrame]) -> bool:
    """Whether each frame came after the one it refers to."""
    pairs = zip([None, *given], given, strict=False)
    return all(
        frame.keyframe or (before is not None and frame.timestamp - before.timestamp & 0xFFFFFFFF == STEP)
        for before, frame in pairs
    )


@pytest.mark.parametrize("codec", list(VideoCodec))
async def test_what_is_sent_is_seen(call: Call, codec: VideoCodec) -> None:
    await call.peer.show(some_frames(codec), codec)
    await call.seen(30)
    assert call.sink.shades == [number % 10 for number in range(30)]
    assert [frame.pts for frame in call.sink.frames] == [number * STEP for number in range(30)]
    stats = call.receiver.stats()
    assert (stats.frames_decoded, stats.width, stats.height, stats.codec) == (30, 64, 48, codec)
    assert (stats.lost, stats.recovered, stats.frames_dropped, stats.keyframes_wanted) == (0, 0, 0, 0)
    assert (stats.malformed, stats.undecodable, stats.refused_size, stats.freezes) == (0, 0, 0, 0)
    assert stats.packets == call.peer.number - (0x8000 - 3)
    assert call.peer.wants == []


@pytest.mark.parametrize("codec", list(VideoCodec))
async def test_what_is_lost_once_is_asked_for_and_nothing_is_missed(
    call: Call, codec: VideoCodec, given_to_decoder: list[EncodedFrame]
) -> None:
    call.peer.lose = lambda number, times: number % 5 == 2 and times == 0  # not the first
    frames = one_keyframe(codec)
    await call.peer.show(frames[:-1], codec)
    call.peer.lose = lambda number, times: False
    await call.peer.show(frames[-1:], codec)
    await call.seen(30)
    assert call.sink.shades == [number % 10 for number in range(30)]
    assert references_are_whole(given_to_decoder)
    stats = call.receiver.stats()
    assert stats.recovered > 3
    assert (stats.lost, stats.frames_dropped, stats.keyframes_wanted) == (0, 0, 0)
    lost = {number for wants in call.peer.wants for number in wants.numbers}
    assert all(number % 5 == 2 for number in lost)
    told = [message for message in call.peer.arrivals if None in message.times]
    assert told, "they were not there when the others were told, and are told no more"


async def test_what_is_lost_for_good_ends_with_a_keyframe(call: Call, given_to_decoder: list[EncodedFrame]) -> None:
    frames = some_frames(VP8)
    call.peer.answers = False
    await call.peer.show(frames[:3])
    call.peer.lose = lambda number, times: True
    await call.peer.show(frames[3:4])
    call.peer.lose = lambda number, times: False
    await call.peer.show(frames[4:10])
    await eventually(lambda: call.peer.keyframes)
    assert call.sink.shades == [0, 1, 2]
    await call.peer.show(frames[5:10])
    assert call.peer.keyframes == 1
    await call.peer.show(frames[10:15])
    await call.seen(8)
    assert call.sink.shades == [0, 1, 2, 0, 1, 2, 3, 4]
    assert references_are_whole(given_to_decoder)
    assert call.receiver.stats().lost > 0


async def test_heavy_loss_never_breaks_a_reference(call: Call, given_to_decoder: list[EncodedFrame]) -> None:
    call.peer.lose = lambda number, times: (number * 2654435761 + times * 40503) % 100 < 30
    for _ in range(4):
        await call.peer.show(some_frames(VP8))
    await asyncio.sleep(0.2)
    assert len(given_to_decoder) > 10
    assert references_are_whole(given_to_decoder)
    assert call.receiver.stats().undecodable == 0


@pytest.mark.parametrize("codec", list(VideoCodec))
async def test_a_keyframe_of_8192_squared_never_reaches_a_decoder(
    call: Call, codec: VideoCodec, given_to_decoder: list[EncodedFrame]
) -> None:
    crafted = {
        VP8: vp8_header(8192, 8192) + bytes(500),
        H264: h264_parameters(512, 512) + PICTURE_PARAMETERS + KEY_SLICE + bytes([1] * 500),
    }[codec]
    await call.peer.show([(crafted, True), *some_frames(codec)[1:4]], codec)
    await eventually(lambda: call.peer.keyframes)
    assert call.receiver.stats().refused_size == 1
    assert given_to_decoder == []
    await call.peer.show(some_frames(codec)[:4], codec)
    await call.seen(4)
    await call.peer.show([(crafted, True), *some_frames(codec)[1:4]], codec)
    await eventually(lambda: call.receiver.stats().refused_size == 2)
    assert [frame.data for frame in given_to_decoder] == [data for data, _ in some_frames(codec)[:4]]


@pytest.mark.parametrize("codec", list(VideoCodec))
async def test_a_frame_that_is_not_what_its_packets_say(
    call: Call, codec: VideoCodec, given_to_decoder: list[EncodedFrame]
) -> None:
    frames = some_frames(codec)
    await call.peer.show([frames[0], (frames[10][0], False), (frames[11][0], True), *frames[12:15]], codec)
    await eventually(lambda: call.receiver.stats().undecodable == 2)
    assert [frame.data for frame in given_to_decoder] == [frames[0][0]]
    await call.peer.show(frames[20:22], codec)
    await call.seen(3)
    assert call.sink.shades == [0, 0, 1]


async def test_what_is_behind_a_refused_frame_is_not_decoded(call: Call, given_to_decoder: list[EncodedFrame]) -> None:
    """Not even if they came out at once, since a packet before them was late."""
    frames = some_frames(VP8)
    call.peer.send(frames[:1])
    late = call.peer.number
    call.peer.lose = lambda number, times: number == late and times == 0
    call.peer.send([frames[1], (frames[10][0], False), *frames[2:5]])
    await eventually(lambda: call.receiver.stats().undecodable)
    await asyncio.sleep(0.02)
    assert [frame.data for frame in given_to_decoder] == [data for data, _ in frames[:2]]
    assert call.receiver.stats().recovered == 1
    await call.peer.show(frames[20:22])
    await call.seen(4)


async def test_a_frame_that_the_decoder_cannot_decode(call: Call) -> None:
    frames = some_frames(H264)
    damaged = b"\0\0\0\1\x41\x9a" + b"\xff" * 100
    await call.peer.show([frames[0], (damaged, False)], H264)
    await eventually(lambda: call.receiver.stats().undecodable)
    await eventually(lambda: call.peer.keyframes or call.peer.send([frames[1]], H264))
    await call.peer.show(frames[2:12], H264)
    await call.seen(3)
    assert call.sink.shades == [0, 0, 1]
    assert call.peer.keyframes == 1


async def test_a_keyframe_that_is_there_already_is_not_wanted(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while the frame before it is with the decoder, which finds out only then."""
    go_on = threading.Event()
    decode = FrameDecoder.decode

    def slow(self: FrameDecoder, frame: EncodedFrame) -> Decoded:
        assert go_on.wait(5)
        return decode(self, frame)

    monkeypatch.setattr(FrameDecoder, "decode", slow)
    frames = some_frames(H264)
    damaged = b"\0\0\0\1\x41\x9a" + b"\xff" * 100
    await call.peer.show([frames[0], (damaged, False), *frames[1:3], *frames[10:13]], H264)
    go_on.set()
    await call.seen(4)
    assert call.sink.shades == [0, 0, 1, 2]
    assert call.peer.keyframes == 0


async def test_the_codec_changes_at_a_keyframe(call: Call) -> None:
    await call.peer.show(some_frames(VP8)[:5], VP8)
    await call.peer.show(some_frames(H264)[:5], H264)
    await call.peer.show(some_frames(VP8)[10:15], VP8)
    await call.seen(15)
    assert call.sink.shades == [*range(5)] * 3
    assert call.peer.keyframes == 0


async def test_another_codec_than_agreed_is_dropped(call: Call, given_to_decoder: list[EncodedFrame]) -> None:
    call.receive(call.sink, takes=(VP8,))
    await call.peer.show(some_frames(H264), H264)
    await asyncio.sleep(0.05)
    stats = call.receiver.stats()
    assert (stats.packets, stats.codec, given_to_decoder) == (0, None, [])
    assert stats.malformed == call.peer.number - (0x8000 - 3)
    assert call.peer.wants == []


async def test_the_size_may_change(call: Call) -> None:
    for size in ((320, 180), (64, 48), (640, 360)):
        await call.peer.show(encode(VP8, 2, *size))
    await call.seen(6)
    stats = call.receiver.stats()
    assert (stats.width, stats.height) == (640, 360)


# --- when ------------------------------------------------------------------------------------------------------------


async def test_frames_are_held_back(call: Call) -> None:
    call.receiver.delay = 0.15
    start = time.monotonic()
    await call.peer.show(some_frames(VP8)[:5], interval=0.02)
    await call.seen(5)
    for number, when in enumerate(call.sink.times):
        assert when - start >= 0.15 + 0.02 * number - 0.001
    assert call.receiver.stats().freezes == 0


async def test_a_shorter_delay_counts_at_once(call: Call) -> None:
    call.receiver.delay = 5.0
    assert call.receiver.delay == 1.0
    await call.peer.show(some_frames(VP8)[:3])
    assert call.sink.frames == []
    start = time.monotonic()
    call.receiver.delay = -1.0
    assert call.receiver.delay == 0.0
    await call.seen(3)
    assert time.monotonic() - start < 0.8


async def test_arrivals_are_told_while_packets_come(call: Call) -> None:
    for _ in range(2):
        await call.peer.show(some_frames(VP8)[:10], interval=0.02)
    first = 0x8000 - 3
    await eventually(lambda: call.receiver._reports.due is None)
    await asyncio.sleep(0.01)  # for the last message, which is on its way
    told = [message.first + place for message in call.peer.arrivals for place, _ in enumerate(message.times)]
    assert set(told) == set(range(first, call.peer.number))
    assert min(map(told.count, told)) >= 2
    assert all(None not in message.times for message in call.peer.arrivals)
    count = len(call.peer.arrivals)
    await asyncio.sleep(0.15)
    assert len(call.peer.arrivals) == count


async def test_unknown_or_absurd_round_trips_do_no_harm(call: Call) -> None:
    for rtt in (None, -5.0, 1e9):
        call.rtt = rtt
        await call.peer.show(some_frames(VP8)[:5])
    await call.seen(15)


class Watched:
    """A freeze watch, and its time."""

    def __init__(self) -> None:
        self.watch = video_receiver._FreezeWatch()
        self.now = 50.0

    def run(self, seconds: float, *, packets: bool = True, pictures: bool = True) -> int:
        """Go on, every 20 ms."""
        for _ in range(round(seconds / 0.02)):
            self.now += 0.02
            if packets:
                self.watch.packet(self.now)
            if pictures:
                self.watch.picture(self.now)
            self.watch.look(self.now, 0.0)
        return self.watch.freezes


def test_freezes_are_counted() -> None:
    watched = Watched()
    assert watched.run(3) == 0
    assert watched.run(FREEZE - 0.05, pictures=False) == 0
    assert watched.run(0.1) == 0
    assert watched.run(3, pictures=False) == 1, "however long"
    assert watched.run(1) == 1
    assert watched.run(1, pictures=False) == 2
    assert watched.run(10, packets=False, pictures=False) == 2
    assert watched.run(FREEZE - 0.05, pictures=False) == 2, "after a pause there is time for the first picture"
    assert watched.run(0.1, pictures=False) == 3


async def test_a_freeze_shows_in_the_stats(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_receiver, "FREEZE", 0.1)
    await call.peer.show(some_frames(VP8)[1:10], interval=0.02)
    assert call.receiver.stats().freezes >= 1, "more only if this machine stops in between"


# --- what is too much -------------------------------------------------------------------------------------------------


async def test_a_decoder_that_is_too_slow_is_given_the_next_keyframe(
    call: Call, monkeypatch: pytest.MonkeyPatch, given_to_decoder: list[EncodedFrame]
) -> None:
    decode = FrameDecoder.decode

    def slow(self: FrameDecoder, frame: EncodedFrame) -> Decoded:
        time.sleep(0.03)
        return decode(self, frame)

    monkeypatch.setattr(FrameDecoder, "decode", slow)
    monkeypatch.setattr(video_receiver, "MAX_BEHIND", 0.1)
    for _ in range(3):
        await call.peer.show(some_frames(VP8)[:10], interval=0.01)
    await eventually(lambda: call.receiver.stats().frames_dropped > 0)
    await eventually(lambda: len(call.receiver._line) == 0)
    assert references_are_whole(given_to_decoder)
    assert call.receiver.stats().undecodable == 0


async def test_frames_that_wait_are_bounded(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(self: FrameDecoder, frame: EncodedFrame) -> Decoded:
        release.wait(10)
        return Decoded()

    monkeypatch.setattr(FrameDecoder, "decode", hang)
    for _ in range(5):
        await call.peer.show(some_frames(VP8), interval=0.0)
        assert len(call.receiver._line) <= MAX_LINE
    assert call.receiver._line._bytes <= sum(len(data) for data, _ in some_frames(VP8)) * 4
    assert call.receiver.stats().frames_dropped > 0
    release.set()


async def test_more_frames_than_a_second_has_are_not_decoded(
    call: Call, monkeypatch: pytest.MonkeyPatch, given_to_decoder: list[EncodedFrame]
) -> None:
    monkeypatch.setattr(video_receiver, "FRAME_BUDGET", 20)
    call.receive(call.sink)
    await call.peer.show(some_frames(VP8)[:10] * 4, interval=0.002)
    await asyncio.sleep(0.05)
    assert len(given_to_decoder) == 20
    assert call.receiver.stats().frames_dropped >= 10
    assert call.peer.keyframes == 1


async def test_a_track_that_nobody_reads(call: Call) -> None:
    track = SeenTrack()
    call.receive(track)
    for _ in range(4):
        await call.peer.show(some_frames(VP8))
        assert track._frames.qsize() <= WAITING
    await eventually(lambda: call.receiver.stats().frames_decoded == 120)
    assert [shade(await track.recv()) for _ in range(WAITING)] == [7, 8, 9]
    assert len(call.receiver._line) == len(call.receiver._buffer._pieces) == 0
    await call.receiver.close()


async def test_whatever_the_peer_sends(call: Call) -> None:
    """Packets that are its own, and no video."""
    number = call.peer.number
    for step in range(300):
        payload = bytes([step * 7 % 9 % 5, step % 256]) * (1 + step % 40)
        number += (1, 1, 2, 1, 40)[step % 5]
        codec = (VP8, H264)[step // 7 % 2]
        call.peer.transport.send_video(number, codec.payload_type, step // 3 * STEP, payload, last=step % 3 == 0)
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    call.peer.answers = False
    call.peer.number = number + 2
    await call.peer.show(some_frames(VP8)[:3])
    await call.seen(3)
    assert call.transport.counters.dropped.malformed == 0, "nothing was raised"


# --- ends -------------------------------------------------------------------------------------------------------------


async def test_a_sink_that_raises_is_given_no_more(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Sink):
        def write(self, frame: VideoFrame) -> None:
            super().write(frame)
            raise RuntimeError("192.0.2.1")

        def close(self) -> None:
            super().close()
            raise RuntimeError

    bad = Bad()
    call.receive(bad)
    with caplog.at_level(logging.DEBUG):
        await call.peer.show(some_frames(VP8)[:10])
        await eventually(lambda: call.receiver.stats().frames_decoded == 10)
        await call.receiver.close()
    assert len(bad.frames) == 1
    assert bad.closed == 1
    assert "RuntimeError" in caplog.text
    assert "192.0.2.1" not in caplog.text


async def test_without_a_sink_pictures_are_counted(call: Call) -> None:
    call.receive(None)
    await call.peer.show(some_frames(VP8)[:10])
    await eventually(lambda: call.receiver.stats().frames_decoded == 10)
    await call.receiver.close()


async def test_close_ends_everything(call: Call) -> None:
    call.receiver.delay = 0.5
    await call.peer.show(some_frames(VP8)[:10])
    await asyncio.gather(call.receiver.close(), call.receiver.close())
    await call.receiver.close()
    assert call.sink.closed == 1
    assert call.transport.on_video is None
    await call.peer.show(some_frames(VP8)[10:15])
    call.receiver.delay = 0.0
    assert call.sink.frames == []
    assert call.receiver._timer is None or call.receiver._timer.cancelled()


async def test_close_before_anything_came(call: Call) -> None:
    await call.receiver.close()
    assert call.sink.closed == 1


async def test_close_leaves_the_next_receiver_alone(call: Call) -> None:
    first, sink = call.receiver, Sink()
    second = call.receive(sink)
    await first.close()
    await call.peer.show(some_frames(VP8)[:3])
    await eventually(lambda: len(sink.frames) == 3)
    await second.close()


async def test_close_with_a_decoder_that_hangs(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(self: FrameDecoder, frame: EncodedFrame) -> Decoded:
        release.wait(10)
        return Decoded()

    monkeypatch.setattr(FrameDecoder, "decode", hang)
    await call.peer.show(some_frames(VP8)[:4])
    start = time.monotonic()
    await call.receiver.close()
    assert time.monotonic() - start < 2
    assert call.sink.closed == 1
    release.set()


async def test_packets_have_the_room_they_need(call: Call) -> None:
    """The largest piece that a packet can hold."""
    [(data, _)] = encode(VP8, 1, 320, 180, detail=True)
    room = 1500 - RTP_HEADER_SIZE - TAG_SIZE - 1
    call.peer.send([(data, True)], piece=room)
    await call.seen(1)
    assert len(data) > room
