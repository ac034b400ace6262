"""How long the sound of a call is interrupted when its relay is moved away from, killed or frozen, and what it costs
to be ready for that. Measured where it arrives, by the receiving side's own record of packets and frames.

Each row is measured in both directions, on calls that are set up anew, with the relays in random order, the relay in
use of a random side, and at a random moment. The rows take turns.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.failover_aiortc import AiortcEnd
from tests.benchmarks.party import Party
from tests.benchmarks.report import Figure, Report, Table
from tests.certificates import Authority
from tests.coturn import Coturn
from tests.scenarios.failover.scene import NAMES, Scene, scene

TITLE = "a relay dies: the gap at the listener"
EVENTS = 10  # for each row at the default of three runs; each is seen in two directions
BOUND = 10.0  # seconds waited for the sound to come back
WARM_UP, SPREAD = 1.5, 0.4  # seconds before an event, and up to so many more by chance
AFTER = 1.5  # seconds watched at least
POLL = 0.25  # seconds
STILL_OPEN = 300.0  # ms without a packet: it has not come back yet
MOVES = 5  # planned ones in each call
FRAME = 20.0  # ms
STEADY, COUNTED = 10.0, 60.0  # seconds until checks are counted, and for which they are
CHECK_TARGET = 2.0  # percent
NOT_HEARD_TARGET = 150.0  # ms

Gap = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """An event, and what it may cost: the gap's median and p95 in ms, the median of lost packets."""

    key: str
    name: str
    how: str
    transport: str = "udp"
    protect: bool | None = None
    target: tuple[float, float, float] | None = None


ROWS = (
    Row("move", "planned move", "move", target=(25, 45, 0)),
    Row("kill_udp", "relay killed, UDP", "kill", target=(45, 120, 1)),
    Row("kill_tcp", "relay killed, TCP", "kill", "tcp", target=(45, 120, 1)),
    Row("kill_tls", "relay killed, TLS", "kill", "tls"),
    Row("freeze", "relay frozen", "freeze", target=(200, 350, 6)),
    Row("freeze_protected", "relay frozen, protect=True", "freeze", protect=True, target=(25, 45, 0)),
    Row("kill_protected", "relay killed, protect=True", "kill", protect=True, target=(25, 45, 0)),
)


@dataclass
class Measured:
    """What was found, one value for each event and direction."""

    gaps: dict[str, list[float]] = field(default_factory=dict)
    lost: dict[str, list[float]] = field(default_factory=dict)
    undisturbed: list[float] = field(default_factory=list)
    not_heard: list[float] = field(default_factory=list)
    aiortc: dict[str, list[float]] = field(default_factory=dict)
    check_share: float = 0.0

    def take(self, row: Row, gaps: dict[str, Gap]) -> None:
        """One event, at both sides."""
        for gap in gaps.values():
            came_back = gap["open_ms"] < STILL_OPEN
            self.gaps.setdefault(row.key, []).append(gap["gap_ms"] if came_back else BOUND * 1000)
            self.lost.setdefault(row.key, []).append(gap["lost"] if came_back else BOUND * 1000 / FRAME)
            if row.key == "freeze":
                self.not_heard.append(gap["not_heard_ms"])


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """Plain aiortc and the cost of checks first, at the same time; then the rows in turns."""
    found, chance = Measured(), random.Random(runs)
    with tempfile.TemporaryDirectory() as folder:
        aiortc = asyncio.ensure_future(_aiortc(found, 1 if tiny else runs, 1.0 if tiny else BOUND))
        found.check_share = await _check_share(_fresh(folder), *((0.5, 1.0) if tiny else (STEADY, COUNTED)))
        await aiortc
        events = 1 if tiny else math.ceil(EVENTS * runs / 3)
        async with scene(_fresh(folder)) as call:
            for index in range(events):
                for row in ROWS:
                    if row.how != "move":
                        await _strike(call, row, found, chance)
                    elif index % MOVES == 0:
                        await _move(call, row, found, chance, min(MOVES, events - index))
    return _report(found)


