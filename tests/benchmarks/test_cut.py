"""What the benchmark of the cut link counts."""

from __future__ import annotations

import pytest

from tests.benchmarks.cut import NARROW, Course, Note, report


def noted(
    since: float, until: float, video: int, *, heard: int = 5, made_up: int = 0, before: Note | None = None
) -> list[Note]:
    """Ten times a second; `video` in bit/s, the others in each tenth."""
    notes = [] if before is None else [before]
    last = before or Note(since, 0, 0, 0)
    for number in range(1, round((until - since) * 10) + 1):
        last = Note(since + number / 10, last.heard + heard, last.made_up + made_up, last.video + video // 80)
        notes.append(last)
    return notes


def course(late: list[float]) -> Course:
    """At 100 s the link is cut; a second later video gives way; at 120 it is restored, and 5 s later video is."""
    notes = noted(90, 101, 1_000_000)
    notes += noted(101, 102, 100_000, heard=3, made_up=2, before=notes.pop())
    notes += noted(102, 125, 100_000, before=notes.pop())
    notes += noted(125, 137, 900_000, before=notes.pop())
    return Course(notes, notes, 100.0, 120.0, 137.0, late, 0.8, [(0.0, "VideoAdapted", "rate")])


def test_what_is_counted_of_a_call() -> None:
    found = course([99.0, 100.2, 100.9, 121.0]).figures()
    assert found["made_up_percent"] == pytest.approx(100 * 20 / 950, rel=0.1)
    assert found["unheard_percent"] == pytest.approx(100 * 20 / 950, rel=0.3)
    assert found["adapted_after_s"] == pytest.approx(1.0, abs=0.15)
    assert found["queue_late_until_s"] == pytest.approx(0.9)
    assert found["used_percent"] == 80
    assert found["recovered_after_s"] == pytest.approx(5.0, abs=0.3)


def test_what_never_happens_takes_all_the_time() -> None:
    notes = noted(90, 137, 2 * NARROW)
    found = Course(notes, notes, 100.0, 120.0, 137.0, [], 0.8, []).figures()
    assert found["adapted_after_s"] == 20
    assert found["queue_late_until_s"] == 0


def test_a_table_has_a_row_for_each_case_and_library() -> None:
    one = course([])
    found = report({("up", "relaycall"): [one, one], ("both", "aiortc"): [one]})
    assert [row[:2] for row in found.tables[0].rows] == [["up", "relaycall"], ["both", "aiortc"]]
    assert found.figures["cut_both_aiortc_used_percent"].median == 80
    assert len(one.lines()) > 50
