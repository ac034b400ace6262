"""Relays that misbehave on purpose, and things that are no relays, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, Method, decode, long_term_key

Attributes = Sequence[tuple[a.Attribute[Any], Any]]
# What is sent back for what came in; None ends the connection.
Script = Callable[[bytes, Address], Sequence[bytes | None]]
Answer = Callable[[Message, Address, bytes], bytes | None]  # request, from where, key

USERNAME = "canary-user-5d1f"
PASSWORD = "canary-password-93ab"
RELAYED = Address("192.88.99.7", 50000)
KEY = long_term_key(USERNAME, "scripted", PASSWORD)


def turn(answer: Answer) -> Script:
    """A relay that asks for credentials, and then answers the request as it is told; None for not at all."""

    def script(data: bytes, source: Address) -> Sequence[bytes | None]:
        request = decode(data)
        if request.kind is not Class.REQUEST:
            return []
        if request.get(a.MESSAGE_INTEGRITY) is None:
            challenge = [a.ERROR_CODE(a.ErrorCode(401)), a.REALM("scripted"), a.NONCE("once")]
            return [Message(request.method, Class.ERROR, request.transaction_id, challenge).encode()]
        reply = answer(request, source, KEY)
        return [] if reply is None else [reply]

    return script


def success(request: Message, key: bytes | None, *attributes: tuple[a.Attribute[Any], Any]) -> bytes:
    """An answer that says yes."""
    return Message(request.method, Class.SUCCESS, request.transaction_id, attributes).encode(key)


def error(request: Message, code: int, key: bytes | None = None) -> bytes:
    """An answer that says no."""
    return Message(request.method, Class.ERROR, request.transaction_id, [a.ERROR_CODE(a.ErrorCode(code))]).encode(key)


def granted(relayed: Address = RELAYED, *, signed_with: bytes | None = KEY) -> Answer:
    """Says yes to everything, with this relayed address."""

    def answer(request: Message, source: Address, _key: bytes) -> bytes:
        if request.method is not Method.ALLOCATE:
            return success(request, signed_with, a.LIFETIME(600))
        return success(
            request, signed_with, a.XOR_RELAYED_ADDRESS(relayed), a.XOR_MAPPED_ADDRESS(source), a.LIFETIME(600)
        )

    return answer


@asynccontextmanager
async def listening(
    script: Script, transport: str = "udp", *, ip: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Run a script on a port, which is what this gives. For "tls" a context is needed."""
    if transport == "udp":
        with _udp(script, ip) as port:
            yield port
        return
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        source = Address(*writer.get_extra_info("peername")[:2])
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while data := await reader.read(65536):
                for reply in script(data, source):
                    if reply is None:
                        return
                    writer.write(reply)

    server = await asyncio.start_server(serve, ip, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


@contextmanager
def _udp(script: Script, ip: str) -> Iterator[int]:
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((ip, 0))
        loop = asyncio.get_running_loop()

        def readable() -> None:
            with contextlib.suppress(OSError):
                data, source = sock.recvfrom(65536)
                for reply in script(data, Address(*source[:2])):
                    sock.sendto(reply or b"", source)

        loop.add_reader(sock, readable)
        try:
            yield sock.getsockname()[1]
        finally:
            loop.remove_reader(sock)


@contextmanager
def black_hole(transport: str = "udp", *, ip: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that takes everything and answers nothing: for TCP, connections that nobody accepts."""
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, kind) as sock:
        sock.bind((ip, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(8)
        yield sock.getsockname()[1]
