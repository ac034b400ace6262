"""Transport addresses: IP literals only, canonical, and silent in logs."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple

IPV4 = 0x01
IPV6 = 0x02

# What IANA's special-purpose registries keep off the public Internet, written out: what `ipaddress` knows of them
# differs between Python versions. 192.0.0.0/24 and 2001::/23 are protocol assignments, Teredo among them.
NOT_PUBLIC_IPV4 = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
)
# Outside 2000::/3 lies nothing public: mapped IPv4 addresses, NAT64, link-local, unique local and multicast ones do.
NOT_PUBLIC_IPV6 = ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")

_NOT_PUBLIC_IPV4 = [ipaddress.IPv4Network(net) for net in NOT_PUBLIC_IPV4]
_NOT_PUBLIC_IPV6 = [ipaddress.IPv6Network(net) for net in NOT_PUBLIC_IPV6]
_UNICAST_IPV6 = ipaddress.IPv6Network("2000::/3")


class Address(NamedTuple):
    """An IP address and a port. Use `parse` on anything from outside: it makes the host canonical.

    `repr` and `str` show nothing (an address in a log is what this library exists to prevent); `text()` shows it.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, host: str, port: int) -> Address:
        """Check and canonicalise.

        Raises:
            ValueError: anything but an IP literal without a scope and a port of 0 to 65535; it does not name them.
        """
        if not 0 <= port <= 65535:
            raise ValueError("port out of range")
        return cls(str(_parse(host)), port)

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

    `ipaddress.is_global` does not do: it is True for 224.0.0.251, and says nothing of an IPv4 address inside an IPv6
    one (mapped, 6to4, Teredo, NAT64), through which private hosts have been reached by way of a relay.

    Raises:
        ValueError: no IP literal, or one with a scope.
    """
    ip = _parse(host)
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in net for net in _NOT_PUBLIC_IPV4)
    return ip in _UNICAST_IPV6 and not any(ip in net for net in _NOT_PUBLIC_IPV6)


def _parse(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("not an IP address") from None  # the original error quotes it
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None:
        raise ValueError("scoped addresses are not transport addresses")
    return ip
