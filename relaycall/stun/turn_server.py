"""A TURN server (RFC 8656), without I/O.

How it works. What a client sends goes into `receive`, which gives the bytes to answer with, if any; what a peer sends
goes into `from_peer`, which gives the bytes for the client, if any. A client is known by its `source`: a tuple that
begins with host and port, and is unique among all clients of all transports. Relayed sockets are opened through a
function handed in, and written to and closed by this class.

An allocation lives until its lifetime ends, a Refresh with lifetime 0, or the loss of its connection. A permission
lives 300 s, a channel 600 s; a living channel lets its peer's packets in without a permission of its own, as in coturn,
because clients exist that keep only their channels. `expire` frees what is over; call it about once a second. Nothing
that is over is honoured even before that.

Strangers cost no memory: nothing is kept of a request that is not authenticated.

Not supported, and refused with the codes RFC 8656 has for it: TCP to the peer (442), DONT-FRAGMENT (420), a second
address family on one allocation (440 in ADDRESS-ERROR-CODE).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from relaycall.errors import MalformedMessage
from relaycall.stun import attributes as a
from relaycall.stun.address import IPV4, IPV6, Address, is_public_unicast
from relaycall.stun.message import Class, Message, Method, decode
from relaycall.stun.turn_allocation import Allocation, Attributes, RelayedSocket, Source
from relaycall.stun.turn_auth import Authenticator, Login

UDP = 17  # REQUESTED-TRANSPORT: the protocol between relay and peer
RESERVATION_LIFETIME = 30.0

_REASONS = {
    400: "Bad Request",
    401: "Unauthenticated",
    403: "Forbidden",
    420: "Unknown Attribute",
    437: "Allocation Mismatch",
    438: "Stale Nonce",
    440: "Address Family not Supported",
    441: "Wrong Credentials",
    442: "Unsupported Transport Protocol",
    443: "Peer Address Family Mismatch",
    486: "Allocation Quota Reached",
    508: "Insufficient Capacity",
}
_METHODS = {Method.ALLOCATE, Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND}


class OpenSockets(Protocol):
    """Opens a relayed socket: `even` asks for an even port, `pair` for a second one on the next port.

    Returns none when that is not possible.
    """

    def __call__(self, family: int, *, even: bool, pair: bool) -> Sequence[RelayedSocket]: ...


@dataclass(slots=True)
class Counters:
    """What happened since the start.

    Attributes:
        allocations: granted.
        refused: requests answered with an error, but for those only asked for credentials or for a fresh nonce.
        to_peers, to_clients: datagrams relayed; the latter counted by the owner, who sends them.
        dropped: datagrams given up: no permission, channel or allocation, a full buffer, too long.
        malformed: not STUN, ChannelData, or a stream of them.
    """

    allocations: int = 0
    refused: int = 0
    to_peers: int = 0
    to_clients: int = 0
    dropped: int = 0
    malformed: int = 0


@dataclass(slots=True, repr=False, eq=False)
class _Reservation:
    """The odd port next to an allocation's even one (RFC 8656, section 7.2)."""

    relayed: RelayedSocket
    account: str
    expires: float


