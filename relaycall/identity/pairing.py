"""Two people with the same one-time code exchange their cards. Without I/O.

How it works. The *maker* of the code waits in a fresh mailbox; the *user* of it has a fresh one too. Four messages
cross between them, each in an envelope of 4096 bytes, which holds nothing after these fields but zeros:

    1  user to maker    1 | the user's mailbox 32 | SPAKE2 element 33
    2  maker to user    2 | SPAKE2 element 33 | maker's confirmation 32
    3  user to maker    3 | user's confirmation 32 | the user's payload, sealed
    4  maker to user    4 | the maker's payload, sealed

SPAKE2 (side A is the maker, side B the user, the identities are the two mailboxes) gives both the same key if they have
the same code, and different ones if not. Who does not know the code can try one guess with each side, and the run uses
up the code. Keys for each purpose are made from that key, bound to messages 1 and 2.

The maker confirms first: its answer to message 1 can hold a confirmation already, where the user's first would cost one
more message. Who claimed the number by guessing it learns from that whether one guess of the words is right, which no
order can hide, and nothing else. The user checks it before sending a payload, and the maker checks the user's
confirmation before sending one: what a side gives goes to somebody who has shown the code.

A side that finds anything wrong sends an envelope of zeros, so that the other side need not wait, and has failed for
good. The same message again, as a transport may deliver it, is passed over.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from spake2 import SPAKE2_A, SPAKE2_B

from relaycall.errors import MessageTooLarge, PairingFailed
from relaycall.identity.one_time_code import OneTimeCode
from relaycall.signaling.base import ENVELOPE_SIZE, MAILBOX_SIZE

MAX_PAYLOAD = 2500  # bytes

_PASSWORD = b"relaycall pairing 1\0"
_TRANSCRIPT = b"relaycall pairing transcript 1\0"
_MAKER_CONFIRMS = b"relaycall/1 pairing maker confirms"
_USER_CONFIRMS = b"relaycall/1 pairing user confirms"
_MAKER_SEALS = b"relaycall/1 pairing maker seals"
_USER_SEALS = b"relaycall/1 pairing user seals"
_ELEMENT_SIZE = 33
_CONFIRMATION_SIZE = 32
_SEALED_SIZE = 2 + MAX_PAYLOAD + 16  # its length, the payload with zeros after it, a tag
_FAREWELL = bytes(ENVELOPE_SIZE)
_NONCE = bytes(12)  # each key seals one message


class PairingState(enum.Enum):
    """What a side waits for."""

    ELEMENT = enum.auto()  # message 1, or for the user 2
    PAYLOAD = enum.auto()  # message 3, or for the user 4
    DONE = enum.auto()
    FAILED = enum.auto()


class Pairing(ABC):
    """One side of it, for one run: `MakerPairing` or `UserPairing`.

    Attributes:
        state: what it waits for.
        peer_mailbox: where to send, once it is known.
        peer_payload: what the other side gave, once the state is DONE.
        outgoing: envelopes for the other side, in order; whoever sends one takes it out. There may also be one when
            `receive` has raised.
    """

    def __init__(self, code: OneTimeCode, payload: bytes, mailbox: bytes) -> None:
        if len(payload) > MAX_PAYLOAD:
            raise MessageTooLarge
        self._password = _PASSWORD + code.reveal().encode()
        self._payload = payload
        self._mailbox = mailbox
        self._taken: list[bytes] = []
        self.state = PairingState.ELEMENT
        self.peer_mailbox: bytes | None = None
        self.peer_payload = b""
        self.outgoing: list[bytes] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.name.lower()}>"

    def receive(self, envelope: bytes) -> None:
        """Take an envelope that came to our mailbox.

        Raises:
            PairingFailed: the other side has another code, or does not do as it should. The code is used up.
        """
        if self.state is PairingState.DONE or envelope in self._taken:
            return
        step = {PairingState.ELEMENT: self._take_element, PairingState.PAYLOAD: self._take_payload}.get(self.state)
        if step is None or not step(envelope):
            self.outgoing = [] if step is None else [_FAREWELL]
            self.state = PairingState.FAILED
            self._taken.clear()
            raise PairingFailed
        self._taken.append(envelope)

    @abstractmethod
    def _take_element(self, envelope: bytes) -> bool:
        """Take the other side's first message. False if it breaks a rule."""

    @abstractmethod
    def _take_payload(self, envelope: bytes) -> bool:
        """Take the other side's second message. False if it breaks a rule."""


