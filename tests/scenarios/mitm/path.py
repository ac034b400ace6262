"""The signaling path in the hands of Mallory: every envelope of every phone passes him, and nothing else delivers.

He knows whose mailbox each is and sees all bytes. What he does with a letter is his `plan`: it is given each one that
is sent, and returns those that are delivered instead: the same one, none, another, several. He delivers what he likes,
when he likes, by `deliver`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

from relaycall.signaling.base import Received, Signaling, SignalingState
from relaycall.signaling.keys import MailboxKey, mailbox_of

URL = "wss://mallory.example.org"


@dataclass(frozen=True, slots=True)
class Letter:
    """An envelope on its way.

    Attributes:
        sender: the mailbox of who sent it; nothing for Mallory's own.
        to: the mailbox that it is for.
        envelope: what others carry, any bytes once he has touched it.
    """

    sender: bytes
    to: bytes
    envelope: bytes

    def altered(self, envelope: bytes) -> Letter:
        return replace(self, envelope=envelope)

    def readdressed(self, to: bytes) -> Letter:
        return replace(self, to=to)


Plan = Callable[[Letter], list[Letter]]


def carry(letter: Letter) -> list[Letter]:
    """The plan of an honest server."""
    return [letter]


class Path:
    """All mailboxes.

    Attributes:
        plan: what becomes of a letter.
        sent: every letter that was sent, as it was sent.
    """

    def __init__(self) -> None:
        self.plan: Plan = carry
        self.sent: list[Letter] = []
        self._ways: dict[bytes, Way] = {}

    def open(self, url: str, *, key: MailboxKey, **_: Any) -> Way:
        """In place of `open_signaling`. The latest owner of a mailbox has it."""
        assert url == URL
        way = Way(self, key)
        self._ways[way.mailbox] = way
        return way

    def take(self, letter: Letter) -> None:
        """A phone sends."""
        self.sent.append(letter)
        for delivered in self.plan(letter):
            self.deliver(delivered)

    def deliver(self, letter: Letter) -> None:
        """Put it into its mailbox, if there is one."""
        if letter.to in self._ways:
            self._ways[letter.to].put(letter.envelope)


class Way(Signaling):
    """A phone's end of the path."""

    def __init__(self, path: Path, key: MailboxKey) -> None:
        self._path = path
        self._mailbox = mailbox_of(key.public)
        self._state = SignalingState.CONNECTING
        self._inbox: asyncio.Queue[Received | None] = asyncio.Queue()
        self._unread = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def mailbox(self) -> bytes:
        return self._mailbox

    @property
    def state(self) -> SignalingState:
        return self._state

    @property
    def idle(self) -> asyncio.Event:
        """Set while all that was delivered is dealt with."""
        return self._idle

    def put(self, envelope: bytes) -> None:
        self._unread += 1
        self._idle.clear()
        self._inbox.put_nowait(Received(hashlib.sha256(envelope).digest(), envelope, duplicate=False))

    async def open(self) -> None:
        self._state = SignalingState.OPEN

    async def send(self, mailbox: bytes, envelope: bytes, *, timeout: float = 10.0) -> None:
        await asyncio.sleep(0)
        self._path.take(Letter(self._mailbox, mailbox, envelope))

    async def receive(self) -> AsyncIterator[Received]:
        while (received := await self._inbox.get()) is not None:
            yield received

    async def acknowledge(self, received: Received) -> None:
        self._unread -= 1
        if not self._unread:
            self._idle.set()

    async def close(self) -> None:
        self._state = SignalingState.CLOSED
        self._inbox.put_nowait(None)
