"""Being told to end: by Ctrl-C, by SIGTERM, by a key, or because the terminal is closed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType

INTERRUPTED = 130


class Stop:
    """Something to wait for. A context manager; a second Ctrl-C within ends the program at once.

    Attributes:
        told: an event, set when we are told to end.
        code: the exit code then: 130 for Ctrl-C, 0 for other signals.
        last: what is done even when the program ends at once, such as completing a recording. It must not wait.
    """

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.code = 0
        self.last: list[Callable[[], object]] = []
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Stop:
        self._loop.add_signal_handler(signal.SIGINT, self._interrupted)
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._loop.add_signal_handler(number, self.tell, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def tell(self, code: int) -> None:
        """End, with this exit code."""
        self.code = code
        self.told.set()

    def _interrupted(self) -> None:
        if self.told.is_set():
            self._end_at_once()
        self.tell(INTERRUPTED)

    def _end_at_once(self) -> None:
        """Without waiting for anybody: the other side finds out by itself."""
        for one in (*self.last, sys.stdout.flush, sys.stderr.flush):
            with contextlib.suppress(Exception):
                one()
        os._exit(INTERRUPTED)
