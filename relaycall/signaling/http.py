"""Signaling over HTTP: `https://host`, or `http://` on loopback. For where WebSockets do not pass.

Sending is a POST, one at a time so that the order holds; receiving is a long poll. What a poll was to bring and did
not comes with the next, which says what came last.
"""

from __future__ import annotations

import asyncio
import base64

import aiohttp

from relaycall.errors import MailboxReplaced, NotSignaling
from relaycall.signaling.base import Received
from relaycall.signaling.frames import (
    MAX_REPLY,
    PROTOCOL,
    START,
    Acknowledge,
    Answer,
    Challenge,
    Deliver,
    NameplateAnswer,
    NameplateRequest,
    Opened,
    Receive,
    Send,
    ServerFrame,
    decode_server,
)
from relaycall.signaling.network import NetworkTransport, failure_of_status

REQUEST_TIMEOUT = 10.0  # seconds
POLL_TIMEOUT = 40.0  # seconds; the server answers after 25


class HttpTransport(NetworkTransport):
    """A mailbox on a server, over plain requests.

    Args:
        url: `https://host[:port][/path]`.
        key: whose mailbox; by default a fresh one.
        ssl_context: one that trusts a private authority; the default one trusts the system's.
        laboratory: allows `http:` to other hosts than loopback.

    Raises:
        ConfigError: one of them is not usable.
    """

    schemes = ("http", "https")
    _cursor = START
    _outgoing: asyncio.Event  # of the connection

    async def acknowledge(self, received: Received) -> None:
        self._check_open()
        self._session.acknowledged(received.id)
        self._note_acknowledgement(received.id)

    async def _connect(self, http: aiohttp.ClientSession) -> None:
        challenge = await self._post(http, "challenge", b"")
        if not isinstance(challenge, Challenge):
            raise NotSignaling(self._server)
        opened = await self._post(http, "open", self._claim(challenge).encode())
        if not isinstance(opened, Opened):
            raise NotSignaling(self._server)
        self._token = opened.token
        self._cursor = START
        self._session.opened(challenge.epoch, asyncio.get_running_loop().time())
        self._outgoing = asyncio.Event()

    async def _serve(self) -> float:
        http = self._http
        assert http is not None
        tasks = [asyncio.create_task(self._poll(http)), asyncio.create_task(self._send_all(http))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        failures = [task.exception() for task in done]
        for failure in failures:
            if isinstance(failure, MailboxReplaced):
                raise failure
        return 0.0

    async def _poll(self, http: aiohttp.ClientSession) -> None:
        while True:
            frame = await self._post(http, "receive", Receive(self._cursor).encode(), POLL_TIMEOUT)
            if isinstance(frame, Deliver):
                self._cursor = frame.cursor
                again = self._take(frame)
                if again is not None:
                    self._note_acknowledgement(again)

    async def _send_all(self, http: aiohttp.ClientSession) -> None:
        """Send what there is to send, in order. What fails is sent again on the next connection."""
        acknowledgements = self._session.acknowledgements
        while True:
            self._outgoing.clear()
            while acknowledgements or self._session.pending:
                if acknowledgements:
                    await self._post(http, "acknowledge", Acknowledge(acknowledgements[0]).encode())
                    acknowledgements.popleft()
                if self._session.pending:
                    frame = next(iter(self._session.pending.values()))
                    path, kind = ("send", Answer) if isinstance(frame, Send) else ("nameplate", NameplateAnswer)
                    answer = await self._post(http, path, frame.encode())
                    if not isinstance(answer, kind) or answer.number != frame.number:
                        raise NotSignaling(self._server)
                    self._answered(answer)
            await self._outgoing.wait()

    async def _write(self, frame: Send | NameplateRequest) -> None:
        self._outgoing.set()

    async def _leave(self) -> None:
        while self._session.acknowledgements and self._http is not None:
            await self._post(self._http, "acknowledge", Acknowledge(self._session.acknowledgements.popleft()).encode())

    def _note_acknowledgement(self, key: bytes) -> None:
        self._session.acknowledgements.append(key)
        self._outgoing.set()

    async def _post(
        self, http: aiohttp.ClientSession, path: str, body: bytes, timeout: float = REQUEST_TIMEOUT
    ) -> ServerFrame | None:
        """One request. The frame of the reply, or None if it holds none. Raises SignalingError, or anything."""
        async with http.post(
            f"{self._where.base}/v1/{path}",
            data=body,
            headers={"Authorization": f"Bearer {base64.urlsafe_b64encode(self._token).decode()}"},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=timeout),
            ssl=self._ssl,
        ) as response:
            raise_for(response, self._server)
            data = await response.content.read(MAX_REPLY + 1)
            while len(data) <= MAX_REPLY and (more := await response.content.read(MAX_REPLY + 1)):
                data += more
        return None if path == "acknowledge" else decode_server(data)


def raise_for(response: aiohttp.ClientResponse, server: str) -> None:
    """Raises the SignalingError that a reply's status stands for, if it is another than 200."""
    if response.headers.get("Relaycall-Signaling") != PROTOCOL:
        raise NotSignaling(server, f"it answered with status {response.status}")
    if response.status != 200:
        raise failure_of_status(response.status, server, _seconds(response.headers.get("Retry-After")))


def _seconds(header: str | None) -> float:
    return float(header) if header is not None and header.isdecimal() and len(header) < 6 else 1.0
