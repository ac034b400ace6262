"""Phones for tests: in this process, with embedded relays, stores in memory and people who hear and speak."""

from __future__ import annotations

import asyncio
import secrets
import time
from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import pytest

from relaycall.call.call import Call
from relaycall.call.phone import Phone
from relaycall.call.ring import Ring
from relaycall.errors import RelaycallError
from relaycall.media.audio import ToneSource
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from tests.identity.stores import MemoryStore
from tests.scenarios.calling import embedded_relays, until


class Mouth(ToneSource):
    """A tone that notes its end."""

    def __init__(self, frequency: int = 440) -> None:
        super().__init__(frequency)
        self.closed = 0

    def close(self) -> None:
        self.closed += 1
        super().close()


class Ear:
    """A sink that keeps the sound."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self.closed = 0

    def write(self, frame: Any) -> None:
        self.pcm += bytes(frame.planes[0])

    def close(self) -> None:
        self.closed += 1

    @property
    def samples(self) -> array[int]:
        return array("h", bytes(self.pcm))


class House:
    """Relays, and phones on one signaling URL.

    Attributes:
        relays: the embedded ones.
        servers: the same, as a phone is told of them.
        url: of signaling.
        refused: the codes of what each phone refused, by its name, in order.
    """

    def __init__(self, relays: list[Relay], servers: list[RelayServer], stack: AsyncExitStack) -> None:
        self.relays = relays
        self.servers = servers
        self.url = f"memory:{secrets.token_hex(8)}"
        self.refused: dict[str, list[RelaycallError]] = {}
        self._stack = stack

    async def phone(self, name: str, **options: Any) -> Phone:
        """An open phone; it is closed in the end."""
        given = {
            "signaling": self.url,
            "relays": self.servers,
            "name": name,
            "store": MemoryStore(),
            "prewarm": False,
            "laboratory": True,
        }
        phone = Phone(**{**given, **options})
        phone.on("refused", self.refused.setdefault(name, []).append)
        return await self._stack.enter_async_context(phone)

    async def friends(self, **options: Any) -> tuple[Phone, Phone]:
        """Alice and Bob, who know each other."""
        alice, bob = await self.phone("alice", **options), await self.phone("bob", **options)
        await befriend(alice, bob)
        return alice, bob

    def codes(self, name: str) -> list[str]:
        return [error.code for error in self.refused[name]]

    @property
    def allocations(self) -> int:
        """How many there are now."""
        return sum(relay.active for relay in self.relays)

    @property
    def granted(self) -> int:
        """How many there have been."""
        return sum(relay.counters.allocations for relay in self.relays)


@asynccontextmanager
async def house(relays: int = 2, **options: Any) -> AsyncIterator[House]:
    async with embedded_relays(relays, **options) as (embedded, servers), AsyncExitStack() as stack:
        yield House(embedded, servers, stack)


async def befriend(*phones: Phone) -> None:
    """Everybody has the card of everybody else."""
    for phone in phones:
        for other in phones:
            if other is not phone:
                await phone.contacts.add(other.card, time.time())


async def next_ring(phone: Phone, timeout: float = 5.0) -> Ring:
    """The next call that comes in."""
    async with asyncio.timeout(timeout), aclosing(phone.incoming()) as rings:
        return await anext(rings)


async def connect(caller: Phone, callee: Phone, name: str, **options: Any) -> tuple[Call, Call]:
    """Call, ring, accept, and wait until both are connected."""
    outgoing = await caller.call(name, audio=Mouth(440), **options)
    incoming = (await next_ring(callee)).accept(audio=Mouth(660))
    await connected(outgoing, incoming)
    return outgoing, incoming


async def connected(*calls: Call) -> None:
    async with asyncio.timeout(5):
        assert all(await asyncio.gather(*(call.connected() for call in calls)))


async def ended(*calls: Call | Ring, timeout: float = 5.0) -> list[str]:
    """Why each is over."""
    async with asyncio.timeout(timeout):
        return [end.reason for end in await asyncio.gather(*(call.ended() for call in calls))]


async def both_hear(*calls: Call, frames: int = 5) -> None:
    heard = [call.media.session.frames_heard + frames for call in calls]  # type: ignore[union-attr]
    await until(
        lambda: all(
            call.media.session.frames_heard >= least  # type: ignore[union-attr]
            for call, least in zip(calls, heard, strict=True)
        ),
        what="hearing each other",
    )


@pytest.fixture(autouse=True)
def nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores in memory are this process's alone: no need to wait for what another program may write."""
    monkeypatch.setattr("relaycall.identity.own.SETTLE", 0.0)
