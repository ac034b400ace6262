"""Cards and contact books for tests, with the same keys every time."""

from __future__ import annotations

import hashlib

import msgspec

from relaycall.identity.card import Card
from relaycall.identity.contact import Contact
from relaycall.identity.contacts import ContactBook
from relaycall.identity.keys import Identity
from relaycall.store import Store

NOW = 1_800_000_000.25
MICROSECONDS = 1_800_000_000_250_000


def identity(name: str) -> Identity:
    return Identity(hashlib.shake_256(name.encode()).digest(96))


def card(keys: str, *, name: str = "Bob", serial: int = 1, url: str = "wss://signaling.example.org") -> Card:
    return Card.make(identity(keys), serial=serial, name=name, signaling=url, created=1_700_000_000)


def with_mailbox_of(card: Card, other: Card) -> Card:
    """As `decode_card` lets none pass: only one person with two identities could have signed both."""
    return msgspec.structs.replace(card, mailbox_key=other.mailbox_key)


async def book_of(store: Store) -> ContactBook:
    book = ContactBook(store)
    await book.load()
    return book


BOB = Contact("Bob", identity("bob").public, bytes(32), "wss://signaling.example.org", 1, 1_800_000_000)
