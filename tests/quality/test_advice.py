"""Advice to try another relay: when the path is slow or loses much, for five seconds, and not too often."""

from __future__ import annotations

import math
from typing import Any

import pytest

from relaycall.errors import ConfigError
from relaycall.quality.advice import Advice, Adviser, Cause
from relaycall.quality.monitor import Monitor
from tests.quality.readings import Course, course


def advised(call: Course, seconds: int, **each: Any) -> list[tuple[float, Advice]]:
    """When it was advised in so many seconds that are like this, and what."""
    said = []
    for _ in range(seconds):
        call.go(**each)
        advice = call.monitor.advice(call.now)
        if advice is not None:
            said.append((call.now - 1000.0, advice))
    return said


def test_a_good_path_needs_no_other() -> None:
    call = course()
    call.rtt_ms = 149.0
    assert advised(call, 60, lost=1, report=(1, 49)) == []  # 2 % is the limit, and not above it


def test_a_slow_path() -> None:
    call = course()
    call.rtt_ms = 151.0
    assert advised(call, 30) == [(at, Advice(Cause.RTT, 151.0)) for at in (5.0, 15.0, 25.0)]


def test_loss_of_ours_and_not_of_theirs() -> None:
    assert advised(course(), 9, report=(2, 48)) == [(5.0, Advice(Cause.LOSS, 0.04))]
    assert advised(course(), 9, lost=20) == [], "the other side looks after its own"


def test_loss_goes_before_delay() -> None:
    call = course()
    call.rtt_ms = 300.0
    assert advised(call, 9, report=(5, 45)) == [(5.0, Advice(Cause.LOSS, 0.1))]


def test_one_bad_second_of_delay_is_none() -> None:
    call = course()
    advised(call, 10)
    call.rtt_ms = 400.0
    assert advised(call, 1) == []
    call.rtt_ms = 60.0
    assert advised(call, 10) == []


def test_it_goes_on_until_the_path_is_clearly_better() -> None:
    call = course()
    call.rtt_ms = 160.0
    assert len(advised(call, 10)) == 1
    call.rtt_ms = 125.0  # above 0.8 of the limit
    assert len(advised(call, 30)) == 3
    call.rtt_ms = 115.0
    assert len(advised(call, 5)) == 0
    call.rtt_ms = 149.0
    assert len(advised(call, 30)) == 0


def test_another_relay_gets_its_time() -> None:
    call = course()
    call.rtt_ms = 200.0
    assert len(advised(call, 6)) == 1
    call.relay = "other.example.org"
    call.rtt_ms = 60.0
    assert advised(call, 30) == []  # what the old one did is not held against it
    call.relay = "third.example.org"
    call.rtt_ms = 200.0
    assert [at for at, _ in advised(call, 10)] == [42.0]  # it was first seen at 37


def test_limits_are_settings() -> None:
    call = course(rtt_limit_ms=500.0, loss_limit=0.2)
    call.rtt_ms = 400.0
    assert advised(call, 20, report=(9, 41)) == []
    assert advised(call, 20, report=(15, 35))[0][1].cause is Cause.LOSS
    call = course(rtt_limit_ms=None, loss_limit=None)
    call.rtt_ms = 4000.0
    assert advised(call, 20, report=(40, 10)) == []


def test_without_a_round_trip() -> None:
    call = course()
    call.rtt_ms = None
    assert advised(call, 20) == []
    assert advised(call, 10, report=(5, 45))[0][1].cause is Cause.LOSS


def test_a_round_trip_that_is_no_longer_known() -> None:
    call = course()
    call.rtt_ms = 200.0
    assert len(advised(call, 6)) == 1
    call.rtt_ms = None
    assert advised(call, 30) == []


def test_a_relay_without_a_name() -> None:
    call = course()
    call.relay, call.rtt_ms = "", 200.0
    call.monitor = Monitor(1000.0)
    call.begin()
    assert [at for at, _ in advised(call, 9)] == [5.0]


@pytest.mark.parametrize("limit", [0, -1.0, math.nan])
def test_limits_that_are_none(limit: float) -> None:
    for settings in ({"rtt_limit_ms": limit}, {"loss_limit": limit}):
        with pytest.raises(ConfigError):
            Monitor(0.0, **settings)


def test_a_loss_of_two_hundred_percent() -> None:
    with pytest.raises(ConfigError):
        Adviser(None, 2.0)
    Adviser(None, 1.0)
