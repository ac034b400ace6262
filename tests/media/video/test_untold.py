"""What is lost of the messages on packets is not taken for a loss of packets."""

from __future__ import annotations

import random

import pytest

from relaycall.media.video.arrivals import ArrivalReports
from relaycall.media.video.fates import LOST_SECONDS, Fate, FateLog
from relaycall.media.video.feedback import Arrivals
from relaycall.quality.estimator import Load, RateEstimator

EVERY, WAY, SIZE = 0.012, 0.03, 1000  # seconds, seconds, bytes


def sent(count: int) -> FateLog:
    log = FateLog()
    for number in range(count):
        log.sent(number, SIZE, number * EVERY)
    return log


def untold(fates: list[Fate]) -> list[int]:
    assert all(fate.arrived_at is None for fate in fates if fate.untold)
    return [fate.number for fate in fates if fate.untold]


def lost(fates: list[Fate]) -> list[int]:
    return [fate.number for fate in fates if fate.arrived_at is None and not fate.untold]


def test_a_hole_after_what_was_told_once_is_untold() -> None:
    log = sent(40)
    assert untold(log.arrivals(Arrivals(0, (1.0,) * 10), 0.5)) == []
    fates = log.arrivals(Arrivals(20, (1.2,) * 5), 0.6)
    assert untold(fates) == list(range(10, 20))
    assert lost(fates) == []
    assert len(fates) == 15


def test_a_hole_after_what_was_told_twice_is_a_loss() -> None:
    """After a pause all had been told, and the first of the next packets are missing."""
    log = sent(40)
    for at in (0.5, 0.6):
        log.arrivals(Arrivals(0, (1.0,) * 10), at)
    fates = [fate for step in range(3) for fate in log.arrivals(Arrivals(20, (1.2,) * 5), 0.7 + step / 10)]
    assert lost(fates) == list(range(10, 20))
    assert untold(fates) == []


def test_a_hole_within_a_message_is_a_loss() -> None:
    log = sent(40)
    fates = [fate for step in range(3) for fate in log.arrivals(Arrivals(0, (1.0, None, 1.1)), 0.5 + step / 10)]
    assert lost(fates) == [1]


def test_what_is_overdue_is_untold_unless_later_ones_were_told() -> None:
    log = sent(10)
    log.arrivals(Arrivals(5, (1.0,)), 0.2)
    fates = log.overdue(LOST_SECONDS + 1)
    assert lost(fates) == [0, 1, 2, 3, 4]
    assert untold(fates) == [6, 7, 8, 9]


@pytest.mark.parametrize(("messages", "packets"), [(0.7, 0.0), (0.0, 0.3), (0.7, 0.3), (0.0, 0.0)])
def test_the_loss_that_is_seen_is_that_of_packets(messages: float, packets: float) -> None:
    """Of our video and of the messages on it so much is lost; the share that the estimator sees is the first."""
    chance = random.Random(7)
    reports, log, estimator = ArrivalReports(), FateLog(), RateEstimator()
    seen = []
    for number in range(3000):
        now = 100 + number * EVERY
        log.sent(number, SIZE, now)
        estimator.sent(now, SIZE)
        if chance.random() >= packets:
            reports.add(number & 0xFFFF, now + WAY)
        message = reports.message(now + WAY)
        fates = log.overdue(now)
        if message is not None and chance.random() >= messages:
            fates += log.arrivals(message, now + 2 * WAY)
        estimator.fates(now + 2 * WAY, sorted(fates, key=lambda fate: fate.number))
        estimator.handle_timeout(now + 2 * WAY)
        seen.append(estimator.losses.mean)
    late = seen[1000:]
    assert sum(late) / len(late) == pytest.approx(packets, abs=0.06)
    if not packets:
        assert estimator.measured == 0
        assert estimator.load is not Load.LOSSY
