"""One side's event loop is blocked for two seconds. That is its own fault, and no reason to leave a relay."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.scenarios.failover.scene import NAMES, scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]


@pytest.mark.parametrize("name", NAMES)
async def test_nobody_moves(tmp_path: Path, name: str) -> None:
    async with scene(tmp_path) as call:
        await call.connect()
        await call.talk(3)
        since = time.monotonic()
        before = {each: facts["paths"][0][:2] for each, facts in (await call.facts()).items()}
        await asyncio.sleep(0.1)
        await call.ends[name].ask("block", seconds=2.0)
        await call.talk(2)
        await call.flowing()
        after = await call.facts()
        assert {each: facts["paths"][0][:2] for each, facts in after.items()} == before
        assert await call.moves(since) == []
        await call.close()
