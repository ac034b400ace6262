"""A pool serves a running call: what it lends is replaced, renewed and retired while the call goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relaycall.errors import ConfigError
from relaycall.ice.allocation import Allocation
from relaycall.redact import Secret
from relaycall.relays import keeping, renewing
from relaycall.relays import pool as module
from relaycall.relays.pool import RelayPool
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.relays.pooling import Call, Log, Minted, relays, servers
from tests.scripted import PASSWORD, USERNAME, black_hole
from tests.waiting import eventually


@asynccontextmanager
async def lent(given: list[RelayServer], **options: Any) -> AsyncIterator[tuple[RelayPool, Call]]:
    async with RelayPool(given, laboratory=True, **({"measure": False} | options)) as pool:
        call = Call(pool)
        pool.lend(call)
        try:
            yield pool, call
        finally:
            try:
                await pool.close()  # first: it would lend more
            finally:
                await call.close()


def used(call: Call) -> list[str]:
    return [one.server.name for one in call.used]


async def test_all_is_lent_best_first_and_stays_when_the_pool_closes() -> None:
    async with relays(3) as running:
        given = servers(running, "udp")
        names = [one.name for one in given]
        pool = RelayPool(given, measure=False, keep=3, laboratory=True)
        call = Call(pool)
        with pytest.raises(ConfigError):
            pool.lend(call)
        async with pool:
            pool.lend(call)
            assert call.log == [("add", name) for name in names]
            assert pool.allocations == call.used
            with pytest.raises(ConfigError):
                pool.lend(Call(pool))
        with pytest.raises(ConfigError):
            pool.lend(call)
        assert all(one.alive for one in call.used)
        assert [one.active for one in running] == [1, 1, 1]
        first = call.used[0]
        pool.failing(first)  # too late: nothing happens
        await call.close()
        assert [one.active for one in running] == [0, 0, 0]


@pytest.mark.parametrize("measure", [False, True])
async def test_what_dies_is_replaced_on_another_relay(measure: bool) -> None:
    log = Log()
    async with relays(3) as running, lent(servers(running), measure=measure, on_event=log) as (_, call):
        dead, other = used(call)
        await next(one for one in running if one.uri("tcp") == dead).close()
        await eventually(lambda: len(call.used) == 2 and dead not in used(call))
        assert [what for what, _ in call.log] == ["add", "add", "lost", "add"]
        assert used(call)[0] == other
        assert log.kinds() == ["allocated", "allocated", "lost", "allocated"]
        assert log.events[2].error is not None


async def test_both_die_and_one_is_back_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bans do not count then; and another that is silent does not hold it up."""
    monkeypatch.setattr(keeping, "ROUND", 0.05)
    with black_hole() as port:
        silent = RelayServer("127.0.0.1", port, "udp", USERNAME, Secret(PASSWORD))
        async with relays(2) as running:
            again = running[1].tcp_port
            async with lent([*servers(running), silent]) as (pool, call):
                for one in running:
                    await one.close()
                await eventually(lambda: not call.used)
                await asyncio.sleep(0.3)
                async with Relay(users={USERNAME: PASSWORD}, laboratory=True, tcp_port=again, udp_port=None):
                    await eventually(lambda: call.used, timeout=0.5)
                    assert pool.allocations == call.used
                    await asyncio.sleep(0.1)
                    assert len(call.used) == 1
                    await call.close()


async def test_a_failing_one_is_retired_after_another_was_added() -> None:
    async with relays(3) as running, lent(servers(running, "udp")) as (pool, call):
        first, second = call.used
        pool.failing(first)
        pool.failing(first)
        await eventually(lambda: len(call.log) == 4)
        assert call.log[2:] == [("add", running[2].uri("udp")), ("retire", first.server.name)]
        assert call.counts == [1, 2, 3, 2]
        assert call.used[0] is second
        pool.failing(first)  # it is not the pool's any more
        await eventually(lambda: sum(one.active for one in running) == 2)


async def test_a_failing_one_is_kept_when_there_is_no_other() -> None:
    async with relays(2) as running, lent(servers(running, "udp")) as (pool, call):
        first = call.used[0]
        pool.failing(first)
        await asyncio.sleep(0.1)
        assert first in call.used
        assert len(call.log) == 2


