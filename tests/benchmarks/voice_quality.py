"""How much like the original a voice is after its way over networks that lose packets.

STOI is short-time objective intelligibility (Taal et al., 2011; the package pystoi): 1.0 is the original. PESQ (ITU-T
P.862.2, wideband: 4.64 is the original) is measured as well if the package pesq is installed; it is not in the extra,
since it has to be compiled.

Every piece of what was heard is compared with what was sent there: delay, and changes of it, are not in the figures.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

from relaycall.testing.conditions import Fate
from relaycall.testing.profiles import PROFILES, profile
from tests.benchmarks.heard import independent
from tests.benchmarks.lossy_voice import FRAME_SAMPLES, LOOKAHEAD, Arrival, by_aiortc, by_relaycall, speech
from tests.benchmarks.report import Figure, Report, Table

TITLE = "How much like the original a voice is after its way over lossy networks"
LOSSES = (0, 1, 5, 10, 20, 30)  # %
SECONDS = 24
SKIPPED = 2  # seconds at the beginning, while losses are not known yet


def through(name: str, seed: int) -> Arrival:
    """Up to a relay and down from another, by a profile of a network."""
    network = profile(name)
    up, down = Fate(f"{seed} up"), Fate(f"{seed} down")
    up.conditions, down.conditions = network.up, network.down
    up.run(network.up_schedule, 0.0)
    down.run(network.down_schedule, 0.0)

    def arrival(now: float, size: int) -> float | None:
        there = up.next(now, size)
        return None if there is None else down.next(there, size)

    return arrival


def measures() -> dict[str, Callable[[Any, Any], float]]:
    """By name; each takes what was sent and what was heard, at 48 kHz, from -1 to 1. ImportError without pystoi."""
    from pystoi import stoi
    from pystoi.utils import resample_oct

    found: dict[str, Callable[[Any, Any], float]] = {"STOI": lambda sent, heard: float(stoi(sent, heard, 48000))}
    try:
        pesq = importlib.import_module("pesq").pesq
    except ImportError:
        return found

    def by_pesq(sent: Any, heard: Any) -> float:
        return float(pesq(16000, resample_oct(sent, 1, 3), resample_oct(heard, 1, 3), "wb"))

    return found | {"PESQ": by_pesq}


def likeness(measure: Callable[[Any, Any], float], pcm: bytes, seconds: int) -> float:
    """Of what was heard to what was said."""
    import numpy

    block = len(speech())
    said = b"".join(speech()[n % block] for n in range(seconds * 50))
    sent, heard = (numpy.frombuffer(sound, dtype=numpy.int16) / 32768 for sound in (said, pcm))
    skipped = SKIPPED * 50 * FRAME_SAMPLES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of too little sound to compare
        return measure(sent[skipped:-LOOKAHEAD], heard[skipped + LOOKAHEAD :])


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """So many seeds for each network. Nothing, where the extra `bench` is not installed."""
    if importlib.util.find_spec("pystoi") is None:
        return Report([Table(TITLE, ["not measured"], notes=["It needs pystoi: pip install 'relaycall[bench]'"])])
    return await asyncio.to_thread(_measure, 1 if tiny else runs, tiny)


def _measure(seeds: int, tiny: bool) -> Report:
    seconds = 8 if tiny else SECONDS
    networks: dict[str, Callable[[int], Arrival]] = {
        f"{percent} % lost": lambda seed, share=percent / 100: independent(share, seed)  # type: ignore[misc]
        for percent in ((0, 10) if tiny else LOSSES)
    }
    names = ("lossy-wifi",) if tiny else PROFILES
    networks |= {name: lambda seed, name=name: through(name, seed) for name in names}  # type: ignore[misc]
    report = Report()
    judges = measures()
    table = Table(
        f"Likeness to the original of what was heard, median (least–most) of {seeds}",
        ["", *(f"{judge}, {who}" for judge in judges for who in ("aiortc", "relaycall"))],
    )
    for network, arrival in networks.items():
        sounds = {
            "aiortc": [by_aiortc(seconds * 50, arrival(seed)).pcm for seed in range(seeds)],
            "relaycall": [by_relaycall(seconds * 50, arrival(seed)).pcm for seed in range(seeds)],
        }
        cells = []
        for judge, by in judges.items():
            for who, pcms in sounds.items():
                figure = Figure.of(likeness(by, pcm, seconds) for pcm in pcms)
                name = network.replace(" % ", "_percent_").replace("-", "_")
                report.figures[f"voice_quality_{name}_{who}_{judge.lower()}"] = figure
                cells.append(figure)
        table.add(network, *cells)
    table.notes += [
        f"Speech of {seconds} s, {SKIPPED} s of it left out at the beginning; virtual time; packets in one direction.",
        "aiortc: 96 kb/s stereo; its listener waits at most 400 ms. relaycall: 32 kb/s mono or less, as it adapts.",
        "Profiles (docs/testing.md) are passed up to a relay and down from it.",
    ]
    report.tables.append(table)
    return report
