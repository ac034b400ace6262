"""Delivering envelopes over loopback, and what a connected client costs the server, beside a bare aiohttp echo.

The servers are processes of their own, and so are sender and receiver. The echo sends the same 4096 bytes back to who
sent them, so it has as many hops as an envelope from one client to another, and none of the mailboxes, answers and
acknowledgements.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from relaycall.server.signaling import SignalingServer
from relaycall.server.signaling_limits import Limits
from relaycall.server.signaling_redis import RedisStore
from relaycall.server.signaling_store import MemoryStore, Store
from relaycall.signaling.base import ENVELOPE_SIZE, Signaling, envelope_id
from relaycall.signaling.mailboxes import Mailboxes
from relaycall.signaling.opening import open_signaling
from tests.benchmarks.party import CpuMeter, Party
from tests.benchmarks.report import Figure, Report, Table
from tests.contracts.redis_cluster import Redis

TITLE = "signaling: delivery, and clients on one server"
HOST = "127.0.0.1"
PAUSE = 0.001  # seconds between two envelopes, so that one does not wait for what follows the other
TARGET = 2.0  # times the echo, over a WebSocket
MANY = 1e9
UNLIMITED = Limits(
    connections=20000,
    connections_per_address=20000,
    rate=MANY,
    burst=10**9,
    address_rate=MANY,
    address_burst=10**9,
    frame_rate=MANY,
    frame_burst=10**9,
)


class _Measured:
    """A server whose process can be asked what it uses."""

    def start_meter(self) -> None:
        self._meter = CpuMeter()

    def cpu(self) -> float:
        return self._meter.read()[0]

    def rss(self) -> int:
        """Bytes."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Ours(_Measured):
    async def start(self, redis_url: str | None = None) -> int:
        allow_files()
        store: Store = MemoryStore(Mailboxes(queue=1000, envelopes=10**6, unread=10**6))
        if redis_url is not None:
            store = RedisStore(redis_url)
        self._server = await SignalingServer(limits=UNLIMITED, store=store).__aenter__()
        return self._server.port

    async def close(self) -> None:
        await self._server.close()


