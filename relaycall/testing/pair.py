"""Two phones in this process, and relays for them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

from relaycall.call.phone import Phone
from relaycall.identity.own import create_own
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from relaycall.store.memory import MemoryStore

NAMES = ("alice", "bob")
RELAYS = 2  # one in use, one kept warm
USER = "test"


@asynccontextmanager
async def local_pair(
    *, relays: Sequence[RelayServer] | None = None, signaling: str | None = None
) -> AsyncIterator[tuple[Phone, Phone]]:
    """Two open phones, "alice" and "bob", who are verified contacts of each other, within `async with`.

    Their keys are in memory and new. Each is as `Phone` is by default, in laboratory mode.

    Args:
        relays: of both; by default two embedded ones.
        signaling: the URL for both; by default a place of their own in this process's memory.

    Raises:
        ConfigError: an argument is not usable.
        SignalingError: the server that was given cannot be used.
    """
    url = signaling or f"memory:{secrets.token_hex(8)}"
    async with AsyncExitStack() as stack:
        if relays is None:
            relays = [await stack.enter_async_context(embedded_relay()) for _ in range(RELAYS)]
        stores = [MemoryStore() for _ in NAMES]
        now = time.time()
        await asyncio.gather(*(create_own(store, name, url, now) for store, name in zip(stores, NAMES, strict=True)))
        alice, bob = [
            await stack.enter_async_context(Phone(signaling=url, relays=relays, store=store, laboratory=True))
            for store in stores
        ]
        for phone, other in ((alice, bob), (bob, alice)):
            contact = await phone.contacts.add(other.card, now)
            await phone.contacts.verify(contact.name)
        yield alice, bob


@asynccontextmanager
async def embedded_relay(transport: Literal["udp", "tcp"] = "udp") -> AsyncIterator[RelayServer]:
    """A relay on loopback, within `async with`: as a phone is told of it, with credentials.

    Args:
        transport: on the way to it.
    """
    password = secrets.token_hex(16)
    async with Relay(users={USER: password}, laboratory=True) as relay:
        yield RelayServer.parse(relay.uri(transport), username=USER, password=password)
