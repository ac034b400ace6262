"""Sealed envelopes: what a message looks like while others carry it. Without I/O.

    envelope    selector 4 | encapsulated key 1120 | ciphertext                              4096 bytes in all
    plaintext   sender's identity 64 | counter 8 | sent at, ms 8 | kind 1 | prekey length 2 | body length 2
                | prekey | body | zeros | signature 64

An envelope is sealed by HPKE (RFC 9180, base mode; MLKEM768-X25519, HKDF-SHA256, ChaCha20-Poly1305) to a prekey of
the recipient's. Who the sender is, what kind of message it is and how long, is inside. The signature inside (Ed25519)
covers the recipient and the key it was sealed to, so nobody can pass it on as if it had been made for another. The
selector is a hash of that key's id and the encapsulated key: whoever does not know the recipient's key cannot make it,
and it costs us a few hashes to refuse what he sends.

An *introduction* is for somebody whose prekey is not known yet: it is sealed to their long-term X25519 key alone. It
looks the same: an ML-KEM ciphertext for a key that nobody has stands before the encapsulated key.

A *compact* envelope is for a transport that people carry. What is sealed is as short as its content allows, a multiple
of 64 bytes, and zeros follow up to 4096, which that transport leaves out.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from relaycall.errors import (
    CardRefused,
    MessageRefused,
    MessageStale,
    MessageTooLarge,
    NotForUs,
    PrekeyRetired,
    SignatureRefused,
)
from relaycall.identity.keys import KEY_SIZE, SIGNATURE_SIZE, Identity, PublicIdentity
from relaycall.signaling.base import ENVELOPE_SIZE

MAX_AGE = 60.0  # seconds for which an envelope may have been under way
CLOCK_SKEW = 120.0  # seconds by which two clocks may differ
STEP = 64  # bytes: compact envelopes come in these steps
SELECTOR_SIZE = 4
MLKEM_SIZE = 1088  # of the 1120 bytes of an encapsulated key; X25519's 32 follow

_TO_PREKEY = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_TO_IDENTITY = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_TAG_SIZE = 16
_PREFIX_SIZE = SELECTOR_SIZE + KEM.MLKEM768_X25519.enc_length()
_BARE_PREFIX_SIZE = SELECTOR_SIZE + KEY_SIZE  # of a compact introduction
_HEADER = struct.Struct("!32s32sQQBHH")
_LEAST = _HEADER.size + SIGNATURE_SIZE
CONTENT_SIZE = ENVELOPE_SIZE - _PREFIX_SIZE - _TAG_SIZE - _LEAST  # bytes for the prekey and the body together

_SELECTOR = b"relaycall selector 1\0"
_IDENTITY_KEY = b"relaycall identity key 1\0"
_SEALED = b"relaycall envelope 1\0"
_SIGNED = b"relaycall envelope signature 1"


class Seal(enum.Enum):
    """Which of the recipient's keys an envelope is sealed to."""

    PREKEY = 0
    IDENTITY = 1


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A key that an envelope is sealed to.

    Attributes:
        id: 32 bytes.
        key: of the two kinds, the public one.
    """

    id: bytes
    key: MLKEM768X25519PublicKey | X25519PublicKey


@dataclass(frozen=True, slots=True)
class OpeningKey:
    """A private key of ours, or one that we have deleted, of which the id is left."""

    id: bytes
    key: MLKEM768X25519PrivateKey | X25519PrivateKey | None


@dataclass(frozen=True, slots=True)
class Message:
    """What an envelope holds.

    Attributes:
        kind: 0 to 255; whose meaning is the reader's.
        body: bytes.
        prekey: the sender's signed prekey, encoded, or nothing. It is not checked here.
        sender: who signed it.
        counter: above that of the sender's last one to us.
        sent_at: the sender's clock, in seconds since 1970.
        seal: whether it was sealed to a prekey of ours or to our long-term key.
    """

    kind: int
    body: bytes
    prekey: bytes
    sender: PublicIdentity
    counter: int
    sent_at: float
    seal: Seal

    def __repr__(self) -> str:
        return f"<message of kind {self.kind}>"


def identity_key_id(identity: PublicIdentity) -> bytes:
    """The id of a long-term key, 32 bytes, as a prekey has one."""
    return hashlib.sha256(_IDENTITY_KEY + identity.encode()).digest()


def to_identity(identity: PublicIdentity) -> RecipientKey:
    """The long-term key of somebody whose prekey is not known."""
    return RecipientKey(identity_key_id(identity), X25519PublicKey.from_public_bytes(identity.agreement))


def from_identity(identity: Identity) -> OpeningKey:
    """Our long-term key."""
    return OpeningKey(identity_key_id(identity.public), identity.agreement_key())


def seal(
    sender: Identity,
    recipient: PublicIdentity,
    to: RecipientKey,
    *,
    kind: int,
    body: bytes,
    prekey: bytes = b"",
    counter: int,
    now: float,
    compact: bool = False,
) -> bytes:
    """An envelope of 4096 bytes.

    Args:
        recipient: for whom.
        to: a prekey of theirs, or `to_identity`.
        kind: 0 to 255.
        body, prekey: at most `CONTENT_SIZE` bytes together.
        counter: above the last one to this recipient; below 2**64.
        now: seconds since 1970.
        compact: leave out what can be left out. It shows how long the content is.

    Raises:
        MessageTooLarge: body and prekey do not fit.
        CardRefused: the recipient's X25519 key gives the same secret to everybody.
    """
    room = CONTENT_SIZE - len(body) - len(prekey)
    if room < 0:
        raise MessageTooLarge
    bare = compact and isinstance(to.key, X25519PublicKey)
    prefix = _BARE_PREFIX_SIZE if bare else _PREFIX_SIZE
    if compact:
        room = -(prefix + _TAG_SIZE + _LEAST + len(body) + len(prekey)) % STEP
    header = _HEADER.pack(
        sender.public.signing, sender.public.agreement, counter, max(int(now * 1000), 0), kind, len(prekey), len(body)
    )
    content = header + prekey + body + bytes(room)
    signature = sender.sign(_SIGNED, recipient.encode() + to.id + content)
    try:
        if isinstance(to.key, X25519PublicKey):
            stand_in = b"" if bare else MLKEM768PrivateKey.generate().public_key().encapsulate()[1]
            info = _SEALED + to.id + stand_in
            sealed = stand_in + _TO_IDENTITY.encrypt(content + signature, to.key, info)
        else:
            sealed = _TO_PREKEY.encrypt(content + signature, to.key, _SEALED + to.id)
    except ValueError:  # a point of low order
        raise CardRefused("nothing can be sealed to its key") from None
    selector = _selector(to.id, sealed[: prefix - SELECTOR_SIZE])
    return (selector + sealed).ljust(ENVELOPE_SIZE, b"\0")


def open_envelope(envelope: bytes, recipient: Identity, keys: Iterable[OpeningKey]) -> Message:
    """What an envelope for us holds. Its age and its counter are not checked here.

    Args:
        envelope: 4096 bytes, from anybody.
        keys: ours: prekeys, deleted ones, and the long-term key.

    Raises:
        NotForUs: none of these opens it.
        PrekeyRetired: the key that does is deleted.
        SignatureRefused: it was not signed by the sender it names, for us and this key.
        MessageRefused: what is inside breaks a rule.
    """
    length = -(-len(envelope.rstrip(b"\0")) // STEP) * STEP
    sealed = envelope[:length]
    if len(envelope) != ENVELOPE_SIZE or length < _BARE_PREFIX_SIZE + _TAG_SIZE + _LEAST:
        raise NotForUs
    for own in keys:
        may_be_bare = isinstance(own.key, X25519PrivateKey)
        for prefix in (_PREFIX_SIZE, _BARE_PREFIX_SIZE) if may_be_bare else (_PREFIX_SIZE,):
            if hmac.compare_digest(_selector(own.id, sealed[SELECTOR_SIZE:prefix]), sealed[:SELECTOR_SIZE]):
                return _read(_unseal(sealed[SELECTOR_SIZE:], prefix, own), recipient.public, own)
    raise NotForUs


def check_age(message: Message, now: float, *, max_age: float = MAX_AGE) -> None:
    """Raises MessageStale: older than `max_age` seconds, or from the future, two minutes aside for the clocks."""
    if not -CLOCK_SKEW <= now - message.sent_at <= max_age + CLOCK_SKEW:
        raise MessageStale


def _selector(key_id: bytes, encapsulated: bytes) -> bytes:
    return hashlib.sha256(_SELECTOR + key_id + encapsulated).digest()[:SELECTOR_SIZE]


def _unseal(sealed: bytes, prefix: int, own: OpeningKey) -> bytes:
    if own.key is None:
        raise PrekeyRetired
    try:
        if isinstance(own.key, X25519PrivateKey):
            stand_in = sealed[:MLKEM_SIZE] if prefix == _PREFIX_SIZE else b""
            return _TO_IDENTITY.decrypt(sealed[len(stand_in) :], own.key, _SEALED + own.id + stand_in)
        return _TO_PREKEY.decrypt(sealed, own.key, _SEALED + own.id)
    except (InvalidTag, ValueError):
        raise NotForUs from None


def _read(plaintext: bytes, recipient: PublicIdentity, own: OpeningKey) -> Message:
    if len(plaintext) < _LEAST:
        raise MessageRefused("it is too short")
    content, signature = plaintext[:-SIGNATURE_SIZE], plaintext[-SIGNATURE_SIZE:]
    signing, agreement, counter, sent_ms, kind, prekey_length, body_length = _HEADER.unpack_from(content)
    sender = PublicIdentity(signing, agreement)
    if not sender.verifies(_SIGNED, recipient.encode() + own.id + content, signature):
        raise SignatureRefused
    prekey_end = _HEADER.size + prekey_length
    body_end = prekey_end + body_length
    if body_end > len(content) or any(content[body_end:]):
        raise MessageRefused("its lengths do not fit")
    return Message(
        kind=kind,
        body=content[prekey_end:body_end],
        prekey=content[_HEADER.size : prekey_end],
        sender=sender,
        counter=counter,
        sent_at=sent_ms / 1000,
        seal=Seal.IDENTITY if isinstance(own.key, X25519PrivateKey) else Seal.PREKEY,
    )
