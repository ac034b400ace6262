"""The score: the figures of G.107, the order of things, and no way out of its range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.quality.score import R0, mouth_to_ear_ms, opinion, rating, score

ROUNDING = 1e-9

delays = st.floats(0, 1e6)
shares = st.floats(0, 1)
bursts = st.floats(1, 10)


@pytest.mark.parametrize(("r", "mos"), [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)])
def test_table_b_1_of_g_107(r: float, mos: float) -> None:
    assert opinion(r) == pytest.approx(mos, abs=0.007)


@pytest.mark.parametrize(("r", "mos"), [(R0, 4.41), (100, 4.5), (150, 4.5), (0, 1.0), (3, 1.0), (-20, 1.0)])
def test_the_ends_of_the_scale(r: float, mos: float) -> None:
    assert round(opinion(r), 2) == mos


@pytest.mark.parametrize(
    ("delay_ms", "impairment"), [(0, 0.0), (100, 0.0), (150, 0.16), (200, 3.04), (300, 14.8), (400, 24.1), (600, 35.2)]
)
def test_what_delay_costs(delay_ms: float, impairment: float) -> None:
    """Idd, by hand."""
    assert R0 - rating(delay_ms, 0.0) == pytest.approx(impairment, abs=0.06)


@pytest.mark.parametrize(
    ("missing", "burst", "impairment"),
    [(0.0, 1, 0.0), (0.02, 1, 15.83), (0.05, 1, 31.67), (0.1, 1, 47.5), (1.0, 1, 86.36), (0.02, 2, 17.27)],
)
def test_what_is_missing_costs(missing: float, burst: float, impairment: float) -> None:
    assert R0 - rating(0.0, missing, burst) == pytest.approx(impairment, abs=0.005)


def test_mouth_to_ear() -> None:
    """Half the round trip, what the listener holds back, the frame and libopus' look-ahead."""
    assert mouth_to_ear_ms(100.0, 40.0) == 116.5
    assert mouth_to_ear_ms(-5.0, -5.0) == 26.5


def test_a_clean_call_has_the_best_score() -> None:
    assert score(80.0, 30.0, 0.0) == pytest.approx(4.41, abs=0.005)
    assert score(None, 30.0, 0.0) == score(0.0, 30.0, 0.0)


@given(st.floats(), st.floats(), st.floats(), st.floats())
def test_it_stays_in_its_range(rtt_ms: float, playout_ms: float, missing: float, burst: float) -> None:
    assert 1.0 <= score(rtt_ms, playout_ms, missing, burst) <= 4.5


@given(delays, delays, delays, shares, bursts)
def test_more_delay_is_never_better(
    rtt_ms: float, playout_ms: float, more: float, missing: float, burst: float
) -> None:
    before = score(rtt_ms, playout_ms, missing, burst) + ROUNDING
    assert score(rtt_ms + more, playout_ms, missing, burst) <= before
    assert score(rtt_ms, playout_ms + more, missing, burst) <= before


@given(delays, shares, shares, bursts)
def test_more_loss_is_never_better(rtt_ms: float, one: float, other: float, burst: float) -> None:
    less, more = sorted((one, other))
    assert score(rtt_ms, 40.0, more, burst) <= score(rtt_ms, 40.0, less, burst) + ROUNDING


@given(delays, shares, bursts, bursts)
def test_longer_gaps_are_never_better(rtt_ms: float, missing: float, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert score(rtt_ms, 40.0, missing, more) <= score(rtt_ms, 40.0, missing, less) + ROUNDING


def test_each_argument_counts() -> None:
    """Monotone, and not by being constant."""
    base = score(200.0, 60.0, 0.02)
    assert score(400.0, 60.0, 0.02) < base - 0.1
    assert score(200.0, 260.0, 0.02) < base - 0.1
    assert score(200.0, 60.0, 0.04) < base - 0.1
    assert score(200.0, 60.0, 0.02, 2.0) < base - 0.02


def test_longer_bursts_than_the_model_holds_for_count_as_two() -> None:
    assert rating(0.0, 0.1, 8.0) == rating(0.0, 0.1, 2.0) < rating(0.0, 0.1, 1.5)
    assert rating(0.0, 0.1, 0.2) == rating(0.0, 0.1, 1.0)
