"""How an emulated network is: its conditions in one direction, how they change with time, and what becomes of a packet.

There is no I/O here, and no clock: time comes in as an argument, so a simulation in virtual time uses it like a proxy.

    fate = Fate(seed=7)
    fate.conditions = Conditions(delay=0.05, rate=500_000, queue=0.3)
    fate.run(Schedule([(2.0, {"rate": 250_000}), (8.0, {"rate": 500_000})]), now=0.0)
    arrival = fate.next(now=0.02, size=140)  # None: it is lost

A packet goes through a queue, then over the link, then on its way. The queue holds what the link has not begun to send;
it is first in, first out, and a packet that finds it full is lost (drop-tail). The link sends at its rate. What is lost
at random is lost after that, as by radio: it has used the link. On its way a packet takes the delay, and up to the
jitter more; it does not overtake the one before it, as in a chain of queues, unless it is one of those that are
reordered.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from relaycall.errors import ConfigError

MIN_RATE = 1000  # bit/s: a packet takes seconds then
_TIMES = {"delay", "jitter", "queue", "reorder_delay"}


@dataclass(frozen=True, slots=True)
class Conditions:
    """How one direction is at a moment.

    Attributes:
        delay: seconds for each packet.
        jitter: up to so many seconds more, evenly spread. It does not reorder: a packet waits for those before it.
        loss: probability that a packet is lost, independently.
        burst_enter, burst_leave: probabilities, with each packet, that a bad time begins or ends (Gilbert–Elliott).
        burst_loss: probability that a packet is lost in a bad time.
        black_hole: everything is lost.
        rate: bit/s, at least 1000, that the link sends, headers of IP and UDP or TCP included; None for no limit.
        queue: seconds that a packet may wait for the link; one that would wait longer is lost. It is drained at the
            rate, so it holds `queue * rate / 8` bytes.
        reorder: probability that a packet leaves its place: it takes its own time, and those behind it overtake it.
        reorder_delay: seconds more that such a packet takes. With `reorder=1, reorder_delay=0` each packet has a
            jitter of its own, whatever became of the others.

    Raises:
        ConfigError: a time is not a number of at least 0, a probability not one of 0 to 1, or the rate too low.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    burst_enter: float = 0.0
    burst_leave: float = 1.0
    burst_loss: float = 1.0
    black_hole: bool = False
    rate: float | None = None
    queue: float = 0.2
    reorder: float = 0.0
    reorder_delay: float = 0.03

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "rate":
                if value is not None and not (_is_number(value) and MIN_RATE <= value < math.inf):
                    raise ConfigError(f"A rate is {MIN_RATE} bit/s or more, or None for no limit.")
            elif field.name in _TIMES:
                if not (_is_number(value) and 0 <= value < math.inf):
                    raise ConfigError("A delay, a jitter and a queue are 0 seconds or more.")
            elif not (_is_number(value) and 0 <= value <= 1):
                raise ConfigError("The probabilities of a network's conditions are from 0 to 1.")

    def changed(self, changes: Mapping[str, Any]) -> Conditions:
        """These, but for some.

        Raises:
            ConfigError: there is no such condition, or its value cannot be.
        """
        if not changes.keys() <= _NAMES:
            raise ConfigError(
                "A network does not know this condition.", f"The conditions are {', '.join(sorted(_NAMES))}."
            )
        return replace(self, **changes)


_NAMES = {field.name for field in fields(Conditions)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


@dataclass(frozen=True)
class Schedule:
    """Steps by which conditions change with time.

    Attributes:
        steps: (seconds since the start, changes), in order of time. A change is what `Conditions` takes; what a step
            does not name stays as it is.
        repeat: seconds after which the steps begin again; None for once. The first step should undo the last then.

    Raises:
        ConfigError: the times are not in order from 0 on and below `repeat`; or a change is none.
    """

    steps: Sequence[tuple[float, Mapping[str, Any]]]
    repeat: float | None = None

    def __post_init__(self) -> None:
        times = [at for at, _ in self.steps]
        end = math.inf if self.repeat is None else self.repeat
        if not all(_is_number(at) and 0 <= at < end for at in times) or times != sorted(times):
            raise ConfigError("The steps of a schedule are in order of time, from 0 seconds on.")
        for _, changes in self.steps:
            Conditions().changed(changes)

    def starting(self, start: float) -> Iterator[tuple[float, Mapping[str, Any]]]:
        """The steps, with the time of each; without an end if they are repeated."""
        while self.steps:
            yield from ((start + at, changes) for at, changes in self.steps)
            if self.repeat is None:
                return
            start += self.repeat


class Fate:
    """What becomes of the packets of one direction, one after the other.

    The n-th packet's luck depends on the seed and on n alone; what that luck means, on the conditions at the moment.

    Args:
        seed: of everything random.

    Attributes:
        conditions: set at any time. A packet that is in the queue keeps its time.
        overflowed: packets for which the queue was full.
    """

    def __init__(self, seed: int | str) -> None:
        self.conditions = Conditions()
        self.overflowed = 0
        self._random = random.Random(seed)
        self._bad = False
        self._idle_at = -math.inf  # when the link will have sent what is in the queue
        self._latest = -math.inf  # arrival of those that keep their place
        self._steps: Iterator[tuple[float, Mapping[str, Any]]] = iter(())
        self._step: tuple[float, Mapping[str, Any]] | None = None

    def run(self, schedule: Schedule, now: float) -> None:
        """Change the conditions by a schedule that starts now. Another one takes its place."""
        self._steps = schedule.starting(now)
        self._step = next(self._steps, None)

    def at(self, now: float) -> Conditions:
        """The conditions now: the steps that are due have been taken."""
        while self._step is not None and self._step[0] <= now:
            self.conditions = self.conditions.changed(self._step[1])
            self._step = next(self._steps, None)
        return self.conditions

    def waiting(self, now: float) -> float:
        """Seconds that a packet which comes now waits for the link: how long the queue is."""
        return max(0.0, self._idle_at - now)

    def next(self, now: float, size: int) -> float | None:
        """When the next packet arrives; None: it does not.

        Args:
            now: when it is sent, in seconds; not before the one before it.
            size: bytes of it on the link. They matter where there is a rate.
        """
        conditions, draw = self.at(now), self._random.random
        turn, lost, jitter, place = draw(), draw(), draw(), draw()  # always four: conditions do not shift the sequence
        self._bad = turn >= conditions.burst_leave if self._bad else turn < conditions.burst_enter
        if conditions.black_hole:
            return None
        if conditions.rate is None:
            leaves = now
        elif self.waiting(now) > conditions.queue:
            self.overflowed += 1
            return None
        else:
            leaves = self._idle_at = max(now, self._idle_at) + size * 8 / conditions.rate
        if lost < (conditions.burst_loss if self._bad else conditions.loss):
            return None
        arrives = leaves + conditions.delay + jitter * conditions.jitter
        if place < conditions.reorder:
            return arrives + conditions.reorder_delay
        self._latest = max(self._latest, arrives)
        return self._latest
