"""The pictures of a call on their way out: fresh, paced, and no danger to anything else."""

from __future__ import annotations

import asyncio
import secrets
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from itertools import pairwise
from typing import Any

import av
import pytest
from av import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.errors import CallClosed, MediaError
from relaycall.media.srtp import RTP_HEADER_SIZE, derive_keys
from relaycall.media.transport import RtpTransport
from relaycall.media.video.encoder import Encoded
from relaycall.media.video.fates import Fate
from relaycall.media.video.feedback import ARRIVALS, WANTS, Arrivals, Wants, encode_arrivals, encode_wants
from relaycall.media.video.format import Encoding, VideoCodec
from relaycall.media.video.sender import BACKLOG_SECONDS, KEYFRAME_SECONDS, VideoSender
from relaycall.media.video.sources import FramesVideo, TestPattern, VideoSource, pattern_number
from tests.leaks import no_leaks
from tests.media.paths import VirtualLoop, memory_pair
from tests.media.video.test_encoder import plain, scenes
from tests.waiting import eventually

USUAL = Encoding(400_000, 15, 360)
FRAME = plain(64, 64, 100)


class Got:
    """A packet as the other side takes it."""

    def __init__(self, packet: bytes, at: float) -> None:
        _, kind, self.number, self.timestamp, _ = struct.unpack_from("!BBHLL", packet)
        self.payload_type, self.last = kind & 0x7F, bool(kind & 0x80)
        payload = packet[RTP_HEADER_SIZE:]
        self.first, self.keyframe, self.data = bool(payload[0] & 1), bool(payload[0] & 2), payload[1:]
        assert payload[0] < 4
        self.at, self.size = at, len(packet)


class Rig:
    """A sender, and the far end of its path."""

    def __init__(self, codec: VideoCodec = VideoCodec.VP8, **options: Any) -> None:
        self.path, far_path = memory_pair()
        ours, theirs = (
            RtpTransport(
                path,
                derive_keys(bytes(32), caller=caller),
                local_ssrc=1 if caller else 2,
                remote_ssrc=2 if caller else 1,
                payload_type=111,
            )
            for path, caller in ((self.path, True), (far_path, False))
        )
        self.transport, self.far = ours, theirs
        self.got: list[Got] = []
        self.sent: list[int] = []
        self.fates: list[Fate] = []
        self.sizes: list[tuple[int, int] | None] = []
        self.ended: list[MediaError | None] = []
        loop = asyncio.get_running_loop()
        theirs.on_video = lambda packet, _: self.got.append(Got(packet, loop.time()))
        ours.open()
        theirs.open()
        told: dict[str, Any] = {
            "on_sent": self.sent.append,
            "on_fates": self.fates.extend,
            "on_size": self.sizes.append,
            "on_ended": self.ended.append,
        }
        self.sender = VideoSender(ours, codec, **(told | options))
        self.first = self.sender._number

    def frames(self) -> list[list[Got]]:
        """The packets by picture, those of the last one perhaps not all."""
        pictures: list[list[Got]] = []
        for got in self.got:
            if got.first:
                pictures.append([])
            pictures[-1].append(got)
        return pictures

    async def want(self, *numbers: int, keyframe: bool = False) -> None:
        self.far.send_control(encode_wants(Wants(numbers, keyframe)))
        await asyncio.sleep(0.0001)

    async def close(self) -> None:
        await self.sender.close()
        self.transport.close()
        self.far.close()


class ScriptedEncoder:
    """Pictures of the sizes wanted, after the time wanted."""

    def __init__(self, rig: Rig, size: int = 3000, key_size: int = 8000, seconds: float = 0.005) -> None:
        self.size, self.key_size, self.seconds = size, key_size, seconds
        self.fails: Exception | None = None
        self.leaves_out = False
        self.calls: list[tuple[float, float, bool, Encoding]] = []
        self.frames: list[VideoFrame] = []
        self.running = 0
        rig.sender._encoder = self  # type: ignore[assignment]

    async def encode(self, frame: VideoFrame, encoding: Encoding, *, keyframe: bool, time: float) -> Encoded | None:
        now = asyncio.get_running_loop().time()
        self.calls.append((now, time, keyframe, encoding))
        self.frames.append(frame)
        assert not self.running, "one at a time"
        self.running += 1
        await asyncio.sleep(self.seconds)
        self.running -= 1
        if self.fails is not None:
            raise self.fails
        if self.leaves_out:
            return None
        return Encoded(bytes(self.key_size if keyframe else self.size), keyframe, 640, 360)

    async def close(self) -> None:
        pass

    def keyframes(self) -> list[float]:
        return [at for at, _, keyframe, _ in self.calls if keyframe]


