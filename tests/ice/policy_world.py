"""The failover policy without an agent: pairs made by hand, facts one by one, and time as a number.

Four pairs of two relays on each side, most preferred first: 0 and 3 share no relay, nor do 1 and 2.
"""

from __future__ import annotations

from itertools import zip_longest

from relaycall.ice.decisions import Decision, Move, Phase, Probe
from relaycall.ice.failover import Failover
from relaycall.ice.pair import Pair
from relaycall.stun.address import Address

START = 100.0
RTT = 1 / 16  # seconds; exact, so that a check sent at a certain time was sent at that time
CONSENT = 30.0
PATIENCE = 0.07  # seconds of silence until a path with steady media is in doubt
BARELY = 1e-6
NEVER = float("inf")


class World:
    """The pairs, all answered ten times; the first is chosen, and its media was heard until now."""

    def __init__(self, *, watched: bool = True, chosen: bool = True, numbers: tuple[int, ...] = (3, 2, 1, 0)) -> None:
        self.made: dict[int, Pair] = {}
        self.pairs: dict[int, Pair] = {}
        for number in numbers:
            self.add(number)
        self.failover = Failover(self.pairs)
        self.now = START
        self.tids = 0
        for index in range(10):
            for pair in self.pairs.values():
                self.check(pair, START - 20 + index)
                assert pair.check_answered(self.tid, START - 20 + index + RTT, CONSENT)
        if chosen:
            self.failover.usable(self.now)
            assert self.failover.chosen is self.pairs[0]
            self.pairs[0].heard_at = self.now
        self.now += 11.0  # nothing of the first choice matters any longer
        if watched:
            self.failover.watch(self.now)
            self.pairs[0].heard_at = self.now
            self.media(1.0)
        self.take()

    def add(self, number: int) -> Pair:
        local, remote = divmod(number, 2)
        address = Address(f"2.2.2.{remote + 1}", 50000)
        pair = Pair(local, address, 1000 - number, START - 30, hosts=(f"1.1.1.{local + 1}", address.host))
        self.made[number] = self.pairs[number] = pair
        return pair

    def remove(self, *numbers: int) -> None:
        for number in numbers:
            self.pairs.pop(number).to("removed")

    def take(self) -> list[Decision]:
        """What was decided since, but for looking at every pair when it is left for another."""
        decisions = list(self.failover.decisions)
        self.failover.decisions.clear()
        return [
            one
            for one, following in zip_longest(decisions, decisions[1:])
            if not (one == Probe(doubted=False) and isinstance(following, Move))
        ]

    @property
    def tid(self) -> bytes:
        return self.tids.to_bytes(12, "big")

    def check(self, pair: Pair, at: float) -> None:
        self.tids += 1
        pair.check_sent(self.tid, at, True)

    def answer(self, number: int, at: float, rtt: float = RTT) -> None:
        """The answer to a check that was sent a round trip ago comes."""
        pair = self.pairs[number]
        self.check(pair, at - rtt)
        assert pair.check_answered(self.tid, at, CONSENT)
        self.failover.answered(pair, at - rtt, at)

    def media(self, seconds: float, pause: float = 0.02, number: int = 0) -> None:
        """Packets come on this pair."""
        for _ in range(round(seconds / pause)):
            self.now += pause
            self.failover.heard(self.pairs[number], self.now)

    def wake(self) -> None:
        """What is due next: it comes to something, or nothing is due at that time any more."""
        self.now = max(self.now, self.failover.next_timeout())
        self.failover.handle_timeout(self.now)
        assert self.failover.decisions or self.failover.next_timeout() > self.now

    def tick(self, until: float) -> list[Decision]:
        """Let time pass, at most that long; stop when something was decided."""
        while not self.failover.decisions and self.failover.next_timeout() <= until:
            self.wake()
        if not self.failover.decisions:
            self.now = until
        return self.take()

    def run(self, until: float) -> list[Decision]:
        """Let time pass, whatever is decided."""
        decisions: list[Decision] = []
        while self.now < until:
            decisions += self.tick(until)
        return decisions

    def doubt(self) -> list[Decision]:
        """The chosen pair falls silent."""
        decisions = self.tick(self.now + 0.5)
        assert self.failover.phase is Phase.DOUBTED
        return decisions

    def sick(self, *numbers: int) -> None:
        """Checks on these pairs were not answered."""
        for number in numbers:
            self.pairs[number].missed = 3

    @property
    def numbers(self) -> tuple[int | None, tuple[int, ...]]:
        """The chosen pair and the others in use."""
        chosen = self.failover.chosen
        return (None if chosen is None else self.number(chosen)), tuple(map(self.number, self.failover.also))

    def number(self, pair: Pair) -> int:
        return next(number for number, made in self.made.items() if made is pair)

    def patience(self) -> float:
        """Seconds from now until the chosen pair is in doubt."""
        return self.failover.next_timeout() - self.now


def in_phase(phase: Phase) -> World:
    world = World(chosen=phase is not Phase.NONE, watched=phase is not Phase.NONE)
    if phase is Phase.DOUBTED:
        world.doubt()
    assert world.failover.phase is phase
    return world
