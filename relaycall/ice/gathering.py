"""Allocating on several relays at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from relaycall.errors import CallClosed, RelayError, RelayTimeout
from relaycall.ice.allocation import Allocation, allocate
from relaycall.relays.server import RelayServer

logger = logging.getLogger(__name__)

GRACE = 1.5  # seconds the other relays get once one has answered


async def gather(
    servers: Sequence[RelayServer], families: Sequence[int], laboratory: bool, stop: asyncio.Future[None]
) -> tuple[dict[int, Allocation], list[RelayError]]:
    """Allocate on every relay and family at once.

    Returns when all have answered or failed, at most 1.5 seconds after the first success and at most 5 seconds in all.
    Failures are logged, so that none is silent.

    Args:
        servers, families, laboratory: as for `Connection`.
        stop: when this is done, all is given up.

    Raises:
        CallClosed: it was stopped.

    Returns:
        The allocations by their place in the list of relays (times families), and the errors of the others in order.
    """
    wanted = [(server, family) for server in servers for family in families]
    tasks = [asyncio.ensure_future(allocate(server, family=family, laboratory=laboratory)) for server, family in wanted]
    try:
        await _enough(tasks, stop)
    except BaseException:
        for task in tasks:
            if task.done() and task.exception() is None:
                task.result().abort()
        raise
    finally:
        for task in tasks:
            task.cancel()  # and not awaited, which could be cancelled too: from here on it cannot succeed
    allocations: dict[int, Allocation] = {}
    failures: list[RelayError] = []
    for index, ((server, _), task) in enumerate(zip(wanted, tasks, strict=True)):
        error = task.exception() if task.done() else RelayTimeout(server.name)
        if error is None and task.result().error is not None:  # lost again while the others were waited for
            error = task.result().error
            task.result().abort()
        if error is None:
            allocations[index] = task.result()
        else:
            failures.append(error if isinstance(error, RelayError) else RelayError(server.name))
            logger.warning("%s", failures[-1])
    return allocations, failures


async def _enough(tasks: Sequence[asyncio.Task[Allocation]], stop: asyncio.Future[None]) -> None:
    """Wait until all are done, or for a while longer than the first success."""
    pending: set[asyncio.Future[Any]] = set(tasks)
    until: float | None = None
    loop = asyncio.get_running_loop()
    while pending:
        done, waiting = await asyncio.wait(
            pending | {stop},
            timeout=None if until is None else max(0.0, until - loop.time()),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if stop.done():
            raise CallClosed
        if not done:
            return
        pending = waiting - {stop}
        if until is None and any(not task.cancelled() and task.exception() is None for task in done):
            until = loop.time() + GRACE