async def test_when_all_are_failing_new_ones_are_made_at_once_where_they_can_be_had() -> None:
    async with relays(2) as running, lent(servers(running, "udp")) as (pool, call):
        before = list(call.used)
        for one in before:
            pool.failing(one)
        await eventually(lambda: len(call.log) == 6 and len(call.used) == 2)
        assert not set(before) & set(call.used)
        assert min(call.counts[1:]) == 2, "it was never left with less"


async def test_credentials_are_renewed_and_each_old_one_retired_after_the_new_one_was_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(renewing, "FIRST_RETRY", 0.05)
    log, source = Log(), Minted(0.4)
    async with relays(2, users=None, auth_secret="secret") as running:
        given = [RelayServer.parse(one.uri("udp")) for one in running]
        async with lent(given, credentials=source, on_event=log) as (_, call):
            before = list(call.used)
            source.ttl = None
            await eventually(lambda: len(call.log) == 6, timeout=2)
            assert sorted(call.log[2:]) == sorted((what, one.name) for what in ("add", "retire") for one in given)
            assert call.counts == [1, 2, 3, 2, 3, 2]
            assert not set(before) & set(call.used)
            assert log.kinds() == ["allocated", "allocated", "renewed", "renewed"]
            assert source.asked == 2
            await eventually(lambda: [one.active for one in running] == [1, 1])


async def test_the_same_credentials_again_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Same(Minted):
        async def credentials(self) -> Any:
            answer = await super().credentials()
            return module.replace(self.first, expires_at=answer.expires_at) if self.asked > 1 else self.keep(answer)

        def keep(self, answer: Any) -> Any:
            self.first = answer
            return answer

    monkeypatch.setattr(renewing, "FIRST_RETRY", 0.05)
    source = Same(0.1)
    async with relays(1, users=None, auth_secret="secret") as running:
        async with lent([RelayServer.parse(running[0].uri("udp"))], credentials=source) as (_, call):
            await eventually(lambda: source.asked >= 3, timeout=2)
            assert len(call.log) == 1
        assert running[0].counters.allocations == 1


async def test_a_relay_that_grants_one_allocation_only_goes_on_with_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The renewal is refused and told; when the old one ends there is room for the new credentials."""
    monkeypatch.setattr(renewing, "FIRST_RETRY", 0.05)
    log, source = Log(), Minted(0.3)
    async with relays(1, users=None, auth_secret="secret", user_quota=1) as running:
        given = [RelayServer.parse(running[0].uri("udp"))]
        async with lent(given, credentials=source, on_event=log) as (pool, call):
            source.ttl = None
            await eventually(lambda: "failed" in log.kinds(), timeout=2)
            await asyncio.sleep(0.1)
            (old,) = call.used
            assert old.alive
            assert pool.allocations == [old]
            assert [event.error.code for event in log.events if event.error is not None] == ["relay_quota"]
            call.used.clear()
            await old.close()
            pool.lost(old, log.events[-1].error)  # type: ignore[arg-type]
            await eventually(lambda: len(call.used) == 1)
            assert log.kinds() == ["allocated", "failed", "lost", "allocated"]


async def test_credentials_that_a_relay_refuses_are_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a sleep of the machine in which they expired: their time, by the clock that stood still, is not over."""
    monkeypatch.setattr(renewing, "FIRST_RETRY", 0.05)
    monkeypatch.setattr(keeping, "ROUND", 0.05)
    source = Minted(None)
    async with (
        relays(1, users=None, auth_secret="secret") as running,
        lent([RelayServer.parse(running[0].uri("tcp"))], credentials=source) as (_, call),
    ):
        port = running[0].tcp_port
        await running[0].close()
        source.secret = "another"
        async with Relay(auth_secret="another", laboratory=True, tcp_port=port, udp_port=None):
            await eventually(lambda: call.used, timeout=2)
            assert source.asked == 2
            await call.close()


