"""What the contract of sealers needs: a rig that brings the sealer, people with stores and clocks, and ways to look."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Awaitable

from relaycall.errors import MessageRefused, RelaycallError, StoreError
from relaycall.identity.card import Card
from relaycall.identity.contact import Contact
from relaycall.identity.contacts import ContactBook
from relaycall.identity.keys import SECRET_SIZE, Identity
from relaycall.identity.prekeys import RANDOM_SIZE, Prekeys, SignedPrekey
from relaycall.identity.sealer import Opened, Sealer
from relaycall.redact import Secret
from relaycall.store import Store
from relaycall.store.memory import MemoryStore

KIND = 7  # of the messages here; any but that of an introduction
START = 1_800_000_000.0  # seconds since 1970: when it all happens

Entries = dict[str, Secret]


class WatchedStore:
    """A Store around another one, which knows all it has held, and can fail.

    Attributes:
        snapshots: what it held at first and after each change.
        calls_left: how many calls it answers before one fails, and only one; None for all.
    """

    def __init__(self, inner: Store, entries: Entries) -> None:
        self._inner = inner
        self.snapshots = [entries]
        self.calls_left: int | None = None

    async def get(self, name: str) -> Secret | None:
        """The secret, or None."""
        self._call()
        return await self._inner.get(name)

    async def set(self, name: str, secret: Secret) -> None:
        """Keep it."""
        self._call()
        await self._inner.set(name, secret)
        self.snapshots.append({**self.snapshots[-1], name: secret})

    async def remove(self, name: str) -> bool:
        """Forget it."""
        self._call()
        removed = await self._inner.remove(name)
        self.snapshots.append({kept: secret for kept, secret in self.snapshots[-1].items() if kept != name})
        return removed

    async def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._call()
        return await self._inner.names()

    def _call(self) -> None:
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                self.calls_left = None
                raise StoreError("The store fails, as it was asked to.")


class Person:
    """Somebody with keys, a store, contacts and a sealer. For the sealer it is its `Own`.

    Attributes:
        clock_error: seconds by which their clock is ahead.
    """

    def __init__(self, rig: Rig, name: str, identity: Identity, prekeys: Prekeys, store: WatchedStore) -> None:
        self._rig = rig
        self.name = name
        self.identity = identity
        self.prekeys = prekeys
        self.store = store
        self.clock_error = 0.0
        self.contacts = ContactBook(store)
        self.sealer = rig.sealer(self)

    def clock(self) -> float:
        """Seconds since 1970, by their clock."""
        return self._rig.now + self.clock_error

    def card(self) -> Card:
        """Their card."""
        return Card.make(self.identity, serial=1, name=self.name, signaling="memory:", created=int(START))

    def rotate(self) -> None:
        """Make the prekeys those that are due."""
        self.prekeys = self.prekeys.rotate(self.clock(), secrets.token_bytes(RANDOM_SIZE))

    async def add(self, other: Person) -> Contact:
        """Make somebody a contact."""
        return await self.contacts.add(other.card(), self.clock())

    async def learn_prekey(self, other: Person) -> None:
        """Be given the prekey of a contact, as when pairing by a code."""
        prekey = SignedPrekey.make(other.identity, other.prekeys.current.public)
        await self.contacts.keep_prekey(self.contacts.get(other.name), prekey.encode())

    async def write(self, to: Person, body: bytes, kind: int = KIND) -> bytes:
        """An envelope, written a moment after whatever was before."""
        self._rig.now += 0.01
        return await self.sealer.seal(to.identity.public, kind, body)

    async def open(self, envelope: bytes) -> Opened:
        """What is in an envelope."""
        return await self.sealer.open(envelope)

    async def read(self, envelope: bytes) -> bytes:
        """The body of what is in an envelope."""
        return (await self.open(envelope)).body


class Rig(ABC):
    """Brings one sealer to the cases, and says what it promises.

    Attributes:
        now: seconds since 1970.
        any_order: an earlier message that comes later is accepted, once; otherwise it is refused.
        max_age: seconds for which an envelope may be under way.
    """

    any_order = False
    max_age = 60.0

    def __init__(self) -> None:
        self.now = START

    @abstractmethod
    def sealer(self, person: Person) -> Sealer:
        """A new sealer for their keys, `contacts`, `store` and `clock`."""

    def new_store(self) -> Store:
        """An empty store."""
        return MemoryStore()

    async def person(self, name: str) -> Person:
        """Somebody with fresh keys."""
        prekeys = Prekeys.make(self.now, secrets.token_bytes(RANDOM_SIZE))
        return await self._person(name, Identity(secrets.token_bytes(SECRET_SIZE)), prekeys, {})

    async def again(self, person: Person, entries: Entries | None = None) -> Person:
        """The same person with a program that has just started.

        Args:
            entries: what is in its store, instead of what is in theirs now.
        """
        kept = person.store.snapshots[-1] if entries is None else entries
        return await self._person(person.name, person.identity, person.prekeys, kept)

    async def pair(self, *, prekeys: bool = True) -> tuple[Person, Person]:
        """Two who are contacts of each other, and know each other's prekeys or not."""
        alice, bob = await self.person("Alice"), await self.person("Bob")
        await alice.add(bob)
        await bob.add(alice)
        if prekeys:
            await alice.learn_prekey(bob)
            await bob.learn_prekey(alice)
        return alice, bob

    async def acquainted(self) -> tuple[Person, Person]:
        """Two who have written to each other."""
        alice, bob = await self.pair()
        await talk(alice, bob)
        return alice, bob

    async def _person(self, name: str, identity: Identity, prekeys: Prekeys, entries: Entries) -> Person:
        inner = self.new_store()
        for entry, secret in entries.items():
            await inner.set(entry, secret)
        person = Person(self, name, identity, prekeys, WatchedStore(inner, entries))
        await person.contacts.load()
        return person


async def talk(one: Person, other: Person, rounds: int = 1) -> None:
    """Some messages there and back, and each arrives."""
    for number in range(rounds):
        for sender, recipient in ((one, other), (other, one)):
            body = f"{sender.name} {number}".encode()
            opened = await recipient.open(await sender.write(recipient, body))
            assert (opened.kind, opened.body, opened.sender) == (KIND, body, sender.identity.public)


async def refused(doing: Awaitable[object], error: type[RelaycallError] = MessageRefused) -> None:
    """Fails unless this raises the error, or one of its kinds."""
    try:
        await doing
    except error:
        return
    raise AssertionError(f"it should have raised {error.__name__}")
