from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest


def _held() -> tuple[set[object], set[threading.Thread], int]:
    gc.collect()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return set(tasks), set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
async def no_leaks() -> AsyncIterator[None]:
    """Fails a test that leaves a task, a thread or a descriptor behind."""
    tasks, threads, descriptors = _held()
    gc.freeze()  # so that collecting what the test made is quick
    yield
    tasks_after, threads_after, descriptors_after = _held()
    assert tasks_after - tasks == set()
    assert threads_after - threads == set()
    assert descriptors_after == descriptors
