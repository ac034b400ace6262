"""A piece of a frame: what one packet of video holds. A byte that describes it, and some of the frame.

    descriptor: 1 the first piece of a frame | 2 the frame is a keyframe | other bits 0

The RTP marker is on the last piece of a frame. All its pieces have its timestamp, and consecutive numbers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from relaycall.media.srtp import RTP_HEADER_SIZE
from relaycall.media.video.format import VideoCodec

FIRST, KEYFRAME = 1, 2

_HEADER = struct.Struct("!BBHL")
_LAST = 0x80
_CODECS = {codec.payload_type: codec for codec in VideoCodec}


@dataclass(frozen=True, slots=True)
class Piece:
    """What a packet holds, and when it came, in seconds."""

    data: bytes
    timestamp: int
    first: bool
    last: bool
    keyframe: bool
    codec: VideoCodec
    arrived_at: float

    def may_precede(self, other: Piece) -> bool:
        """Whether the packet after this one can hold the other."""
        if self.last:
            return other.first and other.timestamp != self.timestamp
        return not other.first and (
            (other.timestamp, other.keyframe, other.codec) == (self.timestamp, self.keyframe, self.codec)
        )


def parse_piece(packet: bytes, now: float) -> Piece | None:
    """The piece in an RTP packet with a bare header; None: there is none."""
    if len(packet) <= RTP_HEADER_SIZE + 1:
        return None
    _, kind, _, timestamp = _HEADER.unpack_from(packet)
    descriptor = packet[RTP_HEADER_SIZE]
    codec = _CODECS.get(kind & 0x7F)
    if codec is None or descriptor & ~(FIRST | KEYFRAME):
        return None
    return Piece(
        packet[RTP_HEADER_SIZE + 1 :],
        timestamp,
        bool(descriptor & FIRST),
        bool(kind & _LAST),
        bool(descriptor & KEYFRAME),
        codec,
        now,
    )
