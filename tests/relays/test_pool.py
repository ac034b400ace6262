"""A pool keeps two relays allocated, whatever happens to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relaycall.errors import ConfigError, CredentialsError, NoRelay
from relaycall.redact import Secret
from relaycall.relays import keeping, renewing
from relaycall.relays import pool as module
from relaycall.relays.pool import RelayPool
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.relays.pooling import Log, Minted, relays, servers
from tests.scripted import PASSWORD, USERNAME, black_hole
from tests.waiting import eventually


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


def by_server(pool: RelayPool) -> list[RelayServer]:
    return [one.server for one in pool.allocations]


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


async def test_the_only_relay_is_taken_again_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "ROUND", 0.05)
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


async def test_relays_are_measured_again_when_that_is_advised_and_not_more_than_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with relays(2) as running:
        measured, times = module.probe, []

        async def probe(*arguments: Any, **options: Any) -> Any:
            times.append(asyncio.get_running_loop().time())
            return await measured(*arguments, **options)

        monkeypatch.setattr(module, "probe", probe)
        monkeypatch.setattr(module, "REMEASURE", 0.5)
        async with RelayPool(servers(running), laboratory=True) as pool:
            opened = len(times)
            for _ in range(4):
                pool.remeasure()
            await eventually(lambda: len(times) > opened, timeout=5)
            assert times[opened] - times[opened - 1] >= 0.5
            done = len(times)
        async with RelayPool(servers(running), measure=False, laboratory=True) as pool:
            pool.remeasure()
            await asyncio.sleep(0.2)
        assert len(times) == done, "not if nothing is measured"


async def test_credentials_are_renewed_before_they_expire_by_new_allocations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewing, "FIRST_RETRY", 0.05)
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
    monkeypatch.setattr(renewing, "FIRST_RETRY", 0.05)
    monkeypatch.setattr(renewing, "LAST_RETRY", 0.2)
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


async def test_without_measuring_the_first_relays_are_used_and_nothing_is_probed() -> None:
    async with relays(4) as running:
        given = servers(running, "udp")
        for keep in (1, 2, 4):
            async with RelayPool(given, measure=False, keep=keep, laboratory=True) as pool:
                assert by_server(pool) == given[:keep]
                assert pool.selection is None
                await asyncio.sleep(0.02)
        assert [one.counters.allocations for one in running] == [3, 2, 1, 1]


async def test_how_many_can_be_kept() -> None:
    given = [RelayServer.parse(f"turn:relay{number}.test") for number in range(5)]
    for keep in (0, 5):
        with pytest.raises(ConfigError):
            RelayPool(given, measure=False, keep=keep)
    with pytest.raises(ConfigError):
        RelayPool(given, keep=3)


async def test_a_relay_given_twice_is_one_relay() -> None:
    async with relays(1) as running:
        given = servers(running) * 2
        async with RelayPool(given, measure=False, laboratory=True) as pool:
            assert len(pool.allocations) == 1


async def test_on_entering_the_next_relays_stand_in_for_those_that_refuse() -> None:
    log = Log()
    async with relays(3) as running:
        given = servers(running)
        await running[0].close()
        async with RelayPool(given, measure=False, laboratory=True, on_event=log) as pool:
            assert by_server(pool) == given[1:]
            assert sorted(log.kinds()) == ["allocated", "allocated", "failed"]
        await running[2].close()
        given[1] = given[1].with_credentials(USERNAME, "wrong")  # which takes longer than to be refused
        with pytest.raises(NoRelay) as caught:
            async with RelayPool(given[1:], measure=False, laboratory=True):
                pass
        assert [error.code for error in caught.value.failures] == ["relay_credentials", "relay_refused"]


@pytest.mark.slow
async def test_on_entering_a_silent_relay_is_not_waited_for_and_taken_when_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.1)
    async with relays(1) as running:
        with black_hole() as port:
            silent = RelayServer("127.0.0.1", port, "udp", USERNAME, Secret(PASSWORD))
            given = [silent, *servers(running)]
            async with asyncio.timeout(3), RelayPool(given, measure=False, laboratory=True) as pool:
                assert by_server(pool) == given[1:]
        # What was silent begins to answer: the request is repeated half a second after the first.
        pool = RelayPool(given, measure=False, laboratory=True)
        with black_hole(port=port):
            await pool.__aenter__()
            assert by_server(pool) == given[1:]
        async with Relay(users={USERNAME: PASSWORD}, laboratory=True, udp_port=port, tcp_port=None) as late:
            await eventually(lambda: by_server(pool) == given, timeout=2)
            await pool.close()
            assert late.active == 0


async def test_on_entering_all_relays_are_tried_after_a_second_of_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "ROUND", 0.05)
    async with relays(1) as running:
        with black_hole() as first, black_hole() as second:
            silent = [RelayServer("127.0.0.1", port, "udp", USERNAME, Secret(PASSWORD)) for port in (first, second)]
            async with (
                asyncio.timeout(3),
                RelayPool([*silent, *servers(running)], measure=False, keep=1, laboratory=True) as pool,
            ):
                assert by_server(pool) == servers(running)


async def test_while_nothing_is_held_a_relay_is_not_kept_waiting_by_a_silent_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every relay is tried once a round, banned or not, and the failures are told once."""
    monkeypatch.setattr(keeping, "ROUND", 0.05)
    log = Log()
    async with relays(1) as running:
        port = running[0].tcp_port
        with black_hole() as silence:
            silent = RelayServer("127.0.0.1", silence, "udp", USERNAME, Secret(PASSWORD))
            given = [*servers(running), silent]
            async with RelayPool(given, measure=False, keep=1, laboratory=True, on_event=log) as pool:
                await running[0].close()
                await asyncio.sleep(0.3)
                assert pool.allocations == []
                async with Relay(users={USERNAME: PASSWORD}, laboratory=True, tcp_port=port):
                    await eventually(lambda: pool.allocations, timeout=0.5)
                    assert log.kinds() == ["allocated", "lost", "failed", "allocated"]


