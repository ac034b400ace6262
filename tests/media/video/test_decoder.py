"""Real frames become pictures, and whatever else is handed to the decoder ends there."""

from __future__ import annotations

import asyncio
import threading
import time
from fractions import Fraction
from typing import Any

import av
import pytest
from av import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.video import decoder as video_decoder
from relaycall.media.video.bitstream import FrameRefusal
from relaycall.media.video.decoder import IN_HAND, Decoded, FrameDecoder, Timeline, VideoDecoder
from relaycall.media.video.format import VideoCodec
from relaycall.media.video.frames import EncodedFrame
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.media.video.coded import H264, STEP, VP8, encode, shade, some_frames, vp8_header
from tests.waiting import eventually

BAD = Decoded(refusal=FrameRefusal.KIND)


def encoded(data: bytes, number: int, keyframe: bool, codec: VideoCodec = VP8) -> EncodedFrame:
    return EncodedFrame(data, number * STEP & 0xFFFFFFFF, keyframe, codec, 100 + number / 30)


def stream(codec: VideoCodec, first: int = 0) -> list[EncodedFrame]:
    return [encoded(data, first + n, keyframe, codec) for n, (data, keyframe) in enumerate(some_frames(codec))]


def shades(results: list[Decoded]) -> list[int]:
    return [shade(picture) for decoded in results for picture in decoded.pictures]


# --- one frame after the other ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_each_frame_is_a_picture(codec: VideoCodec) -> None:
    decoder = FrameDecoder()
    for number, frame in enumerate(stream(codec, first=7)):
        decoded = decoder.decode(frame)
        [picture] = decoded.pictures
        assert shade(picture) == number % 10
        assert (picture.width, picture.height, picture.format.name) == (64, 48, "yuv420p")
        assert (picture.pts, picture.time_base) == (number * STEP, Fraction(1, 90000))


def test_it_begins_with_a_keyframe() -> None:
    frames = stream(VP8)
    decoder = FrameDecoder()
    assert [decoder.decode(frame) for frame in frames[5:10]] == [BAD] * 5
    assert shades([decoder.decode(frame) for frame in frames[10:12]]) == [0, 1]


@pytest.mark.parametrize(("one", "other"), [(VP8, H264), (H264, VP8)])
def test_the_codec_changes_at_a_keyframe(one: VideoCodec, other: VideoCodec) -> None:
    decoder = FrameDecoder()
    first, second = stream(one), stream(other)
    results = [decoder.decode(frame) for frame in (*first[:3], second[1], second[10], second[11], first[20])]
    assert [decoded.refusal for decoded in results] == [None, None, None, FrameRefusal.KIND, None, None, None]
    assert shades(results) == [0, 1, 2, 0, 1, 0]


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_after_a_damaged_frame_it_goes_on_with_a_keyframe(codec: VideoCodec) -> None:
    decoder = FrameDecoder()
    frames = stream(codec)
    assert decoder.decode(frames[0]).refusal is None
    assert decoder.decode(encoded(b"\1" + b"\xff" * 30, 1, False, codec)) == BAD
    assert decoder.decode(frames[1]) == BAD
    assert shades([decoder.decode(frame) for frame in frames[10:12]]) == [0, 1]


@pytest.mark.parametrize("pixels", ["yuv444p", "yuv422p10le", "gray"])
def test_other_formats_are_made_yuv420p(pixels: str) -> None:
    decoder = FrameDecoder()
    for number, (data, keyframe) in enumerate(encode(H264, 3, pixels=pixels)):
        [picture] = decoder.decode(encoded(data, number, keyframe, H264)).pictures
        assert picture.format.name == "yuv420p"
        assert (picture.pts, picture.time_base) == (number * STEP, Fraction(1, 90000))
        assert (picture.width, picture.height) == (64, 48)


def test_the_size_may_change_at_a_keyframe() -> None:
    decoder = FrameDecoder()
    sizes = []
    for size in ((64, 48), (320, 180), (16, 16)):
        [(data, _)] = encode(VP8, 1, *size)
        [picture] = decoder.decode(encoded(data, 0, True)).pictures
        sizes.append((picture.width, picture.height))
    assert sizes == [(64, 48), (320, 180), (16, 16)]


@pytest.mark.parametrize("codec", list(VideoCodec))
def test_a_picture_that_is_too_large_is_refused_by_the_decoder_too(codec: VideoCodec) -> None:
    """Nobody has looked at its size before: there is no room made for it, and it comes out of nowhere."""
    [(data, _)] = encode(codec, 1, 1936, 1096)
    assert FrameDecoder().decode(encoded(data, 0, True, codec)) == BAD
    assert FrameDecoder().decode(encoded(vp8_header(8192, 8192) + bytes(20000), 0, True)) == BAD


def test_a_picture_that_came_out_too_large_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_decoder, "MAX_PIXELS", 1 << 30)
    [(data, _)] = encode(VP8, 1, 1936, 1096)
    decoder = FrameDecoder()
    assert decoder.decode(encoded(data, 0, True)) == Decoded(refusal=FrameRefusal.SIZE)
    assert decoder.decode(encoded(data, 0, False)) == BAD


