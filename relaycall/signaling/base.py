"""What every way of signaling has in common: a mailbox of one's own, and envelopes into others' mailboxes.

    async with open_signaling("wss://signaling.example.org") as signaling:
        await signaling.send(their_mailbox, envelope)
        async for received in signaling.receive():
            await signaling.acknowledge(received)

A transport delivers opaque envelopes of one size. It gives each at least once for as long as it holds it, a minute:
what is not acknowledged comes again after a reconnect, and what may have come before says so. The envelopes of one
sender come in the order in which they were sent. An envelope is known by the hash of its bytes, so the same bytes sent
twice are one envelope.
"""

from __future__ import annotations

import enum
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from relaycall.errors import EnvelopeRefused

ENVELOPE_SIZE = 4096  # bytes
MAILBOX_SIZE = 32  # bytes
ENVELOPE_LIFETIME = 60.0  # seconds for which an envelope is kept for its receiver
QUEUE = 64  # envelopes that wait in a mailbox
SEND_TIMEOUT = 10.0  # seconds
CLOSE_TIMEOUT = 2.0  # seconds


class SignalingState(enum.StrEnum):
    """Where a transport stands. From any state it may go to closed, and from there nowhere."""

    CONNECTING = "connecting"  # not opened yet, or about to be
    OPEN = "open"
    RECONNECTING = "reconnecting"  # the connection was lost; it is made again by itself
    CLOSED = "closed"  # by us, or since the mailbox was given to another client


@dataclass(frozen=True, slots=True)
class Received:
    """An envelope for us.

    Attributes:
        id: the SHA-256 of its bytes.
        envelope: 4096 bytes.
        duplicate: it came before, or may have come to an earlier client of this mailbox.
    """

    id: bytes
    envelope: bytes
    duplicate: bool

    def __repr__(self) -> str:
        return f"<envelope{', a duplicate' if self.duplicate else ''}>"


class Signaling(ABC):
    """One mailbox of ours on one signaling server, and the way into others' mailboxes there.

    It is an asynchronous context manager, which opens and closes it.

    Attributes:
        on_state: called with each new state, by the event loop, in order; None for nobody.
    """

    on_state: Callable[[SignalingState], object] | None = None

    @property
    @abstractmethod
    def mailbox(self) -> bytes:
        """The id of our mailbox. Who knows it can send to us; give it to nobody else."""

    @property
    @abstractmethod
    def state(self) -> SignalingState:
        """Where it stands now."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and prove that the mailbox is ours; within 10 seconds.

        Raises:
            SignalingError: why that failed, by type.
            SignalingClosed: it was closed before.
        """

    @abstractmethod
    async def send(self, mailbox: bytes, envelope: bytes, *, timeout: float = SEND_TIMEOUT) -> None:
        """Send an envelope; returns when the server has taken it. A reconnect meanwhile is waited for.

        Args:
            mailbox: the receiver's, 32 bytes. Nobody tells whether it is read by anyone.
            envelope: 4096 bytes.
            timeout: seconds.

        Raises:
            EnvelopeRefused: another size.
            MailboxFull: the receiver has not taken what was sent before.
            SignalingRateLimited: too much was sent in a short time.
            SignalingBusy: the server is full.
            SignalingTimeout: not taken in time; it may have been taken all the same.
            SignalingClosed: not opened yet, or closed.
        """

    @abstractmethod
    def receive(self) -> AsyncIterator[Received]:
        """The envelopes for us, for as long as this is open; the iterator ends when it is closed.

        Waiting for the next one may be cancelled, and loses nothing.

        Raises:
            SignalingClosed: not opened yet.
            MailboxReplaced: while iterating, another client with the same key has taken the mailbox.
        """

    @abstractmethod
    async def acknowledge(self, received: Received) -> None:
        """Have the server forget an envelope, so that it never comes again. Twice does no harm."""

    @abstractmethod
    async def close(self) -> None:
        """Give the mailbox up, within 2 seconds. What was sent stays with its receivers. Twice does no harm."""

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def envelope_id(envelope: bytes) -> bytes:
    """What an envelope is known by: its SHA-256, 32 bytes."""
    return hashlib.sha256(envelope).digest()


def check_envelope(mailbox: bytes, envelope: bytes) -> None:
    """Raises EnvelopeRefused if either has another size than it must have, or is not bytes."""
    for what, value, size in (("the envelope", envelope, ENVELOPE_SIZE), ("the mailbox id", mailbox, MAILBOX_SIZE)):
        if not isinstance(value, bytes):
            raise EnvelopeRefused(f"{what} is not bytes")
        if len(value) != size:
            raise EnvelopeRefused(f"{what} has {len(value)} bytes")
