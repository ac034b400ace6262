"""The TURN client's peers: channels, permissions, packets. Time is exact."""

from __future__ import annotations

import pytest

from relaycall.errors import RelayForbiddenPeer, RelayForgot
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.framing import channel_data, parse_channel_data
from relaycall.stun.message import Class, Method, decode
from relaycall.stun.turn_client import MAX_PEERS
from relaycall.stun.turn_events import Failed, PeerRefused, Stranger
from relaycall.stun.turn_state import State
from tests.stun.relay import KEY, OTHER, PEER, Relay


def test_packets_go_at_once_as_indications_and_by_channel_when_it_is_bound() -> None:
    relay = Relay()
    client = relay.allocate()
    client.add_peer(PEER, relay.now)
    bind = relay.one(Method.CHANNEL_BIND)
    early = decode(client.frame(PEER, b"early"))
    assert (early.method, early.kind) == (Method.SEND, Class.INDICATION)
    assert (early.get(a.XOR_PEER_ADDRESS), early.get(a.DATA)) == (PEER, b"early")
    relay.success(bind)
    assert parse_channel_data(client.frame(PEER, b"late")) == (bind.get(a.CHANNEL_NUMBER), b"late")


def test_a_packet_too_long_for_its_header_is_refused_and_reaches_no_other_peer() -> None:
    relay = Relay()
    client = relay.allocate()
    relay.bind(PEER)
    assert parse_channel_data(client.frame(PEER, bytes(65000)))[0] == 0x4000
    with pytest.raises(ValueError, match="too long"):
        client.frame(PEER, bytes(65536))


def test_packets_come_from_added_peers_only() -> None:
    relay = Relay()
    client = relay.allocate()
    relay.bind(PEER)
    assert client.receive(channel_data(0x4000, b"media"), relay.now) == (PEER, b"media")
    assert client.receive(channel_data(0x4000, b"media", padded=True), relay.now) == (PEER, b"media")
    assert relay.data(PEER, b"media") == (PEER, b"media")
    assert relay.data(OTHER, b"media") is None
    assert relay.data(Address(PEER.host, PEER.port + 1), b"media") is None
    assert client.receive(channel_data(0x4001, b"media"), relay.now) is None
    assert client.receive(channel_data(0x4000, b"media")[:-1], relay.now) is None
    assert client.dropped == {"unknown_peer": 2, "channel_data": 2}
    with pytest.raises(KeyError):
        client.frame(OTHER, b"media")


CHECK = b"\x00\x01 what begins like STUN"
ELSEWHERE = Address(PEER.host, PEER.port + 1)


def test_stun_from_another_port_of_a_peers_relay_is_told() -> None:
    relay = Relay()
    client = relay.allocate()
    relay.bind(PEER)
    assert relay.data(ELSEWHERE, CHECK) is None
    event = relay.event()
    assert event == Stranger(ELSEWHERE, CHECK)
    assert not client.dropped
    assert not relay.take()  # nothing is sent there before it was added


@pytest.mark.parametrize("data", [b"\x80 media", b"\x16 DTLS", b"\x40\x00 ChannelData", b"\x04"])
def test_anything_else_from_another_port_is_dropped_and_counted(data: bytes) -> None:
    relay = Relay()
    client = relay.allocate()
    relay.bind(PEER)
    assert relay.data(ELSEWHERE, data) is None
    assert not relay.events()
    assert client.dropped == {"unknown_peer": 1}


def test_stun_from_another_host_is_dropped_and_counted() -> None:
    relay = Relay()
    client = relay.allocate()
    assert relay.data(PEER, CHECK) is None  # there is no peer yet
    relay.bind(PEER)
    assert relay.data(OTHER, CHECK) is None
    client.remove_peer(PEER)
    assert relay.data(ELSEWHERE, CHECK) is None  # there is none any more
    assert not relay.events()
    assert client.dropped == {"unknown_peer": 3}


