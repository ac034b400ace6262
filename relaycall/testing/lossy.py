"""A network for tests, in user space: proxies in front of relays that delay, reorder, queue, lose and swallow packets.

    async with lossy_link(relay, seed=7) as (link, through):  # give `through` to a phone, in place of the relay
        link.set("both", delay=0.05, loss=0.1, rate=500_000)
        link.set("up", black_hole=True)  # what the client sends; "down" is what the relay sends

    async with lossy_network(relays, profile("3g"), seed=7) as (network, through):  # all relays over one bad link

Everything can be changed while it runs. The luck of the n-th packet of a direction depends on the seed and on n;
what becomes of it, on the conditions at that moment as well. Each client gets a socket of its own towards the relay,
so that the relay tells them apart. ICMP does not pass: to the client a dead relay behind it is a black hole. A rate is
that of IPv4 packets: 28 bytes more than the payload over UDP, 40 more for each segment over TCP.

Over TCP nothing is lost. The data is delayed, by a retransmission where a packet would be lost; in a black hole, and
while the queue is full, it waits, and then so does the sender. The handshake of a connection is the kernel's and takes
no time here.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import ipaddress
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from relaycall.errors import ConfigError
from relaycall.relays.server import RelayServer
from relaycall.testing.link import Direction, Link
from relaycall.testing.profiles import Profile

HOST = "127.0.0.1"
UDP_HEADERS, TCP_HEADERS = 28, 40  # bytes, with IPv4
SEGMENT = 1448  # bytes of TCP: what fits a packet of Ethernet
RETRANSMISSION = 0.2  # seconds; the least Linux waits
MAX_DATAGRAM = 2048
KERNEL_BUFFER = 1 << 20  # bytes, so that nothing is lost that was not meant to be
MAX_LATENESS = 1_000_000  # packets accounted for
BLACK_HOLE_STEP = 0.01  # seconds after which a stream looks whether its black hole has ended

Send = Callable[[bytes], object]


class LossyProxy:
    """A proxy for one relay, over UDP and TCP.

    Args:
        host, port: of the relay.
        seed: of everything random.
        link: how the network is; by default one of its own. Proxies that share one share its queue as well.

    Attributes:
        link: how the network is.
        on_packet: called with each UDP packet a client sends, whatever becomes of it.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0, link: Link | None = None) -> None:
        self.link = link or Link(seed)
        self.on_packet: Callable[[bytes], object] | None = None
        self._relay = (host, port)
        self._queue: list[tuple[float, int, Send, bytes]] = []
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._late: deque[float] = deque(maxlen=MAX_LATENESS)
        self._sockets: list[socket.socket] = []
        self._clients: dict[Any, Send] = {}
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """UDP packets by (direction, "passed" or "lost"), of all that shares the link."""
        return self.link.counts

    async def open(self) -> tuple[int, int]:
        """Listen on loopback. Returns the UDP and the TCP port."""
        listening = self._socket()
        listening.bind((HOST, 0))
        asyncio.get_running_loop().add_reader(listening, self._clients_sent, listening)
        self._server = await asyncio.start_server(self._accepted, HOST, 0)
        return listening.getsockname()[1], self._server.sockets[0].getsockname()[1]

    def set(self, direction: Direction, **conditions: Any) -> None:
        """Change some `Conditions` of "up", "down" or "both". The others stay as they are.

        Raises:
            ConfigError: there is no such direction or condition, or its value cannot be. Then nothing is changed.
        """
        self.link.set(direction, **conditions)

    def lateness(self) -> list[float]:
        """How late each delayed packet left, in milliseconds, since this was last asked: this program's own fault."""
        late = list(self._late)
        self._late.clear()
        return late

    async def close(self) -> None:
        """Close everything. What was still delayed is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()
        for sock in self._sockets:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        if self._server is not None:
            self._server.close()
        for writer in self._streams:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.sleep(0)  # they see it

    # --- time ---------------------------------------------------------------------------------------------------------

    def _at(self, due: float, send: Send, data: bytes) -> None:
        self._queued += 1
        heapq.heappush(self._queue, (due, self._queued, send, data))
        if due < self._timer_at:
            self._arm(due)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_at(due, self._deliver)

    def _deliver(self) -> None:
        queue, now = self._queue, asyncio.get_running_loop().time()
        self._timer, self._timer_at = None, float("inf")
        while queue and queue[0][0] <= now:
            due, _, send, data = heapq.heappop(queue)
            self._late.append((now - due) * 1000)
            send(data)
        if queue:
            self._arm(queue[0][0])

    # --- UDP ----------------------------------------------------------------------------------------------------------

    def _socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, buffer, KERNEL_BUFFER)
        self._sockets.append(sock)
        return sock

    def _clients_sent(self, listening: socket.socket) -> None:
        while True:
            try:
                data, client = listening.recvfrom(MAX_DATAGRAM)
            except OSError:
                return
            send = self._clients.get(client)
            if send is None:
                send = self._clients[client] = self._towards_relay(listening, client)
            if self.on_packet is not None:
                self.on_packet(data)
            self._pass("up", send, data)

    def _towards_relay(self, listening: socket.socket, client: Any) -> Send:
        sock = self._socket()
        sock.connect(self._relay)

        def to_client(data: bytes) -> None:
            with contextlib.suppress(OSError):
                listening.sendto(data, client)

        def to_relay(data: bytes) -> None:
            with contextlib.suppress(OSError):  # the relay is dead
                sock.send(data)

        def relay_sent() -> None:
            while True:
                try:
                    data = sock.recv(MAX_DATAGRAM)
                except OSError:
                    return
                self._pass("down", to_client, data)

        asyncio.get_running_loop().add_reader(sock, relay_sent)
        return to_relay

    def _pass(self, direction: str, send: Send, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        due = self.link.arrival(direction, now, len(data) + UDP_HEADERS)
        if due is None:
            return
        if due > now or (self._queue and self._queue[0][0] <= now):  # what is overdue goes first
            self._at(due, send, data)
        else:
            send(data)

    # --- TCP ----------------------------------------------------------------------------------------------------------

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        try:
            relay_reader, relay_writer = await asyncio.open_connection(*self._relay)
        except OSError:
            writer.transport.abort()
            return
        self._streams.add(relay_writer)
        both = [
            asyncio.create_task(self._stream("up", reader, relay_writer)),
            asyncio.create_task(self._stream("down", relay_reader, writer)),
        ]
        self._tasks.update(both)
        await asyncio.wait(both)
        self._tasks.difference_update(both)

    async def _stream(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, latest = asyncio.get_running_loop(), 0.0
        data = b"?"
        while data:
            try:
                await writer.drain()
                data = await reader.read(SEGMENT)
            except OSError:
                data = b""
            latest = max(latest, await self._segment_arrives(direction, len(data)))
            send: Send = writer.write if data else lambda _: writer.close()
            if latest > loop.time():
                self._at(latest, send, data)
            else:
                send(data)

    async def _segment_arrives(self, direction: str, size: int) -> float:
        """Wait until the link takes the segment. When it arrives then, by the time of the loop."""
        loop, fate = asyncio.get_running_loop(), self.link.fates[direction]
        while True:
            now = loop.time()
            conditions, waiting = fate.at(now), fate.waiting(now)
            if conditions.black_hole:
                await asyncio.sleep(BLACK_HOLE_STEP)
            elif conditions.rate is not None and waiting > conditions.queue:
                await asyncio.sleep(waiting - conditions.queue)
            else:
                break
        due = fate.next(now, size + TCP_HEADERS)
        return now + fate.waiting(now) + conditions.delay + RETRANSMISSION if due is None else due


@asynccontextmanager
async def lossy_link(relay: RelayServer, *, seed: int = 0) -> AsyncIterator[tuple[LossyProxy, RelayServer]]:
    """A link to a relay that can be made bad, within `async with`: the link, and the relay as it is reached through it.

    Args:
        relay: at an IPv4 address, over any transport.
        seed: of everything random.

    Raises:
        ConfigError: the relay is not named by an IPv4 address.
    """
    async with _proxied(relay, Link(seed)) as (proxy, through):
        yield proxy, through


@asynccontextmanager
async def lossy_network(
    relays: Sequence[RelayServer], profile: Profile | None = None, *, seed: int = 0
) -> AsyncIterator[tuple[Link, list[RelayServer]]]:
    """The network of one person, within `async with`: the link, and the relays as they are reached over it.

    All relays are behind the same link, with one queue for each direction.

    Args:
        relays: each at an IPv4 address, over any transport.
        profile: how the network is and becomes, from now on; by default nothing is bad until it is set.
        seed: of everything random.

    Raises:
        ConfigError: a relay is not named by an IPv4 address.
    """
    link = Link(seed)
    async with AsyncExitStack() as stack:
        through = [(await stack.enter_async_context(_proxied(relay, link)))[1] for relay in relays]
        if profile is not None:
            link.imitate(profile)
        yield link, through


@asynccontextmanager
async def _proxied(relay: RelayServer, link: Link) -> AsyncIterator[tuple[LossyProxy, RelayServer]]:
    try:
        ipaddress.IPv4Address(relay.host)
    except ValueError:
        raise ConfigError("A lossy link leads to an IPv4 address.", "Name the relay by one.") from None
    proxy = LossyProxy(relay.host, relay.port, link=link)
    try:
        udp_port, tcp_port = await proxy.open()
        port = udp_port if relay.transport == "udp" else tcp_port
        yield proxy, replace(relay, host=HOST, port=port, tls_name=relay.tls_name or relay.host)
    finally:
        await proxy.close()
