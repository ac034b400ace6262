"""Keys as they are pressed, and what is pasted: without the line discipline, which ends a line at 4096 characters."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

_PASTE = 4  # characters at once that nobody presses


class Keyboard:
    """The terminal that we are started on, while a call has it. A context manager, which leaves it as it was.

    Where standard input is no terminal, nobody presses anything.

    Attributes:
        there: whether there is one.
        on_key: called with each key that is pressed, in lower case; not with what is pasted, nor with arrows and the
            like.
        on_text: called with whatever comes, in place of `on_key`.
    """

    def __init__(self) -> None:
        self.there = sys.stdin.isatty()
        self.on_key: Callable[[str], object] | None = None
        self.on_text: Callable[[str], object] | None = None
        self._before: list[Any] | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self) -> Keyboard:
        if self.there:
            import termios
            import tty

            self._fd = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)  # Ctrl-C is still a signal
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            self.restore()

    def restore(self) -> None:
        """Leave the terminal as it was."""
        if self._before is not None:
            import termios

            with contextlib.suppress(termios.error):  # it is gone
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            data = b""
        if not data:  # it is gone; SIGHUP says what that means
            asyncio.get_running_loop().remove_reader(self._fd)
            return
        text = self._decoder.decode(data)
        if self.on_text is not None:
            self.on_text(text)
        elif len(text) <= _PASTE and not text.startswith("\x1b"):
            for key in text.lower():
                if self.on_key is not None:
                    self.on_key(key)
