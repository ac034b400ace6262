"""Pictures into VP8 or H.264, at a bit rate that changes all the time.

A new encoder begins with a keyframe, which costs as much as several frames, so a running one is kept as long as it can
be. FFmpeg does not pass a new bit rate on to libvpx; but what libvpx holds is bits in a second of its frames' clock, so
that clock is made to run faster or slower than ours. libx264 takes a lower rate than the one it was opened with, and
no higher one: it is opened with three times what it is to have, and told at once to have less. Its clock counts
frames: with real times it would hold each frame back until the next.

What cannot be had at the coarsest quantiser libvpx leaves out: fewer pictures, and the rate as it was asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from typing import Any, Protocol

import av
from av import VideoFrame
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from relaycall.errors import MediaError
from relaycall.media.video.format import MAX_HEIGHT, MAX_PIXELS, MAX_WIDTH, Encoding, VideoCodec
from relaycall.media.video.priority import lower_priority
from relaycall.media.video.stream import CLOCK_RATE
from relaycall.worker import Worker

MAX_SOURCE_SIDE = 4096  # pixels, of a frame that is made smaller
ENCODE_SECONDS = 5.0  # for one frame
CLOSE_SECONDS = 0.5
SMOOTHING = 8  # pictures that the time between two is a mean of
MAX_FRAME_SECONDS = 0.25  # between two pictures, as far as the bit rate goes: a pause is not made up for

_NAMES = {VideoCodec.VP8: "libvpx", VideoCodec.H264: "libx264"}
_MIN_SIDE = 16  # pixels
_RANGE = 3.0  # how far the bit rate may go from the one an encoder was opened for
_NEAR = 1.25  # ... to be kept when a keyframe is due anyway
_BUFFER = 0.5  # seconds of the bit rate: how unevenly it may be spent
_NO_KEYFRAMES = 1 << 20  # frames between those that come by themselves
_UNIT_START, _MESSAGE = b"\0\0\1", 6  # of NAL units (ITU-T H.264, table 7-1)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A coded picture.

    Attributes:
        data: a VP8 frame (RFC 6386), or an H.264 access unit as an Annex B stream, with its parameter sets when it is
            a keyframe.
        keyframe: it needs no other.
        width, height: pixels.
    """

    data: bytes
    keyframe: bool
    width: int
    height: int


@cache
def can_encode(codec: VideoCodec) -> bool:
    """Whether this machine's FFmpeg has an encoder for it."""
    try:
        av.Codec(_NAMES[codec], "w")
    except ValueError:  # av's UnknownCodecError is one
        return False
    return True


def coded_size(width: int, height: int, most: int) -> tuple[int, int]:
    """What a picture is made to: even, of the same shape, `most` rows at most, and within what video may have."""
    shrink = min(1.0, most / height, MAX_HEIGHT / height, MAX_WIDTH / width, math.sqrt(MAX_PIXELS / (width * height)))
    return _even(width * shrink), _even(height * shrink)


