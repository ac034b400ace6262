"""The lossy proxy does what it is told, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relaycall.testing.lossy import HOST, Conditions, Fate, LossyProxy
from tests.leaks import nothing_left_behind  # noqa: F401
from tests.waiting import eventually

COUNT = 2000


def fates(conditions: Conditions, seed: int = 1, count: int = COUNT) -> list[float | None]:
    fate = Fate(seed)
    fate.conditions = conditions
    return [fate.next() for _ in range(count)]


def runs_of_lost(fated: list[float | None]) -> list[int]:
    """The lengths of the stretches in which everything was lost."""
    runs, length = [], 0
    for fate in [*fated, 0.0]:
        if fate is None:
            length += 1
        elif length:
            runs.append(length)
            length = 0
    return runs


def test_the_same_seed_gives_the_same_fates() -> None:
    conditions = Conditions(delay=0.01, jitter=0.02, loss=0.2, burst_enter=0.01, burst_leave=0.2)
    assert fates(conditions) == fates(conditions)
    assert fates(conditions) != fates(conditions, seed=2)


def test_a_change_does_not_shift_what_comes_later() -> None:
    fate = Fate(1)
    for conditions in (Conditions(black_hole=True), Conditions(jitter=1.0, loss=0.5)) * (COUNT // 2):
        fate.conditions = conditions
        fate.next()
    fate.conditions = Conditions(loss=0.3)
    assert [fate.next() for _ in range(COUNT)] == fates(Conditions(loss=0.3), count=2 * COUNT)[COUNT:]


def test_loss_is_as_frequent_as_asked_and_independent() -> None:
    fated = fates(Conditions(loss=0.3))
    assert 0.25 < fated.count(None) / COUNT < 0.35
    runs = runs_of_lost(fated)
    assert sum(runs) / len(runs) < 1.7  # 1 / (1 - 0.3) is 1.43


def test_bursts_are_long() -> None:
    runs = runs_of_lost(fates(Conditions(burst_enter=0.02, burst_leave=0.2)))
    assert 3 < sum(runs) / len(runs) < 7  # 1 / 0.2


def test_jitter_is_on_top_of_the_delay() -> None:
    fated = [fate for fate in fates(Conditions(delay=0.1, jitter=0.05)) if fate is not None]
    assert len(fated) == COUNT
    assert 0.1 <= min(fated) < 0.11
    assert 0.14 < max(fated) <= 0.15


# --- over sockets -----------------------------------------------------------------------------------------------------


class Echo:
    """A relay that gives back what it gets, and a client that sends through the proxy."""

    def __init__(self, proxy: LossyProxy, client: socket.socket, relay: socket.socket) -> None:
        self.proxy = proxy
        self.back: list[tuple[float, bytes]] = []  # when the client had it again
        self.reached: list[bytes] = []
        self._client, self._relay = client, relay
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(client, self._answered)
        self._loop.add_reader(relay, self._asked)

    def send(self, *packets: bytes) -> None:
        for packet in packets:
            self._client.send(packet)

    def _answered(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.back.append((self._loop.time(), self._client.recv(2048)))

    def _asked(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, source = self._relay.recvfrom(2048)
                self.reached.append(data)
                self._relay.sendto(data, source)

    def packets(self) -> list[bytes]:
        return [data for _, data in self.back]


@asynccontextmanager
async def echo(seed: int = 1) -> AsyncIterator[Echo]:
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        relay.bind((HOST, 0))
        proxy = LossyProxy(HOST, relay.getsockname()[1], seed=seed)
        port, _ = await proxy.open()
        client.connect((HOST, port))
        for sock in (relay, client):
            sock.setblocking(False)
        try:
            yield Echo(proxy, client, relay)
        finally:
            loop.remove_reader(client)
            loop.remove_reader(relay)
            await proxy.close()


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def test_without_conditions_everything_passes_in_order() -> None:
    async with echo() as network:
        seen: list[bytes] = []
        network.proxy.on_packet = seen.append
        network.send(*numbered(50))
        await eventually(lambda: len(network.back) == 50)
        assert network.packets() == numbered(50) == seen
        assert network.proxy.counts == {("up", "passed"): 50, ("down", "passed"): 50}


async def test_delay_both_ways() -> None:
    async with echo() as network:
        network.proxy.set("both", delay=0.03)
        start = asyncio.get_running_loop().time()
        network.send(b"x")
        await eventually(lambda: network.back)
        assert network.back[0][0] - start >= 0.06
        assert all(late >= 0 for late in network.proxy.lateness())
        assert network.proxy.lateness() == []


async def test_jitter_reorders_and_loses_nothing() -> None:
    async with echo() as network:
        network.proxy.set("up", jitter=0.05)
        network.send(*numbered(50))
        await eventually(lambda: len(network.back) == 50)
        assert network.packets() != numbered(50)
        assert sorted(network.packets()) == sorted(numbered(50))


async def test_a_black_hole_has_a_direction_and_an_end() -> None:
    async with echo() as network:
        network.proxy.set("down", black_hole=True)
        network.send(b"a")
        await eventually(lambda: network.proxy.counts["down", "lost"] == 1)
        network.proxy.set("down", black_hole=False)
        network.proxy.set("up", black_hole=True)
        network.send(b"b")
        await eventually(lambda: network.proxy.counts["up", "lost"] == 1)
        network.proxy.set("both", black_hole=False)
        network.send(b"c")
        await eventually(lambda: network.back)
        assert network.reached == [b"a", b"c"]
        assert network.packets() == [b"c"]


async def everything_settled(network: Echo) -> None:
    """What was sent, 50 packets, is lost or back."""
    counts = network.proxy.counts
    await eventually(lambda: counts["up", "lost"] + counts["up", "passed"] == 50)
    await eventually(lambda: len(network.back) == counts["up", "passed"])


async def test_what_is_lost_depends_on_the_seed_alone() -> None:
    arrived = []
    for seed in (1, 1, 2):
        async with echo(seed) as network:
            network.proxy.set("up", loss=0.5)
            network.send(*numbered(50))
            await everything_settled(network)
            arrived.append(network.packets())
    assert arrived[0] == arrived[1] != arrived[2]


@pytest.mark.parametrize("lost", [False, True])
async def test_tcp_is_delayed_and_keeps_its_order(lost: bool) -> None:
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            received.extend(data)
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    proxy = LossyProxy(HOST, server.sockets[0].getsockname()[1])
    _, port = await proxy.open()
    proxy.set("up", delay=0.05, jitter=0.05, loss=float(lost))
    start = asyncio.get_running_loop().time()
    reader, writer = await asyncio.open_connection(HOST, port)
    sent = b"".join(numbered(200))
    for start_at in range(0, len(sent), 50):
        writer.write(sent[start_at : start_at + 50])
        await asyncio.sleep(0.001)
    await eventually(lambda: len(received) == len(sent))
    assert asyncio.get_running_loop().time() - start >= (0.25 if lost else 0.05)
    assert received == sent
    proxy.set("up", black_hole=True)
    writer.write(b"held")
    await asyncio.sleep(0.4)  # longer than a retransmission
    assert received == sent
    proxy.set("up", black_hole=False, loss=0.0)
    await eventually(lambda: received == sent + b"held")
    writer.write_eof()
    async with asyncio.timeout(5):
        assert await reader.read() == b"", "the end passes as well, and comes back"
    writer.close()
    await proxy.close()
    server.close()


async def test_tcp_to_a_dead_relay_ends() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        proxy = LossyProxy(HOST, unused.getsockname()[1])
        _, port = await proxy.open()
        reader, writer = await asyncio.open_connection(HOST, port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        await proxy.close()
