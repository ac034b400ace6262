"""The wall clock of one side is set an hour back or forward: nothing happens."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.scenarios.failover.scene import NAMES, scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

DOUBTS = {"RelaySuspected", "NoBackup"}  # a busy machine gives cause for them by itself


@pytest.mark.parametrize("seconds", [-3600, 3600])
async def test_nothing_happens(tmp_path: Path, seconds: int) -> None:
    async with scene(tmp_path) as call:
        await call.connect()
        await call.talk(2)
        since = time.monotonic()
        await call.ends["alice"].ask("set_wall_clock", seconds=seconds)
        await call.talk(8)
        await call.flowing()
        facts = await call.facts()
        for name in NAMES:
            events = {event["name"] for event in facts[name]["events"] if event["at"] > since}
            assert events <= DOUBTS, events
            assert facts[name]["ended"] is None
        for name, gap in (await call.gaps(since)).items():
            assert gap["lost"] == 0, (name, gap)
            assert gap["gap_ms"] < 300, (name, gap)
        await call.close()
