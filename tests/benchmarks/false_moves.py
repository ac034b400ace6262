"""How often random loss alone makes a call change its path, and what watching costs: hours of calls in virtual time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context

from relaycall.ice.agent_events import Doubted, LocalFailing
from tests.benchmarks.report import Figure, Report, Table
from tests.ice.network import Network

TITLE = "moves that random loss alone causes, in virtual time"
LOSSES = 0.01, 0.03, 0.1, 0.2, 0.3
RELAYS = 1, 2  # on each side: one path, or four equal ones
HOURS = 10.0  # for each of `runs`, over all losses and both kinds of call
SEGMENT = 900.0  # seconds of one call
RTT, JITTER = 0.05, 0.004  # seconds
# On the wire a check and a media packet have each 4 bytes of channel header and 28 of IPv4 and UDP more.
HEADERS = 32


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """Calls of a quarter of an hour, each with another seed, on every core. `runs` of three make thirty hours."""
    seconds = 20.0 if tiny else SEGMENT
    count = 1 if tiny else max(1, round(runs * HOURS * 3600 / SEGMENT / len(LOSSES) / len(RELAYS)))
    jobs = [(loss, relays, seed, seconds) for loss, relays in product(LOSSES, RELAYS) for seed in range(count)]
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = await asyncio.gather(*(loop.run_in_executor(pool, _call, *job) for job in jobs))
    report = Report()
    table = Table(
        "A call under random loss on each leg", ["loss", "relays a side", "hours", "moves", "doubts an hour", "checks"]
    )
    for loss, relays in product(LOSSES, RELAYS):
        results = [result for job, result in zip(jobs, found, strict=True) if job[:2] == (loss, relays)]
        hours = sum(job[3] for job in jobs if job[:2] == (loss, relays)) / 3600
        moves, doubts, failing = (sum(result[index] for result in results) for index in range(3))
        share = Figure.of([100 * result[3] for result in results])
        table.add(f"{loss:.0%}", relays, f"{hours:.2f}", moves + failing, f"{doubts / hours:.1f}", f"{share} %")
        name = f"false_moves_loss{round(100 * loss)}_relays{relays}"
        report.figures[f"{name}_count"] = Figure.of([moves + failing])
        report.figures[f"{name}_checks_percent"] = share
    table.notes += [
        "moves: by either side, and allocations taken for dead. doubts: media was sent over two paths for a moment.",
        "checks: share of the bytes of STUN checks in those of the call, IP headers included, both ways.",
    ]
    report.tables.append(table)
    return report


def _call(loss: float, relays: int, seed: int, seconds: float) -> tuple[int, int, int, float]:
    """One call: moves, doubts, allocations taken for dead, and the checks' share of its bytes."""
    network = Network(1000 * relays + seed, rtt=RTT, loss=loss, jitter=JITTER)
    network.start(relays, relays)
    network.run(8)
    network.watch()
    network.run(10)
    since = network.now
    before = [_bytes(network, index) for index in range(2)]
    network.run(seconds)
    checks, media = (_bytes(network, index) - before[index] for index in range(2))
    events = [event for side in network.sides for at, event in side.history if at > since]
    moves = sum(side.moves(since) for side in network.sides)
    doubts, failing = (sum(isinstance(event, kind) for event in events) for kind in (Doubted, LocalFailing))
    return moves, doubts, failing, checks / (checks + media)


def _bytes(network: Network, kind: int) -> float:
    """Sent so far by both, of checks and their answers, or of media."""
    if kind == 0:
        return sum(side.check_bytes + HEADERS * side.check_count for side in network.sides)
    return sum(side.media_bytes * (1 + HEADERS / 108) for side in network.sides)
