"""Clients that speak to a signaling server frame by frame, and may break every rule."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp

from relaycall.server.signaling import SignalingServer
from relaycall.signaling import frames as f
from relaycall.signaling.base import ENVELOPE_SIZE
from relaycall.signaling.keys import FreshKey, claim_message, mailbox_of

HOST = "127.0.0.1"


def envelope(number: int = 0) -> bytes:
    return number.to_bytes(4, "big").ljust(ENVELOPE_SIZE, b".")


class RawClient:
    """One WebSocket. `claim` proves a fresh key; what else it says is up to the test."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.key = FreshKey()
        self.session = secrets.token_bytes(16)
        self.challenge: f.Challenge | None = None
        self._delivered: deque[f.ServerFrame] = deque()  # while another frame was waited for

    @property
    def mailbox(self) -> bytes:
        return mailbox_of(self.key.public)

    async def frame(self) -> f.ServerFrame:
        return self._delivered.popleft() if self._delivered else await self._next()

    async def _next(self) -> f.ServerFrame:
        message = await self.socket.receive(timeout=10)
        assert message.type is aiohttp.WSMsgType.BINARY, f"{message.type} {self.socket.close_code}"
        return f.decode_server(message.data)

    def claim_frame(self, name: str = HOST) -> f.Claim:
        assert self.challenge is not None
        message = claim_message(name, self.challenge.nonce, self.session)
        return f.Claim(name, self.session, self.key.public, self.challenge.nonce, self.key.sign(message))

    async def challenged(self) -> f.Challenge:
        frame = await self.frame()
        assert isinstance(frame, f.Challenge)
        self.challenge = frame
        return frame

    async def claim(self) -> f.Opened:
        await self.challenged()
        await self.socket.send_bytes(self.claim_frame().encode())
        opened = await self.frame()
        assert isinstance(opened, f.Opened)
        return opened

    async def send(self, number: int, mailbox: bytes) -> f.Answer:
        await self.socket.send_bytes(f.Send(number, mailbox, envelope(number)).encode())
        while not isinstance(answer := await self._next(), f.Answer):
            self._delivered.append(answer)
        assert answer.number == number
        return answer

    async def nameplate(self, action: f.NameplateAction, nameplate: int = 0, number: int = 1) -> f.NameplateAnswer:
        await self.socket.send_bytes(f.NameplateRequest(number, action, nameplate).encode())
        answer = await self.frame()
        assert isinstance(answer, f.NameplateAnswer)
        assert answer.number == number
        return answer

    async def closed_with(self) -> int | None:
        """The code with which the server closes, whatever comes before."""
        while True:
            message = await self.socket.receive(timeout=10)
            if message.type is not aiohttp.WSMsgType.BINARY:
                return self.socket.close_code


@asynccontextmanager
async def raw_client(server: SignalingServer, **options: object) -> AsyncIterator[RawClient]:
    """A WebSocket to the server, which has said nothing yet."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url('ws')}/v1/ws", protocols=(f.PROTOCOL,), **options) as socket,  # type: ignore[arg-type]
    ):
        yield RawClient(socket)


async def raw_http(server: SignalingServer, data: bytes, *, timeout: float = 10) -> bytes:
    """What comes back for these bytes, until the server closes."""
    reader, writer = await asyncio.open_connection(HOST, urlsplit(server.url("http")).port)
    try:
        writer.write(data)
        async with asyncio.timeout(timeout):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
        return b""
    finally:
        writer.transport.abort()
