"""Who may read a mailbox, without I/O: challenges and tokens that a server checks without having kept them.

Both carry a MAC with the store's secret, so that every server of one store accepts what any of them has given. They
carry Unix time, since servers on several machines share no other clock.
"""

from __future__ import annotations

import hmac
import struct
from typing import NamedTuple

from relaycall.signaling.frames import NONCE_SIZE, TOKEN_SIZE, Claim, CloseCode
from relaycall.signaling.keys import claim_message, is_proof, mailbox_of

CHALLENGE_LIFETIME = 30.0  # seconds
TOKEN_LIFETIME = 86400.0
SKEW = 5.0  # seconds that the clocks of two servers may differ

_CHALLENGE = struct.Struct("!d8s")
_TOKEN = struct.Struct("!d32s16s")


class Holder(NamedTuple):
    """Whom a token was given to."""

    mailbox: bytes
    session: bytes


class Access:
    """Checks proofs and tokens.

    Args:
        secret: the store's.
        names: those that the server goes by, in lower case.
    """

    def __init__(self, secret: bytes, names: frozenset[str]) -> None:
        self._secret = secret
        self._names = names

    def __repr__(self) -> str:
        return "<access>"

    def challenge(self, random: bytes, now: float) -> bytes:
        """A new challenge, 32 bytes; `random` has 8, `now` is Unix time."""
        body = _CHALLENGE.pack(now, random)
        return body + self._mac(b"challenge", body)[: NONCE_SIZE - len(body)]

    def refusal(self, claim: Claim, now: float) -> CloseCode | None:
        """Why a claim is refused, or None if the mailbox is the client's."""
        body, mac = claim.nonce[: _CHALLENGE.size], claim.nonce[_CHALLENGE.size :]
        made_at, _ = _CHALLENGE.unpack(body)
        if not hmac.compare_digest(mac, self._mac(b"challenge", body)[: len(mac)]):
            return CloseCode.REFUSED
        if not -SKEW <= now - made_at <= CHALLENGE_LIFETIME:
            return CloseCode.TOO_SLOW
        if claim.name not in self._names:
            return CloseCode.MISNAMED
        message = claim_message(claim.name, claim.nonce, claim.session)
        return None if is_proof(claim.public, claim.signature, message) else CloseCode.REFUSED

    def token(self, claim: Claim, now: float) -> bytes:
        """For who has proved it, 88 bytes."""
        body = _TOKEN.pack(now + TOKEN_LIFETIME, mailbox_of(claim.public), claim.session)
        return body + self._mac(b"token", body)

    def holder(self, token: bytes, now: float) -> Holder | None:
        """Whom the token was given to, or None if it is none or too old."""
        if len(token) != TOKEN_SIZE:
            return None
        body, mac = token[: _TOKEN.size], token[_TOKEN.size :]
        expires_at, mailbox, session = _TOKEN.unpack(body)
        if not hmac.compare_digest(mac, self._mac(b"token", body)) or now >= expires_at:
            return None
        return Holder(mailbox, session)

    def _mac(self, purpose: bytes, body: bytes) -> bytes:
        return hmac.digest(self._secret, purpose + body, "sha256")
