"""Where the pictures of a call come from: files, cameras, patterns, and other programs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import struct
import threading
import time
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from aiortc import AudioStreamTrack, VideoStreamTrack
from av import VideoFrame

from relaycall.errors import CallClosed, ConfigError, MediaError
from relaycall.media.blocking import Blocking
from relaycall.media.video import camera as video_camera
from relaycall.media.video import files as video_files
from relaycall.media.video.camera import CameraSource, Input, inputs
from relaycall.media.video.files import VideoFileSource
from relaycall.media.video.format import Encoding, VideoCodec
from relaycall.media.video.sources import FramesVideo, TestPattern, TrackVideo, pattern_number, video_source_of
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.media.video.test_encoder import Coding, plain
from tests.waiting import eventually

# --- the pattern ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", list(VideoCodec))
@pytest.mark.parametrize("height", [360, 90])
async def test_a_patterns_number_is_read_back_after_coding(codec: VideoCodec, height: int) -> None:
    pattern, coding = TestPattern(), Coding(codec)
    for number in (0, 1, 2, 0x5555, 0xAAAA, 65535, 65536 + 7):
        frame = await coding.through(pattern.draw(number), Encoding(200_000, 15, height))
        assert pattern_number(frame) == number % 65536
    await coding.encoder.close()


async def test_a_pattern_counts_and_keeps_time() -> None:
    pattern = TestPattern(66, 64, 50)
    start = time.monotonic()
    frames = [await pattern.read() for _ in range(6)]
    assert 0.09 < time.monotonic() - start < 2
    assert [pattern_number(frame) for frame in frames if frame] == [0, 1, 2, 3, 4, 5]
    assert bytes(pattern.draw(1).planes[0])[64 * 40 :] != bytes(pattern.draw(2).planes[0])[64 * 40 :], "it moves"


@pytest.mark.parametrize("wrong", [(63, 64, 15), (65, 64, 15), (64, 1922, 15), (64, 64, 0), (64, 64, 61)])
def test_patterns_out_of_range_are_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError):
        TestPattern(*wrong)


# --- frames and tracks ------------------------------------------------------------------------------------------------


async def some(count: int) -> AsyncIterator[VideoFrame]:
    for number in range(count):
        yield plain(64, 64, number)


async def test_frames_come_one_by_one_and_not_without_end() -> None:
    source = video_source_of(some(4))
    assert isinstance(source, FramesVideo)
    start = time.monotonic()
    frames = [await source.read() for _ in range(5)]
    assert [frame and bytes(frame.planes[0])[0] for frame in frames] == [0, 1, 2, 3, None]
    assert time.monotonic() - start > 3.5 / 60, "an iterator that never waits does not take the loop for itself"
    source.close()


async def test_frames_that_fail_or_are_none_are_an_error() -> None:
    async def broken() -> AsyncIterator[VideoFrame]:
        raise ValueError("canary")
        yield

    async def odd() -> AsyncIterator[Any]:
        yield "a picture"

    for frames in (broken(), odd()):
        with pytest.raises(MediaError) as failed:
            await FramesVideo(frames).read()
        assert "canary" not in str(failed.value)


async def test_a_track_is_a_source_and_is_stopped_with_it() -> None:
    track = VideoStreamTrack()
    source = video_source_of(track)
    assert isinstance(source, TrackVideo)
    frame = await source.read()
    assert frame is not None
    assert frame.width == 640
    source.close()
    assert track.readyState == "ended"
    assert await source.read() is None


async def test_what_gives_no_pictures_is_refused() -> None:
    pattern = TestPattern()
    assert video_source_of(pattern) is pattern
    for wrong in (None, 5, "film.mp4"):
        with pytest.raises(ConfigError):
            video_source_of(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        TrackVideo(AudioStreamTrack())


# --- files ------------------------------------------------------------------------------------------------------------


def film(path: Path, numbers: list[int], *, width: int = 64, height: int = 64, rate: int = 50) -> Path:
    """A file of the test pattern's frames with these numbers."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libvpx" if path.suffix in (".webm", ".mkv") else "libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        pattern = TestPattern(width, height)
        for number in numbers:
            container.mux(stream.encode(pattern.draw(number)))
        container.mux(stream.encode(None))
    return path


