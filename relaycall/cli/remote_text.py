"""Texts of other people on our terminal."""

from __future__ import annotations


def shown(text: str) -> str:
    """A text that somebody else chose, safe to show: quoted, in one line, and every character of it to be seen.

    What would move the cursor, colour, hide or turn around what stands beside it is shown as its number. It is not
    markup: give it to rich as a `Text`.
    """
    return '"' + "".join(_shown(character) for character in text) + '"'


def _shown(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else character.encode("unicode_escape").decode()
