"""The embedded relay on loopback: real sockets, and aioice's TURN client at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import ssl
import time
from typing import Any
from unittest.mock import Mock

import pytest
from aioice.stun import TransactionFailed

from relaycall.errors import ConfigError
from relaycall.server import turn_sockets
from relaycall.server.turn import Relay
from relaycall.stun import attributes as a
from relaycall.stun.address import IPV6, Address
from relaycall.stun.framing import channel_data
from relaycall.stun.message import Class, Method
from relaycall.stun.turn_auth import rest_password
from tests.server.turn_clients import USERS, Client, allocated, at_end, exchange, open_sockets, port_of, until

# --- relaying ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("first", ["udp", "tcp", "tls"])
async def test_packets_pass_both_ways(first: str, second: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with (
        Relay(users=USERS, laboratory=True, tls_port=0, ssl_context=tls[0]) as relay,
        allocated(relay, first, trust=tls[1]) as one,
        allocated(relay, second, trust=tls[1]) as two,
    ):
        await exchange(one, two)
        assert relay.active == 2
        assert relay.counters.allocations == 2
        assert relay.counters.to_peers >= 400
        assert relay.counters.to_clients >= 400
        assert relay.counters.malformed == 0
    assert relay.active == 0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_clients_on_ipv6(transport: str) -> None:
    async with (
        Relay(host="::1", relay_host="127.0.0.1", users=USERS, laboratory=True) as relay,
        allocated(relay, transport, host="::1") as one,
        allocated(relay, transport, host="::1") as two,
    ):
        await exchange(one, two)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_peers_on_ipv6(transport: str) -> None:
    async with Relay(relay_host6="::1", users=USERS, laboratory=True) as relay:
        client = await Client.connect(relay, transport)
        answer = await client.allocate(a.REQUESTED_ADDRESS_FAMILY(IPV6))
        relayed = answer.get(a.XOR_RELAYED_ADDRESS)
        assert relayed is not None
        assert relayed.host == "::1"
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
            peer.bind(("::1", 0))
            peer.settimeout(5)
            bind = (a.CHANNEL_NUMBER(0x4000), a.XOR_PEER_ADDRESS(Address(*peer.getsockname()[:2])))
            assert (await client.request(Method.CHANNEL_BIND, *bind)).kind is Class.SUCCESS
            await client.send(channel_data(0x4000, b"to the peer", padded=True))
            data, address = await asyncio.to_thread(peer.recvfrom, 2048)
            assert (data, address[:2]) == (b"to the peer", relayed)
            peer.sendto(b"to the client", relayed)
            assert await client.receive() == channel_data(0x4000, b"to the client", padded=transport == "tcp")
        client.sock.close()


async def test_time_limited_credentials() -> None:
    name = f"{int(time.time()) + 60}:alice"
    late = f"{int(time.time()) - 1}:alice"
    async with Relay(auth_secret="shared", laboratory=True) as relay:
        async with allocated(relay, username=name, password=rest_password("shared", name)):
            assert relay.active == 1
        with pytest.raises(TransactionFailed):
            async with allocated(relay, username=late, password=rest_password("shared", late)):
                pass
        assert relay.counters.refused == 1


async def test_private_peers_are_refused_outside_a_laboratory() -> None:
    async with Relay(users=USERS) as relay:
        client = await Client.connect(relay)
        answer = await client.allocate()
        relayed = answer.get(a.XOR_RELAYED_ADDRESS)
        assert relayed is not None
        refusal = await client.request(Method.CREATE_PERMISSION, a.XOR_PEER_ADDRESS(relayed))
        error = refusal.get(a.ERROR_CODE)
        assert error is not None
        assert error.code == 403
        client.sock.close()


async def test_a_pair_of_ports() -> None:
    async with Relay(users=USERS) as relay:
        for _ in range(10):  # half of the ports are even by themselves
            one, two = await Client.connect(relay), await Client.connect(relay, "tcp")
            answer = await one.allocate(a.EVEN_PORT(True))
            relayed, token = answer.get(a.XOR_RELAYED_ADDRESS), answer.get(a.RESERVATION_TOKEN)
            assert relayed is not None
            assert token is not None
            assert relayed.port % 2 == 0
            second = (await two.allocate(a.RESERVATION_TOKEN(token))).get(a.XOR_RELAYED_ADDRESS)
            assert second == Address(relayed.host, relayed.port + 1)
            one.sock.close()
            two.sock.close()


async def test_a_peer_that_is_not_there_harms_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        gone = peer.getsockname()
    async with (
        Relay(users=USERS, laboratory=True) as relay,
        allocated(relay) as one,
        allocated(relay) as two,
    ):
        for _ in range(20):
            one[0].sendto(b"anybody?", gone)
        await exchange(one, two)


async def test_what_the_network_does_not_take_is_dropped() -> None:
    """More than a datagram can hold."""
    async with Relay(users=USERS, laboratory=True) as relay:
        client = await Client.connect(relay, "tcp")
        relayed = (await client.allocate()).get(a.XOR_RELAYED_ADDRESS)
        assert relayed is not None
        bind = (a.CHANNEL_NUMBER(0x4000), a.XOR_PEER_ADDRESS(relayed))
        assert (await client.request(Method.CHANNEL_BIND, *bind)).kind is Class.SUCCESS
        await client.send(channel_data(0x4000, bytes(65535), padded=True))
        assert (await client.request(Method.REFRESH)).kind is Class.SUCCESS
        assert (relay.counters.to_peers, relay.counters.dropped) == (0, 1)
        client.sock.close()


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_closed_connection_frees_its_allocation(
    transport: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async with (
        Relay(users=USERS, tls_port=0, ssl_context=tls[0]) as relay,
        allocated(relay, transport, trust=tls[1]) as (endpoint, _),
    ):
        assert relay.active == 1
        endpoint._TurnTransport__inner_protocol.transport.abort()  # type: ignore[attr-defined]
        await until(lambda: relay.active == 0)


@pytest.mark.slow
async def test_an_allocation_expires() -> None:
    async with Relay(users=USERS, lifetime=1) as relay:
        client = await Client.connect(relay)
        await client.allocate()
        assert relay.active == 1
        await until(lambda: relay.active == 0)
        client.sock.close()


async def test_close_is_quick_and_leaves_nothing(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """With allocations on all transports, a reserved port, and a client that never finishes its TLS handshake."""
    before, tasks = open_sockets(), asyncio.all_tasks()
    async with Relay(users=USERS, tls_port=0, ssl_context=tls[0]) as relay:
        clients = [await Client.connect(relay, transport) for transport in ("udp", "tcp", "tls")]
        for client in clients[:2]:
            await client.allocate(a.EVEN_PORT(True))
        await until(lambda: len(relay._connections) == 2)
        started = time.monotonic()
    assert time.monotonic() - started < 1
    for client in clients:
        client.sock.close()
    assert asyncio.all_tasks() == tasks
    assert open_sockets() == before
    assert relay._timer is not None
    assert relay._timer.cancelled()
    await relay.close()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest.mark.parametrize("steps", range(6))
async def test_close_at_any_step_of_a_new_connection(
    transport: str, steps: int, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    tasks = asyncio.all_tasks()
    async with Relay(users=USERS, tls_port=0, ssl_context=tls[0]) as relay:
        sock = socket.create_connection(("127.0.0.1", port_of(relay, transport)))
        for _ in range(steps):
            await asyncio.sleep(0)
    sock.close()
    assert asyncio.all_tasks() == tasks


@pytest.mark.slow
async def test_idle_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_sockets, "IDLE_TIMEOUT", 0.5)
    async with Relay(users=USERS) as relay:
        idle, busy = await Client.connect(relay, "tcp"), await Client.connect(relay, "tcp")
        await busy.allocate()
        assert await idle.receive() == b""
        assert relay.active == 1
        assert (await busy.request(Method.REFRESH)).kind is Class.SUCCESS
        idle.sock.close()
        busy.sock.close()


async def test_the_time_without_an_allocation_starts_when_it_ends() -> None:
    stream = turn_sockets.Stream(Mock(), ("198.51.100.7", 40000, 1), asyncio.get_running_loop())
    transport = Mock(spec=asyncio.Transport)
    stream.connection_made(transport)
    now = asyncio.get_running_loop().time()
    stream.check_idle(now + 100, True)
    stream.check_idle(now + 160, False)
    transport.abort.assert_not_called()
    stream.check_idle(now + 160.1, False)
    transport.abort.assert_called_once()


async def test_connections_are_limited(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """One in its TLS handshake counts, too."""
    async with Relay(users=USERS, tls_port=0, ssl_context=tls[0], max_connections=2) as relay:
        one, two = await Client.connect(relay, "tls"), await Client.connect(relay, "tcp")
        await two.allocate()
        three = await Client.connect(relay, "tcp")
        assert await three.receive() == b""
        assert relay.counters.refused == 1
        one.sock.close()
        await until(lambda: len(relay._connections) == 1)
        four = await Client.connect(relay, "tcp")
        await four.allocate()
        for client in (two, three, four):
            client.sock.close()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_small_packets_do_not_wait_for_company(
    transport: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """Nagle's algorithm is off: with it, a packet waits up to 40 ms for the acknowledgement of the one before."""
    async with (
        Relay(users=USERS, tls_port=0, ssl_context=tls[0]) as relay,
        allocated(relay, transport, trust=tls[1]),
    ):
        [stream] = relay._streams.values()
        assert stream._transport is not None
        assert stream._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_client_that_does_not_read_loses_packets_and_costs_little() -> None:
    async with Relay(users=USERS, laboratory=True) as relay:
        slow = await Client.connect(relay, "tcp")
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        relayed = (await slow.allocate()).get(a.XOR_RELAYED_ADDRESS)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.0.1", 0))
            bind = (a.CHANNEL_NUMBER(0x4000), a.XOR_PEER_ADDRESS(Address(*peer.getsockname())))
            await slow.request(Method.CHANNEL_BIND, *bind)
            deadline = time.monotonic() + 10
            while not relay.counters.dropped:
                assert time.monotonic() < deadline
                peer.sendto(bytes(1200), relayed or ())
                await asyncio.sleep(0)
            [stream] = relay._streams.values()
            assert stream._transport is not None
            assert stream._transport.get_write_buffer_size() <= turn_sockets.WRITE_LIMIT + 1204
        async with allocated(relay) as one, allocated(relay) as two:
            await exchange(one, two)
        slow.sock.close()


