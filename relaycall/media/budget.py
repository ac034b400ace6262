"""How many packets of a peer's are taken in."""

from __future__ import annotations

from time import monotonic

BUDGET_SECONDS = 5.0


class Budget:
    """So many packets in each 5 s. The clock is read only when they are used up.

    Args:
        packets: as many.
    """

    def __init__(self, packets: int) -> None:
        self._packets = self._left = packets
        self._end = monotonic() + BUDGET_SECONDS

    def take(self) -> bool:
        """Whether there was one left."""
        if not self._left:
            now = monotonic()
            if now < self._end:
                return False
            self._end = now + BUDGET_SECONDS
            self._left = self._packets
        self._left -= 1
        return True
