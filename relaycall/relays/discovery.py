"""The relays of a domain, as its DNS names them: SRV records (RFC 5928, section 3; RFC 2782).

The operator of the resolver learns which domain is asked for, and the answers are not authenticated: a forged one can
lead UDP and TCP to another relay, which then fails to authenticate itself; TLS certificates carry the domain.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from relaycall.errors import ConfigError
from relaycall.redact import Secret
from relaycall.relays.server import RelayServer, Transport, is_host_name

TIMEOUT = 4.0  # seconds for all three look-ups together
MAX_PER_TRANSPORT = 8
_SERVICES: dict[Transport, str] = {"udp": "_turn._udp", "tcp": "_turn._tcp", "tls": "_turns._tcp"}


@dataclass(frozen=True, slots=True)
class _Srv:
    priority: int
    weight: int
    port: int
    target: str


async def find_relays(
    domain: str,
    *,
    username: str | None = None,
    password: Secret | str | None = None,
    nameservers: Sequence[tuple[str, int]] = (),
    timeout: float = TIMEOUT,
) -> list[RelayServer]:
    """Look up the relays that a domain offers over UDP, TCP and TLS, in the order its records prefer.

    A domain without such records, or whose records cannot be had in time, stands for itself on the default ports.

    Args:
        domain: without a scheme or port ("example.org").
        username, password: for all of them.
        nameservers: IP literals and ports to ask in place of the system's.
        timeout: seconds for everything.

    Raises:
        ConfigError: that is no domain.
    """
    if not is_host_name(domain):
        raise ConfigError("The domain to look up relays of is not a host name.", "Give it without scheme and port.")
    tasks = [asyncio.ensure_future(_look_up(f"{service}.{domain}", nameservers)) for service in _SERVICES.values()]
    try:
        await asyncio.wait(tasks, timeout=timeout)
    finally:
        for task in tasks:
            task.cancel()
    found = []
    for transport, task in zip(_SERVICES, tasks, strict=True):
        records = task.result() if task.done() and not task.cancelled() else []
        for record in _in_order(records)[:MAX_PER_TRANSPORT]:
            scheme, query = ("turns", "tcp") if transport == "tls" else ("turn", transport)
            with contextlib.suppress(ConfigError):  # what it names cannot be a relay
                relay = RelayServer.parse(
                    f"{scheme}:{record.target}:{record.port}?transport={query}",
                    username=username,
                    password=password,
                    # The certificate is for the name the user gave, not for one that came by DNS (RFC 5928, section 5).
                    tls_name=domain if transport == "tls" else None,
                )
                found.append(relay)
    return found or [
        RelayServer.parse(uri, username=username, password=password)
        for uri in (f"turn:{domain}?transport=udp", f"turn:{domain}?transport=tcp", f"turns:{domain}?transport=tcp")
    ]


async def _look_up(name: str, nameservers: Sequence[tuple[str, int]]) -> list[_Srv]:
    """The SRV records of a name; none if it has none or they cannot be had."""
    import dns.asyncresolver
    import dns.exception
    import dns.nameserver

    try:
        resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in nameservers]
        answer = await resolver.resolve(name, "SRV", search=False)
    except (dns.exception.DNSException, OSError):
        return []
    return [
        _Srv(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True))
        for record in answer
        if record.target.to_text() != "."  # "decidedly not available" (RFC 2782)
    ]


def _in_order(records: list[_Srv]) -> list[_Srv]:
    """By priority; within one, drawn by weight (RFC 2782), so that clients spread."""
    drawn = [(record.priority, -(random.random() ** (1 / (record.weight + 0.01))), record) for record in records]
    return [record for _, _, record in sorted(drawn, key=lambda entry: entry[:2])]
