"""Permissions and channels of a TURN allocation, in exact time."""

from __future__ import annotations

from typing import Any

import pytest

from relaycall.stun import attributes as a
from relaycall.stun.address import IPV6, Address
from relaycall.stun.framing import channel_data
from relaycall.stun.message import Class, Method, decode
from relaycall.stun.turn_allocation import MAX_PAYLOAD, MAX_PEERS
from tests.stun.turn_world import ALICE, BOB, MYSTERY, PEER, Client, World, code, from_peer


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1", "192.0.2.1", "240.0.0.1"),
        *("0.0.0.0", "224.0.0.251", "239.1.1.1", "255.255.255.255"),
    ],
)
def test_peers_that_are_not_public_get_403(host: str) -> None:
    world = World()
    client = Client(world)
    sock = client.allocate()
    peer = Address(host, 5000)
    assert code(client.permit(peer)) == 403
    assert code(client.permit(PEER, peer)) == 403
    assert code(client.bind(0x4000, peer)) == 403
    client.indicate(a.XOR_PEER_ADDRESS(PEER), a.DATA(b"all or none"))
    client.indicate(a.XOR_PEER_ADDRESS(peer), a.DATA(b"no"))
    assert sock.sent == []
    assert from_peer(world, sock, b"no", peer) is None


@pytest.mark.parametrize(
    "host",
    [
        "::ffff:10.0.0.1",
        "::ffff:1.2.3.4",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::fb",
        "2002:a00:1::",
        "64:ff9b::a00:1",
    ],
)
def test_ipv6_peers_that_are_not_public_get_403(host: str) -> None:
    client = Client(World(families=frozenset({IPV6})))
    client.allocate(a.REQUESTED_ADDRESS_FAMILY(IPV6))
    assert code(client.permit(Address.parse(host, 5000))) == 403
    assert code(client.bind(0x4000, Address.parse(host, 5000))) == 403


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("127.0.0.1", True), ("10.0.0.1", True), ("224.0.0.251", False), ("255.255.255.255", False), ("0.0.0.0", False)],
)
def test_a_laboratory_allows_private_peers_but_never_groups(host: str, allowed: bool) -> None:
    client = Client(World(laboratory=True))
    client.allocate()
    answer = client.permit(Address(host, 5000))
    assert answer.kind is Class.SUCCESS if allowed else code(answer) == 403


def test_packets_need_a_permission_which_lasts_300_seconds() -> None:
    world = World()
    client = Client(world)
    sock = client.allocate()
    send = (a.XOR_PEER_ADDRESS(PEER), a.DATA(b"out"))
    client.indicate(*send)
    assert from_peer(world, sock, b"in") is None
    assert sock.sent == []
    assert world.server.counters.dropped == 2

    client.permit(PEER)
    world.now += 299.999
    client.indicate(*send)
    assert sock.sent == [(b"out", PEER)]
    # A permission is for the host: any port of it may answer.
    other_port = Address(PEER.host, 9)
    relayed = from_peer(world, sock, b"in", other_port)
    assert relayed is not None
    message = decode(relayed)
    assert (message.method, message.kind) == (Method.DATA, Class.INDICATION)
    assert (message.get(a.XOR_PEER_ADDRESS), message.get(a.DATA)) == (other_port, b"in")
    assert from_peer(world, sock, b"in", ("1.2.3.5", 5000)) is None

    world.now += 0.001
    client.indicate(*send)
    assert from_peer(world, sock, b"in") is None
    assert len(sock.sent) == 1
    client.permit(PEER)
    client.indicate(*send)
    assert len(sock.sent) == 2
    assert world.server.counters.to_peers == 2


@pytest.mark.parametrize(
    "attributes",
    [
        [a.DATA(b"x")],
        [a.XOR_PEER_ADDRESS(PEER)],
        [a.XOR_PEER_ADDRESS(Address(PEER.host, 0)), a.DATA(b"x")],
        [a.XOR_PEER_ADDRESS(PEER), a.DATA(b"x"), a.DONT_FRAGMENT(None)],
        [a.XOR_PEER_ADDRESS(PEER), a.DATA(b"x"), (MYSTERY, b"1234")],
    ],
)
def test_send_indications_that_are_dropped(attributes: list[Any]) -> None:
    world = World()
    client = Client(world)
    sock = client.allocate()
    client.permit(PEER)
    client.indicate(*attributes)
    assert sock.sent == []
    assert world.server.counters.dropped == 1


def test_a_channel_carries_both_ways_for_600_seconds() -> None:
    world = World()
    client = Client(world)
    sock = client.allocate(a.LIFETIME(3600))
    assert client.bind(0x4001, PEER).kind is Class.SUCCESS
    world.now += 599.999
    for payload in (b"", b"abcde"):
        assert world.receive(ALICE, channel_data(0x4001, payload)) is None
        assert world.receive(ALICE, channel_data(0x4001, payload, padded=True)) is None
        assert from_peer(world, sock, payload) == channel_data(0x4001, payload)
    assert sock.sent == [(b"", PEER)] * 2 + [(b"abcde", PEER)] * 2
    world.now += 0.001
    world.receive(ALICE, channel_data(0x4001, b"late"))
    assert len(sock.sent) == 4
    assert from_peer(world, sock, b"late") is None


def test_a_channel_bind_permits_the_host_for_300_seconds() -> None:
    world = World()
    client = Client(world)
    sock = client.allocate()
    client.bind(0x4001, PEER)
    world.now += 299.999
    other_port = ("1.2.3.4", 9)
    assert from_peer(world, sock, b"in", other_port) is not None
    world.now += 0.001
    assert from_peer(world, sock, b"in", other_port) is None
    assert from_peer(world, sock, b"in") == channel_data(0x4001, b"in")


