"""Checks of the way to the relays: routes, names, and each relay over UDP, TCP and TLS.

A relay that is configured for one transport is tried over the others afterwards, with the same credentials: what
answers there tells a blocked transport from a relay that is down. Nobody but the configured relays is sent anything.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from relaycall.diagnosis.finding import Cause, Finding, Status, ok
from relaycall.ice import names
from relaycall.relays.probe import OnProgress, probe
from relaycall.relays.probe_result import ProbeResult, Verdict
from relaycall.relays.server import RelayServer, Transport, is_host_name

NAMES_TIMEOUT = 4.8  # seconds
PROBE_TIMEOUT = 10.0  # seconds, for the configured transports, and again for the others
PORT, TLS_PORT = 3478, 5349
# Where a datagram socket is connected, which sends nothing, to see whether there is a route: addresses of documents.
_ELSEWHERE = [(socket.AF_INET, ("192.0.2.1", 9)), (socket.AF_INET6, ("2001:db8::1", 9))]
_SILENT = Verdict.TIMEOUT, Verdict.UNREACHABLE, Verdict.NAME_UNKNOWN
# What getaddrinfo says when a resolver answered that there is none.
_UNKNOWN = socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)
_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_NAMES: dict[Transport, str] = {"udp": "UDP", "tcp": "TCP", "tls": "TLS"}


@dataclass(frozen=True, slots=True)
class Reached:
    """What is known about the network.

    Attributes:
        results: what became of each relay, by each transport that was tried; the best of its address families.
        online: whether anything at all answered, be it a resolver.
    """

    results: Mapping[RelayServer, ProbeResult]
    online: bool


def check_route() -> Finding:
    """Whether this machine has a route to anywhere; nothing is sent."""
    found = []
    for family, address in _ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect(address)
                found.append("IPv4" if family == socket.AF_INET else "IPv6")
        except OSError:
            continue
    if found:
        return ok("route", f"There is a route for {' and '.join(found)}.")
    return Finding(
        "route",
        Status.WARN,
        "This machine has no route to the Internet.",
        "Connect it to a network; relays on this machine or its own network can be used without.",
        Cause.LOCAL_NETWORK,
    )


async def check_names(relays: Sequence[RelayServer]) -> list[Finding]:
    """Whether each name that a relay is given by has an address."""
    hosts = list(dict.fromkeys(relay.host for relay in relays if is_host_name(relay.host)))
    found = await asyncio.gather(*(_look_up(host) for host in hosts))
    if any(finding.cause is not Cause.LOCAL_NETWORK for finding in found):
        step = "Other names can be looked up: check its spelling, or ask its operator."
        return [
            replace(finding, cause=Cause.RELAY, next_step=step) if finding.cause is Cause.LOCAL_NETWORK else finding
            for finding in found
        ]
    return found


async def _look_up(host: str) -> Finding:
    check, number = f"dns {host}", None
    try:
        async with asyncio.timeout(NAMES_TIMEOUT):
            families = {entry[0] for entry in await names.getaddrinfo(host, PORT)}
    except TimeoutError:
        pass
    except OSError as error:
        number = error.errno
    except UnicodeError:
        number = socket.EAI_NONAME
    else:
        return ok(check, f"The name has addresses: {' and '.join(sorted(_FAMILIES.get(one, '') for one in families))}.")
    if number in _UNKNOWN:
        step = "Check its spelling."
        return Finding(
            check, Status.FAIL, "There is no such name, or it has no address.", step, Cause.RELAY, exit_code=3
        )
    step = "Check this machine's network and its resolver."
    return Finding(check, Status.FAIL, "No resolver answered.", step, Cause.LOCAL_NETWORK, exit_code=3)


async def reach(
    relays: Sequence[RelayServer], *, online: bool, laboratory: bool, on_progress: OnProgress | None = None
) -> Reached:
    """Probe the relays by the transports they are configured for, and then by the others.

    One after the other, so that a relay that allows a user one allocation does not run out of them.
    """
    given = list(dict.fromkeys(relays))
    more = [way for relay in given for way in ways_to(relay, given)]
    results: dict[RelayServer, ProbeResult] = {}
    for tried in (given, [way for way in dict.fromkeys(more) if way not in given]):
        if not tried:
            continue
        for result in await probe(tried, timeout=PROBE_TIMEOUT, laboratory=laboratory, on_progress=on_progress):
            known = results.get(result.server)
            if known is None or _rank(result) > _rank(known):
                results[result.server] = result
    return Reached(results, online or any(map(_answered, results.values())))


def _rank(result: ProbeResult) -> tuple[bool, bool]:
    return result.usable, _answered(result)


def _answered(result: ProbeResult) -> bool:
    """Whether something came back from there, be it a refusal."""
    return result.verdict not in _SILENT


def ways_to(relay: RelayServer, relays: Sequence[RelayServer]) -> list[RelayServer]:
    """The same relay over all transports, on the ports that are configured for its host, or else the usual ones."""
    same = [one for one in relays if one.host == relay.host]
    plain = [one.port for one in same if one.transport != "tls"] or [PORT]
    encrypted = [one.port for one in same if one.transport == "tls"] or [TLS_PORT]
    ways: list[tuple[Transport, int]] = [(transport, port) for port in plain for transport in ("udp", "tcp")]
    ways += [("tls", port) for port in encrypted]
    return [replace(relay, transport=transport, port=port) for transport, port in dict.fromkeys(ways)]


def judge(relays: Sequence[RelayServer], reached: Reached) -> list[Finding]:
    """A finding for each relay and transport that is configured, and one for each host with all its transports."""
    findings = [_judged(relay, relays, reached) for relay in dict.fromkeys(relays)]
    for host in dict.fromkeys(relay.host for relay in relays):
        ways = {way: result for way, result in reached.results.items() if way.host == host}
        texts = [f"{_NAMES[way.transport]} {way.port} {_in_short(result)}" for way, result in ways.items()]
        some = ok(f"transports {host}", f"{', '.join(dict.fromkeys(texts))}.")
        silent = all(result.verdict is Verdict.TIMEOUT for result in ways.values())
        step = "Compare with another network, such as a telephone's." if silent else "See above."
        none = replace(some, status=Status.WARN, next_step=step, cause=Cause.RELAY)
        findings.append(some if any(result.usable for result in ways.values()) else none)
    return findings


def _in_short(result: ProbeResult) -> str:
    if result.usable:
        return "works"
    return "is silent" if result.verdict is Verdict.TIMEOUT else f"fails ({result.verdict})"


def _judged(relay: RelayServer, relays: Sequence[RelayServer], reached: Reached) -> Finding:
    result, check = reached.results[relay], f"relay {relay.name}"
    if result.verdict is Verdict.LOSSY:
        return Finding(check, Status.WARN, result.sentence, result.next_step, Cause.RELAY)
    if result.usable:
        return ok(check, f"It works: {result.rtt_ms:.1f} ms.")
    code = 3 if result.error is None else result.error.exit_code
    fault = Finding(check, Status.FAIL, result.sentence, result.next_step, Cause.RELAY, code)
    if not reached.online:
        step = "Nothing at all answered. Check that this machine is online; if it is, a firewall may block everything."
        return replace(fault, next_step=step, cause=Cause.LOCAL_NETWORK)
    others = [way for way in reached.results if way.host == relay.host and way != relay]
    working = [way for way in others if reached.results[way].usable]
    if result.verdict is Verdict.REFUSED and working:
        return replace(fault, next_step=f"Use {working[0].name}, which works.")
    if result.verdict is not Verdict.TIMEOUT:
        return fault
    answering = working or [way for way in others if reached.results[way].verdict not in (*_SILENT, Verdict.REFUSED)]
    if not answering:
        step = "No relay answers there by UDP, TCP or TLS: ask its operator whether it runs, or use another."
        return replace(fault, next_step=step)
    other = answering[0]
    if not working:
        step = f"{other.name} says: {reached.results[other].sentence}"
        return replace(fault, next_step=step)
    name = _NAMES[relay.transport]
    if any(
        way.host != relay.host and way.transport == relay.transport and _answered(found)
        for way, found in reached.results.items()
    ):
        step = f"{name} gets through to another relay: this one's firewall may block it. Use {other.name}, which works."
        return replace(fault, next_step=step)
    sentence = f"{name} does not get through to the relay {relay.name}, and {_NAMES[other.transport]} does."
    step = f"A firewall may block {name}. Use {other.name}, which works."
    blocked = replace(fault, sentence=sentence, next_step=step, cause=Cause.BLOCKED_TRANSPORT)
    # Where the way that works is configured too, calls work.
    return replace(blocked, status=Status.WARN, exit_code=0) if set(working) & set(relays) else blocked
