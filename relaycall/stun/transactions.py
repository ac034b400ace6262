"""Requests to a TURN server and their answers: retransmission, authentication, and what an error means.

A success counts only when it is authenticated. So does an error once the client has been let in, except for 401 and
438, which bring a new nonce, and 441, which servers send unsigned: the transaction id, 96 random bits, vouches for
those (RFC 8489, sections 6.3.4, 9.2.5).
"""

from __future__ import annotations

import base64
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relaycall.errors import (
    RelayBusy,
    RelayCapacity,
    RelayError,
    RelayForbidden,
    RelayLied,
    RelayNeedsCredentials,
    RelayQuota,
    RelayRedirected,
    RelayRefusedCredentials,
    RelayServerError,
    RelayTimeout,
    RelayUnsupported,
)
from relaycall.redact import Secret
from relaycall.stun import attributes as a
from relaycall.stun.message import Class, Message, Method, long_term_key

RETRANSMIT_FIRST = 0.2  # seconds, then doubled (RFC 8489, section 6.2.1)
MAX_NONCES = 3  # new nonces followed for one request

_REPORTED: dict[int, type[RelayError]] = {
    300: RelayRedirected,
    401: RelayRefusedCredentials,
    403: RelayForbidden,
    420: RelayUnsupported,
    437: RelayBusy,
    440: RelayUnsupported,
    441: RelayRefusedCredentials,
    442: RelayUnsupported,
    486: RelayQuota,
    508: RelayCapacity,
}

Pairs = list[tuple[a.Attribute[Any], Any]]
Done = Callable[[Message, float, float], None]  # message, now, round trip in seconds
Refused = Callable[[RelayError, float], None]  # why, now


@dataclass(slots=True)
class _Transaction:
    method: Method
    attributes: Pairs
    deadline: float
    done: Done
    refused: Refused
    data: bytes = b""
    sent: float = 0.0
    interval: float = 0.0
    again: float = 0.0
    key: bytes | None = None  # what it was sent with; None for without authentication
    nonce: str = ""
    nonces: int = 0


