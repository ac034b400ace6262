"""Signaling over a WebSocket: `wss://host`, or `ws://` on loopback."""

from __future__ import annotations

import asyncio
import re

import aiohttp

from relaycall.errors import (
    MailboxRefused,
    MailboxReplaced,
    NotSignaling,
    SignalingError,
    SignalingMisnamed,
    SignalingRateLimited,
    SignalingTimeout,
    SignalingUnreachable,
)
from relaycall.signaling.base import Received
from relaycall.signaling.frames import (
    MAX_REPLY,
    PROTOCOL,
    Acknowledge,
    Answer,
    Challenge,
    CloseCode,
    Deliver,
    NameplateAnswer,
    NameplateRequest,
    Opened,
    Send,
    ServerFrame,
    decode_server,
)
from relaycall.signaling.network import NetworkTransport

HEARTBEAT = 15.0  # seconds between pings; a connection without an answer for half of that is lost
CLOSE_HANDSHAKE = 0.4  # seconds to wait for the server's closing frame
_RETRY = re.compile(r"retry=([0-9]{1,6})")


class WebSocketTransport(NetworkTransport):
    """A mailbox on a server, over a WebSocket that is made again whenever it is lost.

    Args:
        url: `wss://host[:port][/path]`.
        key: whose mailbox; by default a fresh one.
        ssl_context: one that trusts a private authority; the default one trusts the system's.
        laboratory: allows `ws:` to other hosts than loopback.

    Raises:
        ConfigError: one of them is not usable.
    """

    schemes = ("ws", "wss")
    _socket: aiohttp.ClientWebSocketResponse | None = None

    async def acknowledge(self, received: Received) -> None:
        self._check_open()
        self._session.acknowledged(received.id)
        await self._say(Acknowledge(received.id).encode())

    async def _connect(self, http: aiohttp.ClientSession) -> None:
        socket = await http.ws_connect(
            f"{self._where.base}/v1/ws",
            protocols=(PROTOCOL,),
            heartbeat=HEARTBEAT,
            max_msg_size=MAX_REPLY + 1,  # aiohttp refuses what has as many bytes
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_HANDSHAKE),
            ssl=self._ssl,
        )
        if socket.protocol != PROTOCOL:
            raise NotSignaling(self._server)
        challenge = await self._next(socket)
        if not isinstance(challenge, Challenge):
            raise NotSignaling(self._server)
        await socket.send_bytes(self._claim(challenge).encode())
        opened = await self._next(socket)
        if not isinstance(opened, Opened):
            raise NotSignaling(self._server)
        self._token = opened.token
        self._session.opened(challenge.epoch, asyncio.get_running_loop().time())
        written: set[int] = set()
        while unwritten := [frame for frame in self._session.pending.values() if frame.number not in written]:
            for frame in unwritten:
                written.add(frame.number)
                await socket.send_bytes(frame.encode())
        self._socket = socket

    async def _next(self, socket: aiohttp.ClientWebSocketResponse) -> ServerFrame:
        """The next frame. Raises SignalingError if it is none, and MalformedMessage."""
        message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise _failure_of_close(socket.close_code, message, self._server)
        return decode_server(message.data)

    async def _serve(self) -> float:
        socket = self._socket
        assert socket is not None
        try:
            while True:
                message = await socket.receive()
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                frame = decode_server(message.data)
                if isinstance(frame, Deliver):
                    again = self._take(frame)
                    if again is not None:
                        await self._say(Acknowledge(again).encode())
                elif isinstance(frame, Answer | NameplateAnswer):
                    self._answered(frame)
        finally:
            self._socket = None
        failure = _failure_of_close(socket.close_code, message, self._server)
        if isinstance(failure, MailboxReplaced):
            raise failure
        return failure.retry_after if isinstance(failure, SignalingRateLimited) else _retry_after(message)

    async def _write(self, frame: Send | NameplateRequest) -> None:
        if self._socket is not None:
            await self._socket.send_bytes(frame.encode())

    async def _say(self, frame: bytes) -> None:
        """Write it if there is a connection. If it gets lost, what it was about comes again."""
        if self._socket is not None:
            try:
                await self._socket.send_bytes(frame)
            except (aiohttp.ClientError, OSError):
                self._socket = None

    async def _leave(self) -> None:
        if self._socket is not None:
            await self._socket.close()


def _retry_after(message: aiohttp.WSMessage) -> float:
    """Seconds after which the server wants us back, as its closing frame says."""
    found = _RETRY.fullmatch(message.extra) if isinstance(message.extra, str) else None
    return int(found[1]) / 1000 if found else 0.0


def _failure_of_close(code: int | None, message: aiohttp.WSMessage, server: str) -> SignalingError:
    match code:
        case CloseCode.REFUSED:
            return MailboxRefused(server)
        case CloseCode.MISNAMED:
            return SignalingMisnamed(server)
        case CloseCode.REPLACED:
            return MailboxReplaced(server)
        case CloseCode.RATE_LIMITED:
            return SignalingRateLimited(server)
        case CloseCode.TOO_SLOW:
            return SignalingTimeout(server)
        case CloseCode.RESTART:
            return SignalingUnreachable(server, "it is restarting")
        case CloseCode.MALFORMED:
            return NotSignaling(server, "it speaks another version")
    if message.type is aiohttp.WSMsgType.TEXT:
        return NotSignaling(server)
    return SignalingUnreachable(server, "it ended the connection")
