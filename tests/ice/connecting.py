"""Connections over embedded relays: what tests of a whole connection are made of."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from relaycall.errors import RelayError
from relaycall.ice.allocation import Allocation, allocate
from relaycall.ice.connection import Connection
from relaycall.ice.events import ConnectionEvent, PathSelected
from relaycall.relays.server import RelayServer, Transport
from relaycall.server.turn import Relay
from relaycall.stun.address import Address
from relaycall.testing.lossy import LossyProxy
from tests.scripted import PASSWORD, USERNAME

IP = "127.0.0.1"
PACKET = b"\x80 a packet"
FRAME = 0.02  # seconds


def server(relay: Relay, transport: Transport = "udp") -> RelayServer:
    return RelayServer.parse(relay.uri(transport), username=USERNAME, password=PASSWORD)


def at(port: int, transport: Transport = "udp") -> RelayServer:
    return RelayServer(IP, port, transport).with_credentials(USERNAME, PASSWORD)


class Site:
    """Relays and connections of one test; the latter keep their events in `events`."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def relay(self, *, laboratory: bool = True, host: str = IP) -> Relay:
        relay = Relay(users={USERNAME: PASSWORD}, laboratory=laboratory, host=host)
        return await self._stack.enter_async_context(relay)

    async def lossy(self, relay: Relay) -> tuple[LossyProxy, RelayServer]:
        """A proxy before a relay, and how to reach the relay through it, over UDP."""
        assert relay.udp_port
        proxy = LossyProxy(IP, relay.udp_port)
        port, _ = await proxy.open()
        self._stack.push_async_callback(proxy.close)
        return proxy, at(port)

    async def allocation(self, given: RelayServer) -> Allocation:
        """One more, that nobody uses yet."""
        allocation = await allocate(given, laboratory=True)
        self._stack.callback(allocation.abort)
        return allocation

    def connection(self, *servers: RelayServer, controlling: bool = True, lender: LenderLog | None = None) -> Side:
        side = Side(servers, ice_controlling=controlling, lender=lender)
        self._stack.push_async_callback(side.close)
        return side

    async def pair(
        self,
        alice: Sequence[RelayServer],
        bob: Sequence[RelayServer],
        connect: bool = True,
        lender: LenderLog | None = None,
    ) -> list[Side]:
        """Two connections. `lender` is bob's."""
        both = [self.connection(*alice), self.connection(*bob, controlling=False, lender=lender)]
        await asyncio.gather(*(one.gather_candidates() for one in both))
        for one, other in zip(both, reversed(both), strict=True):
            one.remote_username, one.remote_password = other.local_username, other.local_password
            for candidate in other.local_candidates:
                await one.add_remote_candidate(candidate)
        if connect:
            await asyncio.gather(*(one.connect() for one in both))
        return both


class LenderLog:
    """A lender that replaces nothing by itself."""

    def __init__(self) -> None:
        self.gone: list[tuple[Allocation, RelayError]] = []
        self.doubted: list[Allocation] = []

    def lost(self, allocation: Allocation, error: RelayError) -> None:
        self.gone.append((allocation, error))

    def failing(self, allocation: Allocation) -> None:
        self.doubted.append(allocation)


class Side(Connection):
    """A connection that keeps its events, and where its packets came from: (allocation number, peer, packet)."""

    def __init__(
        self, servers: Sequence[RelayServer], *, ice_controlling: bool, lender: LenderLog | None = None
    ) -> None:
        self.events: list[ConnectionEvent] = []
        self.came: list[tuple[int, Address, bytes]] = []
        super().__init__(
            servers, ice_controlling=ice_controlling, laboratory=True, lender=lender, on_event=self.events.append
        )

    def relay_packet(self, index: int, peer: Address, data: bytes, now: float) -> None:
        if data[:1] == b"\x80":
            self.came.append((index, peer, data))
        super().relay_packet(index, peer, data, now)

    def selected(self) -> list[str]:
        return [event.relay for event in self.events if isinstance(event, PathSelected)]

    def told(self, *kinds: type[ConnectionEvent]) -> list[ConnectionEvent]:
        """The events of these kinds."""
        return [event for event in self.events if isinstance(event, kinds)]


class Voice:
    """Sends a numbered packet every 20 ms, and takes those of the other side, as media does.

    Attributes:
        counts: how often each number came.
        credulous: what the receiver returns.
    """

    def __init__(self, side: Side) -> None:
        self.side = side
        self.sent = 0
        self.counts: Counter[int] = Counter()
        self.credulous = True
        self._task = asyncio.ensure_future(self._speak())
        side.set_receiver(self._hear)
        side.watch()

    def silence(self) -> None:
        """Send nothing more."""
        self._task.cancel()

    async def hears(self, packets: int = 10, timeout: float = 3.0) -> None:
        """Wait for so many new packets."""
        wanted = len(self.counts) + packets
        async with asyncio.timeout(timeout):
            while len(self.counts) < wanted:  # noqa: ASYNC110 - a counter has no event
                await asyncio.sleep(0.005)

    @property
    def missing(self) -> int:
        """How many between the first and the last did not come."""
        return max(self.counts) - min(self.counts) + 1 - len(self.counts)

    def _hear(self, packet: bytes) -> bool:
        self.counts[int.from_bytes(packet[1:5], "big")] += 1
        return self.credulous

    async def _speak(self) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time()
        while self.side.error is None:
            self.sent += 1
            self.side.send_packet(b"\x80" + self.sent.to_bytes(4, "big"))
            at += FRAME
            await asyncio.sleep(at - loop.time())


@asynccontextmanager
async def talking(*sides: Side) -> AsyncIterator[list[Voice]]:
    """Both speak and listen to each other; until they have heard a good deal."""
    voices = [Voice(side) for side in sides]
    try:
        for voice in voices:
            await voice.hears()
        yield voices
    finally:
        for voice in voices:
            voice.silence()


async def warm(*sides: Side) -> None:
    """Wait until every path has answered but those that are being given up."""
    async with asyncio.timeout(3.0):
        while not all(  # noqa: ASYNC110
            pair.healthy or pair.retiring for side in sides for pair in side._agent.pairs.values()
        ):
            await asyncio.sleep(0.005)


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds
