"""Clients of the embedded relay on loopback: aioice's, and one of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aioice.turn import TurnTransport, create_turn_endpoint

from relaycall.server.turn import Relay
from relaycall.stun import attributes as a
from relaycall.stun.framing import StreamFramer
from relaycall.stun.message import Class, Message, Method, decode, long_term_key

USERS = {"alice": "secret"}


def open_sockets() -> list[str]:
    """The sockets this process has open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            target = str(entry.readlink())
            if target.startswith("socket:"):
                found.append(target)
    return sorted(found)


class Peer(asyncio.DatagramProtocol):
    """What a TURN client hands received packets to."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.lost = asyncio.Event()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait((data, addr))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    async def get(self) -> bytes:
        return (await asyncio.wait_for(self.received.get(), 5))[0]


def port_of(relay: Relay, transport: str) -> int:
    port = {"udp": relay.udp_port, "tcp": relay.tcp_port, "tls": relay.tls_port}[transport]
    assert port is not None
    return port


@asynccontextmanager
async def allocated(
    relay: Relay,
    transport: str = "udp",
    *,
    host: str = "127.0.0.1",
    username: str = "alice",
    password: str = "secret",
    trust: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[TurnTransport, Peer]]:
    """An allocation of aioice's client."""
    endpoint, peer = await create_turn_endpoint(
        Peer,
        (host, port_of(relay, transport)),
        username,
        password,
        ssl=trust if transport == "tls" else None,
        transport="udp" if transport == "udp" else "tcp",
    )
    try:
        yield endpoint, peer
    finally:
        endpoint.close()
        await asyncio.wait_for(peer.lost.wait(), 5)


async def exchange(one: tuple[TurnTransport, Peer], two: tuple[TurnTransport, Peer], count: int = 200) -> None:
    """Bind a channel each way, then send many packets both ways and lose none."""
    to_two, to_one = two[0].get_extra_info("sockname"), one[0].get_extra_info("sockname")
    async with asyncio.timeout(5):
        while one[1].received.empty() or two[1].received.empty():  # lost while the other side has no permission yet
            one[0].sendto(b"first", to_two)
            two[0].sendto(b"first", to_one)
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.02)
    for _, peer in (one, two):
        while not peer.received.empty():
            peer.received.get_nowait()
    for number in range(count):
        one[0].sendto(b"%d from one" % number, to_two)
        two[0].sendto(b"%d from two" % number, to_one)
    assert [await two[1].get() for _ in range(count)] == [b"%d from one" % number for number in range(count)]
    assert [await one[1].get() for _ in range(count)] == [b"%d from two" % number for number in range(count)]


class Client:
    """A client of bytes: for what aioice's cannot do."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.framer = StreamFramer()
        self.key: bytes | None = None
        self.signature: list[Any] = []
        self.number = 0

    @classmethod
    async def connect(cls, relay: Relay, transport: str = "udp", host: str = "127.0.0.1") -> Client:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, port_of(relay, transport)))
        return cls(sock)

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def receive(self) -> bytes:
        """The next bytes; none at the end of a stream."""
        return await asyncio.wait_for(self.loop.sock_recv(self.sock, 65536), 5)

    async def request(self, method: Method, *attributes: Any) -> Message:
        self.number += 1
        message = Message(method, Class.REQUEST, self.number.to_bytes(12, "big"), [*attributes, *self.signature])
        await self.send(message.encode(self.key))
        while True:
            data = await self.receive()
            for found in [data] if self.sock.type == socket.SOCK_DGRAM else self.framer.feed(data):
                answer = decode(found)
                assert answer.transaction_id == message.transaction_id
                return answer

    async def allocate(self, *attributes: Any) -> Message:
        challenge = await self.request(Method.ALLOCATE, a.REQUESTED_TRANSPORT(17))
        realm, nonce = challenge.get(a.REALM), challenge.get(a.NONCE)
        assert realm is not None
        assert nonce is not None
        self.signature = [a.USERNAME("alice"), a.REALM(realm), a.NONCE(nonce)]
        self.key = long_term_key("alice", realm, "secret")
        answer = await self.request(Method.ALLOCATE, a.REQUESTED_TRANSPORT(17), *attributes)
        assert answer.kind is Class.SUCCESS
        return answer


async def at_end(client: Client) -> None:
    """Read until the relay has closed the connection."""
    with contextlib.suppress(ConnectionResetError):
        while await client.receive():
            pass


async def until(condition: Any) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)