async def read_all(source: VideoFileSource) -> list[int]:
    numbers = []
    while (frame := await source.read()) is not None:
        numbers.append(pattern_number(frame))
    return numbers


async def read_all_sizes(path: Path) -> list[tuple[int, int]]:
    source, sizes = VideoFileSource(path), []
    while (frame := await source.read()) is not None:
        sizes.append((frame.width, frame.height))
    source.close()
    return sizes


@pytest.mark.parametrize("name", ["film.mp4", "film.webm", "film.mkv"])
async def test_a_file_is_played_once_at_its_own_pace(tmp_path: Path, name: str) -> None:
    source = VideoFileSource(film(tmp_path / name, [1, 2, 3, 5, 8, 13, 21, 34, 55, 89]))
    start = time.monotonic()
    assert await read_all(source) == [1, 2, 3, 5, 8, 13, 21, 34, 55, 89]
    assert 0.16 < time.monotonic() - start < 3
    assert await source.read() is None
    source.close()
    source.close()
    with pytest.raises(MediaError):
        await source.read()


async def test_a_file_begins_anew(tmp_path: Path) -> None:
    source = VideoFileSource(film(tmp_path / "film.mp4", [1, 2, 3], rate=60), loop=True)
    start = time.monotonic()
    numbers = [pattern_number(frame) for _ in range(8) if (frame := await source.read())]
    assert numbers == [1, 2, 3, 1, 2, 3, 1, 2]
    assert time.monotonic() - start > 0.05
    source.close()


async def test_a_file_is_decoded_beside_the_event_loop(tmp_path: Path) -> None:
    threads = set()
    source = VideoFileSource(film(tmp_path / "film.mp4", [1, 2, 3]))
    following = source._next

    def noted() -> VideoFrame | None:
        threads.add(threading.current_thread().name)
        return following()

    source._next = noted  # type: ignore[method-assign]
    await read_all(source)
    assert threads == {"relaycall-video-file"}
    source.close()


async def test_times_that_make_no_sense_do_not_stop_a_film(tmp_path: Path) -> None:
    source = VideoFileSource(film(tmp_path / "film.mp4", [1]))
    frame = source._first
    assert frame is not None
    frame.time_base = Fraction(1, 1000)
    now = time.monotonic()
    for pts in (0, 10**9, None, 5, -(10**9), 20_000):
        frame.pts = pts
        assert source._due(frame) <= now + 1, pts
    source.close()


async def test_files_that_are_none(tmp_path: Path) -> None:
    noise, sound, empty, pipe = (tmp_path / name for name in ("noise.mp4", "sound.wav", "empty.mp4", "pipe"))
    noise.write_bytes(os.urandom(5000))
    empty.write_bytes(b"")
    os.mkfifo(pipe)
    with av.open(str(sound), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=48000)
        silence = av.AudioFrame(format="s16", layout="stereo", samples=960)
        silence.sample_rate = 48000
        container.mux(stream.encode(silence))
    for path in (noise, sound, empty, pipe, tmp_path, tmp_path / "not there.mp4", Path("a\0b")):
        with pytest.raises(MediaError) as refused:
            VideoFileSource(path)
        assert str(path) in str(refused.value)


