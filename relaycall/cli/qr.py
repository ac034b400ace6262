"""QR codes on a terminal, for texts that are to be photographed from it."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import segno

_QUIET = 4  # modules around the code (ISO/IEC 18004, section 6.3.8)
_BLACK_ON_WHITE = "\x1b[38;5;16;48;5;231m"  # of the colour cube, which no theme changes
_RESET = "\x1b[0m"
_HALVES = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}  # upper module, lower module


class QrText(NamedTuple):
    """A picture, or why there is none.

    Attributes:
        picture: lines of half blocks, black on white on any terminal; None if it does not fit.
        reason: a sentence for the user; empty if there is a picture.
    """

    picture: str | None
    reason: str


def qr_text(text: str, columns: int, lines: int) -> QrText:
    """A QR code of this text, if it fits.

    The code corrects as many errors as its size allows, at least 7 %: what is photographed from a screen is not dirty.
    Capitals, digits and ` $%*+-./:` take the least room.

    Args:
        columns, lines: of the terminal; two lines are left for what is written below.
    """
    try:
        code = segno.make_qr(text, error="L")
    except ValueError:
        return QrText(None, "The text is too long for a QR code, or not text at all.")
    modules = [list(row) for row in code.matrix_iter(border=_QUIET)]
    width, height = len(modules[0]), (len(modules) + 1) // 2
    if width > columns or height + 2 > lines:
        needed = f"{width} columns and {height + 2} lines"
        return QrText(None, f"The QR code needs {needed}, and this terminal has {columns} and {lines}.")
    pairs = itertools.zip_longest(modules[::2], modules[1::2], fillvalue=[0] * width)
    drawn = ("".join(_HALVES[upper, lower] for upper, lower in zip(*pair, strict=True)) for pair in pairs)
    return QrText("\n".join(f"{_BLACK_ON_WHITE}{line}{_RESET}" for line in drawn), "")
