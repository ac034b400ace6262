"""Packets on their way to whoever takes them: a receiver that is called, or a reader that calls `recv()`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from relaycall.errors import CallClosed

logger = logging.getLogger(__name__)

SIZE = 256  # packets; the oldest go first


class PacketQueue:
    """A bounded queue that drops from the front: late media is worth less than new media.

    Attributes:
        receiver: called with each packet in place of queueing it.
        failures: how often it raised. To the socket below, that would be the end of a stream.
        dropped: packets that nobody took before the queue was full.
    """

    def __init__(self) -> None:
        self.receiver: Callable[[bytes], bool] | None = None
        self.failures = 0
        self.dropped = 0
        self._packets: deque[bytes] = deque(maxlen=SIZE)
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    def put(self, packet: bytes) -> bool:
        """Hand a packet to the receiver, or keep it and wake the reader. Whether it is known to be the peer's."""
        if self.receiver is None:
            self.dropped += len(self._packets) == SIZE
            self._packets.append(packet)
            self._wake()
            return False
        try:
            return self.receiver(packet)
        except Exception:
            self.failures += 1
            if self.failures == 1:
                logger.exception("a receiver failed; further failures are only counted")
            return False

    def set_receiver(self, receiver: Callable[[bytes], bool] | None) -> None:
        """Have it called with each packet from now on, those that wait first. None: queue them again."""
        self.receiver = receiver
        while self.receiver is not None and self._packets:
            self.put(self._packets.popleft())

    async def get(self) -> bytes:
        """The next packet. Raises CallClosed once the queue is closed."""
        while not self._closed:
            if self._packets:
                return self._packets.popleft()
            if self._waiting is None:
                self._waiting = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiting)
        raise CallClosed

    def close(self) -> None:
        """Let the receiver and every reader go."""
        self.receiver = None
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None
