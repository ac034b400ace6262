"""How long sound waits on its way, without I/O: by how much it comes later than the quickest that came lately.

The transit time of a packet is its arrival by our clock minus its timestamp by the peer's. The two clocks have nothing
to do with each other, so only differences count: the least transit time of the last 30 s is that of a packet that
waited for nothing. Clocks that drift apart by 100 ppm add 3 ms in that time. A path that is longer than the one before
looks like a queue for as long; whoever knows of it begins anew.
"""

from __future__ import annotations

import math
from collections import deque

BLOCK = 0.25  # seconds
BLOCKS = 120  # for the least: 30 s in which packets came
RECENT = 4  # for the mean: the blocks that are over, besides the present one
LONGEST = 20.0  # seconds; what differs by more is another timeline of the peer's


class Queueing:
    """The waiting time of the packets of one stream."""

    def __init__(self) -> None:
        self._over: deque[tuple[float, float, int]] = deque(maxlen=BLOCKS)  # least and sum of transit times, packets
        self._least = math.inf  # of the present block, and so on
        self._sum = 0.0
        self._packets = 0
        self._end = -math.inf
        self._base = 0.0  # the least of the blocks that are over

    def add(self, transit: float, now: float) -> None:
        """Note a packet as it arrives: its transit time and the time, in seconds."""
        if now >= self._end or not -LONGEST < transit - self._base < LONGEST:
            self._begin(transit, now)
        self._sum += transit
        self._packets += 1
        if transit < self._least:
            self._least = transit

    @property
    def mean(self) -> float:
        """Seconds that packets waited on average, in the last second in which some came. 0 while nothing is known."""
        if not self._packets:
            return 0.0
        recent = [*list(self._over)[-RECENT:], (self._least, self._sum, self._packets)]
        mean = sum(block[1] for block in recent) / sum(block[2] for block in recent)
        return max(0.0, mean - min(self._base, self._least))

    def _begin(self, transit: float, now: float) -> None:
        """The present block is over, and another begins."""
        if self._packets:
            self._over.append((self._least, self._sum, self._packets))
        if self._over and not -LONGEST < transit - self._base < LONGEST:
            self._over.clear()
        self._base = min((block[0] for block in self._over), default=transit)
        self._least, self._sum, self._packets = math.inf, 0.0, 0
        self._end = now + BLOCK
