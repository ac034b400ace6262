"""Where the pictures of the peer go.

call = await phone.call("bob", video_sink=(seen := SeenTrack()))
recorder.addTrack(seen)
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame

WAITING = 3  # frames that a track holds for a reader; the oldest go first


class VideoSink(Protocol):
    """Takes what is seen. Both are called on the event loop and return at once."""

    def write(self, frame: VideoFrame) -> None:
        """A picture, now: yuv420p, of any size, another than before too; `pts` rises, on a clock of 90 kHz.

        One that raises is given no more.
        """

    def close(self) -> None:
        """There is no more. Idempotent."""


class SeenTrack(MediaStreamTrack):
    """What is seen in a call, as a track for aiortc's recorders and relays. Give it as a call's `video_sink`.

    A reader that is slow misses the oldest frames: three wait for it, and no more.
    """

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._frames: asyncio.Queue[VideoFrame | None] = asyncio.Queue(WAITING)
        self._over = False

    async def recv(self) -> VideoFrame:
        """The next frame. Raises aiortc's MediaStreamError when the call is over."""
        frame = await self._frames.get() if self.readyState == "live" else None
        if frame is None:
            self.stop()
            raise MediaStreamError
        return frame

    def write(self, frame: VideoFrame) -> None:
        """For the call: something is seen."""
        self._put(frame)

    def close(self) -> None:
        """For the call: it is over. What waits can still be read."""
        if not self._over:  # a second end would push out a frame
            self._over = True
            self._put(None)

    def stop(self) -> None:
        """Take and give no more. A reader that waits gets MediaStreamError."""
        super().stop()
        while not self._frames.empty():
            self._frames.get_nowait()
        self._frames.put_nowait(None)

    def _put(self, what: VideoFrame | None) -> None:
        if self.readyState != "live":
            return
        if self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(what)
