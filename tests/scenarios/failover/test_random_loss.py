"""Packets are lost at random, up to 30 %, on every path alike: nobody moves, since nothing is better elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from relaycall.testing.lossy import LossyProxy
from tests.scenarios.failover.scene import Scene, scene
from tests.scenarios.failover.test_one_direction_black_holed import proxied

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SECONDS = 60.0
LOSSES = 0.1, 0.2, 0.3


@asynccontextmanager
async def lossy_call(folder: Path) -> AsyncIterator[tuple[Scene, list[LossyProxy]]]:
    async with scene(folder) as call, AsyncExitStack() as stack:
        yield call, await proxied(call, stack, "udp")


@pytest.mark.timeout(120)
async def test_nobody_moves(tmp_path: Path) -> None:
    """Three calls at once, one for each loss; it is between Alice and her relays, in both directions."""
    async with AsyncExitStack() as stack:
        calls = {}
        for loss in LOSSES:
            call, proxies = await stack.enter_async_context(lossy_call(Path(mkdtemp(dir=tmp_path))))
            calls[loss] = call, proxies
        await asyncio.sleep(2)  # until each has settled on a path
        for loss, (_, proxies) in calls.items():
            for proxy in proxies:
                proxy.set("both", loss=loss)
        before = {loss: counted(proxies) for loss, (_, proxies) in calls.items()}
        since = time.monotonic()
        await asyncio.sleep(SECONDS)
        for loss, (call, proxies) in calls.items():
            assert loss - 0.05 < share_lost(proxies, before[loss]) < loss + 0.05, "the network is not as it should be"
            assert await call.moves(since) == [], f"at {loss:.0%}"
            await call.flowing()
            await call.close()


def counted(proxies: list[LossyProxy]) -> Counter[str]:
    """Packets by what became of them."""
    total: Counter[str] = Counter()
    for proxy in proxies:
        for (_, fate), packets in proxy.counts.items():
            total[fate] += packets
    return total


def share_lost(proxies: list[LossyProxy], before: Counter[str]) -> float:
    """How much of the packets since then was lost."""
    since = counted(proxies) - before
    return since["lost"] / since.total()
