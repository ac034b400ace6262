"""Whose a mailbox is: its id is the hash of a public key, and who proves that key may read it.

The proof is a signature over the server's fresh challenge and the name that the client knows the server by. A server
cannot pass it on to another one, which goes by another name.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_MAILBOX = b"relaycall mailbox 1\0"
_CLAIM = b"relaycall mailbox claim 1\0"


class MailboxKey(Protocol):
    """An Ed25519 key, wherever its private part is.

    Attributes:
        public: the public key, 32 bytes.
    """

    @property
    def public(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes (RFC 8032)."""


class FreshKey:
    """A key made now and kept in this object alone."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()

    def __repr__(self) -> str:
        return "FreshKey()"

    @property
    def public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


def mailbox_of(public: bytes) -> bytes:
    """The id of the mailbox that belongs to a public key, 32 bytes."""
    return hashlib.sha256(_MAILBOX + public).digest()


def claim_message(name: str, nonce: bytes, session: bytes) -> bytes:
    """What is signed to open a mailbox.

    Args:
        name: the server's, from the client's URL: a host name or address, without the port.
        nonce: the server's challenge.
        session: the client's number for itself, the same after a reconnect.
    """
    return _CLAIM + struct.pack("!B", len(name)) + name.encode() + nonce + session


def is_proof(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the key has signed the message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
