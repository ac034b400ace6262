"""How long our video packets are on their way, and how much of that they wait. Without I/O.

How it works. A packet's transit is its arrival on the peer's clock less its departure on ours. It holds the offset
between the clocks, and so only differences count: a transit less the lowest of the last minute is the time the packet
waited. The peer's clock may drift by 100 ppm: 6 ms in a minute, which is less than matters. Jitter makes single packets
late, a queue makes all of them late; so the queue is the least wait of several packets.

A link that becomes wider shows, too: packets of the same kind are quicker then, on average, than in any second before.
A queue of ours that passes looks the same, but for this: no packet passes a link in less time than its bits take there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

BASE_WINDOW, BASE_PARTS = 10.0, 6  # the lowest transit is that of the last 6 times 10 seconds
CLOCK_JUMP = 10.0  # seconds; no packet waits as long
LATEST = 0.25  # seconds: the window of `queue`
WINDOW = 1.0  # seconds
COVERED = 0.6  # share of a window that must have been seen
FEW = 3  # packets that say nothing
RELIEF, RELIEF_SHARE = 0.006, 0.2  # seconds, and share of their wait, by which packets become quicker on a wider link
RELIEF_LAG = 1.5  # seconds between what is compared
RELIEF_PACKETS = 10
RELIEVED, RELIEVED_SHARE = 0.03, 0.8  # seconds, or share of a packet's time on the link as it was: a wider one is below
MAX_KEPT = 1024  # packets: at the highest rate they come in 3 seconds

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet that came: seconds on our clock and on the peer's, bits on the wire, and seconds it waited."""

    sent_at: float
    arrived_at: float
    bits: int
    wait: float


@dataclass(slots=True)
class Transits:
    """The transits of one direction. Times are in seconds.

    Attributes:
        least: the least wait since `drained`.
    """

    least: float = 0.0
    _arrivals: deque[Arrival] = field(default_factory=lambda: deque(maxlen=MAX_KEPT), repr=False)
    _bases: deque[float] = field(default_factory=lambda: deque(maxlen=BASE_PARTS), repr=False)
    _base_until: float = -NEVER
    _settled_at: float = NEVER
    _means: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_KEPT), repr=False)
    _quickest: float = NEVER  # mean transit of a second, the lowest since settled

    def add(self, now: float, sent_at: float, arrived_at: float, bits: int) -> bool:
        """A packet came. Whether its transit is what could be expected; if not, it is where waits are counted from."""
        transit = arrived_at - sent_at
        expected = not self._bases or abs(transit - min(self._bases)) <= CLOCK_JUMP
        if not expected:
            self.forget()
        if now >= self._base_until or not self._bases:
            self._base_until = now + BASE_WINDOW
            self._bases.append(transit)
        self._bases[-1] = min(self._bases[-1], transit)
        wait = transit - min(self._bases)
        self.least = min(self.least, wait)
        self._arrivals.append(Arrival(sent_at, arrived_at, bits, wait))
        return expected

    @property
    def queue(self) -> float:
        """How long the latest waited at least; 0 if there are none."""
        return min((arrival.wait for arrival in self.window(LATEST)), default=0.0)

    @property
    def late(self) -> float:
        """How long the last two waited at least: a queue that has just begun, and spills; 0 if there are none."""
        return min((arrival.wait for arrival in list(self._arrivals)[-2:]), default=0.0)

    def window(self, seconds: float) -> list[Arrival]:
        """Those that arrived in this time before the latest, in order."""
        since = self._arrivals[-1].arrived_at - seconds if self._arrivals else 0.0
        found = []
        for arrival in reversed(self._arrivals):
            if arrival.arrived_at < since:
                break
            found.append(arrival)
        found.reverse()
        return found

    def waited(self, seconds: float) -> float:
        """The least that any waited in this time; 0 if most of that time was not seen."""
        window = self.window(seconds)
        if len(window) < FEW or window[-1].arrived_at - window[0].arrived_at < COVERED * seconds:
            return 0.0
        return min(arrival.wait for arrival in window)

    def drained(self) -> None:
        """The queue has passed; what was seen of it is of no more use."""
        self._arrivals.clear()
        self.least = NEVER

    def accept(self) -> None:
        """What all waited since `drained` is a property of the path: count from there."""
        if self._bases and self.least < NEVER:
            base = min(self._bases) + self.least
            self._bases.clear()
            self._bases.append(base)
            self._arrivals.clear()
            self.least = 0.0

    def forget(self) -> None:
        """Packets go another way."""
        self._arrivals.clear()
        self._bases.clear()
        self._means.clear()
        self._settled_at, self._quickest, self.least = NEVER, NEVER, 0.0

    # --- relief ------------------------------------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """From now on packets are of another kind."""
        self._settled_at, self._quickest = now, NEVER
        self._means.clear()

    def are_quicker(self, now: float, round_trip: float, capacity: int) -> bool:
        """Whether they are now, by a second's mean, than in any second since they settled. Asked all the time.

        The link had this capacity, in bit/s.
        """
        window = self.window(WINDOW)
        if now < self._settled_at + 2 * WINDOW + round_trip or len(window) < RELIEF_PACKETS:
            return False
        mean = sum(arrival.arrived_at - arrival.sent_at for arrival in window) / len(window)
        self._means.append((now, mean))
        while self._means[0][0] < now - RELIEF_LAG:
            self._quickest = min(self._quickest, self._means.popleft()[1])
        base, bits = min(self._bases), sum(arrival.bits for arrival in window) / len(window)
        wait = self._quickest - base
        possible = mean - base < max(RELIEVED, RELIEVED_SHARE * bits / max(capacity, 1))
        return possible and wait < NEVER and mean < self._quickest - RELIEF - RELIEF_SHARE * wait
