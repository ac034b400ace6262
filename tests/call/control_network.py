"""Two sides of a call's control, a network between them that loses, delays, repeats and reorders, and virtual time."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from relaycall.call.control import Control, ControlState
from relaycall.stun.address import Address

CANDIDATES = Address("9.9.9.1", 5001), Address("9.9.9.2", 5002)


@dataclass
class Network:
    """`sides[0]` and `sides[1]`; call `run` to let time pass.

    Attributes:
        loss: the share of messages lost.
        delay: seconds, the least and the most.
        copies: the share of messages that arrive twice.
        sent: when each side sent.
        taken: the states that each side was told of.
    """

    random: random.Random
    loss: float = 0.0
    delay: tuple[float, float] = (0.05, 0.05)
    copies: float = 0.0
    now: float = 0.0
    sides: tuple[Control, Control] = field(init=False)
    sent: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    taken: tuple[list[ControlState], list[ControlState]] = field(default_factory=lambda: ([], []))
    messages: list[tuple[int, bytes]] = field(default_factory=list)  # to whom, what: all that were ever sent
    _flying: list[tuple[float, int, int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        one, other = (ControlState((address,)) for address in CANDIDATES)
        self.sides = Control(one, other), Control(other, one)

    def update(self, side: int, state: ControlState) -> None:
        self.sides[side].update(state, self.now)
        self._send(side)

    def deliver(self, side: int, message: bytes) -> None:
        state = self.sides[side].receive(message, self.now)
        if state is not None:
            assert state is self.sides[side].remote
            self.taken[side].append(state)
        self._send(side)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(100_000):
            first = self._flying[0][0] if self._flying else float("inf")
            timeouts = [side.next_timeout() for side in self.sides]
            due = min(first, *timeouts)
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            if first <= self.now:
                _, _, side, message = heapq.heappop(self._flying)
                self.deliver(side, message)
            for side, timeout in enumerate(timeouts):
                if timeout <= self.now:
                    self.sides[side].handle_timeout(self.now)
                    self._send(side)
        raise AssertionError("time stands still")

    @property
    def settled(self) -> bool:
        one, other = self.sides
        return one.acknowledged and other.acknowledged and one.remote == other.local and other.remote == one.local

    def _send(self, side: int) -> None:
        outgoing = self.sides[side].outgoing
        while outgoing:
            message = outgoing.popleft()
            self.sent[side].append(self.now)
            self.messages.append((1 - side, message))
            for _ in range(1 + (self.random.random() < self.copies)):
                if self.random.random() >= self.loss:
                    at = self.now + self.random.uniform(*self.delay)
                    heapq.heappush(self._flying, (at, len(self.messages), 1 - side, message))
