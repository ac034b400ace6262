"""What the contract's cases need: a rig that brings the transport, and the ways in which they look at it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable
from types import TracebackType
from typing import Self

from relaycall.errors import MailboxFull, SignalingError
from relaycall.signaling.base import ENVELOPE_SIZE, Received, Signaling
from relaycall.signaling.keys import FreshKey, MailboxKey

PATIENCE = 15.0  # seconds for what has to happen
SILENCE = 0.2  # seconds in which what must not happen would have happened


class Rig(ABC):
    """Brings one transport to the cases. What it opened it closes when it is left."""

    def __init__(self) -> None:
        self.opened: list[Signaling] = []

    @abstractmethod
    async def open(self, key: MailboxKey | None = None) -> Signaling:
        """A new client, opened, and added to `opened`; its way to the server is its own. Raises what opening raises."""

    @abstractmethod
    async def reopen(self, client: Signaling) -> Signaling:
        """Break this client's connection, unknown to it. Returns a client of the same mailbox, which is open again.

        The same one, if it reconnects by itself; or else it is closed, and a new one with the same key is opened.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.gather(*(client.close() for client in self.opened))


class MortalRig(Rig):
    """A rig whose server can die."""

    @abstractmethod
    async def restart(self) -> None:
        """Kill the server, which loses all that it holds, and start it again where it was."""


_numbers = itertools.count(1)


def fresh_envelope() -> bytes:
    """One that differs from all others here."""
    return next(_numbers).to_bytes(8, "big").ljust(ENVELOPE_SIZE, b"\xa5")


async def take(incoming: AsyncIterator[Received], count: int = 1) -> list[Received]:
    """The next so many envelopes."""
    async with asyncio.timeout(PATIENCE):
        return [await anext(incoming) for _ in range(count)]


async def take_distinct(incoming: AsyncIterator[Received], count: int) -> list[Received]:
    """The next so many that differ; what comes again, as after any reconnect, has to say so."""
    found: dict[bytes, Received] = {}
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            received = await anext(incoming)
            assert received.duplicate or received.id not in found
            found.setdefault(received.id, received)
    return list(found.values())


async def silent(incoming: AsyncIterator[Received]) -> bool:
    """Whether nothing comes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SILENCE):
            await anext(incoming)
            return False
    return True


async def ends(incoming: AsyncIterator[Received]) -> bool:
    """Whether the iterator ends, perhaps after a few more."""
    async with asyncio.timeout(PATIENCE):
        async for _ in incoming:
            pass
    return True


class Impostor:
    """Shows a public key, and signs with another."""

    def __init__(self, public: bytes) -> None:
        self.public = public
        self._own = FreshKey()

    def sign(self, message: bytes) -> bytes:
        return self._own.sign(message)


async def refused(error: type[SignalingError], doing: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await doing
    except error:
        return
    raise AssertionError(f"it should have raised {error.__name__}")


async def until_taken(sender: Signaling, mailbox: bytes, envelope: bytes) -> None:
    """Send once the acknowledgements, which nobody waits for, have arrived."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await sender.send(mailbox, envelope)
            except MailboxFull:
                await asyncio.sleep(0.02)
