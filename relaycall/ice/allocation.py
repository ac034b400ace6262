"""An allocation on one relay: the socket, the TURN client, and the timer between them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence

from relaycall.errors import (
    RelayBusy,
    RelayError,
    RelayLost,
    RelayNotTurn,
    RelayRefused,
    RelayTimeout,
    RelayUnreachable,
)
from relaycall.ice.sockets import RelaySocket, connect, resolve
from relaycall.relays.server import RelayServer
from relaycall.stun.address import IPV4, Address
from relaycall.stun.turn_client import TurnClient
from relaycall.stun.turn_events import Allocated, Answered, Event, Failed, PeerRefused, Stranger, Suspected
from relaycall.stun.turn_state import State

ALLOCATE_TIMEOUT = 4.8  # seconds, names, TCP, TLS and all: whatever is wrong is known within five
_SILENT = RelayTimeout, RelayRefused, RelayUnreachable
STAGGER = 0.25  # seconds between attempts at a relay's addresses (RFC 8305, section 5)
CLOSE_TIMEOUT = 1.2  # seconds

SocketAddress = tuple[int, tuple[object, ...]]  # family and sockaddr, as the socket module has them


class Allocation:
    """One live allocation. Made by `allocate`.

    Attributes:
        server: the relay.
        relayed: the address on the relay that peers send to.
        lifetime: seconds granted, clamped to 60 to 3600.
        rtt: round trip to the relay in seconds, as the authenticated Allocate measured it.
        error: why the allocation is gone; None while it stands and when it was closed.
        sockaddr: where the relay is reached: socket family and address; None before that is known.
        heard_at: loop time at which the relay last sent anything.
        on_packet: called with (peer, payload, now) for each packet from an added peer; no task, no queue.
        on_lost: called once with the error when the allocation is gone.
        on_suspected: called with the error when the network reports the relay unreachable; it is being asked.
        on_peer_refused: called with (peer, error) when the relay forbids a peer.
        on_stranger: called with (source, data) for a STUN message from another port of a peer's relay.
        on_answered: if set from the start, a Binding request goes ahead of the Allocate, and this is called with the
            seconds until its answer; that is not authenticated.
    """

    relayed: Address
    lifetime: int
    rtt: float

    def __init__(self, server: RelayServer, family: int, *, laboratory: bool) -> None:
        self.server = server
        self.error: RelayError | None = None
        self.on_packet: Callable[[Address, bytes, float], None] | None = None
        self.on_lost: Callable[[RelayError], None] | None = None
        self.on_suspected: Callable[[RelayError], None] | None = None
        self.on_peer_refused: Callable[[Address, RelayError], None] | None = None
        self.on_stranger: Callable[[Address, bytes], None] | None = None
        self.on_answered: Callable[[float], None] | None = None
        self.sockaddr: SocketAddress | None = None
        self.heard_at = float("-inf")
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
    def local(self) -> Address | None:
        """Our own end of the connection to the relay; None before there is one."""
        return self._socket.local if self._socket is not None else None

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
        if self._socket is not None:
            try:
                framed = self._client.frame(peer, data)
            except KeyError:
                return  # the relay refused this peer; or the allocation is gone, and every peer with it
            self._socket.send(framed)

    def verify(self) -> None:
        """Ask the relay whether it is there: nothing was heard through it. It is lost if it does not answer for 8 s."""
        self._client.verify(self._loop.time())
        self._pump()

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
        """Close the socket at once. The relay is told to delete the allocation, but not waited for.

        Over UDP, what it grants after that stays until it expires.
        """
        self._client.close(self._loop.time())
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
        self.on_packet = self.on_lost = self.on_suspected = self.on_peer_refused = None
        self.on_stranger = self.on_answered = None
        for future in (self._granted, self._closed):
            future.cancel()
        if self._socket is not None:
            self._socket.close()

    async def _open(self, family: int, sockaddr: tuple[object, ...]) -> None:
        """Connect and allocate. Raises RelayError."""
        self._socket = await connect(self.server, family, sockaddr, self._receive, self._lost)
        self.sockaddr = family, sockaddr
        self._client.local = self._socket.local
        if self.on_answered is not None and self._client.state is State.NEW:
            self._client.ping(self._loop.time())
            self._flush()
            await asyncio.sleep(0)  # when many relays are probed, each is asked before there is work with any
        if self._client.state is State.NEW:  # else what came right behind the TLS handshake has ended it
            self._client.start(self._loop.time())
            self._pump()
        try:
            await self._granted
        except RelayLost as error:
            raise RelayNotTurn(self.server.name, error.detail) from None

    def _receive(self, data: bytes, now: float) -> None:
        self.heard_at = now
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

    def _flush(self) -> None:
        outgoing, sock = self._client.outgoing, self._socket
        while outgoing:
            data = outgoing.popleft()
            if sock is not None:
                sock.send(data)

    def _pump(self) -> None:
        client = self._client
        self._flush()
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
            case Answered(rtt=rtt):
                if self.on_answered is not None:
                    self.on_answered(rtt)
            case PeerRefused(peer=peer, error=error):
                if self.on_peer_refused is not None:
                    self.on_peer_refused(peer, error)
            case Stranger(source=source, data=data):
                if self.on_stranger is not None:
                    self.on_stranger(source, data)
            case Failed(error=error):
                self.error = error
                if not self._granted.done():
                    self._granted.set_exception(error)
                    self._granted.exception()  # whoever waits may have been cancelled
                elif self.on_lost is not None:
                    self.on_lost(error)
                if not self._closed.done():
                    self._closed.set_result(None)
            case _:
                if not self._closed.done():
                    self._closed.set_result(None)


async def allocate(
    server: RelayServer,
    *,
    family: int = IPV4,
    laboratory: bool = False,
    timeout: float = ALLOCATE_TIMEOUT,
    addresses: Sequence[SocketAddress] = (),
    on_answered: Callable[[float], None] | None = None,
) -> Allocation:
    """Allocate a relayed address.

    A relay's addresses are tried a quarter of a second apart, IPv6 and IPv4 in turn; the first to answer wins and the
    others are given up. A 437 is retried on new sockets.

    Args:
        server: the relay, with credentials.
        family: 0x01 or 0x02, the family of the relayed address (RFC 8656, section 18.8).
        laboratory: accept relayed addresses that are not public.
        timeout: seconds, for everything.
        addresses: of the relay, if they are known, as `resolve` gives them.
        on_answered: see `Allocation`.

    Raises:
        RelayError: by type, why there is none.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    targets = list(addresses)
    if not targets:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                targets = await resolve(server)
    if not targets:
        raise RelayTimeout(server.name, "its name was still being looked up")
    attempts = [
        asyncio.ensure_future(_attempt(server, target, family, laboratory, STAGGER * index, on_answered))
        for index, target in enumerate(targets)
    ]
    allocation: Allocation | None = None
    try:
        allocation = await _first(attempts, until)
    finally:
        _give_up(attempts, allocation)
    if allocation is None:
        raise _reason(server, attempts)
    return allocation


