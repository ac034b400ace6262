"""The table of a call's states, row by row, and its times."""

from __future__ import annotations

import itertools

import pytest

from relaycall.call.state import (
    CARRIED_TIMEOUT,
    NEVER,
    RESEND,
    RING_TIMEOUT,
    SETUP_TIMEOUT,
    CallMachine,
    CallState,
    Do,
    EndReason,
    Input,
)
from tests.call.diagram import DOCUMENT, diagram, in_document

S, I, R = CallState, Input, EndReason  # noqa: E741
NOW = 1000.0
Row = tuple[CallState, Input, CallState, list[Do], EndReason | None]


def ends(state: CallState, what: Input, reason: EndReason, *say: Do) -> Row:
    return state, what, S.ENDED, [*say, Do.CLOSE], reason


BOTH: list[Row] = [
    ends(S.IDLE, I.HANG_UP, R.HUNG_UP),
    ends(S.IDLE, I.FAILED, R.FAILED),
    (S.CONNECTING, I.UP, S.CONNECTED, [], None),
    (S.CONNECTED, I.UNHEARD, S.RECONNECTING, [], None),
    (S.RECONNECTING, I.HEARD, S.CONNECTED, [], None),
    *(
        row
        for state in (S.CONNECTING, S.CONNECTED, S.RECONNECTING)
        for row in (
            ends(state, I.HANG_UP, R.HUNG_UP, Do.SEND_HUNG_UP),
            ends(state, I.HUNG_UP, R.PEER_HUNG_UP),
            ends(state, I.FAILED, R.FAILED, Do.SEND_HUNG_UP),
        )
    ),
    ends(S.CONNECTING, I.TIMEOUT, R.SETUP_TIMEOUT, Do.SEND_HUNG_UP),
]
CALLER: list[Row] = [
    *BOTH,
    (S.IDLE, I.PLACE, S.CALLING, [Do.SEND_OFFER], None),
    (S.IDLE, I.OFFERED, S.ACCEPTED, [Do.PREPARE], None),
    ends(S.IDLE, I.TIMEOUT, R.UNANSWERED),
    (S.CALLING, I.RINGS, S.RINGING, [], None),
    *(
        row
        for state in (S.CALLING, S.RINGING)
        for row in (
            (state, I.ANSWERED, S.CONNECTING, [Do.CONNECT, Do.SEND_CONFIRM], None),
            (state, I.OFFERED, S.ACCEPTED, [Do.PREPARE], None),
            ends(state, I.DECLINED, R.DECLINED),
            ends(state, I.BUSY, R.BUSY),
            ends(state, I.HANG_UP, R.CANCELLED, Do.SEND_CANCELLED),
            ends(state, I.FAILED, R.FAILED, Do.SEND_CANCELLED),
            ends(state, I.TIMEOUT, R.UNANSWERED, Do.SEND_CANCELLED),
        )
    ),
    (S.CONNECTING, I.ANSWERED, S.CONNECTING, [Do.SEND_CONFIRM], None),
    (S.CONNECTED, I.ANSWERED, S.CONNECTED, [Do.SEND_CONFIRM], None),
]
CALLEE: list[Row] = [
    *BOTH,
    (S.IDLE, I.OFFERED, S.RINGING, [Do.RING, Do.SEND_RINGING], None),
    (S.RINGING, I.OFFERED, S.RINGING, [Do.SEND_RINGING], None),
    (S.RINGING, I.ACCEPT, S.ACCEPTED, [Do.PREPARE], None),
    ends(S.RINGING, I.HANG_UP, R.DECLINED, Do.SEND_DECLINED),
    ends(S.RINGING, I.FAILED, R.FAILED, Do.SEND_DECLINED),
    ends(S.RINGING, I.CANCELLED, R.CANCELLED),
    ends(S.RINGING, I.ELSEWHERE, R.ELSEWHERE),
    ends(S.RINGING, I.TIMEOUT, R.UNANSWERED),
    (S.ACCEPTED, I.READY, S.CONNECTING, [Do.SEND_ANSWER, Do.CONNECT], None),
    ends(S.ACCEPTED, I.CANCELLED, R.CANCELLED),
    ends(S.ACCEPTED, I.HANG_UP, R.HUNG_UP, Do.SEND_DECLINED),
    ends(S.ACCEPTED, I.FAILED, R.FAILED, Do.SEND_DECLINED),
    ends(S.ACCEPTED, I.TIMEOUT, R.SETUP_TIMEOUT, Do.SEND_DECLINED),
    ends(S.CONNECTING, I.CANCELLED, R.CANCELLED),
]
ROWS = [(True, row) for row in CALLER] + [(False, row) for row in CALLEE]