class TurnServer:
    """The server.

    Args:
        authenticator: who may allocate.
        open_sockets: opens relayed sockets.
        families: the address families (1 IPv4, 2 IPv6) it can open sockets of.
        random: gives that many random bytes.
        lifetime: seconds an allocation gets when it asks for no more.
        max_lifetime: seconds it gets at most.
        user_quota: allocations and reserved ports one account may hold; 486 beyond.
        total_quota: the same for all together; 508 beyond.
        laboratory: allows peers that are not public addresses; multicast, broadcast and 0.0.0.0 never are.

    Attributes:
        counters: what happened so far.
        allocations: by source.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        open_sockets: OpenSockets,
        families: frozenset[int],
        random: Callable[[int], bytes],
        lifetime: int = 600,
        max_lifetime: int = 3600,
        user_quota: int | None = None,
        total_quota: int | None = None,
        laboratory: bool = False,
    ) -> None:
        self.counters = Counters()
        self.allocations: dict[Source, Allocation] = {}
        self._reservations: dict[bytes, _Reservation] = {}
        self._authenticator = authenticator
        self._open_sockets = open_sockets
        self._families = families
        self._random = random
        self._lifetime = lifetime
        self._max_lifetime = max_lifetime
        self._user_quota = user_quota
        self._total_quota = total_quota
        self._may_reach = _is_one_host if laboratory else is_public_unicast

    # --- packets ------------------------------------------------------------------------------------------------------

    def receive(self, source: Source, data: bytes, now: float) -> bytes | None:
        """Take one message from a client, any bytes; give the answer to it, if there is one.

        Args:
            data: a datagram, or one message that a StreamFramer cut out.
            now: monotonic seconds.
        """
        if len(data) >= 4 and data[0] >> 4 == 4:
            allocation = self.allocations.get(source)
            self._count(allocation is not None and allocation.from_channel(data, now))
            return None
        try:
            message = decode(data)
        except MalformedMessage:
            self.counters.malformed += 1
            return None
        if message.kind is Class.REQUEST and message.method is Method.BINDING:
            return self._binding(message, source)
        if message.kind is Class.REQUEST and message.method in _METHODS:
            return self._request(message, source, now)
        if message.kind is Class.INDICATION and message.method is Method.SEND:
            allocation = self.allocations.get(source)
            self._count(allocation is not None and allocation.from_indication(message, now))
        else:
            self.counters.dropped += 1
        return None

    def from_peer(self, allocation: Allocation | None, data: bytes, peer: Source, now: float) -> bytes | None:
        """Take one datagram that came to a relayed socket; give what its client gets (sections 11.3 and 12.7).

        Args:
            allocation: the socket's.
            peer: host and port.
        """
        message = None if allocation is None else allocation.from_peer(data, peer, now, self._random)
        if message is None:
            self.counters.dropped += 1
        return message

    def _count(self, relayed: bool) -> None:
        if relayed:
            self.counters.to_peers += 1
        else:
            self.counters.dropped += 1

    # --- ends ---------------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Free everything that is over by `now`."""
        for allocation in [found for found in self.allocations.values() if found.expires <= now]:
            self._delete(allocation)
        for token in [token for token, found in self._reservations.items() if found.expires <= now]:
            self._reservations.pop(token).relayed.close()
        for allocation in self.allocations.values():
            allocation.forget_expired(now)

    def disconnected(self, source: Source) -> None:
        """The client's connection is gone, and with it its allocation."""
        allocation = self.allocations.get(source)
        if allocation is not None:
            self._delete(allocation)

    def close(self) -> None:
        """Free everything."""
        self.expire(float("inf"))

    def _delete(self, allocation: Allocation) -> None:
        del self.allocations[allocation.source]
        allocation.relayed.allocation = None
        allocation.relayed.close()

    # --- requests -----------------------------------------------------------------------------------------------------

    def _binding(self, request: Message, source: Source) -> bytes:
        """STUN's own request: the client's address as seen from here."""
        if request.unknown:
            return self._refuse(request, 420, [a.UNKNOWN_ATTRIBUTES(request.unknown)])
        mapped = [a.XOR_MAPPED_ADDRESS(Address(*source[:2]))]
        answer = Message(request.method, Class.SUCCESS, request.transaction_id, mapped)
        return answer.encode(fingerprint=request.has(a.FINGERPRINT))

    def _request(self, request: Message, source: Source, now: float) -> bytes:
        allocation = self.allocations.get(source)
        known = allocation.login if allocation is not None and allocation.expires > now else None
        login = self._authenticator.check(request, source, now, known)
        if login == 400:
            return self._refuse(request, 400)
        if isinstance(login, int):
            if login == 401 and request.integrity_at:
                self.counters.refused += 1
            return self._error(request, login, self._authenticator.challenge(source, now), None)
        self.expire(now)
        allocation = self.allocations.get(source)
        unknown = (*request.unknown, a.DONT_FRAGMENT.type) if request.has(a.DONT_FRAGMENT) else request.unknown
        if unknown:
            return self._refuse(request, 420, [a.UNKNOWN_ATTRIBUTES(unknown)], login)
        if request.method is Method.ALLOCATE:
            result = self._allocate(request, source, allocation, login, now)
        elif allocation is None:
            result = 437
        elif allocation.login.username != login.username:
            result = 441
        elif request.method is Method.REFRESH:
            result = self._refresh(request, allocation, now)
        elif request.method is Method.CREATE_PERMISSION:
            result = allocation.create_permission(request, now)
        else:
            result = allocation.channel_bind(request, now)
        if isinstance(result, int):
            return self._refuse(request, result, (), login)
        answer = Message(request.method, Class.SUCCESS, request.transaction_id, result)
        return answer.encode(login.key, sha256=login.sha256)

    def _refuse(self, request: Message, code: int, attributes: Attributes = (), login: Login | None = None) -> bytes:
        self.counters.refused += 1
        return self._error(request, code, attributes, login)

    def _error(self, request: Message, code: int, attributes: Attributes, login: Login | None) -> bytes:
        found = [a.ERROR_CODE(a.ErrorCode(code, _REASONS[code])), *attributes]
        error = Message(request.method, Class.ERROR, request.transaction_id, found)
        return error.encode() if login is None else error.encode(login.key, sha256=login.sha256)

    def _allocate(
        self, request: Message, source: Source, allocation: Allocation | None, login: Login, now: float
    ) -> Attributes | int:
        """RFC 8656, section 7.2."""
        if allocation is not None:
            if allocation.transaction_id == request.transaction_id and allocation.login.username == login.username:
                return allocation.granted  # the answer was lost
            return 437
        transport = request.get(a.REQUESTED_TRANSPORT)
        if transport != UDP:
            return 400 if transport is None else 442
        token, even = request.get(a.RESERVATION_TOKEN), request.get(a.EVEN_PORT)
        family, additional = request.get(a.REQUESTED_ADDRESS_FAMILY), request.get(a.ADDITIONAL_ADDRESS_FAMILY)
        if token is not None and (even is not None or family is not None or additional is not None):
            return 400
        if additional is not None and (additional != IPV6 or family is not None or even):
            return 400

        extra: list[tuple[a.Attribute[Any], Any]] = []
        if token is not None:
            reservation = self._reservations.get(token)
            if reservation is None or reservation.account != login.account:
                return 508
            relayed = self._reservations.pop(token).relayed
        else:
            family = IPV4 if family is None else family
            if family not in self._families:
                return 440
            refused = self._over_quota(login.account, 2 if even else 1)
            if refused:
                return refused
            sockets = self._open_sockets(family, even=even is not None, pair=bool(even))
            if not sockets:
                return 508
            relayed = sockets[0]
            if even:
                token = self._random(8)
                self._reservations[token] = _Reservation(sockets[1], login.account, now + RESERVATION_LIFETIME)
                extra.append(a.RESERVATION_TOKEN(token))
            if additional is not None:
                extra.append(a.ADDRESS_ERROR_CODE((IPV6, a.ErrorCode(440, _REASONS[440]))))
        lifetime = self._granted_lifetime(request)
        mapped = Address(*source[:2])
        granted = [a.XOR_RELAYED_ADDRESS(relayed.address), a.LIFETIME(lifetime), a.XOR_MAPPED_ADDRESS(mapped), *extra]
        made = Allocation(source, login, relayed, request.transaction_id, granted, now + lifetime, self._may_reach)
        self.allocations[source] = relayed.allocation = made
        self.counters.allocations += 1
        return granted

    def _over_quota(self, account: str, wanted: int) -> int:
        """The code to refuse with when this many more sockets are too many, or 0."""
        holders = [found.login.account for found in self.allocations.values()]
        holders += [found.account for found in self._reservations.values()]
        if self._user_quota is not None and holders.count(account) + wanted > self._user_quota:
            return 486
        if self._total_quota is not None and len(holders) + wanted > self._total_quota:
            return 508
        return 0

    def _refresh(self, request: Message, allocation: Allocation, now: float) -> Attributes | int:
        """RFC 8656, section 8.2."""
        family = request.get(a.REQUESTED_ADDRESS_FAMILY)
        if family is not None and family != allocation.relayed.address.family:
            return 443
        if request.get(a.LIFETIME) == 0:
            self._delete(allocation)
            return [a.LIFETIME(0)]
        lifetime = self._granted_lifetime(request)
        allocation.expires = now + lifetime
        return [a.LIFETIME(lifetime)]

    def _granted_lifetime(self, request: Message) -> int:
        return min(max(request.get(a.LIFETIME) or 0, self._lifetime), self._max_lifetime)


def _is_one_host(host: str) -> bool:
    """What even a laboratory keeps out: addresses that are not one host's."""
    ip = ipaddress.ip_address(host)
    return not (ip.is_multicast or ip.is_unspecified or host == "255.255.255.255")