class Ticking:
    """Frames at a rate, until it is told otherwise."""

    def __init__(self, rate: float = 15, count: int = 1 << 30, end: Exception | None = None) -> None:
        self.interval, self.count, self.end = 1 / rate, count, end
        self.read_frames = self.closed = 0

    async def read(self) -> VideoFrame | None:
        if self.read_frames:
            await asyncio.sleep(self.interval)
        if self.read_frames >= self.count:
            if self.end is not None:
                raise self.end
            return None
        self.read_frames += 1
        return FRAME

    def close(self) -> None:
        self.closed += 1


def virtually(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test in virtual time."""

    def run() -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return run


# --- pictures ---------------------------------------------------------------------------------------------------------


@virtually
async def test_packets_are_as_agreed_and_leave_evenly() -> None:
    rig = Rig(VideoCodec.H264)
    ScriptedEncoder(rig, size=4000, key_size=12_000)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking())
    await asyncio.sleep(3)
    pictures = rig.frames()
    assert 36 <= len(pictures) <= 46
    assert [got.number - rig.first for got in rig.got] == list(range(len(rig.got)))
    for number, picture in enumerate(pictures[:-1]):
        assert [got.first for got in picture] == [True] + [False] * (len(picture) - 1)
        assert [got.last for got in picture] == [False] * (len(picture) - 1) + [True]
        assert {got.keyframe for got in picture} == {number == 0}
        assert {got.payload_type for got in picture} == {98}
        assert len({got.timestamp for got in picture}) == 1
        assert sum(len(got.data) for got in picture) == (4000 if number else 12_000)
        assert max(len(got.data) for got in picture) <= 1100
    stamps = [picture[0].timestamp for picture in pictures]
    steps = [(after - before) & 0xFFFFFFFF for before, after in pairwise(stamps)]
    assert all(5900 < step < 18_100 for step in steps)
    key = [got.at for got in pictures[0]]
    gaps = [after - before for before, after in pairwise(key)]
    assert max(gaps) < 0.0165, "1.1 kB at 600 kbit/s"
    assert min(gaps[1:]) > 0.012
    await rig.close()


def test_numbers_and_timestamps_begin_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: set[int] = set()

    def highest(bound: int) -> int:
        bounds.add(bound)
        return bound - 1

    async def begin(seconds: float) -> list[Got]:
        rig = Rig()
        ScriptedEncoder(rig)
        rig.sender.encoding = USUAL
        rig.sender.set_source(Ticking(15))
        await asyncio.sleep(seconds)
        await rig.close()
        return rig.got

    async def several() -> None:
        firsts = [(await begin(0.05))[0] for _ in range(4)]
        assert len({got.number for got in firsts}) > 1
        assert len({got.timestamp for got in firsts}) > 1
        monkeypatch.setattr(secrets, "randbelow", highest)
        got = await begin(2)
        assert [packet.number for packet in got] == list(range((1 << 15) - 1, (1 << 15) - 1 + len(got)))
        stamps = [got[0].timestamp, *(after.timestamp for before, after in pairwise(got) if before.last)]
        assert stamps[0] > max(stamps[1:]), "they begin anew"
        assert all(0 < (after - before) & 0xFFFFFFFF < 20_000 for before, after in pairwise(stamps))
        assert bounds == {1 << 15, 1 << 32}

    virtually(several)()


@virtually
async def test_what_is_sent_again_is_taken_from_the_pictures() -> None:
    """So that the frame rate stays."""
    rig = Rig()
    encoder = ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(1)
    assert {encoding.bitrate for *_, encoding in encoder.calls} == {400_000}
    for _ in range(20):
        newest = rig.got[-1].number
        await rig.want(newest - 1, newest)
        await asyncio.sleep(0.06)
    *_, encoding = encoder.calls[-1]
    assert 200_000 <= encoding.bitrate < 320_000
    assert encoding == replace(USUAL, bitrate=encoding.bitrate)
    await asyncio.sleep(1.5)
    assert encoder.calls[-1][3] == USUAL
    await rig.close()


@virtually
async def test_no_more_pictures_than_wanted_and_always_the_newest() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig, size=500)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(60))
    await asyncio.sleep(4)
    assert 58 <= len(encoder.calls) <= 62
    assert max(at - taken for at, taken, _, _ in encoder.calls) < 0.018
    stats = rig.sender.stats()
    assert stats.frames_read >= 235
    assert stats.frames_encoded + stats.frames_skipped >= stats.frames_read - 2
    assert rig.sender.load == pytest.approx(0.005 * 15, rel=0.1)
    rig.sender.encoding = Encoding(400_000, 30, 360)
    before = len(encoder.calls)
    await asyncio.sleep(2)
    assert 55 <= len(encoder.calls) - before <= 62
    await rig.close()


@virtually
async def test_an_encoder_that_cannot_keep_up_makes_fewer_pictures_and_fresh_ones() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig, size=500, seconds=0.2)
    rig.sender.encoding = Encoding(400_000, 30, 360)
    rig.sender.set_source(Ticking(30))
    await asyncio.sleep(4)
    assert 17 <= len(encoder.calls) <= 21
    assert all(at - taken < 0.034 for at, taken, _, _ in encoder.calls[1:])
    stats = rig.sender.stats()
    assert stats.frames_skipped > 75
    assert stats.encode_ms == pytest.approx(200, rel=0.05)
    assert rig.sender.load > 5
    rig.sender.set_source(Ticking(2))
    encoder.seconds = 0.02
    await asyncio.sleep(8)
    assert rig.sender.load < 0.3, "a source that gives two a second leaves time enough"
    rig.sender.encoding = None
    assert rig.sender.load == 0
    await rig.close()


@virtually
async def test_the_next_picture_waits_for_a_large_one() -> None:
    """Nothing lines up: 60 kB take 0.8 s at 600 kbit/s, and what is coded then is what is seen then."""
    rig = Rig()
    encoder = ScriptedEncoder(rig, key_size=60_000)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(2)
    (first, *_), (second, taken, _, _) = encoder.calls[0], encoder.calls[1]
    assert 0.65 < second - first < 0.9
    assert second - taken < 0.067
    assert rig.sender._pacer.seconds < 0.1
    await rig.close()


@virtually
async def test_bits_on_the_path_stay_below_what_they_may_be() -> None:
    rig = Rig()
    ScriptedEncoder(rig, size=20_000, key_size=50_000)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(30))
    await asyncio.sleep(5)
    assert sum(got.size for got in rig.got) * 8 / 5 < 1.5 * 400_000 * 1.02
    await rig.close()


# --- keyframes --------------------------------------------------------------------------------------------------------


@virtually
async def test_keyframes_that_are_asked_for_come_twice_a_second_at_most() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(30))
    await asyncio.sleep(1)
    assert len(encoder.keyframes()) == 1
    await rig.want(keyframe=True)
    await asyncio.sleep(0.2)
    assert len(encoder.keyframes()) == 2
    for _ in range(400):
        await rig.want(keyframe=True)
        await asyncio.sleep(0.005)
    times = encoder.keyframes()
    gaps = [after - before for before, after in pairwise(times[1:])]
    assert min(gaps) >= KEYFRAME_SECONDS
    assert 4 <= len(gaps) <= 5
    await asyncio.sleep(2)
    assert len(encoder.keyframes()) <= len(times) + 1
    assert rig.sender.stats().keyframes == len(encoder.keyframes())
    await rig.close()


@virtually
async def test_who_is_far_away_does_not_get_one_for_each_time_it_asks_for_the_same() -> None:
    rig = Rig(rtt=lambda: 2.0)
    encoder = ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(30))
    for _ in range(19):
        await asyncio.sleep(0.1)
        await rig.want(keyframe=True)
    assert len(encoder.keyframes()) == 1
    await asyncio.sleep(0.3)
    assert len(encoder.keyframes()) == 1, "the one that was sent is what they asked for"
    await rig.want(keyframe=True)
    await asyncio.sleep(0.2)
    assert len(encoder.keyframes()) == 2
    await rig.close()


@virtually
async def test_a_keyframe_of_a_picture_that_stands_still() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    source = Ticking(0.001)
    rig.sender.set_source(source)
    await asyncio.sleep(5)
    assert len(encoder.calls) == 1
    await rig.want(keyframe=True)
    await asyncio.sleep(1)
    assert len(encoder.keyframes()) == 2
    rig.sender.encoding = None
    await asyncio.sleep(1)
    rig.sender.encoding = USUAL
    await asyncio.sleep(1)
    assert len(encoder.keyframes()) == 3
    assert source.read_frames == 1
    stamps = [picture[0].timestamp for picture in rig.frames()]
    assert (stamps[1] - stamps[0]) & 0xFFFFFFFF == pytest.approx(5 * 90_000, rel=0.01)
    await rig.close()


@virtually
async def test_each_source_begins_with_a_keyframe_and_the_one_before_is_closed() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    first, second = Ticking(30), Ticking(30)
    rig.sender.set_source(first)
    await asyncio.sleep(1)
    rig.sender.set_source(second)
    await asyncio.sleep(1)
    assert (first.closed, second.closed) == (1, 0)
    assert len(encoder.keyframes()) == 2
    rig.sender.set_source(None)
    before = len(encoder.calls)
    await asyncio.sleep(1)
    assert second.closed == 1
    assert len(encoder.calls) == before
    assert rig.sizes == [(64, 64), None]
    assert rig.ended == []
    await rig.close()


@virtually
async def test_while_it_is_off_the_source_is_read_and_nothing_sent() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig, key_size=30_000)
    source = Ticking(30)
    rig.sender.set_source(source)
    await asyncio.sleep(1)
    assert rig.got == []
    assert rig.sizes == [(64, 64)], "so that somebody can say how it is to be sent"
    rig.sender.encoding = USUAL
    await asyncio.sleep(0.1)
    rig.sender.encoding = None
    begun = source.read_frames
    await asyncio.sleep(1)
    assert [got.last for got in rig.got].count(True) == 0, "nothing of what had begun follows: the path may be full"
    quiet = len(rig.got)
    await asyncio.sleep(1)
    assert source.read_frames > begun + 50
    assert len(rig.got) == quiet
    rig.sender.encoding = USUAL
    await asyncio.sleep(1)
    assert len(encoder.keyframes()) == 2
    assert rig.frames()[1][0].keyframe
    await rig.close()


@virtually
async def test_what_is_held_up_waits_and_goes_on_where_it_was() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig, key_size=30_000)
    source = Ticking(30)
    rig.sender.encoding = USUAL
    rig.sender.set_source(source)
    await asyncio.sleep(0.1)
    rig.sender.held = True
    quiet, coded, begun = len(rig.got), len(encoder.calls), source.read_frames
    await rig.want(rig.got[0].number)
    await asyncio.sleep(2)
    assert quiet > 0
    assert len(rig.got) == quiet, "what is wanted again waits, too"
    assert len(encoder.calls) == coded
    assert source.read_frames > begun + 50
    released = asyncio.get_running_loop().time()
    rig.sender.held = False
    await asyncio.sleep(1)
    assert rig.frames()[0][-1].last, "the picture that was leaving is whole"
    assert len(encoder.keyframes()) == 1
    assert encoder.calls[coded][1] > released - 0.1, "what follows is fresh"
    spent = 8 * sum(got.size for got in rig.got[quiet:] if got.at < released + 0.2)
    assert spent < 1.6 * USUAL.bitrate * 0.2 + 8 * 1200, "at the same even rate, and not all at once"
    assert rig.sender._pacer.seconds < 0.05
    rig.sender.held = True
    coded = len(encoder.calls)
    await asyncio.sleep(1)
    assert len(encoder.calls) == coded, "nothing is coded to be stale when it leaves"
    await rig.close()


@virtually
async def test_when_the_rate_falls_what_would_take_long_is_broken_off() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig, key_size=60_000)
    rig.sender.encoding = Encoding(2_000_000, 15, 360)
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(0.1)
    assert len(encoder.calls) == 1
    before = len(rig.got)
    encoder.key_size = 3000
    rig.sender.encoding = Encoding(100_000, 15, 360)
    await asyncio.sleep(2)
    assert encoder.calls[1][2], "with a keyframe afterwards"
    assert encoder.calls[1][0] - encoder.calls[0][0] < 0.2
    assert rig.got[before].first
    assert rig.got[before].keyframe
    assert rig.got[before].number == rig.got[before - 1].number + 2, "the gap shows it"
    assert rig.sender._pacer.seconds < BACKLOG_SECONDS
    await rig.close()


@virtually
async def test_what_the_encoder_leaves_out_is_skipped_and_a_keyframe_still_due() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(1)
    encoder.leaves_out = True
    before = rig.sender.stats()
    await asyncio.sleep(1)
    after = rig.sender.stats()
    assert after.frames_encoded == before.frames_encoded
    assert 13 <= after.frames_skipped - before.frames_skipped <= 16
    assert len(encoder.keyframes()) == 1
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(0.5)
    assert len(encoder.keyframes()) > 5
    encoder.leaves_out = False
    await asyncio.sleep(0.5)
    assert rig.sender.stats().keyframes == 2
    await rig.close()


@virtually
async def test_what_refers_to_what_was_dropped_is_not_sent() -> None:
    """The rate falls while a picture is being coded, and the one before it was not sent."""
    rig = Rig()
    encoder = ScriptedEncoder(rig, seconds=0.05)
    rig.sender.encoding = Encoding(2_000_000, 15, 360)
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(1)
    await eventually(lambda: encoder.running)
    rig.sender.encoding = None
    rig.sender.encoding = Encoding(2_000_000, 15, 360)
    before = len(rig.got)
    await asyncio.sleep(1)
    assert rig.got[before].keyframe
    await rig.close()


@virtually
async def test_a_source_that_ends_late_does_not_end_the_next() -> None:
    class Slow(Ticking):
        async def read(self) -> VideoFrame | None:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                await asyncio.sleep(1)
            return None

    rig = Rig()
    encoder = ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Slow())
    await asyncio.sleep(1)
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(3)
    assert len(encoder.calls) > 40
    assert rig.ended == []
    await rig.close()


# --- sources that fail ------------------------------------------------------------------------------------------------


@virtually
async def test_a_source_that_ends_or_fails_ends_the_video_alone() -> None:
    failure = MediaError("The camera is gone.")
    for end, error in ((None, None), (failure, failure), (ValueError("canary"), MediaError)):
        rig = Rig()
        encoder = ScriptedEncoder(rig)
        rig.sender.encoding = USUAL
        source = Ticking(15, 5, end)
        rig.sender.set_source(source)
        await asyncio.sleep(2)
        assert len(encoder.calls) == 5
        assert source.closed == 1
        assert len(rig.ended) == 1
        assert rig.ended[0] is rig.sender.stats().error is rig.sender.error
        assert rig.ended[0] is error or isinstance(rig.ended[0], MediaError)
        assert "canary" not in str(rig.ended[0])
        assert rig.sizes == [(64, 64), None]
        assert rig.transport.state == "connected"
        rig.sender.set_source(Ticking(15))
        await asyncio.sleep(1)
        assert rig.sender.stats().error is None
        assert len(encoder.calls) > 15
        assert len(encoder.keyframes()) == 2
        await rig.close()


@virtually
async def test_what_is_no_frame_ends_it() -> None:
    class Odd(Ticking):
        async def read(self) -> Any:
            return "a picture"

    rig = Rig()
    rig.sender.set_source(Odd())
    await asyncio.sleep(0.1)
    assert isinstance(rig.ended[0], MediaError)
    await rig.close()


@virtually
async def test_an_encoder_that_fails_ends_the_video_alone() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig)
    encoder.fails = MediaError("A picture could not be coded.")
    source = Ticking(15)
    rig.sender.encoding = USUAL
    rig.sender.set_source(source)
    await asyncio.sleep(1)
    assert rig.ended == [encoder.fails]
    assert source.closed == 1
    encoder.fails = None
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(1)
    assert len(rig.got) > 10
    assert rig.got[0].keyframe
    await rig.close()


@virtually
async def test_a_source_that_stalls_stalls_nothing() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    source = Ticking(15)
    rig.sender.set_source(source)
    await asyncio.sleep(1)
    source.interval = 100.0
    await asyncio.sleep(3)
    before = len(encoder.calls)
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(1)
    assert len(encoder.calls) >= before + 13
    await rig.close()


async def test_a_source_that_never_waits_leaves_the_loop_to_others() -> None:
    class Greedy(Ticking):
        async def read(self) -> VideoFrame | None:
            self.read_frames += 1
            return FRAME

    rig, source = Rig(), Greedy()
    rig.sender.set_source(source)
    start = time.monotonic()
    turns = 0
    while time.monotonic() - start < 0.25:
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 20
    assert 3 < source.read_frames < 100
    await rig.close()


@virtually
async def test_callbacks_that_raise_harm_nothing() -> None:
    def fail(*_: object) -> None:
        raise ValueError

    rig = Rig(on_sent=fail, on_fates=fail, on_size=fail, on_ended=fail)
    ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(15, 20))
    await asyncio.sleep(4)
    assert rig.sender.stats().frames_encoded == 20
    assert rig.sender.stats().packets == len(rig.got)
    await rig.close()


# --- what the peer says -----------------------------------------------------------------------------------------------


@virtually
async def test_what_is_wanted_is_sent_again_as_it_was() -> None:
    rig = Rig()
    ScriptedEncoder(rig)
    lost = {rig.first + 3, rig.first + 4, rig.first + 7}
    videos: list[bytes] = []

    def lose(packet: bytes) -> bytes | None:
        if packet[1] & 0x7F != 97:
            return packet
        videos.append(packet)
        return None if rig.first + len(videos) - 1 in lost else packet

    rig.path.alter = lose
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(0.5)
    assert not lost & {got.number for got in rig.got}
    before = len(videos)
    await rig.want(rig.first - 500 & 0xFFFF, *sorted(lost))
    await asyncio.sleep(0.1)
    assert lost <= {got.number for got in rig.got}
    assert all(videos[number - rig.first] in videos[before:] for number in lost)
    stats = rig.sender.stats()
    assert (stats.sent_again, stats.refused) == (3, 1)
    assert len(rig.sent) == stats.packets, "first sendings only"
    assert sum(rig.sent) == stats.bytes
    assert {fate.number for fate in rig.fates if fate.arrived_at is None} == lost
    await rig.close()


@virtually
async def test_hostile_wishes_cause_little() -> None:
    rig = Rig()
    ScriptedEncoder(rig, size=10_000)
    rig.sender.encoding = Encoding(1_000_000, 15, 360)
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(1)
    before = rig.sender.stats()
    start = asyncio.get_running_loop().time()
    for turn in range(500):
        newest = rig.got[-1].number
        await rig.want(*((newest - turn % 40 - 37 + n) & 0xFFFF for n in range(38)), keyframe=True)
        await asyncio.sleep(0.0019)
    seconds = asyncio.get_running_loop().time() - start
    after = rig.sender.stats()
    assert 0.9 < seconds < 1.1
    assert after.sent_again - before.sent_again <= 2 * 50, "50 in a second, and no second is longer than two"
    assert after.refused - before.refused > 10_000
    sent = sum(got.size for got in rig.got if got.at >= start)
    assert sent * 8 <= 1.5 * 1_000_000 * seconds * 1.05
    assert after.frames_encoded > before.frames_encoded + 3, "and pictures go on"
    await rig.close()


@virtually
async def test_the_fate_of_each_packet_is_told() -> None:
    rig = Rig()
    ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(0.5)
    there = {got.number: got.at + 5000 for got in rig.got}
    first = rig.first
    times = tuple(there[number] if number != first + 5 else None for number in range(first, first + 12))
    rig.far.send_control(encode_arrivals(Arrivals(first, times)))
    await asyncio.sleep(0.001)
    told = {fate.number: fate for fate in rig.fates}
    assert sorted(told) == [first + number for number in range(12) if number != 5]
    for number, fate in told.items():
        assert fate.size == rig.sent[number - first]
        assert fate.arrived_at is not None
        assert abs(fate.arrived_at - fate.sent_at - 5000) < 0.001
    rig.sender.set_source(None)
    await asyncio.sleep(2.1)
    told = {fate.number: fate for fate in rig.fates}
    assert sorted(told) == list(range(first, first + rig.sender.stats().packets)), "with nothing more sent or heard"
    assert len(rig.fates) == len(told)
    assert told[first + 5].arrived_at is None
    await rig.close()


@virtually
async def test_lies_and_nonsense_are_counted() -> None:
    rig = Rig()
    ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(0.3)
    rig.far.send_control(encode_arrivals(Arrivals(rig.first + 20_000, (1.0, 2.0))))
    for kind in (WANTS, ARRIVALS):
        rig.far.send_control(bytes([kind]) + b"\xff" * 79)
    await asyncio.sleep(0.01)
    assert rig.sender.stats().refused == 1
    assert rig.transport.counters.dropped.malformed == 2
    assert rig.fates == []
    await rig.close()


MESSAGES = st.lists(
    st.one_of(
        st.builds(
            lambda first, steps: encode_wants(Wants(tuple((first + step) & 0xFFFF for step in sorted(steps)), True)),
            st.one_of(st.integers(0, 65535), st.integers(0, 80)),
            st.sets(st.integers(0, 80), min_size=1, max_size=38).map(lambda steps: {0, *list(steps)[1:]}),
        ),
        st.builds(
            lambda first, base, rest: encode_arrivals(Arrivals(first, (base, *(t and base + t for t in rest), base))),
            st.one_of(st.integers(0, 65535), st.integers(0, 80)),
            st.floats(0, 1e6),
            st.lists(st.one_of(st.none(), st.floats(0, 16)), max_size=34),
        ),
        st.binary(min_size=79, max_size=79).map(lambda rest: bytes([WANTS]) + rest),
        st.binary(min_size=79, max_size=79).map(lambda rest: bytes([ARRIVALS]) + rest),
    ),
    max_size=60,
)


@settings(max_examples=40, deadline=None)
@given(MESSAGES)
def test_whatever_the_peer_says_pictures_go_on_and_nothing_grows(messages: list[bytes]) -> None:
    async def run() -> None:
        rig = Rig()
        ScriptedEncoder(rig)
        rig.sender.encoding = USUAL
        rig.sender.set_source(Ticking(15))
        await asyncio.sleep(0.3)
        for message in messages:
            rig.far.send_control(message)
            await asyncio.sleep(0.01)
        before = rig.sender.stats().frames_encoded
        await asyncio.sleep(1.0)
        stats = rig.sender.stats()
        assert stats.frames_encoded >= before + 6
        assert stats.sent_again <= 3 * stats.packets
        assert len({fate.number for fate in rig.fates}) == len(rig.fates)
        assert all(rig.first <= fate.number < rig.first + stats.packets for fate in rig.fates)
        assert len(rig.sender._fates) <= stats.packets <= 200
        await rig.close()

    virtually(run)()


# --- ends -------------------------------------------------------------------------------------------------------------


@virtually
async def test_a_path_that_is_closed_ends_nothing() -> None:
    rig = Rig()
    encoder = ScriptedEncoder(rig)
    rig.sender.encoding = USUAL
    rig.sender.set_source(Ticking(15))
    await asyncio.sleep(1)
    sent = rig.sender.stats().packets
    rig.path.closed = True
    before = len(encoder.calls)
    await asyncio.sleep(1)
    assert len(encoder.calls) > before
    assert rig.sender.stats().packets == sent
    assert rig.transport.counters.dropped.unsent > 0
    await rig.close()


async def test_closing_leaves_nothing_behind() -> None:
    async with no_leaks():
        rig = Rig()
        source = TestPattern(640, 360, 30)
        rig.sender.encoding = USUAL
        rig.sender.set_source(source)
        await eventually(lambda: len(rig.got) > 5)
        start = time.monotonic()
        await asyncio.gather(rig.sender.close(), rig.sender.close())
        assert time.monotonic() - start < 1
        assert not {WANTS, ARRIVALS} & set(rig.transport.on_kind)
        with pytest.raises(CallClosed):
            rig.sender.set_source(source)
        rig.sender.encoding = None
        rig.sender.encoding = USUAL
        assert rig.sender.stats().frames_encoded > 0
        await rig.close()
        unused = Rig()
        await unused.close()


async def test_closing_does_not_wait_for_a_source_that_will_not_end() -> None:
    class Stubborn(Ticking):
        ends = False

        async def read(self) -> VideoFrame | None:
            while not self.ends:
                try:
                    await asyncio.sleep(0.1)
                except asyncio.CancelledError:
                    continue
            return None

        def close(self) -> None:
            super().close()
            raise ValueError

    async with no_leaks():
        rig, source = Rig(), Stubborn()
        rig.sender.set_source(source)
        await asyncio.sleep(0.01)
        start = time.monotonic()
        await rig.close()
        assert time.monotonic() - start < 1
        assert source.closed == 1
        source.ends = True
        await asyncio.sleep(0.15)


# --- real codecs ------------------------------------------------------------------------------------------------------


def decoded(rig: Rig, codec: VideoCodec) -> list[VideoFrame]:
    decoder: Any = av.CodecContext.create("h264" if codec is VideoCodec.H264 else "vp8", "r")
    decoder.thread_count, decoder.thread_type = 1, "SLICE"
    frames: list[VideoFrame] = []
    for picture in rig.frames():
        if picture[-1].last:
            frames += decoder.decode(av.Packet(b"".join(got.data for got in picture)))
    return frames


@pytest.mark.parametrize("codec", list(VideoCodec))
async def test_what_is_shown_is_seen(codec: VideoCodec) -> None:
    async with no_leaks():
        rig = Rig(codec)
        rig.sender.encoding = Encoding(600_000, 30, 180)
        rig.sender.set_source(TestPattern(640, 360, 30))
        await asyncio.sleep(KEYFRAME_SECONDS)
        await rig.want(keyframe=True)
        await eventually(lambda: rig.sender.stats().keyframes == 2)
        rig.sender.encoding = Encoding(300_000, 30, 90)
        await eventually(lambda: rig.sender.stats().height == 90)
        await eventually(lambda: rig.sender.stats().frames_encoded > 15)
        rig.sender.set_source(None)
        await eventually(lambda: rig.sender._pacer.next_at is None)
        await asyncio.sleep(0.01)
        await rig.close()
        frames = decoded(rig, codec)
        numbers = [pattern_number(frame) for frame in frames]
        assert numbers == sorted(set(numbers))
        assert len(numbers) >= 15
        assert [frame.height for frame in frames] == sorted((frame.height for frame in frames), reverse=True)
        assert {frame.height for frame in frames} == {90, 180}
        stats = rig.sender.stats()
        assert (stats.width, stats.height, stats.codec) == (160, 90, codec)
        assert stats.encode_ms > 0
        assert stats.keyframes == 3
        assert sum(bool(frame.key_frame) for frame in frames) <= stats.keyframes


@pytest.mark.parametrize("codec", list(VideoCodec))
async def test_a_source_may_give_what_it_likes(codec: VideoCodec) -> None:
    """Odd sizes, other formats, other sizes midway; and what is too large ends it."""

    async def frames() -> AsyncIterator[VideoFrame]:
        pictures = (
            plain(641, 361, 50),
            plain(640, 360, 60, "rgb24"),
            plain(640, 360, 70, "gray"),
            plain(320, 240, 80, "yuv444p"),
            plain(33, 35, 90),
            scenes(number=1)[0],
            VideoFrame(8192, 8192, "gray"),
        )
        for number, frame in enumerate(pictures):
            yield frame
            await eventually(lambda shown=number: rig.sender.stats().frames_encoded > shown)

    async with no_leaks():
        rig = Rig(codec)
        rig.sender.encoding = Encoding(2_000_000, 30, 360)
        rig.sender.set_source(FramesVideo(frames()))
        await eventually(lambda: rig.ended)
        await eventually(lambda: rig.sender._pacer.next_at is None)
        await asyncio.sleep(0.01)
        assert isinstance(rig.ended[0], MediaError)
        assert "too large" in str(rig.ended[0])
        assert rig.sizes == [(641, 361), (640, 360), (320, 240), (33, 35), (640, 360), (8192, 8192), None]
        sizes = [(frame.width, frame.height) for frame in decoded(rig, codec)]
        assert {(638, 360), (640, 360), (320, 240), (32, 34)} == set(sizes)
        await rig.close()


def test_what_a_call_shows_is_a_source() -> None:
    source: VideoSource = TestPattern()
    assert source.close() is None
