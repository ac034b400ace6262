"""Packets waiting for a reader who calls `recv()`, as aiortc's DTLS transport does."""

from __future__ import annotations

import asyncio
from collections import deque

from relaycall.errors import CallClosed

SIZE = 256  # packets; the oldest go first


class PacketQueue:
    """A bounded queue that drops from the front: late media is worth less than new media."""

    def __init__(self) -> None:
        self._packets: deque[bytes] = deque(maxlen=SIZE)
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    def put(self, packet: bytes) -> None:
        """Add a packet and wake the reader."""
        self._packets.append(packet)
        self._wake()

    async def get(self) -> bytes:
        """The next packet. Raises CallClosed once the queue is closed."""
        while not self._packets:
            if self._closed:
                raise CallClosed
            if self._waiting is None:
                self._waiting = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiting)
        return self._packets.popleft()

    def close(self) -> None:
        """Let every reader go."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None
