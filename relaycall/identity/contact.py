"""A contact: whom a name of ours stands for, how it is kept, and whether it may ring. Without I/O."""

from __future__ import annotations

import base64
import enum
import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from relaycall.errors import ConfigError, IdentityDamaged, MessageRefused, NotVerified
from relaycall.identity.card import MAX_NAME, MAX_SERIAL, MAX_TIME, MAX_URL, Key, name_fault, url_fault
from relaycall.identity.keys import PublicIdentity
from relaycall.redact import Secret

MAX_COUNTER = 2**63 - 1
CONTACTS = "contacts/"  # what the names of the entries in the store begin with
COUNTERS = "counters/"
_PREKEYS = "prekeys/"


class Strangers(enum.StrEnum):
    """What becomes of a call from somebody who is no contact.

    REFUSE: nothing rings, and nothing is answered: they do not learn that anybody is there.
    CODE: nothing rings; the answer says that a one-time code is needed first. Who has used one is a contact.
    RING: it rings, as a stranger's.
    """

    REFUSE = "refuse"
    CODE = "code"
    RING = "ring"


class Unverified(enum.StrEnum):
    """What becomes of a call from a contact whose safety number nobody has compared.

    RING: it rings, and says that they are not verified.
    REFUSE: it does not ring.
    """

    RING = "ring"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody we know.

    Attributes:
        name: given by our user.
        identity: their keys, pinned.
        mailbox: where to send, 32 bytes.
        signaling: the URL of their signaling server.
        serial: of the card that mailbox and URL are from.
        first_seen: when the keys were pinned, in seconds since 1970.
        verified: our user has compared the safety number.
        sent: the counter of the last message to them.
        received: the highest counter of a message of theirs that was accepted.
        replaces: the entry of the keys they had before, or nothing.
    """

    name: str
    identity: PublicIdentity
    mailbox: bytes
    signaling: str
    serial: int
    first_seen: int
    verified: bool = False
    sent: int = 0
    received: int = 0
    replaces: str = ""

    def __repr__(self) -> str:
        return f"<contact {self.name!r}{', verified' if self.verified else ''}>"

    @property
    def entry(self) -> str:
        """The name of its entry in the store."""
        return contact_entry(self.identity)


class _Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A contact as it is kept."""

    version: Literal[1]
    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
    signing: Key
    agreement: Key
    mailbox: Key
    signaling: Annotated[str, Meta(min_length=1, max_length=MAX_URL)]
    serial: Annotated[int, Meta(ge=1, le=MAX_SERIAL)]
    first_seen: Annotated[int, Meta(ge=0, le=MAX_TIME)]
    verified: bool
    replaces: Annotated[str, Meta(pattern=r"^(contacts/[0-9a-f]{32})?\Z")]


