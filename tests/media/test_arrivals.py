"""Gaps and losses around a change of path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.arrivals import SIZE, ArrivalLog


def log(*packets: tuple[float, int]) -> ArrivalLog:
    arrivals = ArrivalLog()
    for now, number in packets:
        arrivals.add(now, number & 0xFFFF)
    return arrivals


def steady(count: int, start: int = 0) -> list[tuple[float, int]]:
    return [(number * 0.02, start + number) for number in range(count)]


def test_nothing_is_known_at_first() -> None:
    assert (log().gap_ms(0), log().lost(0)) == (0, 0)
    assert (log((1, 7)).gap_ms(0), log((1, 7)).lost(0)) == (0, 0)
    assert (log((1, 7), (2, 9)).gap_ms(3), log((1, 7), (2, 9)).lost(3)) == (0, 0)


def test_a_steady_stream_has_no_gap() -> None:
    arrivals = log(*steady(100))
    assert arrivals.gap_ms(1.0) == pytest.approx(20)
    assert arrivals.lost(1.0) == 0


@pytest.mark.parametrize("start", [0, 65530, 65500, 32760])
def test_a_gap_counts_from_the_packet_before(start: int) -> None:
    """The relay dies at 0.18 s, the path moves at 0.5 s, sound is back at 0.6 s."""
    arrivals = log(*steady(10, start), *((0.6 + 0.02 * number, start + 30 + number) for number in range(10)))
    assert arrivals.gap_ms(0.5) == pytest.approx(420)
    assert arrivals.lost(0.5) == 20
    assert arrivals.gap_ms(0.61) == pytest.approx(20)
    assert arrivals.lost(0.61) == 0


def test_an_earlier_gap_does_not_count() -> None:
    arrivals = log((0, 1), (5, 100), (5.02, 101), (5.04, 102))
    assert arrivals.gap_ms(5.01) == pytest.approx(20)
    assert arrivals.lost(5.01) == 0
    assert arrivals.gap_ms(5) == pytest.approx(5000)
    assert arrivals.lost(5) == 98


def test_what_a_faster_path_overtakes_is_not_lost() -> None:
    arrivals = log((0, 10), (1, 13))
    assert arrivals.lost(0.5) == 2
    arrivals.add(1.01, 11)
    arrivals.add(1.01, 12)
    assert arrivals.lost(0.5) == 0
    arrivals.add(1.02, 9)  # of before: neither lost nor found
    arrivals.add(1.03, 15)
    assert arrivals.lost(0.5) == 1


def test_what_had_come_early_is_not_lost() -> None:
    assert log((0, 10), (0.1, 13), (0.2, 12), (1, 14)).lost(0.5) == 0


def test_a_time_before_the_log_counts_from_its_first_packet() -> None:
    assert log((1, 100), (2, 99), (3, 104)).lost(0) == 3
    assert log((1, 100), (2, 99), (3, 104)).gap_ms(0) == 1000


def test_the_log_is_bounded() -> None:
    arrivals = log((0, 0), *((100 + number, number) for number in range(1000, 1000 + SIZE)))
    assert arrivals.gap_ms(50) == 1000
    assert arrivals.lost(50) == 0
    assert len(arrivals._packets) == SIZE


@given(
    order=st.permutations(range(30)), lost=st.sets(st.integers(0, 29)), since=st.integers(0, 30), start=st.integers(0)
)
def test_losses_in_any_order(order: list[int], lost: set[int], since: int, start: int) -> None:
    """Reordered within the part before `since` and the part from it on."""
    before = [number for number in order if number < since and number not in lost]
    after = [number for number in order if number >= since and number not in lost]
    arrivals = log(*enumerate(start + number for number in before), *((50, start + number) for number in after))
    expected = set()
    if after:
        first = max(before, default=after[0])
        expected = set(range(first + 1, max(after))) - set(after)
    assert arrivals.lost(50) == len(expected)
    assert arrivals.gap_ms(0) >= 0
