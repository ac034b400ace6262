"""Mallory as the callee towards the caller, and as the caller towards the callee, with sound on both sides.

He needs keys that the two take for each other's: stolen ones, or his own on cards that he has swapped.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relaycall.call.ends import MediaOptions
from relaycall.call.media_call import MediaCall
from relaycall.call.messages import Kind, offer_body, read_call_id, read_offer
from relaycall.identity.card import Card
from relaycall.identity.handshake import CalleeHandshake, CallerHandshake
from relaycall.identity.sealer import Opened
from relaycall.media.audio import SilenceSource
from tests.scenarios.mitm.correspondent import Correspondent
from tests.scenarios.mitm.path import Letter
from tests.scenarios.mitm.world import World


class Between:
    """Both calls.

    Args:
        callee: the keys that the caller takes for the callee's.
        caller: the keys that the callee takes for the caller's.
        alice: the card of the true caller.
        bob: the card of the true callee.
    """

    def __init__(self, world: World, *, callee: Correspondent, caller: Correspondent, alice: Card, bob: Card) -> None:
        self._world = world
        self._callee, self._caller = callee, caller
        self._alice, self._bob = alice, bob
        self._letters: asyncio.Queue[Letter] = asyncio.Queue()
        self.to_alice = MediaCall(
            world.servers, caller=False, source=SilenceSource(), options=MediaOptions(laboratory=True)
        )
        self.to_bob = MediaCall(
            world.servers, caller=True, source=SilenceSource(), options=MediaOptions(laboratory=True)
        )
        self._offered: CallerHandshake | None = None
        self._connecting: list[asyncio.Task[None]] = []

    def frames(self) -> tuple[int, int]:
        """How much he has heard of Alice, and of Bob."""
        a, b = (call.session.frames_heard if call.session is not None else 0 for call in (self.to_alice, self.to_bob))
        return a, b

    def plan(self, letter: Letter) -> list[Letter]:
        """Nothing reaches those two but what he writes himself."""
        self._letters.put_nowait(letter)
        return []

    async def run(self) -> None:
        while True:
            letter = await self._letters.get()
            if letter.to == self._callee.mailbox:
                await self._from_alice(await self._callee.opened(letter))
            elif letter.to == self._caller.mailbox:
                await self._from_bob(await self._caller.opened(letter))

    async def close(self) -> None:
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(self.to_alice.close(), self.to_bob.close(), *self._connecting, return_exceptions=True)

    async def _from_alice(self, opened: Opened) -> None:
        if opened.kind != Kind.OFFER or self._offered is not None:
            return
        _, offer = read_offer(opened.body)
        called = CalleeHandshake(self._callee.own.identity, opened.sender, offer)
        record = await self.to_bob.prepare()
        self._offered = CallerHandshake(
            self._caller.own.identity,
            self._bob.identity,
            record,
            secret=secrets.token_bytes(32),
            nonce=secrets.token_bytes(32),
        )
        body = offer_body(self._caller.card.encode(), self._offered.offer)
        await self._caller.post(self._bob, Kind.OFFER, body)
        answer, keys = called.answer(
            await self.to_alice.prepare(), secret=secrets.token_bytes(32), nonce=secrets.token_bytes(32)
        )
        self._world.keys.append(keys.media)
        self._connect(self.to_alice, called.record, keys.media)
        await self._callee.post(self._alice, Kind.ANSWER, called.call_id + answer)

    async def _from_bob(self, opened: Opened) -> None:
        if opened.kind != Kind.ANSWER or self._offered is None or self.to_bob.session is not None:
            return
        call_id, answer = read_call_id(opened.body)
        record, keys = self._offered.accept(answer)
        self._world.keys.append(keys.media)
        self._connect(self.to_bob, record, keys.media)
        await self._caller.post(self._bob, Kind.CONFIRM, call_id + self._offered.confirm())

    def _connect(self, call: MediaCall, record: bytes, key: bytes) -> None:
        self._connecting.append(asyncio.create_task(call.connect(record, call_key=key)))


@asynccontextmanager
async def between(
    world: World, *, callee: Correspondent, caller: Correspondent, alice: Card, bob: Card
) -> AsyncIterator[Between]:
    """Mallory between the two, from now on."""
    middle = Between(world, callee=callee, caller=caller, alice=alice, bob=bob)
    world.path.plan = middle.plan
    running = asyncio.create_task(middle.run())
    try:
        yield middle
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await middle.close()
