"""Programs of these tests as processes, spoken to line by line."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]


class Program:
    """A module of this folder, run under `prefix`; see `party`. An asynchronous context manager."""

    def __init__(self, module: str, settings: dict[str, Any], prefix: Sequence[str] = ()) -> None:
        self._command = [*prefix, sys.executable, "-m", f"tests.scenarios.{module}", json.dumps(settings)]

    async def __aenter__(self) -> Program:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=self._complaints, limit=1 << 20
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()
        self._complaints.close()

    async def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            self._complaints.seek(0)
            raise AssertionError(f"the program ended:\n{self._complaints.read().decode()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
