"""Sound systems write about themselves to standard error, right into what we show."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Meanwhile, what libraries in C write to standard error goes nowhere; what we write goes where it did.

    With --verbose everything is shown.
    """
    if logging.getLogger().isEnabledFor(logging.INFO):
        yield
        return
    ours = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    before = sys.stderr
    try:
        if _leads_to_2(before):
            before.flush()
            sys.stderr = io.TextIOWrapper(
                open(ours, "wb", buffering=0, closefd=False),  # noqa: SIM115 (`ours` is closed below)
                encoding=before.encoding,
                errors=before.errors,
                write_through=True,
            )
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(ours, 2)
        sys.stderr = before
        os.close(ours)
        os.close(nowhere)


def _leads_to_2(stream: object) -> bool:
    try:
        return isinstance(stream, io.TextIOBase) and stream.fileno() == 2
    except (OSError, ValueError):
        return False
