"""A camera, as a source of a call's pictures: by FFmpeg's devices, which differ from system to system."""

from __future__ import annotations

import errno
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av import VideoFrame

from relaycall.errors import ConfigError, MediaError
from relaycall.media.blocking import Blocking
from relaycall.media.video.format import MAX_HEIGHT, MAX_WIDTH

OPEN_SECONDS = 10.0  # a system may ask its user first
STILL_SECONDS = 5.0  # without a picture: it hangs
MAX_DEVICES = 8  # that are tried

_POLL_SECONDS = 0.005
_CHOOSE = "Check it, or choose another one."


@dataclass(frozen=True, slots=True)
class Input:
    """What FFmpeg is told to open.

    Attributes:
        name: of the camera.
        device: how FFmpeg calls the system's cameras.
        options: what to ask the camera for.
    """

    name: str
    device: str
    options: dict[str, str]


class CameraSource:
    """The pictures of a camera. It is switched on when it is first read, or by `open`.

    Args:
        device: as the system calls it: `/dev/video0` on Linux, a number or a name on macOS, a name on Windows. None:
            the first one that works.
        width, height, frame_rate: what to ask it for: 16 to 1920 pixels, 1 to 60 frames a second. It may give others.

    Raises:
        ConfigError: a value is out of range.
        MediaError: there is no such camera.
    """

    def __init__(self, device: str | None = None, *, width: int = 640, height: int = 360, frame_rate: int = 15) -> None:
        if not 16 <= width <= MAX_WIDTH or not 16 <= height <= MAX_HEIGHT or not 1 <= frame_rate <= 60:
            raise ConfigError("A camera is asked for 16 to 1920 pixels, and for 1 to 60 frames a second.")
        options = {"video_size": f"{width}x{height}", "framerate": str(frame_rate)}
        self._inputs = inputs(sys.platform, device, options)
        if not self._inputs:
            raise MediaError("There is no camera.", "Plug one in, or call without video.")
        self._container: Any = None
        self._closed = False
        self._thread = Blocking("relaycall-camera", self._release)

    async def open(self) -> None:
        """Switch it on now, to know that it works. A second call does nothing.

        Raises:
            MediaError: it is busy, we may not use it, or it does not answer within 10 s.
        """
        if self._container is not None:
            return
        try:
            await self._thread.run(self._open, OPEN_SECONDS)
        except TimeoutError:
            raise MediaError("The camera does not answer.", _CHOOSE) from None

    async def read(self) -> VideoFrame | None:
        """The next picture. MediaError: as `open`, or it was unplugged, or gave none for 5 s."""
        await self.open()
        try:
            return await self._thread.run(self._next, STILL_SECONDS)
        except Exception:  # FFmpeg's, as soon as it is unplugged; TimeoutError when it hangs
            raise MediaError("The camera gives no more pictures.", _CHOOSE) from None

    def close(self) -> None:
        """Switch it off. Idempotent."""
        self._closed = True
        self._thread.close()

    def _open(self) -> None:
        refused: MediaError | None = None
        for one in self._inputs:
            try:
                self._container = av.open(one.name, "r", format=one.device, options=one.options)
                return
            except Exception as error:  # av.FFmpegError, or ValueError: not in this FFmpeg
                refused = refused or _refusal(error)
        if refused is not None:
            raise refused

    def _next(self) -> VideoFrame:
        while True:
            try:
                frame: VideoFrame | None = next(self._container.decode(video=0), None)
                if frame is None:
                    raise EOFError
                return frame
            except BlockingIOError:  # nothing yet
                if self._closed:
                    raise
                time.sleep(_POLL_SECONDS)

    def _release(self) -> None:
        if self._container is not None:
            self._container.close()


def inputs(system: str, device: str | None, options: dict[str, str]) -> list[Input]:
    """What to try, in this order, to open a camera. None: there is none.

    Args:
        system: as `sys.platform`.
        device: the camera; None for any.
        options: what to ask it for.
    """
    if system == "darwin":  # it refuses what it cannot do, and many do 30 frames a second only
        size = {"video_size": options["video_size"]}
        wishes = [options, size | {"framerate": "30"}, {"framerate": "30"}]
        return [Input(f"{device or 'default'}:none", "avfoundation", wish) for wish in wishes]
    if system == "win32":
        names = [device] if device else [found.name for found in _found("dshow")]
        return [Input(f"video={name}", "dshow", wish) for name in names[:MAX_DEVICES] for wish in (options, {})]
    paths = [device] if device else sorted(str(path) for path in Path("/dev").glob("video[0-9]*"))
    return [Input(path, "v4l2", options) for path in paths[:MAX_DEVICES]]


def _found(device: str) -> list[Any]:
    """The cameras that FFmpeg lists: newer versions of it, on some systems."""
    try:
        from av.device import enumerate_input_devices

        return [found for found in enumerate_input_devices(device) if "video" in found.media_types]
    except Exception:
        return []


def _refusal(error: Exception) -> MediaError:
    """Why a camera could not be opened. What FFmpeg says is not passed on."""
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        return MediaError(
            "The camera may not be used.", "Allow it in the system's settings; on Linux, join the group video."
        )
    if number == errno.EBUSY:
        return MediaError("The camera is in use.", "Close the other program that uses it.")
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return MediaError("There is no such camera.", "Plug it in, or choose another one.")
    return MediaError("The camera cannot be used.", _CHOOSE)
