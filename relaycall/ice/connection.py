"""A relay-only connection: several allocations, one agent, and the shape of `aioice.Connection`.

Sending and receiving are plain calls (`send_packet`, `set_receiver`): no task, no queue, no copy of the timer per
packet. `recv` and `send` are there for aiortc's `RTCIceTransport`, which reaches its connection by four attributes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from relaycall.errors import CallClosed, NoPath, NoRelay, RecordRefused, RelaycallError, RelayError
from relaycall.ice.agent import Agent, Selected
from relaycall.ice.allocation import Allocation
from relaycall.ice.candidate import MAX_CANDIDATES, Candidate, accept_address, candidate, priority
from relaycall.ice.events import ConnectionEvent, PathLost, PathSelected, PathStats, RelayGone
from relaycall.ice.gathering import gather
from relaycall.ice.queue import PacketQueue
from relaycall.relays.server import RelayServer
from relaycall.stun.address import IPV4, Address

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0  # seconds
MAX_PACKET = 1500  # bytes; sockets and relays on the way are made for no more
_ICE_CHARS = string.ascii_letters + string.digits


class Connection:
    """A relay-only ICE connection over one or more relays.

    Args:
        servers: the relays, in order of preference. Each is allocated in parallel.
        ice_controlling: whether this side nominates: one of the two does (the caller).
        local_username, local_password: ICE credentials; fresh random ones by default.
        families: address families to allocate on each relay, 0x01 IPv4 and 0x02 IPv6.
        laboratory: allow loopback and private addresses. For tests on one machine only; it is logged.
        on_event: called with a `ConnectionEvent`.

    Attributes:
        failures: why relays could not be used or were lost, one error each.
        error: why the connection ended by itself; None while it stands and when it was closed.
    """

    def __init__(
        self,
        servers: Sequence[RelayServer],
        *,
        ice_controlling: bool,
        local_username: str | None = None,
        local_password: str | None = None,
        families: Sequence[int] = (IPV4,),
        laboratory: bool = False,
        on_event: Callable[[ConnectionEvent], None] | None = None,
    ) -> None:
        self.local_username = local_username or "".join(secrets.choice(_ICE_CHARS) for _ in range(8))
        self.local_password = local_password or "".join(secrets.choice(_ICE_CHARS) for _ in range(24))
        self.remote_username: str | None = None
        self.remote_password: str | None = None
        self.remote_is_lite = False
        self.failures: list[RelayError] = []
        self.error: RelaycallError | None = None
        self.on_event = on_event
        self._servers = tuple(servers)
        self._families = tuple(families)
        self._laboratory = laboratory
        self._loop = asyncio.get_running_loop()
        self._salt = os.urandom(16)
        self._agent = Agent(ice_controlling, self.local_username, self.local_password, os.urandom)
        self._allocations: dict[int, Allocation] = {}
        self._candidates: dict[int, Candidate] = {}
        self._remotes: list[Candidate] = []
        self._gathering = asyncio.Lock()
        self._stop: asyncio.Future[None] = self._loop.create_future()
        self._connected: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._path: tuple[Allocation, Address] | None = None
        self._queue = PacketQueue()
        self._closing: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._dropped: Counter[str] = Counter()
        if laboratory:
            logger.warning("laboratory mode: loopback and private addresses are allowed; never use it for real calls")

    def __repr__(self) -> str:
        role = "controlling" if self.ice_controlling else "controlled"
        return f"<Connection {role} over {len(self._allocations)} relays>"

    # --- gathering ----------------------------------------------------------------------------------------------------

    @property
    def ice_controlling(self) -> bool:
        """Whether this side nominates; may change in a role conflict."""
        return self._agent.controlling

    @ice_controlling.setter
    def ice_controlling(self, value: bool) -> None:
        self._agent.controlling = value

    @property
    def local_candidates(self) -> list[Candidate]:
        """One relay candidate for each live allocation."""
        return list(self._candidates.values())

    @property
    def remote_candidates(self) -> list[Candidate]:
        """The peer's candidates that were accepted."""
        return list(self._remotes)

    def get_default_candidate(self, component: int) -> Candidate | None:
        """The preferred candidate."""
        return next(iter(self._candidates.values()), None) if component == 1 else None

    async def gather_candidates(self) -> None:
        """Allocate on every relay at once. Relays that fail are logged and kept in `failures`.

        Raises:
            NoRelay: not one could be used; it holds the reason for each.
            CallClosed: the connection is closed, or was meanwhile.
        """
        async with self._gathering:
            if self._closing is not None:
                raise CallClosed
            if self._allocations:
                return
            allocations, self.failures = await gather(self._servers, self._families, self._laboratory, self._stop)
            for index, allocation in allocations.items():
                self._use(index, allocation)
            if not self._allocations:
                raise NoRelay(self.failures)

    def _use(self, index: int, allocation: Allocation) -> None:
        self._allocations[index] = allocation
        self._candidates[index] = candidate(allocation.relayed, index, self._salt, allocation.rtt)
        allocation.on_packet = partial(self._packet, index)
        allocation.on_lost = partial(self._allocation_lost, index)
        allocation.on_suspected = partial(self._allocation_suspected, index)
        allocation.on_peer_refused = partial(self._peer_refused, index)
        self._agent.add_local(index, allocation.relayed.family, priority(index), self._loop.time(), allocation.rtt)

    # --- the peer -----------------------------------------------------------------------------------------------------

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

    def add_remote(self, address: Address, remote_priority: int, leg: float = 0.0) -> None:
        """Add one of the peer's relayed addresses, already checked. `leg`: its round trip there; 0 for unknown.

        Raises RecordRefused for a fifth.
        """
        if self._closing is not None or any(known.address == address for known in self._remotes):
            return
        if len(self._remotes) >= MAX_CANDIDATES:
            raise RecordRefused(f"more than {MAX_CANDIDATES} candidates")
        remote = Candidate("0", 1, "udp", remote_priority, address.host, address.port, leg=leg)
        self._remotes.append(remote)
        if self._connected is not None:
            self._pair_up(remote)

    async def connect(self, timeout: float = CONNECT_TIMEOUT) -> None:
        """Check every pair and wait for the first that works.

        Set `remote_username` and `remote_password` and add the peer's candidates before.

        Args:
            timeout: seconds.

        Raises:
            NoPath: no pair carried packets in that time.
            RelayForbiddenPeer: our relays forbid every relay of the peer.
            NoRelay: every relay was lost.
            CallClosed: the connection was closed meanwhile, or has no allocation.
        """
        if self._closing is not None or not self._allocations:
            raise self.error or CallClosed()
        if self.remote_username is None or self.remote_password is None:
            raise RecordRefused("it has no ICE credentials")
        if self._connected is None:
            self._connected = self._loop.create_future()
            self._agent.set_remote(self.remote_username, self.remote_password)
            for remote in self._remotes:
                self._pair_up(remote)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._connected)
        except TimeoutError:
            raise NoPath from None

    def _pair_up(self, remote: Candidate) -> None:
        for allocation in self._allocations.values():
            if allocation.relayed.family == remote.address.family:
                allocation.add_peer(remote.address)
        self._agent.add_remote(remote.address, remote.priority, self._loop.time(), remote.leg)
        self._pump()

    # --- packets ------------------------------------------------------------------------------------------------------

    def send_packet(self, data: bytes) -> None:
        """Send to the peer over the selected path, now or never: dropped and counted without one, and if too long.

        Raises:
            CallClosed: after `close`.
        """
        path = self._path
        if path is None:
            if self._closing is not None:
                raise CallClosed
            self._dropped["no_path"] += 1
        elif len(data) > MAX_PACKET:
            self._dropped["too_long"] += 1
        else:
            path[0].send(path[1], data)

    def set_receiver(self, receiver: Callable[[bytes], None] | None) -> None:
        """Have `receiver(packet)` called for each packet that is not STUN; at once for those that wait for `recv`."""
        self._queue.set_receiver(receiver)

    async def send(self, data: bytes) -> None:
        """`send_packet`, in aioice's shape. Raises ConnectionError (CallClosed) after `close`."""
        self.send_packet(data)

    async def recv(self) -> bytes:
        """The next packet, in aioice's shape. Raises ConnectionError (CallClosed) after `close`."""
        return await self._queue.get()

    def _packet(self, local: int, peer: Address, data: bytes, now: float) -> None:
        first = data[0] if data else 255
        if 128 <= first < 192 or 20 <= first < 64:  # SRTP, DTLS (RFC 7983)
            self._queue.put(data)
        elif first < 4:
            self._agent.receive(local, peer, data, now)
            self._pump()
        else:
            self._dropped["not_media"] += 1

    # --- what happens -------------------------------------------------------------------------------------------------

    def _allocation_lost(self, index: int, error: RelayError) -> None:
        if self._closing is not None:
            return
        allocation = self._allocations.pop(index)
        allocation.abort()
        self._candidates.pop(index, None)
        self.failures.append(error)
        logger.warning("%s", error)
        self._emit(RelayGone(error))
        self._agent.remove_local(index, self._loop.time())
        self._pump()
        if not self._allocations:
            self._fail(NoRelay(self.failures))

    def _allocation_suspected(self, index: int, error: RelayError) -> None:
        logger.info("%s It is being asked.", error.sentence)
        self._agent.suspect_local(index, self._loop.time())
        self._pump()

    def _peer_refused(self, index: int, peer: Address, error: RelayError) -> None:
        self.failures.append(error)
        logger.warning("%s", error)
        self._agent.refuse_pair(index, peer, self._loop.time())
        self._pump()
        if self._agent.all_refused:
            self._fail(error)

    def _fail(self, error: RelaycallError) -> None:
        """Nothing is left: whoever waits for the path is told, and the connection closes."""
        if self._closing is None:
            self.error = error
            self._begin_close()

    def _due(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._agent.handle_timeout(self._loop.time())
        self._pump()

    def _pump(self) -> None:
        if self._closing is not None:
            return
        agent = self._agent
        while agent.outgoing:
            local, peer, data = agent.outgoing.popleft()
            allocation = self._allocations.get(local)
            if allocation is not None:
                allocation.send(peer, data)
        while agent.events:
            self._chosen(agent.events.popleft())
        at = agent.next_timeout()
        if at < self._timer_at or (self._timer is None and at != float("inf")):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._due)

    def _chosen(self, event: object) -> None:
        if not isinstance(event, Selected):
            self._path = None
            self._emit(PathLost())
            return
        allocation = self._allocations[event.local]
        self._path = (allocation, event.remote)
        if self._connected is not None and not self._connected.done():
            self._connected.set_result(None)
        self._emit(PathSelected(allocation.server.name, self._number(event.remote)))

    def _number(self, remote: Address) -> int:
        return next((i for i, known in enumerate(self._remotes) if known.address == remote), -1)

    def _emit(self, event: ConnectionEvent) -> None:
        if self.on_event is not None:
            try:
                self.on_event(event)
            except Exception:
                logger.exception("an event handler failed")

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def dropped(self) -> Counter[str]:
        """Packets received and not believed, or not sent, by reason."""
        total = self._dropped + self._agent.dropped + Counter(receiver=self._queue.failures, queue=self._queue.dropped)
        for allocation in self._allocations.values():
            total += allocation.dropped
        return total

    @property
    def relay_rtts(self) -> dict[str, float]:
        """Round trip to each relay in milliseconds, as its Allocate measured it."""
        return {allocation.server.name: allocation.rtt * 1000 for allocation in self._allocations.values()}

    def path_stats(self) -> list[PathStats]:
        """Every pair of relays, the selected one first."""
        selected = self._agent.selected
        pairs = sorted(self._agent.pairs.values(), key=lambda pair: (pair is not selected, -pair.priority))
        return [
            PathStats.of(pair, self._allocations[pair.local].server.name, self._number(pair.remote), pair is selected)
            for pair in pairs
        ]

    async def ended(self) -> RelaycallError | None:
        """Wait until the connection is closed. Returns why, if it ended by itself."""
        await asyncio.shield(self._ended)
        return self.error

    async def get_event(self) -> object:
        """Wait for the end, in aioice's shape: returns its ConnectionClosed."""
        from aioice import ConnectionClosed

        await asyncio.shield(self._ended)
        return ConnectionClosed()

    # --- the end ------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Delete every allocation and close, within 1.2 seconds whatever the relays do. May be called twice."""
        await asyncio.shield(self._begin_close())

    def _begin_close(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
            self._path = None
            self._stop.set_result(None)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._connected is not None and not self._connected.done():
                self._connected.set_exception(self.error or CallClosed())
                self._connected.exception()  # connect() may have given up before
            self._queue.close()
        return self._closing

    async def _close(self) -> None:
        try:
            async with self._gathering:  # it is given up at once
                await asyncio.gather(*(allocation.close() for allocation in self._allocations.values()))
        finally:
            self._allocations.clear()
            self._agent.pairs.clear()
            if not self._ended.done():
                self._ended.set_result(None)
