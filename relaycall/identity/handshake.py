"""The handshake of a call: from two sealed messages to the keys of one call. Without I/O.

    offer     version 1 | ephemeral key 32 | commitment 32 | call record          caller to callee
    answer    offer's hash 32 | ephemeral key 32 | nonce 32 | call record         callee to caller
    confirm   offer's hash 32 | nonce 32                                          caller to callee

Each travels in an envelope signed by its sender. The key of the call comes from three X25519 secrets (ephemeral with
ephemeral, and each identity with the other's ephemeral), and the secret random bytes in both records, which the
envelopes' ML-KEM protects; it is bound to both identities and to every byte of offer and answer. Whoever changes,
swaps or repeats anything makes the two sides derive different keys, and nothing decodes. The ephemeral keys live as
long as the handshake does, so what was recorded cannot be opened later with what the two devices hold then.

The call's id is a hash of both identities and the offer: it cannot be chosen, nor used twice.

The two can compare a few spoken words. They come from both nonces: the caller is bound to its own by the commitment
before it sees the callee's, and the callee gives its own before it sees the caller's, so neither, nor anybody between
them, can try values until the words match.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relaycall.errors import HandshakeRefused
from relaycall.identity.keys import KEY_SIZE, Identity, PublicIdentity

VERSION = 1
NONCE_SIZE = 32  # bytes
HASH_SIZE = 32  # bytes
CALL_ID_SIZE = 16  # bytes
MAX_RECORD = 2048  # bytes

_OFFER_SIZE = 1 + KEY_SIZE + HASH_SIZE
_ANSWER_SIZE = HASH_SIZE + KEY_SIZE + NONCE_SIZE
_COMMITMENT = b"relaycall commitment 1\0"
_OFFER = b"relaycall offer 1\0"
_TRANSCRIPT = b"relaycall transcript 1\0"


@dataclass(slots=True)
class CallKeys:
    """What a call is protected with. `erase` when it has ended.

    Attributes:
        media: what the SRTP keys of both directions, audio and in-band control, are derived from; 32 bytes.
        from_caller, from_callee: authenticate the later envelopes of this call, by their sender; 32 bytes each.
        spoken: what the spoken words are made of, 32 bytes; empty until both nonces are known.
    """

    media: bytes = field(repr=False)
    from_caller: bytes = field(repr=False)
    from_callee: bytes = field(repr=False)
    _words: bytes = field(repr=False)
    spoken: bytes = field(default=b"", repr=False)

    def speak(self, caller_nonce: bytes, callee_nonce: bytes) -> None:
        """Both nonces are known: from now on the words are.

        Raises:
            HandshakeRefused: all was erased.
        """
        if not self._words:
            raise HandshakeRefused("the call has ended")
        self.spoken = _expand(self._words, caller_nonce + callee_nonce, b"relaycall/1 spoken words")

    def erase(self) -> None:
        """Forget all of it."""
        self.media = self.from_caller = self.from_callee = self._words = self.spoken = b""


class CallerHandshake:
    """The caller's side of one call.

    Args:
        identity: ours.
        peer: whom we call.
        record: our call record, encoded.
        secret: 32 fresh random bytes: the ephemeral private key.
        nonce: 32 more.

    Attributes:
        offer: what to send.
        call_id: 16 bytes.
    """

    def __init__(self, identity: Identity, peer: PublicIdentity, record: bytes, *, secret: bytes, nonce: bytes) -> None:
        self._identity = identity
        self._peer = peer
        self._ephemeral: X25519PrivateKey | None = X25519PrivateKey.from_private_bytes(secret)
        self._nonce = nonce
        public = self._ephemeral.public_key().public_bytes_raw()
        self.offer = bytes([VERSION]) + public + _commit(nonce, identity.public) + record
        self.call_id = _call_id(identity.public, peer, self.offer)

    def __repr__(self) -> str:
        return "<CallerHandshake>"

    def accept(self, answer: bytes) -> tuple[bytes, CallKeys]:
        """The callee's answer, from an envelope that the callee has signed. Once.

        Returns:
            the callee's call record, and the keys.

        Raises:
            HandshakeRefused: the answer breaks a rule, or is to another offer.
        """
        if not _ANSWER_SIZE <= len(answer) <= _ANSWER_SIZE + MAX_RECORD:
            raise HandshakeRefused("the answer has the wrong length")
        if self._ephemeral is None:
            raise HandshakeRefused("there was an answer before, or the call has ended")
        offered, theirs = answer[:HASH_SIZE], answer[HASH_SIZE : HASH_SIZE + KEY_SIZE]
        if not hmac.compare_digest(offered, _hash(self.offer)):
            raise HandshakeRefused("the answer is to another offer")
        try:
            secrets = [
                self._ephemeral.exchange(X25519PublicKey.from_public_bytes(theirs)),
                self._identity.agree(theirs),
                self._ephemeral.exchange(X25519PublicKey.from_public_bytes(self._peer.agreement)),
            ]
        except ValueError:
            raise HandshakeRefused("a key is none") from None
        keys = _derive(self._identity.public, self._peer, self.offer, answer, secrets)
        keys.speak(self._nonce, answer[HASH_SIZE + KEY_SIZE : _ANSWER_SIZE])
        self._ephemeral = None
        return answer[_ANSWER_SIZE:], keys

    def confirm(self) -> bytes:
        """What lets the callee know the spoken words too; to be sent once the answer was accepted, never before.

        Raises:
            HandshakeRefused: there was no answer yet, or the call has ended.
        """
        if self._ephemeral is not None or not self._nonce:
            raise HandshakeRefused("there was no answer yet, or the call has ended")
        return _hash(self.offer) + self._nonce

    def erase(self) -> None:
        """Forget the ephemeral key, the nonce and the record. Nothing can be accepted or confirmed any more."""
        self._ephemeral = None
        self._nonce = self.offer = b""


class CalleeHandshake:
    """The callee's side of one call.

    Args:
        identity: ours.
        peer: who signed the envelope that the offer came in.
        offer: the offer.

    Attributes:
        record: the caller's call record, encoded; not checked.
        call_id: 16 bytes.

    Raises:
        HandshakeRefused: the offer breaks a rule.
    """

    def __init__(self, identity: Identity, peer: PublicIdentity, offer: bytes) -> None:
        if not _OFFER_SIZE <= len(offer) <= _OFFER_SIZE + MAX_RECORD:
            raise HandshakeRefused("the offer has the wrong length")
        if offer[0] != VERSION:
            raise HandshakeRefused("the offer is of another version")
        self._identity = identity
        self._peer = peer
        self._offer = offer
        self._nonce = b""
        self._keys: CallKeys | None = None
        self.record = offer[_OFFER_SIZE:]
        self.call_id = _call_id(peer, identity.public, offer)

    def __repr__(self) -> str:
        return "<CalleeHandshake>"

    def answer(self, record: bytes, *, secret: bytes, nonce: bytes) -> tuple[bytes, CallKeys]:
        """Accept the call. Once.

        Args:
            record: our call record, encoded.
            secret: 32 fresh random bytes: the ephemeral private key.
            nonce: 32 more.

        Returns:
            what to send, and the keys. The spoken words are known once `confirmed` has been called.

        Raises:
            HandshakeRefused: the caller's ephemeral key is none, there was an answer before, or the call has ended.
        """
        if self._keys is not None or not self._offer:
            raise HandshakeRefused("there was an answer before, or the call has ended")
        ephemeral = X25519PrivateKey.from_private_bytes(secret)
        theirs = self._offer[1 : 1 + KEY_SIZE]
        try:
            secrets = [
                ephemeral.exchange(X25519PublicKey.from_public_bytes(theirs)),
                ephemeral.exchange(X25519PublicKey.from_public_bytes(self._peer.agreement)),
                self._identity.agree(theirs),
            ]
        except ValueError:
            raise HandshakeRefused("a key is none") from None
        answer = _hash(self._offer) + ephemeral.public_key().public_bytes_raw() + nonce + record
        self._nonce = nonce
        self._keys = _derive(self._peer, self._identity.public, self._offer, answer, secrets)
        return answer, self._keys

    def confirmed(self, confirm: bytes) -> None:
        """The caller's nonce came. `spoken` of the keys is known now.

        Raises:
            HandshakeRefused: it is not the one that the offer is bound to, there was no answer yet, or the call has
                ended.
        """
        if self._keys is None or len(confirm) != HASH_SIZE + NONCE_SIZE:
            raise HandshakeRefused("the confirmation is not one")
        nonce = confirm[HASH_SIZE:]
        commitment = self._offer[1 + KEY_SIZE : _OFFER_SIZE]
        if not hmac.compare_digest(confirm[:HASH_SIZE], _hash(self._offer)) or not hmac.compare_digest(
            _commit(nonce, self._peer), commitment
        ):
            raise HandshakeRefused("the confirmation is to another offer")
        self._keys.speak(nonce, self._nonce)

    def erase(self) -> None:
        """Forget the nonce and both records. Nothing can be answered or confirmed any more; the keys are the call's."""
        self._keys = None
        self._nonce = self._offer = self.record = b""