@pytest.mark.slow
async def test_without_descriptors_it_refuses_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0
    accept = Relay._accept

    def counted(self: Relay, *arguments: Any) -> None:
        nonlocal tries
        tries += 1
        accept(self, *arguments)

    monkeypatch.setattr(Relay, "_accept", counted)
    async with Relay(users=USERS) as relay:
        client = await Client.connect(relay)
        waiting = socket.socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(client.sock.fileno()))
            waiting.connect(("127.0.0.1", port_of(relay, "tcp")))
            with pytest.raises(AssertionError):
                await client.allocate()
            await asyncio.sleep(0.2)
            assert 1 <= tries <= 2, "it asks again and again"
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        answer = await client.request(Method.ALLOCATE, a.REQUESTED_TRANSPORT(17))
        assert answer.kind is Class.SUCCESS
        waiting.setblocking(False)
        await Client(waiting).allocate()
        assert relay.active == 2
        client.sock.close()
        waiting.close()


# --- hostile input ----------------------------------------------------------------------------------------------------

GARBAGE = [b"\xff" * 500, b"\x16\x03\x01" + bytes(200), b"\x00\x01\x00\x08" + bytes(24), b"\x90" + os.urandom(1200)]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_garbage_is_counted_and_harms_nobody(
    transport: str, tls: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        Relay(users=USERS, laboratory=True, tls_port=0, ssl_context=tls[0]) as relay,
        allocated(relay, transport, trust=tls[1]) as one,
        allocated(relay, transport, trust=tls[1]) as two,
    ):
        for garbage in GARBAGE:
            before = relay.counters.malformed
            client = await Client.connect(relay, transport)
            await client.send(garbage)
            await until(lambda before=before: relay.counters.malformed > before)
            if transport != "udp":
                await at_end(client)
            client.sock.close()
        await exchange(one, two)
        assert relay.active == 2
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_a_stream_of_tls_that_turns_into_garbage(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with Relay(users=USERS, tls_port=0, ssl_context=tls[0]) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.tls_port, ssl=tls[1])
        writer.write(b"\xff" * 100)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert relay.counters.malformed == 1
        writer.close()
        with contextlib.suppress(OSError):  # the relay does not say goodbye
            await writer.wait_closed()


