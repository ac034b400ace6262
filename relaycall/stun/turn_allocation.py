"""What one client holds on a TURN server: a relayed socket, permissions, channels (RFC 8656, sections 8 to 12).

Without I/O: the relayed socket is handed in. Requests answer with the attributes of a success, or an error code; what
is over by then is to be forgotten first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.framing import CHANNEL_MAX, CHANNEL_MIN
from relaycall.stun.message import Class, Message, Method
from relaycall.stun.turn_auth import Login

PERMISSION_LIFETIME = 300.0
CHANNEL_LIFETIME = 600.0
MAX_PEERS = 256  # permissions, and channels, of one allocation
MAX_PAYLOAD = 2048  # bytes taken from a peer at once; WebRTC stays below 1500

Source = tuple[Any, ...]
Attributes = Sequence[tuple[a.Attribute[Any], Any]]


class RelayedSocket(Protocol):
    """A UDP socket for the peers of one allocation. `address` is where peers reach it."""

    address: Address
    allocation: Allocation | None

    def send(self, data: bytes, peer: Address) -> bool:
        """Send a datagram; never wait, never raise. False when it could not go at once, and is lost."""

    def close(self) -> None:
        """Close it; never raise."""


@dataclass(slots=True)
class Channel:
    """A channel number bound to a peer; `head` starts its ChannelData."""

    peer: Address
    head: bytes
    expires: float


@dataclass(slots=True, repr=False, eq=False)
class Allocation:
    """One allocation.

    Attributes:
        source: the client's.
        login: who made it.
        transaction_id, granted: of the Allocate, to answer its retransmissions alike.
        expires: monotonic seconds.
        may_reach: whether packets may be exchanged with this host.
    """

    source: Source
    login: Login
    relayed: RelayedSocket
    transaction_id: bytes
    granted: Attributes
    expires: float
    may_reach: Callable[[str], bool]
    _permissions: dict[str, float] = field(default_factory=dict)
    _channels: dict[int, Channel] = field(default_factory=dict)
    _by_peer: dict[Source, Channel] = field(default_factory=dict)

    # --- packets ------------------------------------------------------------------------------------------------------

    def from_channel(self, data: bytes, now: float) -> bool:
        """Relay a ChannelData message of at least four bytes to its peer. False when it is dropped."""
        channel = self._channels.get(data[0] << 8 | data[1])
        end = 4 + (data[2] << 8 | data[3])
        if channel is None or channel.expires <= now or len(data) < end or self.expires <= now:
            return False
        return self.relayed.send(data[4:end], channel.peer)

    def from_indication(self, message: Message, now: float) -> bool:
        """Relay the payload of a Send indication to its peer. False when it is dropped."""
        peer, data = message.get(a.XOR_PEER_ADDRESS), message.get(a.DATA)
        if peer is None or data is None or not peer.port or message.unknown or message.has(a.DONT_FRAGMENT):
            return False
        if self._permissions.get(peer.host, now) <= now or self.expires <= now:
            return False
        return self.relayed.send(data, peer)

    def from_peer(self, data: bytes, peer: Source, now: float, random: Callable[[int], bytes]) -> bytes | None:
        """What the client gets of this datagram: ChannelData, a Data indication, or nothing."""
        if self.expires <= now or len(data) > MAX_PAYLOAD:
            return None
        channel = self._by_peer.get(peer)
        if channel is not None and channel.expires > now:
            return channel.head + len(data).to_bytes(2, "big") + data
        if self._permissions.get(peer[0], now) <= now:
            return None
        attributes = [a.XOR_PEER_ADDRESS(Address(*peer)), a.DATA(data)]
        return Message(Method.DATA, Class.INDICATION, random(12), attributes).encode()

    # --- requests -----------------------------------------------------------------------------------------------------

    def create_permission(self, request: Message, now: float) -> Attributes | int:
        """Section 10.2: all of the peers, or none."""
        peers = request.all(a.XOR_PEER_ADDRESS)
        if not peers:
            return 400
        for peer in peers:
            refused = self._refused(peer)
            if refused:
                return refused
        return self._permit({peer.host for peer in peers}, now)

    def channel_bind(self, request: Message, now: float) -> Attributes | int:
        """Section 12.2."""
        number, peer = request.get(a.CHANNEL_NUMBER), request.get(a.XOR_PEER_ADDRESS)
        if number is None or peer is None or not CHANNEL_MIN <= number <= CHANNEL_MAX or not peer.port:
            return 400
        channel = self._channels.get(number)
        if channel is not self._by_peer.get(peer):
            return 400  # the number has another peer, or the peer another number
        refused = self._refused(peer)
        if refused:
            return refused
        if channel is None and len(self._channels) >= MAX_PEERS:
            return 508
        result = self._permit({peer.host}, now)
        if isinstance(result, int):
            return result
        if channel is None:
            channel = Channel(peer, number.to_bytes(2, "big"), 0.0)
            self._channels[number] = self._by_peer[peer] = channel
        channel.expires = now + CHANNEL_LIFETIME
        return result

    def forget_expired(self, now: float) -> None:
        """Free the permissions and channels that are over."""
        self._permissions = {host: expires for host, expires in self._permissions.items() if expires > now}
        self._channels = {number: channel for number, channel in self._channels.items() if channel.expires > now}
        self._by_peer = {channel.peer: channel for channel in self._channels.values()}

    def _permit(self, hosts: set[str], now: float) -> Attributes | int:
        if len(hosts | self._permissions.keys()) > MAX_PEERS:
            return 508
        self._permissions.update(dict.fromkeys(hosts, now + PERMISSION_LIFETIME))
        return ()

    def _refused(self, peer: Address) -> int:
        """The code to refuse this peer with, or 0."""
        if peer.family != self.relayed.address.family:
            return 443
        return 0 if self.may_reach(peer.host) else 403