def test_a_channel_and_its_peer_belong_together_until_it_expires() -> None:
    world = World()
    client = Client(world)
    sock = client.allocate(a.LIFETIME(3600))
    other = Address("1.2.3.5", 5000)
    client.bind(0x4000, PEER)
    assert client.bind(0x4000, PEER).kind is Class.SUCCESS
    assert code(client.bind(0x4000, other)) == 400
    assert code(client.bind(0x4001, PEER)) == 400
    world.now += 599.999
    assert code(client.bind(0x4000, other)) == 400
    world.now += 0.001
    assert client.bind(0x4000, other).kind is Class.SUCCESS
    assert client.bind(0x4001, PEER).kind is Class.SUCCESS
    assert from_peer(world, sock, b"x") == channel_data(0x4001, b"x")
    assert from_peer(world, sock, b"x", other) == channel_data(0x4000, b"x")


@pytest.mark.parametrize(
    "attributes",
    [
        [a.CHANNEL_NUMBER(0x4000)],
        [a.XOR_PEER_ADDRESS(PEER)],
        [a.CHANNEL_NUMBER(0x3FFF), a.XOR_PEER_ADDRESS(PEER)],
        [a.CHANNEL_NUMBER(0x5000), a.XOR_PEER_ADDRESS(PEER)],
        [a.CHANNEL_NUMBER(0x4000), a.XOR_PEER_ADDRESS(Address(PEER.host, 0))],
    ],
)
def test_channel_binds_that_get_400(attributes: list[Any]) -> None:
    client = Client(World())
    client.allocate()
    assert code(client.request(Method.CHANNEL_BIND, *attributes)) == 400


def test_a_permission_without_a_peer_gets_400() -> None:
    client = Client(World())
    client.allocate()
    assert code(client.request(Method.CREATE_PERMISSION)) == 400


def test_permissions_and_channels_are_limited() -> None:
    world = World()
    client = Client(world)
    client.allocate()
    hosts = [f"1.2.{number // 256}.{number % 256}" for number in range(MAX_PEERS)]
    for host in hosts:
        assert client.permit(Address(host, 1)).kind is Class.SUCCESS
    assert code(client.permit(Address("1.3.0.0", 1))) == 508
    assert client.permit(Address(hosts[0], 1)).kind is Class.SUCCESS
    assert code(client.bind(0x4000, Address("1.3.0.0", 1))) == 508
    for number in range(MAX_PEERS):
        assert client.bind(0x4000 + number, Address(hosts[0], 1 + number)).kind is Class.SUCCESS
    assert code(client.bind(0x4FFF, Address(hosts[0], 9999))) == 508
    assert client.bind(0x4000, Address(hosts[0], 1)).kind is Class.SUCCESS
    world.now += 300
    assert client.permit(Address("1.3.0.0", 1)).kind is Class.SUCCESS


def test_an_expired_allocation_relays_nothing_even_before_it_is_freed() -> None:
    world = World()
    client = Client(world)
    sock = client.allocate()
    world.now += 599
    client.bind(0x4000, PEER)
    world.now += 1
    world.receive(ALICE, channel_data(0x4000, b"x"))
    client.indicate(a.XOR_PEER_ADDRESS(PEER), a.DATA(b"x"))
    assert sock.sent == []
    assert from_peer(world, sock, b"x") is None
    assert code(client.bind(0x4000, PEER)) == 437


def test_a_full_socket_counts_as_dropped() -> None:
    world = World()
    client = Client(world)
    sock = client.allocate()
    client.bind(0x4000, PEER)
    sock.full = True
    world.receive(ALICE, channel_data(0x4000, b"x"))
    assert (world.server.counters.to_peers, world.server.counters.dropped) == (0, 1)


def test_long_datagrams_of_peers_are_dropped() -> None:
    world = World()
    client = Client(world)
    sock = client.allocate()
    client.bind(0x4000, PEER)
    assert from_peer(world, sock, bytes(MAX_PAYLOAD)) is not None
    assert from_peer(world, sock, bytes(MAX_PAYLOAD + 1)) is None


@pytest.mark.parametrize("data", [channel_data(0x4001, b"x"), b"\x40\x00\x00\x05abcd", b"\x4f\xff\x00\x00"])
def test_channel_data_that_is_dropped(data: bytes) -> None:
    world = World()
    client = Client(world)
    sock = client.allocate()
    client.bind(0x4000, PEER)
    assert world.receive(ALICE, data) is None
    assert world.receive(BOB, channel_data(0x4000, b"x")) is None
    assert sock.sent == []
    assert world.server.counters.dropped == 2


def test_allocations_are_apart() -> None:
    """Two clients with the same channel number reach their own peers from their own sockets."""
    world = World()
    alice, bob = Client(world), Client(world, BOB, "bob", "b-pass")
    ours, theirs = alice.allocate(), bob.allocate()
    alice.bind(0x4000, PEER)
    bob.bind(0x4000, Address("1.2.3.5", 1))
    world.receive(ALICE, channel_data(0x4000, b"a"))
    world.receive(BOB, channel_data(0x4000, b"b"))
    assert ours.sent == [(b"a", PEER)]
    assert theirs.sent == [(b"b", Address("1.2.3.5", 1))]
    assert from_peer(world, theirs, b"x", PEER) is None
