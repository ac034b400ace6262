"""The sockets of the embedded TURN relay: those that clients send to, and those that peers do.

UDP is read in batches straight from non-blocking sockets, and no packet costs a task. A packet that cannot be written
at once is dropped and counted, as a network would do.
"""

from __future__ import annotations

import abc
import asyncio
import errno
import socket
from collections.abc import Callable
from typing import cast

from relaycall.errors import ConfigError, MalformedMessage
from relaycall.stun.address import IPV6, Address
from relaycall.stun.framing import StreamFramer
from relaycall.stun.turn_allocation import MAX_PAYLOAD, Allocation, Source
from relaycall.stun.turn_server import TurnServer

BATCH = 64  # datagrams read at one wakeup, so that others get their turn
RECEIVE_SIZE = MAX_PAYLOAD + 128  # a Send indication with that payload fits
RECEIVE_BUFFER = 1 << 20  # bytes the kernel may keep while this process is busy
WRITE_LIMIT = 256 * 1024  # bytes waiting for one TCP client; what comes then is dropped
STREAM_READ = 16 * 1024
IDLE_TIMEOUT = 60.0  # seconds a connection may stay without an allocation


class UdpSocket(abc.ABC):
    """A UDP socket and its reader."""

    def __init__(self, server: TurnServer, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.address = Address(*sock.getsockname()[:2])
        self._server = server
        self._socket = sock
        self._loop = loop
        loop.add_reader(sock, self._readable)

    def send(self, data: bytes, to: Source) -> bool:
        """Send a datagram. False when it cannot go at once, or not at all."""
        try:
            self._socket.sendto(data, to)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Stop reading and close."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        now = self._loop.time()
        for _ in range(BATCH):
            try:
                data, address = self._socket.recvfrom(RECEIVE_SIZE)
            except OSError:  # nothing left, or the error of an earlier packet, which is cleared by this
                return
            self._take(data, address[:2], now)

    @abc.abstractmethod
    def _take(self, data: bytes, source: Source, now: float) -> None:
        """Handle one datagram."""


class ClientSocket(UdpSocket):
    """The UDP port that clients send to."""

    def _take(self, data: bytes, source: Source, now: float) -> None:
        answer = self._server.receive(source, data, now)
        if answer is not None:
            self.send(answer, source)


class PeerSocket(UdpSocket):
    """A relayed socket; see `RelayedSocket`. `to_client` sends to the client known by its source."""

    def __init__(
        self,
        server: TurnServer,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        to_client: Callable[[Source, bytes], bool],
    ) -> None:
        super().__init__(server, sock, loop)
        self.allocation: Allocation | None = None
        self._to_client = to_client

    def _take(self, data: bytes, source: Source, now: float) -> None:
        message = self._server.from_peer(self.allocation, data, source, now)
        if message is None or self.allocation is None:
            return
        if self._to_client(self.allocation.source, message):
            self._server.counters.to_clients += 1
        else:
            self._server.counters.dropped += 1


class Stream(asyncio.BufferedProtocol):
    """A TCP or TLS client. Buffered: for a plain Protocol, asyncio allocates 256 KiB at every read."""

    def __init__(self, server: TurnServer, source: Source, loop: asyncio.AbstractEventLoop) -> None:
        self.source = source
        self.lost = asyncio.Event()
        self._server = server
        self._loop = loop
        self._idle_since = loop.time()
        self._framer = StreamFramer()
        # A memoryview: asyncio's TLS slices what get_buffer returns, and a slice of a bytearray is a copy.
        self._buffer = memoryview(bytearray(STREAM_READ))
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self.lost.set()

    def get_buffer(self, _size: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, size: int) -> None:
        try:
            messages = self._framer.feed(bytes(self._buffer[:size]))
        except MalformedMessage:
            self._server.counters.malformed += 1
            self.abort()
            return
        now = self._loop.time()
        for message in messages:
            answer = self._server.receive(self.source, message, now)
            if answer is not None:
                self.send(answer)

    def send(self, data: bytes) -> bool:
        """Queue one message, padded to four bytes (RFC 8656, section 12.5). False when too much is waiting already."""
        transport = self._transport
        if transport is None or transport.get_write_buffer_size() > WRITE_LIMIT:
            return False
        transport.write(data + bytes(-len(data) % 4))
        return True

    def check_idle(self, now: float, has_allocation: bool) -> None:
        """Give the connection up when it had no allocation for too long."""
        if has_allocation:
            self._idle_since = now
        elif now - self._idle_since > IDLE_TIMEOUT:
            self.abort()

    def abort(self) -> None:
        """Close without waiting for anything; `lost` is set soon."""
        if self._transport is None:
            self.lost.set()
        else:
            self._transport.abort()


def bind(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    """A bound, non-blocking socket; listening if a stream. Raises OSError."""
    family = socket.AF_INET6 if Address(host, 0).family == IPV6 else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Inherited by what is accepted. asyncio sets it only where it knows the socket's proto: not here.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.bind((host, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock


def bind_listener(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    """The same for a port somebody chose. Raises ConfigError naming the port."""
    try:
        return bind(kind, host, port)
    except OSError as error:
        name = f"{'UDP' if kind == socket.SOCK_DGRAM else 'TCP'} port {port}"
        reason = "is already in use" if error.errno == errno.EADDRINUSE else "cannot be opened"
        raise ConfigError(f"The relay's {name} {reason}.", "Choose another port, or 0 for any free one.") from None


def bind_peers(host: str, *, even: bool, pair: bool) -> list[socket.socket]:
    """Sockets on free ports: see `OpenSockets`."""
    for _ in range(32):
        opened: list[socket.socket] = []
        try:
            opened.append(bind(socket.SOCK_DGRAM, host, 0))
            port = opened[0].getsockname()[1]
            if even and port % 2:
                opened.pop().close()
                port -= 1
                opened.append(bind(socket.SOCK_DGRAM, host, port))
            if pair:
                opened.append(bind(socket.SOCK_DGRAM, host, port + 1))
        except OSError as error:
            for sock in opened:
                sock.close()
            if error.errno != errno.EADDRINUSE:
                break
        else:
            return opened
    return []