class Echo(_Measured):
    async def start(self) -> int:
        allow_files()
        app = web.Application()
        app.router.add_get("/ws", self._socket)
        app.router.add_post("/", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0, backlog=1024)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data)
        return socket

    async def _post(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def close(self) -> None:
        await self._runner.cleanup()


def allow_files() -> None:
    """As many descriptors as may be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """Delivery in turns with the echo, then throughput, then many clients."""
    allow_files()
    count, batch, clients = (20, 200, 50) if tiny else (500, 4000, 5000)
    report = Report()
    async with AsyncExitStack() as stack:
        ours, echo = [await stack.enter_async_context(Party(kind)) for kind in (Ours, Echo)]
        ports = await ours.ask("start"), await echo.ask("start")
        latency, rates = await _delivery(ports, (ours, echo), runs, count, batch)
        _report_delivery(report, latency, rates)
    # In processes of their own, since what was freed before would hide what is used.
    sizes = {name: [await _per_client(kind, clients) for _ in range(1 if tiny else 2)] for name, kind in KINDS.items()}
    _report_clients(report, sizes, clients)
    return report


# --- delivery --------------------------------------------------------------------------------------------------------


async def _delivery(
    ports: tuple[int, int], parties: tuple[Party, Party], runs: int, count: int, batch: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    latency: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        socket = await http.ws_connect(f"http://{HOST}:{ports[1]}/ws", compress=0)

        async def echo_ws(count: int) -> list[float]:
            return [await _timed(lambda envelope: _echoed(socket, envelope)) for _ in range(count)]

        async def echo_http(count: int) -> list[float]:
            return [await _timed(lambda envelope: _posted(http, ports[1], envelope)) for _ in range(count)]

        redis = stack.enter_context(Redis())
        apart = [await stack.enter_async_context(Party(Ours)) for _ in range(2)]
        redis_ports = [await party.ask("start", redis.url) for party in apart]
        senders = {}
        for name, scheme, here, there in (
            ("ws", "ws", ports[0], ports[0]),
            ("http", "http", ports[0], ports[0]),
            ("redis", "ws", *redis_ports),
        ):
            listener = await stack.enter_async_context(Party(Listener))
            mailbox = await listener.ask("open", f"{scheme}://{HOST}:{there}")
            client = await stack.enter_async_context(open_signaling(f"{scheme}://{HOST}:{here}"))
            senders[name] = _Sender(client, listener, mailbox)
        rounds: dict[str, Callable[[int], Awaitable[list[float]]]] = {
            "ws_echo": echo_ws,
            "ws_relaycall": senders["ws"].deliver,
            "http_echo": echo_http,
            "http_relaycall": senders["http"].deliver,
            "redis_relaycall": senders["redis"].deliver,
        }
        for one in rounds.values():
            await one(20)  # imports, caches
        for _ in range(2 * runs):
            for name, one in rounds.items():
                latency.setdefault(name, []).extend(await one(count))
        for _ in range(runs):
            for name, party, flood in (
                ("relaycall", parties[0], senders["ws"].flood),
                ("echo", parties[1], _echoes(socket)),
            ):
                await party.ask("start_meter")
                await flood(batch)
                rates.setdefault(name, []).append(batch / await party.ask("cpu"))
        await socket.close()
    return latency, rates


class Listener:
    """A client that notes when each envelope came, and acknowledges it."""

    async def open(self, url: str) -> bytes:
        self._client = await open_signaling(url).__aenter__()
        self._arrivals: dict[bytes, float] = {}
        self._task = asyncio.create_task(self._listen())
        return self._client.mailbox

    async def _listen(self) -> None:
        async for received in self._client.receive():
            self._arrivals[received.id] = time.perf_counter()
            await self._client.acknowledge(received)

    async def arrivals(self, count: int) -> dict[bytes, float]:
        """When each came, by its id, once so many have; on the clock that all processes of a machine share."""
        while len(self._arrivals) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        found, self._arrivals = self._arrivals, {}
        return found

    async def close(self) -> None:
        await self._client.close()
        await self._task


class _Sender:
    """A client here, whose envelopes go to a listener."""

    def __init__(self, client: Signaling, listener: Party, mailbox: bytes) -> None:
        self._client, self._listener, self._mailbox = client, listener, mailbox

    async def deliver(self, count: int) -> list[float]:
        """Milliseconds of each, from handing it over until it is received."""
        started = {}
        for _ in range(count):
            envelope = os.urandom(ENVELOPE_SIZE)
            started[envelope_id(envelope)] = time.perf_counter()
            await self._client.send(self._mailbox, envelope)
            await asyncio.sleep(PAUSE)
        arrivals = await self._listener.ask("arrivals", count)
        return [(arrivals[key] - at) * 1000 for key, at in started.items()]

    async def flood(self, count: int) -> None:
        for _ in range(count // 50):
            sending = [self._client.send(self._mailbox, os.urandom(ENVELOPE_SIZE)) for _ in range(50)]
            await asyncio.gather(*sending)
            await self._listener.ask("arrivals", 50)  # or the mailbox would fill up where the machine is busy


async def _echoed(socket: aiohttp.ClientWebSocketResponse, envelope: bytes) -> None:
    await socket.send_bytes(envelope)
    assert (await socket.receive()).data == envelope


async def _posted(http: aiohttp.ClientSession, port: int, envelope: bytes) -> None:
    async with http.post(f"http://{HOST}:{port}/", data=envelope) as response:
        assert await response.read() == envelope


async def _timed(exchange: Callable[[bytes], Awaitable[None]]) -> float:
    """Milliseconds it takes."""
    envelope = os.urandom(ENVELOPE_SIZE)
    start = time.perf_counter()
    await exchange(envelope)
    took = (time.perf_counter() - start) * 1000
    await asyncio.sleep(PAUSE)
    return took


def _echoes(socket: aiohttp.ClientWebSocketResponse) -> Callable[[int], Awaitable[None]]:
    async def run(count: int) -> None:
        for _ in range(count // 50):
            for _ in range(50):
                await socket.send_bytes(os.urandom(ENVELOPE_SIZE))
            for _ in range(50):
                await socket.receive()

    return run


def _report_delivery(report: Report, latency: dict[str, list[float]], rates: dict[str, list[float]]) -> None:
    table = Table("Delivery of one envelope, in ms", ["", "median", "p99", "times the echo", "target"])
    for name, values in latency.items():
        values.sort()
        median, p99 = Figure.of(values).median, values[int(len(values) * 0.99)]
        scheme, _, who = name.partition("_")
        ratio = median / Figure.of(latency["http_echo" if scheme == "http" else "ws_echo"]).median
        judged = f"{TARGET}: {'met' if ratio <= TARGET else 'MISSED'}" if name == "ws_relaycall" else ""
        table.add(f"{scheme} {who}", f"{median:.3f}", f"{p99:.3f}", "" if who == "echo" else f"{ratio:.2f}", judged)
        report.figures[f"signaling_{name}_ms"] = Figure.of([median])
        report.figures[f"signaling_{name}_p99_ms"] = Figure.of([p99])
    table.notes.append("From handing it to one client until the other has it; for the echo, there and back.")
    table.notes.append("redis: over WebSockets to two servers with one Redis, beside the WebSocket echo.")
    report.tables.append(table)
    table = Table("Envelopes a second of the server's CPU, over WebSockets", ["", "a second"])
    for name, values in rates.items():
        table.add(name, Figure.of(values))
        report.figures[f"signaling_rate_{name}_per_cpu_second"] = Figure.of(values)
    table.notes.append("relaycall: taken, answered, delivered and acknowledged. echo: there and back.")
    report.tables.append(table)


# --- many clients ----------------------------------------------------------------------------------------------------


async def _signaling_client(stack: AsyncExitStack, _: aiohttp.ClientSession, port: int) -> Any:
    return await stack.enter_async_context(open_signaling(f"ws://{HOST}:{port}"))


async def _echo_client(_: AsyncExitStack, http: aiohttp.ClientSession, port: int) -> Any:
    return await http.ws_connect(f"http://{HOST}:{port}/ws", compress=0)


KINDS = {"relaycall": (Ours, _signaling_client), "echo": (Echo, _echo_client)}


async def _per_client(kind: tuple[Any, Any], count: int) -> float:
    """KiB of the server's memory for each connected client."""
    make, connect = kind
    async with Party(make) as party, AsyncExitStack() as stack:
        port = await party.ask("start")
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        await connect(stack, http, port)
        before = await party.ask("rss")
        held = []
        for _ in range(count // 50):
            held += await asyncio.gather(*(connect(stack, http, port) for _ in range(50)))
        return float((await party.ask("rss") - before) / count / 1024)


def _report_clients(report: Report, sizes: dict[str, list[float]], clients: int) -> None:
    table = Table(f"{clients} connected clients on one server", ["", "KiB of the server's memory for each"])
    for name, values in sizes.items():
        table.add(name, Figure.of(values))
        report.figures[f"signaling_{name}_rss_per_client_kib"] = Figure.of(values)
    report.facts["signaling_clients"] = clients
    report.tables.append(table)