@pytest.mark.parametrize("jump", [3600, -3600])
async def test_the_clock_on_the_wall_may_be_set(jump: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour forward, or an hour back: credentials are renewed when their time is over, and only then."""
    monkeypatch.setattr(renewing, "FIRST_RETRY", 0.05)
    log, source, now = Log(), Minted(0.5), renewing.time.time
    async with relays(1, users=None, auth_secret="secret") as running:
        given = [RelayServer.parse(running[0].uri("udp"))]
        async with RelayPool(given, credentials=source, measure=False, laboratory=True, on_event=log):
            monkeypatch.setattr(renewing.time, "time", lambda: now() + jump)
            await asyncio.sleep(0.2)
            assert source.asked == 1
            source.ttl = None
            await eventually(lambda: log.kinds() == ["allocated", "renewed"], timeout=2)


async def test_credentials_that_seem_to_have_expired_are_not_renewed_over_and_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(renewing, "FIRST_RETRY", 0.02)
    source = Minted(-3600)
    async with relays(1, users=None, auth_secret="secret") as running:
        given = [RelayServer.parse(running[0].uri("udp"))]
        async with RelayPool(given, credentials=source, measure=False, laboratory=True):
            await asyncio.sleep(0.2)
            assert source.asked == 1


async def test_a_source_that_raises_what_it_may_not() -> None:
    source = Minted(None)
    source.error = ZeroDivisionError("the text is lost")
    async with relays(1, users=None, auth_secret="secret") as running:
        given = [RelayServer.parse(running[0].uri("udp"))]
        with pytest.raises(CredentialsError, match="raised ZeroDivisionError") as caught:
            async with RelayPool(given, credentials=source, measure=False, laboratory=True):
                pass
        assert "lost" not in str(caught.value)


async def test_a_try_with_older_credentials_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.05)
    source, dialled = Minted(0.3), []
    allocate = module.allocate

    async def allocating(server: RelayServer, **options: Any) -> Any:
        dialled.append((server.port, server.username))
        return await allocate(server, **options)

    monkeypatch.setattr(module, "allocate", allocating)
    monkeypatch.setattr(renewing, "FIRST_RETRY", 0.05)
    with black_hole() as port:
        async with relays(1, users=None, auth_secret="secret") as running:
            given = [RelayServer.parse(running[0].uri("udp")), RelayServer("127.0.0.1", port)]
            async with RelayPool(given, credentials=source, measure=False, laboratory=True):
                source.ttl = None
                await eventually(lambda: len({name for where, name in dialled if where == port}) == 2, timeout=2)


async def test_an_allocation_that_is_lost_before_it_is_taken_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    async with relays(2) as running:
        allocate = module.allocate

        async def allocating(server: RelayServer, **options: Any) -> Any:
            allocation = await allocate(server, **options)
            if server.port == running[0].tcp_port:
                await running[0].close()
                await eventually(lambda: allocation.error)
            return allocation

        monkeypatch.setattr(module, "allocate", allocating)
        given = servers(running)
        async with RelayPool(given, measure=False, keep=1, laboratory=True, on_event=log) as pool:
            assert by_server(pool) == given[1:]
            assert log.kinds() == ["failed", "allocated"]


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
