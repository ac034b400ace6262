"""Frames into pictures, in a thread of its own and of low priority: one after the other, two in its hands at most.

FFmpeg's own decoders are used, with one thread each. They refuse a picture that is too large before they make room for
it, which libvpx does not. Whatever they raise ends here: the frame counts as undecodable, and decoding begins anew with
the next keyframe.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from queue import SimpleQueue
from typing import Any

import av
from av import VideoFrame
from av.codec.context import Flags
from av.video.reformatter import VideoReformatter

from relaycall.media.video.bitstream import FrameRefusal, PictureSize
from relaycall.media.video.format import MAX_PIXELS, VideoCodec
from relaycall.media.video.frames import EncodedFrame
from relaycall.media.video.priority import lower_priority
from relaycall.media.video.stream import CLOCK_RATE

IN_HAND = 2  # frames
CLOSE_SECONDS = 0.8
MAX_AHEAD = 1.0  # seconds a timestamp may be ahead of the clock: a recording has no gaps that nobody lived through
TIME_BASE = Fraction(1, CLOCK_RATE)
PIXELS = "yuv420p"


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of one frame: its picture; several if they were out of order, none if it is not for showing."""

    pictures: tuple[VideoFrame, ...] = ()
    refusal: FrameRefusal | None = None


class VideoDecoder:
    """Decodes in a thread that begins with the first frame and ends with `close`.

    Args:
        deliver: called on the event loop with what became of each frame, in their order. Raises nothing.
    """

    def __init__(self, deliver: Callable[[Decoded], None]) -> None:
        self._deliver: Callable[[Decoded], None] | None = deliver
        self._in_hand: deque[EncodedFrame] = deque()
        self._frames: SimpleQueue[EncodedFrame | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    @property
    def has_room(self) -> bool:
        """Whether `decode` may be called."""
        return len(self._in_hand) < IN_HAND and self._deliver is not None

    @property
    def has_keyframe(self) -> bool:
        """Whether a keyframe is in its hands."""
        return any(frame.keyframe for frame in self._in_hand)

    def decode(self, frame: EncodedFrame) -> None:
        """Take a frame. Its size has been looked at."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, name="relaycall-video-decoder", daemon=True)
            self._thread.start()
        self._in_hand.append(frame)
        self._frames.put(frame)

    async def close(self) -> None:
        """Deliver nothing any more and end the thread; one that hangs is left alone after 0.8 s. Raises nothing."""
        self._deliver = None
        if self._thread is not None:
            self._frames.put(None)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), CLOSE_SECONDS)

    def _work(self) -> None:
        lower_priority()
        decoder = FrameDecoder()
        while (frame := self._frames.get()) is not None:
            if self._deliver is not None:  # else it is closed
                self._call(self._done, decoder.decode(frame))
            del frame
        self._call(self._ended.set)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the event loop was closed first
            self._loop.call_soon_threadsafe(function, *args)

    def _done(self, decoded: Decoded) -> None:
        self._in_hand.popleft()
        if self._deliver is not None:
            self._deliver(decoded)


class FrameDecoder:
    """Decodes the frames of one stream, in their order, of one codec after the other."""

    def __init__(self) -> None:
        self._context: Any = None  # None: a keyframe is needed
        self._codec: VideoCodec | None = None
        self._timeline = Timeline()
        self._reformatter = VideoReformatter()

    def decode(self, frame: EncodedFrame) -> Decoded:
        """What becomes of this frame. Raises nothing."""
        try:
            if frame.keyframe and (self._context is None or frame.codec is not self._codec):
                self._context = _context(frame.codec)
                self._codec = frame.codec
            if self._context is None or frame.codec is not self._codec:
                return Decoded(refusal=FrameRefusal.KIND)
            packet = av.Packet(frame.data)
            packet.pts, packet.time_base = self._timeline.pts(frame.timestamp, frame.arrived_at), TIME_BASE
            pictures: list[VideoFrame] = self._context.decode(packet)
            if not all(_is_taken(picture) for picture in pictures):
                self._context = None
                return Decoded(refusal=FrameRefusal.SIZE)
            return Decoded(tuple(self._shown(picture) for picture in pictures))
        except Exception:  # FFmpeg's errors, and what else a damaged stream leads to
            self._context = None
            return Decoded(refusal=FrameRefusal.KIND)

    def _shown(self, picture: VideoFrame) -> VideoFrame:
        if picture.format.name == PIXELS:
            return picture
        return self._reformatter.reformat(picture, format=PIXELS)


class Timeline:
    """The times of pictures: those that their sender says, as far as they can be."""

    def __init__(self) -> None:
        self._pts = -1
        self._timestamp = 0  # of the frame before
        self._began_at: float | None = None

    def pts(self, timestamp: int, arrived_at: float) -> int:
        """When to show a frame, since the first one, on a clock of 90 kHz. Always more than for the one before.

        Args:
            timestamp: 32 bits.
            arrived_at: seconds.
        """
        if self._began_at is None:
            self._began_at, self._timestamp = arrived_at, timestamp - 1
        pts = self._pts + (timestamp - self._timestamp & 0xFFFFFFFF)
        self._timestamp = timestamp
        lived = round((arrived_at - self._began_at) * CLOCK_RATE)
        if not self._pts < pts <= lived + MAX_AHEAD * CLOCK_RATE:
            pts = max(self._pts + 1, lived)
        self._pts = pts
        return pts


def _context(codec: VideoCodec) -> Any:
    context: Any = av.CodecContext.create(codec.value, "r")
    context.thread_count = 1
    context.flags |= Flags.low_delay
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return context


def _is_taken(picture: VideoFrame) -> bool:
    return PictureSize(picture.width, picture.height, picture.width, picture.height).taken
