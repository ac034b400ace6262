"""Video files, as a source of a call's pictures.

A file is opened and tried when its object is made, before anything goes over the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

from av import VideoFrame

from relaycall.errors import MediaError
from relaycall.media.blocking import Blocking
from relaycall.media.files import decoded, open_container, open_file
from relaycall.media.video.encoder import MAX_SOURCE_SIDE

DECODE_SECONDS = 10.0  # for one frame: longer is a disk that is gone
MAX_STEP = 10.0  # seconds between the times of two frames; more is an error in the file


class VideoFileSource:
    """The pictures of a file. Any format FFmpeg knows; other streams in the file are left alone.

    Frames come at the times that the file says, decoded in a thread, and as the file holds them: telephones put a note
    into theirs to turn them, and it is not followed.

    Args:
        path: of a regular file.
        loop: begin anew at the end, for ever.

    Raises:
        MediaError: it cannot be read, holds no pictures, or some of more than 4096 × 4096 pixels.
    """

    def __init__(self, path: str | Path, *, loop: bool = False) -> None:
        self._name = str(path)
        self._loop = loop
        self._start: float | None = None  # when what has the time 0 is due
        self._previous = 0.0  # time of the latest frame, seconds
        self._file = open_file(path, "video")
        self._container: Any = None
        self._thread = Blocking("relaycall-video-file", self._release)
        self._frames = self._decode()
        try:
            self._first = next(self._frames, None)
        except MediaError:
            self.close()
            raise
        except Exception:  # also of other kinds than av.FFmpegError, when the file is odd enough
            self.close()
            raise MediaError(f"{self._name} is not a video file, or it is damaged.") from None
        if self._first is None:
            self.close()
            raise MediaError(f"{self._name} holds no pictures.")

    async def read(self) -> VideoFrame | None:
        """The next frame, when it is due. None at the end. MediaError: the file broke off."""
        frame, self._first = self._first, None
        if frame is None:
            try:
                frame = await self._thread.run(self._next, DECODE_SECONDS)
            except TimeoutError:
                raise MediaError(f"{self._name} cannot be read any more.", "Check the disk it is on.") from None
            except Exception:
                raise MediaError(f"{self._name} is damaged.") from None
        if frame is not None:
            await asyncio.sleep(max(0.0, self._due(frame) - monotonic()))
        return frame

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._first = None
        self._thread.close()

    def _due(self, frame: VideoFrame) -> float:
        time = float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else None
        if self._start is None or time is None or not 0 <= time - self._previous <= MAX_STEP:
            self._start = monotonic() - (time or 0.0)  # at the first, at a new beginning, and where times make no sense
        self._previous = time or 0.0
        return self._start + self._previous

    def _next(self) -> VideoFrame | None:
        frame = next(self._frames, None)
        if frame is None and self._loop:
            self._container.close()
            self._file.seek(0)
            self._frames = self._decode()
            frame = next(self._frames, None)
        return frame

    def _decode(self) -> Iterator[VideoFrame]:
        self._container = open_container(self._file)
        if not self._container.streams.video:
            return
        stream = self._container.streams.video[0]
        if max(stream.codec_context.width, stream.codec_context.height) > MAX_SOURCE_SIDE:
            raise MediaError(
                f"The pictures of {self._name} are too large.",
                f"Give a file with {MAX_SOURCE_SIDE} × {MAX_SOURCE_SIDE} pixels at most.",
            )
        stream.codec_context.options = {"max_pixels": str(MAX_SOURCE_SIDE**2)}  # what it turns to later on
        yield from decoded(self._container, stream)

    def _release(self) -> None:
        self._frames = iter(())
        if self._container is not None:
            self._container.close()
        self._file.close()
