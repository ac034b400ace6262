"""The contacts in the store.

The first card of somebody pins their keys under a name of ours. From then on that name stands for these keys: whoever
comes with others under the same name or mailbox is refused, until our user accepts the change.

The store is always ahead: a change is kept first and seen afterwards. Each change reads the entry again, since another
program may have changed it meanwhile. A counter is kept before it is used, so a crash loses at most the one message
that it was for, and none is accepted twice.

The counters have an entry of their own: counting a message never writes the contact's. So it cannot bring back what
another program removes or takes back at that moment. Counters that it leaves behind then are harmless: who is added
again goes on from them.

Two entries take part when keys change. The new one names the old one as replaced and is written first, so at any moment
one of them holds the name, whatever is lost.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import replace

from relaycall.errors import ContactExists, ContactUnknown, IdentityDamaged, KeyChanged, MessageRefused, MessageReplayed
from relaycall.identity.card import Card
from relaycall.identity.contact import (
    CONTACTS,
    COUNTERS,
    MAX_COUNTER,
    Contact,
    clean_name,
    contact_entry,
    counters_entry,
    decode_contact,
    decode_counters,
    encode_contact,
    encode_counters,
    folded,
    prekey_entry,
)
from relaycall.identity.keys import PublicIdentity
from relaycall.identity.ratchet_state import conversation_entry
from relaycall.redact import Secret
from relaycall.store import Store

MAX_PREKEY = 2048  # bytes


class ContactBook:
    """All contacts. `load` comes before anything else.

    Every coroutine raises what the store raises (a StoreError), and then nothing has changed here. What is looked up
    without waiting is as of the last `load` or change.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._contacts: dict[str, Contact] | None = None  # by entry
        self._damaged: set[str] = set()  # entries
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return "<contact book>"

    async def load(self) -> None:
        """Read all contacts. An entry that cannot be read is left as it is and listed in `damaged`."""
        async with self._lock:
            await self._load()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all contacts, sorted."""
        return tuple(sorted((contact.name for contact in self._known.values()), key=folded))

    @property
    def damaged(self) -> tuple[str, ...]:
        """The names of entries that cannot be read."""
        return tuple(sorted(self._damaged))

    def get(self, name: str) -> Contact:
        """The contact of this name, whatever its case.

        Raises:
            ContactUnknown: there is none.
            IdentityDamaged: there is none that can be read, and an entry that cannot: it may be theirs.
            ConfigError: nobody can have such a name.
        """
        wanted = folded(clean_name(name))
        for contact in self._known.values():
            if folded(contact.name) == wanted:
                return contact
        for entry in self.damaged:
            if entry.startswith(CONTACTS):
                raise IdentityDamaged(f"contact entry {entry}")
        raise ContactUnknown(name)

    def find(self, identity: PublicIdentity) -> Contact | None:
        """The contact with these keys, or None for a stranger.

        Raises:
            IdentityDamaged: they are a contact whose entry or counters cannot be read, and no stranger.
        """
        return self._find(contact_entry(identity))

    def recognise(self, card: Card) -> Contact | None:
        """The contact with the keys of this card, or None for a stranger.

        Raises:
            KeyChanged: the mailbox is that of a contact with other keys.
            IdentityDamaged: they are a contact whose entry cannot be read.
        """
        known = self._find(contact_entry(card.identity))
        self._check_mailbox(card, known)
        return known

    def presented(self, name: str, identity: PublicIdentity) -> Contact:
        """The contact of this name, who came with these keys.

        Raises:
            KeyChanged: they are not the pinned ones.
            ContactUnknown, IdentityDamaged: as `get`.
        """
        contact = self.get(name)
        if contact.identity != identity:
            raise KeyChanged(contact.name, contact.identity.fingerprint, identity.fingerprint)
        return contact

    async def add(self, card: Card, now: float, name: str | None = None) -> Contact:
        """Pin the keys of a card, or take a later card of a contact: its mailbox and URL. An earlier one is ignored.

        Args:
            card: a decoded one, whose signature holds.
            now: seconds since 1970.
            name: by default the one on the card.

        Raises:
            ContactExists: the name is taken, or these keys have another name.
            KeyChanged: the mailbox is that of a contact with other keys.
            ConfigError: this cannot be a name.
            IdentityDamaged: they are a contact whose entry cannot be read.
        """
        async with self._lock:
            await self._load()
            known = self._find(contact_entry(card.identity))
            self._check_mailbox(card, known)
            if known is None:
                chosen = clean_name(card.name if name is None else name)
                self._check_free(chosen)
                return await self._keep(await self._pinned(card, chosen, now))
            if name is not None and folded(clean_name(name)) != folded(known.name):
                raise ContactExists(known.name)
            if card.serial <= known.serial:
                return known
            return await self._keep(replace(known, mailbox=card.mailbox, signaling=card.signaling, serial=card.serial))

    async def accept_change(self, name: str, card: Card, now: float) -> Contact:
        """Pin the keys of this card under a name we have, in place of the old ones. They are not verified.

        Args:
            card: a decoded one, whose signature holds.
            now: seconds since 1970.

        Raises:
            ContactUnknown, IdentityDamaged: as `get`.
            ContactExists: these keys are another contact's.
            KeyChanged: the mailbox is that of another contact.
        """
        async with self._lock:
            await self._load()
            old = self.get(name)
            known = self._find(contact_entry(card.identity))
            if known is not None:
                if known is not old:
                    raise ContactExists(known.name)
                return old
            self._check_mailbox(card, old)
            self._find(old.entry)  # their counters, which go on
            await self._forget_replaced(old)
            new = await self._pinned(card, old.name, now, old)
            new = replace(new, sent=max(new.sent, old.sent), replaces=old.entry)
            # Before they are a contact: no message writes their counters yet.
            await self._store.set(counters_entry(new.entry), encode_counters(new))
            await self._keep(new)
            del self._known[old.entry]
            await self._forget(old.entry)
            return new

    async def remove(self, name: str) -> None:
        """Forget a contact with all that is kept of them. Raises ContactUnknown, IdentityDamaged: as `get`."""
        async with self._lock:
            await self._load()
            contact = self.get(name)
            await self._forget_replaced(contact)
            await self._forget(contact.entry)

    async def discard(self, entry: str) -> None:
        """Forget one of `damaged`, else ContactUnknown. Counters go with their contact: nothing is to come twice."""
        async with self._lock:
            await self._load()
            if entry not in self._damaged:
                raise ContactUnknown(entry)
            await self._forget(CONTACTS + entry.removeprefix(CONTACTS).removeprefix(COUNTERS))

    async def rename(self, name: str, new: str) -> Contact:
        """Give a contact another name.

        Raises:
            ContactExists: that name is taken.
            ConfigError: it cannot be a name.
            ContactUnknown, IdentityDamaged: as `get`.
        """
        chosen = clean_name(new)
        async with self._lock:
            await self._load()
            contact = self.get(name)
            self._check_free(chosen, contact)
            return await self._keep(replace(contact, name=chosen))

    async def verify(self, name: str) -> Contact:
        """Our user has compared the safety number. Raises ContactUnknown, IdentityDamaged: as `get`."""
        return await self._change(self.get(name), lambda contact: replace(contact, verified=True))

    async def unverify(self, name: str) -> Contact:
        """Take that back. Raises ContactUnknown, IdentityDamaged: as `get`."""
        return await self._change(self.get(name), lambda contact: replace(contact, verified=False))

    async def next_sent(self, contact: Contact, now: float) -> int:
        """The counter for the next message to a contact, kept before this returns: no other message ever has it.

        Args:
            now: seconds since 1970. The counter is this in microseconds, or one above the last if that is higher, so
                that it rises even when the store was restored from an old copy.

        Raises:
            ContactUnknown: they were removed.
            IdentityDamaged: their entry cannot be read any more.
        """

        def count(contact: Contact) -> Contact:
            return replace(contact, sent=max(contact.sent + 1, int(now * 1_000_000)))

        return (await self._count(contact, count)).sent

    async def accept_received(self, contact: Contact, counter: int) -> Contact:
        """Accept the counter of a message of theirs, kept before this returns. Act on the message only then.

        Raises:
            MessageReplayed: it is not above the last one.
            MessageRefused: it is above what a counter may be.
            ContactUnknown: they were removed.
            IdentityDamaged: their entry cannot be read any more.
        """
        if counter > MAX_COUNTER:
            raise MessageRefused("its counter is out of range")

        def accept(contact: Contact) -> Contact:
            if counter <= contact.received:
                raise MessageReplayed
            return replace(contact, received=counter)

        return await self._count(contact, accept)

    async def prekey(self, contact: Contact) -> bytes | None:
        """Their last signed prekey, or None when there is none that can be read: then they are introduced to again."""
        kept = await self._store.get(prekey_entry(contact.entry))
        try:
            return None if kept is None else base64.b64decode(kept.reveal(), validate=True)
        except ValueError:
            return None

    async def keep_prekey(self, contact: Contact, prekey: bytes) -> None:
        """Keep their signed prekey, in place of the one before.

        Args:
            prekey: encoded and checked, at most 2048 bytes.

        Raises:
            ContactUnknown: they were removed.
        """
        if len(prekey) > MAX_PREKEY:
            raise ValueError(f"a prekey has at most {MAX_PREKEY} bytes")
        async with self._lock:
            await self._read(contact)
            if await self.prekey(contact) != prekey:
                await self._store.set(prekey_entry(contact.entry), Secret(base64.b64encode(prekey).decode()))

    # Under the lock from here on, where there is a store to wait for.

    @property
    def _known(self) -> dict[str, Contact]:
        if self._contacts is None:
            raise RuntimeError("load() comes first: a contact must not be taken for a stranger")
        return self._contacts

    def _find(self, entry: str) -> Contact | None:
        for kept in (entry, counters_entry(entry)):
            if kept in self._damaged:
                raise IdentityDamaged(f"contact entry {kept}")
        return self._known.get(entry)

    def _check_free(self, name: str, own: Contact | None = None) -> None:
        for other in self._known.values():
            if other is not own and folded(other.name) == folded(name):
                raise ContactExists(other.name)

    def _check_mailbox(self, card: Card, own: Contact | None) -> None:
        for other in self._known.values():
            if other is not own and other.mailbox == card.mailbox:
                raise KeyChanged(other.name, other.identity.fingerprint, card.identity.fingerprint)

    async def _pinned(self, card: Card, name: str, now: float, old: Contact | None = None) -> Contact:
        """A contact by this card, pinned later than what it replaces and than what has replaced it once."""
        entry = contact_entry(card.identity)
        earlier = [other for other in self._known.values() if other is old or other.replaces == entry]
        first_seen = max(int(now), *(other.first_seen + 1 for other in earlier), 0)
        contact = Contact(name, card.identity, card.mailbox, card.signaling, card.serial, first_seen)
        return self._merged(contact, await self._counters(entry))

    async def _load(self) -> None:
        read: list[Contact] = []
        damaged: set[str] = set()
        counters: dict[str, tuple[int, int]] = {}
        entries = await self._store.names()
        for entry in entries:
            # A keyring may know the name of an entry that it has not.
            if entry.startswith(CONTACTS) and (kept := await self._store.get(entry)) is not None:
                try:
                    read.append(decode_contact(entry, kept))
                except IdentityDamaged:
                    damaged.add(entry)
        left = {CONTACTS + entry.removeprefix(COUNTERS) for entry in entries if entry.startswith(COUNTERS)}
        for entry in left | {contact.entry for contact in read}:  # counters of nobody too, who may be added again
            try:
                counters[entry] = await self._counters(entry)
            except IdentityDamaged:
                damaged.add(counters_entry(entry))
        read = [self._merged(contact, counters.get(contact.entry, (0, 0))) for contact in read]
        standing = _without_left_overs(read)
        self._contacts = {contact.entry: contact for contact in _by_name(standing).values()}
        self._damaged = damaged | {contact.entry for contact in standing} - set(self._contacts)

    async def _counters(self, entry: str) -> tuple[int, int]:
        kept = await self._store.get(counters_entry(entry))
        return (0, 0) if kept is None else decode_counters(counters_entry(entry), kept)

    def _merged(self, read: Contact, counters: tuple[int, int]) -> Contact:
        """What was read, with the counters not below those we know: another program may have written old ones back."""
        known = (self._contacts or {}).get(read.entry, read)
        sent, received = counters
        return replace(read, sent=max(sent, known.sent), received=max(received, known.received))

    async def _read(self, contact: Contact) -> Contact:
        kept = await self._store.get(contact.entry)
        if kept is None:
            self._known.pop(contact.entry, None)
            raise ContactUnknown(contact.name)
        return self._merged(decode_contact(contact.entry, kept), await self._counters(contact.entry))

    async def _change(self, contact: Contact, change: Callable[[Contact], Contact]) -> Contact:
        async with self._lock:
            return await self._keep(change(await self._read(contact)))

    async def _count(self, contact: Contact, count: Callable[[Contact], Contact]) -> Contact:
        async with self._lock:
            counted = count(await self._read(contact))
            await self._store.set(counters_entry(counted.entry), encode_counters(counted))
            self._known[counted.entry] = counted
            return counted

    async def _keep(self, contact: Contact) -> Contact:
        await self._store.set(contact.entry, encode_contact(contact))
        self._known[contact.entry] = contact
        return contact

    async def _forget(self, entry: str) -> None:
        # The counters last: a contact without them would take what it has taken before.
        for name in (prekey_entry(entry), conversation_entry(entry), entry, counters_entry(entry)):
            await self._store.remove(name)
        self._known.pop(entry, None)
        self._damaged -= {entry, counters_entry(entry)}

    async def _forget_replaced(self, contact: Contact) -> None:
        """What a crash has left, unless these keys have become a contact of their own."""
        if contact.replaces and contact.replaces not in self._known:
            await self._forget(contact.replaces)


def _without_left_overs(read: list[Contact]) -> list[Contact]:
    """The contacts without those that a later one has replaced, whose entries a crash has left."""
    replaced = {contact.replaces: contact.first_seen for contact in read if contact.replaces}
    return [contact for contact in read if contact.first_seen >= replaced.get(contact.entry, 0)]


def _by_name(contacts: list[Contact]) -> dict[str, Contact]:
    """One contact for each name, the first that was pinned."""
    held: dict[str, Contact] = {}
    for contact in sorted(contacts, key=lambda contact: (contact.first_seen, contact.entry)):
        held.setdefault(folded(contact.name), contact)
    return held
