"""A relay-only connection: several allocations, one agent, and the packets in between.

Sending and receiving are plain calls (`send_packet`, `set_receiver`): no task, no queue, no copy of the timer per
packet. What aiortc's `RTCIceTransport` needs besides is in aioice_shape.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import string
from collections import Counter
from collections.abc import Callable, Sequence

from relaycall.errors import (
    CallClosed,
    NoPath,
    NoRelay,
    PeerLost,
    RecordRefused,
    RelaycallError,
    RelayError,
    RelaysLost,
)
from relaycall.ice.agent import Agent
from relaycall.ice.aioice_shape import AioiceShape
from relaycall.ice.allocation import Allocation
from relaycall.ice.candidate import Candidate, is_acceptable
from relaycall.ice.driver import Driver
from relaycall.ice.events import ConnectionEvent, PathStats
from relaycall.ice.gathering import gather
from relaycall.ice.holdings import Holdings, Lender
from relaycall.ice.outlet import Outlet
from relaycall.ice.pair import Pair
from relaycall.ice.queue import PacketQueue
from relaycall.ice.remotes import Remotes
from relaycall.ice.timers import Timers
from relaycall.relays.server import RelayServer
from relaycall.stun.address import IPV4, Address

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0  # seconds
MAX_PACKET = 1500  # bytes; sockets and relays on the way are made for no more
_ICE_CHARS = string.ascii_letters + string.digits


class Connection(AioiceShape):
    """A relay-only ICE connection over one or more relays.

    Args:
        servers: the relays, in order of preference. Each is allocated in parallel. With a lender there may be none.
        ice_controlling: whether this side nominates: one of the two does (the caller).
        local_username, local_password: ICE credentials; fresh random ones by default.
        families: address families to allocate on each relay, 0x01 IPv4 and 0x02 IPv6.
        laboratory: allow loopback and private addresses. For tests on one machine only; it is logged.
        lender: replaces allocations that are lost; it gives the first ones too, by `add_allocation`.
        on_event: called with a `ConnectionEvent`.

    Attributes:
        reached: an event, set when packets can be sent: sooner than `connect` knows that they arrive.
        on_candidates: called when our candidates have changed after `connect`: the peer should be told.
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
        lender: Lender | None = None,
        on_event: Callable[[ConnectionEvent], None] | None = None,
    ) -> None:
        self.local_username = local_username or "".join(secrets.choice(_ICE_CHARS) for _ in range(8))
        self.local_password = local_password or "".join(secrets.choice(_ICE_CHARS) for _ in range(24))
        self.remote_username: str | None = None
        self.remote_password: str | None = None
        self.error: RelaycallError | None = None
        self.on_event = on_event
        self.on_candidates: Callable[[], None] | None = None
        self.reached = asyncio.Event()
        self._servers = tuple(servers)
        self._families = tuple(families)
        self._laboratory = laboratory
        self._loop = asyncio.get_running_loop()
        self._agent = Agent(ice_controlling, self.local_username, self.local_password, os.urandom)
        timers = Timers()
        self._held = Holdings(self._agent, self, lender, timers)
        self._remotes = Remotes(self._agent, self._held, timers)
        self._gathering = asyncio.Lock()
        self._stop: asyncio.Future[None] = self._loop.create_future()
        self._connected: asyncio.Future[None] | None = None
        self._outlet = Outlet()
        self._driver = Driver(self._agent, self._held, self._outlet, self._remotes, self)
        self._heard_peer: Address | None = None  # of the latest packet: the same object for each from one channel
        self._heard_pair: Pair | None = None
        self._queue = PacketQueue()
        self._closing: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._dropped: Counter[str] = Counter()
        if laboratory:
            logger.warning("laboratory mode: loopback and private addresses are allowed; never use it for real calls")

    def __repr__(self) -> str:
        role = "controlling" if self.ice_controlling else "controlled"
        return f"<Connection {role} over {len(self._held.allocations)} relays>"

    # --- our relays ---------------------------------------------------------------------------------------------------

    @property
    def ice_controlling(self) -> bool:
        """Whether this side nominates; may change in a role conflict."""
        return self._agent.controlling

    @ice_controlling.setter
    def ice_controlling(self, value: bool) -> None:
        self._agent.controlling = value

    @property
    def local_candidates(self) -> list[Candidate]:
        """One relay candidate for each live allocation that is not being given up, the preferred one first."""
        return [found for _, found in sorted(self._held.candidates.items())]

    @property
    def remote_candidates(self) -> list[Candidate]:
        """The peer's candidates that were accepted."""
        return list(self._remotes)

    @property
    def failures(self) -> list[RelayError]:
        """Why relays could not be used or were lost, one error each."""
        return self._held.failures

    async def gather_candidates(self) -> None:
        """Allocate on every relay at once. Relays that fail are logged and kept in `failures`.

        Raises:
            NoRelay: not one could be used; it holds the reason for each.
            CallClosed: the connection is closed, or was meanwhile.
        """
        async with self._gathering:
            if self._closing is not None:
                raise CallClosed
            if self._held.allocations:
                return
            allocations, failures = await gather(self._servers, self._families, self._laboratory, self._stop)
            self._held.failures = failures
            for index, allocation in allocations.items():
                self._held.add(allocation, index)
            if not self._held.allocations:
                raise NoRelay(self.failures)

    def add_allocation(self, allocation: Allocation) -> None:
        """Use this one too. It is ours from now on; the peer has yet to be told of it."""
        if self._closing is not None:
            allocation.abort()
            return
        self._held.add(allocation)
        self._remotes.pair_with(allocation)
        self._driver.pump()

    def retire_allocation(self, allocation: Allocation) -> None:
        """Move off this one, and close it a little later: a better or fresher one was added before."""
        self._held.retire(allocation)

    # --- the peer -----------------------------------------------------------------------------------------------------

    def add_remote(self, address: Address, remote_priority: int, leg: float = 0.0) -> None:
        """Add one of the peer's relayed addresses, already checked. `leg`: its round trip there; 0 for unknown.

        Raises RecordRefused for a fifth.
        """
        if self._closing is None:
            self._remotes.add(address, remote_priority, leg)
            self._driver.pump()

    def set_remotes(self, addresses: Sequence[Address]) -> None:
        """The peer's relayed addresses from now on, checked, in its order of preference, at most four.

        Others are given up; an empty list changes nothing, since there must be somewhere to send.
        """
        if self._closing is None and addresses:
            self._remotes.replace(addresses)
            self._heard_pair = None
            self._driver.pump()

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
        if self._closing is not None or not self._held.allocations:
            raise self.error or CallClosed()
        if self.remote_username is None or self.remote_password is None:
            raise RecordRefused("it has no ICE credentials")
        if self._connected is None:
            self._connected = self._loop.create_future()
            self._agent.set_remote(self.remote_username, self.remote_password)
            self._remotes.pair_up()
            self._driver.pump()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._connected)
        except TimeoutError:
            raise NoPath from None

    # --- packets ------------------------------------------------------------------------------------------------------

    def send_packet(self, data: bytes, *, once: bool = False) -> None:
        """Send to the peer over the selected path, now or never: dropped and counted without one, and if too long.

        Args:
            once: over that path alone, even while others carry the same.

        Raises:
            CallClosed: after `close`.
        """
        outlet = self._outlet
        if outlet.path is None:
            if self._closing is not None:
                raise CallClosed
            self._dropped["no_path"] += 1
        elif len(data) > MAX_PACKET:
            self._dropped["too_long"] += 1
        else:
            outlet.send(data, once=once)

    def set_receiver(self, receiver: Callable[[bytes], bool] | None) -> None:
        """Have `receiver(packet)` called for each packet that is not STUN; at once for those that wait for `recv`.

        It returns whether the packet is the peer's, which shows that the path works.
        """
        self._queue.set_receiver(receiver)

    def watch(self) -> None:
        """The peer sends something every 20 ms from now on: its silence means that the path fails."""
        self._outlet.keep()
        self._agent.failover.watch(self._loop.time())
        self._driver.pump()

    def protect(self, protect: bool) -> None:
        """Whether what we send goes over two paths all the time, once the peer is watched."""
        self._agent.protect(protect, self._loop.time())
        self._driver.pump()

    def move(self) -> None:
        """Go to the best other path, now. Raises NoPath without one."""
        moved = self._agent.move(self._loop.time())
        self._driver.pump()
        if not moved:
            raise NoPath

    def compare(self) -> None:
        """This path has become bad: measure all of them, and go to a better one in five seconds if there is one."""
        self._driver.compare()

    # --- what happens -------------------------------------------------------------------------------------------------

    def relay_packet(self, index: int, peer: Address, data: bytes, now: float) -> None:
        """A packet came from the peer's relay to our allocation."""
        first = data[0] if data else 255
        if 128 <= first < 192 or 20 <= first < 64:  # SRTP, DTLS (RFC 7983)
            if self._queue.put(data) and self._outlet.recent is not None:
                if peer is not self._heard_peer or self._heard_pair is None or self._heard_pair.local != index:
                    self._heard_peer, self._heard_pair = peer, self._agent.pairs.get((index, peer))
                pair = self._heard_pair
                if pair is not None:
                    self._agent.heard(pair, now)
                    if self._agent.events:
                        self._driver.pump()
        elif first < 4:
            self._agent.receive(index, peer, data, now)
            self._driver.pump()
        else:
            self._dropped["not_media"] += 1

    def relay_stranger(self, index: int, source: Address, data: bytes) -> None:
        """A check from an unknown address on a relay host of the peer's, which may have had to allocate anew."""
        listens = self._connected is not None and self._closing is None
        if not (listens and self._agent.is_from_peer(data) and is_acceptable(source, laboratory=self._laboratory)):
            self._dropped["stranger"] += 1
            return
        self._remotes.learn(source)
        self._heard_pair = None
        self._agent.receive(index, source, data, self._loop.time())
        self._driver.pump()

    def relay_forbids(self, error: RelayError) -> None:
        """Our relay refuses to send to the peer's."""
        self._driver.pump()
        if self._agent.all_refused:
            self._fail(error)

    def relays_lost(self) -> None:
        """Nothing is left, and nothing came instead."""
        self._fail(RelaysLost(self.failures) if self._outlet.recent is not None else NoRelay(self.failures))

    def relays_changed(self) -> None:
        """Our candidates are others now, or our relays' health is."""
        self._heard_pair = None
        if self._connected is not None and self.on_candidates is not None:
            self.on_candidates()
        self._driver.pump()

    def _fail(self, error: RelaycallError) -> None:
        """Nothing is left: whoever waits for the path is told, and the connection closes."""
        if self._closing is None:
            self.error = error
            self._begin_close()

    def path_reached(self) -> None:
        """Packets can be sent, and may arrive."""
        self.reached.set()

    def path_selected(self) -> None:
        """Packets can be sent, and arrive."""
        self.reached.set()
        if self._connected is not None and not self._connected.done():
            self._connected.set_result(None)

    def peer_lost(self) -> None:
        """It was silent for too long."""
        self._fail(PeerLost())

    def emit(self, event: ConnectionEvent) -> None:
        """Tell whoever listens."""
        if self.on_event is not None:
            try:
                self.on_event(event)
            except Exception:
                logger.exception("an event handler failed")

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def dropped(self) -> Counter[str]:
        """Packets received and not believed, or not sent, by reason."""
        queue = Counter(receiver=self._queue.failures, queue=self._queue.dropped)
        return self._dropped + self._agent.dropped + queue + self._held.dropped + self._remotes.dropped

    @property
    def relay_rtts(self) -> dict[str, float]:
        """Round trip to each relay in milliseconds, as its Allocate measured it."""
        return {held.server.name: held.rtt * 1000 for held in self._held.allocations.values()}

    def path_stats(self) -> list[PathStats]:
        """Every pair of relays, the selected one first."""
        selected, held, number = self._agent.selected, self._held.allocations, self._remotes.number
        stats = [
            PathStats.of(pair, held[pair.local].server.name, number(pair.remote), pair is selected)
            for pair in sorted(self._agent.pairs.values(), key=lambda pair: -pair.priority)
        ]
        return sorted(stats, key=lambda path: not path.selected)

    async def ended(self) -> RelaycallError | None:
        """Wait until the connection is closed. Returns why, if it ended by itself."""
        await asyncio.shield(self._ended)
        return self.error

    # --- the end ------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Delete every allocation and close, within 1.2 seconds whatever the relays do. May be called twice."""
        await asyncio.shield(self._begin_close())

    def _begin_close(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
            self._outlet.select(None, 0.0)
            self._stop.set_result(None)
            self._driver.close()
            if self._connected is not None and not self._connected.done():
                self._connected.set_exception(self.error or CallClosed())
                self._connected.exception()  # connect() may have given up before
            self._queue.close()
        return self._closing

    async def _close(self) -> None:
        try:
            async with self._gathering:  # it is given up at once
                await self._held.close()
        finally:
            self._agent.pairs.clear()
            if not self._ended.done():
                self._ended.set_result(None)
