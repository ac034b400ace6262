"""Probing relays: which are alive, how far they are, and whether they forward.

A probe resolves, connects, allocates, and sends packets to its own relayed address: client, relay, relayed socket, the
same again, client. They follow right behind the ChannelBind, so that all is known in three round trips and the time the
packets take. What a probe allocates it deletes again, whatever happens to it.

Packets through a relay's own allocation do not leave its host: a firewall in front of that is not seen by them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from relaycall.errors import ConfigError, RelayCapacity, RelayError, RelayForbidden, RelayQuota, RelayTimeout
from relaycall.ice.allocation import ALLOCATE_TIMEOUT, Allocation, SocketAddress, allocate
from relaycall.ice.sockets import resolve
from relaycall.relays.loopback import measure
from relaycall.relays.probe_result import LOSSY, Measured, ProbeResult, Verdict, failed, judged
from relaycall.relays.server import RelayServer

logger = logging.getLogger(__name__)

PACKETS = 10
INTERVAL = 0.005  # seconds between packets
LIMIT = 50  # relays at a time
TIMEOUT = 30.0  # seconds for all relays
_FAMILY = {int(socket.AF_INET): "ipv4", int(socket.AF_INET6): "ipv6"}

Stage = Literal["answered", "allocated", "finished"]


@dataclass(frozen=True, slots=True)
class ProbeEvent:
    """Something new about one relay.

    Attributes:
        server: the relay.
        stage: it answered a first request (after `rtt_ms`; that is not authenticated), it granted an allocation, or all
            is known about it (`result`).
    """

    server: RelayServer
    stage: Stage
    rtt_ms: float | None = None
    result: ProbeResult | None = None


OnProgress = Callable[[ProbeEvent], None]


async def probe(
    relays: Sequence[RelayServer],
    *,
    packets: int = PACKETS,
    interval: float = INTERVAL,
    limit: int = LIMIT,
    timeout: float = TIMEOUT,
    grace: float | None = None,
    laboratory: bool = False,
    on_progress: OnProgress | None = None,
) -> list[ProbeResult]:
    """Probe relays, all at once. Cancelling it deletes what it has allocated.

    Args:
        relays: with credentials. One that is given twice is probed once.
        packets, interval: how many packets to send through each relay, and the seconds between them.
        limit: how many relays at a time. Each has a socket by address family, and two if it does not talk to itself.
        timeout: seconds for everything; relays that are not done by then count as RelayTimeout.
        grace: seconds the other relays get once one has turned out to be usable; by default all the time there is.
        laboratory: accept relayed addresses that are not public.
        on_progress: called with each `ProbeEvent`.

    Returns:
        The results in the order of the relays; two for one that has an IPv4 and an IPv6 address.

    Raises:
        ConfigError: there are no relays, or a number is out of range.
    """
    if not relays:
        raise ConfigError("No relay is configured.", "Give at least one relay.")
    if packets < 1 or limit < 1 or interval < 0:
        raise ConfigError("A probe needs a packet, a relay at a time, and an interval that is not negative.")
    given: dict[RelayServer, list[RelayServer]] = {}
    for server in relays:
        host = server.host.lower().rstrip(".")
        given.setdefault(server if host == server.host else replace(server, host=host), []).append(server)
    slots, context = asyncio.Semaphore(limit), await _shared_context(relays)
    probers = [_Prober(same[0], packets, interval, laboratory, context, on_progress) for same in given.values()]
    tasks = [asyncio.ensure_future(prober.run(slots)) for prober in probers]
    try:
        await _enough(tasks, timeout, grace)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    results = []
    for prober, same, task in zip(probers, given.values(), tasks, strict=True):
        found = prober.out_of_time() if task.cancelled() else task.result()
        results += [replace(result, times_given=len(same)) for result in found]
    return results


async def _enough(tasks: Sequence[asyncio.Task[list[ProbeResult]]], timeout: float, grace: float | None) -> None:
    """Wait for all, or until the time is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    pending = set(tasks)
    while pending and (left := until - loop.time()) > 0:
        done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if grace is not None and any(result.usable for task in done for result in task.result()):
            until = min(until, loop.time() + grace)


async def _shared_context(servers: Sequence[RelayServer]) -> ssl.SSLContext | None:
    """One TLS context for all that have none of their own: reading the system's authorities takes long."""
    if all(server.transport != "tls" or server.ssl_context is not None for server in servers):
        return None
    return await asyncio.get_running_loop().run_in_executor(None, ssl.create_default_context)


