"""What the peer reports of our voice: the differences between its reports, once a second, checked and smoothed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from relaycall.quality.ladder import AUDIO_PACKETS
from relaycall.quality.sample import PeerReport

OUTAGE = 2.5  # seconds without a report: what was lost then is no share that says anything of now
WINDOW = 3  # reports
MAX_QUEUE = 60.0  # seconds
REMEMBERED = 35.0  # seconds after which the peer has forgotten how quick the path was before, and its report came


@dataclass(slots=True)
class Hearing:
    """How our voice arrives.

    Attributes:
        received: packets, since the report before the last.
        loss: share that was lost in the time of the last three reports.
        latest_loss: that of the last report alone.
        queue: how long it waited on the way on average, in seconds, by the last; without what is the path's own.
        reports: so many were taken.
        at: when the last was.
        since: from when on its packets are; the end of an outage, if there was one.
    """

    received: int = 0
    loss: float = 0.0
    latest_loss: float = 0.0
    queue: float = 0.0
    reports: int = 0
    at: float = float("-inf")
    since: float = float("-inf")
    _standing: float = 0.0  # seconds of the queue that are the path's own, and until when the peer counts them
    _standing_until: float = float("-inf")
    _last: PeerReport = field(default=PeerReport(), repr=False)
    _shares: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=WINDOW), repr=False)

    def take(self, now: float, report: PeerReport) -> bool:
        """Whether it can be true. What cannot is not taken."""
        if not (0 <= report.received < 2**32 and 0 <= report.lost < 2**32 and 0 <= report.queue_ms < 1000 * MAX_QUEUE):
            return False
        received, lost = report.received - self._last.received, report.lost - self._last.lost
        waited = now - self.at
        first, self.since, self._last = self.reports == 0, now if waited >= OUTAGE else self.at, report
        self.at = now
        self.reports += 1
        if first or received < 0:
            received = lost = 0
        # A packet that came late after all is no longer lost. More than were sent: they are from an outage before.
        lost = max(lost, 0)
        self.received, self.queue = received, report.queue_ms / 1000
        if now >= self._standing_until or self.queue < self._standing / 2:
            self._standing = 0.0
        self.queue = max(self.queue - self._standing, 0.0)
        self.latest_loss = 0.0
        if received + lost and waited < OUTAGE and received + lost < 1.5 * AUDIO_PACKETS * max(waited, 1.0):
            self._shares.append((received, lost))
            self.latest_loss = lost / (received + lost)
        total = sum(received + lost for received, lost in self._shares)
        self.loss = sum(lost for _, lost in self._shares) / total if total else 0.0
        return True

    def stands(self, now: float, queue: float) -> None:
        """Of what the peer reports so many seconds are the path's own: it has become longer. 0: it is another path."""
        self._standing = self._standing + queue if queue else 0.0
        self._standing_until = now + REMEMBERED
