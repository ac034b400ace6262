"""How often a pair is checked: quickly at first, then rarely, and as often as it takes when there is doubt."""

from __future__ import annotations

import pytest

from relaycall.ice import pacing
from relaycall.ice.failover import Failover
from relaycall.ice.pacing import retry_interval, warm_interval
from relaycall.ice.pair import Pair, PairState
from relaycall.stun.address import Address

START = 100.0


class World:
    """So many pairs, that all answer after 50 ms; the first is chosen."""

    def __init__(self, pairs: int = 2, *, watched: bool = True) -> None:
        self.pairs = {
            (0, remote): Pair(0, remote, 1000 - number, START)
            for number, remote in enumerate(Address("2.2.2.2", 5000 + number) for number in range(pairs))
        }
        self.failover = Failover(self.pairs)
        for number in range(10):
            for pair in self.all:
                answer(pair, START + number)
        self.now = START + 10
        self.failover.usable(self.now)
        self.failover.decisions.clear()
        assert self.failover.chosen is self.all[0]
        if watched:
            self.failover.watch(self.now)

    @property
    def all(self) -> list[Pair]:
        return list(self.pairs.values())

    def doubt(self) -> None:
        """The chosen one falls silent."""
        self.now += 1.0
        self.failover.handle_timeout(self.now)
        assert self.failover.probe_interval(self.now) == 0.05


def answer(pair: Pair, now: float, rtt: float = 0.05) -> None:
    tid = int(now * 1000).to_bytes(12, "big")
    pair.check_sent(tid, now, True)
    assert pair.check_answered(tid, now + rtt, 30.0)


def fresh() -> Pair:
    return Pair(0, Address("2.2.2.9", 5000), 1, START)


# --- until it answers -------------------------------------------------------------------------------------------------


def test_the_first_checks_come_quickly_and_then_each_fifty_milliseconds() -> None:
    pair, failover = fresh(), Failover({})
    waits = []
    for number in range(8):
        pair.check_sent(number.to_bytes(12, "big"), START, True)
        waits.append(retry_interval(pair, failover, START))
    assert waits == [0.01, 0.02, 0.03, 0.04, 0.05, 0.05, 0.05, 0.05]


def test_after_two_seconds_without_an_answer_once_a_second() -> None:
    pair, failover = fresh(), Failover({})
    pair.check_sent(bytes(12), START, True)
    assert retry_interval(pair, failover, START + 1.999) < 0.1
    assert retry_interval(pair, failover, START + 2.0) == 1.0


def test_a_pair_whose_consent_is_over_is_checked_once_a_second() -> None:
    world = World()
    world.all[1].to("expired")
    world.doubt()
    assert retry_interval(world.all[1], world.failover, world.now) == 1.0


# --- while it answers -------------------------------------------------------------------------------------------------


def test_a_pair_that_answers_is_checked_once_a_second() -> None:
    world = World(watched=False)
    assert [warm_interval(pair, world.failover) for pair in world.all] == [1.0, 1.0]


@pytest.mark.parametrize(("pairs", "spare"), [(1, None), (2, 6.0), (4, 12.0), (16, pacing.SPARE_MAX)])
def test_media_that_is_watched_makes_checks_rare(pairs: int, spare: float | None) -> None:
    world = World(pairs)
    chosen, *others = world.all
    assert warm_interval(chosen, world.failover) == 5.0
    assert {warm_interval(pair, world.failover) for pair in others} == ({spare} if spare else set())


def test_a_new_pair_is_measured_quickly_while_media_runs() -> None:
    world = World()
    pair = fresh()
    waits = []
    for number in range(6):
        answer(pair, world.now + number)
        waits.append(warm_interval(pair, world.failover))
    assert waits == [0.4, 0.4, 0.4, 0.4, 6.0, 6.0]


def test_two_lost_checks_in_a_row_do_not_cost_consent() -> None:
    longest = 1.2 * max(pacing.SPARE_MAX, pacing.WATCHED_INTERVAL)  # give or take a fifth
    world = World(16)
    pair = world.all[-1]
    assert warm_interval(pair, world.failover) <= pacing.SPARE_MAX
    lost = pair.patience + 2 * pacing.PROBE_MAX
    assert longest + lost < 30.0


# --- when answers are missing -----------------------------------------------------------------------------------------


def test_a_check_gets_the_time_that_answers_take() -> None:
    world = World()
    pair = world.all[0]
    assert retry_interval(pair, world.failover, world.now) == pair.patience
    assert pair.patience >= 0.25


def test_a_missed_check_is_repeated_soon_and_more_rarely_while_we_watch() -> None:
    for watched, expected in ((False, [0.2] * 6), (True, [0.2, 0.4, 0.8, 1.6, 2.0, 2.0])):
        world = World(watched=watched)
        pair = world.all[1]
        waits = []
        for missed in range(1, 7):
            pair.missed = missed
            waits.append(retry_interval(pair, world.failover, world.now))
        assert waits == pytest.approx(expected)


# --- in doubt ---------------------------------------------------------------------------------------------------------


def test_in_doubt_every_pair_is_checked_more_often_at_first() -> None:
    world = World()
    world.doubt()
    for after, interval in ((0.0, 0.05), (0.99, 0.05), (1.0, 0.2), (5.0, 0.5), (14.9, 0.5), (15.0, 1.0), (3600.0, 1.0)):
        for pair in world.all:
            assert retry_interval(pair, world.failover, world.now + after) == interval


def test_of_many_pairs_only_those_in_use_are_checked_that_often() -> None:
    world = World(16)
    world.doubt()
    used = [world.failover.chosen, *world.failover.also]
    assert len(used) == 2
    for pair in world.all:
        assert pair.state is PairState.VALID
        assert retry_interval(pair, world.failover, world.now) == (0.05 if pair in used else 0.2)
