"""Cards as they come to the command line: as text, in a file, from standard input, or pasted."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import IO

import click

from relaycall.cli.asking import check_terminal
from relaycall.errors import ConfigError
from relaycall.identity.card import Card, card_from_text
from relaycall.signaling.armor import MAX_TEXT

MARK, _END = "RELAYCALL-", ":RELAYCALL"  # of a text of ours


def read_card(given: str | None) -> Card:
    """Somebody's card.

    Args:
        given: the text itself, a file, or `-` for standard input; None to have it pasted. It is never repeated in an
            error, since it may be something else that was pasted in the wrong place.

    Raises:
        ConfigError: there is nothing to read, or nobody to ask.
        TextRefused, CardRefused: it is not a card, or not a whole one.
    """
    if given is None:
        check_terminal("the card as a text, as a file, or - for standard input")
        return card_from_text(_pasted())
    if MARK in given.upper():
        return card_from_text(given)
    return card_from_text(_bounded(sys.stdin) if given == "-" else _read(given))


def _pasted() -> str:
    """What is pasted, up to the end of a card or an empty line."""
    click.echo("Paste their card:", err=True)
    text = ""
    while len(text) <= MAX_TEXT and _END not in text.upper() and (line := sys.stdin.readline()).strip():
        text += line
    return text


def _read(given: str) -> str:
    try:
        path = Path(given).expanduser()
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):  # what a shell gives for <(...) is one of the latter
            with path.open(encoding="utf-8") as file:
                return _bounded(file)
    except (OSError, RuntimeError, UnicodeDecodeError, ValueError):
        pass
    raise ConfigError(
        "The card is neither the text of one nor a file that can be read.",
        "Give the whole text, from RELAYCALL- to :RELAYCALL, a file that holds it, or - for standard input.",
    )


def _bounded(file: IO[str]) -> str:
    try:
        return file.read(MAX_TEXT + 1)
    except UnicodeDecodeError:
        raise ConfigError("What is given as a card is not text.", "Give the file that was exported.") from None
