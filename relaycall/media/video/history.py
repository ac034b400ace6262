"""The packets of video that were just sent, and which of them are sent again, without I/O.

How it works. The peer asks for what it misses, and who asks may be anybody's program: whatever it asks for, it gets a
packet twelve times at most, no copy before the last one can have been missed, and no more in any second than half of
the bit rate, or 10 packets where that is more. What it asks for beyond that is not kept. It may ask for the second copy
when half a round trip has passed since the first, which it then has not seen: where losses are many and the way is long
it has no time to wait. A question that comes twice is answered once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from relaycall.media.video.feedback import unwrapped
from relaycall.media.video.format import MIN_BITRATE

KEPT_SECONDS, KEPT_PACKETS = 2.5, 512
MAX_TIMES = 12  # that a packet is sent again
SHARE = 2  # half of the bit rate ...
MIN_PACKETS = 10  # ... or so many in a second
MIN_INTERVAL = 0.05  # seconds between two copies of a packet
EXTRA = 4  # a quarter of the bit rate may be sent again on top of it


@dataclass(slots=True)
class _Kept:
    packet: bytes
    sent_at: float
    times: int = 0  # that it was sent again,
    latest: float = float("-inf")  # and when


class PacketHistory:
    """What was sent within the last 2.5 s, 512 packets at most.

    Attributes:
        refused: packets that the peer asked for and does not get; those that it just got are not counted.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._packets: OrderedDict[int, _Kept] = OrderedDict()
        self._again: deque[tuple[float, int]] = deque()  # of the last second: when, and bytes
        self._again_bytes = 0

    def add(self, number: int, packet: bytes, now: float) -> None:
        """A packet was sent; its number is higher than the one before."""
        self._packets[number] = _Kept(packet, now)
        self._forget(now)

    def again(self, wanted: tuple[int, ...], *, bitrate: int, round_trip: float, now: float) -> list[tuple[int, bytes]]:
        """Numbers and packets that are to be sent again.

        Args:
            wanted: sequence numbers, of 16 bits.
            bitrate: of the video, bit/s.
            round_trip: to the peer, seconds.
            now: seconds.
        """
        self._forget(now)
        found = []
        for low in wanted:
            number = unwrapped(low, next(reversed(self._packets), 0))
            kept = self._packets.get(number)
            if kept is not None and now - kept.latest < max(round_trip / 2, MIN_INTERVAL):
                continue
            if kept is None or kept.times >= MAX_TIMES or not self._affordable(len(kept.packet), bitrate):
                self.refused += 1
                continue
            kept.times += 1
            kept.latest = now
            self._again.append((now, len(kept.packet)))
            self._again_bytes += len(kept.packet)
            found.append((number, kept.packet))
        return found

    def rest(self, bitrate: int, now: float) -> int:
        """What pictures may have of a bit rate, bit/s: not what is sent again beyond a quarter, but half at least."""
        self._forget(now)
        return max(MIN_BITRATE, bitrate // 2, min(bitrate, bitrate + bitrate // EXTRA - 8 * self._again_bytes))

    def _affordable(self, size: int, bitrate: int) -> bool:
        return len(self._again) < MIN_PACKETS or (self._again_bytes + size) * 8 <= bitrate / SHARE

    def _forget(self, now: float) -> None:
        packets, again = self._packets, self._again
        while packets and (len(packets) > KEPT_PACKETS or now - next(iter(packets.values())).sent_at > KEPT_SECONDS):
            packets.popitem(last=False)
        while again and now - again[0][0] >= 1.0:
            self._again_bytes -= again.popleft()[1]
