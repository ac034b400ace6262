"""Transport addresses: IP literals only, canonical, and silent in logs."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple

IPV4 = 0x01
IPV6 = 0x02

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Address(NamedTuple):
    """An IP address and a port. Use `parse` on anything from outside: it makes the host canonical.

    `repr` and `str` show nothing (an address in a log is what this library exists to prevent); `text()` shows it.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, host: str, port: int) -> Address:
        """Check and canonicalise. Raises ValueError for anything but an IP literal and a port of 0 to 65535."""
        if not 0 <= port <= 65535:
            raise ValueError("port out of range")
        ip = ipaddress.ip_address(host)
        if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None:
            raise ValueError("scoped addresses are not transport addresses")
        return cls(str(ip), port)

    @property
    def family(self) -> int:
        """0x01 for IPv4, 0x02 for IPv6: the numbers STUN uses (RFC 8489, section 14.1)."""
        return IPV6 if ":" in self.host else IPV4

    def text(self) -> str:
        """`192.0.2.1:3478` or `[2001:db8::1]:3478`, for places that mean to show it."""
        return f"[{self.host}]:{self.port}" if self.family == IPV6 else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return "<address>"

    def __str__(self) -> str:
        return "<address>"

    def __format__(self, _spec: str) -> str:
        return "<address>"


@lru_cache(maxsize=1024)
def is_public_unicast(host: str) -> bool:
    """Whether packets to this IP literal go to one host on the public Internet.

    `ipaddress.is_global` alone is not enough: it is True for 224.0.0.251, and says nothing of an IPv4 address inside
    an IPv6 one (mapped, 6to4, Teredo, NAT64), through which private hosts have been reached by way of a relay.
    """
    ip = ipaddress.ip_address(host)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None or ip.sixtofour is not None or ip.teredo is not None or ip in _NAT64:
            return False
        if ip.is_site_local:
            return False
    return ip.is_global and not (
        ip.is_multicast or ip.is_reserved or ip.is_loopback or ip.is_link_local or ip.is_private or ip.is_unspecified
    )
