"""How often a pair is checked.

Quickly until the first answer; then once a second. While the peer's media is watched it shows by itself that the chosen
pair lives, and checks are few: with two relays on each side they are less than two hundredths of a call's bytes.
"""

from __future__ import annotations

from relaycall.ice.failover import Failover
from relaycall.ice.pair import Pair, PairState

WARM_INTERVAL = 1.0  # seconds between checks on a pair that answers, give or take a fifth
PROBE_INTERVAL = 0.2  # seconds between checks on a pair that stopped answering; doubled each time while we watch
FIRST_INTERVALS = (0.01, 0.02, 0.03, 0.04, 0.05)  # seconds between the first checks of a pair; the last repeats
PROBE_MAX = 2.0  # seconds; consent takes one answer in thirty, at 30 % loss too
EAGER = 2.0  # seconds for which an unanswered pair is checked that often
IDLE_INTERVAL = 1.0  # seconds between checks on a pair that never answered
WATCHED_INTERVAL = 5.0  # seconds between checks on a pair that carries media we watch
SPARE_INTERVAL = 3.0  # seconds, times the number of pairs: between checks on the others then
SPARE_MIN, SPARE_MAX = 5.0, 20.0  # seconds; two lost checks in a row must not cost consent
FIRST_ANSWERS, FIRST_INTERVAL = 5, 0.4  # so many answers are had quickly, for a first measurement; seconds
FEW_PAIRS = 4  # so many are checked as often as it takes when there is doubt, more of them more rarely


def retry_interval(pair: Pair, failover: Failover, now: float) -> float:
    """Seconds until the next check, if the one just sent is not answered."""
    urgent = failover.probe_interval(now)
    if pair.state is PairState.VALID and urgent is not None:
        first = pair is failover.chosen or pair in failover.also
        return urgent if first else urgent * max(1.0, len(failover.pairs) / FEW_PAIRS)
    if pair.state is PairState.VALID:
        again = PROBE_INTERVAL
        if failover.watching and pair.missed:
            again = min(PROBE_INTERVAL * 2 ** min(pair.missed - 1, 4), PROBE_MAX)
        return again if pair.missed else pair.patience
    if pair.state is PairState.CHECKING and now - pair.created < EAGER:
        return FIRST_INTERVALS[min(pair.sent, len(FIRST_INTERVALS)) - 1]
    return IDLE_INTERVAL


def warm_interval(pair: Pair, failover: Failover) -> float:
    """Seconds until the next check, give or take a fifth, once one was answered."""
    if not failover.watching:
        return WARM_INTERVAL
    if pair.answered < FIRST_ANSWERS:
        return FIRST_INTERVAL
    if pair is failover.chosen:
        return WATCHED_INTERVAL
    return min(max(SPARE_INTERVAL * len(failover.pairs), SPARE_MIN), SPARE_MAX)
