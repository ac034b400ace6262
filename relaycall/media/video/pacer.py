"""When each packet of video leaves, without I/O.

How it works. A coded picture is cut into pieces, and those leave one after another at an even rate, so that no burst of
them waits in front of a relay together with the sound. The rate is half as much again as the bit rate: a picture of
usual size has left before the next one comes, and a keyframe takes as long as it takes. What the peer wants again goes
first, at the same rate: pictures wait for it there. When the rate falls, what has not begun to leave is dropped.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from relaycall.media.srtp import RTP_HEADER_SIZE, TAG_SIZE
from relaycall.media.video.pieces import FIRST, KEYFRAME

MAX_PIECE = 1100  # bytes of a picture in a packet: with all headers it passes IPv6, PPPoE and a tunnel
FASTER = 1.5  # than the bit rate

_CATCH_UP = 0.01  # seconds that may be made up for, when we were called late
_OVERHEAD = RTP_HEADER_SIZE + TAG_SIZE  # bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a picture, as it is sent.

    Attributes:
        timestamp: of the picture, on a clock of 90 kHz.
        payload: the descriptor, and up to 1100 bytes.
        last: it ends the picture.
    """

    timestamp: int
    payload: bytes
    last: bool


def pieces_of(data: bytes, timestamp: int, *, keyframe: bool) -> list[Piece]:
    """A coded picture, cut into pieces of nearly equal size."""
    count = -(-len(data) // MAX_PIECE)
    size = -(-len(data) // count)
    kind = KEYFRAME if keyframe else 0
    return [
        Piece(
            timestamp,
            bytes([kind | (FIRST if start == 0 else 0)]) + data[start : start + size],
            start + size >= len(data),
        )
        for start in range(0, len(data), size)
    ]


class Pacer:
    """What waits to be sent.

    Attributes:
        bitrate: of the video, bit/s.
    """

    def __init__(self) -> None:
        self.bitrate = 1
        self._pieces: deque[Piece] = deque()
        self._again: deque[bytes] = deque()
        self._waiting = 0  # bytes
        self._free_at = 0.0  # when the next may leave

    def add(self, pieces: list[Piece]) -> None:
        """A picture."""
        self._pieces.extend(pieces)
        self._waiting += sum(_size(piece) for piece in pieces)

    def add_again(self, packet: bytes) -> None:
        """A packet as it was sent, that the peer wants once more."""
        self._again.append(packet)
        self._waiting += len(packet)

    def trim(self, seconds: float) -> bool:
        """Keep nothing that waits but the rest of a picture that has begun to leave, if that takes no longer than so.

        Returns:
            Whether a picture is broken off.
        """
        self._again.clear()
        rest: deque[Piece] = deque()
        for piece in self._pieces:
            if piece.payload[0] & FIRST:
                break
            rest.append(piece)
        size = sum(_size(piece) for piece in rest)
        broken = self._seconds(size) > seconds
        self._pieces, self._waiting = (deque(), 0) if broken else (rest, size)
        return broken

    def take(self, now: float) -> Piece | bytes | None:
        """What is to be sent now, if anything. Ask until there is nothing."""
        if now < self._free_at or not self._waiting:
            return None
        one: Piece | bytes = self._again.popleft() if self._again else self._pieces.popleft()
        size = _size(one)
        self._waiting -= size
        self._free_at = max(self._free_at, now - _CATCH_UP) + self._seconds(size)
        return one

    @property
    def next_at(self) -> float | None:
        """When to ask again. None: not before something is added."""
        return self._free_at if self._waiting else None

    @property
    def seconds(self) -> float:
        """How long it takes until all that waits has left."""
        return self._seconds(self._waiting)

    def _seconds(self, size: int) -> float:
        return size * 8 / (self.bitrate * FASTER)


def _size(one: Piece | bytes) -> int:
    return len(one) if isinstance(one, bytes) else len(one.payload) + _OVERHEAD
