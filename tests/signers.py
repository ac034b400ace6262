"""People with keys and a sealer, who sign descriptions."""

from __future__ import annotations

import secrets
import time

from relaycall.identity.contacts import ContactBook
from relaycall.identity.keys import SECRET_SIZE, Identity, PublicIdentity
from relaycall.identity.prekeys import RANDOM_SIZE, Prekeys
from relaycall.identity.sealer import INTRODUCTION, EnvelopeSealer
from tests.identity.stores import MemoryStore


class Signer:
    """Somebody with fresh keys and no contacts. For the sealer it is its `Own`."""

    def __init__(self) -> None:
        self.identity = Identity(secrets.token_bytes(SECRET_SIZE))
        self.prekeys = Prekeys.make(time.time(), secrets.token_bytes(RANDOM_SIZE))
        self.contacts = ContactBook(MemoryStore())
        self.sealer = EnvelopeSealer(self, self.contacts)

    @property
    def public(self) -> PublicIdentity:
        return self.identity.public


async def introduce(*people: Signer) -> None:
    """Each knows a prekey of each other."""
    for one in people:
        await one.contacts.load()
    for one in people:
        for other in people:
            if one is not other:
                await other.sealer.open(await one.sealer.seal(other.public, INTRODUCTION, b""))
