"""What is seen, as a track for other programs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import av
import pytest
from aiortc.contrib.media import MediaRecorder, MediaRelay
from aiortc.mediastreams import MediaStreamError

from relaycall.media.video.sinks import WAITING, SeenTrack
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.media.video.coded import picture, shade


async def read_all(track: SeenTrack) -> list[int]:
    found = []
    while True:
        try:
            found.append(shade(await track.recv()))
        except MediaStreamError:
            return found


async def test_frames_come_out_in_order_and_then_it_ends() -> None:
    track = SeenTrack()
    assert track.kind == "video"
    for number in range(WAITING - 1):
        track.write(picture(number, 64, 48))
    track.close()
    assert await read_all(track) == [0, 1]
    assert track.readyState == "ended"


async def test_the_newest_wait_for_a_slow_reader() -> None:
    track = SeenTrack()
    for number in range(100):
        track.write(picture(number, 64, 48))
        assert track._frames.qsize() <= WAITING
    assert [shade(await track.recv()) for _ in range(WAITING)] == [7, 8, 9]


async def test_a_reader_waits_for_the_next() -> None:
    track = SeenTrack()
    reading = asyncio.create_task(track.recv())
    await asyncio.sleep(0)
    track.write(picture(4, 64, 48))
    assert shade(await reading) == 4


async def test_a_stopped_track_keeps_nothing_and_frees_who_waits() -> None:
    track = SeenTrack()
    reading = asyncio.create_task(track.recv())
    await asyncio.sleep(0)
    track.stop()
    with pytest.raises(MediaStreamError):
        await reading
    for number in range(10):
        track.write(picture(number, 64, 48))
    track.close()
    assert track._frames.qsize() <= 1
    with pytest.raises(MediaStreamError):
        await track.recv()


async def test_aiortc_can_relay_and_record_it(tmp_path: Path) -> None:
    seen, path = SeenTrack(), tmp_path / "seen.mp4"
    recorder = MediaRecorder(path)
    recorder.addTrack(MediaRelay().subscribe(seen))
    await recorder.start()
    for number in range(8):
        seen.write(picture(number, 64, 48))
        await asyncio.sleep(0.01)
    seen.close()
    await asyncio.sleep(0.05)
    await recorder.stop()
    with av.open(path) as container:
        assert len(list(container.decode(video=0))) >= 5
