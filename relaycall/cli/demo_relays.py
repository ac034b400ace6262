"""The relays that `relaycall demo` starts, and the network it puts before them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from relaycall.redact import Secret
from relaycall.relays.server import RelayServer
from relaycall.server.certificates import development_tls
from relaycall.server.turn import Relay
from relaycall.testing.link import Link
from relaycall.testing.lossy import lossy_network
from relaycall.testing.profiles import Profile

HOST = "127.0.0.1"
RELAYS = 3
USER = "demo"


class DemoRelays:
    """Where both parties find relays.

    Args:
        given: those of the command line; then none is started.

    Attributes:
        servers: the relays as Bob reaches them.
        servers_of_alice: as she does, over her network if there is one.
        link: between her and them.
    """

    def __init__(self, given: Sequence[RelayServer]) -> None:
        self.servers = self.servers_of_alice = [*given]
        self.link = Link()
        self._embedded: dict[str, Relay] = {}

    @asynccontextmanager
    async def embedded(self, transport: str) -> AsyncIterator[list[str]]:
        """Three of our own within `async with`. Gives their names."""
        password = Secret(secrets.token_urlsafe(16))
        server_tls, client_tls = development_tls(HOST) if transport == "tls" else (None, None)
        udp, tcp, tls = (0 if name == transport else None for name in ("udp", "tcp", "tls"))
        async with AsyncExitStack() as stack:
            started = [
                await stack.enter_async_context(
                    Relay(
                        host=HOST,
                        ssl_context=server_tls,
                        users={USER: password.reveal()},
                        laboratory=True,
                        udp_port=udp,
                        tcp_port=tcp,
                        tls_port=tls,
                    )
                )
                for _ in range(RELAYS)
            ]
            self.servers = self.servers_of_alice = [
                RelayServer.parse(relay.uri(transport), username=USER, password=password, ssl_context=client_tls)
                for relay in started
            ]
            self._embedded = {server.name: relay for server, relay in zip(self.servers, started, strict=True)}
            yield [*self._embedded]

    @asynccontextmanager
    async def behind(self, network: Profile, seed: int) -> AsyncIterator[None]:
        """Put the embedded relays behind a network within `async with`, for Alice."""
        async with lossy_network(self.servers, network, seed=seed) as (self.link, through):
            for server, reached in zip(self.servers, through, strict=True):
                self._embedded[reached.name] = self._embedded[server.name]
            self.servers_of_alice = through
            yield

    async def kill(self, name: str) -> None:
        """End an embedded relay, as a crash would. `name`: as Alice or Bob knows it."""
        await self._embedded[name].close()
