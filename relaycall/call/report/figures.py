"""The figures of a report: what many samples come to, each for the time it stands for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from relaycall.quality.sample import Level, Sample

LONGEST = 1e9  # seconds

_Value = Callable[[Sample], float | None]


@dataclass(frozen=True, slots=True)
class Spread:
    """How a figure was over the time in which it was known: `p95` is what it stayed below for 95 % of it."""

    min: float
    median: float
    p95: float
    max: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a call's samples come to. None is what was never known.

    Attributes:
        rtt_ms, jitter_ms, playout_delay_ms: in milliseconds.
        loss, loss_sent: of their audio packets; of ours. Shares, 0 to 1.
        score: the mean opinion score, 1 to 4.5.
        levels: each level's share of the time.
    """

    rtt_ms: Spread | None
    jitter_ms: Spread | None
    playout_delay_ms: Spread | None
    loss: Spread | None
    loss_sent: Spread | None
    score: Spread | None
    levels: dict[Level, float]


def in_order(samples: Iterable[Sample]) -> list[Sample]:
    """Those whose time can be drawn, by time."""
    return sorted((one for one in samples if 0 <= one.at < LONGEST), key=lambda one: one.at)


def figures_of(samples: Sequence[Sample]) -> Figures:
    """What samples in order of time come to."""
    before = [0.0, *(sample.at for sample in samples)]
    lasted = [max(sample.at - since, 0.001) for sample, since in zip(samples, before, strict=False)]

    def known(value: _Value) -> list[tuple[float, float]]:
        pairs = ((value(sample), weight) for sample, weight in zip(samples, lasted, strict=True))
        return [(found, weight) for found, weight in pairs if found is not None and math.isfinite(found)]

    whole = sum(lasted)
    levels = {
        level: sum(weight for sample, weight in zip(samples, lasted, strict=True) if sample.level is level) / whole
        for level in Level
        if samples
    }
    return Figures(
        rtt_ms=spread(known(lambda one: one.rtt_ms)),
        jitter_ms=spread(known(lambda one: one.jitter_ms)),
        playout_delay_ms=spread(known(lambda one: one.playout_delay_ms)),
        loss=spread(known(lambda one: one.loss)),
        loss_sent=spread(known(lambda one: one.loss_sent)),
        score=spread(known(lambda one: one.score)),
        levels=levels,
    )


def spread(values: Sequence[tuple[float, float]]) -> Spread | None:
    """Of values with their weights; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    whole = sum(weight for _, weight in ordered)

    def below(share: float) -> float:
        passed = 0.0
        for value, weight in ordered:
            passed += weight
            if passed >= share * whole:
                return value
        return ordered[-1][0]

    return Spread(ordered[0][0], below(0.5), below(0.95), ordered[-1][0])


# --- as text ----------------------------------------------------------------------------------------------------------


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours if there are any."""
    whole = max(0, int(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def short(seconds: float) -> str:
    """A time that somebody waited."""
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{clock(seconds)} min"


def percent(share: float) -> str:
    """A share, 0 to 1: only none of it is 0 %, and only all of it 100 %."""
    if 0 < share < 0.0005:
        return "under 0.1\u00a0%"
    if 0.9995 <= share < 1:
        return "over 99.9\u00a0%"
    return f"{share * 100:.1f}".removesuffix(".0") + "\u00a0%"


def amount(count: int) -> str:
    """Bytes, in decimal units."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
