"""The relay in use dies at the moment of hanging up: a clean end on both sides."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.scenarios.failover.scene import scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]


@pytest.mark.parametrize("how", ["kill", "freeze"])
@pytest.mark.parametrize("phase", [-0.02, 0.0, 0.01])
async def test_both_ends_are_clean(tmp_path: Path, how: str, phase: float) -> None:
    """`phase`: seconds from the hangup to the death."""
    async with scene(tmp_path) as call:
        await call.connect()
        await call.talk(2)
        relay = await call.relay_in_use("alice")
        closing = asyncio.ensure_future(call.ends["alice"].ask("close", delay=0.05))
        await asyncio.sleep(0.05 + phase)
        relay.kill() if how == "kill" else relay.freeze()
        assert (await closing)["seconds"] < 2
        ended = await call.ended(within=5)
        assert ended["alice"]["reason"] == "hung_up"
        assert ended["bob"]["reason"] == "peer_hung_up"
        await call.close()


async def test_control_without_a_death_it_is_as_clean(tmp_path: Path) -> None:
    async with scene(tmp_path) as call:
        await call.connect()
        await call.talk(0.5)
        assert (await call.ends["alice"].ask("close"))["seconds"] < 2
        ended = await call.ended(within=2)
        assert ended["bob"]["reason"] == "peer_hung_up"
        await call.close()
