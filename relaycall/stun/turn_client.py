"""A TURN client for one allocation on one relay (RFC 8656), without I/O.

How it works. `start` sends an Allocate; the relay's 401 gives realm and nonce, the second Allocate is authenticated.
An allocation is then kept by a Refresh at three quarters of its lifetime. Each peer address gets a channel at once:
ChannelBind also installs the permission, and is repeated every 240 s, inside the 300 s of a permission, in the
background. Until the relay has answered the bind, packets go as Send indications right behind it, so nothing waits a
round trip; should a relay refuse channels, CreatePermission and Send indications are used for good.

Nothing is ever sent to a peer that was not added, and nothing is taken from one. A success counts only when it is
authenticated; so does an error once the allocation stands, except for the two that carry a new nonce.

Bytes to send collect in `outgoing`, events in `events`; the owner empties both after every call, and calls
`handle_timeout` when `next_timeout()` has come.
"""

from __future__ import annotations

import base64
import enum
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from relaycall.errors import (
    MalformedMessage,
    RelayBusy,
    RelayCapacity,
    RelayError,
    RelayForbidden,
    RelayForbiddenPeer,
    RelayLied,
    RelayLost,
    RelayNeedsCredentials,
    RelayNotTurn,
    RelayQuota,
    RelayRedirected,
    RelayRefusedCredentials,
    RelayServerError,
    RelayTimeout,
    RelayUnsupported,
)
from relaycall.redact import Secret
from relaycall.stun import attributes as a
from relaycall.stun.address import IPV4, Address, is_public_unicast
from relaycall.stun.framing import CHANNEL_MAX, CHANNEL_MIN
from relaycall.stun.message import Class, Message, Method, decode, long_term_key

UDP = 17  # REQUESTED-TRANSPORT: the protocol between relay and peer

LIFETIME_MIN, LIFETIME_MAX = 60, 3600
BIND_INTERVAL = 240.0  # seconds; a permission lives 300 (RFC 8656, section 9)
RETRANSMIT_FIRST = 0.2  # seconds, then doubled (RFC 8489, section 6.2.1)
ALLOCATE_DEADLINE = 4.5
REQUEST_DEADLINE = 15.0
VERIFY_DEADLINE = 2.0
CLOSE_DEADLINE = 1.0
MAX_PEERS = 64

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


_NONCE_COOKIE = "obMatJos2"


def _announces_algorithms(nonce: str) -> bool:
    """Whether the nonce says that PASSWORD-ALGORITHMS was sent along: the first of its 24 security feature bits."""
    if not nonce.startswith(_NONCE_COOKIE):
        return False
    try:
        return bool(base64.b64decode(nonce[len(_NONCE_COOKIE) :][:4], validate=True)[0] & 0x80)
    except (ValueError, IndexError):
        return False


class State(enum.Enum):
    """Where the allocation stands."""

    NEW = enum.auto()
    ALLOCATING = enum.auto()
    ALLOCATED = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


_TRANSITIONS: dict[tuple[State, str], State] = {
    (State.NEW, "start"): State.ALLOCATING,
    (State.NEW, "close"): State.CLOSED,
    (State.NEW, "fail"): State.CLOSED,
    (State.ALLOCATING, "allocated"): State.ALLOCATED,
    (State.ALLOCATING, "fail"): State.CLOSED,
    (State.ALLOCATING, "close"): State.CLOSING,
    (State.ALLOCATED, "fail"): State.CLOSED,
    (State.ALLOCATED, "close"): State.CLOSING,
    (State.CLOSING, "closed"): State.CLOSED,
    (State.CLOSING, "fail"): State.CLOSED,
}


