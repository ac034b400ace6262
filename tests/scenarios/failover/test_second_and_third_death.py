"""One relay after the other dies. Each is replaced by a new allocation elsewhere, told to the peer in band."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.failover.scene import NAMES, scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

REPLACED = 3.0  # seconds
RESUMES = 3.0
RETRIED = 40.0  # a relay that died is left alone for half a minute


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_two_of_three_die(tmp_path: Path, how: str) -> None:
    """In the end both sides are on the third, which neither used in the beginning."""
    async with scene(tmp_path) as call:
        await call.connect(alice=(0, 1, 2), bob=(0, 1, 2))
        await call.talk(2)
        dead = []
        for name in NAMES:
            relay, _ = await call.strike(name, how)
            dead.append(relay)
            await call.flowing(within=RESUMES)
            await call.talk(REPLACED)
        assert dead[0] is not dead[1]
        for name in NAMES:
            assert await call.relay_in_use(name) not in dead
        await call.close()


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_four_of_five_die(tmp_path: Path, how: str) -> None:
    """No call holds more than four: the fifth is allocated in place of one that died, and told to the peer."""
    async with scene(tmp_path, relays=5) as call:
        await call.connect(alice=range(5), bob=range(5))
        await call.talk(2)
        for name in (*NAMES, *NAMES):
            await call.strike(name, how)
            await call.flowing(within=RESUMES)
            await call.talk(REPLACED)
        await call.close()


@pytest.mark.parametrize("how", ["kill", "freeze"])
@pytest.mark.timeout(120)
async def test_one_that_returns_is_used_again(tmp_path: Path, how: str) -> None:
    """The first returns; the second and the third die and do not."""
    async with scene(tmp_path) as call:
        await call.connect()
        await call.talk(2)
        first, _ = await call.strike("alice", how)
        await call.flowing(within=RESUMES)
        first.kill()
        await first.start()
        second, third = (relay for relay in call.relays if relay is not first)
        call.end(second, how)
        await call.flowing(within=RESUMES)
        await call.well(first, within=RETRIED)
        await call.talk(1)
        call.end(third, how)
        await call.left(third, within=RESUMES)
        await call.flowing(within=RESUMES)
        for name in NAMES:
            assert await call.relay_in_use(name) is first
        await call.close()
