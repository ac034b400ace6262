"""An allocation on one relay: the socket, the TURN client, and the timer between them."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable

from relaycall.errors import RelayBusy, RelayError, RelayRefused, RelayTimeout, RelayUnreachable
from relaycall.ice.sockets import RelaySocket, connect, resolve
from relaycall.relays.server import RelayServer
from relaycall.stun.address import IPV4, Address
from relaycall.stun.turn_client import State, TurnClient
from relaycall.stun.turn_events import Allocated, Event, Failed, PeerRefused, Suspected

ALLOCATE_TIMEOUT = 4.8  # seconds, names, TCP, TLS and all: whatever is wrong is known within five
_SILENT = RelayTimeout, RelayRefused, RelayUnreachable
STAGGER = 0.25  # seconds between attempts at a relay's addresses (RFC 8305, section 5)
CLOSE_TIMEOUT = 1.2  # seconds


class Allocation:
    """One live allocation. Made by `allocate`.

    Attributes:
        server: the relay.
        relayed: the address on the relay that peers send to.
        lifetime: seconds granted, clamped to 60 to 3600.
        rtt: round trip to the relay in seconds, as the authenticated Allocate measured it.
        on_packet: called with (peer, payload, now) for each packet from an added peer; no task, no queue.
        on_lost: called once with the error when the allocation is gone.
        on_suspected: called with the error when the network reports the relay unreachable; it is being asked.
        on_peer_refused: called with (peer, error) when the relay forbids a peer.
    """

    relayed: Address
    lifetime: int
    rtt: float

    def __init__(self, server: RelayServer, family: int, *, laboratory: bool) -> None:
        self.server = server
        self.on_packet: Callable[[Address, bytes, float], None] | None = None
        self.on_lost: Callable[[RelayError], None] | None = None
        self.on_suspected: Callable[[RelayError], None] | None = None
        self.on_peer_refused: Callable[[Address, RelayError], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._client = TurnClient(
            relay=server.name,
            username=server.username,
            password=server.password,
            random=os.urandom,
            family=family,
            reliable=server.transport != "udp",
            laboratory=laboratory,
        )
        self._socket: RelaySocket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._granted: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()

    def __repr__(self) -> str:
        return f"<Allocation on {self.server.name} {self._client.state.name.lower()}>"

    @property
    def alive(self) -> bool:
        """Whether packets can be sent."""
        return self._client.state is State.ALLOCATED

    @property
    def dropped(self) -> Counter[str]:
        """What was received and not believed, and what could not be sent, by reason."""
        dropped = Counter(self._client.dropped)
        if self._socket is not None:
            dropped["send"] = self._socket.dropped
        return dropped

    def add_peer(self, peer: Address) -> None:
        """Open a channel to a peer; packets may be sent to it at once, behind the request."""
        self._client.add_peer(peer, self._loop.time())
        self._pump()

    def remove_peer(self, peer: Address) -> None:
        """Neither send to nor take from this peer any more."""
        self._client.remove_peer(peer)

    def send(self, peer: Address, data: bytes) -> None:
        """Send to an added peer through the relay, now or never. Does nothing once the allocation is gone."""
        if self._socket is not None and self.alive:
            try:
                framed = self._client.frame(peer, data)
            except KeyError:
                return  # the relay refused this peer
            self._socket.send(framed)

    async def close(self) -> None:
        """Delete the allocation on the relay and close the socket, within 1.2 seconds whatever the relay does."""
        self._client.close(self._loop.time())
        self._pump()
        try:
            if self._socket is not None:
                await asyncio.wait([self._closed], timeout=CLOSE_TIMEOUT)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close the socket at once and leave the allocation to expire."""
        if self._timer is not None:
            self._timer.cancel()
        self.on_packet = self.on_lost = self.on_suspected = self.on_peer_refused = None
        for future in (self._granted, self._closed):
            future.cancel()
        if self._socket is not None:
            self._socket.close()

    async def _open(self, family: int, sockaddr: tuple[object, ...]) -> None:
        """Connect and allocate. Raises RelayError."""
        self._socket = await connect(self.server, family, sockaddr, self._receive, self._lost)
        self._client.local = self._socket.local
        self._client.start(self._loop.time())
        self._pump()
        await self._granted

    def _receive(self, data: bytes, now: float) -> None:
        packet = self._client.receive(data, now)
        if packet is None:
            self._pump()
        elif self.on_packet is not None:
            self.on_packet(packet[0], packet[1], now)

    def _lost(self, error: RelayError) -> None:
        self._client.connection_lost(error, self._loop.time())
        self._pump()

    def _due(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self._client.handle_timeout(self._loop.time())
        self._pump()

    def _pump(self) -> None:
        client, sock = self._client, self._socket
        while client.outgoing:
            data = client.outgoing.popleft()
            if sock is not None:
                sock.send(data)
        while client.events:
            self._happened(client.events.popleft())
        at = client.next_timeout()
        if at != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._timer_at = at
            if at != float("inf"):
                self._timer = self._loop.call_at(at, self._due)

    def _happened(self, event: Event) -> None:
        match event:
            case Allocated(relayed=relayed, lifetime=lifetime, rtt=rtt):
                self.relayed, self.lifetime, self.rtt = relayed, lifetime, rtt
                if not self._granted.done():
                    self._granted.set_result(None)
            case Suspected(error=error):
                if self.on_suspected is not None:
                    self.on_suspected(error)
            case PeerRefused(peer=peer, error=error):
                if self.on_peer_refused is not None:
                    self.on_peer_refused(peer, error)
            case Failed(error=error):
                if not self._granted.done():
                    self._granted.set_exception(error)
                elif self.on_lost is not None:
                    self.on_lost(error)
                if not self._closed.done():
                    self._closed.set_result(None)
            case _:
                if not self._closed.done():
                    self._closed.set_result(None)


async def allocate(
    server: RelayServer, *, family: int = IPV4, laboratory: bool = False, timeout: float = ALLOCATE_TIMEOUT
) -> Allocation:
    """Allocate a relayed address.

    A relay's addresses are tried a quarter of a second apart, IPv6 and IPv4 in turn; the first to answer wins and the
    others are given up. A 437 is retried on new sockets.

    Args:
        server: the relay, with credentials.
        family: 0x01 or 0x02, the family of the relayed address (RFC 8656, section 18.8).
        laboratory: accept relayed addresses that are not public.
        timeout: seconds, for everything.

    Raises:
        RelayError: by type, why there is none.
    """
    try:
        async with asyncio.timeout(timeout):
            attempts = [
                asyncio.ensure_future(_attempt(server, *target, family, laboratory, STAGGER * index))
                for index, target in enumerate(await resolve(server))
            ]
            try:
                return await _first(attempts)
            finally:
                await _give_up(attempts)
    except TimeoutError:
        raise RelayTimeout(server.name) from None


async def _attempt(
    server: RelayServer, family: int, sockaddr: tuple[object, ...], relayed: int, laboratory: bool, delay: float
) -> Allocation:
    await asyncio.sleep(delay)
    for last in (False, False, True):
        allocation = Allocation(server, relayed, laboratory=laboratory)
        try:
            await allocation._open(family, sockaddr)
        except RelayBusy:
            allocation.abort()
            if last:
                raise
        except BaseException:
            allocation.abort()
            raise
        else:
            return allocation
    raise AssertionError("unreachable")


async def _first(attempts: list[asyncio.Task[Allocation]]) -> Allocation:
    """The first that succeeds. If none does: the error of a relay that answered, rather than of one that did not."""
    pending: set[asyncio.Task[Allocation]] = set(attempts)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.exception() is None:
                return task.result()
    errors = [error for task in attempts if isinstance(error := task.exception(), RelayError)]
    raise next((error for error in errors if not isinstance(error, _SILENT)), errors[0])


async def _give_up(attempts: list[asyncio.Task[Allocation]]) -> None:
    winner = next((task for task in attempts if task.done() and not task.cancelled() and not task.exception()), None)
    for task in attempts:
        task.cancel()
    for task in attempts:
        await asyncio.wait([task])
        if task is not winner and not task.cancelled() and task.exception() is None:
            task.result().abort()
