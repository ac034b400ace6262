"""What one client may send, by its connection and its address: in front of the store."""

from __future__ import annotations

import asyncio
import math

from relaycall.server.signaling_limits import AddressBuckets, Bucket
from relaycall.server.signaling_store import Store
from relaycall.signaling.frames import Send, Verdict


class Gate:
    """Of one connection.

    Args:
        store: where envelopes go.
        bucket: the connection's.
        addresses: those of all addresses.
        source: the client's, as `source_of` gives it.
    """

    def __init__(self, store: Store, bucket: Bucket, addresses: AddressBuckets, source: str) -> None:
        self._store = store
        self._bucket = bucket
        self._addresses = addresses
        self._source = source

    def wait(self) -> float:
        """Count something other than an envelope. Returns 0, or seconds after which it would be allowed."""
        return self._addresses.take(self._source, asyncio.get_running_loop().time())

    async def put(self, send: Send) -> tuple[Verdict, int]:
        """Count an envelope, and hand it on. Returns the verdict, and milliseconds after which to try again."""
        wait = self._bucket.take(asyncio.get_running_loop().time()) or self.wait()
        if wait:
            return Verdict.RATE_LIMITED, math.ceil(wait * 1000)
        return await self._store.put(send.mailbox, send.envelope), 0
