"""The monitor: what it makes of readings, second by second and over windows, whatever the counts do."""

from __future__ import annotations

import random
from dataclasses import fields
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.errors import ConfigError
from relaycall.quality.monitor import MAX_DECISIONS, Monitor
from relaycall.quality.sample import Level, PeerReport, Reading, Sample
from relaycall.quality.score import score
from relaycall.quality.windows import LONGEST, SLOT, Span, Windows
from tests.quality.readings import Course, course

# --- one sample -------------------------------------------------------------------------------------------------------


def test_the_first_reading_says_nothing_yet() -> None:
    monitor = Monitor(1000.0)
    assert monitor.read(1000.0, Reading(packets_sent=5000, bytes_sent=5000)) is None
    assert monitor.window(5.0) is None
    assert monitor.advice(1100.0) is None


def test_a_clean_second() -> None:
    call = course()
    call.gauge(jitter_ms=2.0, queue_ms=1.5, playout_delay_ms=30.0, video_height=180, frames_shown=0)
    sample = call.go(
        video_frames_sent=25, video_bytes_sent=60000, video_bytes_received=1000, video_height=360, available=900000
    )
    assert sample == Sample(
        at=1.0,
        relay="relay.example.org",
        rtt_ms=60.0,
        loss_sent=0.0,
        jitter_ms=2.0,
        queue_ms=1.5,
        playout_delay_ms=30.0,
        bitrate_sent=43200,
        bitrate_received=43200,
        available=900000,
        frame_rate_sent=25.0,
        video_bitrate_sent=480000,
        video_bitrate_received=8000,
        video_sent=360,
        video_received=180,
        score=score(60.0, 30.0, 0.0),
        level=Level.GOOD,
    )


def test_rates_follow_the_time_that_passed() -> None:
    call = course()
    for seconds in (0.5, 2.0, 10.0):
        sample = call.go(seconds)
        assert sample.bitrate_sent == 43200
        assert sample.loss == 0.0


def test_shares_of_loss_recovery_and_concealment() -> None:
    sample = course().go(lost=10, recovered=6, report=(1, 49))
    assert (sample.loss, sample.recovered, sample.concealed, sample.loss_sent) == (0.2, 0.12, 0.08, 0.02)
    assert sample.score == score(60.0, 0.0, 0.08)


def test_packets_that_come_too_late_are_concealed_and_not_lost() -> None:
    sample = course().go(concealed=5)
    assert (sample.loss, sample.concealed) == (0.0, 0.1)
    assert sample.score == score(60.0, 0.0, 0.1)


def test_the_loss_the_other_side_reports_stays_until_it_reports_again() -> None:
    call = course()
    assert call.go(report=None).loss_sent is None
    assert call.go(report=(5, 45)).loss_sent == 0.1
    assert call.go(report=None).loss_sent == 0.1
    assert call.go(report=(0, 100)).loss_sent == 0.0


def test_no_time_passed() -> None:
    call = course()
    call.go()
    call.now -= 0.5
    assert call.read(bytes_sent=10**6) is None
    assert window(call, 5.0).at == 1.0
    call.now += 0.5005
    assert call.read(bytes_sent=10**6) is None  # half a millisecond: no rate can be told from it
    call.now += 0.9995
    sample = call.read(bytes_sent=10**6)
    assert sample is not None
    assert sample.at == 2.0
    assert sample.bitrate_sent == 8 * (10**6 - 5400)  # of the whole second since the reading that counted


# --- counts that do odd things ----------------------------------------------------------------------------------------


def test_counts_that_begin_anew_begin_the_windows_anew() -> None:
    call = course()
    call.go(lost=25)
    assert call.read(packets_sent=0, bytes_sent=0, packets_received=0, bytes_received=0, theirs=PeerReport()) is None
    assert call.monitor.window(30.0) is None
    sample = call.go()
    assert sample.loss == 0.0
    assert sample.bitrate_sent == sample.bitrate_received == 43200


@pytest.mark.parametrize("count", ["packets_sent", "packets_received"])
def test_each_count_of_packets_shows_a_new_session(count: str) -> None:
    call = course()
    call.go()
    call.now += 1
    assert call.read(**{count: 3}) is None


def test_a_new_count_of_the_other_sides_reports_is_no_loss() -> None:
    call = course()
    assert call.go(report=(0, 5000)).loss_sent == 0.0
    call.now += 1
    sample = call.read(mine=PeerReport(received=1000, lost=900))
    assert sample is not None
    assert sample.loss_sent == 0.0  # as before
    assert call.go(report=(25, 25)).loss_sent == 0.5


def test_lost_packets_that_came_after_all() -> None:
    """What was overtaken counts as lost for a moment: not again each time, and for no more than it was."""
    call = course()
    for _ in range(10):
        call.go(lost=2)
        call.go(late=2)
    window = call.monitor.window(30.0)
    assert window is not None
    assert window.loss == pytest.approx(2 / 1000, abs=1e-4)
    assert call.go(lost=10).loss == pytest.approx(8 / 48)  # the two that came just now make up for two


