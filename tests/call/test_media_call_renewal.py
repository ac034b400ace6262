"""Credentials that end while a call runs: it goes on over new allocations, and no packet is lost."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from relaycall.call.events import RelayChanged
from relaycall.ice.events import PathLost, RelayGone
from relaycall.redact import Secret
from relaycall.relays.credentials import TimeLimited
from relaycall.relays.pool import PoolEvent, RelayPool
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from tests.call.parties import Party, warm
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import connect, heard, until

SHARED = "canary-shared-secret"


@pytest.mark.slow
async def test_allocations_are_renewed_before_credentials_expire() -> None:
    """Made before broken: one side gets two new allocations, tells of them in band, and leaves the old ones."""
    async with contextlib.AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(Relay(auth_secret=SHARED, laboratory=True)) for _ in range(2)]
        servers = [RelayServer.parse(relay.uri("udp")) for relay in relays]
        events: list[PoolEvent] = []
        source = TimeLimited(Secret(SHARED), ttl=4)
        pool = await stack.enter_async_context(
            RelayPool(servers, credentials=source, measure=False, laboratory=True, on_event=events.append)
        )
        lasting = TimeLimited(Secret(SHARED), ttl=3600).mint()
        users = [server.with_credentials(lasting.username, lasting.password) for server in servers]
        alice = await stack.enter_async_context(Party(pool, caller=True))
        bob = await stack.enter_async_context(Party(users, caller=False))
        await connect(alice, bob)
        await warm(alice, bob)
        before = {found.address for found in alice.connection.local_candidates}
        await until(lambda: sum(event.kind == "renewed" for event in events) == 2, timeout=8)
        await until(lambda: before.isdisjoint(known.address for known in bob.connection.remote_candidates), timeout=3)
        await until(lambda: [relay.active for relay in relays] == [2, 2], timeout=6)  # the old ones are given up
        await heard(alice, bob)
        await asyncio.sleep(1.2)
        for party in (alice, bob):
            assert party.told(PathLost, RelayGone) == []
            changes = [event for event in party.events if isinstance(event, RelayChanged)]
            assert changes
            assert all(event.lost == 0 and not event.failed for event in changes)
