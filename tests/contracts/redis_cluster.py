"""Two signaling servers, each a process of its own, on one real Redis."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.coturn import free_port
from tests.tools import require_tool

START_TIMEOUT = 15.0  # seconds


class Redis:
    """One `redis-server` on loopback, which keeps nothing on disk; its folder goes with it."""

    def __init__(self, *extra: str) -> None:
        self.port = free_port("127.0.0.1")
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self._arguments = [
            *(require_tool("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
            *("--appendonly", "no", "--dir", self._folder.name, *extra),
        ]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(self._arguments, stdout=subprocess.DEVNULL)
        until = time.monotonic() + START_TIMEOUT
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as client:
                client.sendall(b"PING\r\n")
                if client.recv(100).startswith(b"+PONG"):
                    return
            time.sleep(0.02)
        raise RuntimeError("redis-server does not listen")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()


class Cluster:
    """Two servers with the same Redis.

    Args:
        program: what each of them is, as arguments to Python; by default `relaycall serve`.

    Attributes:
        ports: of the servers.
    """

    def __init__(self, *program: str) -> None:
        self._program = program or ("-m", "relaycall", "serve", "--port", "0", "--name", "localhost", "--json")
        self.redis = Redis()
        self.ports: list[int] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.redis)
            arguments = [sys.executable, *self._program]
            environment = {
                **os.environ,
                "RELAYCALL_REDIS": self.redis.url,
                "PYTHONPATH": str(Path(__file__).parents[2]),
            }
            for _ in range(2):
                process = subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment)
                stack.callback(_end, process)
                self._processes.append(process)
            for process in self._processes:
                assert process.stdout is not None
                said = json.loads(process.stdout.readline())
                self.ports.append(int(said["urls"][0].rpartition(":")[2]))
            self._stack = stack.pop_all()
        return self

    def kill(self, port: int) -> None:
        """The server at that port, at once."""
        self._processes[self.ports.index(port)].kill()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()
