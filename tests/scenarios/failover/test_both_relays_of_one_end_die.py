"""Both relays of one end die, then one returns within ten seconds: the call resumes, signaling or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.failover.scene import scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

AWAY = 5.0  # seconds
RESUMES = 8.0  # seconds after the return; a busy machine takes most of them


@pytest.mark.parametrize("name", ["alice", "bob"])
async def test_the_call_resumes_when_one_returns(tmp_path: Path, name: str) -> None:
    async with scene(tmp_path) as call:
        alice, bob = ((0, 1), (2,)) if name == "alice" else ((2,), (0, 1))
        await call.connect(alice=alice, bob=bob)
        await call.talk(2)
        for relay in call.relays[:2]:
            relay.kill()
        await call.talk(AWAY)
        facts = await call.facts()
        assert [facts[each]["ended"] for each in facts] == [None, None]
        await call.relays[1].start()
        await call.flowing(within=RESUMES)
        assert await call.relay_in_use(name) is call.relays[1]
        await call.close()