async def test_a_better_relay_found_by_measuring_again_is_added_and_then_another_retired(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with relays(3) as running:
        given = servers(running, "udp")
        rtts = dict(zip(given, (10.0, 20.0, 90.0), strict=True))
        probe = module.probe

        async def measured(*arguments: Any, **options: Any) -> Any:
            results = await probe(*arguments, **options)
            return [module.replace(result, rtt_ms=rtts[result.server]) for result in results]

        monkeypatch.setattr(module, "probe", measured)
        async with lent(given, measure=True, interval=0.1) as (pool, call):
            assert used(call) == [given[0].name, given[1].name]
            rtts.update({given[2]: 0.1, given[1]: 500.0})
            await eventually(lambda: len(call.log) >= 4, timeout=5)
            assert call.log[2:4] == [("add", given[2].name), ("retire", given[1].name)]
            assert call.counts == [1, 2, 3, 2]
            assert pool.selection is not None
            assert given[2] in (pool.selection.primary, pool.selection.backup)


async def test_with_another_address_all_is_allocated_anew_and_no_relay_banned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's answer is played here: loopback has one address only. `test_routes` asks a real one."""
    monkeypatch.setattr(module, "WATCH", 0.05)
    elsewhere: set[Allocation] = set()
    monkeypatch.setattr(module, "has_moved", lambda allocation: allocation in elsewhere)
    log = Log()
    async with relays(3) as running, lent(servers(running, "udp"), on_event=log) as (_, call):
        first, second = call.used
        await asyncio.sleep(0.15)
        assert len(call.log) == 2
        elsewhere.add(first)
        await eventually(lambda: len(call.log) == 4)
        assert call.log[2:] == [("add", first.server.name), ("retire", first.server.name)]
        elsewhere |= {second, *call.used}
        await eventually(lambda: len(call.used) == 2 and not elsewhere & set(call.used))
        assert "failed" not in log.kinds()


async def test_an_address_that_never_agrees_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel routes by port or protocol its answer means nothing: no allocation is made for that."""
    monkeypatch.setattr(module, "WATCH", 0.02)
    monkeypatch.setattr(module, "has_moved", lambda _allocation: True)
    async with relays(1) as running, lent(servers(running, "udp")) as (_, call):
        await asyncio.sleep(0.2)
        assert len(call.log) == 1


class Failing(Call):
    """One that raises, as often as it is told."""

    def __init__(self, pool: RelayPool) -> None:
        super().__init__(pool)
        self.adding = self.retiring = 0

    def add_allocation(self, allocation: Allocation) -> None:
        if self.adding:
            self.adding -= 1
            raise RuntimeError("it does not like it")
        super().add_allocation(allocation)

    def retire_allocation(self, allocation: Allocation) -> None:
        if self.retiring:
            self.retiring -= 1
            self.used.remove(allocation)
            raise RuntimeError("it does not like it")
        super().retire_allocation(allocation)


async def test_a_borrower_that_raises_is_logged_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, "ROUND", 0.1)
    async with relays(3) as running:
        async with RelayPool(servers(running, "udp"), measure=False, laboratory=True) as pool:
            call = Failing(pool)
            call.adding = 1
            pool.lend(call)  # the first is not taken, and another relay stands in
            await eventually(lambda: used(call) == [running[1].uri("udp"), running[2].uri("udp")])
            call.retiring = 2
            for one in list(call.used):
                pool.failing(one)
            await eventually(lambda: not call.retiring and len(call.used) == 2)
            await eventually(lambda: sum(one.active for one in running) == 2)
            await call.close()
        assert sum(one.active for one in running) == 0
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 3


async def test_ended_at_any_moment_nothing_stays() -> None:
    """Cancelled, as by Ctrl-C, after a few or many turns of the event loop: while it opens, lends, and replaces."""

    async def run(given: list[RelayServer], source: Minted) -> None:
        async with lent(given, credentials=source) as (pool, call):
            for one in list(call.used):
                pool.failing(one)
            await eventually(lambda: len(call.log) == 6)

    async with relays(2, users=None, auth_secret="secret") as running:
        given = [RelayServer.parse(running[0].uri("udp")), RelayServer.parse(running[1].uri("tcp"))]
        turns, task = 0, asyncio.ensure_future(asyncio.sleep(0))
        while not task.done() or task.cancelled() or turns == 0:
            task = asyncio.ensure_future(run(given, Minted(None)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            turns += 1 + turns // 6
        await task
        assert turns > 50
        # What was cancelled while it was being closed ends by itself.
        await eventually(lambda: sum(one.active for one in running) == 0, timeout=1)


async def test_closing_while_something_is_replaced_keeps_what_was_lent() -> None:
    async with relays(1) as running:
        with black_hole() as port:
            silent = RelayServer("127.0.0.1", port, "udp", USERNAME, Secret(PASSWORD))
            pool = RelayPool([*servers(running, "udp"), silent], measure=False, keep=1, laboratory=True)
            call = Call(pool)
            async with pool:
                pool.lend(call)
                pool.failing(call.used[0])  # two tries are under way
                started = time.monotonic()
            assert time.monotonic() - started < 1.5
            assert len(call.used) >= 1
            await call.close()
            await asyncio.gather(pool.close(), pool.close())