async def test_nothing_shows_an_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Relay(users=USERS, laboratory=True) as relay:
        async with allocated(relay, "udp") as one, allocated(relay, "tcp") as two:
            await exchange(one, two, 3)
        shown = repr(relay) + repr(relay.counters)
    ours = [record for record in caplog.records if record.name.startswith("relaycall")]
    assert [(record.levelname, record.name) for record in ours] == [("WARNING", "relaycall.server.turn")]
    assert "127.0.0.1" not in shown + "".join(record.getMessage() for record in ours)
    assert "secret" not in shown


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["udp", "tcp"])
async def test_a_port_in_use_is_named(kind: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == "tcp":
            taken.listen()
        port = taken.getsockname()[1]
        tasks = asyncio.all_tasks()
        with pytest.raises(ConfigError) as caught:
            async with Relay(users=USERS, **{f"{kind}_port": port}):
                pass
        assert f"{kind.upper()} port {port} is already in use" in caught.value.sentence
        assert "127.0.0.1" not in str(caught.value)
        assert asyncio.all_tasks() == tasks


async def test_an_address_of_another_machine() -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        async with Relay(host="192.0.2.1", users=USERS):
            pass


@pytest.mark.parametrize(
    "options",
    [
        {"users": {}},
        {"users": USERS, "tls_port": 0},
        {"users": USERS, "host": "localhost"},
        {"users": USERS, "host": "0.0.0.0"},
        {"users": USERS, "host": "::"},
        {"users": USERS, "relay_host": "relay.example"},
        {"users": USERS, "relay_host6": "127.0.0.1"},
    ],
)
def test_settings_that_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Relay(**options)


async def test_uris(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with Relay(users=USERS, tls_port=0, ssl_context=tls[0], tcp_port=None) as relay:
        assert relay.uri() == f"turn:127.0.0.1:{relay.udp_port}?transport=udp"
        assert relay.uri("tls") == f"turns:127.0.0.1:{relay.tls_port}?transport=tcp"
        with pytest.raises(ConfigError):
            relay.uri("tcp")
    async with Relay(host="0.0.0.0", relay_host="127.0.0.1", users=USERS) as relay:
        assert relay.uri() == f"turn:127.0.0.1:{relay.udp_port}?transport=udp"
        async with Relay(host="::", relay_host="::1", udp_port=relay.udp_port, users=USERS) as other:
            assert other.uri() == f"turn:[::1]:{relay.udp_port}?transport=udp"
    async with Relay(host="::1", users=USERS) as relay:
        assert relay.uri("tcp") == f"turn:[::1]:{relay.tcp_port}?transport=tcp"
