"""Somebody who seals and opens by hand, without a phone: Mallory as an ordinary person, or with keys he has stolen."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from relaycall.identity.card import Card
from relaycall.identity.contacts import ContactBook
from relaycall.identity.keys import SECRET_SIZE, Identity, PublicIdentity
from relaycall.identity.own import OwnKeys
from relaycall.identity.prekeys import RANDOM_SIZE, Prekeys
from relaycall.identity.sealer import EnvelopeSealer, Opened
from relaycall.signaling.keys import mailbox_of
from tests.identity.stores import MemoryStore
from tests.scenarios.mitm.path import URL, Letter, Path


class Correspondent:
    """Keys, a contact book and a sealer.

    Attributes:
        own: the keys.
        mailbox: theirs.
    """

    def __init__(self, path: Path, own: OwnKeys, clock: Callable[[], float] = time.time) -> None:
        self.own = own
        self.mailbox = mailbox_of(own.identity.mailbox_key.public)
        self.contacts = ContactBook(MemoryStore())
        self._path = path
        self._sealer = EnvelopeSealer(own, self.contacts, clock=clock)

    @classmethod
    async def fresh(cls, path: Path, name: str) -> Correspondent:
        """Somebody new."""
        now = time.time()
        prekeys = Prekeys.make(now, secrets.token_bytes(RANDOM_SIZE))
        return await cls.of(path, OwnKeys(Identity(secrets.token_bytes(SECRET_SIZE)), prekeys, name, URL, 1, int(now)))

    @classmethod
    async def of(cls, path: Path, own: OwnKeys, clock: Callable[[], float] = time.time) -> Correspondent:
        """Somebody with these keys."""
        made = cls(path, own, clock)
        await made.contacts.load()
        return made

    @property
    def public(self) -> PublicIdentity:
        return self.own.identity.public

    @property
    def card(self) -> Card:
        return self.own.card()

    async def knows(self, card: Card, name: str, prekey: bytes) -> None:
        """Have a contact with a prekey."""
        contact = await self.contacts.add(card, time.time(), name)
        await self.contacts.keep_prekey(contact, prekey)

    def attaches(self, prekey: bytes) -> None:
        """Put this into every envelope where the own signed prekey should be."""
        self._sealer._attachment = lambda: prekey  # type: ignore[method-assign]

    async def sealed(self, to: PublicIdentity, kind: int, body: bytes) -> bytes:
        """An envelope of theirs."""
        return await self._sealer.seal(to, kind, body)

    async def post(self, to: Card, kind: int, body: bytes) -> None:
        """Seal and deliver."""
        envelope = await self.sealed(to.identity, kind, body)
        self._path.deliver(Letter(self.mailbox, to.mailbox, envelope))

    async def opened(self, letter: Letter) -> Opened:
        """What is in an envelope to them. Raises as `Sealer.open`."""
        return await self._sealer.open(letter.envelope)

    def letters(self) -> list[Letter]:
        """What was sent to them."""
        return [letter for letter in self._path.sent if letter.to == self.mailbox]
