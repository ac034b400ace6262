"""The peer's relayed addresses: those it told us of, and those that it came from without telling."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from relaycall.errors import RecordRefused
from relaycall.ice.agent import Agent
from relaycall.ice.allocation import Allocation
from relaycall.ice.candidate import MAX_CANDIDATES, Candidate, priority
from relaycall.ice.holdings import LINGER, Holdings
from relaycall.ice.timers import Timers
from relaycall.stun.address import Address


class Remotes:
    """The list, bounded; and its pairs with our allocations, once `pair_up` was called.

    Attributes:
        dropped: what could not be used, by reason.
    """

    def __init__(self, agent: Agent, held: Holdings, timers: Timers) -> None:
        self.dropped: Counter[str] = Counter()
        self._agent = agent
        self._held = held
        self._timers = timers
        self._loop = asyncio.get_running_loop()
        self._paired = False
        self._known: dict[Address, Candidate] = {}
        self._learned: list[Address] = []
        self._retired: set[Address] = set()

    def __iter__(self) -> Iterator[Candidate]:
        return iter([known for address, known in self._known.items() if address not in self._retired])

    def number(self, address: Address) -> int:
        """The how-manieth it is; -1 for an unknown one."""
        return next((index for index, known in enumerate(self._known) if known == address), -1)

    def pair_up(self) -> None:
        """Check every pair from now on."""
        self._paired = True
        for remote in self._known.values():
            self._pair(remote)

    def pair_with(self, allocation: Allocation) -> None:
        """One more allocation of ours; the agent knows it."""
        for remote in self._known.values() if self._paired else ():
            self._open(allocation, remote.address)

    def add(self, address: Address, remote_priority: int, leg: float) -> None:
        """One that the peer told. Adding it again does nothing; raises RecordRefused for a fifth."""
        if address in self._known:
            return
        if len(self._known) - len(self._learned) >= MAX_CANDIDATES:
            raise RecordRefused(f"more than {MAX_CANDIDATES} candidates")
        self._add(address, remote_priority, leg)

    def learn(self, address: Address) -> None:
        """One that the peer proved to be at. At most four such; the oldest goes first."""
        if address in self._known:
            return
        if len(self._learned) >= MAX_CANDIDATES:
            oldest = next(known for known in self._learned if not self._carries(known))
            self._learned.remove(oldest)
            self._remove(oldest)
        self._learned.append(address)
        self._add(address, priority(len(self._known)), 0.0)

    def replace(self, addresses: Sequence[Address]) -> None:
        """All that the peer has now, in its order of preference; four count.

        Others are left as soon as there is another way, what was learned too, and given up a little later.
        """
        wanted = list(dict.fromkeys(addresses))[:MAX_CANDIDATES]
        self._learned = []
        for index, address in enumerate(wanted):
            if address in self._retired:
                self._retired.discard(address)
                self._agent.retire_remote(address, False, self._loop.time())
            elif address not in self._known:
                self._add(address, priority(index), 0.0)
        for address in [known for known in self._known if known not in wanted and known not in self._retired]:
            self._retired.add(address)
            self._agent.retire_remote(address, True, self._loop.time())
            self._timers.later(LINGER, partial(self._release, address))
        while len(self._retired) > MAX_CANDIDATES:
            self._remove(next(known for known in self._known if known in self._retired and not self._carries(known)))

    def _release(self, address: Address) -> None:
        """Give up one that the peer does not name any more, unless it still carries the call."""
        if address not in self._retired:
            return
        if self._carries(address):
            self._timers.later(LINGER, partial(self._release, address))
        else:
            self._remove(address)

    def _carries(self, address: Address) -> bool:
        """Whether the call goes there at the moment."""
        selected = self._agent.selected
        return selected is not None and selected.remote == address

    def _add(self, address: Address, remote_priority: int, leg: float) -> None:
        self._known[address] = Candidate("0", 1, "udp", remote_priority, address.host, address.port, leg=leg)
        if self._paired:
            self._pair(self._known[address])

    def _pair(self, remote: Candidate) -> None:
        for allocation in self._held.allocations.values():
            self._open(allocation, remote.address)
        self._agent.add_remote(remote.address, remote.priority, self._loop.time(), remote.leg)

    def _open(self, allocation: Allocation, address: Address) -> None:
        if allocation.relayed.family != address.family:
            return
        try:
            allocation.add_peer(address)
        except ValueError:  # a relay gives 4096 channels: the peer has named as many addresses
            self.dropped["channel"] += 1

    def _remove(self, address: Address) -> None:
        self._retired.discard(address)
        del self._known[address]
        self._agent.remove_remote(address, self._loop.time())
        for allocation in self._held.allocations.values():
            allocation.remove_peer(address)
