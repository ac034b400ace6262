"""The connections of a signaling server: counted from the moment they are accepted, and ended when they ask nothing.

aiohttp has no time limit for a request's header. So each connection is a protocol of ours, which passes everything on
to aiohttp's and knows since when it waits for a request.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from relaycall.errors import ConfigError
from relaycall.server.signaling_limits import Bucket, Limits, source_of

MARGIN = 64  # connections beyond a limit that still get a reply which says so; those beyond are closed without one
AT_ONCE = 64  # connections accepted before others get their turn
TICK = 1.0  # seconds between two looks for those that wait too long
CLOSE_TIMEOUT = 0.5


class Connection(asyncio.Protocol):
    """One connection.

    Attributes:
        source: whose it is, as `source_of` gives it.
        bucket: the envelopes it may send.
        nameplates: the nameplates it may allocate or claim.
        lost: set when it has ended.
    """

    def __init__(self, inner: asyncio.Protocol, source: str, limits: Limits, now: float) -> None:
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._limits = limits
        self._deadline = now + limits.header_timeout
        self._heard_at = float("inf")
        self.source = source
        self.bucket = Bucket(limits.rate, limits.burst, now)
        self.nameplates = Bucket(limits.nameplate_rate, limits.nameplate_burst, now)
        self.lost = asyncio.Event()

    def __repr__(self) -> str:
        return "<connection>"

    def begun(self) -> None:
        """A request has come."""
        self._deadline = float("inf")

    def ended(self, now: float) -> None:
        """It is answered."""
        self._deadline = now + self._limits.idle_timeout

    def watch(self, now: float) -> None:
        """From now on it is a WebSocket, and something has to be heard of it again and again."""
        self._heard_at = now

    def check(self, now: float) -> None:
        """End it if it asks for nothing, or has not been heard of, for too long."""
        if now >= self._deadline or now >= self._heard_at + self._limits.silence:
            self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._heard_at < float("inf"):
            self._heard_at = self._loop.time()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        self.lost.set()


class Connections:
    """Accepts connections on one port.

    Args:
        protocol: makes aiohttp's protocol for one.
        limits: how many there may be, and how long they may wait.
        count_addresses: whether one address may have only so many; not behind a proxy.
    """

    def __init__(self, protocol: Callable[[], asyncio.Protocol], limits: Limits, *, count_addresses: bool) -> None:
        self._protocol = protocol
        self._limits = limits
        self._count_addresses = count_addresses
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()
        self._per_source: Counter[str] = Counter()
        self._listener: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.turned_away = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def listen(self, host: str, port: int, context: ssl.SSLContext | None) -> int:
        """Begin. Returns the port. Raises ConfigError if it is in use, or the address is not this machine's."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(1024)
        except (OSError, OverflowError):
            listener.close()
            raise ConfigError(
                f"The signaling server cannot listen on {host} port {port}.",
                "Another program may use the port, or the address is not this machine's; a port below 1024 needs root.",
            ) from None
        listener.setblocking(False)
        self._listener, self._context = listener, context
        self._loop = asyncio.get_running_loop()
        self._tick()
        return int(listener.getsockname()[1])

    def stop_listening(self) -> None:
        """Accept no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        """End them all, at once."""
        self.stop_listening()
        for connection in self._open:
            connection.abort()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT)
        for task in self._tasks:
            task.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        for connection in list(self._open):
            connection.check(now)
        if self._listener is not None:
            self._loop.add_reader(self._listener, self._accept_all)
            self._timer = self._loop.call_later(TICK, self._tick)

    def _accept_all(self) -> None:
        """Those that wait, as many as may be taken at once."""
        assert self._listener is not None
        for _ in range(AT_ONCE):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._listener)  # out of descriptors, most likely: the next tick tries again
                return
            self._accept(sock, address[0])

    def _accept(self, sock: socket.socket, address: str) -> None:
        source = source_of(address)
        too_many = self._count_addresses and self._per_source[source] >= self._limits.connections_per_address + MARGIN
        if too_many or len(self._tasks) >= self._limits.connections + MARGIN:
            self.turned_away += 1
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._per_source[source] += 1
        task = self._loop.create_task(self._serve(sock, source))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._ended, sock, source))

    def _ended(self, sock: socket.socket, source: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._per_source[source] -= 1
        if not self._per_source[source]:
            del self._per_source[source]
        sock.close()

    async def _serve(self, sock: socket.socket, source: str) -> None:
        connection = Connection(self._protocol(), source, self._limits, self._loop.time())
        timeout = self._limits.header_timeout if self._context else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=self._context,
                ssl_handshake_timeout=timeout,
                ssl_shutdown_timeout=CLOSE_TIMEOUT if self._context else None,
            )
        except OSError:  # the handshake failed, or took too long
            return
        self._open.add(connection)
        try:
            await connection.lost.wait()
        finally:
            self._open.discard(connection)
            connection.abort()
