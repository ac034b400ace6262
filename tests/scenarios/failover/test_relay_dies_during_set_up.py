"""A relay dies while the call is set up: set-up completes on the others within two seconds."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.scenarios.failover.scene import scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

MOST = 2.0  # seconds


@pytest.mark.parametrize("how", ["kill", "freeze"])
@pytest.mark.parametrize("phase", [0.0, 0.002, 0.005, 0.02])
async def test_after_the_records_were_exchanged(tmp_path: Path, how: str, phase: float) -> None:
    """Both sides hold an allocation there, and prefer it; `phase` is in seconds after they began to connect."""
    async with scene(tmp_path) as call:
        records = await call.prepare(alice=(0, 1), bob=(0, 1))
        relay = call.relays[0]

        async def strike() -> None:
            await asyncio.sleep(phase)
            relay.kill() if how == "kill" else relay.freeze()

        if phase:
            took, _ = await asyncio.gather(call.exchange(records), strike())
        else:
            await strike()
            took = await call.exchange(records)
        assert took < MOST
        await call.flowing(within=MOST)
        await call.left(relay, within=MOST)
        await call.close()


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_before_it_was_allocated(tmp_path: Path, how: str) -> None:
    """It takes what it takes with every relay there, on this machine as busy as it is, and not a wait for the dead."""
    took = []
    for dies in (False, True):
        folder = tmp_path / str(dies)
        folder.mkdir()
        async with scene(folder) as call:
            relay = call.relays[0]
            if dies:
                relay.kill() if how == "kill" else relay.freeze()
            start = time.monotonic()
            await call.exchange(await call.prepare(alice=(0, 1), bob=(0, 1)))
            took.append(time.monotonic() - start)
            await call.flowing(within=MOST)
            await call.close()
    usual, without = took
    assert without - usual < MOST
