"""Signaling by URL."""

from __future__ import annotations

import ssl
from importlib.metadata import entry_points
from urllib.parse import urlsplit

from relaycall.errors import ConfigError
from relaycall.signaling.base import Signaling
from relaycall.signaling.keys import MailboxKey

GROUP = "relaycall.signaling"  # the entry-point group of other transports; an entry is named by its scheme


def open_signaling(
    url: str, *, key: MailboxKey | None = None, ssl_context: ssl.SSLContext | None = None, laboratory: bool = False
) -> Signaling:
    """A transport for this URL, to be opened by `async with`.

    Args:
        url: `wss://host` or `https://host`; `ws:` and `http:` on loopback; `memory:name`; `manual:`, whose texts people
            carry; or a scheme of an installed package, which is called with the same arguments.
        key: whose mailbox; by default a fresh one, for this object alone.
        ssl_context: one that trusts a private authority; the default one trusts the system's.
        laboratory: allows `ws:` and `http:` elsewhere.

    Raises:
        ConfigError: the URL is not usable, nothing knows its scheme, or the TLS context does not verify.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme == "memory":
        from relaycall.signaling.memory import MemoryTransport

        return MemoryTransport(url, key=key)
    if scheme == "manual":
        from relaycall.signaling.manual import ManualTransport

        return ManualTransport(url, key=key)
    if scheme in ("ws", "wss"):
        from relaycall.signaling.websocket import WebSocketTransport

        return WebSocketTransport(url, key=key, ssl_context=ssl_context, laboratory=laboratory)
    if scheme in ("http", "https"):
        from relaycall.signaling.http import HttpTransport

        return HttpTransport(url, key=key, ssl_context=ssl_context, laboratory=laboratory)
    for entry in entry_points(group=GROUP, name=scheme):
        made: Signaling = entry.load()(url, key=key, ssl_context=ssl_context, laboratory=laboratory)
        return made
    raise ConfigError(
        "The URL of the signaling server has no scheme that is known here.",
        "Write wss://host or https://host, or install the package that brings the scheme.",
    )
