"""Alice, Bob and Carol with phones, relays under a wiretap, and Mallory on the signaling path between them.

At the end of each test it is counted what Mallory can hear with all keys that he has: `Mallory.keys`. It must be
nothing, unless the test took that measure itself and cleared them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relaycall.call import desk, state
from relaycall.call.call import Call
from relaycall.call.messages import Kind
from relaycall.call.phone import Phone
from relaycall.call.ring import Ring
from relaycall.errors import RelaycallError
from relaycall.identity import own
from relaycall.identity.card import Card
from relaycall.identity.contact import Strangers
from relaycall.identity.envelope import Message, OpeningKey, RecipientKey, from_identity, open_envelope
from relaycall.identity.own import OwnKeys
from relaycall.media.audio import SilenceSource
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from tests.identity.stores import MemoryStore
from tests.scenarios.calling import embedded_relays, until
from tests.scenarios.mitm.correspondent import Correspondent
from tests.scenarios.mitm.path import URL, Letter, Path
from tests.scenarios.mitm.wiretap import Wiretap


class Person:
    """Somebody with a phone.

    Attributes:
        name: what they call themselves.
        phone: theirs, open.
        store: where the phone keeps its things.
        rings: every call that rang.
        errors: why messages were refused, in order.
    """

    def __init__(self, name: str, phone: Phone, store: MemoryStore) -> None:
        self.name, self.phone, self.store = name, phone, store
        self.rings: list[Ring] = []
        self.errors: list[RelaycallError] = []
        phone.on("incoming", self.rings.append)
        phone.on("refused", self.errors.append)

    @property
    def own(self) -> OwnKeys:
        """All their keys."""
        assert self.phone._held is not None
        return self.phone._held.own

    @property
    def card(self) -> Card:
        return self.phone.card

    @property
    def to_prekey(self) -> RecipientKey:
        """What envelopes to them are sealed to."""
        prekey = self.own.prekeys.current
        return RecipientKey(prekey.id, prekey.public.hpke_key())

    @property
    def calls(self) -> tuple[Call, ...]:
        return self.phone.calls

    @property
    def refused(self) -> dict[str, int]:
        """How many messages were refused, by code."""
        return dict(self.phone.refused)

    async def knows(self, other: Person | Correspondent, name: str, *, verified: bool = True) -> None:
        """Have a contact, and a prekey of theirs."""
        contact = await self.phone.contacts.add(other.card, time.time(), name)
        await self.phone.contacts.keep_prekey(contact, other.own.signed_prekey().encode())
        if verified:
            await self.phone.contacts.verify(name)

    async def settled(self) -> None:
        """Wait until every message that was delivered is dealt with."""
        await self.phone.signaling.idle.wait()  # type: ignore[attr-defined]

    def heard(self) -> int:
        """Frames decoded in all calls that are not over."""
        sessions = [call.media.session for call in self.calls if call.media is not None]
        return sum(session.frames_heard for session in sessions if session is not None)


class World:
    """Everything.

    Attributes:
        path: the signaling, Mallory's.
        mallory: him as an ordinary person.
        keys: every call key that he could get hold of; the wiretap is tried with each.
    """

    def __init__(self, relays: list[Relay], servers: list[RelayServer], mallory: Correspondent, path: Path) -> None:
        self.path = path
        self.mallory = mallory
        self.keys: list[bytes] = []
        self.wiretap = Wiretap(relays)
        self.people: list[Person] = []
        self.relays = relays
        self.servers = servers
        self.stack = contextlib.AsyncExitStack()

    async def person(self, name: str, store: MemoryStore | None = None, **options: Any) -> Person:
        """Somebody new, or with their old store."""
        store = store or MemoryStore()
        options = {"strangers": Strangers.RING, "prewarm": False, **options}
        phone = Phone(signaling=URL, relays=self.servers, name=name, store=store, laboratory=True, **options)
        await self.stack.enter_async_context(phone)
        person = Person(name, phone, store)
        self.people.append(person)
        return person

    async def two(self, **options: Any) -> tuple[Person, Person]:
        """Alice and Bob, who have verified each other."""
        alice, bob = await self.person("Alice", **options), await self.person("Bob", **options)
        await alice.knows(bob, "Bob")
        await bob.knows(alice, "Alice")
        return alice, bob

    async def befriends_mallory(self, *people: Person) -> None:
        """Mallory is a contact of theirs, verified, and they are his."""
        for one in people:
            await one.knows(self.mallory, "Mallory")
            await self.mallory.knows(one.card, one.name, one.own.signed_prekey().encode())

    async def settled(self) -> None:
        """Wait until every message that was delivered is dealt with, on all phones."""
        for _ in range(3):
            for person in self.people:
                if person.phone._closing is None:
                    await person.settled()
            await asyncio.sleep(0)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def ringing(self, caller: Person, callee: Person, name: str = "Bob") -> tuple[Call, Ring]:
        """A call that rings."""
        before = len(callee.rings)
        call = await caller.phone.call(name, audio=SilenceSource())
        await until(lambda: len(callee.rings) > before, what="a ring")
        return call, callee.rings[-1]

    async def connected(self, caller: Person, callee: Person, name: str = "Bob") -> tuple[Call, Call]:
        """A call that is up."""
        call, ring = await self.ringing(caller, callee, name)
        answered = ring.accept(audio=SilenceSource())
        assert await call.connected()
        assert await answered.connected()
        return call, answered

    # --- what the test may know, and Mallory not ----------------------------------------------------------------------

    def inside(self, letter: Letter) -> Message | None:
        """What is in a letter to somebody with a phone, or to Mallory; nothing if nobody can open it."""
        for one in [*(person.own for person in self.people), self.mallory.own]:
            keys = [OpeningKey(prekey.id, prekey.hpke_key()) for prekey in one.prekeys]
            with contextlib.suppress(RelaycallError):
                return open_envelope(letter.envelope, one.identity, [*keys, from_identity(one.identity)])
        return None

    def body(self, letter: Letter) -> bytes:
        """The message in a letter that somebody can open."""
        message = self.inside(letter)
        assert message is not None
        return message.body

    def kind(self, letter: Letter) -> Kind | None:
        """What kind of message it is."""
        message = self.inside(letter)
        return None if message is None else Kind(message.kind)

    def sent(self, kind: Kind) -> list[Letter]:
        """All letters of a kind, so far."""
        return [letter for letter in self.path.sent if self.kind(letter) is kind]

    def changing(self, kind: Kind, change: Callable[[Letter], list[Letter]]) -> None:
        """Mallory does this to each letter of a kind, and carries the others."""
        self.path.plan = lambda letter: change(letter) if self.kind(letter) is kind else [letter]

    def dropping(self, *kinds: Kind) -> None:
        """Mallory drops letters of these kinds, and carries the others."""
        self.path.plan = lambda letter: [] if self.kind(letter) in kinds else [letter]

    def frames_of_mallory(self) -> int:
        """How many frames he can decode of all that the relays have carried."""
        return self.wiretap.frames([*self.keys, bytes(32)])


@asynccontextmanager
async def mallorys_world(relays: int = 1) -> AsyncIterator[World]:
    """A world in which everything happens soon."""
    with pytest.MonkeyPatch.context() as patch:
        path = Path()
        patch.setattr("relaycall.call.phone.open_signaling", path.open)
        patch.setattr(own, "SETTLE", 0.0)
        patch.setattr(state, "RESEND", 0.2)
        patch.setattr(desk, "REPEAT", 0.2)
        async with embedded_relays(relays) as (embedded, servers):
            world = World(embedded, servers, await Correspondent.fresh(path, "Mallory"), path)
            async with world.stack:
                yield world
                assert world.frames_of_mallory() == 0, "Mallory can hear them"
                world.people.clear()
