"""The scene in network namespaces: each party and each relay is a host of its own, and the parties' packets counted."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from tests.coturn import Coturn
from tests.netns import Allowed, Network
from tests.scenarios.failover.scene import NAMES, End, Scene

PORT = 3478
RELAYS = "relay-a", "relay-b", "relay-c"


@contextmanager
def hosts() -> Iterator[Network]:
    """The network of these tests."""
    with Network(*NAMES, *RELAYS) as network:
        yield network


@asynccontextmanager
async def scene_in(network: Network) -> AsyncIterator[Scene]:
    """Two parties and three coturns (UDP and TCP), not yet in a call; the packets of the parties are counted."""
    async with AsyncExitStack() as stack:
        coturns = [
            await stack.enter_async_context(
                Coturn(ip=network.ip(host), port=PORT, prefix=network.prefix(host), min_port=20000, max_port=29999)
            )
            for host in RELAYS
        ]
        ends = {name: await stack.enter_async_context(End(prefix=network.prefix(name))) for name in NAMES}
        for name in NAMES:
            network.count(name, [Allowed(host[-1], network.ip(host), udp=(PORT,), tcp=(PORT,)) for host in RELAYS])
        yield Scene(ends, coturns)


def assert_no_packet_elsewhere(network: Network, names: Sequence[str] = NAMES) -> None:
    """Whatever the parties sent went to a relay, and something did."""
    for name in names:
        counted = network.counted(name)
        assert counted["elsewhere"] == 0, f"{name} sent to {network.strangers(name)}"
        assert sum(counted[host[-1]] for host in RELAYS) > 0


def change_address(network: Network, name: str) -> None:
    """The host gets another address on the same link, as if it had gone to another network; the old one is gone."""
    old = network.ip(name)
    router, new = old.removesuffix("2") + "1", old.removesuffix("2") + "3"
    for command in (
        f"address del {old}/24 dev eth0",
        f"address add {new}/24 dev eth0",
        f"route add default via {router}",
    ):
        subprocess.run([*network.prefix(name), "ip", *command.split()], check=True)


@contextmanager
def one_way_black_hole(network: Network, source: str, target: str) -> Iterator[None]:
    """What `source` sends to `target` vanishes; the other direction is as it was."""
    network.nft(
        target,
        f"table inet hole {{ chain in {{ type filter hook input priority 0; ip saddr {network.ip(source)} drop; }}; }}",
    )
    try:
        yield
    finally:
        network.nft(target, "delete table inet hole")
