"""A TURN client for one allocation on one relay (RFC 8656), without I/O.

How it works. `start` sends an Allocate; the relay's 401 gives realm and nonce, the second Allocate is authenticated.
An allocation is then kept by a Refresh at three quarters of its lifetime. Each peer address gets a channel at once:
ChannelBind also installs the permission, and is repeated every 240 s, inside the 300 s of a permission, in the
background. Until the relay has answered the bind, packets go as Send indications right behind it, so nothing waits a
round trip; should a relay refuse channels, CreatePermission and Send indications are used for good.

Nothing is ever sent to a peer that was not added, and nothing is taken from one, but for one thing: a STUN message
from the host of an added peer is told as `Stranger`, since a peer whose relay restarted comes back from another port.

Bytes to send collect in `outgoing`, events in `events`; the owner empties both after every call, and calls
`handle_timeout` when `next_timeout()` has come.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from relaycall.errors import (
    MalformedMessage,
    RelayBusy,
    RelayError,
    RelayForbidden,
    RelayForbiddenPeer,
    RelayForgot,
    RelayLied,
    RelayLost,
    RelayNotTurn,
    RelayRefusedCredentials,
    RelayTimeout,
    RelayUnsupported,
)
from relaycall.redact import Secret
from relaycall.stun import attributes as a
from relaycall.stun.address import IPV4, Address, is_public_unicast
from relaycall.stun.framing import CHANNEL_MIN
from relaycall.stun.message import Class, Message, Method, decode
from relaycall.stun.transactions import Pairs, Transactions
from relaycall.stun.turn_events import Allocated, Answered, Closed, Event, Failed, PeerRefused, Stranger, Suspected
from relaycall.stun.turn_state import TRANSITIONS, State

UDP = 17  # REQUESTED-TRANSPORT: the protocol between relay and peer

LIFETIME_MIN, LIFETIME_MAX = 60, 3600
BIND_INTERVAL = 240.0  # seconds; a permission lives 300 (RFC 8656, section 9)
ALLOCATE_DEADLINE = 4.5
REQUEST_DEADLINE = 15.0
VERIFY_DEADLINE = 2.0
SILENT_DEADLINE = 8.0  # for a relay that is merely silent: the network may be out, and everything come back with it
CLOSE_DEADLINE = 1.0
MAX_PEERS = 64  # at a time
MAX_CHANNELS = 4096  # ever; a channel is not used for a second peer (RFC 8656, section 12)
MAX_PAYLOAD = 65000  # bytes, so that every header's length field holds it


_LOSSES: dict[type[RelayError], str] = {
    RelayTimeout: "it stopped answering",
    RelayRefusedCredentials: "it no longer accepts the credentials",
}


@dataclass(slots=True)
class _Peer:
    channel: int
    head: int = 0  # the channel shifted to where the header wants it; 0 until bound
    renew_at: float = 0.0
    without_channel: bool = False


class TurnClient:
    """One allocation.

    Args:
        relay: the relay's name for errors (its URI).
        username, password: long-term credentials; with None only a relay's refusal can be had.
        random: gives that many random bytes.
        family: 0x01 or 0x02, the family of the relayed address wanted.
        reliable: whether the connection to the relay is a stream: then nothing is retransmitted.
        laboratory: accept relayed addresses that are not public.

    Attributes:
        local: our own end of the connection, to recognise a relay that hands it back as a relayed address.
        dropped: what was received and not believed, by reason.
    """

    def __init__(
        self,
        *,
        relay: str,
        username: str | None,
        password: Secret | None,
        random: Callable[[int], bytes],
        family: int = IPV4,
        reliable: bool = False,
        laboratory: bool = False,
    ) -> None:
        self.state = State.NEW
        self.local: Address | None = None
        self.events: deque[Event] = deque()
        self._relay = relay
        self._random = random
        self._family = family
        self._reliable = reliable
        self._laboratory = laboratory
        self._transactions = Transactions(relay, username, password, random, reliable)
        self._peers: dict[Address, _Peer] = {}
        self._channels: dict[int, Address] = {}
        self._numbers: dict[Address, int] = {}
        self._refresh_at = float("inf")
        self._verifying = self._asking = False
        self._pinged: tuple[bytes, float] | None = None

    @property
    def outgoing(self) -> deque[bytes]:
        """Datagrams to send."""
        return self._transactions.outgoing

    @property
    def dropped(self) -> Counter[str]:
        """What was received and not believed, by reason."""
        return self._transactions.dropped

    # --- what the owner calls -----------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Ask for the allocation. The answer comes as `Allocated` or `Failed`, at most 4.5 s later."""
        self._to("start")
        wanted: Pairs = [a.REQUESTED_TRANSPORT(UDP)]
        if self._family != IPV4:
            wanted.append(a.REQUESTED_ADDRESS_FAMILY(self._family))
        self._transactions.request(
            Method.ALLOCATE, wanted, now, ALLOCATE_DEADLINE, self._allocated, self._not_allocated
        )

    def ping(self, now: float) -> None:
        """Ask for nothing but an answer (Binding, RFC 8489, section 3), once. It comes as `Answered`, or never."""
        tid = self._random(12)
        self._pinged = tid, now
        self.outgoing.append(Message(Method.BINDING, Class.REQUEST, tid, []).encode())

    def add_peer(self, peer: Address, now: float) -> None:
        """Bind a channel to this peer, so that packets pass both ways. Adding it again does nothing.

        Raises ValueError for a peer of the other address family, and beyond 64 peers at a time.
        """
        if peer in self._peers or self.state is not State.ALLOCATED:
            return
        full = len(self._peers) >= MAX_PEERS or (peer not in self._numbers and len(self._numbers) >= MAX_CHANNELS)
        if peer.family != self._family or full:
            raise ValueError("this peer cannot be added")
        # A peer that comes back gets its channel back: the relay may still have it bound.
        channel = self._numbers.setdefault(peer, CHANNEL_MIN + len(self._numbers))
        self._peers[peer] = _Peer(channel)
        self._channels[channel] = peer
        self._bind(peer, now)

    def remove_peer(self, peer: Address) -> None:
        """Take and send nothing more from and to this peer; the relay forgets it by itself."""
        found = self._peers.pop(peer, None)
        if found is not None:
            self._channels.pop(found.channel, None)

    def frame(self, peer: Address, data: bytes) -> bytes:
        """The message that carries `data` to `peer`; a stream's socket pads it.

        Raises KeyError for a peer that was not added: packets go to named peers or nowhere; and ValueError beyond
        65,000 bytes.
        """
        if len(data) > MAX_PAYLOAD:
            raise ValueError("the packet is too long")
        head = self._peers[peer].head
        if head:
            return (head | len(data)).to_bytes(4, "big") + data
        tid = self._random(12)
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
        elif self._pinged is not None and message.transaction_id == self._pinged[0]:
            self.events.append(Answered(now - self._pinged[1]))
            self._pinged = None
        else:
            self._transactions.receive(message, now)
        return None

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        at = self._transactions.next_timeout()
        if self.state is State.ALLOCATED:
            at = min(at, self._refresh_at, *(peer.renew_at for peer in self._peers.values()))
        return at

    def handle_timeout(self, now: float) -> None:
        """Retransmit, give up, refresh, rebind: whatever is due."""
        self._transactions.handle_timeout(now)
        if self.state is not State.ALLOCATED:
            return
        if now >= self._refresh_at:
            self._refresh_at = float("inf")
            self._transactions.request(Method.REFRESH, [], now, REQUEST_DEADLINE, self._refreshed, self._lose)
        for peer, entry in self._peers.items():
            if now >= entry.renew_at:
                self._bind(peer, now)

    def connection_lost(self, error: RelayError, now: float) -> None:
        """The socket reported a refusal (ICMP), a reset or the end of the stream.

        A stream is gone then. For UDP it is a hint that anybody may have forged and that may pass (RFC 8489, section
        6.2.1): `Suspected` tells it at once, and a Refresh has two seconds to prove it wrong.
        """
        if self.state is State.ALLOCATED and not self._reliable:
            if not self._verifying:
                self._verifying = True
                self.events.append(Suspected(error))
                self._transactions.request(Method.REFRESH, [], now, VERIFY_DEADLINE, self._refreshed, self._lose)
        elif self.state is State.ALLOCATED:
            self._lose(error, now)
        elif self.state is State.ALLOCATING and isinstance(error, RelayLost):
            self._fail(RelayNotTurn(self._relay, error.detail))
        elif self.state is not State.CLOSED:
            self._fail(error)

    def verify(self, now: float) -> None:
        """Ask the relay whether it still knows the allocation: nothing was heard through it. It has eight seconds."""
        if self.state is State.ALLOCATED and not self._asking:
            self._asking = True
            self._transactions.request(Method.REFRESH, [], now, SILENT_DEADLINE, self._refreshed, self._lose)

    def close(self, now: float) -> None:
        """Delete the allocation. `Closed` comes with the relay's answer, or after one second without."""
        before = self.state
        if before in (State.CLOSING, State.CLOSED):
            return
        self._to("close")
        self._forget()
        if before is not State.NEW and self._transactions.key is not None:
            gone = lambda *_: self._closed()  # noqa: E731 - whatever the answer, it is over
            self._transactions.request(Method.REFRESH, [a.LIFETIME(0)], now, CLOSE_DEADLINE, gone, gone)
        else:
            self._closed()

    # --- what answers mean --------------------------------------------------------------------------------------------

    def _allocated(self, message: Message, now: float, rtt: float) -> None:
        relayed, mapped = message.get(a.XOR_RELAYED_ADDRESS), message.get(a.XOR_MAPPED_ADDRESS)
        if relayed is None:
            self._fail(RelayLied(self._relay, "it named no relayed address"))
        elif relayed.family != self._family:
            self._fail(RelayUnsupported(self._relay, "it gave the other address family"))
        elif self._is_ours(relayed, mapped):
            self._fail(RelayLied(self._relay, "its relayed address is this machine's own"))
        elif relayed.port < 1024 or not (self._laboratory or is_public_unicast(relayed.host)):
            self._fail(RelayLied(self._relay, "its relayed address is not a public one"))
        else:
            self._to("allocated")
            self._transactions.trusted = True
            self.events.append(Allocated(relayed, self._keep_for(message, now), rtt))

    def _not_allocated(self, error: RelayError, _now: float) -> None:
        if isinstance(error, RelayTimeout) and self.dropped.total() and not self._transactions.answered:
            error = RelayNotTurn(self._relay)
        self._fail(error)

    def _is_ours(self, relayed: Address, mapped: Address | None) -> bool:
        own = [address for address in (self.local, mapped) if address is not None]
        if self._laboratory:  # relay and client may share a host there
            return relayed in own
        return any(relayed.host == address.host for address in own)

    def _keep_for(self, message: Message, now: float) -> int:
        lifetime = min(max(message.get(a.LIFETIME) or 0, LIFETIME_MIN), LIFETIME_MAX)
        self._refresh_at = now + lifetime * 0.75
        return lifetime

    def _refreshed(self, message: Message, now: float, _rtt: float) -> None:
        self._verifying = self._asking = False
        self._keep_for(message, now)

    def _bind(self, peer: Address, now: float) -> None:
        entry = self._peers[peer]
        entry.renew_at = now + BIND_INTERVAL
        if entry.without_channel:
            self._permit(peer, entry, now)
            return

        def bound(_message: Message, _now: float, _rtt: float) -> None:
            entry.head = entry.channel << 16

        def refused(error: RelayError, at: float) -> None:
            if self._still(peer, entry, error, at):  # no channels here: Send and Data indications do as well
                entry.without_channel = True
                entry.head = 0
                self._permit(peer, entry, at)

        wanted = [a.CHANNEL_NUMBER(entry.channel), a.XOR_PEER_ADDRESS(peer)]
        self._transactions.request(Method.CHANNEL_BIND, wanted, now, REQUEST_DEADLINE, bound, refused)

    def _permit(self, peer: Address, entry: _Peer, now: float) -> None:
        def refused(error: RelayError, at: float) -> None:
            if self._still(peer, entry, error, at):
                self._refuse_peer(peer)

        wanted = [a.XOR_PEER_ADDRESS(peer)]
        self._transactions.request(Method.CREATE_PERMISSION, wanted, now, REQUEST_DEADLINE, lambda *_: None, refused)

    def _still(self, peer: Address, entry: _Peer, error: RelayError, now: float) -> bool:
        """Whether after this error the peer may yet be reached in another way; if not, what follows is done."""
        if self._peers.get(peer) is not entry:
            return False  # removed meanwhile
        if isinstance(error, RelayForbidden):
            self._refuse_peer(peer)
            return False
        if isinstance(error, RelayBusy | RelayTimeout | RelayRefusedCredentials):
            self._lose(error, now)
            return False
        return True

    def _refuse_peer(self, peer: Address) -> None:
        self.remove_peer(peer)
        self.events.append(PeerRefused(peer, RelayForbiddenPeer(self._relay)))

    def _indication(self, message: Message) -> tuple[Address, bytes] | None:
        peer, data = message.get(a.XOR_PEER_ADDRESS), message.get(a.DATA)
        if message.method is not Method.DATA or message.unknown or peer is None or data is None:
            self.dropped["indication"] += 1
            return None
        if peer in self._peers:
            return peer, data
        if data and data[0] < 4 and any(peer.host == known.host for known in self._peers):
            self.events.append(Stranger(peer, data))
        else:
            self.dropped["unknown_peer"] += 1
        return None

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _lose(self, error: RelayError, _now: float) -> None:
        if isinstance(error, RelayBusy):
            error = RelayForgot(self._relay)
        elif not isinstance(error, RelayLost):
            error = RelayLost(self._relay, _LOSSES.get(type(error), error.code))
        self._fail(error)

    def _fail(self, error: RelayError) -> None:
        closing = self.state is State.CLOSING
        self._to("fail")
        self._forget()
        self.events.append(Closed() if closing else Failed(error))

    def _closed(self) -> None:
        if self.state is State.CLOSING:
            self._to("closed")
        self._forget()
        self.events.append(Closed())

    def _forget(self) -> None:
        self._transactions.clear()
        self._peers.clear()
        self._channels.clear()

    def _to(self, event: str) -> None:
        self.state = TRANSITIONS[self.state, event]
