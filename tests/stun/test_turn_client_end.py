"""How an allocation ends: the network's refusals, `close`, and what no input may do. Time is exact."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import RelayError, RelayForgot, RelayLost, RelayNotTurn, RelayRefused, RelayUnreachable
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, Method
from relaycall.stun.turn_client import TurnClient
from relaycall.stun.turn_events import Closed, Failed, Suspected
from relaycall.stun.turn_state import State
from tests.stun.relay import KEY, NAME, OTHER, PEER, RELAYED, Relay

REFUSED = RelayRefused(NAME)


def failure(relay: Relay) -> RelayError:
    event = relay.event()
    assert isinstance(event, Failed)
    return event.error


# --- the network says no ----------------------------------------------------------------------------------------------


def test_a_udp_refusal_is_told_at_once_and_verified() -> None:
    relay = Relay()
    client = relay.allocate()
    relay.bind()
    client.connection_lost(REFUSED, relay.now)
    client.connection_lost(REFUSED, relay.now)  # every packet brings another one
    assert relay.event() == Suspected(REFUSED)
    request = relay.one(Method.REFRESH)
    assert client.state is State.ALLOCATED
    assert client.frame(PEER, b"media")  # goes on meanwhile
    relay.obey(request)
    relay.run(1100, relay.obey)
    assert not relay.events()
    client.connection_lost(REFUSED, relay.now)  # and may happen again
    assert relay.event() == Suspected(REFUSED)
    assert relay.one(Method.REFRESH)


def test_a_udp_refusal_that_is_true_is_the_end_within_two_seconds() -> None:
    relay = Relay()
    relay.allocate()
    relay.client.connection_lost(REFUSED, relay.now)
    relay.events()
    relay.run(1001.999)
    assert not relay.events()
    assert relay.times(Method.REFRESH) == pytest.approx([1000, 1000.2, 1000.6, 1001.4])
    relay.run(1002)
    error = failure(relay)
    assert type(error) is RelayLost
    assert relay.client.state is State.CLOSED


# --- silence ----------------------------------------------------------------------------------------------------------


def test_a_silent_relay_that_answers_when_asked_is_kept() -> None:
    relay = Relay()
    client = relay.allocate()
    for _ in range(2):  # it may fall silent again
        client.verify(relay.now)
        client.verify(relay.now)
        relay.obey(relay.one(Method.REFRESH))  # one question, however often it is asked
        relay.run(relay.now + 20, relay.obey)
        assert not relay.events()
        assert client.state is State.ALLOCATED


def test_asked_again_while_the_answer_is_due_it_gets_no_more_time() -> None:
    relay = Relay()
    relay.allocate()
    relay.client.verify(relay.now)
    relay.run(1006)
    relay.client.verify(relay.now)
    relay.run(1008)
    assert type(failure(relay)) is RelayLost


@pytest.mark.parametrize("reliable", [False, True])
def test_a_relay_that_stays_silent_is_lost_after_eight_seconds_and_not_before(reliable: bool) -> None:
    relay = Relay(reliable=reliable)
    client = relay.allocate()
    client.verify(relay.now)
    relay.run(1007.999)
    assert not relay.events()
    assert client.state is State.ALLOCATED
    asked = relay.times(Method.REFRESH)
    assert asked == [1000] if reliable else len(asked) > 3
    relay.run(1008)
    error = failure(relay)
    assert type(error) is RelayLost
    assert error.detail == "it stopped answering"


def test_a_late_answer_is_as_good_as_an_early_one() -> None:
    relay = Relay()
    client = relay.allocate()
    client.verify(relay.now)
    request = relay.one(Method.REFRESH)
    relay.run(1007.9)
    relay.obey(request)
    relay.run(1030, relay.obey)
    assert not relay.events()
    assert client.state is State.ALLOCATED


def test_a_relay_that_knows_the_allocation_no_longer_is_lost_at_once() -> None:
    relay = Relay()
    relay.allocate()
    relay.client.verify(relay.now)
    relay.error(relay.one(Method.REFRESH), 437, key=KEY)
    error = failure(relay)
    assert type(error) is RelayForgot
    assert relay.client.state is State.CLOSED


@pytest.mark.parametrize("first", ["silent", "refused"])
def test_silent_and_refused_the_shorter_time_counts(first: str) -> None:
    relay = Relay()
    client = relay.allocate()
    questions = [lambda: client.verify(relay.now), lambda: client.connection_lost(REFUSED, relay.now)]
    for question in questions if first == "silent" else questions[::-1]:
        question()
    assert relay.event() == Suspected(REFUSED)
    relay.run(1001.999)
    assert not relay.events()
    relay.run(1002)
    assert type(failure(relay)) is RelayLost
    relay.run(1010)
    assert not relay.events()


def test_silent_and_refused_and_all_is_well() -> None:
    relay = Relay()
    client = relay.allocate()
    client.connection_lost(REFUSED, relay.now)
    client.verify(relay.now)
    assert relay.event() == Suspected(REFUSED)
    relay.run(1020, relay.obey)
    assert not relay.events()
    assert client.state is State.ALLOCATED


def test_nothing_is_asked_before_and_after() -> None:
    relay = Relay()
    relay.client.verify(relay.now)
    assert not relay.take()
    client = relay.allocate()
    client.close(relay.now)
    relay.take()
    client.verify(relay.now)
    assert not relay.take()


# --- streams, and the time before ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [RelayLost(NAME, "it reset the connection"), RelayUnreachable(NAME)])
def test_a_stream_that_breaks_is_the_end_at_once(reason: RelayError) -> None:
    relay = Relay(reliable=True)
    relay.allocate()
    relay.client.connection_lost(reason, relay.now)
    error = failure(relay)
    assert type(error) is RelayLost
    assert error.detail
    assert not relay.take()


@pytest.mark.parametrize("reliable", [False, True])
def test_a_refusal_during_set_up_is_the_answer(reliable: bool) -> None:
    relay = Relay(reliable=reliable)
    relay.client.start(relay.now)
    relay.client.connection_lost(REFUSED, relay.now)
    assert failure(relay) is REFUSED


def test_a_stream_that_is_closed_on_the_first_request_is_no_relay() -> None:
    relay = Relay(reliable=True)
    relay.client.start(relay.now)
    relay.client.connection_lost(RelayLost(NAME, "it closed the connection"), relay.now)
    assert type(failure(relay)) is RelayNotTurn


def test_a_loss_before_the_start() -> None:
    relay = Relay()
    relay.client.connection_lost(REFUSED, relay.now)
    assert failure(relay) is REFUSED
    assert relay.client.state is State.CLOSED


@pytest.mark.parametrize("reliable", [False, True])
def test_a_loss_while_closing_closes(reliable: bool) -> None:
    relay = Relay(reliable=reliable)
    relay.allocate().close(relay.now)
    relay.client.connection_lost(REFUSED, relay.now)
    assert relay.event() == Closed()
    relay.client.connection_lost(REFUSED, relay.now)
    assert not relay.events()


# --- close ------------------------------------------------------------------------------------------------------------


def test_close_deletes_the_allocation() -> None:
    relay = Relay()
    client = relay.allocate()
    relay.bind()
    client.close(relay.now)
    request = relay.one(Method.REFRESH)
    assert request.get(a.LIFETIME) == 0
    assert request.verify(KEY)
    assert not relay.events()
    relay.success(request, a.LIFETIME(0))
    assert relay.event() == Closed()
    assert client.state is State.CLOSED
    assert client.next_timeout() == float("inf")


def test_close_waits_one_second_for_an_answer() -> None:
    relay = Relay()
    relay.allocate().close(relay.now)
    relay.run(1000.999)
    assert not relay.events()
    assert relay.times(Method.REFRESH) == pytest.approx([1000, 1000.2, 1000.6])
    relay.run(1001)
    assert relay.event() == Closed()


def test_close_is_over_with_an_error_too_and_follows_a_new_nonce() -> None:
    relay = Relay()
    relay.allocate().close(relay.now)
    relay.challenge(relay.one(Method.REFRESH), "n2", code=438)
    request = relay.one(Method.REFRESH)
    assert request.get(a.LIFETIME) == 0
    relay.error(request, 437, key=KEY)
    assert relay.event() == Closed()


def test_close_before_the_start_and_before_the_first_answer_sends_nothing() -> None:
    relay = Relay()
    relay.client.close(relay.now)
    assert relay.event() == Closed()
    relay = Relay()
    relay.client.start(relay.now)
    relay.take()
    relay.client.close(relay.now)
    assert relay.event() == Closed()
    assert not relay.take()


def test_close_while_an_authenticated_allocate_is_under_way_deletes_what_it_may_bring() -> None:
    relay = Relay()
    allocate = relay.ask()
    relay.client.close(relay.now)
    request = relay.one(Method.REFRESH)
    assert request.get(a.LIFETIME) == 0
    relay.grant(allocate)  # too late
    assert not relay.events()
    relay.success(request)
    assert relay.event() == Closed()


def test_closing_again_does_nothing() -> None:
    relay = Relay()
    client = relay.allocate()
    client.close(relay.now)
    relay.one(Method.REFRESH)
    client.close(relay.now)
    assert not relay.take()
    relay.run(1001)
    client.close(relay.now)
    assert relay.event() == Closed()
    assert not relay.take()


def test_after_the_end_nothing_is_sent_or_taken() -> None:
    relay = Relay()
    client = relay.allocate()
    relay.bind()
    client.close(relay.now)
    relay.run(1001)
    client.add_peer(OTHER, relay.now)
    client.handle_timeout(relay.now + 10_000)
    assert relay.data(PEER, b"media") is None
    assert not relay.take()
    with pytest.raises(KeyError):
        client.frame(PEER, b"media")


# --- what no input may do ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state for state in State if state is not State.NEW])
def test_a_second_start_is_a_defect_of_the_caller_and_changes_nothing(state: State) -> None:
    relay = in_state(state)
    with pytest.raises(KeyError):
        relay.client.start(relay.now)
    assert relay.client.state is state
    assert not relay.take()


def in_state(state: State) -> Relay:
    """A client in this state, as far along in it as can be."""
    relay = Relay()
    if state is State.ALLOCATING:
        relay.ask()
    elif state is not State.NEW:
        relay.allocate()
        relay.bind()
        relay.client.add_peer(OTHER, relay.now)
        relay.client.connection_lost(REFUSED, relay.now)
        if state is not State.ALLOCATED:
            relay.client.close(relay.now)
        if state is State.CLOSED:
            relay.run(1001)
    assert relay.client.state is state
    relay.take()
    relay.events()
    return relay


def size(client: TurnClient) -> int:
    """How much the client remembers."""
    transactions = client._transactions
    held = (client._peers, client._channels, client._numbers, transactions._open, transactions._algorithms)
    return sum(len(each) for each in held)


pairs: st.SearchStrategy[tuple[a.Attribute[Any], Any]] = st.one_of(
    st.integers(0, 2**32 - 1).map(a.LIFETIME),
    st.integers(300, 699).map(lambda code: a.ERROR_CODE(a.ErrorCode(code))),
    st.sampled_from([400, 401, 403, 437, 438, 441]).map(lambda code: a.ERROR_CODE(a.ErrorCode(code))),
    st.text(max_size=20).map(a.NONCE),
    st.text(max_size=20).map(a.REALM),
    st.lists(st.sampled_from([0, 1, 2]).map(a.PasswordAlgorithm), max_size=4).map(
        lambda entries: a.PASSWORD_ALGORITHMS(tuple(entries))
    ),
    st.sampled_from([PEER, OTHER, RELAYED, Address("2a00::1", 9)]).map(a.XOR_PEER_ADDRESS),
    st.sampled_from([PEER, RELAYED, Address("10.0.0.1", 2000)]).map(a.XOR_RELAYED_ADDRESS),
    st.binary(max_size=20).map(a.DATA),
)
received = st.one_of(
    st.binary(max_size=80),
    st.binary(max_size=30).map(lambda data: b"\x40\x00" + data),
    st.tuples(
        st.sampled_from(Method), st.sampled_from(Class), st.booleans(), st.booleans(), st.lists(pairs, max_size=5)
    ),
)


@pytest.mark.parametrize("state", list(State))
@given(inputs=st.lists(st.tuples(received, st.floats(0, 400)), max_size=12))
def test_no_input_raises_or_makes_the_client_remember_more(state: State, inputs: list[tuple[Any, float]]) -> None:
    relay = in_state(state)
    for data, pause in inputs:
        relay.now += pause
        relay.client.handle_timeout(relay.now)
        relay.take()
        relay.events()
        before = size(relay.client)
        if isinstance(data, tuple):
            method, kind, ours, signed, attributes = data
            answered = [request for _, request in relay.heard if request.method is method]
            tid = answered[-1].transaction_id if ours and answered else bytes(12)
            data = Message(method, kind, tid, attributes).encode(KEY if signed else None)
        relay.client.receive(data, relay.now)
        assert size(relay.client) <= max(before, 4)  # four: the algorithms a relay may name
        assert len(relay.take()) <= 1
        assert len(relay.events()) <= 1
    relay.client.close(relay.now)
    relay.run(relay.now + 1)
    assert relay.client.state is State.CLOSED
    left = len(relay.client._numbers) + len(relay.client._transactions._algorithms)
    assert size(relay.client) == left
