"""A pool keeps two relays allocated, whatever happens to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from relaycall.errors import ConfigError, CredentialsError, NoRelay
from relaycall.redact import Secret
from relaycall.relays import pool as module
from relaycall.relays.credentials import RelayCredentials
from relaycall.relays.pool import PoolEvent, RelayPool
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from relaycall.stun.turn_auth import rest_password
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scripted import PASSWORD, USERNAME, black_hole
from tests.waiting import eventually


@asynccontextmanager
async def relays(count: int, **options: Any) -> AsyncIterator[list[Relay]]:
    everything: dict[str, Any] = {"users": {USERNAME: PASSWORD}, "laboratory": True} | options
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Relay(**everything)) for _ in range(count)]


def servers(running: list[Relay], transport: str = "tcp") -> list[RelayServer]:
    """Over TCP, where the end of a relay is noticed at once."""
    return [RelayServer.parse(one.uri(transport), username=USERNAME, password=PASSWORD) for one in running]


class Log:
    """The events of a pool."""

    def __init__(self) -> None:
        self.events: list[PoolEvent] = []
        self.then: Callable[[PoolEvent], object] = lambda _event: None

    def __call__(self, event: PoolEvent) -> None:
        self.events.append(event)
        self.then(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


async def test_two_are_allocated_and_all_is_given_back() -> None:
    log = Log()
    async with relays(3) as running:
        async with RelayPool(servers(running, "udp"), laboratory=True, on_event=log) as pool:
            assert [one.server for one in pool.allocations] == [pool.selection.primary, pool.selection.backup]  # type: ignore[union-attr]
            assert all(one.alive for one in pool.allocations)
            await eventually(lambda: sum(one.active for one in running) == 2)
            assert log.kinds() == ["allocated", "allocated"]
        assert [one.active for one in running] == [0, 0, 0]
        await pool.close()


async def test_without_relays_or_without_one_that_works() -> None:
    with pytest.raises(ConfigError):
        RelayPool([])
    with pytest.raises(NoRelay):
        async with RelayPool([RelayServer.parse("turn:nowhere.invalid")]):
            pass


async def test_one_relay_is_a_pool_without_backup() -> None:
    async with relays(1) as running, RelayPool(servers(running), laboratory=True) as pool:
        assert len(pool.allocations) == 1
        await asyncio.sleep(0.05)
        assert running[0].counters.allocations == 2  # the probe's and the pool's


async def test_the_backup_takes_over_at_once_and_another_backup_is_found() -> None:
    log = Log()
    async with relays(3) as running:
        async with RelayPool(servers(running), laboratory=True, on_event=log) as pool:
            first, second = pool.allocations
            best: list[str] = []
            log.then = lambda event: best.append(pool.allocations[0].server.name) if event.kind == "lost" else None
            await next(one for one in running if one.uri("tcp") == first.server.name).close()
            await eventually(lambda: len(pool.allocations) == 2 and first.server not in by_server(pool), timeout=2)
            assert best == [second.server.name]  # when it was told, the backup was the best already
            assert pool.allocations[0] is second
            assert log.kinds() == ["allocated", "allocated", "lost", "allocated"]
            assert log.events[2].error is not None
        assert sum(one.active for one in running) == 0


def by_server(pool: RelayPool) -> list[RelayServer]:
    return [one.server for one in pool.allocations]


async def test_the_only_relay_is_taken_again_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY", 0.05)
    log = Log()
    async with relays(1) as running:
        port = running[0].tcp_port
        async with RelayPool(servers(running), laboratory=True, on_event=log) as pool:
            await running[0].close()
            await eventually(lambda: "failed" in log.kinds())
            assert pool.allocations == []
            async with Relay(users={USERNAME: PASSWORD}, laboratory=True, tcp_port=port) as again:
                await eventually(lambda: len(pool.allocations) == 1, timeout=3)
                assert again.active == 1


async def test_what_is_taken_is_the_callers_and_is_replaced() -> None:
    async with relays(2) as running:
        async with RelayPool(servers(running), laboratory=True) as pool:
            taken = pool.take()
            assert len(taken) == 2
            assert pool.allocations == []
            await eventually(lambda: len(pool.allocations) == 2)
            assert sum(one.active for one in running) == 4
        assert all(one.alive for one in taken)
        await asyncio.gather(*(one.close() for one in taken))
        assert sum(one.active for one in running) == 0


async def test_a_relay_that_became_clearly_better_is_moved_to_make_before_break(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The order is turned round by the measurements: the third comes in, and what it replaces goes after that."""
    log = Log()
    async with relays(3) as running:
        given = servers(running)
        rtts = dict(zip(given, (10.0, 20.0, 90.0), strict=True))
        measured = module.probe

        async def probe(*arguments: Any, **options: Any) -> Any:
            results = await measured(*arguments, **options)
            return [module.replace(result, rtt_ms=rtts[result.server]) for result in results]

        monkeypatch.setattr(module, "probe", probe)
        async with RelayPool(given, laboratory=True, on_event=log, interval=0.2) as pool:
            assert by_server(pool) == given[:2]
            replaced = pool.allocations[1]
            log.then = lambda _event: before.append(running[1].active)
            before: list[int] = []
            rtts.update({given[2]: 1.0, given[1]: 500.0})
            await eventually(lambda: given[2] in by_server(pool) and given[1] not in by_server(pool), timeout=5)
            assert before[0] == 1
            await eventually(lambda: not replaced.alive, timeout=2)


