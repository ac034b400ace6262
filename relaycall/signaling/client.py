"""What the transports of this package share: the state, the key, the inbox and the iterator over it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

from relaycall.errors import MailboxFull, SignalingBusy, SignalingClosed, SignalingError, SignalingRateLimited
from relaycall.signaling.base import Received, Signaling, SignalingState
from relaycall.signaling.frames import SESSION_SIZE, Deliver, Verdict
from relaycall.signaling.keys import FreshKey, MailboxKey, mailbox_of
from relaycall.signaling.session import Session


class Client(Signaling):
    """A transport without the way on which it reaches the server.

    Args:
        server: as messages name it.
        key: whose mailbox; by default a fresh one.
    """

    def __init__(self, server: str, key: MailboxKey | None) -> None:
        self._server = server
        self._key = key or FreshKey()
        self._mailbox = mailbox_of(self._key.public)
        self._number = secrets.token_bytes(SESSION_SIZE)
        self._session = Session()
        self._state = SignalingState.CONNECTING
        self._failure: SignalingError | None = None  # what closed it, if not we
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._server}: {self._state}>"

    @property
    def mailbox(self) -> bytes:
        return self._mailbox

    @property
    def state(self) -> SignalingState:
        return self._state

    def receive(self) -> AsyncIterator[Received]:
        if self._state is SignalingState.CONNECTING:
            raise SignalingClosed(self._server, "it was not opened yet")
        return _Incoming(self)

    async def next_received(self) -> Received | None:
        """The next envelope, or None once it is closed. Raises what closed it, if not we."""
        while self._state is not SignalingState.CLOSED:
            if self._session.inbox:
                return self._session.give()
            self._news.clear()
            await self._news.wait()
        if self._failure is not None:
            raise self._failure
        return None

    def _to(self, state: SignalingState) -> None:
        if self._state in (state, SignalingState.CLOSED):
            return
        self._state = state
        if self.on_state is not None:
            asyncio.get_running_loop().call_soon(self.on_state, state)
        if state is SignalingState.CLOSED:
            self._news.set()

    def _take(self, frame: Deliver) -> bytes | None:
        """An envelope came. Returns its id if it has to be acknowledged once more."""
        again = self._session.delivered(frame)
        if self._session.inbox:
            self._news.set()
        return again

    def _is_closed(self) -> bool:
        return self._state is SignalingState.CLOSED

    def _check_open(self) -> None:
        if self._state in (SignalingState.CONNECTING, SignalingState.CLOSED):
            raise self._failure or SignalingClosed(self._server)

    def _check_taken(self, verdict: Verdict, retry_after: float = 0.0) -> None:
        """Raises the error that a verdict stands for; `retry_after` in seconds."""
        if verdict is Verdict.MAILBOX_FULL:
            raise MailboxFull(self._server)
        if verdict is Verdict.RATE_LIMITED:
            raise SignalingRateLimited(self._server, retry_after=retry_after)
        if verdict is Verdict.BUSY:
            raise SignalingBusy(self._server)


class _Incoming(AsyncIterator[Received]):
    """Not a generator, which would end when waiting for the next one is cancelled."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __anext__(self) -> Received:
        received = await self._client.next_received()
        if received is None:
            raise StopAsyncIteration
        return received
