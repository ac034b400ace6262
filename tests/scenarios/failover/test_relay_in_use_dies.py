"""The relay in use dies in the middle of a sentence: the call goes on over another.

How long it takes is a matter for `make bench ARGS=failover`; here it only has to be a hiccup, on a busy machine too.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.scenarios.failover.scene import NAMES, scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

MOST_MS = {"kill": 500, "freeze": 1000}


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_the_call_goes_on(tmp_path: Path, transport: str, how: str) -> None:
    chance = random.Random(f"{transport} {how}")
    async with scene(tmp_path) as call:
        await call.connect(transport)
        await call.talk(2)
        victim = chance.choice(NAMES)
        relay, struck = await call.strike(victim, how, chance.random() * 0.04)
        await call.talk(1)
        await call.flowing()
        for name, gap in (await call.gaps(struck)).items():
            assert gap["gap_ms"] < MOST_MS[how], (name, gap)
            assert await call.relay_in_use(name) is not relay
        await call.event(victim, "RelayChanged", within=1)
        await call.close()


@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_a_protected_call_does_not_notice(tmp_path: Path, how: str) -> None:
    async with scene(tmp_path) as call:
        await call.connect(protect=True)
        await call.talk(2)
        _, struck = await call.strike("alice", how)
        await call.talk(2)
        await call.flowing()
        for name, gap in (await call.gaps(struck)).items():
            assert gap["gap_ms"] < 200, (name, gap)
            assert gap["lost"] <= 1, (name, gap)
        await call.close()


async def test_a_planned_move_loses_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as call:
        await call.connect()
        await call.talk(1)
        for name in NAMES:
            before = await call.relay_in_use(name)
            moved = (await call.ends[name].ask("move"))["at"]
            await call.talk(1)
            await call.flowing()
            assert await call.relay_in_use(name) is not before
            for at, gap in (await call.gaps(moved)).items():
                assert gap["lost"] == 0, (at, gap)
                assert gap["gap_ms"] < 200, (at, gap)
        await call.close()
