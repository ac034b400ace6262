"""How long packets wait on their way, by the differences between two clocks that know nothing of each other."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.queueing import BLOCKS, Queueing

OFFSETS = [0.0, 90000.0, -90000.0]  # of the peer's clock


def after(seconds: float, waits: Callable[[float], float], *, offset: float = 0.0, drift: float = 0.0) -> Queueing:
    """Packets each 20 ms, which wait so long at a moment and keep their order."""
    queueing, arrival = Queueing(), 0.0
    for number in range(round(seconds * 50)):
        sent = number * 0.02
        arrival = max(arrival, 500 + sent + 0.05 + waits(sent))
        queueing.add(arrival - sent * (1 + drift) + offset, arrival)
    return queueing


def test_before_anything_came() -> None:
    assert Queueing().mean == 0


@pytest.mark.parametrize("offset", OFFSETS)
def test_nothing_waits(offset: float) -> None:
    assert after(40, lambda at: 0.0, offset=offset).mean == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("wait", [0.01, 0.2, 1.0, 5.0])
def test_a_queue_is_measured_within_a_second_of_its_beginning(offset: float, wait: float) -> None:
    assert after(12, lambda at: wait if at >= 10.5 else 0.0, offset=offset).mean == pytest.approx(wait, rel=0.15)
    drained = after(13 + wait, lambda at: wait if 8 < at < 11 else 0.0, offset=offset)
    assert drained.mean == pytest.approx(0, abs=1e-6)


def test_it_is_the_mean_of_the_last_second() -> None:
    noise = random.Random(3)
    assert after(20, lambda at: 0.1 * noise.random()).mean == pytest.approx(0.05, abs=0.015)
    assert after(20, lambda at: 0.1 if at > 19.5 else 0.0).mean == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("drift", [100e-6, -100e-6])
def test_clocks_that_drift_apart_are_no_queue(drift: float) -> None:
    assert after(600, lambda at: 0.0, drift=drift).mean <= 0.0035


def test_a_longer_path_is_forgotten_after_30_s() -> None:
    assert after(39, lambda at: 0.1 if at > 10 else 0.0).mean == pytest.approx(0.1)
    assert after(44, lambda at: 0.1 if at > 10 else 0.0).mean == pytest.approx(0)


def test_a_shorter_path_counts_at_once() -> None:
    assert after(12.5, lambda at: 0.0 if at > 11 else 0.1).mean == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("jump", [1000.0, -1000.0])
def test_another_timeline_of_the_peers_begins_anew(jump: float) -> None:
    queueing = after(20, lambda at: 0.0)
    for number in range(100):
        queueing.add(jump + 0.05, 520 + number * 0.02)
    assert queueing.mean == pytest.approx(0)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 100)), max_size=300))
def test_whatever_comes_it_is_bounded(packets: list[tuple[float, float]]) -> None:
    queueing, now = Queueing(), 0.0
    for transit, pause in packets:
        now += pause
        queueing.add(transit, now)
        assert 0 <= queueing.mean < 1000
        assert len(queueing._over) <= BLOCKS
