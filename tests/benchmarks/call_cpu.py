"""CPU of a whole call: both ends, codec and all, each in a process of its own. The relay's CPU is not counted."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.benchmarks.calls import KINDS
from tests.benchmarks.party import Party
from tests.benchmarks.report import Figure, Report, Table, ratio
from tests.coturn import Coturn

TITLE = "CPU of a call, both ends"
SECONDS, WARM_UP = 20.0, 2.0
FRAMES_PER_SECOND = 50
TARGET = 0.5  # of plain aiortc


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """Calls in which both ends talk, in turns by each library."""
    seconds, warm_up = (1.0, 0.5) if tiny else (SECONDS, WARM_UP)
    cpu: dict[str, list[float]] = {name: [] for name in KINDS}
    heard: dict[str, list[float]] = {name: [] for name in KINDS}
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Coturn())
        ends = {name: [await stack.enter_async_context(Party(kind)) for _ in range(2)] for name, kind in KINDS.items()}
        for _ in range(runs):
            for name, (caller, callee) in ends.items():
                offer, _ = await caller.ask("offer", relay.uri("udp"))
                answer, _ = await callee.ask("answer", relay.uri("udp"), offer)
                await asyncio.gather(caller.ask("connect", answer), callee.ask("connect", None))
                await asyncio.sleep(warm_up)
                talked = await asyncio.gather(caller.ask("talk", seconds), callee.ask("talk", seconds))
                await asyncio.gather(caller.ask("hang_up"), callee.ask("hang_up"))
                cpu[name].append(sum(used / wall * 60 for used, wall, _ in talked))
                heard[name].append(sum(frames / wall for _, wall, frames in talked) / 2 / FRAMES_PER_SECOND * 100)
    return _report(cpu, heard, seconds, runs)


def _report(cpu: dict[str, list[float]], heard: dict[str, list[float]], seconds: float, runs: int) -> Report:
    report = Report()
    table = Table(
        f"CPU seconds per minute of call, both ends together, median (least–most) of {runs}",
        ["", "CPU s per minute", "frames heard, %"],
    )
    figures = {name: Figure.of(values) for name, values in cpu.items()}
    for name, figure in figures.items():
        table.add(name, figure, Figure.of(heard[name]))
        report.figures[f"call_cpu_{name}_s_per_minute"] = figure
    share = Figure.of(ours / stock for ours, stock in zip(cpu["relaycall"], cpu["aiortc"], strict=True))
    report.figures["call_cpu_relaycall_share"] = share
    table.notes += [
        f"{seconds:.0f} s of speech both ways, UDP; what is heard is decoded, counted and dropped.",
        f"aiortc against relaycall: {ratio(figures['aiortc'], figures['relaycall'])}.",
        f"relaycall's share of it, run by run: {share}; target: at most {TARGET}: "
        f"{'met' if share.median <= TARGET else 'MISSED'}.",
    ]
    report.tables.append(table)
    report.facts["call_cpu_heard_percent"] = heard
    return report
