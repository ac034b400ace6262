"""What the two sides of one call agree on: its id, its keys, and each other's record."""

from __future__ import annotations

import secrets

from relaycall.call.messages import is_tag, tag
from relaycall.errors import HandshakeRefused
from relaycall.identity.handshake import NONCE_SIZE, CalleeHandshake, CallerHandshake, CallKeys
from relaycall.identity.keys import KEY_SIZE, Identity, PublicIdentity
from relaycall.identity.safety import spoken_check


class Agreement:
    """Our side of it.

    Args:
        ours, theirs: the identities.

    Attributes:
        calling: our handshake as the caller; None before there is one, or if they call.
        called: our handshake as the callee, likewise.
        keys: once there are.
        answer: as it was given or came.
        peer_record: the other side's call record, once its authenticity is known.
    """

    def __init__(self, ours: Identity, theirs: PublicIdentity) -> None:
        self.calling: CallerHandshake | None = None
        self.called: CalleeHandshake | None = None
        self.keys: CallKeys | None = None
        self.answer = self.peer_record = b""
        self._ours, self._theirs = ours, theirs

    @property
    def words(self) -> str:
        """Words for the two to compare by voice; "" while they are unknown."""
        return spoken_check(self.keys.spoken) if self.keys is not None and self.keys.spoken else ""

    def propose(self, record: bytes) -> bytes:
        """We call. Returns the id of the call."""
        self.calling = CallerHandshake(
            self._ours,
            self._theirs,
            record,
            secret=secrets.token_bytes(KEY_SIZE),
            nonce=secrets.token_bytes(NONCE_SIZE),
        )
        return self.calling.call_id

    def give_way(self, called: CalleeHandshake) -> None:
        """They call while we do, and theirs is the call that takes place."""
        if self.calling is not None:
            self.calling.erase()
        self.calling, self.called = None, called

    def respond(self, record: bytes) -> None:
        """We take their call: the answer and the keys are there."""
        assert self.called is not None, "somebody calls"
        self.answer, self.keys = self.called.answer(
            record, secret=secrets.token_bytes(KEY_SIZE), nonce=secrets.token_bytes(NONCE_SIZE)
        )
        self.peer_record = self.called.record

    def conclude(self, answer: bytes) -> None:
        """They take ours. Raises HandshakeRefused: not with this answer."""
        assert self.calling is not None, "we call"
        self.peer_record, self.keys = self.calling.accept(answer)
        self.answer = answer

    def farewell(self, call_id: bytes, *, caller: bool) -> bytes:
        """What proves that it is we who hang up; there are keys."""
        assert self.keys is not None, "there was an answer"
        return tag(self.keys.from_caller if caller else self.keys.from_callee, call_id)

    def check_farewell(self, found: bytes, call_id: bytes, *, caller: bool) -> None:
        """Raises HandshakeRefused: it is not they who hang up."""
        keys = self.keys
        if keys is None or not is_tag(keys.from_callee if caller else keys.from_caller, call_id, found):
            raise HandshakeRefused("it is not hung up by who holds the key")

    def erase(self) -> None:
        """Forget every secret."""
        for secret in (self.keys, self.calling, self.called):
            if secret is not None:
                secret.erase()
        self.answer = self.peer_record = b""
