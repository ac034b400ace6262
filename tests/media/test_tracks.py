"""Sound between a call and other programs: tracks and frames in, a track out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiortc import AudioStreamTrack, VideoStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from relaycall.errors import ConfigError, MediaError
from relaycall.media.audio import FRAME_BYTES, SILENCE, SilenceSource, pcm_frame
from relaycall.media.tracks import AHEAD, WAITING, FramesSource, HeardTrack, TrackSource, source_of
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.waiting import eventually


def loud(value: int) -> bytes:
    return value.to_bytes(2, "little") * (FRAME_BYTES // 2)


def frame(samples: int, rate: int, value: int = 1000) -> AudioFrame:
    made = AudioFrame(format="s16", layout="mono", samples=samples)
    made.planes[0].update(value.to_bytes(2, "little") * samples)
    made.sample_rate = rate
    return made


async def some(count: int, samples: int = 960, rate: int = 48000) -> AsyncIterator[AudioFrame]:
    for number in range(count):
        yield frame(samples, rate, number + 1)


async def read_all(source: FramesSource, most: int = 400) -> list[bytes]:
    found = []
    for _ in range(most):
        pcm = source.read()
        if pcm is None:
            return found
        found.append(pcm)
        await asyncio.sleep(0)
    raise AssertionError("it does not end")


async def test_a_track_that_is_closed_twice_keeps_what_waits() -> None:
    heard = HeardTrack()
    for number in range(WAITING - 1):
        heard.write(pcm_frame(SILENCE, number))
    heard.close()
    heard.close()
    for number in range(WAITING - 1):
        assert (await heard.recv()).pts == number
    with pytest.raises(MediaStreamError):
        await heard.recv()


async def test_frames_are_heard_once_in_order_and_then_it_ends() -> None:
    source = FramesSource(some(5))
    assert source.read() == SILENCE  # reading begins with the first
    await eventually(lambda: source._task is not None and source._task.done())
    assert await read_all(source) == [loud(number) for number in (1, 2, 3, 4, 5)]
    assert source.read() is None


async def test_a_piece_that_is_left_is_filled_up_with_silence() -> None:
    source = FramesSource(some(1, samples=100))
    source.read()
    await eventually(lambda: source._task is not None and source._task.done())
    (only,) = await read_all(source)
    assert only == (1).to_bytes(2, "little") * 100 + bytes(FRAME_BYTES - 200)


async def test_another_rate_is_resampled() -> None:
    source = FramesSource(some(50, samples=160, rate=8000))
    source.read()
    await asyncio.sleep(0.05)
    heard = [pcm for pcm in await read_all(source) if pcm != SILENCE]
    assert 48 <= len(heard) <= 51


async def test_it_is_read_no_faster_than_it_is_needed() -> None:
    taken = 0

    async def endless() -> AsyncIterator[AudioFrame]:
        nonlocal taken
        while True:
            taken += 1
            yield frame(960, 48000)

    source = FramesSource(endless())
    source.read()
    await asyncio.sleep(0.05)
    assert taken <= AHEAD // FRAME_BYTES + 2
    before = taken
    for _ in range(10):
        source.read()
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert before < taken <= before + 12
    source.close()
    await asyncio.sleep(0)


async def test_frames_that_fail_are_an_error_after_what_came() -> None:
    async def broken() -> AsyncIterator[AudioFrame]:
        yield frame(960, 48000)
        raise ValueError("canary")

    source = FramesSource(broken())
    source.read()
    await asyncio.sleep(0.01)
    assert source.read() == loud(1000)
    with pytest.raises(MediaError) as failed:
        source.read()
    assert "canary" not in str(failed.value)


async def test_a_track_is_a_source_and_is_stopped_with_it() -> None:
    track = AudioStreamTrack()
    source = source_of(track)
    assert isinstance(source, TrackSource)
    source.read()
    await asyncio.sleep(0.05)
    assert source.read() == SILENCE
    source.close()
    assert track.readyState == "ended"
    await asyncio.sleep(0)


async def test_a_track_that_ends_ends_the_sound() -> None:
    track = AudioStreamTrack()
    source = TrackSource(track)
    source.read()
    track.stop()
    await asyncio.sleep(0.05)
    await read_all(source)


def test_what_gives_no_sound_is_refused() -> None:
    source = SilenceSource()
    assert source_of(source) is source
    for wrong in (None, 5, "speech.ogg"):
        with pytest.raises(ConfigError):
            source_of(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        TrackSource(VideoStreamTrack())


async def test_what_is_heard_is_a_track() -> None:
    heard = HeardTrack()
    first, second = pcm_frame(loud(1), 0), pcm_frame(loud(2), 960)
    heard.write(first)
    heard.write(second)
    heard.close()
    assert [await heard.recv(), await heard.recv()] == [first, second]
    for _ in range(2):
        with pytest.raises(MediaStreamError):
            await heard.recv()


async def test_a_slow_reader_misses_the_oldest() -> None:
    heard = HeardTrack()
    frames = [pcm_frame(SILENCE, 960 * number) for number in range(3 * WAITING)]
    for one in frames:
        heard.write(one)
    assert await heard.recv() is frames[-WAITING]
    heard.close()
    heard.stop()
