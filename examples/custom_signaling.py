"""Signaling of one's own: carrier pigeons, with a loft in this process for a server. Run it: the contract tries it.

docs/signaling.md says more, and by which entry point of a package `Phone(signaling="pigeon:loft")` finds such a class.
"""

import asyncio
from time import monotonic as now

from relaycall import MailboxRefused, MailboxReplaced, Received, SignalingClosed, SignalingState
from relaycall.signaling.base import SEND_TIMEOUT, check_envelope
from relaycall.signaling.client import Client
from relaycall.signaling.contract import CONTRACT
from relaycall.signaling.frames import START, Deliver
from relaycall.signaling.keys import MailboxKey, claim_message, is_proof
from relaycall.signaling.mailboxes import Mailboxes
from relaycall.signaling.rig import Rig

LOFT = Mailboxes()  # the server


class PigeonTransport(Client):
    def __init__(self, url: str, *, key: MailboxKey | None = None, **_: object) -> None:
        super().__init__(url, key)
        self._cursor = START

    async def open(self) -> None:
        if self.state is SignalingState.CLOSED:
            raise SignalingClosed(self._server)
        claim = claim_message("loft", b"a fresh challenge of the server's", self._number)
        if not is_proof(self._key.public, self._key.sign(claim), claim):  # the server's part
            raise MailboxRefused(self._server)
        LOFT.own(self.mailbox, self._number, now())
        LOFT.attach(self.mailbox, self._number, self, now())
        self._to(SignalingState.OPEN)
        self.news()

    def news(self) -> None:  # the server: something came
        while waiting := LOFT.after(self.mailbox, self._number, self._cursor, now()):
            self._cursor = waiting.cursor
            self._take(Deliver(*waiting))

    def replaced(self) -> None:  # the server: another client has the mailbox now
        self._failure = MailboxReplaced(self._server)
        self._to(SignalingState.CLOSED)

    async def send(self, mailbox: bytes, envelope: bytes, *, timeout: float = SEND_TIMEOUT) -> None:
        check_envelope(mailbox, envelope)
        self._check_open()
        self._check_taken(LOFT.put(mailbox, envelope, now()))

    async def acknowledge(self, received: Received) -> None:
        self._check_open()
        self._session.acknowledged(received.id)
        LOFT.acknowledge(self.mailbox, self._number, received.id, now())

    async def close(self) -> None:
        LOFT.detach(self.mailbox, self, now())
        self._to(SignalingState.CLOSED)


class PigeonRig(Rig):
    async def open(self, key=None):
        await (client := PigeonTransport("pigeon:loft", key=key)).open()
        self.opened.append(client)
        return client

    async def reopen(self, client):
        await client.close()
        return await self.open(client._key)


async def main() -> None:
    for case in CONTRACT:
        async with PigeonRig() as rig:
            await case(rig)
        print("kept:", case.__name__.replace("_", " "))


asyncio.run(main())
