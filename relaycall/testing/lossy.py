"""A network for tests, in user space: a proxy in front of a relay that delays, reorders, loses and swallows packets.

    async with lossy_link(relay, seed=7) as (link, through):  # give `through` to a phone, in place of the relay
        link.set("both", delay=0.05, loss=0.1)
        link.set("up", black_hole=True)  # what the client sends; "down" is what the relay sends

Everything can be changed while it runs. What becomes of the n-th packet of a direction depends on the seed, on n and on
the conditions at that moment, and on nothing else. Each client gets a socket of its own towards the relay, so that the
relay tells them apart. ICMP does not pass: to the client a dead relay behind it is a black hole.

Over TCP nothing is lost. The data is delayed, by a retransmission where a packet would be lost; in a black hole it
waits. The handshake of a connection is the kernel's and takes no time here.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import ipaddress
import random
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, fields, replace
from typing import Any, Literal

from relaycall.errors import ConfigError
from relaycall.relays.server import RelayServer

HOST = "127.0.0.1"
RETRANSMISSION = 0.2  # seconds; the least Linux waits
MAX_DATAGRAM = 2048
KERNEL_BUFFER = 1 << 20  # bytes, so that nothing is lost that was not meant to be
MAX_LATENESS = 1_000_000  # packets accounted for

Direction = Literal["up", "down", "both"]
Send = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Conditions:
    """How one direction is at a moment.

    Attributes:
        delay: seconds for each packet.
        jitter: up to so many seconds more, evenly spread; packets overtake each other.
        loss: probability that a packet is lost, independently.
        burst_enter, burst_leave: probabilities, with each packet, that a bad time begins or ends (Gilbert–Elliott).
        burst_loss: probability that a packet is lost in a bad time.
        black_hole: everything is lost.

    Raises:
        ConfigError: a time is not a number of at least 0, or a probability not one of 0 to 1.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    burst_enter: float = 0.0
    burst_leave: float = 1.0
    burst_loss: float = 1.0
    black_hole: bool = False

    def __post_init__(self) -> None:
        delay, jitter, *probabilities = astuple(self)
        if not (0 <= delay < float("inf") and 0 <= jitter < float("inf")):
            raise ConfigError("A delay and a jitter are 0 seconds or more.")
        if not all(0 <= each <= 1 for each in probabilities):
            raise ConfigError("The probabilities of a network's conditions are from 0 to 1.")


_CONDITIONS = {field.name for field in fields(Conditions)}


class Fate:
    """What becomes of the packets of one direction, one after the other.

    Attributes:
        conditions: set at any time.
    """

    def __init__(self, seed: int | str) -> None:
        self.conditions = Conditions()
        self._random = random.Random(seed)
        self._bad = False

    def next(self) -> float | None:
        """Seconds until the next packet arrives; None: it does not."""
        now, draw = self.conditions, self._random.random
        turn, lost, jitter = draw(), draw(), draw()  # always three, so that the conditions do not shift the sequence
        self._bad = turn >= now.burst_leave if self._bad else turn < now.burst_enter
        if now.black_hole or lost < (now.burst_loss if self._bad else now.loss):
            return None
        return now.delay + jitter * now.jitter


class LossyProxy:
    """A proxy for one relay, over UDP and TCP.

    Args:
        host, port: of the relay.
        seed: of everything random.

    Attributes:
        on_packet: called with each UDP packet a client sends, whatever becomes of it.
        counts: packets by (direction, "passed" or "lost").
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        self.on_packet: Callable[[bytes], object] | None = None
        self.counts: Counter[tuple[str, str]] = Counter()
        self._relay = (host, port)
        self._fates = {direction: Fate(f"{seed} {direction}") for direction in ("up", "down")}
        self._open = {direction: asyncio.Event() for direction in self._fates}
        for event in self._open.values():
            event.set()
        self._queue: list[tuple[float, int, Send, bytes]] = []
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._late: deque[float] = deque(maxlen=MAX_LATENESS)
        self._sockets: list[socket.socket] = []
        self._clients: dict[Any, Send] = {}
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()

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
        which = [*self._fates] if direction == "both" else [direction]
        if not self._fates.keys() >= {*which} or not conditions.keys() <= _CONDITIONS:
            raise ConfigError(
                "A lossy link does not know this direction or condition.",
                f"The directions are up, down and both; the conditions {', '.join(sorted(_CONDITIONS))}.",
            )
        changed = {each: replace(self._fates[each].conditions, **conditions) for each in which}
        for each in which:
            fate = self._fates[each]
            fate.conditions = changed[each]
            if fate.conditions.black_hole:
                self._open[each].clear()
            else:
                self._open[each].set()

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
        for event in self._open.values():
            event.set()
        if self._server is not None:
            self._server.close()
        for writer in self._streams:
            writer.transport.abort()
        await asyncio.sleep(0)  # their tasks see it

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
        delay = self._fates[direction].next()
        self.counts[direction, "lost" if delay is None else "passed"] += 1
        if delay is None:
            return
        if delay:
            self._at(asyncio.get_running_loop().time() + delay, send, data)
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
        await asyncio.gather(self._stream("up", reader, relay_writer), self._stream("down", relay_reader, writer))

    async def _stream(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, fate, latest = asyncio.get_running_loop(), self._fates[direction], 0.0
        data = b"?"
        while data:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            await self._open[direction].wait()
            delay = fate.next()
            conditions = fate.conditions
            if delay is None:
                delay = conditions.delay + RETRANSMISSION
            latest = max(latest, loop.time() + delay)
            send: Send = writer.write if data else lambda _: writer.close()
            if latest > loop.time():
                self._at(latest, send, data)
            else:
                send(data)


@asynccontextmanager
async def lossy_link(relay: RelayServer, *, seed: int = 0) -> AsyncIterator[tuple[LossyProxy, RelayServer]]:
    """A link to a relay that can be made bad, within `async with`: the link, and the relay as it is reached through it.

    Args:
        relay: at an IPv4 address, over any transport.
        seed: of everything random.

    Raises:
        ConfigError: the relay is not named by an IPv4 address.
    """
    try:
        ipaddress.IPv4Address(relay.host)
    except ValueError:
        raise ConfigError("A lossy link leads to an IPv4 address.", "Name the relay by one.") from None
    proxy = LossyProxy(relay.host, relay.port, seed=seed)
    try:
        udp_port, tcp_port = await proxy.open()
        port = udp_port if relay.transport == "udp" else tcp_port
        yield proxy, replace(relay, host=HOST, port=port, tls_name=relay.tls_name or relay.host)
    finally:
        await proxy.close()