class MakerPairing(Pairing):
    """The side that has made the code, and waits.

    Args:
        code: what both must have.
        payload: what the other side gets if they have, at most 2500 bytes.
        mailbox: ours, 32 bytes, which the nameplate leads to.
        entropy: random bytes, as many as it is asked for.

    Raises:
        MessageTooLarge: the payload is larger.
    """

    def __init__(self, code: OneTimeCode, payload: bytes, mailbox: bytes, *, entropy: Callable[[int], bytes]) -> None:
        super().__init__(code, payload, mailbox)
        self._entropy = entropy

    def _take_element(self, envelope: bytes) -> bool:
        fields = _fields(envelope, 1, MAILBOX_SIZE, _ELEMENT_SIZE)
        if fields is None:
            return False
        self.peer_mailbox, theirs = fields
        spake2 = SPAKE2_A(self._password, idA=self._mailbox, idB=self.peer_mailbox, entropy_f=self._entropy)
        element: bytes = spake2.start()
        secret = _shared_secret(spake2, theirs)
        if secret is None:
            return False
        self._keys = _Keys(secret, envelope, element)
        self.outgoing.append(_message(2, element + self._keys.make(_MAKER_CONFIRMS)))
        self.state = PairingState.PAYLOAD
        return True

    def _take_payload(self, envelope: bytes) -> bool:
        fields = _fields(envelope, 3, _CONFIRMATION_SIZE, _SEALED_SIZE)
        if fields is None or not hmac.compare_digest(fields[0], self._keys.make(_USER_CONFIRMS)):
            return False
        payload = _opened(fields[1], self._keys.make(_USER_SEALS))
        if payload is None:
            return False
        self.outgoing.append(_message(4, _sealed(self._payload, self._keys.make(_MAKER_SEALS))))
        self.peer_payload, self.state = payload, PairingState.DONE
        return True


class UserPairing(Pairing):
    """The side that uses the code. Its first message is outgoing from the beginning.

    Args:
        code: what both must have.
        payload: what the other side gets if they have, at most 2500 bytes.
        mailbox: ours, 32 bytes.
        peer_mailbox: the maker's, 32 bytes, which the nameplate led to.
        entropy: random bytes, as many as it is asked for.

    Raises:
        MessageTooLarge: the payload is larger.
    """

    def __init__(
        self,
        code: OneTimeCode,
        payload: bytes,
        mailbox: bytes,
        peer_mailbox: bytes,
        *,
        entropy: Callable[[int], bytes],
    ) -> None:
        super().__init__(code, payload, mailbox)
        self.peer_mailbox = peer_mailbox
        self._spake2 = SPAKE2_B(self._password, idA=peer_mailbox, idB=mailbox, entropy_f=entropy)
        self._first = _message(1, mailbox + self._spake2.start())
        self.outgoing.append(self._first)

    def _take_element(self, envelope: bytes) -> bool:
        fields = _fields(envelope, 2, _ELEMENT_SIZE, _CONFIRMATION_SIZE)
        if fields is None:
            return False
        secret = _shared_secret(self._spake2, fields[0])
        if secret is None:
            return False
        self._keys = _Keys(secret, self._first, fields[0])
        if not hmac.compare_digest(fields[1], self._keys.make(_MAKER_CONFIRMS)):
            return False
        sealed = _sealed(self._payload, self._keys.make(_USER_SEALS))
        self.outgoing.append(_message(3, self._keys.make(_USER_CONFIRMS) + sealed))
        self.state = PairingState.PAYLOAD
        return True

    def _take_payload(self, envelope: bytes) -> bool:
        fields = _fields(envelope, 4, _SEALED_SIZE)
        payload = _opened(fields[0], self._keys.make(_MAKER_SEALS)) if fields else None
        if payload is None:
            return False
        self.peer_payload, self.state = payload, PairingState.DONE
        return True


class _Keys:
    """What both sides derive by HKDF-SHA256 (RFC 5869) from what SPAKE2 gave them, bound to messages 1 and 2."""

    def __init__(self, secret: bytes, first: bytes, element: bytes) -> None:
        self._secret = secret
        self._salt = hashlib.sha256(_TRANSCRIPT + first + element).digest()

    def make(self, purpose: bytes) -> bytes:
        """32 bytes for one purpose."""
        return HKDF(hashes.SHA256(), 32, salt=self._salt, info=purpose).derive(self._secret)


def _shared_secret(spake2: SPAKE2_A | SPAKE2_B, element: bytes) -> bytes | None:
    """What SPAKE2 gives for the other side's element; None if it is not one, or our own."""
    try:
        secret: bytes = spake2.finish(element)
    except Exception:  # of many types, AssertionError among them
        return None
    return secret


def _sealed(payload: bytes, key: bytes) -> bytes:
    content = len(payload).to_bytes(2) + payload.ljust(MAX_PAYLOAD, b"\0")
    return ChaCha20Poly1305(key).encrypt(_NONCE, content, None)


def _opened(sealed: bytes, key: bytes) -> bytes | None:
    try:
        content = ChaCha20Poly1305(key).decrypt(_NONCE, sealed, None)
    except InvalidTag:
        return None
    length = int.from_bytes(content[:2])
    return content[2 : 2 + length] if length <= MAX_PAYLOAD else None


def _message(number: int, content: bytes) -> bytes:
    return (bytes((number,)) + content).ljust(ENVELOPE_SIZE, b"\0")


def _fields(envelope: bytes, number: int, *sizes: int) -> list[bytes] | None:
    """The fields of a message of this number, or None if it is not one."""
    ends = list(itertools.accumulate(sizes, initial=1))
    if len(envelope) != ENVELOPE_SIZE or envelope[0] != number or any(envelope[ends[-1] :]):
        return None
    return [envelope[start:end] for start, end in itertools.pairwise(ends)]
