"""Whether a link bears more than before: packets must not wait longer than they were used to. Without I/O.

To go up a step is a trial. It has failed as soon as packets wait for 30 ms more than they did at worst in the two
seconds before it: the queue has only begun then. An encoder takes a second or two until it makes what it may.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

TRIAL = 4.0  # seconds, and a round trip
MORE, UNDONE = 0.03, 0.015  # seconds of waiting beyond what is usual: the trial has failed; it is as before
USUAL = 2.0  # seconds
MAX_KEPT = 1024

NEVER = float("inf")


@dataclass(slots=True)
class Trial:
    """The latest trial. Times are in seconds."""

    _usual: float = 0.0
    _until: float = -NEVER
    _queues: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_KEPT), repr=False)

    def note(self, now: float, queue: float) -> None:
        """So long packets wait."""
        self._queues.append((now, queue))

    def begin(self, now: float, round_trip: float) -> None:
        """More is sent from now on."""
        self._until = now + TRIAL + round_trip
        self._usual = max((queue for at, queue in self._queues if at > now - USUAL), default=0.0)

    def end(self) -> None:
        """Less is sent from now on."""
        self._until = -NEVER

    def limit(self, now: float) -> float:
        """How long packets may wait; infinity when nothing is on trial."""
        return self._usual + MORE if now < self._until else NEVER

    def is_undone(self, queue: float) -> bool:
        """Whether packets wait as long as before the trial."""
        return queue < self._usual + UNDONE
