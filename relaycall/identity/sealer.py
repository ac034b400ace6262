"""Sealing for people: which key, which counter, whose prekey; and what is believed of what comes in.

    sealer = EnvelopeSealer(own, contacts)
    envelope = await sealer.seal(bob.identity, kind, body)
    opened = await sealer.open(envelope)

A sealer refuses by type whatever is not for us, not signed, not fresh or not new. What it returns was sent by the
identity it names, to us, now, and never comes a second time: counters are kept before it returns. The counters of
strangers are kept in memory, for the last ones that wrote.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relaycall.errors import CardRefused, ConfigError, MessageRefused, MessageReplayed, MessageStale
from relaycall.identity.contact import Contact
from relaycall.identity.contacts import ContactBook
from relaycall.identity.envelope import (
    CONTENT_SIZE,
    MAX_AGE,
    Message,
    OpeningKey,
    RecipientKey,
    Seal,
    check_age,
    from_identity,
    open_envelope,
    seal,
    to_identity,
)
from relaycall.identity.keys import Identity, PublicIdentity
from relaycall.identity.prekeys import SIGNED_SIZE, Prekeys, PublicPrekey, SignedPrekey

MAX_STRANGERS = 256
INTRODUCTION = 1  # the one kind that may be sealed to a long-term key, where a server carries it
CARRIED_AGE = 600.0  # seconds for which an envelope that people carry may be under way


class Own(Protocol):
    """Our own keys, as they are at the moment."""

    @property
    def identity(self) -> Identity: ...
    @property
    def prekeys(self) -> Prekeys: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """What came in an envelope, and is believed.

    Attributes:
        kind, body: the message.
        sender: whose it is.
        contact: who that is to us, or None for a stranger.
    """

    kind: int
    body: bytes
    sender: PublicIdentity
    contact: Contact | None

    def __repr__(self) -> str:
        return f"<message of kind {self.kind} from {'a stranger' if self.contact is None else self.contact.name!r}>"


class Sealer(ABC):
    """Seals messages to people and opens those of people."""

    @abstractmethod
    async def seal(self, to: PublicIdentity, kind: int, body: bytes) -> bytes:
        """An envelope of 4096 bytes that only they can open.

        Args:
            kind: 0 to 255.
            body: at most `capacity` bytes.

        Raises:
            MessageTooLarge: the body does not fit.
            CardRefused: their agreement key cannot be used.
            ConfigError: no prekey of theirs is known, and it is no introduction.
            StoreError: the counter cannot be kept.
        """

    @abstractmethod
    async def open(self, envelope: bytes) -> Opened:
        """What an envelope from anybody holds.

        Raises:
            MessageRefused: by type, why it is not believed.
            IdentityDamaged: it is from a contact whose entry cannot be read.
            StoreError: the counter cannot be kept. The same envelope may be opened again.
        """

    @abstractmethod
    async def knows_prekey(self, of: PublicIdentity) -> bool:
        """Whether there is a prekey of theirs to seal to; without one, an introduction comes first."""

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many bytes a body may have."""


@dataclass(slots=True)
class _Stranger:
    sent: int = 0
    received: int = 0
    prekey: bytes = b""


