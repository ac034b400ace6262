"""What one client may ask for, by its connection and its address: in front of the store."""

from __future__ import annotations

import asyncio
import math

from relaycall.server.signaling_access import Holder
from relaycall.server.signaling_connections import Connection
from relaycall.server.signaling_limits import AddressBuckets
from relaycall.server.signaling_store import Store
from relaycall.signaling.frames import (
    NO_MAILBOX,
    NameplateAction,
    NameplateAnswer,
    NameplateOutcome,
    NameplateRequest,
    Send,
    Verdict,
)


class Gate:
    """Of one connection.

    Args:
        store: where envelopes and nameplates are.
        connection: the client's.
        addresses: what each address may do.
        nameplates: the nameplates that each address may allocate or claim.
        source: the client's address, as `source_of` gives it.
    """

    def __init__(
        self, store: Store, connection: Connection, addresses: AddressBuckets, nameplates: AddressBuckets, source: str
    ) -> None:
        self._store = store
        self._connection = connection
        self._addresses = addresses
        self._nameplates = nameplates
        self._source = source

    def wait(self) -> float:
        """Count something other than an envelope. Returns 0, or seconds after which it would be allowed."""
        return self._addresses.take(self._source, asyncio.get_running_loop().time())

    async def put(self, send: Send) -> tuple[Verdict, int]:
        """Count an envelope, and hand it on. Returns the verdict, and milliseconds after which to try again."""
        wait = self._connection.bucket.take(asyncio.get_running_loop().time()) or self.wait()
        if wait:
            return Verdict.RATE_LIMITED, math.ceil(wait * 1000)
        return await self._store.put(send.mailbox, send.envelope), 0

    async def nameplate(self, request: NameplateRequest, holder: Holder) -> NameplateAnswer:
        """Count a request about a nameplate, and fulfil it for who holds the mailbox."""
        outcome, retry_ms, nameplate, mailbox = NameplateOutcome.DONE, 0, 0, NO_MAILBOX
        if wait := self._nameplate_wait(request.action):
            outcome, retry_ms = NameplateOutcome.RATE_LIMITED, math.ceil(wait * 1000)
        elif request.action is NameplateAction.ALLOCATE:
            if allocated := await self._store.allocate_nameplate(holder.mailbox):
                nameplate = allocated
            else:
                outcome = NameplateOutcome.BUSY
        elif request.action is NameplateAction.CLAIM:
            claim = holder.session + request.number.to_bytes(4, "big")
            if found := await self._store.claim_nameplate(request.nameplate, claim):
                mailbox = found
            else:
                outcome = NameplateOutcome.UNKNOWN
        else:
            await self._store.release_nameplate(holder.mailbox)
        return NameplateAnswer(request.number, outcome, retry_ms, nameplate, mailbox)

    def _nameplate_wait(self, action: NameplateAction) -> float:
        now = asyncio.get_running_loop().time()
        if action is NameplateAction.RELEASE:  # it takes nothing from anybody
            return self.wait()
        return self._connection.nameplates.take(now) or self._nameplates.take(self._source, now) or self.wait()
