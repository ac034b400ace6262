"""One direction between two relays is a black hole, where neither party's own checks of its relay can see it."""

from __future__ import annotations

import pytest

from tests.scenarios.failover.namespaces import (
    RELAYS,
    assert_no_packet_elsewhere,
    hosts,
    one_way_black_hole,
    scene_in,
)
from tests.scenarios.failover.scene import NAMES, OTHER

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.slow]

MOVES = 3.0  # seconds


@pytest.mark.parametrize("deaf", NAMES)
async def test_both_move(deaf: str) -> None:
    """`deaf`: who does not get the other's packets."""
    with hosts() as network:
        async with scene_in(network) as call:
            await call.connect(alice=(0, 2), bob=(1,))
            await call.talk(2)
            used = {name: await call.relay_in_use(name) for name in NAMES}
            before = {name: facts["paths"][0][:2] for name, facts in (await call.facts()).items()}
            source, target = (RELAYS[call.relays.index(used[name])] for name in (OTHER[deaf], deaf))
            with one_way_black_hole(network, source, target):
                await call.flowing(within=MOVES)
                after = await call.facts()
                for name in NAMES:
                    assert after[name]["paths"][0][:2] != before[name], f"{name} did not move"
                await call.close()
            assert_no_packet_elsewhere(network)
