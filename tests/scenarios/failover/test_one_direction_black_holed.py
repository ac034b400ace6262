"""One direction of a path is a black hole: both sides move, the one that hears everything too."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relaycall.testing.lossy import LossyProxy
from tests.scenarios.failover.scene import NAMES, Scene, scene

pytestmark = [pytest.mark.interop, pytest.mark.slow]

MOVES = 3.0  # seconds


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_both_move(tmp_path: Path, direction: str) -> None:
    """Between Alice and the relay she uses."""
    async with scene(tmp_path) as call, AsyncExitStack() as stack:
        proxies = await proxied(call, stack, "udp")
        await call.talk(2)
        number = call.relays.index(await call.relay_in_use("alice"))
        before = {name: (await call.ends[name].ask("facts"))["paths"][0][:2] for name in NAMES}
        proxies[number].set(direction, black_hole=True)
        await call.flowing(within=MOVES)
        after = await call.facts()
        for name in NAMES:
            assert after[name]["paths"][0][:2] != before[name], f"{name} did not move"
        assert await call.relay_in_use("alice") is not call.relays[number]
        await call.close()


async def proxied(call: Scene, stack: AsyncExitStack, transport: str) -> list[LossyProxy]:
    """Connect; Alice reaches each of her relays through a proxy."""
    proxies: list[LossyProxy] = []
    entries = []
    for relay in call.relays:
        proxy = LossyProxy(relay.ip, relay.port, seed=len(proxies))
        udp, tcp = await proxy.open()
        stack.push_async_callback(proxy.close)
        proxies.append(proxy)
        entries.append(call.entry(relay, transport, port=udp if transport == "udp" else tcp))
    await call.connect(entries={"alice": entries, "bob": call.entries(transport, (1, 2, 0))})
    return proxies
