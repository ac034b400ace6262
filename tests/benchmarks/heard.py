"""How much of a voice is heard when packets get lost: frames decoded or restored, in time. What was made up is not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from tests.benchmarks.lossy_voice import Arrival, Listened, by_aiortc, by_relaycall
from tests.benchmarks.report import Figure, Report, Table

SECONDS = 60
DELAY, JITTER = 0.05, 0.005
SEEDS = 10
TARGETS = {1: 99.5, 5: 98.0, 10: 95.0, 20: 88.0, 30: 78.0}  # % heard, by % lost


def independent(share: float, seed: int) -> Arrival:
    """A network that loses each packet with this probability."""
    generator = random.Random(seed)

    def arrival(now: float, size: int) -> float | None:
        lost, jitter = generator.random() < share, generator.random()
        return None if lost else now + DELAY + JITTER * jitter

    return arrival


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """So many seeds for each loss; at least ten, for the medians hold for those."""
    return await asyncio.to_thread(_measure, 1 if tiny else max(runs, SEEDS), 12 if tiny else SECONDS)


def _measure(seeds: int, seconds: int) -> Report:
    frames = seconds * 50
    kinds: dict[str, Callable[[float, int], Listened]] = {
        "aiortc_decoded": lambda loss, seed: by_aiortc(frames, independent(loss, seed), sound=False),
        "without_fec": lambda loss, seed: by_relaycall(frames, independent(loss, seed), expected_loss=0.0),
        "learning": lambda loss, seed: by_relaycall(frames, independent(loss, seed)),
        "known": lambda loss, seed: by_relaycall(frames, independent(loss, seed), expected_loss=loss),
    }
    report = Report()
    table = Table(
        f"Heard of a voice, % of its frames, median (least–most) of {seeds} calls of {seconds} s",
        ["lost", "aiortc decodes", "in time", "no FEC", "FEC, learning", "FEC, known", "target"],
    )
    for percent, target in TARGETS.items():
        found = {name: [kind(percent / 100, seed) for seed in range(seeds)] for name, kind in kinds.items()}
        shares = {
            name: Figure.of(100 * (one.decoded if "decoded" in name else one.heard) / one.sent for one in all_of_them)
            for name, all_of_them in found.items()
        }
        in_time = [100 * one.heard / one.sent for one in found["aiortc_decoded"]]
        shares["aiortc_in_time"] = Figure.of(in_time)
        met = "met" if shares["learning"].median >= target else "MISSED"
        table.add(
            f"{percent} %",
            *(shares[name] for name in ("aiortc_decoded", "aiortc_in_time", "without_fec", "learning", "known")),
            f"{target}: {met}",
        )
        for name, figure in shares.items():
            report.figures[f"heard_loss{percent}_{name}_percent"] = figure
    table.notes += [
        "Independent loss, 50 ms on the way, 5 ms of jitter, speech at 32 kb/s in packets of one size; virtual time.",
        "learning: nothing is expected at first; then what reports and adaptation make of it. known: from the start.",
        "Sound that was made up does not count. aiortc in time: its listener waits at most 400 ms (ITU-T G.114).",
    ]
    report.tables.append(table)
    return report
