"""Who talked to whom, as the interpreter saw it.

The demo does not ask our own code where its sockets went. Python reports every connect and every addressed send to
audit hooks, whoever calls; a context variable tells which party's task it was.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SENDING = {"socket.connect", "socket.sendto", "socket.sendmsg"}

_party: ContextVar[str | None] = ContextVar("relaycall_party", default=None)
_destinations: dict[str, set[str]] = {}
_names: set[str] = set()
_installed = False


@contextmanager
def watched(party: str) -> Iterator[None]:
    """Note under this name where the sockets used inside go, those of tasks and callbacks started inside included."""
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
    _destinations.setdefault(party, set())
    token = _party.set(party)
    try:
        yield
    finally:
        _party.reset(token)


def destinations(party: str) -> list[str]:
    """Every address this party's sockets were connected to or sent to."""
    return sorted(_destinations.get(party, ()))


def names_looked_up() -> list[str]:
    """Every host name the resolver was asked for; it runs in threads, which belong to no party."""
    return sorted(_names)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _SENDING and event != "socket.getaddrinfo":
        return
    if event == "socket.getaddrinfo":
        if not _is_literal(str(arguments[0])):
            _names.add(str(arguments[0]))
        return
    party = _party.get()
    if party is None:
        return
    sock, address = arguments[0], arguments[1]
    if isinstance(sock, socket.socket) and isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        _destinations[party].add(f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}")


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
