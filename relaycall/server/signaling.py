"""The signaling server: WebSocket and HTTP on one port.

    async with SignalingServer() as server:
        print(server.url("ws"))

It keeps envelopes in memory for a minute at most, writes nothing to disk, and logs no address, mailbox or envelope.
Every limit has a defined reply: see `relaycall.server.signaling_limits` and `relaycall.signaling.mailboxes`.

The frames are in `relaycall.signaling.frames`, the mailboxes in `relaycall.signaling.mailboxes`, the nameplates in
`relaycall.signaling.nameplates`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType

from aiohttp import web

from relaycall.errors import ConfigError
from relaycall.redact import Secret
from relaycall.relays.credentials import TimeLimited
from relaycall.relays.server import RelayServer
from relaycall.server.signaling_access import Access
from relaycall.server.signaling_connections import Connection, Connections
from relaycall.server.signaling_gate import Gate
from relaycall.server.signaling_limits import AddressBuckets, Limits, source_of
from relaycall.server.signaling_requests import Requests, reply
from relaycall.server.signaling_socket import Conversation
from relaycall.server.signaling_store import MemoryStore, Store
from relaycall.signaling.frames import PROTOCOL
from relaycall.stun.address import Address

CREDENTIALS_TTL = 3600  # seconds that credentials for relays hold
BACK = 3.0  # seconds within which clients are told to come back after a shutdown, spread evenly
SHUTDOWN = 1.0  # seconds that connections get to end
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104

logger = logging.getLogger(__name__)


class SignalingServer:
    """A signaling server in this process; an asynchronous context manager.

    Args:
        host: the IP literal to listen on.
        port: 0 for any free one.
        ssl_context: the server's certificate; None for none, as on loopback or behind a proxy that has it.
        names: the host names that clients know this server by. A proof that was made for another name is refused, so
            that another server cannot pass it on. By default `host`, and on loopback the names of that.
        store: where the mailboxes are; by default in memory.
        limits: what clients may do.
        trusted_header: behind a proxy, the header in which it gives the client's address. Never without a proxy.
        relays: URIs of relays (turn:, turns:) that clients get time-limited credentials for.
        relay_secret: the secret that those relays share (coturn's `static-auth-secret`).

    Attributes:
        port: the one in use, once started.

    Raises:
        ConfigError: what was given cannot work; on entering, the port is in use or the address is not this machine's.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        names: Iterable[str] = (),
        store: Store | None = None,
        limits: Limits | None = None,
        trusted_header: str | None = None,
        relays: Sequence[str] = (),
        relay_secret: Secret | None = None,
    ) -> None:
        try:
            self._host = Address.parse(host, 0).host
        except ValueError:
            raise ConfigError(
                "The host of a signaling server must be an IP address.", "Give an IPv4 or IPv6 literal."
            ) from None
        if bool(relays) != (relay_secret is not None):
            raise ConfigError("Relays and their shared secret go together.", "Give both, or neither.")
        for uri in relays:
            RelayServer.parse(uri)
        self.port = port
        self._ssl_context = ssl_context
        self._names = _names(self._host, names)
        self._store = store or MemoryStore()
        self._limits = limits or Limits()
        self._trusted_header = trusted_header
        self._relays = relays
        self._credentials = TimeLimited(relay_secret, CREDENTIALS_TTL) if relay_secret is not None else None
        self._addresses = AddressBuckets(self._limits.address_rate, self._limits.address_burst)
        self._nameplates = AddressBuckets(self._limits.address_nameplate_rate, self._limits.address_nameplate_burst)
        self._busy: Counter[str] = Counter()
        self._conversations: set[Conversation] = set()
        self._web: web.Server | None = None
        self._closing = False

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._connections)

    def url(self, scheme: str = "ws") -> str:
        """The server's URL for "ws" or "http", with an s if it has a certificate."""
        secure = "s" if self._ssl_context else ""
        return f"{scheme}{secure}://{Address(self._host, self.port).text()}"

    async def __aenter__(self) -> SignalingServer:
        await self._store.open()
        try:
            self._access = Access(await self._store.secret(), self._names)
            self._requests = Requests(self._store, self._access, self._limits, self._relays, self._credentials)
            self._web = web.Server(
                self._handle,
                handler_cancellation=True,
                access_log=None,
                logger=_Silent("aiohttp"),
                auto_decompress=False,
                lingering_time=0,
                max_line_size=2048,
                max_field_size=4096,
                max_headers=64,
            )
            self._connections = Connections(self._web, self._limits, count_addresses=self._trusted_header is None)
            self.port = self._connections.listen(self._host, self.port, self._ssl_context)
        except BaseException:
            await self._store.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Tell every client when to come back, and end; within about 2 seconds. Twice does no harm."""
        if self._web is None or self._closing:
            return
        self._closing = True
        self._connections.stop_listening()
        self._requests.restart()
        goodbyes = [
            asyncio.create_task(conversation.restart(random.randrange(int(BACK * 1000))))
            for conversation in self._conversations
        ]
        if goodbyes:
            _, late = await asyncio.wait(goodbyes, timeout=SHUTDOWN)
            for task in late:
                task.cancel()
        await asyncio.sleep(0)  # for the replies to the polls
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN):
                await self._web.shutdown(SHUTDOWN / 2)
        await self._connections.close()
        await self._store.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.transport.get_protocol() if request.transport is not None else None
        if not isinstance(connection, Connection):
            return reply(503, close=True)  # lost already
        connection.begun()
        try:
            source = self._source(request, connection)
            with self._counted(source):
                return await self._answer(request, connection, source)
        except Exception as error:
            logger.error("A request failed: %s", type(error).__name__)
            return reply(503, retry_after=BACK, close=True)
        finally:
            connection.ended(asyncio.get_running_loop().time())

    async def _answer(self, request: web.BaseRequest, connection: Connection, source: str) -> web.StreamResponse:
        if self._closing or len(self._connections) > self._limits.connections:
            return reply(503, retry_after=BACK, close=True)
        if self._busy[source] > self._limits.connections_per_address:
            return reply(429, retry_after=BACK, close=True)
        gate = Gate(self._store, connection, self._addresses, self._nameplates, source)
        if request.path != "/v1/ws":
            return await self._requests.answer(request, gate)
        offered = request.headers.get("Sec-WebSocket-Protocol", "").replace(" ", "").split(",")
        if request.method != "GET" or request.headers.get("Upgrade", "").lower() != "websocket":
            return reply(400)
        if PROTOCOL not in offered:
            return reply(400)
        if wait := gate.wait():
            return reply(429, retry_after=wait, close=True)
        connection.watch(asyncio.get_running_loop().time())
        conversation = Conversation(self._store, self._access, gate, self._limits)
        self._conversations.add(conversation)
        try:
            return await conversation.run(request)
        finally:
            self._conversations.discard(conversation)

    def _source(self, request: web.BaseRequest, connection: Connection) -> str:
        """Whose request it is. A proxy adds the address it sees at the end of what the header says already."""
        if self._trusted_header is None:
            return connection.source
        return source_of(request.headers.getall(self._trusted_header, [""])[-1].rpartition(",")[2])

    @contextlib.contextmanager
    def _counted(self, source: str) -> Iterator[None]:
        """Count a request while it is being answered."""
        self._busy[source] += 1
        try:
            yield
        finally:
            self._busy[source] -= 1
            if not self._busy[source]:
                del self._busy[source]


class _Silent(logging.Logger):
    """aiohttp's complaints name the client's address."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        return False


def _names(host: str, given: Iterable[str]) -> frozenset[str]:
    """Those that clients' URLs may hold, as they are compared. Raises ConfigError."""
    names = [name.lower().strip("[]") for name in given]
    for name in names:
        if not name.isascii() or not name.isprintable() or not 1 <= len(name) <= 255 or set(name) & set("/@ \\"):
            raise ConfigError(
                "A name of the signaling server is no host name.", "Write it without scheme and port, in ASCII."
            )
    if names:
        return frozenset(names)
    if host in UNSPECIFIED:
        raise ConfigError(
            "A signaling server on all addresses needs the name that clients know it by.", "Give it: --name HOST."
        )
    return frozenset(LOOPBACK_NAMES) if host in LOOPBACK_NAMES else frozenset([host])
