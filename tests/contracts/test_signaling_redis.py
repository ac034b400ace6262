"""The contract of signaling, over two server processes on one Redis: a client comes back to the other one each time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

import aiohttp
import pytest

from relaycall.errors import ConfigError
from relaycall.server.signaling import SignalingServer
from relaycall.server.signaling_redis import RedisStore
from relaycall.signaling.base import Signaling, SignalingState, envelope_id
from relaycall.signaling.contract import CONTRACT, RESTART_CONTRACT
from relaycall.signaling.frames import START, Verdict
from relaycall.signaling.keys import MailboxKey
from relaycall.signaling.opening import open_signaling
from relaycall.signaling.rig import MortalRig
from tests.contracts.redis_cluster import Cluster, Redis
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.signaling.forwarder import Forwarder
from tests.waiting import eventually

pytestmark = pytest.mark.interop
Case = Callable[[MortalRig], Awaitable[None]]
ONE, OTHER = b"1" * 32, b"2" * 32
SESSION, LATER = b"s" * 16, b"l" * 16


def envelope(number: int) -> bytes:
    return number.to_bytes(4, "big").ljust(4096, b".")


class ClusterRig(MortalRig):
    """One client after the other goes to another server, and who is cut off comes back to the other one."""

    def __init__(self, cluster: Cluster, scheme: str) -> None:
        super().__init__()
        self._cluster, self._scheme = cluster, scheme
        self._dead = 0
        self._stack = AsyncExitStack()
        self._forwarders: dict[Signaling, Forwarder] = {}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, traceback)
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def open(self, key: MailboxKey | None = None) -> Signaling:
        alive = [port for port in self._cluster.ports if port != self._dead]
        port = alive[len(self._forwarders) % len(alive)]
        forwarder = await self._stack.enter_async_context(Forwarder(port))
        client = open_signaling(f"{self._scheme}://localhost:{forwarder.port}", key=key)
        self.opened.append(client)
        self._forwarders[client] = forwarder
        await client.open()
        return client

    async def reopen(self, client: Signaling) -> Signaling:
        states: list[SignalingState] = []
        client.on_state = states.append
        forwarder = self._forwarders[client]
        forwarder.target = next(port for port in self._cluster.ports if port != forwarder.target)
        forwarder.cut()
        await eventually(lambda: states == [SignalingState.RECONNECTING, SignalingState.OPEN], timeout=15)
        return client

    async def restart(self) -> None:
        self._dead, alive = self._cluster.ports
        self._cluster.kill(self._dead)
        for forwarder in self._forwarders.values():
            forwarder.target = alive
            forwarder.cut()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.mark.parametrize("scheme", ["ws", "http"])
@pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.__name__)
async def test_two_servers(case: Case, scheme: str, cluster: Cluster) -> None:
    async with ClusterRig(cluster, scheme) as rig:
        await case(rig)


@pytest.mark.parametrize("scheme", ["ws", "http"])
@pytest.mark.parametrize("case", RESTART_CONTRACT, ids=lambda case: case.__name__)
async def test_one_of_two_servers_dies(case: Case, scheme: str) -> None:
    with Cluster() as cluster:
        async with ClusterRig(cluster, scheme) as rig:
            await case(rig)


# --- the store alone -------------------------------------------------------------------------------------------------


class Listener:
    def __init__(self) -> None:
        self.told = 0
        self.is_replaced = False

    def news(self) -> None:
        self.told += 1

    def replaced(self) -> None:
        self.is_replaced = True


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with Redis() as redis:
        yield redis


@asynccontextmanager
async def stores(redis: Redis, count: int = 2) -> AsyncIterator[list[RedisStore]]:
    made = [RedisStore(redis.url, queue=3) for _ in range(count)]
    for store in made:
        await store.open()
    try:
        yield made
    finally:
        for store in made:
            await store.close()


async def read(store: RedisStore, session: bytes = SESSION, mailbox: bytes = ONE) -> list[tuple[bytes, bool]]:
    cursor, found = START, []
    while waiting := await store.after(mailbox, session, cursor):
        cursor = waiting.cursor
        found.append((waiting.envelope, waiting.again))
    return found


async def test_what_one_server_takes_another_delivers_and_forgets(redis: Redis) -> None:
    async with stores(redis) as (one, other):
        assert await one.secret() == await other.secret()
        assert await one.epoch() == await other.epoch()
        listener = Listener()
        await one.own(ONE, SESSION)
        assert await one.attach(ONE, SESSION, listener)
        await eventually(lambda: listener.told == 1)  # the subscription holds
        verdicts = [await other.put(ONE, envelope(number)) for number in (1, 2, 2, 3, 4)]
        assert verdicts == [Verdict.TAKEN] * 4 + [Verdict.MAILBOX_FULL]
        await eventually(lambda: listener.told == 4)
        assert await read(one) == [(envelope(number), False) for number in (1, 2, 3)]
        await other.acknowledge(ONE, LATER, envelope_id(envelope(2)))  # not the owner
        await other.acknowledge(ONE, SESSION, envelope_id(envelope(2)))
        assert await other.put(ONE, envelope(2)) is Verdict.TAKEN  # known, and not added
        assert [found for found, _ in await read(one)] == [envelope(1), envelope(3)]
        await other.own(ONE, LATER)
        await eventually(lambda: listener.is_replaced)
        assert not await one.attach(ONE, SESSION, Listener())
        assert not await one.own(ONE, SESSION)
        assert await read(one) == []
        assert await read(other, LATER) == [(envelope(1), True), (envelope(3), True)]
        await one.detach(ONE, listener)


async def test_everything_in_redis_expires(redis: Redis) -> None:
    async with stores(redis, 1) as (store,):
        await store.own(OTHER, SESSION)
        await store.put(OTHER, envelope(1))
        await read(store, mailbox=OTHER)
        await store.acknowledge(OTHER, SESSION, envelope_id(envelope(1)))
        await store.put(OTHER, envelope(2))
        keys = [key async for key in store._redis.scan_iter(f"*{OTHER.hex()}*")]
        assert len(keys) == 4
        for key in keys:
            assert 0 < await store._redis.pttl(key) <= 60_000
        store._lifetime = 50
        await asyncio.sleep(0.06)
        assert await read(store, mailbox=OTHER) == []
        assert await store.put(OTHER, envelope(1)) is Verdict.TAKEN
        assert await read(store, mailbox=OTHER) == [(envelope(1), False)]


async def test_a_full_redis_is_a_busy_server() -> None:
    with Redis("--maxmemory", "2mb", "--maxmemory-policy", "noeviction") as redis:
        async with stores(redis, 1) as (store,):
            verdicts = {await store.put(number.to_bytes(32, "big"), envelope(number)) for number in range(600)}
        assert verdicts == {Verdict.TAKEN, Verdict.BUSY}


async def test_redis_dies_and_comes_back_empty() -> None:
    """The server says that it is not ready, clients are cut off, and afterwards all is sent again."""
    with Redis() as redis:
        async with (
            SignalingServer(store=RedisStore(redis.url)) as server,
            open_signaling(server.url("ws")) as one,
            open_signaling(server.url("http")) as other,
            aiohttp.ClientSession() as http,
        ):
            await one.send(other.mailbox, envelope(1))
            incoming = other.receive()
            first = await anext(incoming)
            await one.send(other.mailbox, envelope(2))
            redis.kill()
            async with http.get(f"{server.url('http')}/ready") as response:
                assert response.status == 503
            sending = asyncio.ensure_future(one.send(other.mailbox, envelope(3), timeout=30))
            await eventually(lambda: one.state is SignalingState.RECONNECTING)
            redis.start()
            await sending
            await other.acknowledge(first)
            found = []
            async with asyncio.timeout(20):
                while envelope(3) not in found:
                    found.append((await anext(incoming)).envelope)
            assert list(dict.fromkeys(one for one in found if one != envelope(1))) == [envelope(2), envelope(3)]


@pytest.mark.parametrize("url", ["", "http://127.0.0.1", "redis://:canary@127.0.0.1:x/0"])
def test_a_url_that_is_none_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RedisStore(url)
    assert "canary" not in f"{refused.value!r} {refused.value} {refused.value.__context__!r}"


async def test_a_redis_that_is_not_there_is_a_config_error() -> None:
    with Redis() as redis:
        pass
    with pytest.raises(ConfigError, match="does not answer"):
        await SignalingServer(store=RedisStore(redis.url)).__aenter__()
