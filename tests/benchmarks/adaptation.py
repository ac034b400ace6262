"""What adaptation makes of bad links: simulated calls in virtual time, ten seeds each."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from relaycall.quality.ladder import Limits
from tests.benchmarks.report import Figure, Report, Table
from tests.quality.links import Conditions
from tests.quality.simulated import Fated, SimulatedCall

TITLE = "voice and video over bad links, in virtual time"
SEEDS = 10
CUT, RESTORED = 20.0, 50.0  # seconds: when the link becomes narrow, and wide again
STEADY = 150, 200, 300, 600, 1000, 2500  # kbit/s
QUEUES = 0.1, 0.3, 1.0  # seconds


@dataclass(frozen=True)
class Scenario:
    """A link and what happens to it; the figures are those from `since` on."""

    name: str
    seconds: float
    conditions: Conditions
    steps: tuple[tuple[float, dict[str, Any]], ...] = ()
    lie: Callable[[Fated], float | None] | None = None
    since: float = 20.0
    limits: Limits = field(default_factory=Limits)

    def call(self, seed: int) -> SimulatedCall:
        change = self.lie

        def lied(fates: list[Fated]) -> list[Fated]:
            return [Fated(fate.number, fate.size, fate.sent_at, change(fate) if change else None) for fate in fates]

        return SimulatedCall(self.conditions, seed, self.limits, lie=lied if change else None, steps=self.steps)


def _at_once(fate: Fated) -> float:
    return fate.sent_at


def _never(fate: Fated) -> None:
    return None


def _slower(fate: Fated) -> float:
    return 1.5 * fate.sent_at


def _nan(fate: Fated) -> float:
    return math.nan


def _blackout(**dark: float) -> tuple[tuple[float, dict[str, Any]], ...]:
    return (40.0, {**dark}), (45.0, {"loss": 0.0, "feedback_loss": 0.0, "rate": 1e6})


LINK = Conditions(rate=1e6)
SCENARIOS = (
    Scenario("10 % random loss", 90, Conditions(rate=3e6, loss=0.1)),
    Scenario("30 % random loss", 90, Conditions(rate=3e6, loss=0.3)),
    Scenario("5 % loss in bursts of 10", 90, Conditions(rate=3e6, loss=0.05, burst=10)),
    Scenario("policer of 500 kbit/s", 90, Conditions(rate=5e5, policed=True)),
    Scenario("round trip 600 ms", 90, Conditions(rate=1e6, delay=0.3)),
    Scenario("jitter 60 ms", 90, Conditions(rate=1e6, jitter=0.06)),
    Scenario("queue of 1 s, 500 kbit/s", 90, Conditions(rate=5e5, queue=1.0)),
    Scenario("blackout 5 s, all lost", 90, LINK, _blackout(loss=1.0, feedback_loss=1.0)),
    Scenario("blackout 5 s, queue kept", 90, LINK, _blackout(rate=0.0)),
    Scenario(
        "halves and recovers each 20 s",
        160,
        LINK,
        tuple((20.0 * k, {"rate": 1e6 - 5e5 * (k % 2)}) for k in range(1, 8)),
    ),
    Scenario("400 kbit/s of other traffic", 90, LINK, ((30.0, {"other": 4e5}), (60.0, {"other": 0.0}))),
    Scenario("a download for 30 s", 90, LINK, ((30.0, {"greedy": 1}), (60.0, {"greedy": 0}))),
    Scenario("30 % of feedback lost, 200 ms late", 90, Conditions(rate=1e6, feedback_loss=0.3, feedback_delay=0.2)),
    Scenario("100 kbit/s", 120, Conditions(rate=1e5)),
    Scenario("50 kbit/s", 120, Conditions(rate=5e4)),
    Scenario("low-data mode", 60, LINK, limits=Limits(low_data=True)),
    Scenario("lie: all came at once", 90, LINK, lie=_at_once),
    Scenario("lie: nothing came", 90, LINK, lie=_never),
    Scenario("lie: all is ever slower", 90, LINK, lie=_slower),
    Scenario("lie: times are no numbers", 90, LINK, lie=_nan),
)


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """All scenarios on every core; `runs` does not count, a seed gives the same each time."""
    del runs
    seeds = range(1) if tiny else range(SEEDS)
    steady, queues = (STEADY[:1], QUEUES[:1]) if tiny else (STEADY, QUEUES)
    scenarios = range(1 if tiny else len(SCENARIOS))
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:

        async def all_seeds(run: Callable[..., dict[str, float]], *job: float) -> dict[str, Figure]:
            found = await asyncio.gather(*(loop.run_in_executor(pool, run, *job, seed) for seed in seeds))
            return {name: Figure.of([one[name] for one in found]) for name in found[0]}

        cuts = await asyncio.gather(*(all_seeds(_cut, queue) for queue in queues))
        links = await asyncio.gather(*(all_seeds(_steady, rate) for rate in steady))
        others = await asyncio.gather(*(all_seeds(_scenario, index) for index in scenarios))
    return Report(
        [
            _table(
                "The link is cut from 1.3 Mbit/s to 200 kbit/s and restored", "queue", [f"{q} s" for q in queues], cuts
            ),
            _table("A steady link", "kbit/s", [str(rate) for rate in steady], links),
            _table("Other links, 1 Mbit/s where nothing is said", "", [SCENARIOS[i].name for i in scenarios], others),
        ],
        {
            f"adaptation_{kind}_{key}_{name}": figure
            for kind, keys, rows in (
                ("cut", [f"queue{round(1000 * queue)}" for queue in queues], cuts),
                ("steady", [f"rate{rate}" for rate in steady], links),
                ("scenario", [str(index) for index in scenarios], others),
            )
            for key, row in zip(keys, rows, strict=True)
            for name, figure in row.items()
        },
    )


def _table(title: str, what: str, names: list[str], rows: list[dict[str, Figure]]) -> Table:
    table = Table(title, [what, *(_heading(name) for name in rows[0])], notes=["median (least–most) of the seeds"])
    for name, row in zip(names, rows, strict=True):
        table.add(name, *row.values())
    return table


def _heading(name: str) -> str:
    words, _, unit = name.rpartition("_")
    return f"{words.replace('_', ' ')} {'%' if unit == 'percent' else '' if unit == 'count' else unit}".strip()


def _cut(queue: float, seed: int) -> dict[str, float]:
    """Video at 1 Mbit/s, and then a link of 200 kbit/s; all times are since the change."""
    call = SimulatedCall(
        Conditions(rate=1.3e6, queue=queue),
        seed,
        Limits(max_bitrate=1_150_000),
        steps=((CUT, {"rate": 2e5}), (RESTORED, {"rate": 1.3e6})),
    )
    call.run(90)
    before = call.video_rate(CUT - 2, CUT)
    late = [moment.at - CUT for moment in call.audio if CUT <= moment.at < CUT + 10 and moment.wait > 0.1]
    recovered = [t for t in range(40) if call.video_rate(RESTORED + t, RESTORED + t + 1) >= 0.8 * before]
    return {
        "video_before_kbps": before / 1000,
        "adapted_after_s": min(change.at for change in call.changes if change.at >= CUT) - CUT,
        "voice_lost_after_1_s_percent": 100 * call.audio_loss(CUT + 1, RESTORED),
        "queue_under_100_ms_after_s": max(late, default=0.0),
        "use_percent": 100 * call.use(int(CUT) + 5, int(RESTORED), 2e5),
        "recovered_after_s": recovered[0] + 1.0 if recovered else 40.0,
    }


def _steady(rate: int, seed: int) -> dict[str, float]:
    call = SimulatedCall(Conditions(rate=1000 * rate), seed)
    call.run(120)
    return {"use_percent": 100 * call.use(30, 120, 1000 * rate), **_common(call, 30, 120)}


def _scenario(index: int, seed: int) -> dict[str, float]:
    scenario = SCENARIOS[index]
    call = scenario.call(seed)
    call.run(scenario.seconds)
    return {
        "video_kbps": call.video_rate(scenario.since, scenario.seconds) / 1000,
        **_common(call, scenario.since, scenario.seconds),
    }


def _common(call: SimulatedCall, since: float, until: float) -> dict[str, float]:
    waits = sorted(call.wait(since, until))
    return {
        "voice_lost_percent": 100 * call.audio_loss(since, until),
        "queue_mean_ms": 1000 * statistics.mean(waits),
        "queue_p95_ms": 1000 * waits[int(0.95 * len(waits))],
        "queue_max_ms": 1000 * waits[-1],
        "video_changes_count": sum(since <= change.at < until for change in call.changes),
        "voice_rates_count": len({call.adaptation.audio_bitrate, *(change.bitrate for change in call.audio_changes)}),
    }
