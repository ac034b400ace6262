"""Plots over the time of a call, as SVG inside HTML.

A plot is as wide as the page and of a fixed height. Its box is the area of the plot; scales, names and numbers stand
beside it, placed by percentages, so that text keeps its size on a narrow screen. The lines are in an inner SVG that is
stretched. They differ in dashes as well as in colour, and each has its name at its end. Where nothing was measured
there is no line.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from relaycall.call.report.figures import clock

HEIGHT = 150  # pixels, of a plot
LANE = 24  # pixels, of a lane
STEPS = 300  # that the time is divided into; of what happens in one, the highest and the lowest is drawn
APART = 14  # pixels between the names of lines
HOLE = 4.0  # times the usual interval without a sample is a gap
_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)  # seconds
_BIG = 1e15

Point = tuple[float, float | None]


@dataclass(frozen=True, slots=True)
class Line:
    """One figure over time.

    Attributes:
        name: at its end, a word.
        points: times in seconds, in order, and values; None is what was not known.
        style: 0 to 3: its colour and dashes.
        filled: draw the area below it.
    """

    name: str
    points: Sequence[Point]
    style: int = 0
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over one scale.

    Attributes:
        key: a word, for programs.
        title: what it shows.
        unit: of the scale.
        lines: the first is drawn above the others.
        least: the scale reaches this far at least.
        low: where it begins.
        about: a sentence below it.
    """

    key: str
    title: str
    unit: str
    lines: Sequence[Line]
    least: float
    low: float = 0.0
    about: str = ""


