"""`close()` is over within two seconds whatever the relays do, and leaves nothing here, nor on a relay that lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relaycall.errors import CallClosed, NoRelay, RelayQuota
from relaycall.ice.connection import Connection
from relaycall.relays.server import RelayServer, Transport
from tests.certificates import Authority
from tests.coturn import Coturn
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.waiting import eventually

pytestmark = pytest.mark.interop

PACKET = b"\x80" + bytes(1199)
TRANSPORTS: list[Transport] = ["udp", "tcp", "tls"]


class Site:
    """A relay under test, a good one for the other side, and TLS for both."""

    def __init__(self, relay: Coturn, other: Coturn, authority: Authority) -> None:
        self.relay, self.other, self._authority = relay, other, authority

    def server(self, transport: Transport) -> RelayServer:
        return self.relay.server(transport, ssl_context=self._authority.client_context())


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    authority = Authority(tmp_path)
    leaf = authority.leaf("127.0.0.1")
    async with (
        Coturn(cert=leaf.cert, key=leaf.key, extra=["--user-quota=1"]) as relay,
        Coturn(ip="127.0.0.2") as other,
    ):
        yield Site(relay, other, authority)


@asynccontextmanager
async def call(site: Site, transport: Transport, connect: bool = True) -> AsyncIterator[Connection]:
    """A connection over the relay under test, to a peer on the other; closed by the test, or at the end."""
    alice = Connection([site.server(transport)], ice_controlling=True, laboratory=True)
    bob = Connection([site.other.server()], ice_controlling=False, laboratory=True)
    try:
        await asyncio.gather(alice.gather_candidates(), bob.gather_candidates())
        for one, other in ((alice, bob), (bob, alice)):
            one.remote_username, one.remote_password = other.local_username, other.local_password
            await one.add_remote_candidate(other.local_candidates[0])
        if connect:
            await asyncio.gather(alice.connect(), bob.connect())
        yield alice
    finally:
        await asyncio.gather(alice.close(), bob.close())


async def assert_nothing_left(server: RelayServer) -> None:
    """The relay grants one allocation per user: the next is had at once, or when coturn frees a deleted one, in 1 s."""
    async with asyncio.timeout(3.0):
        while True:
            connection = Connection([server], ice_controlling=True, laboratory=True)
            try:
                await connection.gather_candidates()
                return
            except NoRelay as refused:
                if type(refused.failures[0]) is not RelayQuota:
                    raise
                await asyncio.sleep(0.1)
            finally:
                await connection.close()


async def assert_closes(*connections: Connection) -> None:
    started = time.monotonic()
    await asyncio.gather(*(connection.close() for connection in connections))
    assert time.monotonic() - started < 2.0
    for connection in connections:
        with pytest.raises(CallClosed):
            connection.send_packet(PACKET)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nothing_is_left_on_a_live_relay(transport: Transport, site: Site) -> None:
    async with call(site, transport) as alice:
        await assert_closes(alice)
    await assert_nothing_left(site.server(transport))


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_nothing_is_left_on_a_live_relay_by_a_cancelled_gathering(transport: Transport, site: Site) -> None:
    """Over UDP something may be: coturn looks passwords up aside, and a Refresh overtakes the Allocate before it."""
    for turns in range(1, 40):
        alice = Connection([site.server(transport)], ice_controlling=True, laboratory=True)
        gathering = asyncio.ensure_future(alice.gather_candidates())
        for _ in range(turns):
            await asyncio.sleep(0)
        gathering.cancel()
        await asyncio.wait([gathering])
        await alice.close()
    await assert_nothing_left(site.server(transport))


def kill(relay: Coturn) -> None:
    relay.kill()


def freeze(relay: Coturn) -> None:
    relay.freeze()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", [kill, freeze])
async def test_in_a_call(fault: Callable[[Coturn], None], transport: Transport, site: Site) -> None:
    async with call(site, transport) as alice:
        fault(site.relay)
        await asyncio.sleep(0.05)
        await assert_closes(alice)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("fault", [kill, freeze])
async def test_during_a_connect(fault: Callable[[Coturn], None], transport: Transport, site: Site) -> None:
    async with call(site, transport, connect=False) as alice:
        fault(site.relay)
        connecting = asyncio.ensure_future(alice.connect())
        await asyncio.sleep(0.05)
        await assert_closes(alice)
        with pytest.raises((CallClosed, NoRelay)):
            await connecting


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_during_a_gathering(transport: Transport, site: Site) -> None:
    site.relay.freeze()
    alice = Connection([site.server(transport)], ice_controlling=True, laboratory=True)
    gathering = asyncio.ensure_future(alice.gather_candidates())
    await asyncio.sleep(0.1)
    await assert_closes(alice)
    with pytest.raises(CallClosed):
        await gathering


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_with_full_buffers_over_a_frozen_stream(transport: Transport, site: Site) -> None:
    async with call(site, transport) as alice:
        site.relay.freeze()
        for _ in range(20_000):
            alice.send_packet(PACKET)
            if alice.dropped["send"]:
                break
            await asyncio.sleep(0)
        assert alice.dropped["send"]
        await assert_closes(alice)


async def test_twice_and_at_the_same_time_over_a_frozen_relay(site: Site) -> None:
    async with call(site, "udp") as alice:
        site.relay.freeze()
        await assert_closes(*[alice] * 5)
        await assert_closes(alice)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_after_the_loss_of_every_relay(transport: Transport, site: Site) -> None:
    async with call(site, transport) as alice:
        site.relay.kill()
        alice.send_packet(PACKET)
        await eventually(lambda: alice.error)
        assert isinstance(alice.error, NoRelay)
        await assert_closes(alice)


@pytest.mark.parametrize("turns", [1, 2, 5, 50])
async def test_a_cancelled_close_goes_on_by_itself(turns: int, site: Site) -> None:
    async with call(site, "udp") as alice:
        site.relay.freeze()
        closing = asyncio.ensure_future(alice.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        async with asyncio.timeout(2.0):
            assert await alice.ended() is None
