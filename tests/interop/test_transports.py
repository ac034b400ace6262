"""Two connections over coturn, by every way to reach it: 200 packets each way, measured paths, a quick end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from relaycall.ice import names
from relaycall.ice.connection import Connection
from relaycall.redact import Secret
from relaycall.relays.server import RelayServer, Transport
from relaycall.stun.address import IPV4, IPV6
from tests.certificates import Authority
from tests.coturn import Coturn
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scripted import black_hole
from tests.waiting import eventually

pytestmark = pytest.mark.interop

COUNT = 200
NAME = "relay.test"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return authority.client_context()


@asynccontextmanager
async def coturn(authority: Authority, ip: str = "127.0.0.1", relay_ip: str | None = None) -> AsyncIterator[Coturn]:
    leaf = authority.leaf(NAME, ip)
    async with Coturn(ip=ip, relay_ip=relay_ip, cert=leaf.cert, key=leaf.key) as relay:
        yield relay


@asynccontextmanager
async def pair(
    alice: RelayServer, bob: RelayServer, families: Sequence[int] = (IPV4,)
) -> AsyncIterator[list[Connection]]:
    """Two connected connections; they close within two seconds."""
    both = [
        Connection([server], ice_controlling=controlling, families=families, laboratory=True)
        for server, controlling in ((alice, True), (bob, False))
    ]
    try:
        await asyncio.gather(*(one.gather_candidates() for one in both))
        for one, other in zip(both, reversed(both), strict=True):
            one.remote_username, one.remote_password = other.local_username, other.local_password
            for candidate in other.local_candidates:
                await one.add_remote_candidate(candidate)
        await asyncio.gather(*(one.connect() for one in both))
        yield both
    finally:
        started = time.monotonic()
        await asyncio.gather(*(one.close() for one in both))
        assert time.monotonic() - started < 2.0


async def assert_carries(both: list[Connection]) -> None:
    """Packets of all sizes arrive, unchanged, both ways; what is measured is measured."""
    packets = [bytes((128,)) + index.to_bytes(2, "big") + bytes(7 * index) for index in range(COUNT)]
    received: list[list[bytes]] = [[], []]
    for one, into in zip(both, received, strict=True):
        one.set_receiver(into.append)
    for at in range(0, COUNT, 10):
        for packet in packets[at : at + 10]:
            for one in both:
                one.send_packet(packet)
        await asyncio.sleep(0.002)
    await eventually(lambda: min(map(len, received)) == COUNT)
    assert sorted(received[0]) == sorted(received[1]) == sorted(packets)
    for one in both:
        (path,) = one.path_stats()
        assert path.selected
        assert path.healthy
        assert 0 < path.rtt_min_ms <= path.rtt_ms < 1000
        assert 0 < path.checks_answered <= path.checks_sent
        assert all(0 < rtt < 1000 for rtt in one.relay_rtts.values())
        assert not one.failures
        assert not one.dropped["no_path"] + one.dropped["too_long"] + one.dropped["not_media"] + one.dropped["send"]


@pytest.mark.parametrize(
    ("alice", "bob"), [("udp", "udp"), ("tcp", "tcp"), ("tls", "tls"), ("udp", "tls"), ("tcp", "udp")]
)
async def test_transports(alice: Transport, bob: Transport, authority: Authority, trusting: ssl.SSLContext) -> None:
    async with (
        coturn(authority) as relay,
        pair(relay.server(alice, ssl_context=trusting), relay.server(bob, ssl_context=trusting)) as both,
    ):
        await assert_carries(both)


async def test_two_relays(authority: Authority) -> None:
    async with (
        coturn(authority) as one,
        coturn(authority, "127.0.0.2") as other,
        pair(one.server(), other.server("tcp")) as both,
    ):
        await assert_carries(both)
        assert [candidate.host for candidate in both[0].remote_candidates] == ["127.0.0.2"]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize(
    ("ip", "relay_ip", "family"),
    [("::1", "::1", IPV6), ("::1", "127.0.0.1", IPV4), ("127.0.0.1", "::1", IPV6)],
    ids=["all IPv6", "IPv6 to the relay only", "IPv6 behind the relay only"],
)
async def test_ipv6(
    transport: Transport, ip: str, relay_ip: str, family: int, authority: Authority, trusting: ssl.SSLContext
) -> None:
    async with coturn(authority, ip, relay_ip) as relay:
        port = relay.tls_port if transport == "tls" else relay.port
        server = RelayServer(ip, port, transport, relay.username, Secret(relay.password), ssl_context=trusting)
        async with pair(server, server, families=(family,)) as both:
            await assert_carries(both)
            assert {":" in candidate.host for candidate in both[0].local_candidates} == {family == IPV6}


@pytest.mark.parametrize("name", [NAME, NAME + "."])
async def test_pinned_address_with_the_name_in_the_certificate(name: str, authority: Authority) -> None:
    leaf = authority.leaf(NAME)  # and for no address
    async with Coturn(cert=leaf.cert, key=leaf.key) as relay:
        server = RelayServer.parse(
            relay.uri("tls"),
            username=relay.username,
            password=relay.password,
            tls_name=name,
            ssl_context=authority.client_context(),
        )
        async with pair(server, server) as both:
            await assert_carries(both)


# --- names with several addresses -------------------------------------------------------------------------------------

Dead = Callable[[ExitStack, Transport], int]


def answers_nothing(stack: ExitStack, transport: Transport) -> int:
    return stack.enter_context(black_hole("udp" if transport == "udp" else "tcp", ip="::1"))


def refuses(_stack: ExitStack, transport: Transport) -> int:
    with black_hole("udp" if transport == "udp" else "tcp", ip="::1") as port:
        return port


@pytest.fixture
def lookup(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[tuple[socket.AddressFamily, tuple[object, ...]]]], None]:
    """Sets what names resolve to."""

    def answer(addresses: list[tuple[socket.AddressFamily, tuple[object, ...]]]) -> None:
        async def getaddrinfo(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
            assert host == NAME
            return [(family, socket.SOCK_DGRAM, 17, "", address) for family, address in addresses]

        monkeypatch.setattr(names, "getaddrinfo", getaddrinfo)

    return answer


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("dead", [answers_nothing, refuses])
async def test_a_dead_ipv6_address_does_not_keep_from_the_ipv4_one(
    transport: Transport,
    dead: Dead,
    authority: Authority,
    trusting: ssl.SSLContext,
    lookup: Callable[..., None],
) -> None:
    async with AsyncExitStack() as stack:
        holes = stack.enter_context(ExitStack())
        relay = await stack.enter_async_context(coturn(authority))
        server = relay.server(transport, ssl_context=trusting)
        lookup(
            [
                (socket.AF_INET6, ("::1", dead(holes, transport), 0, 0)),
                (socket.AF_INET, (server.host, server.port)),
            ]
        )
        named = replace(server, host=NAME)
        connection = Connection([named], ice_controlling=True, laboratory=True)
        stack.push_async_callback(connection.close)
        started = time.monotonic()
        await connection.gather_candidates()
        assert time.monotonic() - started < 1.5
        assert connection.relay_rtts.keys() == {named.name}
        assert not connection.failures
