"""`--report FILE`: where the page of a call goes when it is over; and the names of what later calls leave."""

from __future__ import annotations

import os
from pathlib import Path

from relaycall.errors import ConfigError

_STEP = "Check the folder and its permissions."


def path_of_call(path: Path, number: int) -> Path:
    """Where a file of the call of this number goes, from 1: the later ones beside the first."""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def check_page(path: Path) -> None:
    """Before the call. Raises ConfigError: no page can be written there."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"The report {path} is no page.", "Name it .html.")
    if path.exists() and not path.is_file():
        raise ConfigError(f"The report {path} is not a regular file.", "Give another name.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"The report {path} cannot be written.", _STEP)


def write_page(path: Path, html: str) -> None:
    """All of it or nothing, for nobody but our user to read. Raises ConfigError: it cannot be written."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(html)
        beside.replace(path)
    except (OSError, ValueError):
        raise ConfigError(f"The report could not be written to {path}.", _STEP) from None
