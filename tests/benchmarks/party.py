"""A party in a process of its own, so that the CPU it uses is its own.

    async with Party(CallParty) as party:
        offer = await party.ask("offer", uri)

The object lives in the child; each method of it can be asked from here, one at a time.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

END_TIMEOUT = 5.0  # seconds a party gets to close


class Party:
    """A process with one object in it.

    Args:
        kind: makes the object, in the child. If it has an async `close()`, that is called at the end.
        arguments: for `kind`; they are pickled.
    """

    def __init__(self, kind: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, kind, arguments), daemon=True)
        self._child = child

    async def __aenter__(self) -> Party:
        self._process.start()
        self._child.close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()  # its end
        await asyncio.to_thread(self._process.join, END_TIMEOUT)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process.close()

    async def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method there and wait for what it returns. RuntimeError with its traceback if it raised."""
        try:
            self._pipe.send((method, arguments))
            failed, value = await _receive(self._pipe)
        except (EOFError, OSError):
            raise RuntimeError(f"the party ended during {method}") from None
        if failed:
            raise RuntimeError(f"{method} failed in the party:\n{value}")
        return value


async def _receive(pipe: Connection) -> Any:
    """The next message, without a thread."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(pipe.fileno(), readable.set)
    try:
        if not pipe.poll():
            await readable.wait()
        return pipe.recv()
    finally:
        loop.remove_reader(pipe.fileno())


def _serve(pipe: Connection, kind: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    logging.disable(logging.WARNING)  # laboratory mode says so each time
    asyncio.run(_answer(pipe, kind, arguments))


async def _answer(pipe: Connection, kind: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    party = kind(*arguments)
    try:
        while True:
            try:
                method, given = await _receive(pipe)
            except (EOFError, OSError):
                return
            try:
                value = getattr(party, method)(*given)
                if inspect.isawaitable(value):
                    value = await value
                pipe.send((False, value))
            except Exception:
                pipe.send((True, traceback.format_exc()))
    finally:
        if hasattr(party, "close"):
            await party.close()


class CpuMeter:
    """CPU and wall time of this process between two moments, all threads and the kernel's work included."""

    def __init__(self) -> None:
        gc.collect()
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def read(self) -> tuple[float, float]:
        """CPU seconds and wall seconds since it was made."""
        return time.process_time() - self._cpu, time.monotonic() - self._wall
