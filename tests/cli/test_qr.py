"""QR codes on a terminal."""

from __future__ import annotations

import re

import pytest
import segno

from relaycall.cli.qr import qr_text
from relaycall.signaling.armor import armor

PAYLOADS = [bytes(number % 251 for number in range(size)) for size in (0, 48, 300, 700, 1600)]
WIDE = {"columns": 400, "lines": 400}


def modules_of(picture: str) -> list[list[int]]:
    """What a camera sees: 1 where it is black."""
    rows = []
    for line in picture.split("\n"):
        found = re.fullmatch(r"\x1b\[38;5;16;48;5;231m([ ▀▄█]+)\x1b\[0m", line)
        assert found
        rows.append([int(half in "▀█") for half in found[1]])
        rows.append([int(half in "▄█") for half in found[1]])
    return rows


@pytest.mark.parametrize("payload", PAYLOADS, ids=len)
def test_what_is_drawn_is_the_code_with_its_quiet_zone(payload: bytes) -> None:
    text = armor("card", payload)
    picture, reason = qr_text(text, **WIDE)
    assert reason == ""
    rows = modules_of(picture or "")
    code = [list(row) for row in segno.make_qr(text, error="L").matrix]
    size = len(code)
    assert [row[4 : 4 + size] for row in rows[4 : 4 + size]] == code
    assert {len(row) for row in rows} == {size + 8}
    assert len(rows) == size + 9  # the last half line is light
    around = [*rows[:4], *rows[4 + size :], *([*row[:4], *row[4 + size :]] for row in rows)]
    assert not any(any(row) for row in around)


@pytest.mark.parametrize(
    ("payload", "version"), list(zip(PAYLOADS, ["2-L", "5-L", "12-L", "20-L", "31-L"], strict=True))
)
def test_texts_make_small_codes(payload: bytes, version: str) -> None:
    """As docs/protocol.md says: all characters are of the alphabet that takes 5.5 bits each."""
    code = segno.make_qr(armor("envelope", payload), error="L", boost_error=False)
    assert (code.designator, code.mode) == (version, "alphanumeric")


def test_it_fits_exactly_or_says_what_it_needs() -> None:
    text = armor("card", PAYLOADS[2])
    assert qr_text(text, 73, 39).picture
    for columns, lines in ((72, 39), (73, 38), (0, 0)):
        assert qr_text(text, columns, lines) == (
            None,
            f"The QR code needs 73 columns and 39 lines, and this terminal has {columns} and {lines}.",
        )


@pytest.mark.parametrize("text", ["A" * 4297, "\ud800"])
def test_what_no_code_holds(text: str) -> None:
    assert qr_text(text, **WIDE) == (None, "The text is too long for a QR code, or not text at all.")