async def _attempt(
    server: RelayServer,
    address: SocketAddress,
    family: int,
    laboratory: bool,
    delay: float,
    on_answered: Callable[[float], None] | None,
) -> Allocation:
    await asyncio.sleep(delay)
    for last in (False, False, True):
        allocation = Allocation(server, family, laboratory=laboratory)
        allocation.on_answered = on_answered
        try:
            await allocation._open(*address)
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


async def _first(attempts: list[asyncio.Task[Allocation]], until: float) -> Allocation | None:
    """The first that succeeds in time."""
    pending: set[asyncio.Task[Allocation]] = set(attempts)
    loop = asyncio.get_running_loop()
    while pending and (left := until - loop.time()) > 0:
        done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.exception() is None:
                return task.result()
    return None


def _give_up(attempts: list[asyncio.Task[Allocation]], winner: Allocation | None) -> None:
    """End the attempts that are under way, and what the others have won. Nothing is awaited: it could be cancelled."""
    for task in attempts:
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None and task.result() is not winner:
            task.result().abort()


def _reason(server: RelayServer, attempts: list[asyncio.Task[Allocation]]) -> RelayError:
    """Why there is none: the error of an address that answered, rather than of one that did not."""
    errors = [task.exception() for task in attempts if task.done()]
    known = [error if isinstance(error, RelayError) else RelayError(server.name) for error in errors]
    known.append(RelayTimeout(server.name))
    return next((error for error in known if not isinstance(error, _SILENT)), known[0])
