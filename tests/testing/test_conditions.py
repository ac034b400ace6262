"""What becomes of packets, in virtual time: luck by the seed, a queue with a rate, steps by a schedule."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import ConfigError
from relaycall.testing.conditions import Conditions, Fate, Schedule

COUNT = 2000
APART = 0.02  # seconds between packets


def fates(conditions: Conditions, seed: int = 1, count: int = COUNT, apart: float = APART) -> list[float | None]:
    """How long each of so many packets took, sent one after the other."""
    fate = Fate(seed)
    fate.conditions = conditions
    return [None if (at := fate.next(n * apart, 140)) is None else at - n * apart for n in range(count)]


def arrived(fated: list[float | None]) -> list[float]:
    return [took for took in fated if took is not None]


def runs_of_lost(fated: list[float | None]) -> list[int]:
    """The lengths of the stretches in which everything was lost."""
    runs, length = [], 0
    for fate in [*fated, 0.0]:
        if fate is None:
            length += 1
        elif length:
            runs.append(length)
            length = 0
    return runs


# --- luck -------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_fates() -> None:
    conditions = Conditions(
        delay=0.01, jitter=0.02, loss=0.2, burst_enter=0.01, burst_leave=0.2, rate=80_000, queue=0.1, reorder=0.1
    )
    assert fates(conditions) == fates(conditions)
    assert fates(conditions) != fates(conditions, seed=2)


def test_a_change_does_not_shift_what_comes_later() -> None:
    fate = Fate(1)
    for n, conditions in enumerate(
        (Conditions(black_hole=True), Conditions(jitter=1.0, loss=0.5), Conditions(rate=1000, queue=0, reorder=1))
        * (COUNT // 3)
    ):
        fate.conditions = conditions
        fate.next(float(n), 140)
    fate.conditions = Conditions(loss=0.3)
    skipped = COUNT // 3 * 3
    later = [fate.next(1e6 + n, 140) is None for n in range(COUNT)]
    assert later == [took is None for took in fates(Conditions(loss=0.3), count=COUNT + skipped)[skipped:]]


def test_loss_is_as_frequent_as_asked_and_independent() -> None:
    fated = fates(Conditions(loss=0.3))
    assert 0.25 < fated.count(None) / COUNT < 0.35
    runs = runs_of_lost(fated)
    assert sum(runs) / len(runs) < 1.7  # 1 / (1 - 0.3) is 1.43


def test_bursts_are_long() -> None:
    runs = runs_of_lost(fates(Conditions(burst_enter=0.02, burst_leave=0.2)))
    assert 3 < sum(runs) / len(runs) < 7  # 1 / 0.2


# --- delay and order --------------------------------------------------------------------------------------------------


def test_jitter_is_on_top_of_the_delay() -> None:
    took = arrived(fates(Conditions(delay=0.1, jitter=0.05), apart=1.0))
    assert len(took) == COUNT
    assert 0.1 <= min(took) < 0.11
    assert 0.14 < max(took) <= 0.15 + 1e-9


def order(conditions: Conditions, apart: float = APART) -> list[int]:
    """The packets by their arrival."""
    fate = Fate(1)
    fate.conditions = conditions
    arrivals = [fate.next(n * apart, 140) or 0.0 for n in range(COUNT)]
    return sorted(range(COUNT), key=arrivals.__getitem__)


@pytest.mark.parametrize("apart", [0.0, 0.001, 0.02])
def test_jitter_keeps_the_order(apart: float) -> None:
    assert order(Conditions(delay=0.05, jitter=0.1), apart) == [*range(COUNT)]
    assert max(arrived(fates(Conditions(delay=0.05, jitter=0.1), apart=apart))) <= 0.15 + 1e-9, "nobody waits longer"


def test_jitter_of_ones_own_does_not() -> None:
    assert order(Conditions(jitter=0.1, reorder=1, reorder_delay=0)) != [*range(COUNT)]


def test_some_are_reordered_and_hold_nobody_up() -> None:
    conditions = Conditions(delay=0.05, reorder=0.1, reorder_delay=0.03)
    took = [round(seconds, 6) for seconds in arrived(fates(conditions))]
    assert set(took) == {0.05, 0.08}
    assert 0.08 < took.count(0.08) / COUNT < 0.12
    assert order(conditions) != [*range(COUNT)]


# --- a rate and a queue -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [64_000, 500_000, 20_000_000])
@pytest.mark.parametrize("size", [140, 1200])
@pytest.mark.parametrize("load", [0.5, 1.5, 10.0])
def test_as_much_passes_as_the_rate_lets(rate: int, size: int, load: float) -> None:
    """For a minute, or 5,000 packets, of a sender that is too slow, too fast, much too fast."""
    fate = Fate(1)
    fate.conditions = Conditions(rate=rate, queue=2 * size * 8 / rate, delay=0.05)
    apart = size * 8 / (rate * load)
    count = min(5000, int(60 / apart))
    arrivals = [at for n in range(count) if (at := fate.next(n * apart, size)) is not None]
    bits = len(arrivals) * size * 8
    assert bits / (arrivals[-1] - 0.05) == pytest.approx(min(load, 1.0) * rate, rel=0.05)
    assert fate.overflowed == count - len(arrivals)
    assert bool(fate.overflowed) == (load > 1)
    assert arrivals == sorted(arrivals)


@pytest.mark.parametrize("queue", [0.0, 0.05, 1.0])
def test_the_queue_is_as_long_as_it_is_and_its_tail_is_dropped(queue: float) -> None:
    """A burst at one moment: it fills the queue, and what comes after that is lost; the first ones are not."""
    fate = Fate(1)
    fate.conditions = Conditions(rate=100_000, queue=queue)
    arrivals = [fate.next(5.0, 125) for _ in range(200)]  # each takes 10 ms
    kept = arrived(arrivals)
    assert arrivals[: len(kept)] == kept
    assert len(kept) == round(queue / 0.01) + 1
    assert kept[-1] == pytest.approx(5.0 + queue + 0.01)
    assert fate.waiting(5.0) == pytest.approx(queue + 0.01)
    assert fate.waiting(kept[-1]) == 0.0
    assert fate.next(kept[-1], 125) == pytest.approx(kept[-1] + 0.01), "it has drained"


def test_what_is_lost_at_random_has_used_the_link() -> None:
    fate = Fate(1)
    fate.conditions = Conditions(rate=100_000, queue=1.0, loss=1.0)
    assert fate.next(0.0, 125) is None
    assert fate.waiting(0.0) == pytest.approx(0.01)
    fate.conditions = Conditions(rate=100_000, queue=1.0, black_hole=True)
    assert fate.next(0.0, 125) is None
    assert fate.waiting(0.0) == pytest.approx(0.01), "a black hole has no queue"
    assert fate.overflowed == 0


def test_a_new_rate_is_for_what_comes() -> None:
    fate = Fate(1)
    fate.conditions = Conditions(rate=100_000, queue=1.0)
    assert fate.next(0.0, 125) == pytest.approx(0.01)
    fate.conditions = Conditions(rate=10_000, queue=1.0)
    assert fate.next(0.0, 125) == pytest.approx(0.11)
    fate.conditions = Conditions()
    assert fate.next(0.0, 125) == pytest.approx(0.11), "nothing overtakes the queue"


_TIMES = st.floats(0, 2)
_CHANCES = st.floats(0, 1)


@given(
    conditions=st.builds(
        Conditions,
        delay=_TIMES,
        jitter=_TIMES,
        loss=_CHANCES,
        burst_enter=_CHANCES,
        burst_leave=_CHANCES,
        burst_loss=_CHANCES,
        rate=st.none() | st.floats(1000, 1e9),
        queue=_TIMES,
        reorder=_CHANCES,
        reorder_delay=_TIMES,
    ),
    seed=st.integers(),
    packets=st.lists(st.tuples(st.floats(0, 0.1), st.integers(28, 1500)), max_size=50),
)
def test_no_packet_is_early_and_none_later_than_all_of_it(
    conditions: Conditions, seed: int, packets: list[tuple[float, int]]
) -> None:
    fate = Fate(seed)
    fate.conditions = conditions
    now, latest = 0.0, 0.0
    for later, size in packets:
        now += later
        arrives = fate.next(now, size)
        if arrives is None:
            continue
        sending = 1500 * 8 / conditions.rate + conditions.queue if conditions.rate is not None else 0.0
        most = sending + conditions.delay + conditions.jitter + conditions.reorder_delay
        assert now + conditions.delay <= arrives <= now + most + 1e-6
        if not conditions.reorder:
            assert arrives >= latest
        latest = arrives


# --- schedules --------------------------------------------------------------------------------------------------------


def rates(schedule: Schedule, *times: float, start: float = 100.0) -> list[float | None]:
    fate = Fate(1)
    fate.run(schedule, start)
    return [fate.at(start + at).rate for at in times]


def test_steps_are_taken_in_time() -> None:
    steps = Schedule([(0.0, {"rate": 4000}), (2.0, {"rate": 2000}), (2.0, {"delay": 1.0}), (3.0, {"rate": None})])
    assert rates(steps, 0.0, 1.99, 2.0, 2.99, 3.0, 1e9) == [4000, 4000, 2000, 2000, None, None]
    assert rates(steps, 2.5) == [2000], "however long nobody asked"
    fate = Fate(1)
    fate.run(steps, 0.0)
    assert fate.next(2.0, 28) == pytest.approx(2.0 + 28 * 8 / 2000 + 1.0)


def test_steps_can_begin_again() -> None:
    steps = Schedule([(0.0, {"rate": 4000}), (1.0, {"rate": 2000})], repeat=3.0)
    assert rates(steps, 0.5, 2.9, 3.0, 4.0, 300.0, 301.5) == [4000, 2000, 4000, 2000, 4000, 2000]


def test_what_a_step_does_not_name_stays() -> None:
    fate = Fate(1)
    fate.run(Schedule([(1.0, {"loss": 0.5})]), 0.0)
    fate.conditions = Conditions(delay=0.2)
    assert fate.at(1.0) == Conditions(delay=0.2, loss=0.5)


def test_another_schedule_takes_the_place_of_one() -> None:
    fate = Fate(1)
    fate.run(Schedule([(1.0, {"rate": 4000})]), 0.0)
    fate.run(Schedule(()), 0.5)
    assert fate.at(2.0).rate is None


@pytest.mark.parametrize(
    ("steps", "repeat"),
    [
        ([(2.0, {}), (1.0, {})], None),
        ([(-1.0, {})], None),
        ([(math.nan, {})], None),
        ([("soon", {})], None),
        ([(1.0, {})], 1.0),
        ([(1.0, {})], math.nan),
        ([(1.0, {"speed": 1})], None),
        ([(1.0, {"loss": 2})], None),
    ],
    ids=str,
)
def test_schedules_that_cannot_be(steps: Any, repeat: float | None) -> None:
    with pytest.raises(ConfigError):
        Schedule(steps, repeat)


@pytest.mark.parametrize(
    "wrong",
    [
        {"delay": -0.1},
        {"jitter": math.nan},
        {"queue": math.inf},
        {"reorder_delay": -1},
        {"loss": 1.1},
        {"burst_leave": -1},
        {"reorder": math.nan},
        {"delay": "long"},
        {"rate": 0},
        {"rate": 999},
        {"rate": math.inf},
        {"rate": math.nan},
        {"rate": "fast"},
    ],
    ids=str,
)
def test_conditions_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Conditions(**wrong)