class _Prober:
    """The probe of one relay."""

    def __init__(
        self,
        server: RelayServer,
        packets: int,
        interval: float,
        laboratory: bool,
        context: ssl.SSLContext | None,
        on_progress: OnProgress | None,
    ) -> None:
        self._server = server
        shared = server.transport == "tls" and server.ssl_context is None
        self._dialled = replace(server, ssl_context=context) if shared else server
        self._packets = packets
        self._interval = interval
        self._laboratory = laboratory
        self._on_progress = on_progress
        self._known: list[ProbeResult] = []

    def out_of_time(self) -> list[ProbeResult]:
        """The results when there is no time for more."""
        return self._known or [failed(self._server, RelayTimeout(self._server.name, "the time for probing was over"))]

    async def run(self, slots: asyncio.Semaphore) -> list[ProbeResult]:
        """Probe it over each address family it has."""
        async with slots:
            try:
                addresses = await _addresses(self._server)
            except RelayError as error:
                self._finished(failed(self._server, error))
                return self._known
            families = sorted({family for family, _ in addresses})
            ways = [[entry for entry in addresses if entry[0] == family] for family in families]
            return await asyncio.gather(*(self._probe(found) for found in ways))

    async def _probe(self, addresses: Sequence[SocketAddress]) -> ProbeResult:
        """Probe it over the addresses of one family."""
        loop = asyncio.get_running_loop()
        family = _FAMILY[int(addresses[0][0])]
        answers: list[float] = []

        def answered(rtt: float) -> None:
            answers.append(rtt)
            self._tell(ProbeEvent(self._server, "answered", rtt * 1000))

        started = loop.time()
        try:
            allocation = await self._allocate(addresses, answered)
        except RelayError as error:
            if isinstance(error, RelayTimeout) and answers:
                error = RelayTimeout(self._server.name, f"it answers after {answers[0]:.1f} s, and did not allocate")
            return self._finished(failed(self._server, error, answers, family))
        took = loop.time() - started
        self._tell(ProbeEvent(self._server, "allocated", allocation.rtt * 1000))
        try:
            try:
                verdict, measured = await self._forwarding(allocation, addresses)
            except RelayError as error:
                return self._finished(failed(self._server, error, [allocation.rtt], family))
            rtts = [allocation.rtt, *(measured.back if measured else [])]
            result = judged(
                self._server,
                verdict,
                family=family,
                allocate_ms=took * 1000,
                rtt_min_ms=min(rtts) * 1000,
                rtt_ms=statistics.median(rtts) * 1000,
                jitter_ms=measured.jitter * 1000 if measured and measured.jitter is not None else None,
                loss=measured.loss if measured else None,
                lifetime=allocation.lifetime,
                network=_network(str(addresses[0][1][0])),
            )
            self._finished(result)
            await allocation.close()
            return result
        finally:
            allocation.abort()

    async def _forwarding(
        self, allocation: Allocation, addresses: Sequence[SocketAddress]
    ) -> tuple[Verdict, Measured | None]:
        """Whether packets pass: through the allocation alone, or else between it and a second one."""
        measured: Measured | None = None
        with contextlib.suppress(RelayForbidden):
            measured = await measure(allocation, allocation, self._packets, self._interval)
        if measured is not None and measured.back:
            return (Verdict.LOSSY if measured.loss > LOSSY else Verdict.OK), measured
        blind = Verdict.UNCHECKED if measured is None else Verdict.NO_FORWARDING
        try:
            second = await self._allocate(addresses)
        except (RelayQuota, RelayCapacity):
            return blind, measured  # one allocation is all there is for us
        try:
            there = await measure(allocation, second, self._packets, self._interval)
            back = await measure(second, allocation, self._packets, self._interval)
            await second.close()
        except RelayForbidden:
            return blind, measured
        finally:
            second.abort()
        both = Measured(there.rtts + back.rtts)
        if not both.back:
            return Verdict.NO_FORWARDING, both
        if not there.back or not back.back:
            return Verdict.ONE_WAY, both
        return (Verdict.LOSSY if both.loss > LOSSY else Verdict.OK), both

    async def _allocate(
        self, addresses: Sequence[SocketAddress], answered: Callable[[float], None] | None = None
    ) -> Allocation:
        return await allocate(self._dialled, laboratory=self._laboratory, addresses=addresses, on_answered=answered)

    def _finished(self, result: ProbeResult) -> ProbeResult:
        self._known.append(result)
        self._tell(ProbeEvent(self._server, "finished", result.rtt_ms, result))
        return result

    def _tell(self, event: ProbeEvent) -> None:
        if self._on_progress is not None:
            try:
                self._on_progress(event)
            except Exception:
                logger.exception("a progress handler failed")


async def _addresses(server: RelayServer) -> list[SocketAddress]:
    """The relay's addresses, a literal's at once. Raises RelayError."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(server.host).version == 4:
            return [(socket.AF_INET, (server.host, server.port))]
        return [(socket.AF_INET6, (server.host, server.port, 0, 0))]
    try:
        async with asyncio.timeout(ALLOCATE_TIMEOUT):
            return await resolve(server)
    except TimeoutError:
        raise RelayTimeout(server.name, "its name was still being looked up") from None


def _network(host: str) -> str:
    """The network an address lies in: /24 for IPv4, /48 for IPv6."""
    ip = ipaddress.ip_address(host.partition("%")[0])
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))
