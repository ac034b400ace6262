"""Relay candidates: what one side tells the other about its relays (RFC 8445, section 5.1)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from relaycall.errors import RecordRefused
from relaycall.stun.address import Address, is_public_unicast

MAX_CANDIDATES = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A relayed address, in the shape of `aioice.Candidate`. It has no related address: that one is private.

    `leg` is its owner's round trip to the relay in seconds, 0 for unknown.
    """

    foundation: str
    component: int
    transport: str
    priority: int
    host: str
    port: int
    type: str = "relay"
    related_address: str | None = None
    related_port: int | None = None
    tcptype: str | None = None
    generation: int | None = None
    leg: float = 0.0

    @property
    def address(self) -> Address:
        """Where to send."""
        return Address(self.host, self.port)

    def __repr__(self) -> str:
        return f"<{self.type} candidate>"


def candidate(relayed: Address, index: int, salt: bytes, leg: float = 0.0) -> Candidate:
    """The candidate for our allocation number `index`; earlier ones are preferred (RFC 8445, section 5.1.2).

    The foundation is salted per call: aiortc's plain hash of the relay's address would link calls.
    """
    foundation = hashlib.sha256(salt + relayed.host.encode()).hexdigest()[:16]
    return Candidate(foundation, 1, "udp", priority(index), relayed.host, relayed.port, leg=leg)


def priority(index: int) -> int:
    """Type preference 0 (relay), local preference falling with the index, component 1."""
    return (65535 - index) << 8 | 255


def accept_address(host: str, port: int, *, laboratory: bool) -> Address:
    """Check an address that a peer calls its relay's.

    Raises:
        RecordRefused: not an IP literal, a port below 1024, or not a public unicast address. Relays have been used to
            reach private networks behind them through such candidates.
    """
    try:
        address = Address.parse(host, port)
    except ValueError:
        raise RecordRefused("a candidate is not an IP address and a port") from None
    if port < 1024:
        raise RecordRefused("a candidate's port is below 1024")
    if not laboratory and not is_public_unicast(address.host):
        raise RecordRefused("a candidate's address is not a public one")
    return address


def is_acceptable(address: Address, *, laboratory: bool) -> bool:
    """Whether `accept_address` takes it."""
    try:
        accept_address(address.host, address.port, laboratory=laboratory)
    except RecordRefused:
        return False
    return True
