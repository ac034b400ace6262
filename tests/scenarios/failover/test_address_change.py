"""One side's address changes: the call resumes on new allocations, still over relays only."""

from __future__ import annotations

import pytest

from tests.scenarios.failover.namespaces import assert_no_packet_elsewhere, change_address, hosts, scene_in
from tests.scenarios.failover.scene import NAMES

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.slow]

RESUMES = 8.0  # seconds


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("name", NAMES)
async def test_the_call_resumes(name: str, transport: str) -> None:
    with hosts() as network:
        async with scene_in(network) as call:
            await call.connect(transport)
            await call.talk(2)
            change_address(network, name)
            await call.flowing(within=RESUMES)
            facts = await call.facts()
            assert [facts[each]["ended"] for each in facts] == [None, None]
            await call.talk(2)
            await call.close()
            assert_no_packet_elsewhere(network)


async def test_control_a_new_address_is_not_reached_by_old_sockets() -> None:
    """Without new allocations nothing could come back: the relay knows the old address, and that is gone."""
    with hosts() as network:
        async with scene_in(network) as call:
            await call.connect()
            change_address(network, "alice")
            await call.talk(0.1)
            before = await call.ends["alice"].ask("facts")
            await call.talk(0.3)
            after = await call.ends["alice"].ask("facts")
            assert after["arrived"] - before["arrived"] < 10
            await call.close()
