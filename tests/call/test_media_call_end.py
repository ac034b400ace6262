"""How a call begins and ends: hung up on either side, closed at any step, on a pool of its own or a lent one."""

from __future__ import annotations

import asyncio

import pytest

from relaycall.call import media_call as module
from relaycall.call.events import Ended, RelayChanged
from relaycall.errors import CallClosed, ConfigError, NoRelay
from relaycall.ice import failover
from relaycall.relays.pool import RelayPool
from relaycall.relays.server import RelayServer
from tests.call.parties import Party, pair, warm
from tests.leaks import no_leaks, nothing_left_behind  # noqa: F401 - the latter for every test here
from tests.scenarios.calling import PASSWORD, USERNAME, close, connect, embedded_relays, heard, until
from tests.scripted import black_hole


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first choice is final."""
    monkeypatch.setattr(failover, "SETTLE", 0.0)
    monkeypatch.setattr(module, "SETTLE", 0.0)


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_who_hangs_up_ends_both_at_once(who: str) -> None:
    async with embedded_relays(1) as (embedded, relays):
        both = pair(relays)
        await connect(*both)
        await heard(*both)
        first, other = both if who == "caller" else both[::-1]
        waiting = asyncio.ensure_future(other.ended())
        loop = asyncio.get_running_loop()
        started = loop.time()
        await first.close()
        assert loop.time() - started < 1.0
        assert await asyncio.wait_for(waiting, 0.5) == Ended("peer_hung_up")
        assert await other.ended() == Ended("peer_hung_up")
        assert await first.ended() == Ended("hung_up")
        await until(lambda: embedded[0].active == 0)
        await other.close()
        assert await other.ended() == Ended("peer_hung_up")


async def test_both_hang_up() -> None:
    async with embedded_relays(1) as (embedded, relays):
        both = pair(relays)
        await connect(*both)
        await heard(*both)
        await close(*both)
        ends = [await call.ended() for call in both]
        assert {end.reason for end in ends} <= {"hung_up", "peer_hung_up"}
        assert [end.error for end in ends] == [None, None]
        assert embedded[0].active == 0


async def test_a_peer_that_is_gone_does_not_hold_up_the_end() -> None:
    async with embedded_relays(2) as (_, relays):
        alice, bob = Party(relays[:1], caller=True), Party(relays[1:], caller=False)
        await connect(alice, bob)
        await heard(alice, bob)
        await bob.connection.close()  # without a word
        loop = asyncio.get_running_loop()
        started = loop.time()
        await alice.close()
        assert loop.time() - started < 2.0
        assert await alice.ended() == Ended("hung_up")
        await bob.close()


async def test_hung_up_before_the_call_was_connected() -> None:
    async with embedded_relays(1) as (_, relays), Party(relays, caller=True) as alice:
        await alice.prepare()
        await alice.close()
        assert await alice.ended() == Ended("hung_up")


# --- a pool from outside ----------------------------------------------------------------------------------------------


async def test_a_pool_from_outside_is_lent_and_not_closed() -> None:
    async with embedded_relays(2) as (embedded, relays), RelayPool(relays, measure=False, laboratory=True) as pool:
        assert [relay.active for relay in embedded] == [1, 1]
        alice, bob = Party(pool, caller=True), Party(relays, caller=False)
        await connect(alice, bob)
        await heard(alice, bob)
        assert {relay.counters.allocations for relay in embedded} == {2}  # nothing was allocated anew
        await close(alice, bob)
        assert pool._keeper is not None
        assert not pool._keeper.done()
        await until(lambda: sum(relay.active for relay in embedded) == 0)  # what was lent was the call's to close


async def test_a_pool_serves_one_call() -> None:
    async with (
        embedded_relays(1) as (_, relays),
        RelayPool(relays, measure=False, laboratory=True) as pool,
        Party(pool, caller=True) as first,
        Party(pool, caller=True) as second,
    ):
        await first.prepare()
        await first.prepare()
        with pytest.raises(ConfigError):
            await second.prepare()
        with pytest.raises(CallClosed):
            await second.connect(b"")
        assert first.connection.local_candidates
        assert not second.connection.local_candidates


async def test_a_pool_that_is_not_open() -> None:
    async with embedded_relays(1) as (embedded, relays):
        pool = RelayPool(relays, measure=False, keep=1, laboratory=True)
        async with Party(pool, caller=True) as alice:
            with pytest.raises(ConfigError):
                await alice.prepare()
        assert embedded[0].counters.allocations == 0


# --- closing at any time ----------------------------------------------------------------------------------------------


async def test_closing_while_preparing_says_so_and_leaves_nothing() -> None:
    async with embedded_relays(1) as (embedded, [relay]):
        with black_hole() as port, black_hole("tcp") as stream:
            dead = [
                RelayServer.parse(f"turn:127.0.0.1:{port}", username=USERNAME, password=PASSWORD),
                RelayServer.parse(f"turn:127.0.0.1:{stream}?transport=tcp", username=USERNAME, password=PASSWORD),
            ]
            for given in ([relay, *dead], dead):
                async with no_leaks():
                    alice = Party(given, caller=True)
                    preparing = asyncio.ensure_future(alice.prepare())
                    await asyncio.sleep(0.1)
                    await alice.close()
                    with pytest.raises(CallClosed):
                        await preparing
                    await until(lambda: embedded[0].active == 0)
                    assert alice.connection.local_candidates == []


async def test_closing_at_whatever_step_of_prepare() -> None:
    async with embedded_relays(1) as (embedded, relays):
        for turns in range(30):
            alice = Party(relays, caller=True)
            preparing = asyncio.ensure_future(alice.prepare())
            for _ in range(turns):
                await asyncio.sleep(0)
            await alice.close()
            (result,) = await asyncio.gather(preparing, return_exceptions=True)
            assert isinstance(result, bytes | CallClosed), result
            await until(lambda: embedded[0].active == 0)


async def test_preparing_twice_at_once_is_preparing() -> None:
    async with embedded_relays(2) as (_, relays):
        alice = Party(relays, caller=True)
        try:
            one, other = await asyncio.gather(alice.prepare(), alice.prepare(), return_exceptions=True)
        finally:
            await alice.close()
            left = [task for task in asyncio.all_tasks() if "RelayPool._keep" in repr(task)]
            for task in left:
                task.cancel()
        assert left == []
        assert one == other


async def test_preparing_again_after_there_was_no_relay() -> None:
    async with (
        embedded_relays(1) as (_, [relay]),
        Party([relay.with_credentials(USERNAME, "wrong")], caller=True) as alice,
    ):
        for _ in range(2):
            with pytest.raises(NoRelay) as found:
                await alice.prepare()
            assert len(found.value.failures) == 1


@pytest.mark.parametrize(
    "when",
    [
        "before",
        "while it closes",
    ],
)
@pytest.mark.slow
async def test_nothing_is_told_once_the_call_is_closed(when: str, settled: None) -> None:
    """A move is reported a second later, unless the call is over by then."""
    async with embedded_relays(4) as (_, relays):
        alice, bob = Party(relays[:2], caller=True), Party(relays[2:], caller=False)
        await connect(alice, bob)
        await heard(alice, bob)
        await warm(alice, bob)
        await bob.connection.close()  # without a word, so that alice waits for an acknowledgement
        if when == "before":
            alice.connection.move()
        closing = asyncio.ensure_future(alice.close())
        await asyncio.sleep(0.05)
        if when == "while it closes":
            alice.connection.move()
        await closing
        told = len(alice.events)
        await asyncio.sleep(module.REPORT_AFTER)
        await bob.close()
        assert len(alice.events) == told
        assert alice.told(RelayChanged) == []