@dataclass(frozen=True, slots=True)
class Allocated:
    """The relay granted the allocation. `lifetime` in seconds, clamped; `rtt` of the authenticated Allocate."""

    relayed: Address
    lifetime: int
    rtt: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The allocation was not granted, or is gone."""

    error: RelayError


@dataclass(frozen=True, slots=True)
class Suspected:
    """The network says the relay cannot be reached; it is being asked. Better use another path meanwhile."""

    error: RelayError


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """The relay refuses to exchange packets with this peer; it is no longer among the peers."""

    peer: Address
    error: RelayError


@dataclass(frozen=True, slots=True)
class Closed:
    """The allocation was deleted, or the second for doing so is over."""


Event = Allocated | Failed | Suspected | PeerRefused | Closed


@dataclass(slots=True)
class _Transaction:
    method: Method
    attributes: list[tuple[a.Attribute[Any], Any]]
    started: float
    deadline: float
    interval: float
    done: Callable[[Message, float, float], None]  # message, now, round trip in seconds
    refused: Callable[[RelayError, float], None]
    data: bytes = b""
    sent: float = 0.0
    again: float = 0.0
    authenticated: bool = False
    retries: int = 0


@dataclass(slots=True)
class _Peer:
    channel: int
    head: int = 0  # the channel shifted to where the header wants it; 0 until bound
    renew_at: float = 0.0
    without_channel: bool = False


@dataclass(slots=True)
class TurnClient:
    """One allocation.

    Args:
        relay: the relay's name for errors (its URI).
        username, password: long-term credentials; None sends the first Allocate only, which no proper relay grants.
        family: 0x01 or 0x02, the family of the relayed address wanted.
        reliable: whether the connection to the relay is a stream: then nothing is retransmitted.
        local: our own end of that connection, to recognise a relay that hands it back as a relayed address.
        laboratory: accept relayed addresses that are not public.
        random: gives that many random bytes.
    """

    relay: str
    username: str | None
    password: Secret | None
    random: Callable[[int], bytes]
    family: int = IPV4
    reliable: bool = False
    local: Address | None = None
    laboratory: bool = False

    state: State = State.NEW
    outgoing: deque[bytes] = field(default_factory=deque, repr=False)
    events: deque[Event] = field(default_factory=deque, repr=False)
    dropped: Counter[str] = field(default_factory=Counter)
    relayed: Address | None = field(default=None, init=False)
    _key: bytes | None = field(default=None, init=False, repr=False)
    _realm: str = field(default="", init=False, repr=False)
    _nonce: str = field(default="", init=False, repr=False)
    _algorithms: tuple[a.PasswordAlgorithm, ...] = field(default=(), init=False, repr=False)
    _transactions: dict[bytes, _Transaction] = field(default_factory=dict, init=False, repr=False)
    _peers: dict[Address, _Peer] = field(default_factory=dict, init=False, repr=False)
    _channels: dict[int, Address] = field(default_factory=dict, init=False, repr=False)
    _next_channel: int = field(default=CHANNEL_MIN, init=False, repr=False)
    _refresh_at: float = field(default=float("inf"), init=False, repr=False)
    _verifying: bool = field(default=False, init=False, repr=False)
    _answered: bool = field(default=False, init=False, repr=False)

    # --- what the owner calls -----------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Ask for the allocation. The answer comes as `Allocated` or `Failed`, at most 4.5 s later."""
        self._to("start")
        wanted: list[tuple[a.Attribute[Any], Any]] = [a.REQUESTED_TRANSPORT(UDP)]
        if self.family != IPV4:
            wanted.append(a.REQUESTED_ADDRESS_FAMILY(self.family))
        self._request(Method.ALLOCATE, wanted, now, ALLOCATE_DEADLINE, self._allocated, self._fail)

    def add_peer(self, peer: Address, now: float) -> None:
        """Bind a channel to this peer, so that packets pass both ways. Adding it again does nothing.

        Raises ValueError for a peer of the other address family, and beyond 64 peers.
        """
        if peer in self._peers or self.state is not State.ALLOCATED:
            return
        if peer.family != self.family or len(self._peers) >= MAX_PEERS:
            raise ValueError("this peer cannot be added")
        channel = self._next_channel
        if channel > CHANNEL_MAX:
            raise ValueError("no channel is left")
        self._next_channel += 1
        self._peers[peer] = _Peer(channel)
        self._channels[channel] = peer
        self._bind(peer, now)

    def remove_peer(self, peer: Address) -> None:
        """Take and send nothing more from and to this peer. Its channel is not used again; the relay forgets it."""
        found = self._peers.pop(peer, None)
        if found is not None:
            self._channels.pop(found.channel, None)

    def frame(self, peer: Address, data: bytes) -> bytes:
        """The datagram (or stream bytes, still to be padded by the socket) that carries `data` to `peer`.

        Raises KeyError for a peer that was not added: packets go to named peers or nowhere.
        """
        head = self._peers[peer].head
        if head:
            return (head | len(data)).to_bytes(4, "big") + data
        tid = self.random(12)
        return Message(Method.SEND, Class.INDICATION, tid, [a.XOR_PEER_ADDRESS(peer), a.DATA(data)]).encode()

    def receive(self, data: bytes, now: float) -> tuple[Address, bytes] | None:
        """Take one datagram, or one message of the stream. Returns the peer and the payload if it carries any."""
        if len(data) >= 4 and 0x40 <= data[0] <= 0x4F:
            peer = self._channels.get(data[0] << 8 | data[1])
            size = data[2] << 8 | data[3]
            if peer is None or len(data) < 4 + size:
                self.dropped["channel_data"] += 1
                return None
            return peer, data[4 : 4 + size]
        try:
            message = decode(data)
        except MalformedMessage:
            self.dropped["malformed"] += 1
            return None
        if message.kind is Class.INDICATION:
            return self._indication(message)
        if message.kind is Class.REQUEST:
            self.dropped["request"] += 1
            return None
        self._response(message, now)
        return None

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        times = [min(t.again, t.deadline) for t in self._transactions.values()]
        if self.state is State.ALLOCATED:
            times.append(self._refresh_at)
            times.extend(peer.renew_at for peer in self._peers.values())
        return min(times, default=float("inf"))

    def handle_timeout(self, now: float) -> None:
        """Retransmit, give up, refresh, rebind: whatever is due."""
        for tid, transaction in list(self._transactions.items()):
            if tid not in self._transactions:
                continue  # a failure just before ended them all
            if now >= transaction.deadline:
                del self._transactions[tid]
                garbage = self.state is State.ALLOCATING and self.dropped["malformed"] and not self._answered
                transaction.refused((RelayNotTurn if garbage else RelayTimeout)(self.relay), now)
            elif now >= transaction.again:
                self.outgoing.append(transaction.data)
                transaction.interval *= 2
                transaction.again = now + transaction.interval
        if self.state is not State.ALLOCATED:
            return
        if now >= self._refresh_at:
            self._refresh_at = float("inf")
            self._request(Method.REFRESH, [], now, REQUEST_DEADLINE, self._refreshed, self._lose)
        for peer, entry in self._peers.items():
            if now >= entry.renew_at:
                self._bind(peer, now)

    def connection_lost(self, error: RelayError, now: float) -> None:
        """The socket reported a refusal (ICMP), a reset or the end of the stream.

        A stream is gone then. For UDP it is a hint that anybody may have forged and that may pass (RFC 8489, section
        6.2.1): `Suspected` tells it at once, and a Refresh has two seconds to prove it wrong.
        """
        if self.state is State.ALLOCATED and not self.reliable:
            if not self._verifying:
                self._verifying = True
                self.events.append(Suspected(error))
                self._request(Method.REFRESH, [], now, VERIFY_DEADLINE, self._refreshed, self._lose)
        elif self.state is State.ALLOCATED:
            self._lose(error, now)
        elif self.state is State.ALLOCATING and isinstance(error, RelayLost):
            self._fail(RelayNotTurn(self.relay, error.detail), now)
        elif self.state is not State.CLOSED:
            self._fail(error, now)

    def close(self, now: float) -> None:
        """Delete the allocation. `Closed` comes with the relay's answer, or after one second without."""
        before = self.state
        if before in (State.CLOSING, State.CLOSED):
            return
        self._to("close")
        self._transactions.clear()
        self._peers.clear()
        self._channels.clear()
        if before is not State.NEW and self._key is not None:
            gone = lambda *_: self._closed()  # noqa: E731 - whatever the answer, it is over
            self._request(Method.REFRESH, [a.LIFETIME(0)], now, CLOSE_DEADLINE, gone, gone)
        else:
            self._closed()

    # --- requests and answers -----------------------------------------------------------------------------------------

    def _request(
        self,
        method: Method,
        attributes: list[tuple[a.Attribute[Any], Any]],
        now: float,
        patience: float,
        done: Callable[[Message, float, float], None],
        refused: Callable[[RelayError, float], None],
    ) -> None:
        transaction = _Transaction(method, attributes, now, now + patience, RETRANSMIT_FIRST, done, refused)
        self._transmit(transaction, now)

    def _transmit(self, transaction: _Transaction, now: float) -> None:
        """Send it under a new transaction id, with what authentication is known by now."""
        tid = self.random(12)
        attributes = list(transaction.attributes)
        if self._key is not None and self.username is not None:
            attributes += [a.USERNAME(self.username), a.REALM(self._realm), a.NONCE(self._nonce)]
            if self._algorithms:
                attributes += [a.PASSWORD_ALGORITHMS(self._algorithms)]
                attributes += [a.PASSWORD_ALGORITHM(entry) for entry in self._algorithms if entry.algorithm == 2]
        message = Message(transaction.method, Class.REQUEST, tid, attributes)
        transaction.authenticated = self._key is not None
        transaction.data = message.encode(self._key, sha256=bool(self._algorithms))
        transaction.sent = now
        transaction.interval = RETRANSMIT_FIRST
        transaction.again = float("inf") if self.reliable else now + RETRANSMIT_FIRST
        self._transactions[tid] = transaction
        self.outgoing.append(transaction.data)

    def _response(self, message: Message, now: float) -> None:
        transaction = self._transactions.get(message.transaction_id)
        if transaction is None or transaction.method is not message.method:
            self.dropped["unexpected_response"] += 1
            return
        self._answered = True
        authentic = transaction.authenticated and self._key is not None and message.verify(self._key)
        allocating = self.state is State.ALLOCATING
        if message.kind is Class.SUCCESS:
            if not authentic:
                self.dropped["unauthenticated"] += 1
                if allocating:
                    del self._transactions[message.transaction_id]
                    self._fail(RelayLied(self.relay, "it did not authenticate its answer"), now)
                return
            if message.unknown:
                self.dropped["unknown_attributes"] += 1
            del self._transactions[message.transaction_id]
            transaction.done(message, now, now - transaction.sent)
            return
        error = message.get(a.ERROR_CODE)
        if error is None:
            self.dropped["malformed"] += 1
            return
        if error.code in (401, 438) and self._authenticate(message, transaction, error.code):
            del self._transactions[message.transaction_id]
            transaction.retries += 1
            self._transmit(transaction, now)
            return
        if not (authentic or allocating or error.code in (401, 441)):
            # Not signed: it may come from anybody who sees the request. The retransmissions go on.
            self.dropped["unauthenticated"] += 1
            return
        del self._transactions[message.transaction_id]
        if error.code == 401 and not transaction.authenticated and (self.username is None or self.password is None):
            transaction.refused(RelayNeedsCredentials(self.relay), now)
        else:
            reported = _REPORTED.get(error.code, RelayServerError)
            transaction.refused(reported(self.relay, f"code {error.code}"), now)

    def _authenticate(self, message: Message, transaction: _Transaction, code: int) -> bool:
        """Take over realm and nonce. False when there is nothing new to try."""
        realm, nonce = message.get(a.REALM), message.get(a.NONCE)
        if self.username is None or self.password is None or nonce is None:
            return False
        if code == 401 and transaction.authenticated and self.state is State.ALLOCATING:
            return False  # the relay has seen our credentials and says no
        if transaction.retries >= 3 or (transaction.authenticated and nonce == self._nonce):
            return False
        realm = self._realm if realm is None else realm
        algorithms = message.get(a.PASSWORD_ALGORITHMS) or ()
        if not algorithms and _announces_algorithms(nonce):
            return False  # somebody took the list out on the way (RFC 8489, section 9.2.1)
        self._algorithms = algorithms if any(entry.algorithm == 2 for entry in algorithms) else ()
        self._realm, self._nonce = realm, nonce
        self._key = long_term_key(self.username, realm, self.password.reveal(), sha256=bool(self._algorithms))
        return True

    # --- what answers mean --------------------------------------------------------------------------------------------

    def _allocated(self, message: Message, now: float, rtt: float) -> None:
        relayed, mapped = message.get(a.XOR_RELAYED_ADDRESS), message.get(a.XOR_MAPPED_ADDRESS)
        if relayed is None:
            self._fail(RelayLied(self.relay, "it named no relayed address"), now)
            return
        if relayed.family != self.family:
            self._fail(RelayUnsupported(self.relay, "it gave the other address family"), now)
            return
        if self._is_ours(relayed, mapped):
            self._fail(RelayLied(self.relay, "its relayed address is this machine's own"), now)
            return
        if relayed.port < 1024 or not (self.laboratory or is_public_unicast(relayed.host)):
            self._fail(RelayLied(self.relay, "its relayed address is not a public one"), now)
            return
        self.relayed = relayed
        self._to("allocated")
        self.events.append(Allocated(relayed, self._keep_for(message, now), rtt))

    def _is_ours(self, relayed: Address, mapped: Address | None) -> bool:
        own = [address for address in (self.local, mapped) if address is not None]
        if self.laboratory:  # relay and client may share a host there
            return relayed in own
        return any(relayed.host == address.host for address in own)

    def _keep_for(self, message: Message, now: float) -> int:
        lifetime = min(max(message.get(a.LIFETIME) or 0, LIFETIME_MIN), LIFETIME_MAX)
        self._refresh_at = now + lifetime * 0.75
        return lifetime

    def _refreshed(self, message: Message, now: float, _rtt: float) -> None:
        self._verifying = False
        self._keep_for(message, now)

    def _bind(self, peer: Address, now: float) -> None:
        entry = self._peers[peer]
        entry.renew_at = now + BIND_INTERVAL
        if entry.without_channel:
            self._permit(peer, now)
            return

        def bound(_message: Message, _now: float, _rtt: float) -> None:
            if self._peers.get(peer) is entry:
                entry.head = entry.channel << 16

        def refused(error: RelayError, at: float) -> None:
            if self._peers.get(peer) is not entry:
                return
            if isinstance(error, RelayForbidden):
                self._refuse_peer(peer, at)
            elif isinstance(error, RelayBusy | RelayTimeout | RelayRefusedCredentials):
                self._lose(error, at)
            else:  # no channels here: Send and Data indications do as well
                entry.without_channel = True
                entry.head = 0
                self._permit(peer, at)

        wanted = [a.CHANNEL_NUMBER(entry.channel), a.XOR_PEER_ADDRESS(peer)]
        self._request(Method.CHANNEL_BIND, wanted, now, REQUEST_DEADLINE, bound, refused)

    def _permit(self, peer: Address, now: float) -> None:
        def refused(error: RelayError, at: float) -> None:
            if peer not in self._peers:
                return
            if isinstance(error, RelayBusy | RelayTimeout | RelayRefusedCredentials):
                self._lose(error, at)
            else:
                self._refuse_peer(peer, at)

        wanted = [a.XOR_PEER_ADDRESS(peer)]
        self._request(Method.CREATE_PERMISSION, wanted, now, REQUEST_DEADLINE, lambda *_: None, refused)

    def _refuse_peer(self, peer: Address, _now: float) -> None:
        self.remove_peer(peer)
        self.events.append(PeerRefused(peer, RelayForbiddenPeer(self.relay)))

    def _indication(self, message: Message) -> tuple[Address, bytes] | None:
        peer, data = message.get(a.XOR_PEER_ADDRESS), message.get(a.DATA)
        if message.method is not Method.DATA or message.unknown or peer is None or data is None:
            self.dropped["indication"] += 1
            return None
        if peer not in self._peers:
            self.dropped["unknown_peer"] += 1
            return None
        return peer, data

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _lose(self, error: RelayError, now: float) -> None:
        self._fail(RelayLost(self.relay, error.code), now)

    def _fail(self, error: RelayError, _now: float) -> None:
        if self.state is State.CLOSED:
            return
        closing = self.state is State.CLOSING
        self._to("fail")
        self._transactions.clear()
        self._peers.clear()
        self._channels.clear()
        self.events.append(Closed() if closing else Failed(error))

    def _closed(self) -> None:
        if self.state is State.CLOSING:
            self._to("closed")
        self._transactions.clear()
        self.events.append(Closed())

    def _to(self, event: str) -> None:
        self.state = _TRANSITIONS[self.state, event]
