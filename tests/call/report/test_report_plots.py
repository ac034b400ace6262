"""Plots: scales, gaps, thinning, and what stands where."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.call.report.plots import (
    APART,
    HEIGHT,
    STEPS,
    Line,
    Numbered,
    Plot,
    Point,
    Stretch,
    draw,
    draw_lanes,
    runs,
    ticks,
    time_ticks,
)
from tests.call.report.reports import Page

numbers = st.floats(allow_nan=True, allow_infinity=True)


def plot(*lines: Line, least: float = 100.0, low: float = 0.0) -> Plot:
    return Plot("test", "A test", "ms", lines, least, low)


def seconds(values: list[float | None]) -> list[Point]:
    return [(float(i + 1), value) for i, value in enumerate(values)]


def paths(page: str, style: int = 0) -> list[list[tuple[float, float]]]:
    """The points of a line's pieces."""
    found = re.findall(rf'<path class="line s{style}" d="M([^"]*)"', page)
    return [[(float(x), float(y)) for x, y in (p.split() for p in one.replace("h0", "").split("L"))] for one in found]


# --- scales -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 50, 100]),
        (0, 101, [0, 50, 100, 150]),
        (0, 1, [0, 0.5, 1]),
        (0, 180, [0, 50, 100, 150, 200]),
        (1, 4.5, [1, 2, 3, 4, 5]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@given(st.floats(0.001, 1e15))
def test_ticks_reach_the_highest_and_are_few(high: float) -> None:
    found = ticks(0.0, high)
    assert found[0] == 0
    assert 2 <= len(found) <= 6
    assert found[-1] >= high * 0.99999
    assert found[-1] <= high * 2.6


@pytest.mark.parametrize(
    ("until", "expected"),
    [(4, [0, 1, 2, 3, 4]), (90, [0, 30, 60, 90]), (185, [0, 60, 120, 180]), (3600, [0, 900, 1800, 2700, 3600])],
)
def test_times_are_round(until: float, expected: list[float]) -> None:
    assert time_ticks(until) == expected


@given(st.floats(0.001, 1e9))
def test_times_are_few_and_within(until: float) -> None:
    found = time_ticks(until)
    assert 1 <= len(found) <= 6
    assert found[-1] <= until


# --- lines ------------------------------------------------------------------------------------------------------------


def test_there_is_no_line_where_nothing_was_measured() -> None:
    values: list[float | None] = [1.0, 2.0, None, 3.0, float("nan"), 4.0, 5.0]
    assert runs(seconds(values), 7.0) == [[(1, 1), (2, 2)], [(4, 3)], [(6, 4), (7, 5)]]
    holes: list[Point] = [(1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (30.0, 1.0), (31.0, 1.0)]
    assert [len(piece) for piece in runs(holes, 31.0)] == [3, 2]
    assert runs(seconds([None, None]), 2.0) == []


@given(st.lists(st.one_of(st.none(), st.floats(0, 1000)), min_size=1, max_size=4000))
def test_a_long_line_is_thinned_and_keeps_its_extremes(values: list[float | None]) -> None:
    points = seconds(values)
    pieces = runs(points, float(len(values)))
    drawn = [point for piece in pieces for point in piece]
    assert len(drawn) <= 2 * STEPS + 2
    assert set(drawn) <= set(points)
    assert drawn == sorted(drawn, key=lambda point: point[0])
    known = [value for value in values if value is not None]
    if known:
        assert {min(known), max(known)} <= {value for _, value in drawn}


def test_one_second_of_an_hour_is_to_be_seen() -> None:
    values: list[float | None] = [50.0] * 3600
    values[1000], values[2000] = 900.0, 1.0
    (piece,) = runs(seconds(values), 3600.0)
    assert len(piece) <= 2 * STEPS + 2
    assert {(1001.0, 900.0), (2001.0, 1.0)} <= set(piece)


def test_a_thinned_line_keeps_its_gaps() -> None:
    values: list[float | None] = [5.0] * 1800 + [None] * 60 + [5.0] * 1740
    pieces = runs(seconds(values), 3600.0)
    assert len(pieces) == 2
    assert pieces[0][-1][0] == pytest.approx(1800, abs=12)
    assert pieces[1][0][0] == pytest.approx(1861, abs=12)


def test_values_stand_at_their_heights() -> None:
    drawn = draw(plot(Line("x", [(0.0, 0.0), (5.0, 50.0), (10.0, 100.0)])), 10.0)
    assert paths(drawn) == [[(0, 1000), (500, 500), (1000, 0)]]
    drawn = draw(plot(Line("x", [(0.0, 1.0), (10.0, 5.0)]), least=4.5, low=1.0), 10.0)
    assert paths(drawn) == [[(0, 1000), (1000, 0)]]


def test_one_value_alone_is_a_dot() -> None:
    assert 'd="M500.0 500.0h0"' in draw(plot(Line("x", [(5.0, 50.0)])), 10.0)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.one_of(st.none(), numbers)), max_size=60))
