"""What a signaling server lets its clients do, without I/O: numbers, and token buckets that hold to them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

ADDRESSES = 16384  # whose rate is known; who was away longest is forgotten first


@dataclass(frozen=True, slots=True)
class Limits:
    """What is allowed. Each has a defined reply, which stands behind it.

    Attributes:
        connections: in all. 503.
        connections_per_address: 429.
        rate, burst: envelopes a second from one connection, and at once. ANSWER with RATE_LIMITED, and when to retry.
        address_rate, address_burst: envelopes, proofs and requests a second from one address, and at once. The same,
            or 429.
        nameplate_rate, nameplate_burst: nameplates allocated or claimed a second by one connection, and at once.
            NAMEPLATE with RATE_LIMITED, and when to retry. Who may claim often can use up the codes of others.
        address_nameplate_rate, address_nameplate_burst: the same, of one address.
        frame_rate, frame_burst: frames of any kind a second on one WebSocket. Closed with 4429.
        header_timeout: seconds from a connection to its first request. Closed.
        idle_timeout: seconds between two requests of one connection. Closed.
        body_timeout: seconds for a request's body. 408.
        silence: seconds without a byte from a WebSocket's client, which pings every 15. Closed.
        claim_timeout: seconds for the proof on a WebSocket. Closed with 4408.
        poll: seconds for which a poll waits. NOTHING.
    """

    connections: int = 10000
    connections_per_address: int = 256
    rate: float = 20.0
    burst: int = 128
    address_rate: float = 200.0
    address_burst: int = 1024
    nameplate_rate: float = 0.1
    nameplate_burst: int = 5
    address_nameplate_rate: float = 0.2
    address_nameplate_burst: int = 20
    frame_rate: float = 200.0
    frame_burst: int = 1024
    header_timeout: float = 10.0
    idle_timeout: float = 45.0
    body_timeout: float = 10.0
    silence: float = 40.0
    claim_timeout: float = 10.0
    poll: float = 25.0


@dataclass(slots=True)
class Bucket:
    """A token bucket: `burst` at once, `rate` a second.

    Args:
        now: seconds; it is full then.
    """

    rate: float
    burst: float
    now: float
    _level: float = field(default=-1.0, init=False)

    def __post_init__(self) -> None:
        self._level = self.burst

    def take(self, now: float) -> float:
        """Take one. Returns 0, or after how many seconds there would be one."""
        self._level = min(self.burst, self._level + (now - self.now) * self.rate)
        self.now = now
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self.rate


class AddressBuckets:
    """A bucket for each address; of IPv6, for each network of 64 bits, which is what one customer has."""

    def __init__(self, rate: float, burst: float, addresses: int = ADDRESSES) -> None:
        self._rate = rate
        self._burst = burst
        self._addresses = addresses
        self._buckets: dict[str, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: str, now: float) -> float:
        """Take one for a source, as `source_of` gives it. Returns 0, or after how many seconds there would be one."""
        bucket = self._buckets.pop(source, None) or Bucket(self._rate, self._burst, now)
        self._buckets[source] = bucket
        if len(self._buckets) > self._addresses:
            del self._buckets[next(iter(self._buckets))]
        return bucket.take(now)


def source_of(address: str) -> str:
    """What an address counts as: itself, or its network of 64 bits. What is no address counts as one source."""
    try:
        parsed = ipaddress.ip_address(address.strip().partition("%")[0])
    except ValueError:
        return ""
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
