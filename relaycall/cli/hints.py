"""What to do about an error, where the command line knows more than the library."""

from __future__ import annotations

import ipaddress
import shlex

from relaycall.errors import ConfigError, NoRelay, RelaycallError, RelayLied
from relaycall.relays.server import RelayServer

LABORATORY = "If this relay is for trying things out, on this machine or a private network, add --laboratory."


def next_step_of(error: RelaycallError) -> str:
    """The error's next step, or --laboratory for a relay whose relayed addresses are as private as its own."""
    failures = error.failures if isinstance(error, NoRelay) else (error,)
    return LABORATORY if any(_as_private(one) for one in failures) else error.next_step


def changed_step(name: str, card: str = "CARD") -> str:
    """What to do about the changed keys of a contact of this name."""
    accept = f"relaycall keys accept {shlex.quote(name)} {card}"
    return f"Ask them in another way whether they have new keys, compare the fingerprint, then: {accept}"


def _as_private(error: RelaycallError) -> bool:
    return isinstance(error, RelayLied) and "relayed address" in error.detail and _is_private(error.relay)


def _is_private(relay: str) -> bool:
    """Whether the URI has `localhost` or an IP literal that is not public."""
    try:
        host = RelayServer.parse(relay).host
        return host == "localhost" or not ipaddress.ip_address(host).is_global
    except (ConfigError, ValueError):
        return False
