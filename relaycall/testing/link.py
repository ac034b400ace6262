"""Both directions of an emulated network, as one person has it: to be set, run by a schedule, and counted."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import Any, Literal

from relaycall.errors import ConfigError
from relaycall.testing.conditions import Fate, Schedule
from relaycall.testing.profiles import Profile

Direction = Literal["up", "down", "both"]


class Link:
    """A link that can be bad. "up" is what the client sends, "down" what it gets.

    Args:
        seed: of everything random.

    Attributes:
        fates: of the packets, by direction.
        counts: UDP packets by (direction, "passed" or "lost"); lost are those as well that found the queue full.
    """

    def __init__(self, seed: int = 0) -> None:
        self.fates = {direction: Fate(f"{seed} {direction}") for direction in ("up", "down")}
        self.counts: Counter[tuple[str, str]] = Counter()

    def set(self, direction: Direction, **conditions: Any) -> None:
        """Change some `Conditions` of "up", "down" or "both". The others stay as they are.

        Raises:
            ConfigError: there is no such direction or condition, or its value cannot be. Then nothing is changed.
        """
        now = _now()
        changed = [(fate, fate.at(now).changed(conditions)) for fate in self._of(direction)]
        for fate, found in changed:
            fate.conditions = found

    def run(self, direction: Direction, schedule: Schedule) -> None:
        """Change the conditions by a schedule from now on, in place of the one before.

        Raises:
            ConfigError: there is no such direction.
        """
        for fate in self._of(direction):
            fate.run(schedule, _now())

    def imitate(self, profile: Profile) -> None:
        """Be as a profile says, from now on."""
        self.fates["up"].conditions, self.fates["down"].conditions = profile.up, profile.down
        self.run("up", profile.up_schedule)
        self.run("down", profile.down_schedule)

    def lost(self, direction: Direction) -> float:
        """The share of the UDP packets that was lost so far, 0 to 1.

        Raises:
            ConfigError: there is no such direction.
        """
        which = self._directions(direction)
        lost = sum(self.counts[each, "lost"] for each in which)
        return lost / (lost + sum(self.counts[each, "passed"] for each in which) or 1)

    def arrival(self, direction: str, now: float, size: int) -> float | None:
        """When the next UDP packet arrives, by the event loop's clock; None: it is lost. It is counted.

        Args:
            direction: "up" or "down".
            now: the time of the loop.
            size: bytes of it on the link.
        """
        due = self.fates[direction].next(now, size)
        self.counts[direction, "lost" if due is None else "passed"] += 1
        return due

    def _of(self, direction: str) -> list[Fate]:
        return [self.fates[each] for each in self._directions(direction)]

    def _directions(self, direction: str) -> list[str]:
        if direction == "both":
            return [*self.fates]
        if direction not in self.fates:
            raise ConfigError("A lossy link does not know this direction.", "The directions are up, down and both.")
        return [direction]


def _now() -> float:
    """The time of the event loop. Before there is one, no schedule can have begun."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return -math.inf
