"""Video for tests: pictures that can be told apart, coded by real encoders, and cut into packets."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from typing import Any

import av
from av import VideoFrame

from relaycall.media.srtp import RTP_HEADER_SIZE
from relaycall.media.video.format import VideoCodec
from relaycall.media.video.pieces import FIRST, KEYFRAME

VP8, H264 = VideoCodec.VP8, VideoCodec.H264
STEP = 3000  # of the timestamp from frame to frame: 30 a second
PIECE = 1100  # bytes

_OPTIONS = {
    VP8: {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    H264: {"preset": "ultrafast", "tune": "zerolatency", "forced-idr": "1"},
}


def picture(number: int, width: int, height: int, pixels: str = "yuv420p", *, detail: bool = False) -> VideoFrame:
    """Of one grey, which `shade` finds again; with some detail if the frame should be large."""
    frame = VideoFrame(width, height, pixels)
    for index, plane in enumerate(frame.planes):
        value = grey(number) if index == 0 else 128
        if index == 0 and detail:
            plane.update(bytes((7 * n * n + number) % 200 + 20 for n in range(plane.buffer_size)))
        elif "10" in pixels:
            plane.update((4 * value).to_bytes(2, "little") * (plane.buffer_size // 2))
        else:
            plane.update(bytes([value]) * plane.buffer_size)
    frame.pts, frame.time_base = number * STEP, Fraction(1, 90000)
    return frame


def grey(number: int) -> int:
    return 20 + 20 * (number % 10)


def shade(frame: VideoFrame) -> int:
    """The number of the picture, modulo 10."""
    plane = frame.planes[0]
    return round((bytes(plane)[frame.height // 2 * plane.line_size + frame.width // 2] - 20) / 20)


def encoder(codec: VideoCodec, width: int, height: int, pixels: str = "yuv420p", **options: str) -> Any:
    context: Any = av.CodecContext.create({VP8: "libvpx", H264: "libx264"}[codec], "w")
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.time_base, context.framerate = Fraction(1, 90000), Fraction(30)
    context.bit_rate, context.gop_size, context.thread_count = 1_000_000, 1 << 20, 1
    context.options = _OPTIONS[codec] | {name.replace("_", "-"): value for name, value in options.items()}
    return context


def encode(
    codec: VideoCodec,
    count: int,
    width: int = 64,
    height: int = 48,
    pixels: str = "yuv420p",
    *,
    keyframes: Iterable[int] = (),
    detail: bool = False,
    **options: str,
) -> list[tuple[bytes, bool]]:
    """Frames, each with whether it is a keyframe. The first is, and those of these numbers."""
    context = encoder(codec, width, height, pixels, **options)
    found = []
    for number in range(count):
        frame = picture(number, width, height, pixels, detail=detail)
        if number in keyframes:
            frame.pict_type = av.video.frame.PictureType.I
        found += [(bytes(packet), bool(packet.is_keyframe)) for packet in context.encode(frame)]
    assert len(found) == count
    return found


@cache
def some_frames(codec: VideoCodec) -> list[tuple[bytes, bool]]:
    """Thirty small ones, with a keyframe at 0, 10 and 20."""
    return encode(codec, 30, keyframes=(10, 20))


@cache
def one_keyframe(codec: VideoCodec) -> list[tuple[bytes, bool]]:
    """Thirty, of which only the first is one."""
    return encode(codec, 30)


def rtp(number: int, payload: bytes, timestamp: int, *, last: bool, payload_type: int = 97) -> bytes:
    kind = payload_type | (0x80 if last else 0)
    header = struct.pack("!BBHLL", 0x80, kind, number & 0xFFFF, timestamp & 0xFFFFFFFF, 7)
    assert len(header) == RTP_HEADER_SIZE
    return header + payload


def packets_of(
    data: bytes, number: int, timestamp: int, *, keyframe: bool, codec: VideoCodec = VP8, piece: int = PIECE
) -> list[bytes]:
    """The RTP packets of one frame, as the sending half makes them."""
    cuts = [data[start : start + piece] for start in range(0, len(data), piece)]
    return [
        rtp(
            number + index,
            bytes([(0 if index else FIRST) | (KEYFRAME if keyframe else 0)]) + cut,
            timestamp,
            last=index == len(cuts) - 1,
            payload_type=codec.payload_type,
        )
        for index, cut in enumerate(cuts)
    ]


class Stream:
    """Frames into packets, with numbers and timestamps that go on."""

    def __init__(self, number: int = 65530, timestamp: int = (1 << 32) - 5 * STEP, piece: int = PIECE) -> None:
        self.number, self.timestamp, self.piece = number, timestamp, piece

    def packets(self, data: bytes, keyframe: bool, codec: VideoCodec = VP8) -> list[bytes]:
        made = packets_of(data, self.number, self.timestamp, keyframe=keyframe, codec=codec, piece=self.piece)
        self.number += len(made)
        self.timestamp += STEP
        return made


def vp8_header(width: int, height: int, *, keyframe: bool = True, partition: int = 100, version: int = 0) -> bytes:
    """The first bytes of a VP8 frame (RFC 6386, section 9.1)."""
    tag = (0 if keyframe else 1) | version << 1 | 1 << 4 | partition << 5
    return tag.to_bytes(3, "little") + (b"\x9d\x01\x2a" + struct.pack("<HH", width, height) if keyframe else b"")


class BitWriter:
    def __init__(self) -> None:
        self.bits = ""

    def write(self, count: int, value: int) -> BitWriter:
        self.bits += f"{value:0{count}b}" if count else ""
        return self

    def golomb(self, *values: int) -> BitWriter:
        for value in values:
            code = f"{value + 1:b}"
            self.bits += "0" * (len(code) - 1) + code
        return self

    def data(self) -> bytes:
        """With the stop bit, and emulation prevention (ITU-T H.264, section 7.4.1)."""
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        plain = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
        found = bytearray()
        for byte in plain:
            if byte <= 3 and found[-2:] == b"\0\0":
                found.append(3)
            found.append(byte)
        return bytes(found)


def h264_parameters(
    width_units: int,
    height_units: int,
    *,
    profile: int = 66,
    chroma: int | None = None,
    fields: bool = False,
    crop: tuple[int, int, int, int] | None = None,
    lists: bool = False,
    order: int = 2,
    offset: int = 3,
    identifier: int = 0,
) -> bytes:
    """A sequence parameter set with its start code."""
    bits = BitWriter().write(8, profile).write(8, 0).write(8, 40).golomb(identifier)
    if chroma is not None:
        bits.golomb(chroma)
        if chroma == 3:
            bits.write(1, 0)
        bits.golomb(0, 0).write(1, 0).write(1, lists)
        if lists:
            for number in range(12 if chroma == 3 else 8):
                bits.write(1, number % 2)
                if number % 2:  # each step 0, but for the last list, which ends at once: -8
                    size = 16 if number < 6 else 64
                    bits.golomb(*([16] if number == 7 else [0] * size))
    bits.golomb(0)
    bits.golomb(order)
    if order == 0:
        bits.golomb(4)
    elif order == 1:
        bits.write(1, 0).golomb(offset, 4, 2, 5, 6)
    bits.golomb(1).write(1, 0).golomb(width_units - 1, height_units - 1)
    bits.write(1, not fields)
    if fields:
        bits.write(1, 0)
    bits.write(1, 1).write(1, crop is not None)
    if crop is not None:
        bits.golomb(*crop)
    bits.write(1, 0)
    return b"\0\0\0\1\x67" + bits.data()


KEY_SLICE, SLICE, PICTURE_PARAMETERS = b"\0\0\1\x65\x88\x84", b"\0\0\1\x41\x9a\x22", b"\0\0\0\1\x68\xce\x3c\x80"
