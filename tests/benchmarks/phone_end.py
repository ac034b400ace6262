"""One end of a phone call, in a process of its own: what the benchmark `phone` measures on."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from relaycall.call.call import Call
from relaycall.call.phone import Phone
from relaycall.identity.card import card_from_text, card_to_text
from relaycall.media.audio import ToneSource
from relaycall.redact import Secret
from relaycall.relays.server import RelayServer
from relaycall.store.base import Store
from relaycall.store.memory import MemoryStore
from relaycall.store.vault import VaultStore
from tests.benchmarks.calls import PASSWORD, TIMEOUT, USERNAME
from tests.benchmarks.party import CpuMeter


class Ear:
    """Notes when there was sound for the first time, by the monotonic clock."""

    def __init__(self) -> None:
        self.heard_at: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def write(self, frame: Any) -> None:
        if not self.heard_at.done() and any(bytes(frame.planes[0])):
            self.heard_at.set_result(time.monotonic())

    def close(self) -> None:
        """There is nothing to release."""


class PhoneEnd:
    """A phone that accepts every call at once, and one call of it."""

    def __init__(self) -> None:
        self._phone: Phone | None = None
        self._store: Store = MemoryStore()
        self._answering: asyncio.Task[None] | None = None
        self._call: Call | None = None
        self._source = ToneSource()  # for the next call: to make one takes 7 ms, and none of them is the phone's
        self._ear: Ear | None = None
        self._began = self._path_at = 0.0  # when it was placed or accepted, and when it had a path
        self._rings = asyncio.Event()

    async def open(self, name: str, signaling: str, relay: str, prewarm: bool, vault: str | None) -> str:
        """A new phone, with new keys, in memory or in this `vault`, a file that is none yet. Gives its card."""
        self._store = MemoryStore() if vault is None else VaultStore(Path(vault), Secret("of a benchmark"))
        self._phone = await Phone(
            signaling=signaling,
            relays=[RelayServer.parse(relay, username=USERNAME, password=PASSWORD)],
            name=name,
            store=self._store,
            prewarm=prewarm,
            laboratory=True,
        ).__aenter__()
        self._answering = asyncio.create_task(self._answer(self._phone))
        return card_to_text(self._phone.card)

    async def add(self, card: str) -> None:
        """A new contact."""
        await self._opened.contacts.add(card_from_text(card), time.time())

    async def warm(self) -> None:
        """Wait until relays are ready for the next call."""
        async with asyncio.timeout(TIMEOUT):
            while (opening := self._opened._warm._opening) is None:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
            await asyncio.shield(opening)

    async def call(self, name: str) -> None:
        self._ear = Ear()
        self._began = time.monotonic()
        self._follow(await self._opened.call(name, audio=self._source, sink=self._ear))

    async def _answer(self, phone: Phone) -> None:
        async for ring in phone.incoming():
            self._ear = Ear()
            self._began = time.monotonic()
            self._follow(ring.accept(audio=self._source, sink=self._ear))

    def _follow(self, call: Call) -> None:
        def path_selected(_: object) -> None:
            self._path_at = self._path_at or time.monotonic()

        self._call, self._path_at = call, 0.0
        call.on("path_selected", path_selected)
        self._rings.set()

    async def up(self) -> tuple[float, float, float, float]:
        """When it was placed or accepted, when it had a path, when it was connected, and when something was heard."""
        async with asyncio.timeout(TIMEOUT):
            await self._rings.wait()
            assert self._call is not None
            assert self._ear is not None
            if not await self._call.connected():
                raise RuntimeError(f"the call ended: {await self._call.ended()}")
            up = time.monotonic()
            return self._began, self._path_at, up, await self._ear.heard_at

    async def hang_up(self) -> None:
        """End the call, whichever side is first; another may follow."""
        if self._call is not None:
            await self._call.hang_up()
        self._rings.clear()
        self._source = ToneSource()

    async def counters(self, name: str, count: int) -> float:
        """Milliseconds to keep the counter of a message to a contact in the store, the mean of so many."""
        book = self._opened.contacts
        contact = book.get(name)
        started = time.perf_counter()
        for _ in range(count):
            await book.next_sent(contact, time.time())
        return (time.perf_counter() - started) * 1000 / count

    async def idle(self, seconds: float) -> tuple[float, float]:
        """CPU seconds and wall seconds of doing nothing."""
        meter = CpuMeter()
        await asyncio.sleep(seconds)
        return meter.read()

    @property
    def _opened(self) -> Phone:
        assert self._phone is not None
        return self._phone

    async def shut(self) -> None:
        """Close the phone; another may be opened."""
        if self._phone is not None:
            await self._phone.close()
            self._phone = None
        if self._answering is not None:
            self._answering.cancel()
            with suppress(asyncio.CancelledError):
                await self._answering
            self._answering = None

    async def close(self) -> None:
        await self.shut()