def _fresh(folder: str) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


# --- relaycall --------------------------------------------------------------------------------------------------------


async def _strike(call: Scene, row: Row, found: Measured, chance: random.Random) -> None:
    """One call, one death."""
    await _connect(call, row, chance)
    undisturbed = time.monotonic()
    await call.talk(WARM_UP / 2, chance, SPREAD)
    found.undisturbed += [gap["gap_ms"] for gap in (await call.gaps(undisturbed)).values()]
    relay, struck = await call.strike(chance.choice(NAMES), row.how, chance.random() * FRAME / 1000)
    found.take(row, await _after(call, struck))
    if row.how == "freeze":
        relay.thaw()
        await call.close()
    else:
        await asyncio.gather(relay.start(), call.close())


async def _move(call: Scene, row: Row, found: Measured, chance: random.Random, count: int) -> None:
    """One call, several moves."""
    await _connect(call, row, chance)
    for _ in range(count):
        await call.talk(0, chance, SPREAD)
        moved = (await call.ends[chance.choice(NAMES)].ask("move"))["at"]
        found.take(row, await _after(call, moved))
    await call.close()


async def _connect(call: Scene, row: Row, chance: random.Random) -> None:
    orders: dict[str, Any] = {name: chance.sample(range(len(call.relays)), len(call.relays)) for name in NAMES}
    await call.exchange(await call.prepare(row.transport, **orders, protect=row.protect))
    await call.talk(WARM_UP / 2)


async def _after(call: Scene, since: float) -> dict[str, Gap]:
    """What the event did, once the sound is back at both sides or has stayed away for long enough."""
    await asyncio.sleep(AFTER)
    while True:
        gaps = await call.gaps(since)
        if all(gap["open_ms"] < STILL_OPEN for gap in gaps.values()) or time.monotonic() > since + BOUND:
            return gaps
        await asyncio.sleep(POLL)


async def _check_share(folder: Path, steady: float, counted: float) -> float:
    """Percent of the bytes that both ends of a call send which are checks, with two relays each."""
    async with scene(folder, relays=2) as call:
        await call.connect(alice=(0, 1), bob=(1, 0))
        await asyncio.sleep(steady)
        before = await call.traffic()
        await asyncio.sleep(counted)
        after = await call.traffic()
        await call.close()
    return 100 * (after["checks"] - before["checks"]) / (after["all"] - before["all"])


# --- plain aiortc -----------------------------------------------------------------------------------------------------


async def _aiortc(found: Measured, runs: int, bound: float) -> None:
    """One death of each kind at the same time, so many times."""
    rows = [row for row in ROWS if row.how != "move" and not row.protect]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            gaps = await asyncio.gather(*(_aiortc_call(_fresh(folder), row, bound) for row in rows))
            for row, both in zip(rows, gaps, strict=True):
                found.aiortc.setdefault(row.key, []).extend(both)


async def _aiortc_call(folder: Path, row: Row, bound: float) -> list[float]:
    """The gap in ms at both ends of one call; the bound if the sound does not come back."""
    authority = Authority(folder)
    leaf = authority.leaf("127.0.0.1")
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(Coturn(cert=leaf.cert, key=leaf.key))
        caller, callee = [await stack.enter_async_context(Party(AiortcEnd, str(authority.ca_file))) for _ in range(2)]
        offer, _ = await caller.ask("offer", relay.uri(row.transport))
        answer, _ = await callee.ask("answer", relay.uri(row.transport), offer)
        await asyncio.gather(caller.ask("connect", answer), callee.ask("connect", None))
        await asyncio.sleep(WARM_UP)
        struck = time.monotonic()
        relay.kill() if row.how == "kill" else relay.freeze()
        gaps: list[Gap] = []
        while time.monotonic() < struck + bound:
            await asyncio.sleep(POLL)
            gaps = [await end.ask("gap", struck) for end in (caller, callee)]
            if time.monotonic() > struck + AFTER and all(gap["open_ms"] < STILL_OPEN for gap in gaps):
                break
        return [gap["gap_ms"] if gap["open_ms"] < STILL_OPEN else bound * 1000 for gap in gaps]


