"""The lossy proxy does what it is told, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relaycall.testing.conditions import Schedule
from relaycall.testing.link import Link
from relaycall.testing.lossy import HOST, LossyProxy
from tests.leaks import nothing_left_behind  # noqa: F401
from tests.waiting import eventually


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
async def echo(seed: int = 1, link: Link | None = None) -> AsyncIterator[Echo]:
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        relay.bind((HOST, 0))
        proxy = LossyProxy(HOST, relay.getsockname()[1], seed=seed, link=link)
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


@pytest.mark.parametrize("reorder", [0, 1])
async def test_jitter_reorders_when_told_to_and_loses_nothing(reorder: int) -> None:
    async with echo() as network:
        network.proxy.set("up", jitter=0.05, reorder=reorder, reorder_delay=0)
        network.send(*numbered(50))
        await eventually(lambda: len(network.back) == 50)
        assert (network.packets() == numbered(50)) == (not reorder)
        assert sorted(network.packets()) == sorted(numbered(50))


async def test_a_rate_spreads_packets_and_a_full_queue_loses_the_last() -> None:
    """100 packets of 128 bytes on the link, 10 ms each, and a queue for 20 of them."""
    async with echo() as network:
        network.proxy.set("up", rate=128 * 8 / 0.01, queue=0.2)
        start = asyncio.get_running_loop().time()
        network.send(*(b"%-100d" % number for number in range(100)))
        counts = network.proxy.counts
        await eventually(lambda: counts["up", "lost"] + counts["up", "passed"] == 100)
        passed = counts["up", "passed"]
        assert 21 <= passed < 50, "a few more, if they were sent slowly"
        assert network.proxy.link.fates["up"].overflowed == counts["up", "lost"]
        await eventually(lambda: len(network.back) == passed)
        assert [int(data) for data in network.packets()][:21] == [*range(21)]
        assert network.back[20][0] - start >= 0.21


async def test_proxies_share_the_queue_of_their_link() -> None:
    link = Link()
    async with echo(link=link) as one, echo(link=link) as other:
        link.set("up", rate=128 * 8 / 0.1, queue=0.15)
        one.send(b"x" * 100, b"x" * 100)  # they take 200 ms
        await eventually(lambda: link.counts["up", "passed"] == 2)
        other.send(b"y")
        await eventually(lambda: link.counts["up", "lost"] == 1)
        await eventually(lambda: len(one.back) == 2)
        other.send(b"z")
        await eventually(lambda: other.packets() == [b"z"])


async def test_a_schedule_runs_in_real_time() -> None:
    async with echo() as network:
        network.proxy.link.run("up", Schedule([(0.0, {"black_hole": True}), (0.1, {"black_hole": False})]))
        start = asyncio.get_running_loop().time()
        while not network.back:
            network.send(b"x")
            await asyncio.sleep(0.01)
        assert network.back[0][0] - start >= 0.1


async def test_what_is_overdue_goes_first() -> None:
    """The loop was busy when a packet fell due, and then finds the next one, that nothing delays."""
    async with echo() as network:
        network.proxy.set("up", delay=0.02)
        network.send(b"first")
        await eventually(lambda: network.proxy.counts["up", "passed"] == 1)
        network.proxy.set("up", delay=0)
        network.send(b"second")
        time.sleep(0.05)  # noqa: ASYNC251 - that is the point
        await eventually(lambda: len(network.back) == 2)
        assert network.packets() == [b"first", b"second"]


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


@asynccontextmanager
async def swallowing() -> AsyncIterator[tuple[LossyProxy, asyncio.StreamWriter, bytearray]]:
    """A proxy before a server that reads, a client of it, and what the server has read."""
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                received.extend(data)
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    proxy = LossyProxy(HOST, server.sockets[0].getsockname()[1])
    _, port = await proxy.open()
    _, writer = await asyncio.open_connection(HOST, port)
    try:
        yield proxy, writer, received
    finally:
        writer.transport.abort()
        await proxy.close()
        server.close()


@pytest.mark.slow
async def test_tcp_keeps_to_a_rate_and_holds_its_sender_up() -> None:
    """2 Mbit/s: 100 kB take 0.4 s, and of many megabytes the sender gets rid of what buffers hold."""
    async with swallowing() as (proxy, writer, received):
        proxy.set("up", rate=2_000_000, queue=0.05)
        start = asyncio.get_running_loop().time()
        writer.write(bytes(100_000))
        await eventually(lambda: len(received) == 100_000)
        assert asyncio.get_running_loop().time() - start >= 0.35
        assert proxy.link.fates["up"].overflowed == 0
        writer.write(bytes(50_000_000))
        await asyncio.sleep(0.3)
        assert writer.transport.get_write_buffer_size() > 10_000_000
        assert len(received) < 400_000


async def test_a_server_that_does_not_read_holds_up_the_sender() -> None:
    idle = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await idle.wait()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    proxy = LossyProxy(HOST, server.sockets[0].getsockname()[1])
    _, port = await proxy.open()
    _, writer = await asyncio.open_connection(HOST, port)
    writer.write(bytes(50_000_000))
    before = None
    while before != (before := writer.transport.get_write_buffer_size()):  # noqa: ASYNC110 - a buffer has no event
        await asyncio.sleep(0.2)
    assert before > 10_000_000
    idle.set()
    writer.transport.abort()
    await proxy.close()
    server.close()


async def test_a_stream_in_a_black_hole_ends_with_its_proxy() -> None:
    async with swallowing() as (proxy, writer, received):
        proxy.set("up", black_hole=True)
        writer.write(b"held")
        await asyncio.sleep(0.05)
        assert not received


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
