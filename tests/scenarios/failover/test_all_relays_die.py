"""All relays die: the call ends on both sides within 15 seconds, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.failover.scene import NAMES, scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_the_call_ends_and_says_why(tmp_path: Path, how: str) -> None:
    async with scene(tmp_path) as call:
        await call.connect()
        await call.talk(2)
        for relay in call.relays:
            relay.kill() if how == "kill" else relay.freeze()
        ended = await call.ended(within=15)
        assert {name: ended[name]["reason"] for name in NAMES} == dict.fromkeys(NAMES, "relays_lost")
        await call.close()
