"""What a call shows: pictures when they are due.

A source is read again as soon as it has given a frame, and what the call has no room for is left out: the newest
counts. So a source paces itself, and one that is slow slows nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, Protocol

from aiortc import MediaStreamTrack
from av import VideoFrame

from relaycall.errors import ConfigError, MediaError
from relaycall.media.tracks import frames_of
from relaycall.media.video.format import MAX_HEIGHT, MAX_WIDTH

MAX_FRAME_RATE = 60  # frames a second, of an iterator that does not wait
NUMBER_BITS = 16  # of a test pattern's frame counter

_BLACK, _WHITE, _GREY = 16, 235, 128
_STRIPES = bytes(range(_BLACK, _WHITE, 3)) * 2


class VideoSource(Protocol):
    """Where the pictures of a call come from."""

    async def read(self) -> VideoFrame | None:
        """The next frame, when it is due: of any format, 4096 × 4096 pixels at most. None at the end.

        It may be cancelled at any time. MediaError ends the source.
        """

    def close(self) -> None:
        """Release what it holds. Idempotent, returns at once; nothing is read any more."""


Video = VideoSource | MediaStreamTrack | AsyncIterator[VideoFrame]


class TestPattern:
    """Moving stripes without end, below a row of blocks that count the frames.

    Args:
        width, height: pixels, even, 64 to 1920.
        frame_rate: frames a second, 1 to 60.

    Raises:
        ConfigError: a value is out of range.
    """

    __test__ = False  # its name is that of a test

    def __init__(self, width: int = 640, height: int = 360, frame_rate: int = 15) -> None:
        if not 64 <= width <= MAX_WIDTH or not 64 <= height <= MAX_HEIGHT or width % 2 or height % 2:
            raise ConfigError("A test pattern has an even number of pixels from 64 to 1920 in each direction.")
        if not 1 <= frame_rate <= MAX_FRAME_RATE:
            raise ConfigError("Video has 1 to 60 frames a second.")
        self._width, self._height, self._interval = width, height, 1 / frame_rate
        self._number = 0
        self._due: float | None = None

    async def read(self) -> VideoFrame | None:
        now = monotonic()
        due = now if self._due is None or now - self._due > 1 else self._due  # after a stall it begins anew
        self._due = due + self._interval
        await asyncio.sleep(due - now)
        self._number += 1
        return self.draw(self._number - 1)

    def draw(self, number: int) -> VideoFrame:
        """The frame with this number."""
        frame = VideoFrame(self._width, self._height, "yuv420p")
        luma, *chroma = frame.planes
        stride, blocks = luma.line_size, self._height // 4
        step = self._width // NUMBER_BITS
        row = b"".join(bytes([_WHITE if number >> bit & 1 else _BLACK]) * step for bit in range(NUMBER_BITS))
        start = 2 * number % (len(_STRIPES) // 2)
        stripes = (_STRIPES * (stride // len(_STRIPES) + 2))[start : start + stride]
        luma.update(row.ljust(stride, bytes([_GREY])) * blocks + stripes * (self._height - blocks))
        for plane, colour in zip(chroma, (number, -number), strict=True):
            plane.update(bytes([_GREY + (colour % 64) - 32]) * plane.buffer_size)
        return frame

    def close(self) -> None:
        """Nothing to release."""


def pattern_number(frame: VideoFrame) -> int:
    """Which frame of a test pattern this is, coded, made smaller and decoded or not; modulo 65536.

    Args:
        frame: in a format whose first plane is the luma.
    """
    luma = frame.planes[0]
    row = bytes(luma)[frame.height // 8 * luma.line_size :]
    step = frame.width / NUMBER_BITS
    return sum((row[int((bit + 0.5) * step)] > _GREY) << bit for bit in range(NUMBER_BITS))


class FramesVideo:
    """What an asynchronous iterator of frames gives, as fast as it gives them, 60 a second at most.

    Args:
        frames: as a player or a generator gives them.
    """

    def __init__(self, frames: AsyncIterator[VideoFrame]) -> None:
        self._frames = frames
        self._due = 0.0

    async def read(self) -> VideoFrame | None:
        await asyncio.sleep(max(0.0, self._due - monotonic()))
        try:
            frame: Any = await anext(self._frames)
        except StopAsyncIteration:
            return None
        except Exception:  # they may be anybody's
            raise MediaError("Reading the video's frames failed.", "Give another source.") from None
        self._due = monotonic() + 1 / MAX_FRAME_RATE
        if not isinstance(frame, VideoFrame):
            raise MediaError("The video's frames are not av.VideoFrame.", "Give another source.")
        return frame

    def close(self) -> None:
        """Nothing to release: the frames are their owner's."""


class TrackVideo(FramesVideo):
    """The pictures of an aiortc track. `close` stops the track.

    Args:
        track: of kind "video".

    Raises:
        ConfigError: a track of another kind.
    """

    def __init__(self, track: MediaStreamTrack) -> None:
        if track.kind != "video":
            raise ConfigError("A track of this kind holds no pictures.", "Give one of kind video.")
        super().__init__(frames_of(track))
        self._track = track

    def close(self) -> None:
        self._track.stop()


def video_source_of(video: Video) -> VideoSource:
    """What a call shows for this: a source as it is, a track, or frames.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(video, MediaStreamTrack):
        return TrackVideo(video)
    if isinstance(video, AsyncIterator):
        return FramesVideo(video)
    if hasattr(video, "read") and hasattr(video, "close"):
        return video
    raise ConfigError("This gives no video.", "Give a source of relaycall, an aiortc track, or an iterator of frames.")