@pytest.mark.parametrize(
    ("caller", "row"), ROWS, ids=[f"{'caller' if caller else 'callee'}-{row[0]}-{row[1].name}" for caller, row in ROWS]
)
def test_row(caller: bool, row: Row) -> None:
    state, what, then, to_do, reason = row
    machine = CallMachine(caller, state=state)
    assert machine.handle(what, NOW)
    assert (machine.state, list(machine.to_do), machine.reason) == (then, to_do, reason)


@pytest.mark.parametrize("caller", [True, False])
def test_whatever_is_in_no_row_changes_nothing(caller: bool) -> None:
    rows = {row[:2] for row in (CALLER if caller else CALLEE)}
    assert len(rows) == len(CALLER if caller else CALLEE)
    for state, what in set(itertools.product(S, I)) - rows:
        machine = CallMachine(caller, state=state)
        before = repr(machine)
        assert not machine.handle(what, NOW), (state, what)
        assert (repr(machine), list(machine.to_do)) == (before, [])


def test_only_hanging_up_failing_and_offers_mean_something_before_a_call_is_placed() -> None:
    assert {row[1] for row in CALLER if row[0] is S.IDLE} == {I.PLACE, I.OFFERED, I.HANG_UP, I.FAILED, I.TIMEOUT}


def test_who_gives_way_is_the_callee_from_then_on() -> None:
    machine = CallMachine(True)
    machine.handle(I.PLACE, NOW)
    machine.handle(I.OFFERED, NOW + 1)
    assert not machine.caller
    machine.to_do.clear()
    machine.handle(I.READY, NOW + 2)
    assert list(machine.to_do) == [Do.SEND_ANSWER, Do.CONNECT]
    assert not machine.handle(I.ANSWERED, NOW + 3)


def test_at_its_end_a_call_forgets_what_it_was_about_to_do() -> None:
    machine = CallMachine(False, state=S.RINGING)
    machine.handle(I.ACCEPT, NOW)
    machine.handle(I.CANCELLED, NOW)
    assert list(machine.to_do) == [Do.CLOSE]


# --- times ------------------------------------------------------------------------------------------------------------


def reach(caller: bool, *inputs: Input, carried: bool = False) -> CallMachine:
    machine = CallMachine(caller, carried)
    for what in inputs:
        assert machine.handle(what, NOW)
    machine.to_do.clear()
    return machine


LIMITS = [
    (True, [I.PLACE], RING_TIMEOUT, CARRIED_TIMEOUT, R.UNANSWERED),
    (True, [I.PLACE, I.RINGS], RING_TIMEOUT, CARRIED_TIMEOUT, R.UNANSWERED),
    (True, [I.PLACE, I.ANSWERED], SETUP_TIMEOUT, SETUP_TIMEOUT, R.SETUP_TIMEOUT),
    (True, [I.PLACE, I.OFFERED], SETUP_TIMEOUT, CARRIED_TIMEOUT, R.SETUP_TIMEOUT),
    (False, [I.OFFERED], RING_TIMEOUT, CARRIED_TIMEOUT, R.UNANSWERED),
    (False, [I.OFFERED, I.ACCEPT], SETUP_TIMEOUT, CARRIED_TIMEOUT, R.SETUP_TIMEOUT),
    (False, [I.OFFERED, I.ACCEPT, I.READY], SETUP_TIMEOUT, CARRIED_TIMEOUT, R.SETUP_TIMEOUT),
]