def test_much_that_came_after_all_hides_ten_losses_at_most() -> None:
    call = course()
    call.go(lost=49)
    call.go(late=49)
    assert call.go(lost=25).loss == 15 / 40


counts = st.integers(0, 2**40)
times = st.floats(0, 1e6)
peer_reports = st.builds(PeerReport, *[counts] * 4, *[times] * 3, *[counts] * 3, video_height=st.integers(0, 65535))
readings = st.builds(
    Reading,
    relay=st.sampled_from(["", "a", "b"]),
    rtt_ms=st.none() | times,
    packets_sent=counts,
    bytes_sent=counts,
    packets_received=counts,
    bytes_received=counts,
    mine=st.none() | peer_reports,
    theirs=peer_reports,
    video_frames_sent=counts,
    video_bytes_sent=counts,
    video_bytes_received=counts,
)
SHARES = ["loss", "loss_sent", "recovered", "concealed"]


def check(sample: Sample | None) -> None:
    """Nothing in it is negative, shares are shares, and the score is one."""
    if sample is None:
        return
    for each in fields(Sample):
        value = getattr(sample, each.name)
        if isinstance(value, int | float):
            assert value >= 0, each.name
            assert each.name not in SHARES or value <= 1, each.name
    assert 1 <= sample.score <= 4.5


@settings(max_examples=200)
@given(st.lists(st.tuples(st.floats(-1, 100), readings), max_size=12))
def test_any_readings(steps: list[tuple[float, Reading]]) -> None:
    monitor, now = Monitor(0.0), 0.0
    for seconds, reading in steps:
        now = max(0.0, now + seconds)
        check(monitor.read(now, reading))
        for window in (1.0, 5.0, 30.0):
            check(monitor.window(window))
        monitor.advice(now)


# --- silence ----------------------------------------------------------------------------------------------------------


def test_what_does_not_come_is_lost_before_it_is_reported_and_only_once() -> None:
    call = course()
    call.go()
    assert [call.go(silent=True).loss for _ in range(3)] == [1.0, 1.0, 1.0]
    assert call.go(told=152).loss == 2 / 52
    assert call.go().loss == 0.0
    window = call.monitor.window(5.0)
    assert window is not None
    assert window.loss == 152 / 252


def test_nothing_has_come_yet() -> None:
    """The other side's first packet may take a moment, which is no loss; but nothing is heard."""
    sample = course().go(silent=True, concealed=0)
    assert sample.loss == 0.0
    assert sample.score < 1.01


def test_a_short_time_without_a_packet_is_no_silence() -> None:
    call = course()
    call.go()
    sample = call.go(0.3, silent=True, concealed=0)
    assert sample.loss == 0.0
    assert sample.score > 4
    assert call.go(0.1, silent=True, concealed=0).loss == 0.0
    assert call.go(0.1, silent=True, concealed=0).loss == 1.0
    window = call.monitor.window(1.0)
    assert window is not None
    assert window.loss == pytest.approx(25 / 75)


def test_silence_is_scored_as_silence() -> None:
    call = course()
    call.go()
    assert call.go(silent=True).score < 1.01
    assert call.go(silent=True, concealed=0).score < 1.01


def test_silence_on_the_other_side() -> None:
    call = course()
    call.go()
    call.gauge(jitter_ms=1.0)
    assert call.go(report=(0, 0)).loss_sent == 0.0  # the same report: it says nothing new
    call.now += 1
    mine = call.monitor._reading.mine
    assert mine is not None
    sample = call.read(mine=PeerReport(mine.received, mine.lost, concealed=100))
    assert sample is not None
    assert sample.loss_sent == 1.0


# --- windows ----------------------------------------------------------------------------------------------------------


def window(call: Course, seconds: float) -> Sample:
    sample = call.monitor.window(seconds)
    assert sample is not None
    return sample


def test_windows_of_one_five_and_thirty_seconds() -> None:
    call = course()
    for second in range(60):
        call.rtt_ms = 100.0 if second >= 58 else 50.0
        call.go(lost=10 if second in (35, 57, 59) else 0)
    assert [window(call, seconds).loss for seconds in (1.0, 5.0, 30.0)] == [10 / 50, 20 / 250, 30 / 1500]
    assert [window(call, seconds).rtt_ms for seconds in (1.0, 5.0)] == [100.0, 70.0]
    assert window(call, 30.0).rtt_ms == pytest.approx(1600 / 30)
    assert window(call, 30.0).at == 60.0
    assert window(call, 30.0).bitrate_sent == 43200


def test_a_window_of_one_second_is_the_sample() -> None:
    call = course()
    for _ in range(3):
        sample = call.go(lost=5, recovered=2, report=(3, 47))
        assert window(call, 1.0) == window(call, 0.1) == sample


