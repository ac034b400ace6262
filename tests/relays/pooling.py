"""What tests of a pool are made of: relays, its events, a source of credentials, and a user of what it keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from relaycall.errors import RelayError
from relaycall.ice.allocation import Allocation
from relaycall.redact import Secret
from relaycall.relays.credentials import RelayCredentials
from relaycall.relays.pool import PoolEvent, RelayPool
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from relaycall.stun.turn_auth import rest_password
from tests.scripted import PASSWORD, USERNAME


@asynccontextmanager
async def relays(count: int, **options: Any) -> AsyncIterator[list[Relay]]:
    everything: dict[str, Any] = {"users": {USERNAME: PASSWORD}, "laboratory": True} | options
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Relay(**everything)) for _ in range(count)]


def servers(running: list[Relay], transport: str = "tcp") -> list[RelayServer]:
    """Over TCP, where the end of a relay is noticed at once."""
    return [RelayServer.parse(one.uri(transport), username=USERNAME, password=PASSWORD) for one in running]


class Log:
    """The events of a pool."""

    def __init__(self) -> None:
        self.events: list[PoolEvent] = []
        self.then: Callable[[PoolEvent], object] = lambda _event: None

    def __call__(self, event: PoolEvent) -> None:
        self.events.append(event)
        self.then(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


class Minted:
    """Credentials of a relay with a shared secret, that hold for so many seconds. All are of one account."""

    def __init__(self, ttl: float | None) -> None:
        self.ttl = ttl
        self.asked = 0
        self.secret = "secret"
        self.error: Exception | None = None

    async def credentials(self) -> RelayCredentials:
        self.asked += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        username = f"{int(time.time()) + 3600 + self.asked}:account"
        expires_at = None if self.ttl is None else time.time() + self.ttl
        return RelayCredentials(username, Secret(rest_password(self.secret, username)), expires_at)


class Call:
    """Uses what a pool lends, as a call does: it reports what is lost, and closes what is retired.

    Attributes:
        used: what it uses now.
        log: (what, relay) of everything that happened, in order: "add", "retire", "lost".
        counts: how many it used after each of these.
    """

    def __init__(self, pool: RelayPool) -> None:
        self.used: list[Allocation] = []
        self.log: list[tuple[str, str]] = []
        self.counts: list[int] = []
        self._pool = pool
        self._closed = False
        self._closing: set[asyncio.Task[None]] = set()

    def add_allocation(self, allocation: Allocation) -> None:
        assert not self._closed
        assert allocation.alive
        assert allocation not in self.used
        assert allocation.on_lost is None
        self.used.append(allocation)
        allocation.on_lost = partial(self._lost, allocation)
        self._note("add", allocation)

    def retire_allocation(self, allocation: Allocation) -> None:
        self.used.remove(allocation)
        self._note("retire", allocation)
        self._close(allocation)

    def _lost(self, allocation: Allocation, error: RelayError) -> None:
        self.used.remove(allocation)
        self._note("lost", allocation)
        allocation.abort()
        self._pool.lost(allocation, error)

    def _note(self, what: str, allocation: Allocation) -> None:
        self.log.append((what, allocation.server.name))
        self.counts.append(len(self.used))

    def _close(self, allocation: Allocation) -> None:
        task = asyncio.get_running_loop().create_task(allocation.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        self._closed = True
        for allocation in self.used:
            self._close(allocation)
        self.used.clear()
        if self._closing:
            await asyncio.wait(self._closing)