@dataclass(frozen=True, slots=True)
class Numbered:
    """Something that happened, and the number by which the page tells what. `kind` is a word for its look."""

    at: float
    number: int
    kind: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a lane, from one time to another. `look` is a word for its look."""

    start: float
    end: float
    label: str
    look: str


# --- scales -----------------------------------------------------------------------------------------------------------


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` on, the last at `high` or above it: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in (1, 2, 5, 10) if one * power >= rough * 0.999999)
    count = max(1, math.ceil((high - low) / step - 1e-6))
    return [low + step * i for i in range(count + 1)]


def time_ticks(until: float, most: int = 6) -> list[float]:
    """Round times from 0 to `until`, in seconds."""
    rough = until / (most - 1)
    step = next((one for one in _TIMES if one >= rough), 86400 * math.ceil(rough / 86400))
    return [float(step * i) for i in range(int(until / step) + 1)]


def runs(points: Sequence[Point], until: float) -> list[list[tuple[float, float]]]:
    """The pieces of a line without a gap, with at most two points for each step of the time."""
    known = [(at, value) for at, value in points if value is not None and math.isfinite(value)]
    times = sorted(later - at for (at, _), (later, _) in itertools.pairwise(points))
    usual = times[len(times) // 2] if times else 0.0
    width = until / STEPS if len(points) > 2 * STEPS else 0.0
    hole = max(HOLE * usual, width)
    unknown = iter([at for at, value in points if value is None or not math.isfinite(value)])
    pieces: list[list[tuple[float, float]]] = []
    missing = next(unknown, math.inf)
    for at, value in known:
        broken = not pieces or at - pieces[-1][-1][0] > hole
        while missing < at:
            broken = broken or at - pieces[-1][-1][0] > width
            missing = next(unknown, math.inf)
        if broken:
            pieces.append([])
        pieces[-1].append((at, min(max(value, -_BIG), _BIG)))
    return [_thinned(piece, width) for piece in pieces]


def _thinned(piece: list[tuple[float, float]], width: float) -> list[tuple[float, float]]:
    """The highest and the lowest of each step, in order of time."""
    if not width:
        return piece
    steps: dict[int, list[tuple[float, float]]] = {}
    for at, value in piece:
        steps.setdefault(int(at / width), []).append((at, value))
    kept: list[tuple[float, float]] = []
    for inside in steps.values():
        kept += sorted({min(inside, key=lambda one: one[1]), max(inside, key=lambda one: one[1])})
    return kept


# --- drawing ----------------------------------------------------------------------------------------------------------


def draw(plot: Plot, until: float, marks: Sequence[Numbered] = ()) -> str:
    """A plot as a figure.

    Args:
        until: the end of the time, in seconds, above 0.
        marks: what happened meanwhile, in order.
    """
    pieces = [runs(line.points, until) for line in plot.lines]
    values = [value for line in pieces for piece in line for _, value in piece]
    scale = ticks(plot.low, max([plot.least, *values]))
    span = scale[-1] - plot.low

    def place(value: float) -> float:
        return min(max(1 - (value - plot.low) / span, 0.0), 1.0)

    inside = [
        _path(line, piece, until, place)
        for line, its in reversed(list(zip(plot.lines, pieces, strict=True)))
        for piece in its
    ]
    parts = [
        *(
            f'<line class="grid" x1="0" x2="100%" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="tick" x="-7" y="{at + 4:.1f}" text-anchor="end">{_number(value)}</text>'
            for value in scale
            for at in [place(value) * HEIGHT]
        ),
        f'<text class="unit" x="-46" y="-12">{escape(plot.unit)}</text>',
        *_time_axis(until, HEIGHT),
        *_marks(marks, until, HEIGHT),
        '<svg width="100%" height="100%" viewBox="0 0 1000 1000" preserveAspectRatio="none">',
        *inside,
        "</svg>",
        *_names(plot.lines, pieces, place),
    ]
    return _figure(plot.key, plot.title, plot.about, HEIGHT, parts)


def draw_lanes(
    key: str,
    title: str,
    lanes: Sequence[tuple[str, Sequence[Stretch]]],
    until: float,
    marks: Sequence[Numbered] = (),
    about: str = "",
) -> str:
    """Lanes, each with a name and with its stretches of time, as a figure."""
    parts = []
    for i, (name, stretches) in enumerate(lanes):
        top = i * LANE + 2
        parts.append(f'<text class="tick" x="-7" y="{top + 15}" text-anchor="end">{escape(name)}</text>')
        for one in stretches:
            start, width = 100 * one.start / until, 100 * (one.end - one.start) / until
            parts.append(
                f'<rect class="lane {one.look}" x="{start:.2f}%" width="{width:.2f}%" y="{top}" height="{LANE - 4}"/>'
            )
            label = one.label if width > 1.2 * len(one.label) + 2 else one.label[:1]
            if width > 1.5:
                at = f'x="{start + width / 2:.2f}%" y="{top + 15}"'
                parts.append(f'<text class="in {one.look}" {at} text-anchor="middle">{escape(label)}</text>')
    height = LANE * len(lanes)
    return _figure(key, title, about, height, [*parts, *_time_axis(until, height), *_marks(marks, until, height)])


def _figure(key: str, title: str, about: str, height: int, parts: Sequence[str]) -> str:
    label = escape(f"{title}. {about}".strip(), quote=True)
    return (
        f'<figure class="plot" id="plot-{key}"><figcaption>{escape(title)}</figcaption>'
        f'<div class="box"><svg width="100%" height="{height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
        f"</div>{f'<p>{escape(about)}</p>' if about else ''}</figure>"
    )


def _path(line: Line, piece: Sequence[tuple[float, float]], until: float, place: Callable[[float], float]) -> str:
    spots = [(f"{1000 * at / until:.1f}", f"{1000 * place(value):.1f}") for at, value in piece]
    drawn = "M" + "L".join(f"{x} {y}" for x, y in spots) + ("h0" if len(spots) == 1 else "")
    area = f'<path class="area s{line.style}" d="{drawn}V1000H{spots[0][0]}Z"/>' if line.filled else ""
    return f'{area}<path class="line s{line.style}" d="{drawn}"/>'


def _names(
    lines: Sequence[Line], pieces: Sequence[Sequence[Sequence[tuple[float, float]]]], place: Callable[[float], float]
) -> Iterator[str]:
    """The lines' names at the right, each at the height where its line ends, and none over another."""
    there = [(place(its[-1][-1][1]) * HEIGHT, line) for line, its in zip(lines, pieces, strict=True) if its]
    there.sort(key=lambda one: one[0])
    heights: list[float] = []
    for height, _ in there:
        heights.append(max(height, heights[-1] + APART if heights else 0.0))
    below = float(HEIGHT + APART)
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], below - APART)
        below = heights[i]
    for height, (_, line) in zip(heights, there, strict=True):
        yield (
            f'<svg class="name" x="100%" y="{height:.1f}">'
            f'<line class="line s{line.style}" x1="5" x2="25"/><text class="label s{line.style}" x="29" y="4">'
            f"{escape(line.name)}</text></svg>"
        )


def _time_axis(until: float, height: int) -> Iterator[str]:
    yield f'<line class="axis" x1="0" x2="100%" y1="{height}" y2="{height}"/>'
    for at in time_ticks(until):
        x = f"{100 * at / until:.2f}%"
        yield f'<line class="axis" x1="{x}" x2="{x}" y1="{height}" y2="{height + 4}"/>'
        yield f'<text class="tick" x="{x}" y="{height + 17}" text-anchor="middle">{clock(at)}</text>'


def _marks(marks: Sequence[Numbered], until: float, height: int) -> Iterator[str]:
    """A line for each, and numbers above: those that would stand on each other are told together."""
    together: list[list[Numbered]] = []
    for mark in marks:
        x = f"{100 * mark.at / until:.2f}%"
        yield f'<line class="mark {mark.kind}" x1="{x}" x2="{x}" y1="-4" y2="{height}"/>'
        if together and mark.at - together[-1][0].at < 0.05 * until:
            together[-1].append(mark)
        else:
            together.append([mark])
    for group in together:
        first, last = group[0].number, group[-1].number
        text = ",".join(str(mark.number) for mark in group)
        if last - first == len(group) - 1 > 1 or len(group) > 4:
            text = f"{first}–{last}"
        yield f'<text class="number" x="{100 * group[0].at / until:.2f}%" y="-7" text-anchor="middle">{text}</text>'


def _number(value: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if name == 'k' else size):g}{name}"
    return f"{round(value, 6):g}"
