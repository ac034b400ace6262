"""Allocating on several relays at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from relaycall.errors import RelayError, RelayTimeout
from relaycall.ice.allocation import Allocation, allocate
from relaycall.relays.server import RelayServer

logger = logging.getLogger(__name__)

GRACE = 1.5  # seconds the other relays get once one has answered


async def gather(
    servers: Sequence[RelayServer], families: Sequence[int], *, laboratory: bool
) -> tuple[dict[int, Allocation], list[RelayError]]:
    """Allocate on every relay and family at once.

    Returns when all have answered or failed, at most 1.5 seconds after the first success and at most 5 seconds in all.
    Failures are logged, so that none is silent.

    Returns:
        The allocations by their place in the list of relays (times families), and the errors of the others in order.
    """
    wanted = [(server, family) for server in servers for family in families]
    tasks = [asyncio.ensure_future(allocate(server, family=family, laboratory=laboratory)) for server, family in wanted]
    finished = False
    try:
        await _enough(tasks)
        finished = True
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if not finished:
            for task in tasks:
                if not task.cancelled() and task.exception() is None:
                    task.result().abort()
    allocations: dict[int, Allocation] = {}
    failures: list[RelayError] = []
    for index, ((server, _), task) in enumerate(zip(wanted, tasks, strict=True)):
        error = RelayTimeout(server.name) if task.cancelled() else task.exception()
        if error is None:
            allocations[index] = task.result()
        else:
            failures.append(error if isinstance(error, RelayError) else RelayError(server.name))
            logger.warning("%s", failures[-1])
    return allocations, failures


async def _enough(tasks: Sequence[asyncio.Task[Allocation]]) -> None:
    """Wait until all are done, or for a while longer than the first success."""
    pending = set(tasks)
    until: float | None = None
    loop = asyncio.get_running_loop()
    while pending:
        done, pending = await asyncio.wait(
            pending,
            timeout=None if until is None else max(0.0, until - loop.time()),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            return
        if until is None and any(not task.cancelled() and task.exception() is None for task in done):
            until = loop.time() + GRACE
