"""What a benchmark found: figures with their spread, and the table that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One quantity, measured several times."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        """Median (least–most), to three digits."""
        if len(self.values) == 1:
            return _digits(self.median)
        return f"{_digits(self.median)} ({_digits(min(self.values))}–{_digits(max(self.values))})"


def _digits(value: float) -> str:
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


@dataclass
class Table:
    """Rows under columns; the first column is text, the others are set to the right."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Add a row; figures show their median and spread."""
        self.rows.append([str(cell) for cell in cells])

    def __str__(self) -> str:
        lines = [list(self.columns), *(list(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        text = [
            "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(cells))
            for cells in (list(zip(line, widths, strict=True)) for line in lines)
        ]
        rule = "-" * len(text[0])
        return "\n".join([self.title, rule, text[0].rstrip(), rule, *text[1:], rule, *self.notes])


@dataclass
class Report:
    """What one benchmark found.

    Attributes:
        tables: for people.
        figures: for programs; the name ends with the unit ("setup_udp_relaycall_rtt50_ms").
        facts: what is not a number that varies.
    """

    tables: list[Table] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        figures = {
            name: {
                "median": figure.median,
                "min": min(figure.values),
                "max": max(figure.values),
                "values": list(figure.values),
            }
            for name, figure in self.figures.items()
        }
        return {"figures": figures, "facts": self.facts}


def ratio(stock: Figure, ours: Figure) -> str:
    """How many times more plain aiortc takes, by the medians."""
    return f"{stock.median / ours.median:.1f}x" if ours.median > 0 else "-"
