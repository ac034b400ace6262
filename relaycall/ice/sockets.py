"""Connections to a relay: UDP, TCP, TLS. The only place where packets leave the machine.

A UDP socket is connected, so that the kernel takes packets from the relay alone and reports its ICMP refusals; it is
read in batches with small buffers (asyncio's own datagram transport allocates 256 KiB for each packet).
Whatever goes wrong becomes a `RelayError` that names the relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from relaycall.errors import (
    MalformedMessage,
    RelayCertificateInvalid,
    RelayCertificateName,
    RelayError,
    RelayLost,
    RelayNameUnknown,
    RelayNotTurn,
    RelayRefused,
    RelayTimeout,
    RelayTlsFailed,
    RelayUnreachable,
)
from relaycall.ice import names
from relaycall.relays.server import RelayServer
from relaycall.stun.address import Address
from relaycall.stun.framing import StreamFramer

BATCH = 64  # packets read before the loop gets its turn
RECEIVE_SIZE = 2048  # bytes; media packets stay below 1500
WRITE_LIMIT = 65536  # bytes waiting in a stalled stream before packets are dropped: 8 s of audio at 64 kb/s
RECEIVE_BUFFER = 1 << 20  # bytes asked of the kernel

OnData = Callable[[bytes, float], None]
OnLost = Callable[[RelayError], None]


class RelaySocket(Protocol):
    """A connection to one relay. `dropped` counts packets that could not be sent at once."""

    local: Address
    dropped: int

    def send(self, data: bytes) -> None:
        """Send one TURN message now, or drop it. Never blocks, never raises."""

    def close(self) -> None:
        """Close at once; nothing is called afterwards."""


class UdpSocket:
    """A connected, non-blocking UDP socket."""

    def __init__(self, server: RelayServer, sock: socket.socket, data: OnData, lost: OnLost) -> None:
        self._loop = asyncio.get_running_loop()
        self._name = server.name
        self._on_data = data
        self._on_lost = lost
        self.dropped = 0
        self._sock = sock
        self.local = _address(self._sock.getsockname())
        self._send = self._sock.send
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def send(self, data: bytes) -> None:
        try:
            self._send(data)
        except BlockingIOError:
            self.dropped += 1
        except OSError as error:
            self._failed(error)

    def _readable(self) -> None:
        receive, deliver, time = self._sock.recv, self._on_data, self._loop.time
        try:
            for _ in range(BATCH):
                deliver(receive(RECEIVE_SIZE), time())
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        if error.errno in (errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM, errno.EINTR):
            self.dropped += 1
            return
        # Later, so that nobody's call to send() ends in the middle of their own failure handling.
        self._loop.call_soon(self._report, relay_error(error, self._name))

    def _report(self, error: RelayError) -> None:
        if self._sock.fileno() >= 0:  # else closed, perhaps by what a packet brought about
            self._on_lost(error)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()


class StreamSocket(asyncio.Protocol):
    """A TCP or TLS connection, framed as TURN wants it (RFC 8656, section 12.5)."""

    def __init__(self, server: RelayServer, data: OnData, lost: OnLost) -> None:
        self._loop = asyncio.get_running_loop()
        self._name = server.name
        self._on_data = data
        self._on_lost = lost
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._spoken = False
        self.local = Address("::", 0)  # until connected
        self.dropped = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.local = _address(transport.get_extra_info("sockname"))
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def secure(self, context: ssl.SSLContext, name: str) -> None:
        """Go on in TLS with a server of this name. Raises OSError, ssl.SSLError included."""
        assert self._transport is not None
        try:
            self._transport = await self._loop.start_tls(self._transport, self, context, server_hostname=name)
        except (ConnectionError, EOFError):
            raise ssl.SSLError from None  # it ended the connection in the middle of the handshake

    def send(self, data: bytes) -> None:
        transport = self._transport
        if self._closed or transport is None or transport.get_write_buffer_size() > WRITE_LIMIT:
            self.dropped += 1
            return
        transport.write(data + bytes(-len(data) % 4) if len(data) & 3 else data)

    def data_received(self, data: bytes) -> None:
        now = self._loop.time()
        if not self._spoken and data[0] >= 0x40:  # a relay's first word is STUN; HTTP would pass for ChannelData
            self._lost(RelayNotTurn(self._name))
            return
        self._spoken = True
        try:
            messages = self._framer.feed(data)
        except MalformedMessage:
            self._lost(RelayNotTurn(self._name))
            return
        for message in messages:
            if not self._closed:
                self._on_data(message, now)

    def eof_received(self) -> None:
        self._lost(RelayLost(self._name, "it closed the connection"))  # asyncio would wait until all is written

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(
            relay_error(exc, self._name) if exc is not None else RelayLost(self._name, "it closed the connection")
        )

    def _lost(self, error: RelayError) -> None:
        if not self._closed:
            self.close()
            self._on_lost(error)

    def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.abort()


async def resolve(server: RelayServer) -> list[tuple[int, tuple[object, ...]]]:
    """The relay's addresses as (socket family, sockaddr), alternating between IPv6 and IPv4 (RFC 8305, section 4).

    Raises:
        RelayNameUnknown: the name has no address.
    """
    by_family: dict[int, list[tuple[object, ...]]] = {}
    with contextlib.suppress(OSError, UnicodeError):
        found = await names.getaddrinfo(server.host, server.port)
        for family, _, _, _, sockaddr in found:
            by_family.setdefault(family, []).append(sockaddr)
    lists = [[(int(family), sockaddr) for sockaddr in addresses] for family, addresses in by_family.items()]
    mixed = [entry for i in range(max(map(len, lists), default=0)) for entries in lists for entry in entries[i : i + 1]]
    if not mixed:
        raise RelayNameUnknown(server.name)
    return mixed[:4]


async def connect(
    server: RelayServer, family: int, sockaddr: tuple[object, ...], data: OnData, lost: OnLost
) -> RelaySocket:
    """Connect to one address of the relay; `data(message, now)` and `lost(error)` are called from then on.

    Raises:
        RelayError: by type, why it could not be.
    """
    context = await _tls(server) if server.transport == "tls" else None
    failure: RelayError  # raised outside of the handler: the foreign error is not even its context
    try:
        if server.transport == "udp":
            return UdpSocket(server, await _socket(family, socket.SOCK_DGRAM, sockaddr), data, lost)
        sock = await _socket(family, socket.SOCK_STREAM, sockaddr)
        stream = StreamSocket(server, data, lost)
        try:
            await asyncio.get_running_loop().create_connection(lambda: stream, sock=sock)
            if context is not None:
                await stream.secure(context, (server.tls_name or server.host).rstrip("."))
        except BaseException:
            stream.close()
            raise
        return stream
    except OSError as error:
        failure = relay_error(error, server.name)
    raise failure


async def _socket(family: int, kind: socket.SocketKind, sockaddr: tuple[object, ...]) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError."""
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_DGRAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            sock.connect(sockaddr)
        else:
            await asyncio.get_running_loop().sock_connect(sock, sockaddr)
    except ConnectionError:
        sock.close()
        raise ConnectionRefusedError from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _tls(server: RelayServer) -> ssl.SSLContext:
    context = server.ssl_context
    if context is None:  # reading the system's authorities takes tens of milliseconds
        context = await asyncio.get_running_loop().run_in_executor(None, ssl.create_default_context)
    if context.verify_mode != ssl.CERT_REQUIRED or not context.check_hostname:
        raise RelayCertificateInvalid(server.name, "the given TLS context does not verify")
    return context


_MISNAMED = 62, 64  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def relay_error(error: BaseException, name: str) -> RelayError:
    """What a socket or TLS error means for this relay. Its text, which may hold an address, is lost."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (RelayCertificateName if error.verify_code in _MISNAMED else RelayCertificateInvalid)(name)
    if isinstance(error, ssl.SSLError | ssl.CertificateError):
        return RelayTlsFailed(name)
    if isinstance(error, ConnectionRefusedError):
        return RelayRefused(name)
    if isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError | EOFError):
        return RelayLost(name, "it reset the connection")
    if isinstance(error, TimeoutError):
        return RelayTimeout(name)
    return RelayUnreachable(name)


def _address(sockname: tuple[object, ...]) -> Address:
    return Address.parse(str(sockname[0]).partition("%")[0], int(str(sockname[1])))