@pytest.mark.parametrize("interval", [0.01, 0.1, 0.3, 0.98, 1.0, 1.03, 2.5])
def test_windows_are_as_long_whatever_the_interval(interval: float) -> None:
    windows = Windows()
    for _ in range(round(100 / interval)):
        windows.add(Span(interval))
    for seconds in (1.0, 5.0, 30.0):
        slot = max(interval, SLOT)
        assert seconds - SLOT / 2 - 1e-6 <= windows.latest(seconds).seconds <= seconds + slot


def test_a_round_trip_that_is_not_known_does_not_count() -> None:
    call = course()
    call.go()
    call.rtt_ms = None
    assert call.go().rtt_ms is None
    assert window(call, 5.0).rtt_ms == 60.0


@pytest.mark.parametrize("seconds", [0, -1.0, 30.5, float("nan"), float("inf")])
def test_a_window_that_is_not_kept(seconds: float) -> None:
    with pytest.raises(ConfigError):
        course().monitor.window(seconds)


@settings(max_examples=30)
@given(st.lists(st.floats(1e-3, 40), min_size=1, max_size=400))
def test_memory_is_bounded(intervals: list[float]) -> None:
    windows = Windows()
    for seconds in intervals:
        windows.add(Span(seconds))
        assert len(windows._slots) <= 2 * LONGEST / SLOT + 1
        assert windows.latest(LONGEST).seconds >= min(LONGEST, sum(intervals[: intervals.index(seconds) + 1])) - SLOT


def test_memory_is_bounded_at_a_thousand_readings_a_second() -> None:
    windows = Windows()
    for _ in range(70_000):
        windows.add(Span(0.001))
    assert 60 <= len(windows._slots) <= 121
    for _ in range(1000):
        windows.add(Span(0.4))
    assert 75 <= len(windows._slots) <= 76


# --- how losses are spread --------------------------------------------------------------------------------------------


def lossy(seed: int, share: float, run: int) -> Course:
    """Thirty seconds with gaps of so many frames."""
    chance, call = random.Random(seed), course()
    gap = 0
    for _ in range(30):
        lost = 0
        for _ in range(50):
            if not gap and chance.random() < share / run:
                gap = run
            lost += gap > 0
            gap = max(0, gap - 1)
        call.go(lost=min(lost, 49))
    return call


def test_random_loss_is_no_burst() -> None:
    bursts = [lossy(seed, 0.05, 1).monitor._windows.burst() for seed in range(20)]
    assert sum(bursts) / len(bursts) < 1.15


def test_gaps_of_five_frames_are() -> None:
    bursts = [lossy(seed, 0.05, 5).monitor._windows.burst() for seed in range(20)]
    assert sum(bursts) / len(bursts) > 1.8


def test_a_burst_costs_more_than_its_share() -> None:
    even, uneven = course(), course()
    for second in range(30):
        even.go(lost=2)
        uneven.go(lost=20 if second % 10 == 9 else 0)
    assert window(even, 30.0).concealed == window(uneven, 30.0).concealed == 0.04
    assert window(uneven, 30.0).score < window(even, 30.0).score - 0.1


def test_few_losses_say_nothing_of_bursts() -> None:
    call = course()
    for second in range(30):
        call.go(lost=19 if second == 10 else 0)
    assert call.monitor._windows.burst() == 1.0
    call.go(lost=1)
    assert call.monitor._windows.burst() > 1.5


# --- levels -----------------------------------------------------------------------------------------------------------


def test_a_change_of_level_is_told() -> None:
    call = course()
    call.go()
    assert [call.go(lost=15).level for _ in range(2)] == [Level.GOOD, Level.POOR]
    (change,) = call.monitor.decisions
    assert (change.at, change.old, change.new) == (3.0, Level.GOOD, Level.POOR)
    last = call.samples[-1]
    assert last is not None
    assert change.score == last.score
    assert call.monitor.level is Level.POOR


def test_silence_loses_the_call_and_sound_brings_it_back() -> None:
    call = course()
    call.go()
    levels = [call.go(silent=True).level for _ in range(4)]
    assert levels == [Level.GOOD, Level.LOST, Level.LOST, Level.LOST]
    levels = [call.go(told=200 if not second else 0).level for second in range(10)]
    assert levels == [Level.POOR] * 8 + [Level.GOOD] * 2  # four until the recent score is clean, and five


@pytest.mark.parametrize(("loss", "most"), [(0.01, 2), (0.02, 40), (0.03, 140), (0.06, 25), (0.12, 4)])
def test_the_level_does_not_flap_under_steady_loss(loss: float, most: int) -> None:
    """An hour of random loss, 3 % of which is about the bound between good and fair."""
    chance, call = random.Random(5), course()
    levels = [call.go(lost=sum(chance.random() < loss for _ in range(50))).level for _ in range(3600)]
    assert sum(one is not other for one, other in pairwise(levels)) <= most


def test_decisions_that_nobody_takes_are_bounded() -> None:
    call = course()
    for _ in range(3 * MAX_DECISIONS):
        call.go(silent=True)
        call.go(silent=True)
        call.go()
    assert len(call.monitor.decisions) == MAX_DECISIONS
    assert call.monitor.decisions[-1].at == call.now - 1000.0
