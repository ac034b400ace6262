"""Which share of our video packets is lost, and whether it is because of the rate we send at. Without I/O.

How it works. Numbers follow each other, so a gap among those that arrived is a loss, and it is seen at once. Some paths
lose packets whatever is sent. Such a loss is `inherent`; it is learnt when less was sent and the loss stayed, and is
forgotten as it goes. Beyond it up to 10 % is tolerated. For two seconds after the rate was raised much less is: 3 %
more than before, since a policer shows at once. Chance is allowed for, and so are bursts: to be taken for ours, losses
must be in more than half of the messages of a second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

TOLERATED, TOLERATED_TRIAL = 0.10, 0.03  # shares
TRIAL = 2.0  # seconds
WINDOW, LONG_WINDOW = 1.0, 10.0  # seconds
PACKETS, LONG_PACKETS = 15, 100  # to tell a share from
CHANCE = 2.5  # standard deviations
PERSISTS = 0.5  # a loss of at least so much of what it was has not changed
MAX_KEPT = 4096  # messages

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class _Count:
    at: float
    due: int
    came: int


@dataclass(slots=True)
class Losses:
    """The losses of one direction. Times are in seconds.

    Attributes:
        latest: share of the last second, or of two if there were few packets.
        mean: share of the last 10 seconds.
        inherent: share that does not depend on our rate.
        excused_until: losses of packets sent before then are not to be told.
    """

    latest: float = 0.0
    mean: float = 0.0
    inherent: float = 0.0
    excused_until: float = -NEVER
    _packets: int = 0  # that `latest` is of
    _counts: deque[_Count] = field(default_factory=lambda: deque(maxlen=MAX_KEPT), repr=False)
    _trial_until: float = -NEVER
    _before: float = 0.0

    def add(self, now: float, due: int, came: int) -> None:
        """A message told of so many packets, of which so many had come."""
        self._counts.append(_Count(now, due, came))

    def look(self, now: float) -> None:
        """Bring the shares up to date."""
        while self._counts and self._counts[0].at < now - LONG_WINDOW:
            self._counts.popleft()
        self.latest, self._packets = self._share(now - WINDOW)
        if self._packets < PACKETS:
            self.latest, self._packets = self._share(now - 2 * WINDOW)
        self.mean, _ = self._share(-NEVER)

    def raised(self, now: float, round_trip: float) -> None:
        """The rate was changed: see whether the loss changes with it, if it is known what it was."""
        self._before, packets = self._share(-NEVER)
        self._trial_until = now + TRIAL + round_trip if packets >= LONG_PACKETS else -NEVER

    def are_ours(self, now: float) -> bool:
        """Whether more is lost than is tolerated, more than chance explains, and all the time."""
        limit = self.inherent + TOLERATED
        if now < self._trial_until:
            limit = min(limit, self._before + TOLERATED_TRIAL)
        chance = CHANCE * (limit * max(1 - limit, 0.0) / max(self._packets, 1)) ** 0.5
        if self._packets < PACKETS or self.latest <= limit + chance:
            self.inherent = min(self.inherent, self.mean)
            return False
        latest = [count.came < count.due for count in self._counts if count.at >= now - WINDOW]
        return 2 * sum(latest) > len(latest)

    def judge(self, before: float) -> bool:
        """Less was sent. Whether the loss is as it was before: then it is inherent."""
        if self.latest < PERSISTS * before:
            return False
        self.inherent = max(self.latest, self.mean)
        return True

    def excuse(self, now: float, since: float) -> None:
        """Losses from then until now, and of all that was sent before now, have a reason that is known."""
        while self._counts and self._counts[-1].at > since:
            self._counts.pop()
        self.excused_until = now

    def forget(self) -> None:
        """Packets go another way."""
        self._counts.clear()
        self.inherent, self._trial_until = 0.0, -NEVER

    def _share(self, since: float) -> tuple[float, int]:
        """Of the packets told of since then: the share that was lost, and how many there were."""
        due = came = 0
        for count in reversed(self._counts):
            if count.at < since:
                break
            due, came = due + count.due, came + count.came
        return (1 - came / due if due else 0.0), due