async def test_a_playlist_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could name a host, and reaching that would show our address."""
    inner = film(tmp_path / "inner.webm", [1, 2, 3])
    playlist = tmp_path / "list.ffconcat"
    playlist.write_text(f"ffconcat version 1.0\nfile {inner.name}\n")
    monkeypatch.chdir(tmp_path)
    with playlist.open("rb") as file, av.open(file) as container:
        assert next(container.decode(video=0)), "without care it is followed"
    with pytest.raises(MediaError):
        VideoFileSource(playlist)


async def test_a_file_that_breaks_off_is_an_error_or_an_end(tmp_path: Path) -> None:
    whole = film(tmp_path / "film.webm", list(range(40)), rate=60).read_bytes()
    cut = tmp_path / "cut.webm"
    cut.write_bytes(whole[: len(whole) // 2])
    source = VideoFileSource(cut)
    numbers = await read_all(source)
    assert numbers == list(range(len(numbers)))
    assert 1 <= len(numbers) < 40
    source.close()


async def test_damage_in_a_file_is_passed_over(tmp_path: Path) -> None:
    data = bytearray(film(tmp_path / "film.webm", list(range(40)), rate=60).read_bytes())
    for position in range(len(data) // 2, len(data) * 3 // 4, 50):
        data[position] ^= 0x55
    (tmp_path / "bad.webm").write_bytes(data)
    source = VideoFileSource(tmp_path / "bad.webm")
    with contextlib.suppress(MediaError):  # more of it than can be passed over
        assert await read_all(source)
    source.close()


async def test_a_file_of_huge_pictures_is_refused(tmp_path: Path) -> None:
    huge = tmp_path / "huge.avi"
    with av.open(str(huge), "w") as container:
        stream: Any = container.add_stream("rawvideo", rate=15)
        stream.width, stream.height, stream.pix_fmt = 48, 52, "yuv420p"
        container.mux(stream.encode(plain(48, 52, 0)))
    assert len(await read_all_sizes(huge)) == 1
    data = huge.read_bytes()
    said = struct.pack("<II", 48, 52)
    assert data.count(said) == 2
    huge.write_bytes(data.replace(said, struct.pack("<II", 8192, 8192)))
    with pytest.raises(MediaError, match="too large"):
        VideoFileSource(huge)


async def test_a_disk_that_hangs_is_an_error_and_closing_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = VideoFileSource(film(tmp_path / "film.mp4", [1, 2, 3]))
    await source.read()
    goes_on = threading.Event()
    monkeypatch.setattr(video_files, "DECODE_SECONDS", 0.05)
    monkeypatch.setattr(source, "_next", goes_on.wait)
    with pytest.raises(MediaError, match="cannot be read any more"):
        await source.read()
    start = time.monotonic()
    source.close()
    assert time.monotonic() - start < 0.5
    assert not source._file.closed, "the thread is in it"
    goes_on.set()
    await eventually(lambda: source._file.closed)


# --- threads ----------------------------------------------------------------------------------------------------------


async def test_what_blocks_is_released_once_and_by_nobody_who_is_beside_a_call() -> None:
    released: list[str] = []
    inside, leave = threading.Event(), threading.Event()
    blocking = Blocking("a name", lambda: released.append(threading.current_thread().name))

    def call() -> int:
        inside.set()
        leave.wait(5)
        assert released == []
        return 5

    running = asyncio.create_task(blocking.run(call, 5))
    await asyncio.to_thread(inside.wait, 5)
    blocking.close()
    blocking.close()
    assert released == []
    leave.set()
    assert await running == 5
    await eventually(lambda: released)
    assert released == ["a name"]
    with pytest.raises(CallClosed):
        await blocking.run(call, 1)
    blocking.close()
    assert len(released) == 1


# --- cameras ----------------------------------------------------------------------------------------------------------


def pretend(monkeypatch: pytest.MonkeyPatch, *names: str, device: str = "lavfi") -> None:
    """Sources of FFmpeg's own in the place of cameras: they come through the same door."""
    found = [Input(name, device, {}) for name in names]
    monkeypatch.setattr(video_camera, "inputs", lambda *_: found)


