"""How long it takes until both ends of a call are connected, by the distance to their relays.

Each end has a relay of its own, and a proxy that delays what passes between it and that relay by a known time. Between
the relays there is no delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import struct
import time
from contextlib import AsyncExitStack

from tests.benchmarks.calls import KINDS
from tests.benchmarks.delay_proxy import HOST, DelayProxy
from tests.benchmarks.party import Party
from tests.benchmarks.report import Figure, Report, Table, ratio
from tests.coturn import Coturn

TITLE = "set-up time, by round trip to the relay"
ROUND_TRIPS = 0, 50, 150  # ms, client to relay and back
TRANSPORTS = "udp", "tcp"
TARGET_ROUND_TRIPS, TARGET_MS = 2.5, 40
NEAR_RUNS = 3  # times as many without a delay, where aiortc is either quick or half a second late
PROBES = 20

Times = dict[tuple[str, str, int], list[tuple[float, float, float]]]  # offer, answer, connect in ms


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """Set up calls, in turns by each library."""
    round_trips = (0, 50) if tiny else ROUND_TRIPS
    times: Times = {}
    actual: dict[int, float] = {}
    late: list[float] = []
    async with AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(Coturn(ip=HOST, min_port=low, max_port=low + 4999))
            for low in (20000, 25000)
        ]
        proxies = [await stack.enter_async_context(Party(DelayProxy, relay.ip, relay.port)) for relay in relays]
        ports = [await proxy.ask("open") for proxy in proxies]
        ends = {name: [await stack.enter_async_context(Party(kind)) for _ in range(2)] for name, kind in KINDS.items()}
        for name in KINDS:  # imports, caches
            await _set_up(ends[name], _uris(ports, "udp"))
        direct = await _round_trip(relays[0].port)
        for round_trip in round_trips:
            for proxy in proxies:
                await proxy.ask("set_delay", round_trip / 2000)
            actual[round_trip] = await _round_trip(ports[0][0]) - direct
            for transport in TRANSPORTS:
                for _ in range(runs if round_trip else NEAR_RUNS * runs):
                    for name in KINDS:
                        took = await _set_up(ends[name], _uris(ports, transport))
                        times.setdefault((transport, name, round_trip), []).append(took)
        for proxy in proxies:
            late += await proxy.ask("lateness")
    return _report(times, actual, late, runs)


def _uris(ports: list[tuple[int, int]], transport: str) -> list[str]:
    return [f"turn:{HOST}:{udp if transport == 'udp' else tcp}?transport={transport}" for udp, tcp in ports]


async def _set_up(ends: list[Party], uris: list[str]) -> tuple[float, float, float]:
    """One call. Milliseconds: the caller's allocation, the callee's, and from handing over the records to connected."""
    caller, callee = ends
    offer, offering = await caller.ask("offer", uris[0])
    answer, answering = await callee.ask("answer", uris[1], offer)
    start = time.monotonic()
    done = await asyncio.gather(caller.ask("connect", answer), callee.ask("connect", None))
    took = max(done) - start
    await asyncio.gather(caller.ask("hang_up"), callee.ask("hang_up"))
    return offering * 1000, answering * 1000, took * 1000


async def _round_trip(port: int) -> float:
    """Milliseconds of a STUN Binding to a UDP port: what the delay really is."""
    loop = asyncio.get_running_loop()
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    class Probe(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            answers.put_nowait(data)

    transport, _ = await loop.create_datagram_endpoint(Probe, remote_addr=(HOST, port))
    took = []
    with contextlib.closing(transport):
        for index in range(PROBES):
            started = time.monotonic()
            transport.sendto(struct.pack("!HHL12s", 1, 0, 0x2112A442, b"%12d" % index))
            await asyncio.wait_for(answers.get(), 5)
            took.append((time.monotonic() - started) * 1000)
    return statistics.median(took)


def _report(times: Times, actual: dict[int, float], late: list[float], runs: int) -> Report:
    report = Report()
    table = Table(
        f"Set-up time in ms, median (least–most) of {runs}",
        ["", "R", "allocated", "in R", "from nothing", "caller allocates", "callee allocates", "target"],
    )
    for (transport, name, round_trip), taken in sorted(times.items(), key=lambda entry: entry[0]):
        offering, answering, connecting = (Figure.of(values) for values in zip(*taken, strict=True))
        nothing = Figure.of(sum(took) for took in taken)
        in_r = f"{connecting.median / round_trip:.2f}" if round_trip else ""
        limit = TARGET_ROUND_TRIPS * round_trip + TARGET_MS
        target = f"{limit:.0f}: {'met' if connecting.median <= limit else 'MISSED'}" if name == "relaycall" else ""
        table.add(f"{transport} {name}", f"{round_trip} ms", connecting, in_r, nothing, offering, answering, target)
        key = f"setup_{transport}_{name}_rtt{round_trip}"
        report.figures[f"{key}_allocated_ms"] = connecting
        report.figures[f"{key}_from_nothing_ms"] = nothing
        report.figures[f"{key}_caller_allocation_ms"] = offering
        report.figures[f"{key}_callee_allocation_ms"] = answering
    ratios = []
    for transport in TRANSPORTS:
        for round_trip in actual:
            keys = (f"setup_{transport}_{name}_rtt{round_trip}_allocated_ms" for name in KINDS)
            ratios.append(f"{transport} {round_trip} ms {ratio(*(report.figures[key] for key in keys))}")
    table.notes += [
        "R: round trip between a client and its relay. Relay to relay there is no delay. No delay: "
        f"{NEAR_RUNS} times as many runs.",
        "allocated: both ends hold their allocation and the callee the caller's record (the offer); from handing the",
        "callee's record (the answer) to the caller until connect() has returned on both ends, or connectionState is",
        "connected on both. aiortc's callee begins to connect a little before that, while it makes the answer.",
        "in R: the same, divided by R. from nothing: the two allocations, one after the other as with an offer and an",
        "answer, and then the same. relaycall's allocations may also be made at once, or before there is a call.",
        f"target: {TARGET_ROUND_TRIPS} R + {TARGET_MS} ms.",
        f"aiortc against relaycall, allocated: {', '.join(ratios)}.",
        "round trip that the proxy really adds: "
        + ", ".join(f"{measured:.2f} ms for {wanted}" for wanted, measured in actual.items())
        + f". A packet leaves late by {statistics.median(late):.2f} ms (median), {_p99(late):.2f} (p99).",
    ]
    report.tables.append(table)
    report.facts["setup_proxy_round_trip_ms"] = actual
    report.facts["setup_proxy_late_ms"] = {"median": statistics.median(late), "p99": _p99(late)}
    return report


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]
