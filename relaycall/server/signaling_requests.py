"""The requests of HTTP, on the server: the same frames as over a WebSocket, one in each request and each reply."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import math
import secrets
import time
from collections.abc import Sequence

from aiohttp import web

from relaycall.errors import MalformedMessage
from relaycall.relays.credentials import TimeLimited
from relaycall.server.signaling_access import Access, Holder
from relaycall.server.signaling_gate import Gate
from relaycall.server.signaling_limits import Limits
from relaycall.server.signaling_store import Store
from relaycall.signaling.frames import (
    MAX_FRAME,
    PROTOCOL,
    Acknowledge,
    Answer,
    Challenge,
    Claim,
    ClientFrame,
    CloseCode,
    Deliver,
    NameplateRequest,
    Nothing,
    Opened,
    Receive,
    Send,
    decode_client,
)
from relaycall.signaling.keys import mailbox_of

NO_FRAME = bytes(16)  # the body of every reply that holds no frame
STATUS = {CloseCode.REFUSED: 401, CloseCode.MISNAMED: 421, CloseCode.TOO_SLOW: 408}


class Poll:
    """A `Reader` for as long as one request waits."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.is_replaced = False

    def news(self) -> None:
        self.wake.set()

    def replaced(self) -> None:
        self.is_replaced = True
        self.wake.set()


class Requests:
    """Answers them.

    Args:
        store: the mailboxes.
        access: checks proofs and tokens.
        limits: how long things may take.
        relays: URIs of relays that share a secret, which clients get credentials for.
        credentials: mints them.
    """

    def __init__(
        self,
        store: Store,
        access: Access,
        limits: Limits,
        relays: Sequence[str] = (),
        credentials: TimeLimited | None = None,
    ) -> None:
        self._store = store
        self._access = access
        self._limits = limits
        self._relays = list(relays)
        self._credentials = credentials
        self._closing = asyncio.Event()
        self._polls: set[Poll] = set()

    def restart(self) -> None:
        """End the polls: the server is about to be gone."""
        self._closing.set()
        for poll in self._polls:
            poll.wake.set()

    async def answer(self, request: web.BaseRequest, gate: Gate) -> web.Response:
        """The reply to a request."""
        path = request.path
        if path == "/health":
            return reply(200)
        if path == "/ready":
            return reply(200 if await self._is_ready() else 503)
        if path == "/v1/credentials" and request.method in ("GET", "POST") and self._credentials is not None:
            return await self._give_credentials(request, gate)
        if path not in ("/v1/challenge", "/v1/open", "/v1/send", "/v1/receive", "/v1/acknowledge", "/v1/nameplate"):
            return reply(404)
        if request.method != "POST":
            return reply(405)
        body = await self._body(request)
        if not isinstance(body, bytes):
            return body
        if path == "/v1/challenge":
            return await self._challenge(body, gate)
        try:
            frame = decode_client(body)
        except MalformedMessage:
            return reply(400)
        return await self._handle(path, frame, request, gate)

    async def _handle(self, path: str, frame: ClientFrame, request: web.BaseRequest, gate: Gate) -> web.Response:
        if path == "/v1/send" and isinstance(frame, Send):
            return reply(200, Answer(frame.number, *await gate.put(frame)).encode())
        if path == "/v1/open" and isinstance(frame, Claim):
            return await self._open(frame, gate)
        holder = self._holder(request)
        if holder is None:
            return reply(401)
        if path == "/v1/nameplate" and isinstance(frame, NameplateRequest):
            return reply(200, (await gate.nameplate(frame, holder)).encode())
        if wait := gate.wait():
            return reply(429, retry_after=wait)
        if path == "/v1/receive" and isinstance(frame, Receive):
            return await self._receive(holder, frame)
        if path == "/v1/acknowledge" and isinstance(frame, Acknowledge):
            await self._store.acknowledge(holder.mailbox, holder.session, frame.id)
            return reply(200)
        return reply(400)

    async def _body(self, request: web.BaseRequest) -> bytes | web.Response:
        """What was sent, if it is not too long and not too slow."""
        data = bytearray()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.body_timeout):
                while more := await request.content.read(MAX_FRAME + 1 - len(data)):
                    data += more
                return bytes(data) if len(data) <= MAX_FRAME else reply(413, close=True)
        return reply(408, close=True)

    async def _challenge(self, body: bytes, gate: Gate) -> web.Response:
        if body:
            return reply(400)
        if wait := gate.wait():
            return reply(429, retry_after=wait)
        nonce = self._access.challenge(secrets.token_bytes(8), time.time())
        return reply(200, Challenge(nonce, await self._store.epoch()).encode())

    async def _open(self, claim: Claim, gate: Gate) -> web.Response:
        if wait := gate.wait():
            return reply(429, retry_after=wait)
        refusal = self._access.refusal(claim, time.time())
        if refusal is not None:
            return reply(STATUS[refusal])
        if not await self._store.own(mailbox_of(claim.public), claim.session):
            return reply(409)
        return reply(200, Opened(self._access.token(claim, time.time())).encode())

    async def _receive(self, holder: Holder, frame: Receive) -> web.Response:
        """Wait for an envelope, for so long as the limits say."""
        poll = Poll()
        if not await self._store.attach(holder.mailbox, holder.session, poll):
            return reply(409)
        self._polls.add(poll)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.poll):
                    while not self._closing.is_set():
                        poll.wake.clear()
                        if poll.is_replaced:  # by another client, or by a later poll of the same one
                            owns = await self._store.owns(holder.mailbox, holder.session)
                            return reply(200, Nothing().encode()) if owns else reply(409)
                        if waiting := await self._store.after(holder.mailbox, holder.session, frame.cursor):
                            return reply(200, Deliver(*waiting).encode())
                        await poll.wake.wait()
                    return reply(503, retry_after=1.0)
            return reply(200, Nothing().encode())
        finally:
            self._polls.discard(poll)
            await self._store.detach(holder.mailbox, poll)

    async def _give_credentials(self, request: web.BaseRequest, gate: Gate) -> web.Response:
        """W3C's iceServers, as `relaycall.relays.http_credentials` reads them."""
        assert self._credentials is not None
        if self._holder(request) is None:
            return reply(401)
        if wait := gate.wait():
            return reply(429, retry_after=wait)
        minted = self._credentials.mint()
        server = {"urls": self._relays, "username": minted.username, "credential": minted.password.reveal()}
        return reply(200, json.dumps({"iceServers": [server]}).encode(), content_type="application/json")

    def _holder(self, request: web.BaseRequest) -> Holder | None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            decoded = base64.b64decode(token, altchars=b"-_", validate=True) if kind == "Bearer" else b""
        except (binascii.Error, ValueError):
            return None
        return self._access.holder(decoded, time.time())

    async def _is_ready(self) -> bool:
        if self._closing.is_set():
            return False
        try:
            await self._store.epoch()
        except OSError:
            return False
        return True


def reply(
    status: int,
    body: bytes = NO_FRAME,
    *,
    retry_after: float | None = None,
    close: bool = False,
    content_type: str = "application/octet-stream",
) -> web.Response:
    """A reply whose length depends on its kind alone. `retry_after` in seconds; `close` ends the connection."""
    headers = {"Relaycall-Signaling": PROTOCOL, "Cache-Control": "no-store", "Server": "relaycall"}
    if retry_after is not None:
        headers["Retry-After"] = str(math.ceil(retry_after))
    response = web.Response(status=status, body=body, headers=headers, content_type=content_type)
    if close:
        response.force_close()
    return response
