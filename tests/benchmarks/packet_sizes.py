"""What the sizes of audio packets give away: the distinct ones over speech, silence and mute, as seen on the wire."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.benchmarks.calls import KINDS
from tests.benchmarks.delay_proxy import HOST, DelayProxy
from tests.benchmarks.party import Party
from tests.benchmarks.report import Figure, Report, Table
from tests.coturn import Coturn

TITLE = "distinct sizes of audio packets over speech, silence and mute"
PHASES = "speech", "silence", "mute"
SECONDS, BETWEEN = 5.0, 0.3


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """One call by each library at the same time, through a proxy that looks at the packets. `runs` makes it longer."""
    seconds = 0.6 if tiny else SECONDS * runs / 3
    seen: dict[tuple[str, str], dict[int, int]] = {}
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Coturn())

        async def watch(name: str) -> None:
            proxy = await stack.enter_async_context(Party(DelayProxy, relay.ip, relay.port))
            caller, callee = [await stack.enter_async_context(Party(KINDS[name])) for _ in range(2)]
            port, _ = await proxy.ask("open")
            offer, _ = await caller.ask("offer", f"turn:{HOST}:{port}?transport=udp")
            answer, _ = await callee.ask("answer", relay.uri("udp"), offer)
            await asyncio.gather(caller.ask("connect", answer), callee.ask("connect", None))
            for phase in PHASES:
                await caller.ask("say", phase)
                await asyncio.sleep(BETWEEN)  # the encoder and the queues still hold some of what was before
                await proxy.ask("media_sizes")
                await asyncio.sleep(seconds)
                seen[name, phase] = await proxy.ask("media_sizes")

        await asyncio.gather(*(watch(name) for name in KINDS))
    return _report(seen, seconds)


def _report(seen: dict[tuple[str, str], dict[int, int]], seconds: float) -> Report:
    report = Report()
    table = Table("Sizes of audio packets (SRTP, bytes)", ["", *PHASES, "distinct in all"])
    for name in KINDS:
        union = {size for phase in PHASES for size in seen[name, phase]}
        table.add(name, *(_described(seen[name, phase]) for phase in PHASES), len(union))
        report.figures[f"packet_sizes_{name}_distinct_count"] = Figure.of([len(union)])
        report.facts[f"packet_sizes_{name}"] = {phase: sorted(seen[name, phase]) for phase in PHASES}
    table.notes += [
        f"{seconds:.0f} s each, what one end sends, read from the UDP packets on their way to the relay.",
        "mute: relaycall goes on with encoded silence; for aiortc the track is taken away (replaceTrack(None)).",
    ]
    report.tables.append(table)
    return report


def _described(sizes: dict[int, int]) -> str:
    if not sizes:
        return "nothing sent"
    if len(sizes) == 1:
        return f"{next(iter(sizes))}"
    return f"{len(sizes)} sizes, {min(sizes)}–{max(sizes)}"
