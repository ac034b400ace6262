"""An embedded TURN relay: UDP, TCP and TLS to the client, UDP to the peer, IPv4 and IPv6.

    async with Relay(users={"alice": "secret"}, laboratory=True) as relay:
        print(relay.uri("udp"))

It is made for demos, tests, and a relay of one's own for a handful of calls. Use coturn instead for more calls than
that, for a relay that is exposed to the public Internet at scale (it has rate limits, bandwidth quotas and lists of
denied peers), behind a NAT (`external-ip`), and for DTLS, TCP to the peer, or several machines that act as one.

The protocol is in `relaycall.stun.turn_server`, the sockets are in `turn_sockets`.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import socket
import ssl
import time
from collections.abc import Mapping
from types import TracebackType

from relaycall.errors import ConfigError
from relaycall.server.turn_sockets import ClientSocket, PeerSocket, Stream, bind_listener, bind_peers
from relaycall.stun.address import Address
from relaycall.stun.turn_allocation import Source
from relaycall.stun.turn_auth import Authenticator
from relaycall.stun.turn_server import Counters, TurnServer

HANDSHAKE_TIMEOUT = 10.0
CLOSE_TIMEOUT = 0.5
UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104

logger = logging.getLogger(__name__)


class Relay:
    """A TURN relay in this process; an asynchronous context manager.

    Args:
        host: the IP literal to listen on.
        udp_port, tcp_port, tls_port: 0 for any free port, None for none.
        ssl_context: the server's certificate; needed with `tls_port`.
        realm: named to clients.
        users: user name to password.
        auth_secret: the secret of time-limited credentials (see `relaycall.stun.turn_auth`).
        relay_host: the IP literal of relayed sockets, which peers must be able to reach; `host` by default.
        relay_host6: one of the other family, to relay both.
        user_quota: allocations per user, 486 beyond. A port reserved next to an allocation's counts as one.
        total_quota: allocations in all, 508 beyond.
        laboratory: allow peers on loopback and private networks. Never on a relay that others can reach.
        lifetime, max_lifetime: seconds an allocation gets by default, and at most.
        max_connections: TCP and TLS clients at a time; more are turned away.

    Attributes:
        udp_port, tcp_port, tls_port: the ports in use, once started; None where there is no listener.

    Raises:
        ConfigError: what was given cannot work; on entering, a port is in use or an address is not this machine's.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        udp_port: int | None = 0,
        tcp_port: int | None = 0,
        tls_port: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        realm: str = "relaycall",
        users: Mapping[str, str] | None = None,
        auth_secret: str | None = None,
        relay_host: str | None = None,
        relay_host6: str | None = None,
        user_quota: int | None = None,
        total_quota: int | None = None,
        laboratory: bool = False,
        lifetime: int = 600,
        max_lifetime: int = 3600,
        max_connections: int = 256,
    ) -> None:
        if not users and not auth_secret:
            raise ConfigError("A relay needs users or an auth_secret.", "Give at least one of them.")
        if tls_port is not None and ssl_context is None:
            raise ConfigError("A relay with a TLS port needs a certificate.", "Give an ssl_context that holds one.")
        self.udp_port, self.tcp_port, self.tls_port = udp_port, tcp_port, tls_port
        self._ssl_context = ssl_context
        self._host = _literal("host", host)
        self._relay_hosts = _relay_hosts(self._host if relay_host is None else relay_host, relay_host6)
        self._laboratory = laboratory
        self._max_connections = max_connections
        self._server = TurnServer(
            authenticator=Authenticator(
                realm=realm, users=users or {}, auth_secret=auth_secret, random=os.urandom, unix_time=time.time
            ),
            open_sockets=self._open_sockets,
            families=frozenset(self._relay_hosts),
            random=os.urandom,
            lifetime=lifetime,
            max_lifetime=max_lifetime,
            user_quota=user_quota,
            total_quota=total_quota,
            laboratory=laboratory,
        )
        self._udp: ClientSocket | None = None
        self._listeners: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._streams: dict[Source, Stream] = {}
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Relay with {self.active} allocations>"

    @property
    def counters(self) -> Counters:
        """What happened since the start."""
        return self._server.counters

    @property
    def active(self) -> int:
        """How many allocations there are now."""
        return len(self._server.allocations)

    def uri(self, transport: str = "udp") -> str:
        """The relay's URI for "udp", "tcp" or "tls" (RFC 7065). Raises ConfigError if it does not listen there.

        A relay that listens on all addresses is named by its relayed one.
        """
        port = {"udp": self.udp_port, "tcp": self.tcp_port, "tls": self.tls_port}.get(transport)
        if port is None:
            raise ConfigError(f"This relay does not listen on {transport}.", "Give it a port for that.")
        host = next(iter(self._relay_hosts.values())) if self._host in UNSPECIFIED else self._host
        where = Address(host, port).text()
        return f"turns:{where}?transport=tcp" if transport == "tls" else f"turn:{where}?transport={transport}"

    async def __aenter__(self) -> Relay:
        if self._laboratory:
            logger.warning("This relay is in laboratory mode: it relays to loopback and private addresses.")
        self._loop = asyncio.get_running_loop()
        try:
            if self.udp_port is not None:
                self._udp = ClientSocket(
                    self._server, bind_listener(socket.SOCK_DGRAM, self._host, self.udp_port), self._loop
                )
                self.udp_port = self._udp.address.port
            if self.tcp_port is not None:
                self.tcp_port = self._listen(self.tcp_port, None)
            if self.tls_port is not None:
                self.tls_port = self._listen(self.tls_port, self._ssl_context)
        except ConfigError:
            await self.close()
            raise
        self._tick()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every allocation and connection, at once. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
        self._server.close()
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        for listener, _ in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=CLOSE_TIMEOUT)

    def _tick(self) -> None:
        now = self._loop.time()
        self._server.expire(now)
        for source, stream in self._streams.items():
            stream.check_idle(now, source in self._server.allocations)
        for listener, context in self._listeners:
            self._loop.add_reader(listener, self._accept, listener, context)
        self._timer = self._loop.call_later(1.0, self._tick)

    def _open_sockets(self, family: int, *, even: bool, pair: bool) -> list[PeerSocket]:
        sockets = bind_peers(self._relay_hosts[family], even=even, pair=pair)
        return [PeerSocket(self._server, sock, self._loop, self._to_client) for sock in sockets]

    def _to_client(self, source: Source, data: bytes) -> bool:
        if len(source) == 2:
            return self._udp is not None and self._udp.send(data, source)
        return self._streams[source].send(data)

    def _listen(self, port: int, context: ssl.SSLContext | None) -> int:
        listener = bind_listener(socket.SOCK_STREAM, self._host, port)
        self._listeners.append((listener, context))
        return Address(*listener.getsockname()[:2]).port

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        """Take one connection. With asyncio's own server, those in their TLS handshake could not be counted."""
        try:
            sock, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            self._loop.remove_reader(listener)  # out of descriptors, most likely: the next tick tries again
            return
        if len(self._connections) >= self._max_connections:
            self.counters.refused += 1
            sock.close()
            return
        sock.setblocking(False)
        stream = Stream(self._server, (*address[:2], next(self._numbers)), self._loop)
        task = self._loop.create_task(self._serve(stream, sock, context))
        self._connections.add(task)
        task.add_done_callback(functools.partial(self._ended, sock))

    def _ended(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        sock.close()  # still open if the task was cancelled before its first step

    async def _serve(self, stream: Stream, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        """One connection, from its handshake to its end."""
        self._streams[stream.source] = stream
        timeout = HANDSHAKE_TIMEOUT if context else None
        try:
            await self._loop.connect_accepted_socket(lambda: stream, sock, ssl=context, ssl_handshake_timeout=timeout)
            await stream.lost.wait()
        except OSError:
            self.counters.malformed += 1  # a failed handshake
        finally:
            self._server.disconnected(stream.source)
            del self._streams[stream.source]
            stream.abort()
            await stream.lost.wait()


def _literal(name: str, host: str) -> str:
    try:
        return Address.parse(host, 0).host
    except ValueError:
        raise ConfigError(f"The {name} of a relay must be an IP address.", "Give an IPv4 or IPv6 literal.") from None


def _relay_hosts(*hosts: str | None) -> dict[int, str]:
    """Relayed addresses by family."""
    found: dict[int, str] = {}
    for host in hosts:
        if host is not None:
            address = Address(_literal("relay_host", host), 0)
            if address.host in UNSPECIFIED:
                raise ConfigError(
                    "Peers cannot send to an unspecified relay_host.", "Give one address of this machine."
                )
            if address.family in found:
                raise ConfigError("relay_host and relay_host6 are of the same family.", "Give one of each.")
            found[address.family] = address.host
    return found