class Minted:
    """Credentials of a relay with a shared secret, that hold for so many seconds."""

    def __init__(self, ttl: float | None) -> None:
        self.ttl = ttl
        self.asked = 0
        self.error: CredentialsError | None = None

    async def credentials(self) -> RelayCredentials:
        self.asked += 1
        if self.error is not None:
            raise self.error
        username = f"{int(time.time()) + 3600}:{self.asked}"
        expires_at = None if self.ttl is None else time.time() + self.ttl
        return RelayCredentials(username, Secret(rest_password("secret", username)), expires_at)


async def test_credentials_are_renewed_before_they_expire_by_new_allocations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY", 0.05)
    log, source = Log(), Minted(0.5)
    async with relays(2, users=None, auth_secret="secret") as running:
        given = [RelayServer.parse(one.uri("udp")) for one in running]
        async with RelayPool(given, credentials=source, laboratory=True, on_event=log) as pool:
            before = pool.allocations
            source.ttl = None
            log.then = lambda event: alive.append([one.alive for one in before])
            alive: list[list[bool]] = []
            await eventually(lambda: log.kinds().count("renewed") == 2, timeout=2)
            assert alive[0] == [True, True]  # the new one is there before the old one is given up
            assert not set(pool.allocations) & set(before)
            assert source.asked == 2
            await eventually(lambda: sum(one.active for one in running) == 2)
        assert sum(one.active for one in running) == 0


async def test_a_source_that_fails_is_asked_again_and_what_is_held_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY", 0.05)
    monkeypatch.setattr(module, "LAST_RETRY", 0.2)
    log, source = Log(), Minted(0.1)
    async with relays(1, users=None, auth_secret="secret") as running:
        given = [RelayServer.parse(running[0].uri("udp"))]
        async with RelayPool(given, credentials=source, laboratory=True, on_event=log) as pool:
            source.error = CredentialsError("https://endpoint.test")
            await eventually(lambda: "failed" in log.kinds())
            assert pool.allocations[0].alive
            source.error, source.ttl = None, None
            await eventually(lambda: "renewed" in log.kinds())
    source.error = CredentialsError("https://endpoint.test")
    with pytest.raises(CredentialsError):
        async with RelayPool(given, credentials=source):
            pass


async def test_one_allocation_per_user_does_not_make_the_probe_drop_the_relay() -> None:
    log = Log()
    async with (
        relays(1, user_quota=1) as running,
        RelayPool(servers(running), laboratory=True, interval=0.1, on_event=log) as pool,
    ):
        (held,) = pool.allocations
        await asyncio.sleep(0.5)
        assert running[0].counters.refused >= 1, "it was not measured again"
        assert pool.allocations == [held]
        assert log.kinds() == ["allocated"]


async def test_cancelled_while_it_begins_nothing_stays() -> None:
    async with relays(2) as running:
        with black_hole() as port:
            silent = RelayServer("127.0.0.1", port, "udp", USERNAME, Secret(PASSWORD))
            for milliseconds in range(0, 120, 15):
                pool = RelayPool([*servers(running), silent], laboratory=True)
                task = asyncio.ensure_future(pool.__aenter__())
                await asyncio.sleep(milliseconds / 1000)
                task.cancel()
                await asyncio.wait([task])
                await eventually(lambda: sum(one.active for one in running) == 0, timeout=1)
