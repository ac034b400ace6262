"""The TURN server without I/O: allocating, refreshing, quotas, and whatever else may come in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.stun import attributes as a
from relaycall.stun.address import IPV4, IPV6, Address
from relaycall.stun.message import Class, Message, Method
from relaycall.stun.turn_auth import ALGORITHMS, rest_password
from tests.stun.turn_world import (
    ALICE,
    ALLOCATE,
    BOB,
    MYSTERY,
    PEER,
    PEER6,
    UNIX,
    Client,
    FakeSocket,
    World,
    code,
    from_peer,
)

# --- allocate ---------------------------------------------------------------------------------------------------------


def test_a_retransmitted_allocate_gets_the_same_answer() -> None:
    world = World()
    client = Client(world)
    client.nonce = client.challenge()
    tid = b"retransmit!!"
    first = client.request(Method.ALLOCATE, *ALLOCATE, tid=tid)
    world.now += 1
    second = client.request(Method.ALLOCATE, *ALLOCATE, tid=tid)
    assert first.raw == second.raw
    assert len(world.opened) == 1
    assert world.server.counters.allocations == 1


def test_another_allocate_on_the_same_five_tuple_gets_437() -> None:
    world = World()
    client = Client(world)
    client.allocate(tid=b"the first id")
    assert code(client.request(Method.ALLOCATE, *ALLOCATE)) == 437
    bob = Client(world, ALICE, "bob", "b-pass")
    assert code(bob.request(Method.ALLOCATE, *ALLOCATE, tid=b"the first id")) == 437
    assert len(world.opened) == 1


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ([], 400),
        ([a.REQUESTED_TRANSPORT(6)], 442),
        ([*ALLOCATE, a.DONT_FRAGMENT(None)], 420),
        ([*ALLOCATE, a.REQUESTED_ADDRESS_FAMILY(IPV6)], 440),
        ([*ALLOCATE, a.REQUESTED_ADDRESS_FAMILY(7)], 440),
        ([*ALLOCATE, a.RESERVATION_TOKEN(bytes(8))], 508),
        ([*ALLOCATE, a.RESERVATION_TOKEN(bytes(8)), a.EVEN_PORT(False)], 400),
        ([*ALLOCATE, a.RESERVATION_TOKEN(bytes(8)), a.REQUESTED_ADDRESS_FAMILY(IPV4)], 400),
        ([*ALLOCATE, a.RESERVATION_TOKEN(bytes(8)), a.ADDITIONAL_ADDRESS_FAMILY(IPV6)], 400),
        ([*ALLOCATE, a.ADDITIONAL_ADDRESS_FAMILY(IPV4)], 400),
        ([*ALLOCATE, a.ADDITIONAL_ADDRESS_FAMILY(IPV6), a.REQUESTED_ADDRESS_FAMILY(IPV4)], 400),
        ([*ALLOCATE, a.ADDITIONAL_ADDRESS_FAMILY(IPV6), a.EVEN_PORT(True)], 400),
    ],
)
def test_an_allocate_that_cannot_be(attributes: list[Any], expected: int) -> None:
    world = World()
    assert code(Client(world).request(Method.ALLOCATE, *attributes)) == expected
    assert not world.server.allocations
    assert not world.opened


def test_unknown_attributes_get_420_with_their_types() -> None:
    world = World()
    client = Client(world)
    client.nonce = client.challenge()
    answer = client.request(Method.ALLOCATE, *ALLOCATE, (MYSTERY, b"1234"), a.DONT_FRAGMENT(None))
    assert code(answer) == 420
    assert answer.get(a.UNKNOWN_ATTRIBUTES) == (0x7ABC, a.DONT_FRAGMENT.type)
    binding = world.receive(ALICE, Message(Method.BINDING, Class.REQUEST, bytes(12), [(MYSTERY, b"1234")]).encode())
    assert binding is not None
    assert code(binding) == 420
    assert binding.get(a.UNKNOWN_ATTRIBUTES) == (0x7ABC,)


def test_families() -> None:
    world = World(families=frozenset({IPV4, IPV6}))
    assert Client(world).allocate().address.family == IPV4
    client = Client(world, BOB)
    sock = client.allocate(a.REQUESTED_ADDRESS_FAMILY(IPV6))
    assert sock.address.family == IPV6
    assert code(client.permit(PEER)) == 443
    assert code(client.bind(0x4000, PEER)) == 443
    assert client.permit(PEER6).kind is Class.SUCCESS
    assert code(client.request(Method.REFRESH, a.REQUESTED_ADDRESS_FAMILY(IPV4))) == 443
    assert client.request(Method.REFRESH, a.REQUESTED_ADDRESS_FAMILY(IPV6)).kind is Class.SUCCESS


def test_a_second_family_is_declined_honestly() -> None:
    answer = Client(World()).request(Method.ALLOCATE, *ALLOCATE, a.ADDITIONAL_ADDRESS_FAMILY(IPV6))
    assert answer.kind is Class.SUCCESS
    [relayed] = answer.all(a.XOR_RELAYED_ADDRESS)
    assert relayed.family == IPV4
    declined = answer.get(a.ADDRESS_ERROR_CODE)
    assert declined is not None
    assert (declined[0], declined[1].code) == (IPV6, 440)


def test_an_even_port_and_the_reserved_one_next_to_it() -> None:
    world = World()
    client = Client(world)
    answer = client.request(Method.ALLOCATE, *ALLOCATE, a.EVEN_PORT(True))
    relayed, token = answer.get(a.XOR_RELAYED_ADDRESS), answer.get(a.RESERVATION_TOKEN)
    assert relayed is not None
    assert relayed.port % 2 == 0
    assert token is not None
    world.now += 29.999
    stranger = Client(world, BOB, "bob", "b-pass")
    assert code(stranger.request(Method.ALLOCATE, *ALLOCATE, a.RESERVATION_TOKEN(token))) == 508
    second = Client(world, (ALICE[0], 40001))
    assert second.allocate(a.RESERVATION_TOKEN(token)).address == Address(relayed.host, relayed.port + 1)
    third = Client(world, (ALICE[0], 40002))
    assert code(third.request(Method.ALLOCATE, *ALLOCATE, a.RESERVATION_TOKEN(token))) == 508


def test_an_even_port_alone_reserves_nothing() -> None:
    world = World()
    answer = Client(world).request(Method.ALLOCATE, *ALLOCATE, a.EVEN_PORT(False))
    assert not answer.has(a.RESERVATION_TOKEN)
    assert len(world.opened) == 1


def test_a_reservation_is_freed_after_30_seconds() -> None:
    world = World()
    client = Client(world)
    answer = client.request(Method.ALLOCATE, *ALLOCATE, a.EVEN_PORT(True))
    world.now += 30
    second = Client(world, BOB)
    token = answer.get(a.RESERVATION_TOKEN)
    assert token is not None
    assert code(second.request(Method.ALLOCATE, *ALLOCATE, a.RESERVATION_TOKEN(token))) == 508
    assert [sock.closed for sock in world.opened] == [False, True]


@pytest.mark.parametrize(("asked", "granted"), [(0, 600), (30, 600), (601, 601), (3600, 3600), (2**32 - 1, 3600)])
def test_lifetimes(asked: int, granted: int) -> None:
    world = World()
    client = Client(world)
    answer = client.request(Method.ALLOCATE, *ALLOCATE, a.LIFETIME(asked))
    assert answer.get(a.LIFETIME) == granted
    world.now += granted - 0.001
    world.server.expire(world.now)
    assert not world.opened[0].closed
    world.now += 0.001
    world.server.expire(world.now)
    assert world.opened[0].closed
    assert not world.server.allocations


def test_quotas() -> None:
    world = World(user_quota=2, total_quota=3)
    Client(world, ("192.0.2.1", 1)).allocate()
    two = Client(world, ("192.0.2.1", 2))
    assert code(two.request(Method.ALLOCATE, *ALLOCATE, a.EVEN_PORT(True))) == 486  # a pair counts as two
    two.allocate()
    three = Client(world, ("192.0.2.1", 3))
    assert code(three.request(Method.ALLOCATE, *ALLOCATE)) == 486
    bob = [Client(world, ("192.0.2.2", port), "bob", "b-pass") for port in (1, 2)]
    bob[0].allocate()
    assert code(bob[1].request(Method.ALLOCATE, *ALLOCATE)) == 508
    assert world.server.counters.refused == 3
    two.request(Method.REFRESH, a.LIFETIME(0))
    bob[1].allocate()


def test_a_reserved_port_counts_until_it_is_taken_or_over() -> None:
    world = World(user_quota=2, total_quota=3)
    Client(world, ("192.0.2.1", 1)).allocate(a.EVEN_PORT(True))
    two = Client(world, ("192.0.2.1", 2))
    assert code(two.request(Method.ALLOCATE, *ALLOCATE)) == 486
    bob = Client(world, ("192.0.2.2", 1), "bob", "b-pass")
    assert code(bob.request(Method.ALLOCATE, *ALLOCATE, a.EVEN_PORT(True))) == 508
    world.now += 30
    two.allocate()


def test_what_is_over_does_not_count_against_a_quota() -> None:
    world = World(user_quota=1)
    Client(world).allocate()
    world.now += 600
    Client(world, BOB).allocate()


def test_the_quota_of_time_limited_users_ignores_the_expiry() -> None:
    world = World(user_quota=1)
    names = [f"{int(UNIX) + late}:carol" for late in (60, 61)]
    first, second = [
        Client(world, ("192.0.2.1", port), name, rest_password("shared", name)) for port, name in enumerate(names)
    ]
    first.allocate()
    assert code(second.request(Method.ALLOCATE, *ALLOCATE)) == 486


def test_no_port_left_gets_508() -> None:
    world = World()
    world.ports_left = 1
    client = Client(world)
    assert code(client.request(Method.ALLOCATE, *ALLOCATE, a.EVEN_PORT(True))) == 508
    client.allocate()
    assert code(Client(world, BOB).request(Method.ALLOCATE, *ALLOCATE)) == 508


# --- refresh and ends -------------------------------------------------------------------------------------------------


def test_refresh() -> None:
    world = World()
    client = Client(world)
    sock = client.allocate()
    world.now += 500
    assert client.request(Method.REFRESH, a.LIFETIME(1200)).get(a.LIFETIME) == 1200
    world.now += 1199.999
    world.server.expire(world.now)
    assert not sock.closed
    assert client.request(Method.REFRESH, a.LIFETIME(0)).get(a.LIFETIME) == 0
    assert sock.closed
    assert code(client.request(Method.REFRESH, a.LIFETIME(0))) == 437


@pytest.mark.parametrize("method", [Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND])
def test_without_an_allocation_437(method: Method) -> None:
    assert code(Client(World()).request(method)) == 437


@pytest.mark.parametrize("method", [Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND])
def test_another_user_on_the_same_five_tuple_gets_441(method: Method) -> None:
    world = World()
    sock = Client(world).allocate()
    bob = Client(world, ALICE, "bob", "b-pass")
    assert code(bob.request(method, a.LIFETIME(0), a.CHANNEL_NUMBER(0x4000), a.XOR_PEER_ADDRESS(PEER))) == 441
    assert not sock.closed


def test_a_lost_connection_frees_its_allocation_only() -> None:
    world = World()
    streams = [(*ALICE, number) for number in range(2)]
    first, second = [Client(world, source).allocate() for source in streams]
    world.server.disconnected(streams[0])
    world.server.disconnected(streams[0])
    assert (first.closed, second.closed) == (True, False)
    world.server.close()
    assert second.closed


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fingerprint", [False, True])
def test_binding(fingerprint: bool) -> None:
    world = World()
    request = Message(Method.BINDING, Class.REQUEST, b"transaction!").encode(fingerprint=fingerprint)
    answer = world.receive((*ALICE, 3), request)
    assert answer is not None
    assert answer.kind is Class.SUCCESS
    assert answer.get(a.XOR_MAPPED_ADDRESS) == Address(*ALICE)
    assert answer.has(a.FINGERPRINT) == fingerprint


@pytest.mark.parametrize(
    "message",
    [
        Message(Method.BINDING, Class.INDICATION, bytes(12)),
        Message(Method.ALLOCATE, Class.INDICATION, bytes(12)),
        Message(Method.ALLOCATE, Class.SUCCESS, bytes(12)),
        Message(Method.SEND, Class.REQUEST, bytes(12)),
        Message(Method.DATA, Class.INDICATION, bytes(12)),
        Message(Method.CONNECT, Class.REQUEST, bytes(12)),
    ],
)
def test_what_a_server_does_not_answer(message: Message) -> None:
    world = World()
    assert world.receive(ALICE, message.encode()) is None
    assert world.server.counters.dropped == 1


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x40\x00\x00", b"\x16\x03\x01\x02\x00", bytes(20), b"\xff" * 2000])
def test_malformed_input_is_counted(data: bytes) -> None:
    world = World()
    assert world.receive(ALICE, data) is None
    assert world.server.counters.malformed == 1


_FUZZED = World(families=frozenset({IPV4, IPV6}))
_FUZZER = Client(_FUZZED)
_FUZZER.allocate(a.LIFETIME(3600))
_FUZZER.bind(0x4000, PEER)
_SAMPLES = [
    a.LIFETIME(0),
    a.LIFETIME(2**32 - 1),
    a.XOR_PEER_ADDRESS(PEER),
    a.XOR_PEER_ADDRESS(PEER6),
    a.XOR_PEER_ADDRESS(Address("224.0.0.251", 0)),
    a.CHANNEL_NUMBER(0x4000),
    a.CHANNEL_NUMBER(0xFFFF),
    a.DATA(b"x" * 100),
    a.REQUESTED_TRANSPORT(17),
    a.REQUESTED_TRANSPORT(0),
    a.REQUESTED_ADDRESS_FAMILY(IPV6),
    a.REQUESTED_ADDRESS_FAMILY(0),
    a.ADDITIONAL_ADDRESS_FAMILY(IPV6),
    a.EVEN_PORT(True),
    a.EVEN_PORT(False),
    a.RESERVATION_TOKEN(bytes(8)),
    a.DONT_FRAGMENT(None),
    a.USERNAME(""),
    a.USERNAME("9999999999:\x00"),
    a.REALM("\u00a0"),
    a.NONCE("\ud7ff"),
    a.PASSWORD_ALGORITHM(ALGORITHMS[0]),
    a.PASSWORD_ALGORITHMS(ALGORITHMS),
    a.PASSWORD_ALGORITHMS(()),
    a.USERHASH(bytes(32)),
]


@given(
    method=st.sampled_from(Method),
    kind=st.sampled_from(Class),
    attributes=st.lists(st.sampled_from(_SAMPLES), max_size=8),
    signed=st.booleans(),
    sha256=st.booleans(),
    cut=st.none() | st.tuples(st.integers(0, 400), st.integers(0, 255)),
)
def test_any_message_is_survived(
    method: Method, kind: Class, attributes: list[Any], signed: bool, sha256: bool, cut: tuple[int, int] | None
) -> None:
    """Also one with true credentials, and one with a byte changed: an answer that can be read, or none."""
    world, client = _FUZZED, _FUZZER
    if signed:
        attributes = [*attributes, a.USERNAME("alice"), a.REALM("example"), a.NONCE(client.nonce)]
    data = bytearray(Message(method, kind, client.tid(), attributes).encode(client.key, sha256=sha256))
    if cut is not None:
        data[cut[0] % len(data)] = cut[1]
    answer = world.receive(ALICE, bytes(data))
    assert answer is None or answer.kind in (Class.SUCCESS, Class.ERROR)
    if not world.server.allocations:
        client.allocate()
        client.bind(0x4000, PEER)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: b"\x40\x00" + data))
def test_any_bytes_are_survived(data: bytes) -> None:
    sock = next(iter(_FUZZED.server.allocations.values())).relayed
    assert isinstance(sock, FakeSocket)
    _FUZZED.receive(ALICE, data)
    _FUZZED.receive(BOB, data)
    from_peer(_FUZZED, sock, data)
    assert list(_FUZZED.server.allocations) == [ALICE]
