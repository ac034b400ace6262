"""One client's WebSocket, on the server: challenge, proof, then envelopes both ways."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time

from aiohttp import WSCloseCode, WSMsgType, web

from relaycall.errors import MalformedMessage
from relaycall.server.signaling_access import Access, Holder
from relaycall.server.signaling_gate import Gate
from relaycall.server.signaling_limits import Bucket, Limits
from relaycall.server.signaling_store import Store
from relaycall.signaling.frames import (
    MAX_FRAME,
    PROTOCOL,
    START,
    Acknowledge,
    Answer,
    Challenge,
    Claim,
    CloseCode,
    Deliver,
    NameplateRequest,
    Opened,
    Send,
    decode_client,
)
from relaycall.signaling.keys import mailbox_of

CLOSE_HANDSHAKE = 0.5  # seconds to wait for the client's closing frame


class Conversation:
    """With one client. It is a `Reader` of the client's mailbox.

    Args:
        store: the mailboxes.
        access: checks the proof.
        gate: the limits on what this client sends.
        limits: the others.
    """

    def __init__(self, store: Store, access: Access, gate: Gate, limits: Limits) -> None:
        self._store = store
        self._access = access
        self._gate = gate
        self._limits = limits
        self._socket = web.WebSocketResponse(
            max_msg_size=MAX_FRAME + 1,  # aiohttp refuses what has as many bytes
            compress=False,
            protocols=(PROTOCOL,),
            timeout=CLOSE_HANDSHAKE,
        )
        self._wake = asyncio.Event()
        self._is_replaced = False

    def news(self) -> None:
        self._wake.set()

    def replaced(self) -> None:
        self._is_replaced = True
        self._wake.set()

    async def restart(self, retry_ms: int) -> None:
        """Tell the client to come back later, and end it."""
        await self._socket.close(code=CloseCode.RESTART, message=b"retry=%d" % retry_ms)

    async def run(self, request: web.BaseRequest) -> web.WebSocketResponse:
        """From the upgrade to the end."""
        await self._socket.prepare(request)
        code = None
        try:
            code = await self._converse()
        finally:
            await self._socket.close(code=code or WSCloseCode.OK)
        return self._socket

    async def _converse(self) -> CloseCode | None:
        """Returns with which code to end it, if the client has not."""
        try:
            claim = await self._claimed()
            if not isinstance(claim, Claim):
                return claim
            mailbox = mailbox_of(claim.public)
            if not await self._store.own(mailbox, claim.session):
                return CloseCode.REPLACED
            if not await self._store.attach(mailbox, claim.session, self):
                return CloseCode.REPLACED
            delivering = asyncio.create_task(self._deliver(mailbox, claim.session))
            try:
                await self._socket.send_bytes(Opened(self._access.token(claim, time.time())).encode())
                return await self._listen(mailbox, claim.session)
            finally:
                delivering.cancel()
                await asyncio.wait([delivering])
                await self._store.detach(mailbox, self)
        except MalformedMessage:
            return CloseCode.MALFORMED
        except (ConnectionError, RuntimeError):  # aiohttp's, for a socket that has ended
            return None

    async def _claimed(self) -> Claim | CloseCode | None:
        """The client's proof, if it holds. Raises MalformedMessage."""
        nonce = self._access.challenge(secrets.token_bytes(8), time.time())
        await self._socket.send_bytes(Challenge(nonce, await self._store.epoch()).encode())
        message = None
        with contextlib.suppress(TimeoutError):
            message = await self._socket.receive(timeout=self._limits.claim_timeout)
        if message is None:
            return CloseCode.TOO_SLOW
        if message.type is not WSMsgType.BINARY:
            return CloseCode.MALFORMED if message.type is WSMsgType.TEXT else None
        claim = decode_client(message.data)
        if not isinstance(claim, Claim):
            return CloseCode.MALFORMED
        if claim.nonce != nonce:
            return CloseCode.REFUSED
        return self._access.refusal(claim, time.time()) or claim

    async def _listen(self, mailbox: bytes, session: bytes) -> CloseCode | None:
        loop = asyncio.get_running_loop()
        frames = Bucket(self._limits.frame_rate, self._limits.frame_burst, loop.time())
        async for message in self._socket:
            if message.type is not WSMsgType.BINARY:
                return CloseCode.MALFORMED if message.type is WSMsgType.TEXT else None
            if frames.take(loop.time()):
                return CloseCode.RATE_LIMITED
            frame = decode_client(message.data)
            if isinstance(frame, Send):
                verdict, retry_ms = await self._gate.put(frame)
                await asyncio.sleep(0)  # the receiver goes first
                await self._socket.send_bytes(Answer(frame.number, verdict, retry_ms).encode())
            elif isinstance(frame, Acknowledge):
                await self._store.acknowledge(mailbox, session, frame.id)
            elif isinstance(frame, NameplateRequest):
                answer = await self._gate.nameplate(frame, Holder(mailbox, session))
                await self._socket.send_bytes(answer.encode())
            else:
                return CloseCode.MALFORMED
        return None

    async def _deliver(self, mailbox: bytes, session: bytes) -> None:
        """Write what is in the mailbox, and what comes; the socket's own buffer is what holds it back."""
        cursor = START
        while True:
            self._wake.clear()
            if self._is_replaced:  # by another client, or by a later connection of the same one
                owns = await self._store.owns(mailbox, session)
                await self._socket.close(code=CloseCode.RESTART if owns else CloseCode.REPLACED)
                return
            while waiting := await self._store.after(mailbox, session, cursor):
                cursor = waiting.cursor
                await self._socket.send_bytes(Deliver(*waiting).encode())
            await self._wake.wait()
