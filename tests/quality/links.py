"""A narrow link in virtual time: a queue, delay, loss, other traffic. Sizes are those on the wire, with all headers."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

OTHER = 1200  # bytes of a packet of other traffic


@dataclass(frozen=True)
class Conditions:
    """What a link does. Rates are in bit/s, times in seconds.

    Attributes:
        rate: None for no limit; 0 for a link that stands still and keeps what waits.
        queue: seconds of packets at its rate that may wait; those that come then are dropped.
        policed: drop what is above the rate, and let nothing wait.
        delay: each way.
        jitter: more delay, evenly spread from 0 to this; packets stay in order.
        loss: share of packets that is dropped, in runs of `burst` on average.
        feedback_loss, feedback_delay: of what the receiver tells, and by how much later it is told.
        other: bit/s of other traffic at a constant rate.
        greedy: so many downloads besides, which fill the queue as TCP does.
    """

    rate: float | None = None
    queue: float = 0.3
    policed: bool = False
    delay: float = 0.03
    jitter: float = 0.0
    loss: float = 0.0
    burst: float = 1.0
    feedback_loss: float = 0.0
    feedback_delay: float = 0.0
    other: float = 0.0
    greedy: int = 0


@dataclass(slots=True)
class Packet:
    kind: str
    size: int
    sent_at: float
    number: int = 0


class Clock:
    """Virtual time, and what is to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, time: float, do: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, do, args))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, do, args = heapq.heappop(self._events)
            do(*args)
        self.now = until


class Link:
    """One direction: a queue before a bottleneck, then the way."""

    def __init__(self, clock: Clock, seed: int, conditions: Conditions, deliver: Callable[[Packet], None]) -> None:
        self.conditions = conditions
        self.carried = 0  # bytes that passed the bottleneck
        self.dropped: Callable[[Packet], None] = lambda packet: None
        self._clock, self._deliver = clock, deliver
        self._random = random.Random(seed)
        self._waiting: deque[Packet] = deque()
        self._bytes = 0
        self._busy = False
        self._losing = False
        self._tokens, self._tokens_at = 0.0, 0.0
        self._last_out = 0.0

    @property
    def wait(self) -> float:
        """Seconds that a packet which comes now waits, with its rate as it is."""
        return self._bytes * 8 / self.conditions.rate if self.conditions.rate else 0.0

    def change(self, **what: Any) -> None:
        self.conditions = replace(self.conditions, **what)
        if not self._busy:
            self._serve()

    def send(self, packet: Packet) -> None:
        conditions = self.conditions
        if self._is_lost():
            self.dropped(packet)
        elif conditions.rate is None:
            self._out(packet)
        elif conditions.policed:
            passed = (self._clock.now - self._tokens_at) * conditions.rate / 8
            self._tokens, self._tokens_at = min(self._tokens + passed, 8000.0), self._clock.now
            if self._tokens < packet.size:
                self.dropped(packet)
            else:
                self._tokens -= packet.size
                self._out(packet)
        elif self._bytes + packet.size > max(conditions.queue * conditions.rate / 8, 3000):
            self.dropped(packet)
        else:
            self._waiting.append(packet)
            self._bytes += packet.size
            if not self._busy:
                self._serve()

    def _is_lost(self) -> bool:
        loss, burst = self.conditions.loss, self.conditions.burst
        if not loss or loss >= 1:
            return loss >= 1
        leave = 1 / burst
        enter = min(1.0, loss * leave / (1 - loss)) if burst > 1 else loss
        self._losing = self._random.random() < ((1 - leave) if self._losing and burst > 1 else enter)
        return self._losing

    def _serve(self) -> None:
        rate = self.conditions.rate
        self._busy = bool(self._waiting and rate != 0)
        if self._busy:
            took = self._waiting[0].size * 8 / rate if rate else 0.0
            self._clock.at(self._clock.now + took, self._served)

    def _served(self) -> None:
        packet = self._waiting.popleft()
        self._bytes -= packet.size
        self._out(packet)
        self._serve()

    def _out(self, packet: Packet) -> None:
        self.carried += packet.size
        conditions = self.conditions
        due = self._clock.now + conditions.delay + conditions.jitter * self._random.random()
        self._last_out = max(due, self._last_out)
        self._clock.at(self._last_out, self._deliver, packet)


class Download:
    """One greedy flow: a window that grows by a packet a round trip and is halved by a loss."""

    def __init__(self, clock: Clock, link: Link) -> None:
        self._clock, self._link = clock, link
        self._window, self._flying, self._halved_at = 2.0, 0, 0.0
        self.stopped = False

    def fill(self) -> None:
        while self._flying < int(self._window) and not self.stopped:
            self._flying += 1
            self._link.send(Packet("greedy", OTHER, self._clock.now))

    def acknowledged(self) -> None:
        self._flying -= 1
        self._window += 1 / self._window
        self.fill()

    def lost(self) -> None:
        self._flying -= 1
        if self._clock.now > self._halved_at + 0.2:
            self._window, self._halved_at = max(2.0, self._window / 2), self._clock.now
        self.fill()
