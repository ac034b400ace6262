"""What a TURN client tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from relaycall.errors import RelayError
from relaycall.stun.address import Address


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
class Answered:
    """The relay answered a ping after `rtt` seconds. It is not authenticated: nothing but time is learnt from it."""

    rtt: float


@dataclass(frozen=True, slots=True)
class Stranger:
    """A STUN message from the relay of a peer, but from another port there: the peer may have allocated anew."""

    source: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The allocation was deleted, or the second for doing so is over."""


Event = Allocated | Answered | Failed | Suspected | PeerRefused | Stranger | Closed
