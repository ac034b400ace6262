"""Waiting for what is about to happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], object], timeout: float = 5.0) -> None:
    """Return once it holds; fail if it does not in that many seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    while not condition():
        assert loop.time() < until, "it did not happen"
        await asyncio.sleep(0.005)
