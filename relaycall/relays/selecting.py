"""Choosing among relays by measuring them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from relaycall.relays.probe import TIMEOUT, OnProgress, probe
from relaycall.relays.ranking import Ranking, Selection
from relaycall.relays.server import RelayServer

GRACE = 1.5  # seconds the other relays get once one is known to be usable


async def select_relays(
    relays: Sequence[RelayServer],
    *,
    ranking: Ranking | None = None,
    timeout: float = TIMEOUT,
    grace: float | None = GRACE,
    laboratory: bool = False,
    on_progress: OnProgress | None = None,
) -> Selection:
    """Probe relays and choose a primary and a backup.

    Args:
        relays: with credentials.
        ranking: what is known from before; give the same one each time, so that the choice does not flap.
        timeout, grace, laboratory, on_progress: as for `probe`.

    Raises:
        ConfigError: there are no relays.
        NoRelay: none is usable; it holds the reason for each.
    """
    results = await probe(relays, timeout=timeout, grace=grace, laboratory=laboratory, on_progress=on_progress)
    return (ranking or Ranking()).update(results, asyncio.get_running_loop().time())
