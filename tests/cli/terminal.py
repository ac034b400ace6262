"""A program with a terminal of its own: what it shows, and what a person types."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path

from tests.tools import require_tool

COMMAND = [sys.executable, "-W", "error", "-m", "relaycall"]
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`relaycall` with these arguments, as somebody starts it.

    Attributes:
        screen: all that it has written, as it came.
        command_lines: what others on this machine could see of it.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *arguments: str | Path,
        columns: int = 120,
        lines: int = 50,
        cwd: Path | None = None,
    ) -> None:
        self.screen = ""
        self.command_lines: set[bytes] = set()
        self._at = 0
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._modes = termios.tcgetattr(slave)
        command = [require_tool("setsid"), "--ctty", *COMMAND, *map(str, arguments)]
        size = {"COLUMNS": str(columns), "LINES": str(lines)}
        whole = {**env, **size, "PYTHONPATH": str(Path(__file__).parents[2])}
        self._slave = slave
        self._process = subprocess.Popen(command, env=whole, cwd=cwd, stdin=slave, stdout=slave, stderr=slave)

    @property
    def lines(self) -> list[str]:
        """What it has written, as lines, without the ones that change."""
        written = re.sub(r"\r\x1b\[K[^\r\n]*(?=\r\x1b\[K)", "", self.screen)
        return [line.strip("\r").rpartition("\r")[2] for line in _CONTROL.sub("", written).split("\n")]

    def expect(self, pattern: str, timeout: float = 30) -> re.Match[str]:
        """Wait until it shows this, after what was expected before."""
        until = time.monotonic() + timeout
        while not (found := re.compile(pattern).search(self.screen, self._at)):
            assert time.monotonic() < until, f"{pattern} is not in:\n{self.screen}"
            self._look()
        self._at = found.end()
        return found

    def type(self, text: str) -> None:
        """Press these keys. A long text goes in as fast as it is taken."""
        data = text.encode()
        while data:
            self._look(0.01)
            data = data[os.write(self._master, data[:1024]) :]

    def signal(self, number: signal.Signals) -> None:
        """Send it one."""
        self._process.send_signal(number)

    def end(self, timeout: float = 20) -> int:
        """The exit code, when it has ended."""
        until = time.monotonic() + timeout
        while self._process.poll() is None:
            assert time.monotonic() < until, f"it does not end:\n{self.screen}"
            self._look()
        while select.select([self._master], [], [], 0)[0]:
            self._look()
        return self._process.returncode

    def modes_are_as_before(self) -> bool:
        """Whether it has left the terminal as it was."""
        return termios.tcgetattr(self._slave) == self._modes

    def close(self) -> None:
        """Kill it, if it still runs."""
        self._process.kill()
        self._process.wait()
        os.close(self._slave)
        os.close(self._master)

    def _look(self, timeout: float = 0.05) -> None:
        if select.select([self._master], [], [], timeout)[0]:
            self.screen += os.read(self._master, 65536).decode(errors="replace")
        if self._process.poll() is None:
            self.command_lines.add(Path(f"/proc/{self._process.pid}/cmdline").read_bytes())
