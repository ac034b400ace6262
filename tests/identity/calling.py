"""Handshakes for tests, the same in every run."""

from __future__ import annotations

import hashlib

from relaycall.identity.handshake import CalleeHandshake, CallerHandshake, CallKeys
from relaycall.identity.keys import PublicIdentity
from tests.identity.people import ALICE, BOB, Person

CALLER_RECORD, CALLEE_RECORD = b"the record of the caller", b"the record of the callee"
EPHEMERAL, COMMITMENT = slice(1, 33), slice(33, 65)  # of an offer
THEIR_EPHEMERAL, THEIR_NONCE = slice(32, 64), slice(64, 96)  # of an answer


def fresh(name: str) -> bytes:
    """32 bytes, the same in every run."""
    return hashlib.sha256(name.encode()).digest()


def calling(
    caller: Person = ALICE, callee: PublicIdentity = BOB.public, record: bytes = CALLER_RECORD, which: str = ""
) -> CallerHandshake:
    return CallerHandshake(
        caller.identity, callee, record, secret=fresh("caller's key" + which), nonce=fresh("caller's nonce" + which)
    )


def answered(called: CalleeHandshake, record: bytes = CALLEE_RECORD, which: str = "") -> tuple[bytes, CallKeys]:
    return called.answer(record, secret=fresh("callee's key" + which), nonce=fresh("callee's nonce" + which))


def secrets_of(keys: CallKeys) -> tuple[bytes, ...]:
    return keys.media, keys.from_caller, keys.from_callee


def differ(one: CallKeys, other: CallKeys) -> bool:
    """No key of one is any of the other's."""
    return not set(secrets_of(one)) & set(secrets_of(other))


def changed(data: bytes, at: int, change: int) -> bytes:
    return data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
