"""A proxy in user space that delays what passes, for a known distance between a client and its relay.

Each client gets a socket of its own towards the relay, so that the relay tells them apart. It runs in a process of its
own (`Party(DelayProxy)`), keeps account of how late it was itself, and can list the sizes of the media that passed.
TCP is delayed in its data; its handshake is the kernel's and takes no time here.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import cast

HOST = "127.0.0.1"
RTCP_KINDS = range(192, 224)  # second byte of RTCP (RFC 5761, section 4)


class DelayProxy:
    """Proxies for one relay.

    Args:
        host, port: of the relay.
    """

    def __init__(self, host: str, port: int) -> None:
        self._relay = (host, port)
        self._delay = 0.0
        self._late: list[float] = []
        self._sizes: Counter[int] = Counter()
        self._closing: list[Callable[[], None]] = []

    async def open(self) -> tuple[int, int]:
        """Listen. Returns the UDP and the TCP port."""
        loop = asyncio.get_running_loop()
        listening, _ = await loop.create_datagram_endpoint(lambda: _Listening(self), local_addr=(HOST, 0))
        server = await asyncio.start_server(self._accepted, HOST, 0)
        self._closing += [listening.close, server.close]
        return listening.get_extra_info("sockname")[1], server.sockets[0].getsockname()[1]

    def set_delay(self, seconds: float) -> None:
        """The delay one way, from now on."""
        self._delay = seconds

    def lateness(self) -> list[float]:
        """How late each delayed packet left, in milliseconds, since this was last asked."""
        late, self._late = self._late, []
        return late

    def media_sizes(self) -> dict[int, int]:
        """Audio packets from clients by their size, since this was last asked. Over UDP, in bound channels."""
        sizes, self._sizes = self._sizes, Counter()
        return dict(sizes)

    async def close(self) -> None:
        for close in self._closing:
            close()

    def later(self, action: Callable[[bytes], object], data: bytes) -> None:
        """Do it after the delay; at once without one."""
        if not self._delay:
            action(data)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + self._delay
        loop.call_at(due, self._now, action, data, due)

    def _now(self, action: Callable[[bytes], object], data: bytes, due: float) -> None:
        self._late.append((asyncio.get_running_loop().time() - due) * 1000)
        action(data)

    def upstream(self, client: Callable[[bytes], object]) -> Callable[[bytes], None]:
        """A connected socket to the relay for one client; gives what sends over it."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(self._relay)

        def answered() -> None:
            try:
                while True:
                    self.later(client, sock.recv(2048))
            except (BlockingIOError, ConnectionRefusedError):
                return

        def close() -> None:
            loop.remove_reader(sock)
            sock.close()

        def send(data: bytes) -> None:
            self._count(data)
            self.later(sock.send, data)

        loop.add_reader(sock, answered)
        self._closing.append(close)
        return send

    def _count(self, data: bytes) -> None:
        if len(data) > 16 and 0x40 <= data[0] <= 0x4F and 128 <= data[4] < 192 and data[5] not in RTCP_KINDS:
            self._sizes[data[2] << 8 | data[3]] += 1

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay_reader, relay_writer = await asyncio.open_connection(*self._relay)
        await asyncio.gather(self._pass_on(reader, relay_writer), self._pass_on(relay_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.later(writer.write, data)
        except ConnectionError:
            pass
        self.later(lambda _: writer.close(), b"")


class _Listening(asyncio.DatagramProtocol):
    """Where clients send to."""

    def __init__(self, proxy: DelayProxy) -> None:
        self._proxy = proxy
        self._clients: dict[tuple[str, int], Callable[[bytes], None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        send = self._clients.get(addr)
        if send is None:
            send = self._clients[addr] = self._proxy.upstream(lambda answer: self._transport.sendto(answer, addr))
        send(data)
