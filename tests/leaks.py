"""What must not outlive a test: tasks, timers, threads, descriptors, and complaints of the event loop.

from tests.leaks import nothing_left_behind  # noqa: F401 - for every test of the module

async with no_leaks():  # or for a part of one
    ...
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

SETTLE = 1.0  # seconds for what was already told to end
_STEP = 0.005


@asynccontextmanager
async def no_leaks() -> AsyncIterator[None]:
    """Fail when the body leaves anything behind that was not there before.

    Threads of the event loop's own pool are let off only once they are idle: it is replaced by a pool that ends here.
    """
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    pool = ThreadPoolExecutor()
    loop.set_default_executor(pool)
    before = _everything(loop)
    gc.collect()
    gc.freeze()  # so that collecting what the body made is quick
    try:
        yield
    finally:
        pool.shutdown(wait=False)
        loop.set_default_executor(ThreadPoolExecutor())
        until = loop.time() + SETTLE
        while (left := _everything(loop) - before) and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_STEP)
        gc.collect()  # for exceptions nobody took, transports nobody closed
        await asyncio.sleep(0)
        loop.set_exception_handler(handler)
    assert not left, f"left behind: {sorted(str(entry[1:]) for entry in left)}"
    assert not complaints, f"the event loop complained: {complaints}"


@pytest.fixture(autouse=True)
async def nothing_left_behind() -> AsyncIterator[None]:
    """`no_leaks` around a whole test, for modules that import this name."""
    async with no_leaks():
        yield


def _everything(loop: asyncio.AbstractEventLoop) -> set[tuple[object, ...]]:
    current = asyncio.current_task()
    found: set[tuple[object, ...]] = {(id(task), "task", repr(task)) for task in _tasks() if task is not current}
    found |= {(id(thread), "thread", thread.name) for thread in threading.enumerate()}
    handles = loop._scheduled  # type: ignore[attr-defined]
    found |= {(id(handle), "timer", _name(handle)) for handle in handles if not handle.cancelled()}
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            found.add((descriptor.name, "descriptor", str(descriptor.readlink())))
    return found


def _tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if not task.done()}


def _name(handle: asyncio.TimerHandle) -> str:
    return str(getattr(handle._callback, "__qualname__", handle._callback))  # type: ignore[attr-defined]
