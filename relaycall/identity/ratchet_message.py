"""Ratchet messages: what is in an envelope of the ratchet sealer, and how a session's keys begin. Without I/O.

    message    form 1 | session 16 | ratchet key 32 | length of the chain before 2 | number 2
               | form 2 only: ephemeral key 32 | prekey id 32 | secret 32
               | ciphertext

Numbers are big endian. Form 1 is a message of a session that has been answered, form 2 one with what it takes to begin
the session. The session is named by a hash of both identities and of what it begins with.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relaycall.errors import MessageRefused
from relaycall.identity.card import Key
from relaycall.identity.keys import KEY_SIZE, PublicIdentity

CHAIN_LIMIT = 256  # messages that go out without an answer; it bounds what one message can make its reader compute
SESSION_ID_SIZE = 16

_HEAD = struct.Struct(f"!B{SESSION_ID_SIZE}s{KEY_SIZE}sHH")
_START = struct.Struct(f"!{KEY_SIZE}s{KEY_SIZE}s{KEY_SIZE}s")
_IN_SESSION, _WITH_START = 1, 2  # forms
HEAD_SIZE, START_SIZE = _HEAD.size, _START.size

_SESSION = b"relaycall ratchet session 1\0"
_ROOT = b"relaycall ratchet root 1\0"
_MESSAGE = b"relaycall ratchet message 1\0"


class Start(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the other side needs to begin the same session; it goes along until they have answered.

    Attributes:
        ephemeral: the initiator's X25519 public key for this session alone.
        prekey_id: of the responder's prekey that it begins with.
        secret: random; only the seal of the envelope protects it.
    """

    ephemeral: Key
    prekey_id: Key
    secret: Key

    def __repr__(self) -> str:
        return "<start of a session>"


@dataclass(frozen=True, slots=True)
class RatchetMessage:
    """One message.

    Attributes:
        session_id: 16 bytes.
        ratchet_key: the sender's X25519 public key at the moment.
        previous_length: how many messages their chain before this one had, at most 256.
        number: in their chain, below 256.
        start: goes along until the session is answered.
        ciphertext: AES-256-CBC and HMAC-SHA-256.
    """

    session_id: bytes
    ratchet_key: bytes = field(repr=False)
    previous_length: int
    number: int
    start: Start | None = field(repr=False)
    ciphertext: bytes = field(repr=False)

    def encode(self) -> bytes:
        """The bytes that are the envelope's body."""
        form = _IN_SESSION if self.start is None else _WITH_START
        head = _HEAD.pack(form, self.session_id, self.ratchet_key, self.previous_length, self.number)
        start = b"" if self.start is None else _START.pack(*msgspec.structs.astuple(self.start))
        return head + start + self.ciphertext


def decode_message(body: bytes) -> RatchetMessage:
    """Read an envelope's body.

    Raises:
        MessageRefused: it is not a ratchet message, or a number is out of range.
    """
    form = body[0] if body else 0
    begin = _HEAD.size + (_START.size if form == _WITH_START else 0)
    if form not in (_IN_SESSION, _WITH_START) or len(body) < begin:
        raise MessageRefused("it is not a ratchet message")
    _, session_id, ratchet_key, previous_length, number = _HEAD.unpack_from(body)
    if previous_length > CHAIN_LIMIT or number >= CHAIN_LIMIT:
        raise MessageRefused("its number is out of range")
    start = Start(*_START.unpack_from(body, _HEAD.size)) if form == _WITH_START else None
    return RatchetMessage(session_id, ratchet_key, previous_length, number, start, body[begin:])


def bound_data(sender: PublicIdentity, recipient: PublicIdentity, kind: int) -> bytes:
    """What a message is bound to besides its own header: whose it is, for whom, and what kind of message it is."""
    return _MESSAGE + sender.encode() + recipient.encode() + bytes([kind])


def derive_session(
    initiator: PublicIdentity, responder: PublicIdentity, start: Start, agreed: list[bytes]
) -> tuple[bytes, bytes]:
    """The id of a session, 16 bytes, and its root key, 32.

    Args:
        agreed: three X25519 secrets: the initiator's identity with the prekey, the ephemeral key with the responder's
            identity, the ephemeral key with the prekey.
    """
    public = initiator.encode() + responder.encode() + start.ephemeral + start.prekey_id
    transcript = hashlib.sha256(_SESSION + public).digest()
    kdf = HKDF(SHA256(), KEY_SIZE, salt=None, info=_ROOT + transcript)
    return transcript[:SESSION_ID_SIZE], kdf.derive(b"".join(agreed) + start.secret)
