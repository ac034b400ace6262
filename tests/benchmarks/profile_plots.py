"""What adaptation did in one direction of a call, as an SVG file: the plots of a call's report, below each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from relaycall.call.report.plots import HEIGHT, Line, Plot, Point, draw
from relaycall.call.report.style import STYLE
from relaycall.quality.sample import Sample

WIDTH = 760  # pixels
LEFT, RIGHT, TOP, BELOW = 60, 110, 64, 34  # pixels around each plot
DRAWN = re.compile(r'<svg width="100%" height="\d+"([^>]*)>(.*)</svg></div>', re.DOTALL)
KEPT = ":root", "@media (prefers", "svg", ".grid", ".axis", ".line", ".area"  # of the report's rules


@dataclass(frozen=True)
class Course:
    """One direction of a call.

    Attributes:
        title: of the whole.
        seconds: how long it was.
        link: times and bit/s that the link can carry; infinity where there is no limit.
        speaker, listener: how it was at its ends.
    """

    title: str
    seconds: float
    link: Sequence[tuple[float, float]]
    speaker: Sequence[Sample]
    listener: Sequence[Sample]


def draw_course(course: Course) -> str:
    """A whole file: it needs nothing else, and has light and dark colours."""
    plots = _plots(course)
    rules = "".join(f"{rule}\n" for rule in re.split(r"\n(?! )", STYLE) if rule.startswith(KEPT))
    height = len(plots) * (TOP + HEIGHT + BELOW) + 36
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        f' role="img" aria-label="{escape(course.title, quote=True)}">\n'
        f"<style>\n{rules}svg text.title {{ font-weight: 600; }}\n</style>\n"
        '<rect width="100%" height="100%" style="fill: var(--page)"/>\n'
        f'<text class="title" x="14" y="24" style="font-size: 15px">{escape(course.title)}</text>\n'
        + "".join(_place(plot, course.seconds, 36 + i * (TOP + HEIGHT + BELOW)) for i, plot in enumerate(plots))
        + "</svg>\n"
    )


def _place(plot: Plot, seconds: float, top: int) -> str:
    """A plot of the report at its place in the file."""
    drawn = DRAWN.search(draw(plot, seconds))
    assert drawn is not None, "the report draws its plots in another way now"
    attributes, inside = drawn.groups()
    return (
        f'<text class="title" x="14" y="{top + 24}">{escape(plot.title)}</text>\n'
        f'<svg x="{LEFT}" y="{top + TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT}"{attributes}>{inside}</svg>\n'
    )


def _plots(course: Course) -> list[Plot]:
    sent = [(one.at, one.bitrate_sent / 1000) for one in course.speaker]
    available = [(one.at, None if one.available is None else one.available / 1000) for one in course.speaker]
    link: list[Point] = [(at, rate / 1000) for at, rate in course.link]
    rows = [(one.at, float(one.video_sent)) for one in course.speaker]
    seen = [(one.at, float(one.video_received)) for one in course.listener]
    lost = [(one.at, 100 * one.loss) for one in course.listener]
    made_up = [(one.at, 100 * one.concealed) for one in course.listener]
    return [
        Plot(
            "rate",
            "Bit rate",
            "kbit/s",
            [Line("sent", sent, 0), Line("estimated", available, 1), Line("the link", link, 2)],
            100.0,
        ),
        Plot("rows", "Video: rows of pixels", "rows", [Line("sent", rows, 0), Line("seen", seen, 1)], 360.0),
        Plot("voice", "Voice", "%", [Line("not heard", made_up, 0), Line("lost", lost, 1)], 10.0),
    ]