def our_offer_wins(ours: bytes, theirs: bytes) -> bool:
    """Whether ours is the call that takes place when both call at once: the lower id, on both sides alike."""
    return ours < theirs


def offer_hash(offer: bytes) -> bytes:
    """What an answer names an offer by, 32 bytes."""
    return _hash(offer)


def _derive(
    caller: PublicIdentity, callee: PublicIdentity, offer: bytes, answer: bytes, secrets: list[bytes]
) -> CallKeys:
    transcript = hashlib.sha256(_TRANSCRIPT)
    for part in (caller.encode(), callee.encode(), offer, answer):
        transcript.update(len(part).to_bytes(4, "big") + part)
    salt = transcript.digest()
    key = b"".join(secrets)
    media, from_caller, from_callee, words = (
        _expand(key, salt, b"relaycall/1 " + use) for use in (b"media", b"from caller", b"from callee", b"words")
    )
    return CallKeys(media, from_caller, from_callee, words)


def _expand(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_SIZE, salt=salt, info=info).derive(key)


def _commit(nonce: bytes, caller: PublicIdentity) -> bytes:
    return hashlib.sha256(_COMMITMENT + caller.encode() + nonce).digest()


def _call_id(caller: PublicIdentity, callee: PublicIdentity, offer: bytes) -> bytes:
    return hashlib.sha256(_OFFER + caller.encode() + callee.encode() + offer).digest()[:CALL_ID_SIZE]


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