@dataclass(slots=True)
class Transactions:
    """The requests of one client to one server.

    Args:
        relay, username, password, random, reliable: as for `TurnClient`.

    Attributes:
        outgoing: datagrams to send.
        trusted: whether the server has authenticated itself once; set by the owner.
        answered: whether it ever answered a request, in whatever way.
    """

    relay: str
    username: str | None = field(repr=False)
    password: Secret | None
    random: Callable[[int], bytes]
    reliable: bool

    outgoing: deque[bytes] = field(default_factory=deque, repr=False)
    dropped: Counter[str] = field(default_factory=Counter)
    trusted: bool = False
    answered: bool = False
    key: bytes | None = field(default=None, init=False, repr=False)
    _realm: str = field(default="", init=False, repr=False)
    _nonce: str = field(default="", init=False, repr=False)
    _algorithms: tuple[a.PasswordAlgorithm, ...] = field(default=(), init=False, repr=False)
    _open: dict[bytes, _Transaction] = field(default_factory=dict, init=False, repr=False)

    def request(
        self, method: Method, attributes: Pairs, now: float, patience: float, done: Done, refused: Refused
    ) -> None:
        """Send a request. Exactly one of `done` and `refused` is called, within `patience` seconds."""
        self._transmit(_Transaction(method, attributes, now + patience, done, refused), now)

    def clear(self) -> None:
        """Forget every open request; nothing more is called for them."""
        self._open.clear()

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        return min((min(t.again, t.deadline) for t in self._open.values()), default=float("inf"))

    def handle_timeout(self, now: float) -> None:
        """Retransmit, or give up."""
        for tid, transaction in list(self._open.items()):
            if tid not in self._open:
                continue  # a failure just before ended them all
            if now >= transaction.deadline:
                del self._open[tid]
                transaction.refused(RelayTimeout(self.relay), now)
            elif now >= transaction.again:
                self.outgoing.append(transaction.data)
                transaction.interval *= 2
                transaction.again = now + transaction.interval

    def receive(self, message: Message, now: float) -> None:
        """Take a response."""
        transaction = self._open.get(message.transaction_id)
        if transaction is None or transaction.method is not message.method:
            self.dropped["unexpected_response"] += 1
            return
        self.answered = True
        authentic = transaction.key is not None and message.verify(transaction.key)
        if message.kind is Class.SUCCESS:
            self._success(transaction, message, authentic, now)
        else:
            self._error(transaction, message, authentic, now)

    def _success(self, transaction: _Transaction, message: Message, authentic: bool, now: float) -> None:
        if authentic:
            del self._open[message.transaction_id]
            transaction.done(message, now, now - transaction.sent)
            return
        self.dropped["unauthenticated"] += 1
        if not self.trusted:
            del self._open[message.transaction_id]
            transaction.refused(RelayLied(self.relay, "it did not authenticate its answer"), now)

    def _error(self, transaction: _Transaction, message: Message, authentic: bool, now: float) -> None:
        error = message.get(a.ERROR_CODE)
        if error is None:
            self.dropped["malformed"] += 1
            return
        if error.code in (401, 438) and self._may_retry(message, transaction, error.code):
            del self._open[message.transaction_id]
            if self._take_nonce(message):
                transaction.nonces += 1
                self._transmit(transaction, now)
            else:
                transaction.refused(RelayLied(self.relay, "its list of password algorithms was removed"), now)
            return
        if self.trusted and not authentic and error.code not in (401, 438, 441):
            self.dropped["unauthenticated"] += 1  # the retransmissions go on
            return
        del self._open[message.transaction_id]
        if error.code == 401 and (self.username is None or self.password is None):
            transaction.refused(RelayNeedsCredentials(self.relay), now)
        else:
            reported = _REPORTED.get(error.code, RelayServerError)
            transaction.refused(reported(self.relay, f"code {error.code}"), now)

    def _may_retry(self, message: Message, transaction: _Transaction, code: int) -> bool:
        """Whether this 401 or 438 gives something new to try."""
        nonce = message.get(a.NONCE)
        if self.username is None or self.password is None or nonce is None or transaction.nonces >= MAX_NONCES:
            return False
        if transaction.key is None:
            return True
        # Otherwise the server has seen our credentials and says no.
        return nonce != transaction.nonce and (code == 438 or self.trusted)

    def _take_nonce(self, message: Message) -> bool:
        """Take over realm and nonce. False if somebody weakened them on the way (RFC 8489, section 9.2.1)."""
        realm, nonce = message.get(a.REALM), message.get(a.NONCE)
        algorithms = message.get(a.PASSWORD_ALGORITHMS) or ()
        assert nonce is not None
        assert self.username is not None
        assert self.password is not None
        if not algorithms and _announces_algorithms(nonce):
            return False
        self._algorithms = algorithms if any(entry.algorithm == 2 for entry in algorithms) else ()
        self._realm, self._nonce = self._realm if realm is None else realm, nonce
        self.key = long_term_key(self.username, self._realm, self.password.reveal(), sha256=bool(self._algorithms))
        return True

    def _transmit(self, transaction: _Transaction, now: float) -> None:
        """Send it under a new transaction id, with what authentication is known by now."""
        tid = self.random(12)
        attributes = list(transaction.attributes)
        if self.key is not None and self.username is not None:
            attributes += [a.USERNAME(self.username), a.REALM(self._realm), a.NONCE(self._nonce)]
            if self._algorithms:
                chosen = next(entry for entry in self._algorithms if entry.algorithm == 2)
                attributes += [a.PASSWORD_ALGORITHMS(self._algorithms), a.PASSWORD_ALGORITHM(chosen)]
        transaction.key, transaction.nonce = self.key, self._nonce
        transaction.data = Message(transaction.method, Class.REQUEST, tid, attributes).encode(
            self.key, sha256=bool(self._algorithms)
        )
        transaction.sent = now
        transaction.interval = RETRANSMIT_FIRST
        transaction.again = float("inf") if self.reliable else now + RETRANSMIT_FIRST
        self._open[tid] = transaction
        self.outgoing.append(transaction.data)


_NONCE_COOKIE = "obMatJos2"


def _announces_algorithms(nonce: str) -> bool:
    """Whether the nonce says that PASSWORD-ALGORITHMS was sent along: the first of its 24 security feature bits."""
    if not nonce.startswith(_NONCE_COOKIE):
        return False
    try:
        return bool(base64.b64decode(nonce[len(_NONCE_COOKIE) :][:4], validate=True)[0] & 0x80)
    except (ValueError, IndexError):
        return False