def test_whatever_the_values_what_is_drawn_is_within(points: list[Point]) -> None:
    points.sort(key=lambda point: point[0])
    until = max([1.0, *(at for at, _ in points)])
    drawn = draw(plot(Line("x", points), Line("y", points, 1, True)), until)
    Page(drawn)
    assert "nan" not in drawn
    assert "inf" not in drawn
    for piece in (*paths(drawn), *paths(drawn, 1)):
        assert all(0 <= x <= 1000 and 0 <= y <= 1000 for x, y in piece)
        assert all(before[0] <= after[0] for before, after in pairwise(piece))


# --- what stands beside -----------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100), min_size=1, max_size=4))
def test_names_do_not_stand_on_each_other(ends: list[float]) -> None:
    drawn = draw(plot(*(Line(f"line {i}", [(1.0, end)], i) for i, end in enumerate(ends))), 1.0)
    heights = [float(y) for y in re.findall(r'<svg class="name" x="100%" y="([^"]*)"', drawn)]
    assert len(heights) == len(ends)
    assert all(after - before >= APART - 0.11 for before, after in pairwise(heights))
    assert all(-0.1 <= height <= HEIGHT + 0.1 for height in heights)


def test_each_line_has_its_name_where_it_ends_and_dashes_of_its_own() -> None:
    lines = [Line(f"line {i}", [(1.0, value)], i) for i, value in enumerate((90.0, 10.0, 60.0))]
    drawn = draw(plot(*lines, Line("nothing", [(1.0, None)], 3)), 1.0)
    names = re.findall(r'<line class="line s(\d)" [^>]*/><text class="label s(\d)"[^>]*>([^<]*)<', drawn)
    assert names == [("0", "0", "line 0"), ("2", "2", "line 2"), ("1", "1", "line 1")]


def test_a_plot_has_its_scale_its_unit_and_its_time() -> None:
    text = Page(draw(plot(Line("x", [(90.0, 50.0)])), 90.0)).text
    for shown in ("A test", "ms", "0", "50", "100", "0:00", "0:30", "1:00", "1:30"):
        assert f" {shown} " in f" {text} "


@pytest.mark.parametrize(
    ("times", "shown"),
    [
        ([10.0, 50.0], ["1", "2"]),
        ([10.0, 12.0], ["1,2"]),
        ([10.0, 11.0, 12.0, 60.0], ["1–3", "4"]),
        ([10.0, 10.0, 10.0, 10.0, 10.0, 10.0], ["1–6"]),
    ],
)
def test_marks_that_are_close_are_told_together(times: list[float], shown: list[str]) -> None:
    marks = [Numbered(at, i + 1, "relay") for i, at in enumerate(times)]
    drawn = draw(plot(Line("x", [(5.0, 50.0)])), 100.0, marks)
    assert re.findall(r'<text class="number"[^>]*>([^<]*)<', drawn) == shown
    assert drawn.count('class="mark relay"') == len(times)


def test_what_another_mark_is_between_is_told_one_by_one() -> None:
    drawn = draw(plot(), 100.0, [Numbered(10.0, 1, "relay"), Numbered(10.5, 3, "relay")])
    assert re.findall(r'<text class="number"[^>]*>([^<]*)<', drawn) == ["1,3"]


def test_lanes_have_their_stretches_with_names_where_there_is_room() -> None:
    stretches = [Stretch(0.0, 50.0, "good", "is-good"), Stretch(50.0, 53.0, "lost", "is-lost")]
    stretches += [Stretch(53.0, 54.0, "poor", "is-poor"), Stretch(54.0, 100.0, "good", "is-good")]
    drawn = draw_lanes("lanes", "Lanes", [("quality", stretches)], 100.0)
    assert re.findall(r'<rect class="lane (\S*)" x="([\d.]*)%" width="([\d.]*)%"', drawn) == [
        ("is-good", "0.00", "50.00"),
        ("is-lost", "50.00", "3.00"),
        ("is-poor", "53.00", "1.00"),
        ("is-good", "54.00", "46.00"),
    ]
    assert re.findall(r'<text class="in [^>]*>([^<]*)<', drawn) == ["good", "l", "good"]


def test_large_numbers_are_short() -> None:
    text = Page(draw(plot(Line("x", [(1.0, 4e6)])), 1.0)).text
    assert " 4M " in text
    assert math.isclose(float(re.findall(r"M([\d.]+)", draw(plot(Line("x", [(1.0, 4e6)])), 1.0))[0]), 1000.0)