def test_a_removed_peer_is_neither_sent_to_nor_heard() -> None:
    relay = Relay()
    client = relay.allocate()
    relay.bind()
    client.remove_peer(PEER)
    client.remove_peer(PEER)
    assert client.receive(channel_data(0x4000, b"media"), relay.now) is None
    assert relay.data(PEER, b"media") is None
    with pytest.raises(KeyError):
        client.frame(PEER, b"media")
    relay.run(1440)
    assert relay.times(Method.CHANNEL_BIND) == [1000]  # not renewed


def test_a_peer_that_comes_back_gets_its_channel_back() -> None:
    relay = Relay()
    client = relay.allocate()
    relay.bind(PEER)
    relay.bind(OTHER)
    client.remove_peer(PEER)
    client.add_peer(PEER, relay.now)
    assert relay.one(Method.CHANNEL_BIND).get(a.CHANNEL_NUMBER) == 0x4000
    client.add_peer(Address("5.6.7.10", 50001), relay.now)
    assert relay.one(Method.CHANNEL_BIND).get(a.CHANNEL_NUMBER) == 0x4002


def test_the_answer_to_a_removed_peers_bind_changes_nothing() -> None:
    relay = Relay()
    client = relay.allocate()
    client.add_peer(PEER, relay.now)
    request = relay.one(Method.CHANNEL_BIND)
    client.remove_peer(PEER)
    relay.error(request, 403, key=KEY)
    assert not relay.events()
    assert not relay.take()


def test_adding_twice_binds_once() -> None:
    relay = Relay()
    relay.allocate()
    relay.bind()
    relay.client.add_peer(PEER, relay.now)
    assert not relay.take()


def test_a_peer_of_the_other_family_or_one_too_many_is_refused() -> None:
    client = Relay().allocate()
    with pytest.raises(ValueError, match="cannot be added"):
        client.add_peer(Address("2a00::1", 5000), 1000)
    for port in range(MAX_PEERS):
        client.add_peer(Address(PEER.host, 2000 + port), 1000)
    with pytest.raises(ValueError, match="cannot be added"):
        client.add_peer(PEER, 1000)


def test_a_forbidden_peer() -> None:
    relay = Relay()
    client = relay.allocate()
    client.add_peer(PEER, relay.now)
    relay.error(relay.one(Method.CHANNEL_BIND), 403, key=KEY)
    event = relay.event()
    assert isinstance(event, PeerRefused)
    assert (event.peer, type(event.error)) == (PEER, RelayForbiddenPeer)
    assert PEER.host not in f"{event!r} {event.error}"
    with pytest.raises(KeyError):
        client.frame(PEER, b"media")
    assert client.state is State.ALLOCATED


def test_without_channels_permissions_and_indications_do() -> None:
    relay = Relay()
    client = relay.allocate(lifetime=3600)
    client.add_peer(PEER, relay.now)
    relay.error(relay.one(Method.CHANNEL_BIND), 400, key=KEY)
    request = relay.one(Method.CREATE_PERMISSION)
    assert request.get(a.XOR_PEER_ADDRESS) == PEER
    relay.success(request)
    assert decode(client.frame(PEER, b"media")).method is Method.SEND
    relay.run(1500, relay.obey)
    assert relay.times(Method.CREATE_PERMISSION) == [1000, 1240, 1480]
    assert relay.times(Method.CHANNEL_BIND) == [1000]


@pytest.mark.parametrize("code", [400, 403])
def test_a_permission_refused_too_is_a_refused_peer(code: int) -> None:
    relay = Relay()
    client = relay.allocate()
    client.add_peer(PEER, relay.now)
    relay.error(relay.one(Method.CHANNEL_BIND), 500, key=KEY)
    relay.error(relay.one(Method.CREATE_PERMISSION), code, key=KEY)
    assert isinstance(relay.event(), PeerRefused)
    assert client.state is State.ALLOCATED


def test_a_bind_that_finds_no_allocation_is_the_end() -> None:
    relay = Relay()
    client = relay.allocate()
    client.add_peer(PEER, relay.now)
    relay.error(relay.one(Method.CHANNEL_BIND), 437, key=KEY)
    event = relay.event()
    assert isinstance(event, Failed)
    assert type(event.error) is RelayForgot
