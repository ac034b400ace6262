"""Requests and answers: retransmission, nonces, authentication, password algorithms."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from relaycall.errors import RelayLied, RelayRefusedCredentials, RelayServerError
from relaycall.stun import attributes as a
from relaycall.stun.message import Class, Message, Method
from relaycall.stun.turn_events import Allocated, Failed
from relaycall.stun.turn_state import State
from tests.stun.relay import KEY, KEY_SHA256, OTHER, PEER, REALM, USER, Relay

MD5, SHA256 = a.PasswordAlgorithm(1), a.PasswordAlgorithm(2)
NONCE_WITH_ALGORITHMS = "obMatJos2" + base64.b64encode(b"\x80\x00\x00").decode() + "rest"
NONCE_WITHOUT_ALGORITHMS = "obMatJos2" + base64.b64encode(b"\x40\x00\x00").decode() + "rest"


def test_the_second_request_is_authenticated_with_what_the_first_answer_gave() -> None:
    relay = Relay()
    relay.client.start(relay.now)
    first = relay.one(Method.ALLOCATE)
    assert not first.has(a.USERNAME)
    assert not first.integrity_at
    relay.challenge(first, "nonce one")
    second = relay.one(Method.ALLOCATE)
    assert (second.get(a.USERNAME), second.get(a.REALM), second.get(a.NONCE)) == (USER, REALM, "nonce one")
    assert second.verify(KEY)
    assert second.transaction_id != first.transaction_id
    assert second.get(a.REQUESTED_TRANSPORT) == 17


def test_udp_retransmits_at_doubling_intervals() -> None:
    relay = Relay()
    relay.client.start(relay.now)
    relay.run(1004.4)
    assert relay.times(Method.ALLOCATE) == pytest.approx([1000, 1000.2, 1000.6, 1001.4, 1003])
    assert len({message.transaction_id for _, message in relay.heard}) == 1
    assert len({message.raw for _, message in relay.heard}) == 1


def test_a_stream_retransmits_nothing() -> None:
    relay = Relay(reliable=True)
    relay.client.start(relay.now)
    relay.run(1004.4)
    assert relay.times(Method.ALLOCATE) == [1000]


def test_a_new_nonce_starts_the_retransmissions_again() -> None:
    relay = Relay()
    relay.client.start(relay.now)
    relay.run(1001)
    relay.challenge(relay.heard[-1][1])
    relay.run(1002)
    assert relay.times(Method.ALLOCATE) == pytest.approx([1000, 1000.2, 1000.6, 1001, 1001.2, 1001.6])


def test_answers_to_a_finished_request_are_dropped() -> None:
    relay = Relay()
    request = relay.ask()
    relay.grant(request)
    relay.grant(request)
    assert len(relay.events()) == 1
    assert relay.client.dropped == {"unexpected_response": 1}


def test_an_answer_of_another_method_is_dropped() -> None:
    relay = Relay()
    request = relay.ask()
    relay.grant(Message(Method.REFRESH, request.kind, request.transaction_id))
    assert not relay.events()
    assert relay.client.dropped == {"unexpected_response": 1}


def test_an_error_without_a_code_is_dropped_and_the_request_goes_on() -> None:
    relay = Relay()
    request = relay.ask()
    relay.says(Message(request.method, Class.ERROR, request.transaction_id), key=None)
    assert relay.client.dropped == {"malformed": 1}
    relay.grant(request)
    assert isinstance(relay.event(), Allocated)


# --- nonces -----------------------------------------------------------------------------------------------------------


def test_a_stale_nonce_is_replaced_and_the_request_repeated() -> None:
    relay = Relay()
    relay.challenge(relay.ask(), "n2", code=438)
    request = relay.one(Method.ALLOCATE)
    assert request.get(a.NONCE) == "n2"
    relay.grant(request)
    assert isinstance(relay.event(), Allocated)


def test_at_most_three_nonces_are_followed_for_one_request() -> None:
    relay = Relay()
    request = relay.ask()
    for nonce in ("n2", "n3"):
        relay.challenge(request, nonce, code=438)
        request = relay.one(Method.ALLOCATE)
    relay.challenge(request, "n4", code=438)
    assert not relay.take()
    event = relay.event()
    assert isinstance(event, Failed)
    assert isinstance(event.error, RelayServerError)
    assert "438" in event.error.sentence


def test_the_same_nonce_again_is_no_news() -> None:
    relay = Relay()
    relay.challenge(relay.ask(), "n1", code=438)
    assert not relay.take()
    assert isinstance(relay.event(), Failed)


def test_a_438_keeps_the_realm_when_it_names_none() -> None:
    relay = Relay()
    relay.error(relay.ask(), 438, a.NONCE("n2"))
    request = relay.one(Method.ALLOCATE)
    assert request.get(a.REALM) == REALM
    assert request.verify(KEY)


def test_requests_in_flight_together_all_follow_the_one_new_nonce() -> None:
    relay = Relay()
    client = relay.allocate()
    client.add_peer(PEER, relay.now)
    client.add_peer(OTHER, relay.now)
    first, second = relay.take()
    relay.challenge(first, "n2", code=438)
    relay.challenge(second, "n2", code=438)  # coturn keeps one nonce for a client: both answers name the same
    again = relay.take()
    assert [(request.method, request.get(a.NONCE)) for request in again] == [(Method.CHANNEL_BIND, "n2")] * 2
    for request in again:
        relay.success(request)
    assert not relay.events()
    assert client.frame(PEER, b"x")[0] == client.frame(OTHER, b"x")[0] == 0x40  # both channels are bound


def test_an_answer_to_the_old_nonce_still_counts_after_another_request_got_a_new_one() -> None:
    relay = Relay()
    client = relay.allocate()
    client.add_peer(PEER, relay.now)
    client.add_peer(OTHER, relay.now)
    first, second = relay.take()
    relay.error(first, 401, a.REALM("another realm"), a.NONCE("n2"))
    relay.success(second)
    assert client.frame(OTHER, b"x")[0] == 0x40


def test_a_401_that_brings_a_new_nonce_is_followed_once_the_relay_is_trusted() -> None:
    relay = Relay()
    client = relay.allocate()
    client.add_peer(PEER, relay.now)
    relay.challenge(relay.one(Method.CHANNEL_BIND), "n2", code=401)
    relay.success(relay.one(Method.CHANNEL_BIND))
    assert client.frame(PEER, b"x")[0] == 0x40


# --- password algorithms (RFC 8489, sections 9.2.1 and 9.2.5) ---------------------------------------------------------


def challenged_with(*attributes: tuple[a.Attribute[Any], Any], nonce: str) -> Relay:
    relay = Relay()
    relay.client.start(relay.now)
    relay.challenge(relay.one(Method.ALLOCATE), nonce, *attributes)
    return relay


def test_sha256_is_used_when_it_is_offered() -> None:
    relay = challenged_with(a.PASSWORD_ALGORITHMS((MD5, SHA256)), nonce=NONCE_WITH_ALGORITHMS)
    request = relay.one(Method.ALLOCATE)
    assert request.has(a.MESSAGE_INTEGRITY_SHA256)
    assert not request.has(a.MESSAGE_INTEGRITY)
    assert request.verify(KEY_SHA256)
    assert request.get(a.PASSWORD_ALGORITHM) == SHA256
    assert request.get(a.PASSWORD_ALGORITHMS) == (MD5, SHA256)
    relay.grant(request, key=KEY)
    assert relay.client.dropped == {"unauthenticated": 1}  # a key made with MD5 is not the one that was agreed
    event = relay.event()
    assert isinstance(event, Failed)
    assert isinstance(event.error, RelayLied)


def test_an_answer_under_the_sha256_key_is_believed() -> None:
    relay = challenged_with(a.PASSWORD_ALGORITHMS((SHA256,)), nonce=NONCE_WITH_ALGORITHMS)
    request = relay.one(Method.ALLOCATE)
    relay.grant(request, key=KEY_SHA256)
    assert isinstance(relay.event(), Allocated)


def test_md5_is_used_when_it_is_all_there_is() -> None:
    relay = challenged_with(a.PASSWORD_ALGORITHMS((MD5,)), nonce=NONCE_WITH_ALGORITHMS)
    request = relay.one(Method.ALLOCATE)
    assert request.has(a.MESSAGE_INTEGRITY)
    assert request.verify(KEY)


@pytest.mark.parametrize("nonce", [NONCE_WITHOUT_ALGORITHMS, "obMatJos2", "obMatJos2!!!!", "obMatJos2gA", "gAAA"])
def test_a_nonce_that_announces_nothing_is_followed(nonce: str) -> None:
    relay = challenged_with(nonce=nonce)
    assert relay.one(Method.ALLOCATE).verify(KEY)


def test_a_list_of_algorithms_that_was_taken_out_on_the_way_is_noticed() -> None:
    relay = challenged_with(nonce=NONCE_WITH_ALGORITHMS)
    assert not relay.take()
    event = relay.event()
    assert isinstance(event, Failed)
    assert isinstance(event.error, RelayLied)
    assert relay.client.state is State.CLOSED


def test_the_second_401_means_wrong_credentials_whatever_the_nonce() -> None:
    relay = Relay()
    relay.challenge(relay.ask(), "n2", code=401)
    event = relay.event()
    assert isinstance(event, Failed)
    assert type(event.error) is RelayRefusedCredentials