# --- what is shown ----------------------------------------------------------------------------------------------------


def p95(values: Sequence[float]) -> float:
    """The least value that 95 % of the values do not exceed."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def _report(found: Measured) -> Report:
    report = Report()
    table = Table(
        f"The longest time between two new audio packets around an event, ms, and packets lost; {FRAME:.0f} is no gap",
        ["", "directions", "gap, median", "gap, p95", "most", "lost, median", "target", "plain aiortc"],
    )
    table.add("nothing happens", len(found.undisturbed), *_spread(found.undisturbed), "", "", "")
    report.figures["failover_undisturbed_gap_ms"] = Figure.of(found.undisturbed)
    for row in ROWS:
        gaps, lost = found.gaps[row.key], found.lost[row.key]
        losses = statistics.median(lost)
        table.add(
            row.name, len(gaps), *_spread(gaps), f"{losses:g}", _verdict(row, gaps, losses), _aiortc_cell(found, row)
        )
        report.figures[f"failover_{row.key}_gap_ms"] = Figure.of(gaps)
        report.figures[f"failover_{row.key}_lost_packets"] = Figure.of(lost)
        if row.key in found.aiortc:
            report.figures[f"failover_aiortc_{row.key}_gap_ms"] = Figure.of(found.aiortc[row.key])
    heard = statistics.median(found.not_heard)
    table.add(
        "heard by the listener, frozen", len(found.not_heard), *_spread(found.not_heard), "",
        f"{NOT_HEARD_TARGET:.0f}: {_met(heard <= NOT_HEARD_TARGET)}", "",
    )  # fmt: skip
    report.figures["failover_freeze_not_heard_ms"] = Figure.of(found.not_heard)
    report.figures["failover_check_share_percent"] = Figure.of([found.check_share])
    never = sum(gap >= BOUND * 1000 for gaps in found.gaps.values() for gap in gaps)
    table.notes += [
        "target: gap median, gap p95, lost median. nothing happens: about a second of the same calls before the event.",
        "heard by the listener: milliseconds concealed or silent after playout, all of them around the event, in the",
        "calls of the row relay frozen. It is told from what was sent by its pitch.",
        f"plain aiortc: the same deaths; watched for {BOUND:.0f} s.",
        f"The sound of relaycall stayed away for {BOUND:.0f} s: {never} times.",
        f"Checks are {found.check_share:.2f} % of the bytes both ends send, headers left out, with two relays each and "
        f"from {STEADY:.0f} s on; target: at most {CHECK_TARGET:g} %: {_met(found.check_share <= CHECK_TARGET)}.",
    ]
    report.tables.append(table)
    report.facts["failover_p95_gap_ms"] = {key: p95(gaps) for key, gaps in found.gaps.items()}
    return report


def _spread(values: Sequence[float]) -> tuple[str, str, str]:
    return f"{statistics.median(values):.0f}", f"{p95(values):.0f}", f"{max(values):.0f}"


def _verdict(row: Row, gaps: Sequence[float], losses: float) -> str:
    if row.target is None:
        return ""
    median, most, lost = row.target
    met = statistics.median(gaps) <= median and p95(gaps) <= most and losses <= lost
    return f"{median:g}, {most:g}, {lost:g}: {_met(met)}"


def _met(met: bool) -> str:
    return "met" if met else "MISSED"


def _aiortc_cell(found: Measured, row: Row) -> str:
    gaps = found.aiortc.get(row.key)
    if gaps is None:
        return ""
    return f"never ({BOUND:.0f} s)" if min(gaps) >= BOUND * 1000 else str(Figure.of(gaps))