@pytest.mark.parametrize(("caller", "inputs", "limit", "carried_limit", "reason"), LIMITS)
@pytest.mark.parametrize("carried", [False, True])
def test_each_state_ends_by_itself(
    caller: bool, inputs: list[Input], limit: float, carried_limit: float, reason: EndReason, carried: bool
) -> None:
    machine = reach(caller, *inputs, carried=carried)
    end = NOW + (carried_limit if carried else limit)
    while machine.next_timeout() < end:
        machine.handle_timeout(machine.next_timeout())
        assert machine.state is not S.ENDED
    assert machine.next_timeout() == end
    machine.handle_timeout(end)
    assert (machine.state, machine.reason, machine.next_timeout()) == (S.ENDED, reason, NEVER)


def test_the_limits_are_those_that_are_promised() -> None:
    assert (RING_TIMEOUT, SETUP_TIMEOUT, CARRIED_TIMEOUT) == (60, 30, 600)


@pytest.mark.parametrize("state", [S.IDLE, S.CONNECTED, S.RECONNECTING, S.ENDED])
def test_nothing_limits_the_other_states(state: CallState) -> None:
    """Media has limits of its own: it gives up a peer that is not heard, and a call that is prepared ends in time."""
    assert CallMachine(True, state=state).next_timeout() == NEVER


def said(machine: CallMachine, until: float) -> list[tuple[float, Do]]:
    """All that is said again in that time."""
    found = []
    while (at := machine.next_timeout()) <= until:
        machine.handle_timeout(at)
        found += [(at - NOW, do) for do in machine.to_do]
        machine.to_do.clear()
    return found


def test_the_offer_is_repeated_until_it_rings() -> None:
    machine = reach(True, I.PLACE)
    assert said(machine, NOW + 12) == [(RESEND, Do.SEND_OFFER), (2 * RESEND, Do.SEND_OFFER)]
    machine.handle(I.RINGS, NOW + 12)
    assert said(machine, NOW + 59) == []
    assert machine.next_timeout() == NOW + RING_TIMEOUT


def test_the_answer_is_repeated_until_the_call_is_up() -> None:
    machine = reach(False, I.OFFERED, I.ACCEPT, I.READY)
    assert said(machine, NOW + 7) == [(RESEND, Do.SEND_ANSWER)]
    machine.handle(I.UP, NOW + 7)
    assert said(machine, NOW + 10000) == []


@pytest.mark.parametrize(("caller", "inputs"), [(True, [I.PLACE]), (False, [I.OFFERED, I.ACCEPT, I.READY])])
def test_what_people_carry_is_said_once(caller: bool, inputs: list[Input]) -> None:
    machine = reach(caller, *inputs, carried=True)
    assert said(machine, NOW + CARRIED_TIMEOUT - 1) == []


def test_late_timers_do_one_thing_and_look_ahead() -> None:
    machine = reach(True, I.PLACE)
    machine.handle_timeout(NOW + 17)
    assert list(machine.to_do) == [Do.SEND_OFFER]
    assert machine.next_timeout() == NOW + 17 + RESEND
    machine.handle_timeout(NOW + 10000)
    assert machine.reason is R.UNANSWERED


def test_early_timers_do_nothing() -> None:
    machine = reach(True, I.PLACE)
    before = repr(machine)
    machine.handle_timeout(NOW + RESEND - 0.001)
    assert repr(machine) == before
    assert not machine.to_do


# --- the diagram ------------------------------------------------------------------------------------------------------


def test_the_diagram_in_the_document_is_that_of_the_table() -> None:
    shown = in_document(DOCUMENT.read_text())
    assert shown == diagram(), "run python -m tests.call.diagram"
    for state in S:
        assert state is S.ENDED or f"    {state} --> " in shown