async def test_a_camera_gives_pictures_until_it_is_unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "testsrc=size=64x64:rate=30:duration=0.2")
    camera = CameraSource()
    for _ in range(6):
        frame = await camera.read()
        assert frame is not None
        assert (frame.width, frame.height) == (64, 64)
    with pytest.raises(MediaError, match="no more pictures"):
        await camera.read()
    camera.close()
    camera.close()


async def test_the_first_camera_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "nonsense", "testsrc=size=32x32")
    camera = CameraSource()
    await camera.open()
    await camera.open()
    assert (await camera.read()) is not None
    camera.close()


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="of Linux")
@pytest.mark.parametrize(("name", "says"), [("/dev/video77", "no such camera"), ("/dev/null", "cannot be used")])
async def test_what_is_no_camera(monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    pretend(monkeypatch, name, device="v4l2")
    camera = CameraSource(name)
    with pytest.raises(MediaError, match=says):
        await camera.read()
    camera.close()


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "may not be used"),
        (errno.EBUSY, "is in use"),
        (errno.ENODEV, "no such camera"),
        (errno.EINVAL, "cannot be used"),
    ],
)
async def test_why_a_camera_is_not_given(monkeypatch: pytest.MonkeyPatch, number: int, says: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "canary")

    pretend(monkeypatch, "a camera")
    monkeypatch.setattr(video_camera.av, "open", refuse)
    camera = CameraSource()
    with pytest.raises(MediaError, match=says) as refused:
        await camera.open()
    assert "canary" not in str(refused.value)
    camera.close()


async def test_a_system_without_such_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "0:none", device="no_such_devices")
    camera = CameraSource()
    with pytest.raises(MediaError, match="cannot be used"):
        await camera.read()
    camera.close()


async def test_a_camera_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = threading.Event()
    pretend(monkeypatch, "a camera")
    monkeypatch.setattr(video_camera, "OPEN_SECONDS", 0.05)
    monkeypatch.setattr(video_camera.av, "open", lambda *_, **__: leave.wait(5))
    camera = CameraSource()
    with pytest.raises(MediaError, match="does not answer"):
        await camera.read()
    camera.close()
    leave.set()


async def test_a_camera_that_has_nothing_yet_is_waited_for_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        asked = 0

        def decode(self, video: int) -> Any:
            self.asked += 1
            if self.asked < 3 or self.asked > 3:
                raise BlockingIOError
            return iter([plain(64, 64, 5)])

        def close(self) -> None:
            self.asked = -1

    slow = Slow()
    pretend(monkeypatch, "a camera")
    monkeypatch.setattr(video_camera.av, "open", lambda *_, **__: slow)
    camera = CameraSource()
    assert await camera.read() is not None
    reading = asyncio.create_task(camera.read())
    await eventually(lambda: slow.asked > 5)
    camera.close()
    with pytest.raises(MediaError):
        await reading
    await eventually(lambda: slow.asked == -1)


def test_which_cameras_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"video_size": "640x360", "framerate": "15"}
    assert inputs("linux", "/dev/video4", options) == [Input("/dev/video4", "v4l2", options)]
    assert [(one.name, one.device) for one in inputs("darwin", None, options)] == [("default:none", "avfoundation")] * 3
    assert inputs("win32", "A camera", options)[0] == Input("video=A camera", "dshow", options)
    assert inputs("win32", None, options) == [], "none is found here"
    devices = [Path(f"/dev/video{number}") for number in range(20)]
    monkeypatch.setattr(video_camera.Path, "glob", lambda *_: iter(devices))
    assert len(inputs("linux", None, options)) == video_camera.MAX_DEVICES
    monkeypatch.setattr(video_camera.Path, "glob", lambda *_: iter([]))
    with pytest.raises(MediaError, match="no camera"):
        CameraSource()
    for wrong in ({"width": 15}, {"height": 1921}, {"frame_rate": 0}):
        with pytest.raises(ConfigError):
            CameraSource("/dev/video0", **wrong)
