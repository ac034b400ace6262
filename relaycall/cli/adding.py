"""Adding somebody by their card: what `contacts add`, `call --code` and `answer --code` have in common."""

from __future__ import annotations

import shlex
import time

from relaycall.call.phone import Phone
from relaycall.cli.hints import changed_step
from relaycall.cli.remote_text import shown
from relaycall.cli.screen import Screen
from relaycall.errors import ConfigError, ContactExists, KeyChanged
from relaycall.identity.card import Card, card_to_text, decode_card
from relaycall.identity.contact import Contact
from relaycall.identity.contacts import ContactBook
from relaycall.identity.keys import PublicIdentity


async def add_card(
    book: ContactBook, own: PublicIdentity | None, card: Card, now: float, name: str | None = None
) -> Contact:
    """Add them.

    Args:
        own: our keys, if we have some.
        now: seconds since 1970.
        name: by default the one on the card.

    Raises:
        ConfigError: it is our own card, or this cannot be a name.
        ContactExists, KeyChanged: the name or the keys are known already; it says what to do instead.
        IdentityDamaged, StoreError: they cannot be added.
    """
    if own == card.identity:
        raise ConfigError("This is your own card.", "Give it to them, and add theirs.")
    try:
        return await book.add(card, now, name)
    except KeyChanged as error:
        error.next_step = changed_step(error.name)
        raise
    except ContactExists as error:
        known = book.get(error.name)
        if known.identity == card.identity:
            error.sentence = f"These are the keys of {known.name}, a contact of yours."
            error.next_step = f"To call them something else: relaycall contacts rename {shlex.quote(known.name)} NEW"
        else:
            before, after = known.identity.fingerprint, card.identity.fingerprint
            error.sentence = (
                f"There is a contact named {known.name} with other keys: {before} is known, {after} is new."
            )
            error.next_step = f"{changed_step(known.name)}. Somebody else of that name: give another one by --name."
        raise


def kept_card(card: Card) -> str:
    """The card of somebody who could not be added, though the code for it is used up."""
    return f"Their card, which is not lost:\n\n{card_to_text(card)}\n"


async def add_by_code(phone: Phone, payload: bytes, screen: Screen) -> Contact:
    """Add who gave this in exchange for our card, and tell it. Who is a contact stays as they are.

    Raises:
        CardRefused: it is no card.
        ConfigError, ContactExists, KeyChanged, IdentityDamaged, StoreError: as `add_card`.
    """
    card = decode_card(payload)
    try:
        found = phone.contacts.find(card.identity)
        contact = found or await add_card(phone.contacts, phone.card.identity, card, time.time())
    except ContactExists:
        screen.ask(kept_card(card))
        raise
    text = f"Added {shown(contact.name)}, fingerprint {contact.identity.fingerprint}."
    if not contact.verified:
        text += f"\nThey are not verified yet: relaycall keys verify {shlex.quote(contact.name)}"
    screen.say("added", text, name=contact.name, verified=contact.verified, fingerprint=contact.identity.fingerprint)
    return contact