@given(st.sampled_from(VideoCodec), st.integers(0, 29), st.dictionaries(st.integers(0, 400), st.integers(0, 255)))
def test_damaged_frames_harm_nobody(codec: VideoCodec, place: int, damage: dict[int, int]) -> None:
    frames = stream(codec)
    data = bytearray(frames[place].data)
    for at, byte in damage.items():
        data[at % len(data)] = byte
    decoder = FrameDecoder()
    decoder.decode(frames[0])
    for frame in (encoded(bytes(data), place, frames[place].keyframe, codec), *frames[place + 1 : place + 3]):
        decoded = decoder.decode(frame)
        assert all(picture.width <= 1920 and picture.height <= 1920 for picture in decoded.pictures)
    assert len(decoder.decode(frames[20]).pictures) >= 1


# --- times ------------------------------------------------------------------------------------------------------------


def test_times_are_those_of_the_sender() -> None:
    line = Timeline()
    start = (1 << 32) - 2 * STEP
    assert [line.pts(start + n * STEP & 0xFFFFFFFF, 5.0 + n / 30) for n in range(5)] == [n * STEP for n in range(5)]


def test_jitter_does_not_show() -> None:
    line = Timeline()
    arrivals = [5.0, 5.3, 5.3, 5.31, 5.32]
    assert [line.pts(n * STEP, at) for n, at in enumerate(arrivals)] == [n * STEP for n in range(5)]


def test_a_pause_shows() -> None:
    line = Timeline()
    assert [line.pts(0, 5.0), line.pts(60 * 90000, 65.0)] == [0, 60 * 90000]


@given(st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.floats(0, 5)), min_size=1))
def test_times_rise_and_stay_near_ours(steps: list[tuple[int, float]]) -> None:
    line, now, before = Timeline(), 7.0, -1
    for number, (timestamp, pause) in enumerate(steps):
        now += pause if number else 0
        pts = line.pts(timestamp, now)
        assert before < pts <= (now - 7.0 + 1.0) * 90000 + number + 1
        before = pts


# --- in a thread ------------------------------------------------------------------------------------------------------


def threads() -> int:
    return sum(thread.name == "relaycall-video-decoder" for thread in threading.enumerate())


async def test_frames_go_through_the_thread_in_order() -> None:
    results: list[Decoded] = []
    decoder = VideoDecoder(results.append)
    assert threads() == 0, "made on first use"
    for frame in stream(VP8):
        await eventually(lambda: decoder.has_room)
        decoder.decode(frame)
    await eventually(lambda: len(results) == 30)
    assert shades(results) == [number % 10 for number in range(30)]
    assert threads() == 1
    await decoder.close()
    await eventually(lambda: threads() == 0)


async def test_two_frames_are_in_its_hands_at_most() -> None:
    results: list[Decoded] = []
    decoder = VideoDecoder(results.append)
    frames = stream(VP8)
    for frame in frames[9 : 9 + IN_HAND]:
        assert decoder.has_room
        decoder.decode(frame)
    assert not decoder.has_room
    assert decoder.has_keyframe, "the second of them is one"
    await eventually(lambda: len(results) == IN_HAND)
    assert decoder.has_room
    assert not decoder.has_keyframe
    await decoder.close()


async def test_close_before_the_first_frame_and_twice() -> None:
    decoder = VideoDecoder(lambda decoded: None)
    await decoder.close()
    await decoder.close()
    assert not decoder.has_room


async def test_nothing_is_delivered_after_close() -> None:
    results: list[Decoded] = []
    decoder = VideoDecoder(results.append)
    for frame in stream(VP8)[:2]:
        decoder.decode(frame)
    await decoder.close()
    await asyncio.sleep(0.02)
    assert results == []


async def test_close_does_not_wait_for_a_decoder_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, release = threading.Event(), threading.Event()

    def hang(self: Any, frame: EncodedFrame) -> Decoded:
        begun.set()
        release.wait(10)
        return Decoded()

    monkeypatch.setattr(FrameDecoder, "decode", hang)
    decoder = VideoDecoder(lambda decoded: None)
    decoder.decode(stream(VP8)[0])
    await eventually(begun.is_set)
    start = time.monotonic()
    await decoder.close()
    assert time.monotonic() - start < 2
    release.set()
    await eventually(lambda: threads() == 0)


def test_an_event_loop_that_ended_first() -> None:
    """Nothing to do for the thread but to end."""

    async def begin() -> VideoDecoder:
        decoder = VideoDecoder(lambda decoded: None)
        decoder.decode(stream(VP8)[0])
        return decoder

    decoder = asyncio.run(begin())
    decoder._frames.put(None)
    assert decoder._thread is not None
    decoder._thread.join(5)
    assert not decoder._thread.is_alive()


async def test_what_a_decoder_raises_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> list[VideoFrame]:
        raise MemoryError

    first = stream(VP8)[0]
    monkeypatch.setattr(av.CodecContext, "create", fail)
    assert FrameDecoder().decode(first) == BAD
