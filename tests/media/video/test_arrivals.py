"""Each packet that came is told twice, with its time, in as few messages as that takes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.video.arrivals import REACH, ArrivalReports
from relaycall.media.video.feedback import MAX_ARRIVALS, Arrivals, encode_arrivals, unwrapped


class Told:
    """Reports in virtual time: what was told, and when."""

    def __init__(self) -> None:
        self.reports = ArrivalReports()
        self.began = 0.0
        self.messages: list[tuple[float, Arrivals]] = []
        self.times: Counter[tuple[int, float]] = Counter()
        self.highest = 0

    def run(self, arrivals: list[tuple[float, int]]) -> Told:
        """Packets as they come, (when, number), and two seconds more."""
        self.began = arrivals[0][0]
        for when, number in arrivals:
            self._until(when)
            self.reports.add(number & 0xFFFF, when)
            self.highest = max(self.highest, number)
            self._message(when)
        self._until(arrivals[-1][0] + 2)
        return self

    def _until(self, when: float) -> None:
        while (due := self.reports.due) is not None and due < when:
            assert self._message(due)

    def _message(self, now: float) -> bool:
        message = self.reports.message(now)
        if message is None:
            return False
        encode_arrivals(message)
        self.messages.append((now, message))
        first = unwrapped(message.first, self.highest)
        for number, time in enumerate(message.times, first):
            if time is not None:
                self.times[number, round(self.began + time, 6)] += 1
        return True

    @property
    def intervals(self) -> list[float]:
        return [after - before for (before, _), (after, _) in pairwise(self.messages)]


def evenly(rate: float, seconds: float, first: int = 65500) -> list[tuple[float, int]]:
    return [(10 + number / rate, first + number) for number in range(int(rate * seconds))]


@pytest.mark.parametrize("rate", [5, 15, 60, 99, 101, 150, 284, 340])
def test_each_packet_is_told_twice(rate: int) -> None:
    arrivals = evenly(rate, 3)
    told = Told().run(arrivals)
    assert dict(told.times.keys()) == {number: round(when, 6) for when, number in arrivals}
    assert min(told.times.values()) >= 2


@pytest.mark.parametrize(("rate", "interval"), [(30, 0.1), (80, 0.1), (150, 0.05), (340, 0.05)])
def test_pace(rate: int, interval: float) -> None:
    told = Told().run(evenly(rate, 3))
    steady = told.intervals[2:-2]
    assert len(steady) > 20
    assert steady == pytest.approx([interval] * len(steady), abs=0.001 + 0.4 / rate)


@pytest.mark.parametrize("rate", [30, 284, 700, 5000])
def test_never_more_than_twenty_a_second(rate: int) -> None:
    told = Told().run(evenly(rate, 2))
    assert min(told.intervals) >= 0.05 - 1e-9


@pytest.mark.parametrize("rate", [400, 500, 600, 700])
def test_when_there_are_too_many_each_is_told_once(rate: int) -> None:
    arrivals = evenly(rate, 2)
    told = Told().run(arrivals)
    assert len(told.times) == len(arrivals)


def test_no_more_is_kept_than_can_be_told() -> None:
    reports = ArrivalReports()
    for when, number in evenly(2000, 1):
        reports.add(number & 0xFFFF, when)
    assert len(reports._times) <= REACH
    assert len(reports._left) <= REACH


def test_nothing_is_told_when_nothing_came() -> None:
    reports = ArrivalReports()
    assert reports.due is None
    assert reports.message(5.0) is None
    told = Told().run([(10.0, 1), (10.01, 2), (20.0, 3)])
    assert len(told.messages) == 4
    assert told.reports.due is None


def test_after_a_pause_it_does_not_wait_long() -> None:
    told = Told().run([(10.0, 1), (50.0, 2)])
    assert [when for when, _ in told.messages] == pytest.approx([10.05, 10.15, 50.05, 50.15])


def test_what_did_not_come_is_told_between_what_did() -> None:
    told = Told().run([(10.0, 1), (10.001, 2), (10.002, 5)])
    [message] = {message for _, message in told.messages}
    assert message.first == 1
    assert [time if time is None else round(time, 6) for time in message.times] == [0.0, 0.001, None, None, 0.002]


def test_the_times_do_not_tell_for_how_long_the_machine_is_up() -> None:
    """The monotonic clock of most systems counts from then: two calls from one machine could be told to be."""
    told, later = (
        Told().run([(clock + when, number) for when, number in evenly(50, 1)]) for clock in (0.0, 8_000_000.0)
    )
    messages, messages_later = ([encode_arrivals(message) for _, message in one.messages] for one in (told, later))
    assert messages
    assert messages == messages_later


def test_one_that_was_overtaken_is_told() -> None:
    told = Told().run([(10.0, 5), (10.03, 6), (10.04, 4), (10.2, 7), (10.3, 3)])
    assert {number for number, _ in told.times} == {3, 4, 5, 6, 7}
    assert min(told.times.values()) >= 2


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.004, 0.02, 0.3]), st.integers(-80, 80)), min_size=1, max_size=120)
)
def test_whatever_comes(steps: list[tuple[float, int]]) -> None:
    when, number, arrivals, seen = 10.0, 30000, [], set()
    for pause, step in steps:
        when, number = when + pause, number + step
        if number not in seen:
            arrivals.append((when, number))
        seen.add(number)
    told = Told().run(arrivals)
    assert all(
        number_and_time in {(number, round(when, 6)) for when, number in arrivals} for number_and_time in told.times
    )
    assert all(interval >= 0.05 - 1e-9 for interval in told.intervals)
    assert all(len(message.times) <= MAX_ARRIVALS for _, message in told.messages)
    assert len(told.reports._times) <= REACH
    assert told.reports.due is None, "it comes to an end"
