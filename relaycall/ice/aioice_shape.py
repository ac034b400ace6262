"""What a connection needs besides, to stand in for `aioice.Connection` below aiortc's `RTCIceTransport`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

from relaycall.ice.candidate import Candidate, accept_address
from relaycall.ice.queue import PacketQueue
from relaycall.stun.address import Address


class AioiceShape(ABC):
    """The methods that aiortc awaits."""

    remote_is_lite = False
    _laboratory: bool
    _queue: PacketQueue
    _ended: asyncio.Future[None]
    _dropped: Counter[str]

    @property
    @abstractmethod
    def local_candidates(self) -> list[Candidate]:
        """Ours."""

    @abstractmethod
    def add_remote(self, address: Address, remote_priority: int, leg: float = 0.0) -> None:
        """One of the peer's."""

    @abstractmethod
    def send_packet(self, data: bytes, *, once: bool = False) -> None:
        """Send now, or never."""

    def get_default_candidate(self, component: int) -> Candidate | None:
        """The preferred candidate."""
        return next(iter(self.local_candidates), None) if component == 1 else None

    async def add_remote_candidate(self, remote: Any) -> None:
        """Add one of the peer's candidates, at any time; None (no more) is accepted and means nothing here.

        Only relay candidates are used; others are counted and dropped.

        Raises:
            RecordRefused: its address is not one a public relay can have.
        """
        if remote is None:
            return
        if remote.type != "relay" or remote.component != 1 or str(remote.transport).lower() != "udp":
            self._dropped["candidate"] += 1
            return
        address = accept_address(remote.host, remote.port, laboratory=self._laboratory)
        self.add_remote(address, remote.priority)

    async def send(self, data: bytes) -> None:
        """`send_packet`, in aioice's shape. Raises ConnectionError (CallClosed) after `close`."""
        self.send_packet(data)

    async def recv(self) -> bytes:
        """The next packet, in aioice's shape. Raises ConnectionError (CallClosed) after `close`."""
        return await self._queue.get()

    async def get_event(self) -> object:
        """Wait for the end, in aioice's shape: returns its ConnectionClosed."""
        from aioice import ConnectionClosed

        await asyncio.shield(self._ended)
        return ConnectionClosed()
