"""Signaling inside one process: for demos, tests and examples."""

from __future__ import annotations

import asyncio
import random
import secrets
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from relaycall.errors import (
    ConfigError,
    MailboxRefused,
    MailboxReplaced,
    NameplateUnknown,
    SignalingBusy,
    SignalingClosed,
)
from relaycall.signaling.base import SEND_TIMEOUT, Received, SignalingState, check_envelope
from relaycall.signaling.client import Client
from relaycall.signaling.frames import NONCE_SIZE, START, Deliver
from relaycall.signaling.keys import MailboxKey, claim_message, is_proof
from relaycall.signaling.mailboxes import Mailboxes
from relaycall.signaling.nameplates import Nameplates
from relaycall.signaling.rendezvous import NAMEPLATE_TIMEOUT, Rendezvous


class _Place:
    """What the transports of one name share."""

    def __init__(self) -> None:
        self.mailboxes = Mailboxes()
        self.nameplates = Nameplates()


_places: WeakValueDictionary[str, _Place] = WeakValueDictionary()


class MemoryTransport(Client, Rendezvous):
    """A mailbox in this process's memory. What waits there is gone with the last transport of its name.

    Args:
        url: `memory:NAME`; those with the same name reach each other.
        key: whose mailbox; by default a fresh one.

    Raises:
        ConfigError: the URL is another.
    """

    def __init__(self, url: str, *, key: MailboxKey | None = None) -> None:
        name = urlsplit(url).path
        if not 1 <= len(name) <= 64 or not name.isascii() or not name.isprintable():
            raise ConfigError("The URL of signaling in memory is not one.", "Write memory:NAME.")
        super().__init__(f"memory:{name}", key)
        self._name = name
        self._place = _places.setdefault(name, _Place())
        self._mailboxes = self._place.mailboxes
        self._cursor = START

    async def open(self) -> None:
        if self._state is SignalingState.OPEN:
            return
        if self._state is SignalingState.CLOSED:
            raise SignalingClosed(self._server)
        nonce = secrets.token_bytes(NONCE_SIZE)
        message = claim_message(self._name, nonce, self._number)
        if not is_proof(self._key.public, self._key.sign(message), message):
            raise MailboxRefused(self._server)
        self._mailboxes.own(self._mailbox, self._number, _now())
        self._mailboxes.attach(self._mailbox, self._number, self, _now())
        self._to(SignalingState.OPEN)
        self.news()

    def news(self) -> None:
        """The mailboxes tell: something came."""
        while waiting := self._mailboxes.after(self._mailbox, self._number, self._cursor, _now()):
            self._cursor = waiting.cursor
            self._take(Deliver(*waiting))

    def replaced(self) -> None:
        """The mailboxes tell: another client has the mailbox now."""
        self._failure = MailboxReplaced(self._server)
        self._to(SignalingState.CLOSED)

    async def send(self, mailbox: bytes, envelope: bytes, *, timeout: float = SEND_TIMEOUT) -> None:
        check_envelope(mailbox, envelope)
        self._check_open()
        self._check_taken(self._mailboxes.put(mailbox, envelope, _now()))
        await asyncio.sleep(0)

    async def acknowledge(self, received: Received) -> None:
        self._check_open()
        self._session.acknowledged(received.id)
        self._mailboxes.acknowledge(self._mailbox, self._number, received.id, _now())

    async def allocate_nameplate(self, *, timeout: float = NAMEPLATE_TIMEOUT) -> int:
        self._check_open()
        nameplate = self._place.nameplates.allocate(self._mailbox, random.random(), _now())
        if nameplate is None:
            raise SignalingBusy(self._server)
        return nameplate

    async def claim_nameplate(self, nameplate: int, *, timeout: float = NAMEPLATE_TIMEOUT) -> bytes:
        self._check_open()
        mailbox = self._place.nameplates.claim(nameplate, secrets.token_bytes(16), _now())
        if mailbox is None:
            raise NameplateUnknown(self._server)
        return mailbox

    async def release_nameplate(self, *, timeout: float = NAMEPLATE_TIMEOUT) -> None:
        self._check_open()
        self._place.nameplates.release(self._mailbox, _now())

    async def close(self) -> None:
        self._mailboxes.detach(self._mailbox, self, _now())
        self._to(SignalingState.CLOSED)


def _now() -> float:
    return asyncio.get_running_loop().time()
