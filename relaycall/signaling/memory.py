"""Signaling inside one process: for demos, tests and examples."""

from __future__ import annotations

import asyncio
import secrets

from relaycall.errors import SignalingError

MAILBOX_SIZE = 32  # random bytes; who knows them may send there
ENVELOPE_SIZE = 4096  # bytes at most
QUEUE = 64  # envelopes a mailbox holds


class MemorySignaling:
    """Mailboxes for opaque envelopes, kept in memory and delivered in order."""

    def __init__(self) -> None:
        self._mailboxes: dict[bytes, asyncio.Queue[bytes]] = {}

    def open_mailbox(self) -> bytes:
        """Make a mailbox and return its id."""
        mailbox = secrets.token_bytes(MAILBOX_SIZE)
        self._mailboxes[mailbox] = asyncio.Queue(QUEUE)
        return mailbox

    def close_mailbox(self, mailbox: bytes) -> None:
        """Forget a mailbox and what is in it."""
        self._mailboxes.pop(mailbox, None)

    async def send(self, mailbox: bytes, envelope: bytes) -> None:
        """Put an envelope into a mailbox.

        Raises:
            SignalingError: no such mailbox, it is full, or the envelope is larger than 4096 bytes.
        """
        queue = self._mailboxes.get(mailbox)
        if queue is None:
            raise SignalingError("There is no such mailbox.")
        if len(envelope) > ENVELOPE_SIZE:
            raise SignalingError(f"An envelope holds at most {ENVELOPE_SIZE} bytes.", "Send less.")
        try:
            queue.put_nowait(envelope)
        except asyncio.QueueFull:
            raise SignalingError("The mailbox is full.", "Wait until the other side reads it.") from None

    async def receive(self, mailbox: bytes, *, timeout: float) -> bytes:
        """Take the oldest envelope out of our mailbox, waiting up to `timeout` seconds for one.

        Raises:
            SignalingError: no such mailbox, or nothing came.
        """
        queue = self._mailboxes.get(mailbox)
        if queue is None:
            raise SignalingError("There is no such mailbox.")
        try:
            return await asyncio.wait_for(queue.get(), timeout)
        except TimeoutError:
            raise SignalingError("The other side sent nothing in time.") from None
