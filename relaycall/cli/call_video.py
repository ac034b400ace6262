"""The video of a call at the terminal: what it shows, and where the call is recorded. Nothing is seen on a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from relaycall.errors import RelaycallError
from relaycall.media.audio import AudioSink
from relaycall.media.video.camera import CameraSource
from relaycall.media.video.files import VideoFileSource
from relaycall.media.video.movie import Movie
from relaycall.media.video.sinks import VideoSink
from relaycall.media.video.sources import TestPattern, VideoSource

CAMERA, PATTERN = "camera", "test"
MAX_STEP = 10.0  # seconds between two pictures of a file; what is more is no time
MAX_LATE = 1.0  # seconds by which it hurries to catch up

Failed = Callable[[RelaycallError], object]


def check_video(video: str | None) -> None:
    """Before the call. Raises MediaError: what is to be shown cannot be opened."""
    source = _file_of(video)
    if source is not None:
        source.close()
    elif video is not None and _is_camera(video):
        _camera(video).close()


class CallVideo:
    """Opens what was asked for.

    Args:
        video: "camera", "camera:" and a device, "test", a file, or None.
        record: a file to record into, or None.
        failed: called with the error of what cannot be opened, which is then left out; otherwise it is raised.

    Attributes:
        first: what to show at first; the call closes it.
        recording: the file, if there is one. With it video is taken.
        wanted: whether something is to be shown.

    Raises:
        MediaError: something cannot be opened. The rest is closed.
    """

    def __init__(self, video: str | None, record: Path | None, failed: Failed | None = None) -> None:
        self.first: VideoSource | None = None
        self.recording: Movie | None = None
        self._video = video
        self._file: VideoFileSource | None = None
        for open_one in (self._open_video, lambda: self._open_recording(record)):
            try:
                open_one()
            except RelaycallError as error:
                if failed is None:
                    self._close_sources()
                    raise
                failed(error)
        self.wanted = self.first is not None

    @property
    def picture_sink(self) -> VideoSink | None:
        """Where what is seen goes, if anywhere."""
        return self.recording.pictures if self.recording is not None else None

    @property
    def sound_sink(self) -> AudioSink | None:
        """Where what is heard goes besides, if anywhere."""
        return self.recording.sound if self.recording is not None else None

    def again(self) -> VideoSource | None:
        """What to show after a pause; the call closes it. A file goes on where it was, a camera is switched on again.

        Raises:
            MediaError: there is no camera any more.
        """
        if self._video is None:
            return None
        if self._video == PATTERN:
            return TestPattern()
        if _is_camera(self._video):
            return _camera(self._video)
        return _Onward(self._file) if self._file is not None else None

    async def close(self) -> None:
        """Close all of it, and wait until the recording is complete, five seconds at most."""
        self._close_sources()
        if self.recording is not None:
            self.recording.close()
            await asyncio.to_thread(self.recording.wait)

    def _open_video(self) -> None:
        self._file = _file_of(self._video)
        self.first = self.again()

    def _open_recording(self, record: Path | None) -> None:
        if record is not None:
            self.recording = Movie(record)

    def _close_sources(self) -> None:
        for source in (self.first, self._file):
            if source is not None:
                source.close()


class _Onward:
    """A file from where it is, at the pace of its pictures' times. What is read on after a pause is late for the file,
    which hurries then.
    """

    def __init__(self, file: VideoFileSource) -> None:
        self._file = file
        self._begun: float | None = None  # when what has the time 0 is due

    async def read(self) -> Any:
        """An av.VideoFrame, or None at the end."""
        frame = await self._file.read()
        if frame is not None and frame.time is not None:
            now = monotonic()
            if self._begun is None or not -MAX_LATE <= self._begun + frame.time - now <= MAX_STEP:
                self._begun = now - frame.time
            await asyncio.sleep(max(0.0, self._begun + frame.time - now))
        return frame

    def close(self) -> None:
        """The file stays open for the next one."""


def _is_camera(video: str) -> bool:
    return video.partition(":")[0] == CAMERA


def _camera(video: str) -> CameraSource:
    return CameraSource(video.partition(":")[2] or None)


def _file_of(video: str | None) -> VideoFileSource | None:
    return None if video is None or video == PATTERN or _is_camera(video) else VideoFileSource(video)
