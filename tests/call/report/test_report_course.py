"""The times of a call, taken down as it goes from state to state."""

from __future__ import annotations

from relaycall.call.events import RelayChanged
from relaycall.call.report.course import MAX_MOVES, Course
from relaycall.call.report.facts import CallFacts
from relaycall.call.state import CallState

S = CallState
MOVE = RelayChanged("a", "b", True, 40.0, 1)


def facts(*states: tuple[CallState, float], now: float = 1000.0, caller: bool = True) -> CallFacts:
    course = Course(began=100.0, started_at=1_795_284_000.0)
    for state, at in states:
        course.enter(state, at)
    return course.facts(now, caller=caller, ended="hung_up")


def times(found: CallFacts) -> tuple[float | None, ...]:
    return found.ringing, found.to_accept, found.to_connected, found.connected


def test_the_callers_times() -> None:
    found = facts((S.CALLING, 100.5), (S.RINGING, 101), (S.CONNECTING, 105), (S.CONNECTED, 105.5), (S.ENDED, 165.5))
    assert times(found) == (4, 5, 0.5, 60)
    assert (found.started_at, found.ended, found.caller) == (1_795_284_000.0, "hung_up", True)


def test_the_callees_times() -> None:
    found = facts((S.RINGING, 100), (S.ACCEPTED, 103), (S.CONNECTING, 103.2), (S.CONNECTED, 104), (S.ENDED, 110))
    assert times(found) == (3, 3, 1, 6)


def test_who_was_not_heard_for_a_while_was_connected_all_the_time() -> None:
    found = facts((S.CONNECTING, 101), (S.CONNECTED, 102), (S.RECONNECTING, 110), (S.CONNECTED, 120), (S.ENDED, 130))
    assert times(found) == (None, 1, 1, 28)


def test_a_call_that_is_declined_or_finds_no_path() -> None:
    assert times(facts((S.CALLING, 100), (S.RINGING, 101), (S.ENDED, 108))) == (7, None, None, None)
    assert times(facts((S.CALLING, 100), (S.CONNECTING, 101), (S.ENDED, 131))) == (None, 1, None, None)
    assert times(facts((S.ENDED, 100))) == (None, None, None, None)


def test_a_call_that_is_not_over_lasts_until_now() -> None:
    assert times(facts((S.RINGING, 100), now=104)) == (4, None, None, None)
    assert facts((S.CONNECTING, 101), (S.CONNECTED, 102), now=104).connected == 2


def test_moves_are_counted_from_the_connection_and_a_bounded_number_is_kept() -> None:
    course = Course(began=0.0, started_at=0.0)
    course.moved(MOVE, 5.0)
    course.enter(S.CONNECTED, 10.0)
    for i in range(MAX_MOVES + 5):
        course.moved(MOVE, 9.5 + i)
    moves = course.facts(2000.0, caller=True, ended="hung_up").moves
    assert moves[:2] == ((0.0, MOVE), (0.5, MOVE))
    assert len(moves) == MAX_MOVES
