"""Envelopes for tests: sealed as they should be, and put together from the inside by the description."""

from __future__ import annotations

import hashlib
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from relaycall.identity.envelope import Message, RecipientKey, Seal, open_envelope, seal
from relaycall.identity.keys import Identity, PublicIdentity
from tests.identity.people import ALICE, BOB, NOW, Person

SIZE, PREFIX, BARE_PREFIX, TAG = 4096, 4 + 1120, 4 + 32, 16
TO_PREKEY = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
TO_IDENTITY = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
SEALS = [(kind, compact) for kind in Seal for compact in (False, True)]
every_seal = pytest.mark.parametrize(
    ("kind", "compact"), SEALS, ids=[f"{kind.name.lower()}{'-compact' * compact}" for kind, compact in SEALS]
)


def key_of(person: Person, kind: Seal) -> RecipientKey:
    return person.to_prekey if kind is Seal.PREKEY else person.to_identity


def sealed(
    kind: Seal = Seal.PREKEY,
    *,
    sender: Person = ALICE,
    recipient: Person = BOB,
    message: int = 7,
    body: bytes = b"hello",
    prekey: bytes = b"",
    counter: int = 5,
    now: float = NOW,
    compact: bool = False,
) -> bytes:
    return seal(
        sender.identity,
        recipient.public,
        key_of(recipient, kind),
        kind=message,
        body=body,
        prekey=prekey,
        counter=counter,
        now=now,
        compact=compact,
    )


def opened(envelope: bytes, by: Person = BOB) -> Message:
    return open_envelope(envelope, by.identity, by.keys)


# --- envelopes made from the inside, by the description ---------------------------------------------------------------


def selector(key_id: bytes, encapsulated: bytes) -> bytes:
    return hashlib.sha256(b"relaycall selector 1\0" + key_id + encapsulated).digest()[:4]


def content(
    sender: PublicIdentity = ALICE.public,
    body: bytes = b"hello",
    prekey: bytes = b"",
    *,
    lengths: tuple[int, int] | None = None,
    counter: int = 5,
    sent_ms: int = int(NOW * 1000),
) -> bytes:
    prekey_length, body_length = lengths or (len(prekey), len(body))
    numbers = struct.pack("!QQBHH", counter, sent_ms, 7, prekey_length, body_length)
    return sender.signing + sender.agreement + numbers + prekey + body


def signed(inside: bytes, to: RecipientKey, *, by: Identity = ALICE.identity, recipient: Person = BOB) -> bytes:
    return inside + by.sign(b"relaycall envelope signature 1", recipient.public.encode() + to.id + inside)


def enclosed(plaintext: bytes, to: RecipientKey, *, stand_in: bytes = bytes(1088)) -> bytes:
    """Any plaintext in an envelope that opens, whoever signed it."""
    info = b"relaycall envelope 1\0" + to.id
    if isinstance(to.key, X25519PublicKey):
        inner = stand_in + TO_IDENTITY.encrypt(plaintext, to.key, info + stand_in)
    else:
        inner = TO_PREKEY.encrypt(plaintext, to.key, info)
    encapsulated = inner[: 1120 if stand_in else 32]
    assert len(inner) <= SIZE - 4
    return (selector(to.id, encapsulated) + inner).ljust(SIZE, b"\0")


def filled(inside: bytes, prefix: int = PREFIX) -> bytes:
    """With the zeros that make the envelope full."""
    return inside + bytes(SIZE - prefix - TAG - 64 - len(inside))


def plaintext_of(envelope: bytes, person: Person = BOB) -> bytes:
    """What a recipient can take out of an envelope to its prekey."""
    return TO_PREKEY.decrypt(envelope[4:], person.prekey.hpke_key(), b"relaycall envelope 1\0" + person.prekey.id)


ONE_OF_EACH = {one: sealed(one[0], body=b"hello" * 10, compact=one[1]) for one in SEALS}
