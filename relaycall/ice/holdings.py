"""The allocations a connection uses: numbered, asked when they fall silent, replaced by whoever lends them.

A lender is a pool of relays. It adds allocations at any time and retires what it wants back; it is told what was lost
and what seems to fail. Without one, the allocations there are at first are all there will be.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from functools import partial
from typing import Protocol

from relaycall.errors import RelayError
from relaycall.ice.agent import Agent
from relaycall.ice.allocation import Allocation
from relaycall.ice.candidate import Candidate, candidate, priority
from relaycall.ice.events import ConnectionEvent, RelayGone
from relaycall.ice.timers import Timers
from relaycall.stun.address import Address

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 2.0  # seconds a silent relay has to answer before its allocation is called failing
LINGER = 2.5  # seconds a retired allocation still takes what is under way to it
MAX_FAILURES = 64  # remembered
RELAYLESS = 13.0  # seconds without a word from any relay of ours before the call is given up


class Lender(Protocol):
    """Whoever replaces what is lost: a pool."""

    def lost(self, allocation: Allocation, error: RelayError) -> None:
        """It is gone."""

    def failing(self, allocation: Allocation) -> None:
        """It carries nothing at the moment; better have another."""


class Owner(Protocol):
    """What the connection does with what happens here."""

    def relay_packet(self, index: int, peer: Address, data: bytes, now: float) -> None: ...

    def relay_stranger(self, index: int, source: Address, data: bytes) -> None: ...

    def emit(self, event: ConnectionEvent) -> None: ...

    def relay_forbids(self, error: RelayError) -> None: ...

    def relays_lost(self) -> None: ...

    def relays_changed(self) -> None: ...


class Holdings:
    """Allocations by number; earlier ones are preferred.

    Attributes:
        allocations: those that stand, the retired ones included.
        candidates: what the peer is told: those that are not retired.
        failures: why relays could not be used, or were lost.
    """

    def __init__(self, agent: Agent, owner: Owner, lender: Lender | None, timers: Timers) -> None:
        self.allocations: dict[int, Allocation] = {}
        self.candidates: dict[int, Candidate] = {}
        self.failures: list[RelayError] = []
        self._agent = agent
        self._owner = owner
        self._lender = lender
        self._loop = asyncio.get_running_loop()
        self._salt = os.urandom(16)
        self._next = 0
        self._heard_at = self._loop.time()  # by allocations that are gone
        self._asked: set[int] = set()
        self._timers = timers
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def dropped(self) -> Counter[str]:
        """What the allocations received and did not believe, or could not send, by reason."""
        return sum((allocation.dropped for allocation in self.allocations.values()), Counter())

    def add(self, allocation: Allocation, index: int | None = None) -> None:
        """Use this one from now on; by default after all others in preference."""
        index = self._next if index is None else index
        self._next = max(self._next, index) + 1
        self.allocations[index] = allocation
        self.candidates[index] = candidate(allocation.relayed, index, self._salt, allocation.rtt)
        allocation.on_packet = partial(self._owner.relay_packet, index)
        allocation.on_stranger = partial(self._owner.relay_stranger, index)
        allocation.on_lost = partial(self._lost, index)
        allocation.on_suspected = partial(self._suspected, index)
        allocation.on_peer_refused = partial(self._refused, index)
        relayed, now = allocation.relayed, self._loop.time()
        self._agent.add_local(index, relayed.family, priority(index), now, allocation.rtt, relayed.host)
        self._owner.relays_changed()

    def retire(self, allocation: Allocation) -> None:
        """Move off it now, and close it when nothing comes over it any more."""
        index = next((index for index, held in self.allocations.items() if held is allocation), None)
        if index is None or self._closed:
            return
        self.candidates.pop(index, None)
        self._agent.retire_local(index, self._loop.time())
        self._owner.relays_changed()
        self._timers.later(LINGER, partial(self._release, index))

    def ask(self, index: int) -> None:
        """Nothing comes over this allocation: does its relay live?"""
        allocation = self.allocations.get(index)
        if allocation is not None and index not in self._asked:
            self._asked.add(index)
            allocation.verify()
            self._timers.later(ANSWER_WITHIN, partial(self._judge, index, self._loop.time()))

    def fails(self, index: int) -> None:
        """Nothing is answered on it, while others are at work."""
        if self._lender is not None and index in self.allocations:
            self._lender.failing(self.allocations[index])

    async def close(self) -> None:
        """Delete them all, within 1.2 seconds."""
        self._closed = True
        self._timers.close()
        closing = [self._loop.create_task(allocation.close()) for allocation in self.allocations.values()]
        try:
            if closing or self._closing:
                await asyncio.wait([*closing, *self._closing])
        finally:
            for task in closing:
                task.cancel()
            self.allocations.clear()

    # --- what happens -------------------------------------------------------------------------------------------------

    def _lost(self, index: int, error: RelayError) -> None:
        if self._closed:
            return
        allocation = self.allocations.pop(index)
        self._heard_at = max(self._heard_at, allocation.heard_at)
        allocation.abort()
        retired = self.candidates.pop(index, None) is None
        self._note(error)
        self._agent.remove_local(index, self._loop.time())
        if not retired or self._lender is None:
            self._owner.emit(RelayGone(error))
        self._owner.relays_changed()
        if self._lender is None:
            if not self.allocations:
                self._owner.relays_lost()
            return
        self._lender.lost(allocation, error)
        if not self.allocations:
            self._relayless()

    def _relayless(self) -> None:
        """Nothing is left. The call waits for a replacement."""
        left = self._heard_at + RELAYLESS - self._loop.time()
        if self.allocations:
            return
        if left <= 0:
            self._owner.relays_lost()
        else:
            self._timers.later(left, self._relayless)

    def _suspected(self, index: int, error: RelayError) -> None:
        logger.info("%s It is being asked.", error.sentence)
        self._agent.suspect_local(index, self._loop.time())
        self._owner.relays_changed()

    def _refused(self, index: int, peer: Address, error: RelayError) -> None:
        self._note(error)
        self._agent.refuse_pair(index, peer, self._loop.time())
        self._owner.relay_forbids(error)

    def _note(self, error: RelayError) -> None:
        self.failures.append(error)
        del self.failures[:-MAX_FAILURES]  # a peer may name many addresses that our relay forbids
        logger.warning("%s", error)

    def _judge(self, index: int, asked_at: float) -> None:
        self._asked.discard(index)
        allocation = self.allocations.get(index)
        if allocation is not None and allocation.heard_at < asked_at:
            self.fails(index)

    def _release(self, index: int) -> None:
        """Close a retired allocation, unless it still carries the call, there being no other way."""
        allocation = self.allocations.get(index)
        if allocation is None:
            return
        selected = self._agent.selected
        if selected is not None and selected.local == index:
            self._timers.later(LINGER, partial(self._release, index))
            return
        del self.allocations[index]
        self._agent.remove_local(index, self._loop.time())
        self._owner.relays_changed()
        task = self._loop.create_task(allocation.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
