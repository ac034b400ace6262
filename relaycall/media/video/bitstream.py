"""What a frame of video is, read from its first bytes: before a decoder sees it, and makes room for what it claims.

VP8: the frame tag and the start code (RFC 6386, section 9.1). H.264: the NAL units of an Annex B stream and the
sequence parameter sets among them (ITU-T H.264, sections 7.3.1, 7.3.2.1 and B.1). Both are read more strictly than a
decoder reads them: what two readers could take for two things is refused.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from relaycall.errors import MalformedMessage
from relaycall.media.video.format import MAX_HEIGHT, MAX_PIXELS, MAX_WIDTH, VideoCodec

MAX_UNITS = 64  # NAL units of a frame
MAX_SLICES = 16  # of a frame: a slice of 14 bytes may cost as much as a whole picture
MAX_SETS = 4  # sequence parameter sets of a frame; encoders send one
MAX_PARAMETERS = 2048  # bytes of such a set; scaling lists take 1.7 kB at most

_VP8_TAG, _VP8_KEYFRAME = 3, 10  # bytes
_VP8_START = b"\x9d\x01\x2a"
_MAX_VERSION = 3
_UNIT_START, _FRAME_START = b"\0\0\1", b"\0\0\0\1"  # after three bytes FFmpeg may look for lengths instead
_SLICE, _KEYFRAME_SLICE, _PARAMETERS = 1, 5, 7  # NAL unit types
_PARTITIONS = {2, 3, 4}  # slices in parts: nobody decodes them
_PROFILES = {66, 77, 88}
_PROFILES_WITH_CHROMA = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138}  # in others not all readers look for it


class FrameRefusal(enum.Enum):
    """Why a frame is not decoded. The value is the name of the counter for it."""

    SIZE = "refused_size"  # too large, 0, or not to be found out
    KIND = "undecodable"  # not what its packets say, or nothing that is sent


@dataclass(frozen=True, slots=True)
class PictureSize:
    """The size of a picture in pixels: what is shown, and what is decoded, which is the same or larger."""

    width: int
    height: int
    coded_width: int
    coded_height: int

    @property
    def taken(self) -> bool:
        """Whether it is within the limits."""
        wide, high = self.coded_width, self.coded_height
        return (
            0 < self.width <= wide <= MAX_WIDTH and 0 < self.height <= high <= MAX_HEIGHT and wide * high <= MAX_PIXELS
        )


def frame_refusal(codec: VideoCodec, data: bytes, *, keyframe: bool) -> FrameRefusal | None:
    """Why this frame must not be decoded; None: it may.

    Args:
        codec: that of its packets.
        data: the whole frame.
        keyframe: what its packets say.
    """
    try:
        really = _is_keyframe(codec, data)
    except MalformedMessage:
        return FrameRefusal.KIND
    if really is not keyframe:
        return FrameRefusal.KIND
    if not keyframe:
        return None
    try:
        sizes = picture_sizes(codec, data)
    except MalformedMessage:
        return FrameRefusal.SIZE
    return None if all(size.taken for size in sizes) else FrameRefusal.SIZE


def picture_sizes(codec: VideoCodec, data: bytes) -> list[PictureSize]:
    """The sizes that a keyframe sets: one of VP8, one for each parameter set of H.264.

    Raises:
        MalformedMessage: it is no keyframe, or cannot be read.
    """
    if codec is VideoCodec.VP8:
        return [_vp8_size(data)]
    sets = [unit for unit in _units(data) if _type(unit) == _PARAMETERS]
    if not 0 < len(sets) <= MAX_SETS:
        raise MalformedMessage("It has no parameter set, or too many.")
    return [_h264_size(unit) for unit in sets]


def _is_keyframe(codec: VideoCodec, data: bytes) -> bool:
    if codec is VideoCodec.VP8:
        return _vp8_is_keyframe(data)
    types = [_type(unit) for unit in _units(data)]
    slices = types.count(_SLICE) + types.count(_KEYFRAME_SLICE)
    if not 0 < slices <= MAX_SLICES or _PARTITIONS.intersection(types):
        raise MalformedMessage("It holds no slice of a picture, or too many.")
    keyframe = _KEYFRAME_SLICE in types
    if keyframe is not (_PARAMETERS in types):
        raise MalformedMessage("It is a keyframe without a size, or sets a size and is none.")
    return keyframe


def _vp8_is_keyframe(data: bytes) -> bool:
    if len(data) <= _VP8_TAG:
        raise MalformedMessage("It is too short for a frame.")
    tag = int.from_bytes(data[:_VP8_TAG], "little")
    keyframe = not tag & 1
    rest = len(data) - (_VP8_KEYFRAME if keyframe else _VP8_TAG)
    if tag >> 1 & 7 > _MAX_VERSION or not 0 < tag >> 5 <= rest:
        raise MalformedMessage("Its version is unknown, or its first partition is not whole.")
    return keyframe


def _vp8_size(data: bytes) -> PictureSize:
    if not _vp8_is_keyframe(data) or data[3:6] != _VP8_START:
        raise MalformedMessage("It is not a keyframe.")
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))  # without the scale
    return PictureSize(width, height, width, height)


def _units(data: bytes) -> list[bytes]:
    """The NAL units, each with its header, without trailing zeros."""
    if not data.startswith(_FRAME_START):
        raise MalformedMessage("It does not begin with a NAL unit.")
    units = [unit.rstrip(b"\0") for unit in data.split(_UNIT_START, MAX_UNITS + 1)[1:]]
    if len(units) > MAX_UNITS or not all(units):
        raise MalformedMessage("It has too many NAL units, or an empty one.")
    return units


def _type(unit: bytes) -> int:
    if unit[0] & 0x80:
        raise MalformedMessage("The first bit of a NAL unit is 0.")
    return unit[0] & 0x1F


def _h264_size(unit: bytes) -> PictureSize:
    """Of a sequence parameter set, with its header (ITU-T H.264, section 7.3.2.1.1)."""
    if len(unit) > MAX_PARAMETERS or b"\0\0\0" in unit or b"\0\0\2" in unit:
        raise MalformedMessage("It is too long, or has in it what ends a NAL unit.")
    bits = _Bits(unit[1:].replace(b"\0\0\3", b"\0\0"))
    profile = bits.read(8)
    bits.read(16)  # constraints and level
    bits.golomb(31)  # its identifier
    chroma = 1
    if profile in _PROFILES_WITH_CHROMA:
        chroma = bits.golomb(3)
        if chroma == 3 and bits.read(1):
            chroma = 0  # three planes, each coded as if it were the only one
            lists = 12
        else:
            lists = 12 if chroma == 3 else 8
        bits.golomb(6)  # bit depths
        bits.golomb(6)
        bits.read(1)
        if bits.read(1):
            for number in range(lists):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    elif profile not in _PROFILES:
        raise MalformedMessage("Its profile is unknown.")
    bits.golomb(12)
    _skip_picture_order(bits)
    bits.golomb(16)  # reference frames
    bits.read(1)
    width = 16 * (bits.golomb(MAX_WIDTH) + 1)
    units_high = bits.golomb(MAX_HEIGHT) + 1
    fields = 1 if bits.read(1) else 2
    height = 16 * units_high * fields
    if fields == 2:
        bits.read(1)
    bits.read(1)
    left, right, top, bottom = (bits.golomb() for _ in range(4)) if bits.read(1) else (0, 0, 0, 0)
    wide_step, high_step = (2 if chroma in (1, 2) else 1), (2 if chroma == 1 else 1) * fields
    return PictureSize(width - wide_step * (left + right), height - high_step * (top + bottom), width, height)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last


def _skip_picture_order(bits: _Bits) -> None:
    kind = bits.golomb(2)
    if kind == 0:
        bits.golomb(12)
    elif kind == 1:
        bits.read(1)
        bits.signed_golomb()
        bits.signed_golomb()
        for _ in range(bits.golomb(255)):
            bits.signed_golomb()


class _Bits:
    """Bits from the first on, as text: to look for a one in it takes no time, and a peer may send thousands of zeros.

    MalformedMessage: there are no more, or a number is too large.
    """

    def __init__(self, data: bytes) -> None:
        self._bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""
        self._at = 0

    def read(self, count: int) -> int:
        start, self._at = self._at, self._at + count
        if self._at > len(self._bits):
            raise MalformedMessage("It is cut off.")
        return int(self._bits[start : self._at], 2)

    def golomb(self, most: int = 1 << 16) -> int:
        """An unsigned number in exponential Golomb code (ITU-T H.264, section 9.1)."""
        one = self._bits.find("1", self._at, self._at + 32)
        if one < 0:
            raise MalformedMessage("It is cut off, or a number in it is too large.")
        zeros, self._at = one - self._at, one
        number = self.read(zeros + 1) - 1
        if number > most:
            raise MalformedMessage("A number in it is too large.")
        return number

    def signed_golomb(self) -> int:
        """A signed one (section 9.1.1)."""
        code = self.golomb((1 << 32) - 1)
        return (code + 1) // 2 if code & 1 else -(code // 2)
