"""Calls for tests: embedded relays, two parties in this process, and ways to wait for what is heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from relaycall.call.media_call import MediaCall
from relaycall.media.session import AudioSession
from relaycall.relays.server import RelayServer
from relaycall.server.certificates import development_tls
from relaycall.server.turn import Relay

USERNAME = "canary-user-7c1e"
PASSWORD = "canary-password-e09b"


@asynccontextmanager
async def embedded_relays(
    count: int = 2, transport: str = "udp", **options: Any
) -> AsyncIterator[tuple[list[Relay], list[RelayServer]]]:
    """Relays in this process, and what a party is told of each. `options` go to each `Relay`."""
    server_tls, client_tls = development_tls("127.0.0.1") if transport == "tls" else (None, None)
    ports = {f"{name}_port": 0 if name == transport else None for name in ("udp", "tcp", "tls")}
    async with contextlib.AsyncExitStack() as stack:
        relays = [
            Relay(ssl_context=server_tls, users={USERNAME: PASSWORD}, laboratory=True, **{**ports, **options})
            for _ in range(count)
        ]
        for relay in relays:
            await stack.enter_async_context(relay)
        servers = [
            RelayServer.parse(relay.uri(transport), username=USERNAME, password=PASSWORD, ssl_context=client_tls)
            for relay in relays
        ]
        yield relays, servers


async def connect(alice: MediaCall, bob: MediaCall) -> None:
    """Exchange the records and connect both."""
    for_bob, for_alice = await asyncio.gather(alice.prepare(), bob.prepare())
    await asyncio.gather(alice.connect(for_alice), bob.connect(for_bob))


async def close(*calls: MediaCall) -> None:
    """Close all at once."""
    await asyncio.gather(*(call.close() for call in calls))


def session(call: MediaCall) -> AudioSession:
    """The session of a connected call."""
    assert call.session is not None
    return call.session


async def until(condition: Callable[[], bool], timeout: float = 5.0, what: str = "it") -> None:
    """Wait for a condition, or fail."""
    try:
        async with asyncio.timeout(timeout):
            while not condition():  # noqa: ASYNC110 - conditions on counters have no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what} did not happen within {timeout} s") from None


async def heard(*calls: MediaCall, frames: int = 10, timeout: float = 5.0) -> None:
    """Wait until each of them has heard so many more frames."""
    targets = {call: session(call).frames_heard + frames for call in calls}
    await until(
        lambda: all(session(call).frames_heard >= target for call, target in targets.items()),
        timeout,
        f"hearing {frames} frames",
    )
