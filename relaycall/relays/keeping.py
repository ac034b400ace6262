"""Which relays a pool allocates on, and which allocations it gives up. No I/O; time is an argument.

How it works. The pool wants so many sound allocations (`count`), on relays it has chosen: by their measurements, or in
the order they were given. What becomes of an allocation is its condition, which only gets worse (a new allocation takes
its place; none recovers):

    sound     it works, as far as is known
    expiring  it works, and there are newer credentials
    moved     its socket has an address that this machine no longer uses
    failing   its user found that no packets come through it

One that is not sound, or whose relay is no longer chosen, is given up once its place is taken: by a sound one on the
same relay, or by as many sound ones as are wanted. Until then it is kept, since there is nothing better.

A relay that refuses, fails or loses an allocation is banned for a while, and the next one is tried. But when nothing
works (all are moved or failing, or there are none), bans mean nothing: every relay is tried once a second, also while
an earlier try is unanswered.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from relaycall.relays.probe_result import ProbeResult
from relaycall.relays.ranking import Ranking, rank
from relaycall.relays.server import RelayServer

ROUND = 1.0  # seconds between tries of all relays while nothing works

A = TypeVar("A")  # an allocation, of which nothing needs to be known here


class Condition(enum.IntEnum):
    """What became of an allocation; the worse, the higher."""

    SOUND = 0
    EXPIRING = 1
    MOVED = 2
    FAILING = 3


@dataclass(eq=False, slots=True)
class Hold(Generic[A]):
    """One allocation that is held.

    Attributes:
        server: the relay as the user gave it, without credentials of the pool's.
        allocation: what is held there.
        condition: what became of it.
        watched: whether the address it is sent from can be compared.
    """

    server: RelayServer
    allocation: A
    condition: Condition = Condition.SOUND
    watched: bool = True


class Keeping(Generic[A]):
    """What a pool holds and wants.

    Args:
        relays: in order of preference.
        keep: how many allocations are wanted at most.
        now: seconds.

    Attributes:
        ranking: bans, and what was chosen by measurements.
        holds: what is held, the longest held first.
        count: how many are wanted.
        opening: whether these are the first tries: then each relay is tried once.
    """

    def __init__(self, relays: Sequence[RelayServer], keep: int, now: float) -> None:
        self.relays = list(dict.fromkeys(relays))
        self.ranking = Ranking()
        self.holds: list[Hold[A]] = []
        self.count = min(keep, len(self.relays))
        self.opening = True
        self._results: Sequence[ProbeResult] = ()
        self._round_at = now + ROUND

    @property
    def full(self) -> bool:
        """Whether there are as many sound ones as wanted."""
        return len(self._sound) >= self.count

    @property
    def ordered(self) -> list[Hold[A]]:
        """What is held, the best first."""
        chosen = dict.fromkeys([*self._chosen, *self.relays])
        place = {server: number for number, server in enumerate(chosen)}
        return sorted(self.holds, key=lambda hold: (hold.condition > Condition.EXPIRING, place[hold.server]))

    def of(self, allocation: A) -> Hold[A] | None:
        """The hold of an allocation; None if it is not held any more."""
        return next((hold for hold in self.holds if hold.allocation is allocation), None)

    def opened(self) -> None:
        """The first tries are over."""
        self.opening = False
        self._round_at = float("-inf")

    # --- what happens -------------------------------------------------------------------------------------------------

    def measured(self, results: Sequence[ProbeResult], now: float) -> None:
        """Choose by new measurements.

        Raises:
            NoRelay: none is usable; what was chosen before stays.
        """
        self._results = self.ranking.update(results, now).table
        self.count = 1 if rank(self._results).backup is None else 2

    def known(self, server: RelayServer) -> ProbeResult | None:
        """What was measured last."""
        return next((result for result in self._results if result.server == server), None)

    def granted(self, server: RelayServer, allocation: A, now: float) -> Hold[A] | None:
        """A relay gave an allocation. Returns its hold; None if it is not wanted any more."""
        self.ranking.bans.lift(server, now)
        if server in self._sound or (self.full and server not in self._wanted(now)):
            return None
        hold = Hold(server, allocation)
        self.holds.append(hold)
        return hold

    def refused(self, server: RelayServer, now: float) -> bool:
        """A relay gave none. Returns whether it matters: not if it has given one meanwhile."""
        if server in self._sound:
            return False
        self.ranking.bans.failed(server, now)
        return True

    def lost(self, hold: Hold[A], now: float, *, forgotten: bool = False) -> None:
        """An allocation is gone; `forgotten` by a relay that restarted and can give another at once."""
        self.holds.remove(hold)
        if hold.condition is Condition.EXPIRING or forgotten:
            self.ranking.bans.lift(hold.server, now)  # it may have been in the way of the one with new credentials
        elif hold.condition is not Condition.MOVED:
            self.ranking.bans.failed(hold.server, now)

    def failing(self, hold: Hold[A], now: float) -> None:
        """No packets come through it."""
        if hold.condition < Condition.FAILING:
            hold.condition = Condition.FAILING
            self.ranking.bans.failed(hold.server, now)

    def moved(self, hold: Hold[A]) -> None:
        """This machine has another address now."""
        hold.condition = max(hold.condition, Condition.MOVED)

    def renewed(self) -> None:
        """There are new credentials, for all relays that have none of their own."""
        for hold in self.holds:
            if hold.server.username is None:
                hold.condition = max(hold.condition, Condition.EXPIRING)

    # --- what to do ---------------------------------------------------------------------------------------------------

    def to_try(self, now: float, trying: Collection[RelayServer]) -> list[RelayServer]:
        """The relays to allocate on now, the best first. `trying`: those with a try under way."""
        bans = self.ranking.bans
        if not self._works and now >= self._round_at:
            self._round_at = now + ROUND
            if not self.opening:
                return self.relays
            return [server for server in self.relays if server not in trying and not bans.banned(server, now)]
        wanted = [server for server in self._wanted(now) if server not in self._sound]
        return [server for server in wanted if server not in trying and not bans.banned(server, now)]

    def surplus(self, now: float) -> list[Hold[A]]:
        """Take out what is to be given up now, its place being taken."""
        sound, wanted = self._sound, self._wanted(now)
        replaced = [hold for hold in self.holds if hold.condition and hold.server in sound]
        others = [hold for hold in self.holds if hold not in replaced]
        dispensable = [hold for hold in others if hold.condition or hold.server not in wanted]
        dispensable.sort(key=lambda hold: hold.condition, reverse=True)
        going = replaced + dispensable[: max(0, len(others) - self.count)]
        self.holds = [hold for hold in self.holds if hold not in going]
        return going

    def next_timeout(self, now: float) -> float:
        """When `to_try` may have more; infinity for never."""
        if not self._works:
            return self._round_at
        return float("inf") if self.full else self.ranking.bans.next_end(self.relays, now)

    # --- choosing -----------------------------------------------------------------------------------------------------

    @property
    def _sound(self) -> list[RelayServer]:
        return [hold.server for hold in self.holds if hold.condition is Condition.SOUND]

    @property
    def _works(self) -> bool:
        return any(hold.condition <= Condition.EXPIRING for hold in self.holds)

    @property
    def _chosen(self) -> list[RelayServer]:
        """By measurement."""
        selection = self.ranking.selection
        both = (selection.primary, selection.backup) if selection is not None else ()
        return [server for server in both if server is not None]

    def _wanted(self, now: float) -> list[RelayServer]:
        """The relays to hold a sound allocation on, the best first."""
        if self.ranking.selection is not None:
            return self._choose(now)
        own = sorted((hold for hold in self.holds if hold.condition < Condition.FAILING), key=lambda one: one.condition)
        order = dict.fromkeys([*(hold.server for hold in own), *self.relays])
        return [server for server in order if not self.ranking.bans.banned(server, now)][: self.count]

    def _choose(self, now: float) -> list[RelayServer]:
        """Choose again among what was measured, if something is missing. A backup that is held takes over."""
        selection, bans = self.ranking.selection, self.ranking.bans
        assert selection is not None
        sound = self._sound
        if sum(server in sound for server in self._chosen) < self.count:
            if bans.banned(selection.primary, now) and selection.backup in sound:
                assert selection.backup is not None
                selection = replace(selection, primary=selection.backup, backup=None)
            self.ranking.selection = rank(self._results, previous=selection, bans=bans, now=now)
        return self._chosen
