"""The TURN client against a scripted relay: getting an allocation, and keeping it. Time is exact."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest

from relaycall.errors import (
    RelayBusy,
    RelayCapacity,
    RelayError,
    RelayForbidden,
    RelayForgot,
    RelayLied,
    RelayLost,
    RelayNeedsCredentials,
    RelayNotTurn,
    RelayQuota,
    RelayRedirected,
    RelayRefusedCredentials,
    RelayServerError,
    RelayTimeout,
    RelayUnsupported,
)
from relaycall.stun import attributes as a
from relaycall.stun.address import IPV4, IPV6, Address
from relaycall.stun.message import Class, Message, Method
from relaycall.stun.turn_events import Allocated, Failed
from relaycall.stun.turn_state import State
from tests.stun.relay import KEY, LOCAL, MAPPED, NAME, PEER, RELAYED, Relay


def failure(relay: Relay) -> RelayError:
    """The error the client failed with."""
    event = relay.event()
    assert isinstance(event, Failed)
    assert event.error.relay == NAME
    return event.error


# --- allocating -------------------------------------------------------------------------------------------------------


def test_allocates_after_one_401() -> None:
    relay = Relay()
    request = relay.ask()
    relay.now += 0.08
    relay.grant(request, lifetime=600)
    assert relay.event() == Allocated(RELAYED, 600, pytest.approx(0.08))
    assert relay.client.state is State.ALLOCATED


def test_the_round_trip_is_that_of_the_authenticated_request() -> None:
    relay = Relay()
    relay.client.start(relay.now)
    relay.now += 0.5
    relay.challenge(relay.one(Method.ALLOCATE))
    request = relay.one(Method.ALLOCATE)
    relay.now += 0.125
    relay.grant(request)
    event = relay.event()
    assert isinstance(event, Allocated)
    assert event.rtt == 0.125


def test_the_wanted_family_is_asked_for() -> None:
    relay = Relay(family=IPV6)
    request = relay.ask()
    assert request.get(a.REQUESTED_ADDRESS_FAMILY) == IPV6
    address = Address("2a00:1450::1", 50000)
    relay.grant(request, address)
    event = relay.event()
    assert isinstance(event, Allocated)
    assert event.relayed == address
    assert not Relay(family=IPV4).ask().has(a.REQUESTED_ADDRESS_FAMILY)  # the default: old relays know no other


def test_wrong_password() -> None:
    relay = Relay()
    relay.challenge(relay.ask(), "n1", code=401)
    assert type(failure(relay)) is RelayRefusedCredentials


@pytest.mark.parametrize("missing", [{"username": None}, {"password": None}, {"username": None, "password": None}])
def test_no_credentials(missing: dict[str, None]) -> None:
    relay = Relay(**missing)  # type: ignore[arg-type]
    relay.client.start(relay.now)
    relay.challenge(relay.one(Method.ALLOCATE))
    assert type(failure(relay)) is RelayNeedsCredentials


CODES: dict[int, type[RelayError]] = {
    300: RelayRedirected,
    400: RelayServerError,
    403: RelayForbidden,
    420: RelayUnsupported,
    437: RelayBusy,
    438: RelayServerError,
    440: RelayUnsupported,
    441: RelayRefusedCredentials,
    442: RelayUnsupported,
    486: RelayQuota,
    500: RelayServerError,
    508: RelayCapacity,
    699: RelayServerError,
}


@pytest.mark.parametrize(("code", "type_"), CODES.items())
@pytest.mark.parametrize("key", [KEY, None], ids=["signed", "unsigned"])
def test_each_error_code_has_its_type(code: int, type_: type[RelayError], key: bytes | None) -> None:
    relay = Relay()
    relay.error(relay.ask(), code, key=key)
    error = failure(relay)
    assert type(error) is type_
    assert f"code {code}" in error.sentence
    assert relay.client.state is State.CLOSED
    assert relay.client.next_timeout() == float("inf")


def test_what_the_relay_gives_as_a_reason_is_not_repeated() -> None:
    relay = Relay()
    request = relay.ask()
    error = [a.ERROR_CODE(a.ErrorCode(486, "you are 192.168.1.7"))]
    relay.says(Message(request.method, Class.ERROR, request.transaction_id, error), key=KEY)
    found = failure(relay)
    assert "192" not in f"{found!r} {found} {pickle.dumps(found)!r}"


def test_a_black_hole() -> None:
    relay = Relay()
    relay.client.start(relay.now)
    relay.run(1004.499)
    assert not relay.events()
    relay.run(1004.5)
    assert type(failure(relay)) is RelayTimeout


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad Request\r\n", bytes(20), b"\x40\x00\x00\x00", b"SSH-2.0-OpenSSH_9.2\r\n"],
    ids=["http", "zeros", "channel", "ssh"],
)
def test_something_that_does_not_speak_turn(garbage: bytes) -> None:
    relay = Relay()
    relay.client.start(relay.now)
    assert relay.client.receive(garbage, relay.now) is None
    relay.run(1005)
    assert type(failure(relay)) is RelayNotTurn


def test_an_echo_does_not_speak_turn() -> None:
    relay = Relay()
    relay.client.start(relay.now)
    relay.run(1005, lambda request: relay.client.receive(request.raw, relay.now))
    assert type(failure(relay)) is RelayNotTurn


def test_a_relay_that_answers_once_and_no_more_has_timed_out() -> None:
    relay = Relay()
    relay.ask()
    relay.client.receive(b"garbage", relay.now)
    relay.run(1005)
    assert type(failure(relay)) is RelayTimeout


@pytest.mark.parametrize("key", [None, b"another key"], ids=["unsigned", "forged"])
def test_an_allocation_that_is_not_authenticated_is_a_lie(key: bytes | None) -> None:
    relay = Relay()
    relay.grant(relay.ask(), key=key)
    assert type(failure(relay)) is RelayLied
    assert relay.client.dropped == {"unauthenticated": 1}


def test_an_allocation_without_asking_for_credentials_is_a_lie() -> None:
    relay = Relay()
    relay.client.start(relay.now)
    relay.grant(relay.one(Method.ALLOCATE))
    assert type(failure(relay)) is RelayLied


BAD_ADDRESSES = {
    "our own": (Address(LOCAL.host, 50000), RelayLied),
    "our own as the relay sees it": (Address(MAPPED.host, 50000), RelayLied),
    "private": (Address("10.0.0.1", 50000), RelayLied),
    "loopback": (Address("127.0.0.1", 50000), RelayLied),
    "link-local": (Address("169.254.169.254", 50000), RelayLied),
    "multicast": (Address("224.0.0.251", 50000), RelayLied),
    "broadcast": (Address("255.255.255.255", 50000), RelayLied),
    "a low port": (Address(RELAYED.host, 1023), RelayLied),
    "port 0": (Address(RELAYED.host, 0), RelayLied),
    "the other family": (Address("2a00:1450::1", 50000), RelayUnsupported),
}


@pytest.mark.parametrize(("address", "type_"), BAD_ADDRESSES.values(), ids=BAD_ADDRESSES)
def test_relayed_addresses_that_cannot_be(address: Address, type_: type[RelayError]) -> None:
    relay = Relay()
    relay.grant(relay.ask(), address)
    error = failure(relay)
    assert type(error) is type_
    assert address.host not in str(error)
    assert relay.client.state is State.CLOSED


def test_no_relayed_address() -> None:
    relay = Relay()
    relay.success(relay.ask(), a.LIFETIME(600))
    assert type(failure(relay)) is RelayLied


def test_a_laboratory_may_share_its_host_with_the_relay_but_not_the_socket() -> None:
    relay = Relay(laboratory=True)
    relay.grant(relay.ask(), Address(LOCAL.host, 50000))
    assert isinstance(relay.event(), Allocated)
    for own in (LOCAL, MAPPED):
        relay = Relay(laboratory=True)
        relay.grant(relay.ask(), own)
        assert type(failure(relay)) is RelayLied


# --- keeping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "kept", "refreshed"), [(0, 60, 45), (5, 60, 45), (600, 600, 450), (10**9, 3600, 2700)]
)
def test_lifetime_is_clamped_and_refreshed_in_time(granted: int, kept: int, refreshed: int) -> None:
    relay = Relay()
    relay.grant(relay.ask(), lifetime=granted)
    event = relay.event()
    assert isinstance(event, Allocated)
    assert event.lifetime == kept
    relay.run(1000 + kept, lambda request: relay.success(request, a.LIFETIME(granted)))
    assert relay.times(Method.REFRESH)[0] == 1000 + refreshed


def test_without_a_lifetime_the_shortest_is_assumed() -> None:
    relay = Relay()
    relay.success(relay.ask(), a.XOR_RELAYED_ADDRESS(RELAYED))
    event = relay.event()
    assert isinstance(event, Allocated)
    assert event.lifetime == 60


def test_an_hour_with_every_first_request_lost() -> None:
    """Refreshes never later than the lifetime, binds never more than 300 s apart as the relay sees them."""
    relay = Relay()
    client = relay.allocate(lifetime=600)
    bound, refreshed, seen = [relay.now], [relay.now], set[bytes]()

    def answer(request: Message) -> None:
        if request.transaction_id not in seen:  # the first copy is lost, the second arrives
            seen.add(request.transaction_id)
            return
        if request.method is Method.CHANNEL_BIND:
            assert request.get(a.XOR_PEER_ADDRESS) == PEER
            assert request.get(a.CHANNEL_NUMBER) == 0x4000
            bound.append(relay.now)
        elif request.method is Method.REFRESH:
            assert not request.has(a.LIFETIME)
            refreshed.append(relay.now)
        relay.obey(request)

    client.add_peer(PEER, relay.now)
    relay.run(1000 + 3600, answer)
    assert client.state is State.ALLOCATED
    assert not relay.events()
    bound.append(4600)
    refreshed.append(4600)
    assert max(b - a for a, b in pairwise(bound)) <= 240.3
    assert max(b - a for a, b in pairwise(refreshed)) <= 450.3
    assert len(bound) == 2 + 15
    assert len(refreshed) == 2 + 7


def test_a_wholly_lost_renewal_is_the_end_and_not_silence() -> None:
    relay = Relay()
    relay.allocate(lifetime=3600)
    relay.bind()
    relay.run(1000 + 255)
    error = failure(relay)
    assert type(error) is RelayLost
    assert error.detail == "it stopped answering"
    assert relay.now - 1000 < 300


def test_a_refresh_that_finds_no_allocation_is_the_end() -> None:
    relay = Relay()
    relay.allocate()
    relay.run(1450)
    relay.error(relay.heard[-1][1], 437, key=KEY)
    error = failure(relay)
    assert type(error) is RelayForgot
    assert relay.client.state is State.CLOSED


def test_forged_answers_do_not_end_an_allocation() -> None:
    relay = Relay()
    relay.allocate()
    relay.run(1450)
    request = relay.heard[-1][1]
    for code in (300, 400, 403, 437, 486, 500, 508):
        relay.error(request, code)
    relay.success(request, a.LIFETIME(0), key=None)
    relay.success(request, a.LIFETIME(0), key=b"another key")
    assert relay.client.dropped == {"unauthenticated": 9}
    relay.obey(request)
    assert not relay.events()
    assert relay.client.state is State.ALLOCATED


def test_a_refresh_refused_for_its_credentials_is_the_end_though_unsigned() -> None:
    relay = Relay()
    relay.allocate()
    relay.run(1450)
    relay.error(relay.heard[-1][1], 441)
    error = failure(relay)
    assert type(error) is RelayLost
    assert error.detail == "it no longer accepts the credentials"


def test_time_passed_by_without_a_call_is_made_up_for() -> None:
    relay = Relay()
    client = relay.allocate()
    relay.bind()
    relay.now += 449  # the machine slept
    client.handle_timeout(relay.now)
    assert [request.method for request in relay.take()] == [Method.CHANNEL_BIND]
    relay.now += 1
    client.handle_timeout(relay.now)
    assert [request.method for request in relay.take()] == [Method.CHANNEL_BIND, Method.REFRESH]
