"""When audio arrived, to tell afterwards what a change of path cost: the longest gap, and the packets lost in it.

Without I/O: arrival times come in as arguments. The log holds the latest 256 packets, five seconds of a call.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

SIZE = 256  # packets


class ArrivalLog:
    """The latest new, authentic audio packets in the order of their arrival."""

    def __init__(self) -> None:
        self._packets: deque[tuple[float, int]] = deque(maxlen=SIZE)

    def add(self, now: float, sequence_number: int) -> None:
        """Note one packet. It must not have been noted before: SRTP's replay protection sees to that."""
        self._packets.append((now, sequence_number))

    def gap_ms(self, since: float) -> float:
        """The longest interval, in ms, between one arrival and the next, of those that ended at `since` or later.

        An interval that began before `since` counts in full. 0.0 while no such interval is known.
        """
        times = [time for time, _ in self._packets]
        gaps = (after - before for before, after in pairwise(times) if after >= since)
        return max(gaps, default=0.0) * 1000

    def lost(self, since: float) -> int:
        """How many packets did not arrive, of those between the latest one before `since` and the latest one now.

        One that is still on its way counts as lost until it arrives. 0 while nothing is known.
        """
        before = [number for time, number in self._packets if time < since]
        after = [number for time, number in self._packets if time >= since]
        if not after:
            return 0
        start = before[-1] if before else after[0]
        # Numbers of 16 bits, counted from `start`; the second half of the circle lies before it.
        ahead = [(number - start + 0x8000 & 0xFFFF) - 0x8000 for number in before + after]
        first = max(ahead[: len(before)], default=0)
        return max(max(ahead) - first - sum(place > first for place in ahead), 0)
