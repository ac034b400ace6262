"""The log of a call: bounded however long it is, without losing what was worst or best."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.quality import history
from relaycall.quality.history import MAX_MARKS, MAX_SAMPLES, History, Mark
from relaycall.quality.sample import Level, Sample

HOUR = 3600


def filled(seconds: int, make: Callable[[int], dict[str, Any]] = lambda at: {}) -> History:
    log = History()
    for at in range(seconds):
        log.add(Sample(at=float(at), **make(at)))
    return log


def times(log: History) -> list[float]:
    return [sample.at for sample in log.samples]


def test_a_short_call_is_kept_as_it_was() -> None:
    log = filled(3000, lambda at: {"rtt_ms": float(at), "loss": 0.5})
    assert list(log.samples) == [Sample(at=float(at), rtt_ms=float(at), loss=0.5) for at in range(3000)]


@pytest.mark.parametrize("seconds", [0, 1, 3599, 3600, 3601, 3602, 7200, 7201, 40_001])
def test_the_number_is_bounded_and_the_ends_are_there(seconds: int) -> None:
    log = filled(seconds)
    assert len(log.samples) <= MAX_SAMPLES
    assert len(log.samples) >= min(seconds, MAX_SAMPLES / 2 - 4)
    if seconds:
        assert times(log)[0] == 0.0
        assert times(log)[-1] == seconds - 1
    assert times(log) == sorted(set(times(log)))


def test_it_is_never_above_the_bound() -> None:
    log = History()
    for at in range(4 * HOUR):
        log.add(Sample(at=float(at)))
        assert len(log.samples) <= MAX_SAMPLES
        if MAX_SAMPLES <= at < MAX_SAMPLES + 600 and at % 50 == 0:  # while they are being merged
            assert times(log) == sorted(set(times(log)))


def test_all_samples_stand_for_the_same_time() -> None:
    """The first hour of ten is not told in less detail than the last."""
    log = filled(10 * HOUR)
    by_hour = [sum(hour * HOUR <= at < (hour + 1) * HOUR for at in times(log)) for hour in range(10)]
    assert max(by_hour) - min(by_hour) <= 4
    assert min(by_hour) > 150


@pytest.mark.parametrize(
    ("hours", "at"), [(1, 0), (1, 2), (1, 3598), (1, 3599), (2, 1), (2, 3), (2, 1798), (2, 7210), (9, 3599)]
)
def test_a_single_second_survives(hours: int, at: int) -> None:
    """The worst and the best of a long call, wherever they are."""

    def make(second: int) -> dict[str, Any]:
        if second == at:
            return {"rtt_ms": 900.0, "loss": 0.7, "loss_sent": 0.6, "concealed": 0.5, "score": 1.2, "level": Level.LOST}
        if second == at + 7:
            return {"rtt_ms": 5.0, "loss": 0.0, "loss_sent": 0.0, "score": 4.41, "level": Level.GOOD}
        return {"rtt_ms": 80.0, "loss": 0.01, "loss_sent": 0.01, "concealed": 0.01, "score": 4.0, "level": Level.FAIR}

    samples = filled(hours * HOUR + 20, make).samples
    for name, least, most in [
        ("rtt_ms", 5.0, 900.0),
        ("loss", 0.0, 0.7),
        ("loss_sent", 0.0, 0.6),
        ("score", 1.2, 4.41),
    ]:
        values = [getattr(sample, name) for sample in samples]
        assert (min(values), max(values)) == (least, most), name
    assert max(sample.concealed for sample in samples) == 0.5
    assert {sample.level for sample in samples} == {Level.LOST, Level.GOOD, Level.FAIR}
    worst = next(sample for sample in samples if sample.rtt_ms == 900.0)
    assert abs(worst.at - at) <= 4 * 2 * hours  # near where it was


def test_extremes_are_in_the_order_in_which_they_came() -> None:
    samples = filled(2 * HOUR, lambda at: {"rtt_ms": float(at), "jitter_ms": float(2 * HOUR - at)}).samples
    assert [sample.rtt_ms for sample in samples] == sorted(sample.rtt_ms or 0.0 for sample in samples)
    assert [sample.jitter_ms for sample in samples] == sorted((one.jitter_ms for one in samples), reverse=True)


def test_rates_keep_their_mean() -> None:
    chance = random.Random(1)
    sent = [chance.randrange(2_000_000) for _ in range(4 * HOUR)]
    samples = filled(4 * HOUR, lambda at: {"bitrate_sent": sent[at], "frame_rate_sent": at % 30}).samples
    assert sum(one.bitrate_sent for one in samples) / len(samples) == pytest.approx(sum(sent) / len(sent), rel=0.002)
    assert sum(one.frame_rate_sent for one in samples) / len(samples) == pytest.approx(14.5, rel=0.002)
    assert all(isinstance(one.bitrate_sent, int) for one in samples)


def test_what_is_neither_is_as_it_was_last() -> None:
    log = filled(2 * HOUR, lambda at: {"relay": "a" if at < HOUR else "b", "audio_bitrate": 24000})
    assert log.samples[0].relay == "a"
    assert log.samples[-1].relay == "b"
    assert {sample.audio_bitrate for sample in log.samples} == {24000}


def test_what_was_not_known_stays_unknown() -> None:
    samples = filled(2 * HOUR, lambda at: {"rtt_ms": 50.0 if at >= HOUR else None}).samples
    assert samples[0].rtt_ms is None
    assert samples[-1].rtt_ms == 50.0
    assert {sample.available for sample in samples} == {None}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.none() | st.floats(0, 5000), st.floats(0, 1)), min_size=1, max_size=600))
def test_any_figures(figures: list[tuple[float | None, float]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "MAX_SAMPLES", 16)
        log = filled(len(figures), lambda at: {"rtt_ms": figures[at][0], "loss": figures[at][1]})
    assert len(log.samples) <= 16
    for values, kept in [
        ([rtt for rtt, _ in figures if rtt is not None], [one.rtt_ms for one in log.samples if one.rtt_ms is not None]),
        ([loss for _, loss in figures], [one.loss for one in log.samples]),
    ]:
        assert bool(values) == bool(kept)
        if values:
            assert (min(values), max(values)) == (min(kept), max(kept))
    assert times(log) == sorted(set(times(log)))


def test_marks() -> None:
    log = History()
    log.mark(1.5, "relay", "Moved to b.")
    log.mark(2.0, "level", "Poor.")
    assert list(log.marks) == [Mark(1.5, "relay", "Moved to b."), Mark(2.0, "level", "Poor.")]
    assert log.marks_left_out == 0


def test_of_too_many_marks_the_first_and_the_latest_are_kept() -> None:
    log = History()
    for number in range(MAX_MARKS + 5):
        log.mark(float(number), "level", "")
    assert len(log.marks) == MAX_MARKS
    assert log.marks_left_out == 5
    assert [log.marks[index].at for index in (0, 499, 500, -1)] == [0.0, 499.0, 505.0, 1004.0]


def test_merging_is_done_a_little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it at once took 30 ms, longer than a frame of sound."""
    added = 0
    add = history._Group.add

    def counted(group: Any, sample: Sample) -> None:
        nonlocal added
        added += 1
        add(group, sample)

    monkeypatch.setattr(history._Group, "add", counted)
    log = History()
    for at in range(2 * HOUR):
        before = added
        log.add(Sample(at=float(at)))
        assert added - before <= 9