class VideoEncoder:
    """One stream of coded pictures. The work is done in a thread of low priority, as long as there is something to do.

    Args:
        codec: what to code as.

    Raises:
        MediaError: this machine has no encoder for it.
    """

    def __init__(self, codec: VideoCodec) -> None:
        if not can_encode(codec):
            raise MediaError(f"This machine's FFmpeg cannot code {codec.value} video.", "Send another codec.")
        self._codec = codec
        self._worker = Worker("relaycall-video-encoder")
        self._reformatter = VideoReformatter()
        self._running: _Running | None = None
        self._size = (0, 0)
        self._latest: float | None = None  # when the latest picture was taken
        self._seconds = 0.0  # between two pictures, smoothed

    async def encode(self, frame: VideoFrame, encoding: Encoding, *, keyframe: bool, time: float) -> Encoded | None:
        """Code one picture, which is left as it is.

        Args:
            frame: of any format and size, 4096 × 4096 pixels at most.
            encoding: the step of quality; another size or a much other bit rate makes it a keyframe.
            keyframe: make it one.
            time: when the frame was taken, in seconds on any clock; later than the one before.

        Returns:
            The coded picture; None: it was left out, to hold the bit rate.

        Raises:
            MediaError: the picture is too large, or coding it failed.
        """
        try:
            return await self._worker.run(partial(self._encode, frame, encoding, keyframe, time), ENCODE_SECONDS)
        except MediaError:
            raise
        except TimeoutError:
            raise MediaError(
                f"Coding a picture took longer than {ENCODE_SECONDS:.0f} s.", "Send a smaller picture."
            ) from None
        except Exception:  # FFmpeg's, or what an odd frame makes of it
            raise MediaError("A picture could not be coded.", "Give another video source.") from None

    async def close(self) -> None:
        """Free the encoder. Returns within half a second, with a picture that is being coded."""
        try:
            await self._worker.run(self._free, CLOSE_SECONDS)
        except TimeoutError:
            return

    def _free(self) -> None:
        self._running = None

    def _encode(self, frame: VideoFrame, encoding: Encoding, keyframe: bool, time: float) -> Encoded | None:
        lower_priority()  # each time: the worker's threads come and go
        if not 0 < frame.width <= MAX_SOURCE_SIDE or not 0 < frame.height <= MAX_SOURCE_SIDE:
            raise MediaError(
                f"A picture of {frame.width} × {frame.height} pixels is too large.",
                f"Give a video source of {MAX_SOURCE_SIDE} × {MAX_SOURCE_SIDE} pixels at most.",
            )
        size = coded_size(frame.width, frame.height, encoding.height)
        running = self._running
        if running is None or size != self._size or not running.suits(encoding, _NEAR if keyframe else _RANGE):
            self._running = None  # so that there is none when the next one fails
            running = _Vp8(size, encoding) if self._codec is VideoCodec.VP8 else _H264(size, encoding)
            self._running, self._size, self._latest = running, size, None
        self._measure(time, 1 / encoding.frame_rate)
        picture = self._picture(frame, size)
        picture.pict_type = PictureType.I if keyframe else PictureType.NONE
        packets = running.encode(picture, encoding, self._seconds)
        data = b"".join(bytes(packet) for packet in packets)
        made_keyframe = any(packet.is_keyframe for packet in packets)
        if self._codec is VideoCodec.H264:
            data = _without_messages(data)
        return Encoded(data, made_keyframe, *size) if data else None

    def _measure(self, time: float, usual: float) -> None:
        if self._latest is None:
            self._seconds = usual
        else:
            seconds = max(0.001, min(time - self._latest, max(usual, MAX_FRAME_SECONDS)))
            self._seconds += (seconds - self._seconds) / SMOOTHING
        self._latest = time

    def _picture(self, frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
        """The frame in this size and in the format of both encoders, as one that is ours alone to write on."""
        made = self._reformatter.reformat(frame, *size, "yuv420p", interpolation="AREA", threads=1)
        return made if made is not frame else _copy(frame)


class _Running(Protocol):
    """An encoder that has begun."""

    def suits(self, encoding: Encoding, factor: float) -> bool:
        """Whether it can go on with this bit rate, which is that many times another one at most."""

    def encode(self, picture: VideoFrame, encoding: Encoding, seconds: float) -> list[Any]:
        """The packets, one or none, for a picture. The seconds are those between two pictures."""


class _Vp8:
    def __init__(self, size: tuple[int, int], encoding: Encoding) -> None:
        self._bitrate = rate = encoding.bitrate
        self._ticks = 0.0
        self._context = _context("libvpx", size, encoding, Fraction(1, CLOCK_RATE))
        self._context.qmin, self._context.qmax = 4, 63
        self._context.bit_rate = rate
        self._context.options = {
            "minrate": str(rate),
            "maxrate": str(rate),
            "bufsize": str(int(_BUFFER * rate)),
            "deadline": "realtime",
            "cpu-used": "-8",
            "lag-in-frames": "0",
            "auto-alt-ref": "0",
            "static-thresh": "1",
            "undershoot-pct": "100",
            "overshoot-pct": "15",
            "max-intra-rate": "250",  # per cent of a usual picture, for a keyframe
            "drop-threshold": "30",  # per cent of the buffer: when less is left, a picture is left out
        }
        self._context.open()

    def suits(self, encoding: Encoding, factor: float) -> bool:
        return 1 / factor <= encoding.bitrate / self._bitrate <= factor

    def encode(self, picture: VideoFrame, encoding: Encoding, seconds: float) -> list[Any]:
        step = seconds * CLOCK_RATE * encoding.bitrate / self._bitrate
        picture.pts, picture.duration = round(self._ticks), round(step)
        self._ticks += step
        return list(self._context.encode(picture))


class _H264:
    def __init__(self, size: tuple[int, int], encoding: Encoding) -> None:
        self._frame_rate, self._bitrate = encoding.frame_rate, encoding.bitrate
        self._most = int(_RANGE * encoding.bitrate)
        self._number = 0
        self._context = _context("libx264", size, encoding, Fraction(1, encoding.frame_rate))
        self._context.bit_rate = self._most
        self._context.options = {
            "maxrate": str(self._most),
            "bufsize": str(int(_BUFFER * encoding.bitrate)),
            "preset": "superfast",
            "tune": "zerolatency",
            "profile": "baseline",
            "forced-idr": "1",
            "sc_threshold": "0",  # no keyframes of its own
        }
        self._context.open()

    def suits(self, encoding: Encoding, factor: float) -> bool:
        a_frame = encoding.bitrate / encoding.frame_rate
        return 1 / factor <= a_frame / (self._bitrate / self._frame_rate) <= factor

    def encode(self, picture: VideoFrame, encoding: Encoding, seconds: float) -> list[Any]:
        self._context.bit_rate = min(self._most, int(encoding.bitrate * seconds * self._frame_rate))
        picture.pts = self._number
        self._number += 1
        return list(self._context.encode(picture))


def _context(name: str, size: tuple[int, int], encoding: Encoding, time_base: Fraction) -> Any:
    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.time_base, context.framerate = time_base, Fraction(encoding.frame_rate)
    context.gop_size = _NO_KEYFRAMES
    context.thread_count = 1  # the sound needs the other cores
    return context


def _without_messages(data: bytes) -> bytes:
    """The access unit without SEI (ITU-T H.264, annex D): x264 tells its version there, and a film its subtitles."""
    start, *units = data.split(_UNIT_START)
    return _UNIT_START.join([start, *(unit for unit in units if unit[0] & 0x1F != _MESSAGE)])


def _even(pixels: float) -> int:
    return max(_MIN_SIDE, int(pixels) & ~1)


def _copy(frame: VideoFrame) -> VideoFrame:
    made = VideoFrame(frame.width, frame.height, frame.format.name)
    for source, target in zip(frame.planes, made.planes, strict=True):
        data, stride = memoryview(source), source.line_size
        if stride == target.line_size:
            target.update(bytes(data))
            continue
        used = min(stride, target.line_size)
        rows = (data[n * stride : n * stride + used] for n in range(source.height))
        target.update(b"".join(bytes(row).ljust(target.line_size, b"\0") for row in rows))
    return made