class _Counters(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The counters of a contact as they are kept."""

    version: Literal[1]
    contact: Annotated[bytes, Meta(min_length=16, max_length=16)]
    sent: Annotated[int, Meta(ge=0, le=MAX_COUNTER)]
    received: Annotated[int, Meta(ge=0, le=MAX_COUNTER)]


_decoder = msgspec.msgpack.Decoder(_Entry)
_counters_decoder = msgspec.msgpack.Decoder(_Counters)


def contact_entry(identity: PublicIdentity) -> str:
    """The name of the entry for these keys: their SHA-256, the first 16 bytes in hex."""
    return CONTACTS + hashlib.sha256(identity.encode()).hexdigest()[:32]


def counters_entry(entry: str) -> str:
    """The name of the entry with the counters of the contact in this entry."""
    return COUNTERS + entry.removeprefix(CONTACTS)


def prekey_entry(entry: str) -> str:
    """The name of the entry with the signed prekey of the contact in this entry."""
    return _PREKEYS + entry.removeprefix(CONTACTS)


def encode_contact(contact: Contact) -> Secret:
    """The contact as the store keeps it, below 1 KiB and without its counters.

    Raises:
        ConfigError: a field breaks a rule, so that it could not be read again.
    """
    entry = _Entry(
        1,
        contact.name,
        contact.identity.signing,
        contact.identity.agreement,
        contact.mailbox,
        contact.signaling,
        contact.serial,
        contact.first_seen,
        contact.verified,
        contact.replaces,
    )
    data = msgspec.msgpack.encode(entry)
    if _decoded(data) is None:
        raise ConfigError("A contact like this cannot be kept.", "Have their card sent again.")
    return Secret(base64.b64encode(data).decode())


def decode_contact(name: str, kept: Secret) -> Contact:
    """The contact in the entry of this name. Its counters are 0: they have an entry of their own.

    Raises:
        IdentityDamaged: it is not one, or another one's. It names the entry.
    """
    try:
        entry = _decoded(base64.b64decode(kept.reveal(), validate=True))
    except ValueError:
        entry = None
    if entry is None:
        raise IdentityDamaged(f"contact entry {name}")
    contact = Contact(
        entry.name,
        PublicIdentity(entry.signing, entry.agreement),
        entry.mailbox,
        entry.signaling,
        entry.serial,
        entry.first_seen,
        entry.verified,
        replaces=entry.replaces,
    )
    if contact.entry != name or encode_contact(contact) != kept:
        raise IdentityDamaged(f"contact entry {name}")
    return contact


def encode_counters(contact: Contact) -> Secret:
    """The counters of a contact as the store keeps them, at most 52 characters.

    Raises:
        ConfigError: one is below 0 or above `MAX_COUNTER`.
    """
    if not (0 <= contact.sent <= MAX_COUNTER and 0 <= contact.received <= MAX_COUNTER):
        raise ConfigError("A counter like this cannot be kept.", "Set the clock of this machine.")
    owner = bytes.fromhex(contact.entry.removeprefix(CONTACTS))
    data = msgspec.msgpack.encode(_Counters(1, owner, contact.sent, contact.received))
    return Secret(base64.b64encode(data).decode())


def decode_counters(name: str, kept: Secret) -> tuple[int, int]:
    """The counters sent and received in the entry of this name.

    Raises:
        IdentityDamaged: it has none, or another contact's. It names the entry.
    """
    try:
        data = base64.b64decode(kept.reveal(), validate=True)
        entry = _counters_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError):
        entry = None
    if (
        entry is None
        or COUNTERS + entry.contact.hex() != name
        or base64.b64encode(msgspec.msgpack.encode(entry)).decode() != kept.reveal()
    ):
        raise IdentityDamaged(f"contact entry {name}")
    return entry.sent, entry.received


def _decoded(data: bytes) -> _Entry | None:
    try:
        entry = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    return None if name_fault(entry.name) or url_fault(entry.signaling) else entry


def clean_name(text: str) -> str:
    """A contact's name in one form: NFC, and single spaces.

    Raises:
        ConfigError: it could not be the name in a card either: it is empty or longer than 64 characters, or holds one
            that is not seen, breaks the line or turns the direction of writing.
    """
    name = " ".join(filter(None, unicodedata.normalize("NFC", text).split(" ")))
    if name_fault(name):
        raise ConfigError(
            "This cannot be the name of a contact.", f"Use 1 to {MAX_NAME} characters that can be seen, in one line."
        )
    return name


def folded(name: str) -> str:
    """Names that give the same are one name: case and width do not matter."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def may_ring(contact: Contact | None, strangers: Strangers, unverified: Unverified) -> None:
    """Whether a call may ring; returns when it may.

    Args:
        contact: who calls, None for a stranger.

    Raises:
        MessageRefused: a stranger, and the policy does not let strangers ring.
        NotVerified: a contact that is not verified, and the policy asks for it.
    """
    if contact is None:
        if strangers is not Strangers.RING:
            raise MessageRefused("it is from a stranger")
    elif unverified is Unverified.REFUSE and not contact.verified:
        raise NotVerified(contact.name)