class EnvelopeSealer(Sealer):
    """The default one: each envelope for itself, to the recipient's prekey, with our own prekey attached.

    Args:
        own: our keys.
        contacts: loaded.
        carried: people carry the envelopes: they are compact and without a prekey, may take ten minutes, and may be
            sealed to a long-term key.
        clock: gives the seconds since 1970.
    """

    def __init__(
        self, own: Own, contacts: ContactBook, *, carried: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._own = own
        self._contacts = contacts
        self._carried = carried
        self._clock = clock
        self._since = clock() - 1.0
        self._strangers: OrderedDict[PublicIdentity, _Stranger] = OrderedDict()
        self._opening: tuple[Prekeys, Identity, list[OpeningKey]] | None = None
        self._attached: tuple[Prekeys, Identity, bytes] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def capacity(self) -> int:
        return CONTENT_SIZE - (0 if self._carried else SIGNED_SIZE)

    async def seal(self, to: PublicIdentity, kind: int, body: bytes) -> bytes:
        now = self._clock()
        prekey = await self._prekey(to, now)
        if prekey is None and kind != INTRODUCTION and not self._carried:  # it could be opened for as long as they live
            raise ConfigError("There is no prekey of theirs to seal to.", "Send them an introduction first.")
        key = to_identity(to) if prekey is None else RecipientKey(prekey.id, prekey.hpke_key())
        contact = self._contacts.find(to)
        attached = b"" if self._carried else self._attachment()
        content = await self._protect(to, prekey, kind, body)
        return seal(
            self._own.identity,
            to,
            key,
            kind=kind,
            body=content,
            prekey=attached,
            counter=await self._next_counter(to, contact, now),
            now=now,
            compact=self._carried,
        )

    async def open(self, envelope: bytes) -> Opened:
        message = open_envelope(envelope, self._own.identity, self._keys())
        now = self._clock()
        check_age(message, now, max_age=CARRIED_AGE if self._carried else MAX_AGE)
        if message.seal is Seal.IDENTITY and not self._carried and message.kind != INTRODUCTION:
            raise MessageRefused("it is not sealed to a prekey")
        if message.sender == self._own.identity.public:
            raise MessageRefused("it is our own")
        prekey = self._check_prekey(message, now)
        contact = self._contacts.find(message.sender)
        if contact is None and not self._carried and message.sent_at < self._since:
            raise MessageStale("it is a stranger's, from before we were there")  # it may have been opened then
        last = max(0 if contact is None else contact.received, self._received_from_stranger(message.sender))
        if prekey and message.counter > last:  # first, so that nothing can fail once the message is accepted
            if contact is None:
                self._stranger(message.sender).prekey = prekey
            else:
                await self._contacts.keep_prekey(contact, prekey)
        body = await self._accept(message, contact)
        return Opened(message.kind, body, message.sender, contact)

    async def knows_prekey(self, of: PublicIdentity) -> bool:
        return await self._prekey(of, self._clock()) is not None

    # --- what another sealer may do differently -----------------------------------------------------------------------

    async def _protect(self, to: PublicIdentity, prekey: PublicPrekey | None, kind: int, body: bytes) -> bytes:
        """What goes into the envelope for this body."""
        return body

    async def _accept(self, message: Message, contact: Contact | None) -> bytes:
        """The body of a message that is signed and fresh, once it is certain that it never comes again."""
        if message.counter <= self._received_from_stranger(message.sender):
            raise MessageReplayed
        if contact is not None:
            await self._contacts.accept_received(contact, message.counter)
        else:
            self._stranger(message.sender).received = message.counter
        return message.body

    # --- keys and counters --------------------------------------------------------------------------------------------

    def _keys(self) -> list[OpeningKey]:
        identity, prekeys = self._own.identity, self._own.prekeys
        if self._opening is None or self._opening[:2] != (prekeys, identity):
            keys = [OpeningKey(prekey.id, prekey.hpke_key()) for prekey in prekeys]
            keys += [OpeningKey(retired, None) for retired in prekeys.retired]
            self._opening = prekeys, identity, [*keys, from_identity(identity)]
        return self._opening[2]

    def _attachment(self) -> bytes:
        identity, prekeys = self._own.identity, self._own.prekeys
        if self._attached is None or self._attached[:2] != (prekeys, identity):
            self._attached = prekeys, identity, SignedPrekey.make(identity, prekeys.current.public).encode()
        return self._attached[2]

    async def _prekey(self, of: PublicIdentity, now: float) -> PublicPrekey | None:
        contact = self._contacts.find(of)
        kept = None if contact is None else await self._contacts.prekey(contact)
        if not kept and of in self._strangers:  # who is a contact by now brought it as a stranger
            kept = self._strangers[of].prekey
        try:
            return SignedPrekey.decode(kept).verify(of, now) if kept else None
        except CardRefused:  # too old by now, mostly
            return None

    def _check_prekey(self, message: Message, now: float) -> bytes:
        """The attached prekey, or nothing if there is none."""
        if not message.prekey:
            return b""
        try:
            SignedPrekey.decode(message.prekey).verify(message.sender, now)
        except CardRefused:
            raise MessageRefused("the prekey in it is not the sender's") from None
        return message.prekey

    async def _next_counter(self, to: PublicIdentity, contact: Contact | None, now: float) -> int:
        if contact is not None:
            return await self._contacts.next_sent(contact, now)
        stranger = self._stranger(to)
        stranger.sent = max(stranger.sent + 1, int(now * 1_000_000))
        return stranger.sent

    def _received_from_stranger(self, identity: PublicIdentity) -> int:
        """The last counter of somebody while they were none of our contacts, which they may be by now."""
        return self._strangers[identity].received if identity in self._strangers else 0

    def _stranger(self, identity: PublicIdentity) -> _Stranger:
        found = self._strangers.setdefault(identity, _Stranger())
        self._strangers.move_to_end(identity)
        while len(self._strangers) > MAX_STRANGERS:  # first who wrote and was never answered: that costs nobody much
            unanswered = (one for one, kept in self._strangers.items() if not kept.sent and one != identity)
            del self._strangers[next(unanswered, next(iter(self._strangers)))]
        return found
