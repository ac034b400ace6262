"""Whether this machine still reaches a relay from the same address: another network, a tunnel that came or went.

Nothing is sent. A UDP socket that is connected learns from the kernel which address it would send from.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from relaycall.ice.allocation import Allocation
from relaycall.stun.address import Address


def source_of(family: int, sockaddr: tuple[object, ...]) -> str | None:
    """The IP literal that this machine would send from to a relay now; None if there is no route.

    Args:
        family, sockaddr: of the relay, as the socket module has them.

    Raises:
        OSError: there is no socket to ask with.
    """
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(sockaddr)
        except OSError:
            return None
        return Address.parse(str(sock.getsockname()[0]).partition("%")[0], 0).host


def has_moved(allocation: Allocation, lookup: Callable[[int, tuple[object, ...]], str | None] = source_of) -> bool:
    """Whether packets to its relay would leave from another address now than its socket has, or not at all.

    Args:
        allocation: whose socket is compared.
        lookup: gives the address, as `source_of`.
    """
    if allocation.local is None or allocation.sockaddr is None:
        return False
    try:
        return lookup(*allocation.sockaddr) != allocation.local.host
    except OSError:
        return False  # not known now
