"""Is there a better path? All of them, checked often for a while, and compared. Without I/O.

How it works. The path in use may have become slow, or lose packets, and others are checked too rarely to know whether
they are better. A trial checks every pair 12 times a second for four seconds, which a narrow link can bear, then waits
for late answers. A pair is better that lost clearly fewer checks; or no more of them, if its round trip is clearly
shorter. Without a better one the next trial has to wait: 20 seconds, 40, and so on up to five minutes.

    IDLE ──start──▶ CHECKING ──four seconds──▶ WAITING ──answers had their time──▶ IDLE, with a verdict
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from relaycall.ice.pair import Pair, PairState

LASTS = 4.0  # seconds
INTERVAL = 0.08  # seconds between the checks of a pair
PAUSE, MAX_PAUSE = 20.0, 300.0  # seconds after a trial that found nothing better
MAX_WAIT = 1.0  # seconds for late answers
MAX_PAIRS = 8  # the most promising ones
CLEARLY_FEWER = 0.04  # share of the checks, at least ...
CHANCE = 3.0  # ... and standard deviations of what chance does
ABOUT_AS_MANY = 0.02

NEVER = float("inf")


@dataclass(slots=True)
class Trial:
    """One at a time."""

    _until: float = field(default=NEVER, init=False)
    _at: float = field(default=NEVER, init=False)
    _pause: float = field(default=PAUSE, init=False)
    _not_before: float = field(default=-NEVER, init=False)
    _before: dict[Pair, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)

    def start(self, pairs: Collection[Pair], now: float) -> None:
        """Begin, unless one is under way, the last was in vain a while ago, or there is nothing to choose from."""
        valid = [pair for pair in pairs if pair.state is PairState.VALID and not pair.retiring]
        if self._before or now < self._not_before or len(valid) < 2:
            return
        valid.sort(key=lambda pair: (pair.rtt, -pair.priority))
        self._before = {pair: (pair.sent, pair.answered) for pair in valid[:MAX_PAIRS]}
        self._until, self._at = now + LASTS, now

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        return self._at

    def handle_timeout(self, chosen: Pair | None, now: float) -> Pair | None:
        """Have the pairs checked, or find.

        Args:
            chosen: the pair in use.

        Returns:
            A better one, once; None: not yet, or there is none.
        """
        if now < self._at:
            return None
        if now < self._until:
            for pair in self._before:
                pair.next_check = min(pair.next_check, now)
            self._at = min(now + INTERVAL, self._until)
            return None
        if self._at <= self._until:
            patience = max(pair.rtt + 4 * pair.rtt_deviation for pair in self._before)
            self._at = max(now, self._until + min(patience, MAX_WAIT)) + INTERVAL
            return None
        before, self._before = self._before, {}
        self._until = self._at = NEVER
        better = None if chosen is None or chosen not in before else _better(before, chosen)
        if better is None:
            self._not_before = now + self._pause
            self._pause = min(2 * self._pause, MAX_PAUSE)
        else:
            self._pause = PAUSE
        return better


class _Loss(NamedTuple):
    """Of one pair's checks: the share that was not answered, and the variance that chance gives it."""

    share: float
    variance: float


def _better(before: dict[Pair, tuple[int, int]], chosen: Pair) -> Pair | None:
    lost = {pair: _loss(pair.sent - sent, pair.answered - answered) for pair, (sent, answered) in before.items()}
    better = [pair for pair in before if pair is not chosen and pair.healthy and _is_better(pair, chosen, lost)]
    return min(better, key=lambda pair: (round(lost[pair].share, 2), pair.rtt), default=None)


def _loss(sent: int, answered: int) -> _Loss:
    share = 1 - min(answered / max(sent, 1), 1.0)
    return _Loss(share, share * (1 - share) / max(sent, 1))


def _is_better(pair: Pair, chosen: Pair, lost: dict[Pair, _Loss]) -> bool:
    ours, theirs = lost[chosen], lost[pair]
    if ours.share - theirs.share > max(CLEARLY_FEWER, CHANCE * (ours.variance + theirs.variance) ** 0.5):
        return True
    return theirs.share <= ours.share + ABOUT_AS_MANY and pair.surely_faster_than(chosen)
