"""How long it takes to know 50 relays: their round trips, and whether they forward.

One coturn stands behind 50 proxies, each of which delays what passes by a known time, so that the client sees 50 relays
at that distance. The proxies are one process, as is coturn; with the client they share this machine.
"""

from __future__ import annotations

import statistics
import time
from contextlib import AsyncExitStack

from relaycall.relays.probe import ProbeEvent, probe
from relaycall.relays.server import RelayServer
from tests.benchmarks.delay_proxy import HOST, DelayProxy
from tests.benchmarks.party import Party
from tests.benchmarks.report import Figure, Report, Table
from tests.coturn import Coturn

TITLE = "probing 50 relays"
RELAYS = 50
ROUND_TRIP = 50  # ms
REPEATS = 3  # times as many runs: one takes a quarter of a second
TARGETS = {"answered": 1.2, "verdicts": 5.0}  # in round trips


class Fleet:
    """Many proxies for one relay."""

    def __init__(self, host: str, port: int) -> None:
        self._relay = host, port
        self._proxies: list[DelayProxy] = []

    async def open(self, count: int, delay: float) -> list[int]:
        """Their UDP ports; `delay` in seconds, one way."""
        self._proxies = [DelayProxy(*self._relay) for _ in range(count)]
        for proxy in self._proxies:
            proxy.set_delay(delay)
        return [(await proxy.open())[0] for proxy in self._proxies]

    def lateness(self) -> list[float]:
        """How late each delayed packet left, in milliseconds."""
        return [late for proxy in self._proxies for late in proxy.lateness()]

    async def close(self) -> None:
        for proxy in self._proxies:
            await proxy.close()


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """Probe them, all at once and one after the other."""
    count = 5 if tiny else RELAYS
    taken: dict[str, list[float]] = {}
    rtts: list[float] = []
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Coturn())
        fleet = await stack.enter_async_context(Party(Fleet, relay.ip, relay.port))
        ports = await fleet.ask("open", count, ROUND_TRIP / 2000)
        servers = [RelayServer(HOST, port).with_credentials(relay.username, relay.password) for port in ports]
        await _run(servers, count)  # imports, caches
        _, _, alone = await _run(servers[:5], 1)  # one at a time
        distance = statistics.median(alone)
        await fleet.ask("lateness")
        for _ in range(runs if tiny else REPEATS * runs):
            found, verdicts, medians = await _run(servers, count)
            assert verdicts == ["ok"] * count, verdicts
            rtts += medians
            for name, ms in found.items():
                taken.setdefault(name, []).append(ms)
        late = await fleet.ask("lateness")
        sequential, _, _ = await _run(servers, 1)
        taken["one after the other"] = [sequential["deleted"]]
    return _report(taken, distance, rtts, late, count)


async def _run(servers: list[RelayServer], limit: int) -> tuple[dict[str, float], list[str], list[float]]:
    """Milliseconds until the last relay had answered, the last verdict was there, and everything was deleted."""
    at: dict[str, float] = {}

    def note(event: ProbeEvent) -> None:
        at[event.stage] = time.perf_counter()

    started = time.perf_counter()
    results = await probe(servers, limit=limit, laboratory=True, on_progress=note)
    ended = time.perf_counter()
    ms = {
        "answered": (at["answered"] - started) * 1000,
        "verdicts": (at["finished"] - started) * 1000,
        "deleted": (ended - started) * 1000,
    }
    return ms, [str(result.verdict) for result in results], [result.rtt_ms or 0.0 for result in results]


def _report(taken: dict[str, list[float]], distance: float, rtts: list[float], late: list[float], count: int) -> Report:
    report = Report()
    what = {
        "answered": "round trip to all known",
        "verdicts": "all verdicts there",
        "deleted": "all allocations deleted",
        "one after the other": "the same, one after the other",
    }
    table = Table(
        f"Probing {count} relays at R = {ROUND_TRIP} ms, in ms, median (least–most)", ["", "ms", "in R", "target"]
    )
    for name, label in what.items():
        figure = Figure.of(taken[name])
        in_r = figure.median / distance
        target = TARGETS.get(name)
        judged = "" if target is None else f"{target} R: {'met' if in_r <= target else 'MISSED'}"
        table.add(label, figure, f"{in_r:.2f}", judged)
        report.figures[f"probe_{name.replace(' ', '_')}_ms"] = figure
    table.notes += [
        "All at once. Round trip: of a Binding request that goes ahead of the Allocate. Verdict: authenticated, with a",
        "channel to the relay's own address and ten packets, 5 ms apart, through it and back.",
        f"R is {distance:.1f} ms, by a probe alone; {statistics.median(rtts):.1f} with all at once. "
        f"A packet left the proxies late by {statistics.median(late):.2f} ms (median).",
    ]
    report.tables.append(table)
    report.facts["probe_relays"] = count
    report.facts["probe_distance_ms"] = distance
    return report
