"""The contract of the rendezvous, over two server processes on one Redis; and what Redis holds of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from relaycall.errors import NameplateUnknown
from relaycall.server.signaling_redis import NAMEPLATES, RedisStore
from relaycall.signaling.nameplates import CLAIM_LIFETIME, NAMEPLATE_LIFETIME
from relaycall.signaling.rendezvous import Rendezvous
from relaycall.signaling.rendezvous_contract import RENDEZVOUS_CONTRACT
from relaycall.signaling.rig import Rig
from tests.contracts.redis_cluster import Cluster, Redis
from tests.contracts.test_signaling_redis import ClusterRig, stores
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here

pytestmark = pytest.mark.interop
ONE, OTHER = b"1" * 32, b"2" * 32
CLAIM, LATER = b"c" * 20, b"l" * 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("-m", "tests.contracts.unlimited_server") as cluster:
        yield cluster


@pytest.mark.parametrize("scheme", ["ws", "http"])
@pytest.mark.parametrize("case", RENDEZVOUS_CONTRACT, ids=lambda case: case.__name__)
async def test_two_servers(case: Callable[[Rig], Awaitable[None]], scheme: str, cluster: Cluster) -> None:
    async with ClusterRig(cluster, scheme) as rig:
        await case(rig)


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_a_number_outlives_the_server_that_gave_it_out(scheme: str) -> None:
    with Cluster() as cluster:
        async with ClusterRig(cluster, scheme) as rig:
            ours, theirs = await rig.open(), await rig.open()
            assert isinstance(ours, Rendezvous)
            assert isinstance(theirs, Rendezvous)
            number = await ours.allocate_nameplate()
            await rig.restart()
            assert await theirs.claim_nameplate(number) == ours.mailbox
            with pytest.raises(NameplateUnknown):
                await ours.claim_nameplate(number)


# --- the store alone -------------------------------------------------------------------------------------------------


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as redis:
        yield redis


async def lifetimes(store: RedisStore) -> list[int]:
    """Milliseconds that each key about nameplates still has."""
    return [await store._redis.pttl(key) async for key in store._redis.scan_iter(NAMEPLATES + b"*")]


async def test_each_number_is_given_out_once_and_the_shortest_first(redis: Redis) -> None:
    async with stores(redis) as (one, other):
        mailboxes = [number.to_bytes(32, "big") for number in range(120)]
        allocating = [(one, other)[i % 2].allocate_nameplate(mailbox) for i, mailbox in enumerate(mailboxes)]
        numbers = await asyncio.gather(*allocating)
        assert sorted(number or 0 for number in numbers)[:99] == list(range(1, 100))
        assert len(set(numbers)) == 120
        assert max(number or 0 for number in numbers) < 1000
        assert await other.allocate_nameplate(mailboxes[0]) == numbers[0]


async def test_which_of_the_shortest_is_random(redis: Redis) -> None:
    async with stores(redis, 1) as (store,):
        found = set()
        for _ in range(60):
            found.add(await store.allocate_nameplate(ONE))
            await store.release_nameplate(ONE)
        assert found <= set(range(1, 10))
        assert len(found) > 3


async def test_one_of_many_claims_takes_it_and_may_be_repeated(redis: Redis) -> None:
    async with stores(redis) as (one, other):
        number = await one.allocate_nameplate(ONE)
        assert number is not None
        claims = [bytes([i]) * 20 for i in range(40)]
        found = await asyncio.gather(*((one, other)[i % 2].claim_nameplate(number, claims[i]) for i in range(40)))
        (winner,) = [claim for claim, mailbox in zip(claims, found, strict=True) if mailbox == ONE]
        assert found.count(None) == 39
        assert await other.claim_nameplate(number, winner) == ONE
        assert await one.claim_nameplate(number, LATER) is None
        another = await one.allocate_nameplate(ONE)
        assert another not in (None, number)
        await other.release_nameplate(ONE)
        assert await one.claim_nameplate(another or 0, CLAIM) is None
        assert await other.claim_nameplate(number, winner) == ONE


async def test_everything_about_nameplates_expires(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stores(redis, 1) as (store,):
        number = await store.allocate_nameplate(ONE)
        assert number is not None
        assert [0 < ms <= NAMEPLATE_LIFETIME * 1000 for ms in await lifetimes(store)] == [True] * 2
        await store.claim_nameplate(number, CLAIM)
        assert [0 < ms <= CLAIM_LIFETIME * 1000 for ms in await lifetimes(store)] == [True]
        await store.allocate_nameplate(ONE)
        await store.release_nameplate(ONE)
        assert len(await lifetimes(store)) == 1
        monkeypatch.setattr("relaycall.server.signaling_redis.NAMEPLATE_LIFETIME", 0.05)
        number = await store.allocate_nameplate(OTHER)
        await asyncio.sleep(0.06)
        assert await store.claim_nameplate(number or 0, CLAIM) is None
        monkeypatch.setattr("relaycall.server.signaling_redis.CLAIM_LIFETIME", 0.05)
        number = await store.allocate_nameplate(OTHER)
        assert await store.claim_nameplate(number or 0, CLAIM) == OTHER


async def test_when_all_are_in_use_there_is_none(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaycall.server.signaling_redis.NAMEPLATE_DIGITS", 1)
    async with stores(redis, 1) as (store,):
        numbers = [await store.allocate_nameplate(bytes([i]) * 32) for i in range(10)]
        assert sorted(number or 0 for number in numbers) == list(range(10))
        assert numbers[-1] is None


async def test_a_full_redis_gives_none_out_and_still_lets_claim_and_release(redis: Redis) -> None:
    async with stores(redis, 1) as (store,):
        number, other = await store.allocate_nameplate(ONE), await store.allocate_nameplate(OTHER)
        assert number is not None
        assert other is not None
        await store._redis.config_set("maxmemory", "1")
        assert await store.allocate_nameplate(bytes(32)) is None
        assert await store.claim_nameplate(number, CLAIM) == ONE
        assert await store.claim_nameplate(number, LATER) is None
        await store.release_nameplate(OTHER)
        assert await store.claim_nameplate(other, CLAIM) is None
