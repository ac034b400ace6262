"""A running call: what the two sides tell each other, and relays that come and go."""

from __future__ import annotations

import asyncio
import logging

import pytest

from relaycall.call import media_call as module
from relaycall.call.events import CallEvent, Ended, PeerChanged, RelayChanged
from relaycall.errors import RelayLost
from relaycall.ice import failover
from relaycall.ice.events import PathSelected, RelayGone, RelaySuspected
from relaycall.relays.pool import PoolEvent
from relaycall.server.turn import Relay
from tests.call.parties import Party, by_name, pair, warm
from tests.leaks import no_leaks, nothing_left_behind  # noqa: F401 - the latter for every test here
from tests.scenarios.calling import PASSWORD, USERNAME, close, connect, embedded_relays, heard, session, until


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first choice is final."""
    monkeypatch.setattr(failover, "SETTLE", 0.0)
    monkeypatch.setattr(module, "SETTLE", 0.0)


# --- what the peer is told --------------------------------------------------------------------------------------------


async def test_mute_is_told() -> None:
    async with embedded_relays(1) as (_, relays):
        alice, bob = pair(relays)
        async with alice, bob:
            alice.muted = True
            await connect(alice, bob)
            assert alice.muted
            assert alice.session is not None
            assert alice.session.muted, "from the first packet on"
            await until(lambda: bob.told(PeerChanged) == [PeerChanged(muted=True, video=False)])
            alice.muted = False
            await until(lambda: len(bob.told(PeerChanged)) == 2)
            assert bob.told(PeerChanged)[-1] == PeerChanged(muted=False, video=False)
            assert alice.told(PeerChanged) == []
            assert not bob.muted


async def test_relays_of_the_peers_are_no_news_about_the_peer() -> None:
    async with embedded_relays(2) as (_, relays):
        alice, bob = pair(relays)
        async with alice, bob:
            await connect(alice, bob)
            assert bob._in_band is not None
            bob._in_band.update(candidates=tuple(one.address for one in bob.connection.local_candidates[:1]))
            await until(lambda: len(alice.connection.remote_candidates) == 1)
            assert alice.told(PeerChanged) == []


async def test_protection_is_for_both_directions(settled: None) -> None:
    async with embedded_relays(2) as (_, relays):
        alice, bob = Party(relays, caller=True, protect=True), Party(relays, caller=False)
        async with alice, bob:
            await connect(alice, bob)
            await until(lambda: bool(alice.connection._outlet.also and bob.connection._outlet.also))
            before = [session(call).stats().transport.copies for call in (alice, bob)]
            await heard(alice, bob, frames=20)
            for call, copies in zip((alice, bob), before, strict=True):
                assert session(call).stats().transport.copies - copies >= 15
                assert session(call).stats().lost == 0


# --- moves and deaths -------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_move_is_reported_once_with_what_it_cost(settled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_AFTER", 0.5)
    async with embedded_relays(2) as (_, relays):
        alice, bob = pair(relays)
        async with alice, bob:
            await connect(alice, bob)
            await heard(alice, bob, frames=20)
            await warm(alice, bob)
            assert alice.told(RelayChanged) == []  # the first path is no move
            old = alice.used
            alice.connection.move()
            new = alice.used
            await asyncio.sleep(0.3)
            assert alice.told(RelayChanged) == []  # what it delayed may come yet
            await until(lambda: alice.told(RelayChanged) != [], timeout=1.0)
            await asyncio.sleep(0.3)
            (report,) = alice.told(RelayChanged)
            assert isinstance(report, RelayChanged)
            assert (report.old, report.new, report.failed) == (old, new, False)
            assert 0 < report.gap_ms < 200
            assert report.lost == 0


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_the_relay_in_use_dies_and_the_report_says_so(transport: str, settled: None) -> None:
    async with embedded_relays(2, transport) as (embedded, relays):
        alice, bob = pair(relays)
        async with alice, bob:
            await connect(alice, bob)
            await heard(alice, bob, frames=20)
            await warm(alice, bob)
            old = alice.used
            await by_name(embedded, relays)[old].close()
            await until(lambda: alice.told(RelayChanged) != [], timeout=4.0)
            (report,) = alice.told(RelayChanged)
            assert isinstance(report, RelayChanged)
            assert report.old == old
            assert report.new == alice.used != old
            await until(lambda: bob.told(RelayChanged) != [], timeout=4.0)
            both = [one for side in (alice, bob) for one in side.told(RelayChanged)]
            assert any(isinstance(one, RelayChanged) and one.failed for one in both)  # one left, the other may follow
            assert 20 <= report.gap_ms < 600
            await heard(alice, bob)


@pytest.mark.slow
async def test_two_of_three_relays_die_one_after_the_other(settled: None) -> None:
    """The first is replaced by the third, which both sides hear of in band; so the second death is survived as well."""
    async with embedded_relays(4, "tcp") as (embedded, relays):
        relay_of = by_name(embedded, relays)
        alice, bob = Party(relays[:3], caller=True), Party(relays[3:], caller=False)
        alice._pool._keeping.count = 2  # the third is in reserve
        async with alice, bob:
            await connect(alice, bob)
            await heard(alice, bob)
            assert [relay.active for relay in embedded[:3]] == [1, 1, 0]
            await warm(alice, bob)
            for _ in range(2):
                used = alice.used
                await relay_of[used].close()
                await heard(alice, bob, frames=20)
                assert alice.used != used
                told = [one.address for one in alice.connection.local_candidates]
                await until(
                    lambda: (
                        {one.address for one in bob.connection.remote_candidates}
                        == {one.address for one in alice.connection.local_candidates}
                    ),
                    what="telling the new relay",
                )
                assert told
                await warm(alice, bob)
            assert [relay.active for relay in embedded[:3]] == [0, 0, 1]
            assert len(alice.told(RelayGone)) == 2
            lost = [event.kind for event in alice.told(PoolEvent) if isinstance(event, PoolEvent)]
            assert lost.count("allocated") == 3
            assert lost.count("lost") == 2
            assert bob.told(RelayGone) == []


async def test_after_the_last_relay_one_comes_back_on_its_port(settled: None) -> None:
    """The third death: there is no other relay, and the call waits for the one that restarts."""
    async with embedded_relays(2, "tcp") as (embedded, relays):
        alice, bob = Party(relays[:1], caller=True), Party(relays[1:], caller=False)
        async with alice, bob:
            await connect(alice, bob)
            await heard(alice, bob)
            port = embedded[0].tcp_port
            await embedded[0].close()
            await until(lambda: alice.told(RelayGone) != [])
            async with Relay(users={USERNAME: PASSWORD}, laboratory=True, udp_port=None, tcp_port=port):
                await heard(alice, bob, frames=20, timeout=10)
                (gone,) = alice.told(RelayGone)
                assert isinstance(gone, RelayGone)
                assert isinstance(gone.error, RelayLost)
                await close(alice, bob)
                assert await alice.ended() == Ended("hung_up")


@pytest.mark.slow
async def test_a_silent_peer_is_a_suspicion_and_no_move(settled: None) -> None:
    async with embedded_relays(2) as (_, relays):
        alice, bob = pair(relays)
        async with alice, bob:
            await connect(alice, bob)
            await heard(alice, bob)
            await warm(alice, bob)
            used = alice.used
            session(bob).transport._path.set_receiver(None)  # it does not listen, and alice goes on
            await until(lambda: bob.told(RelaySuspected) != [], timeout=2.0)
            await asyncio.sleep(0.5)
            assert alice.used == used
            assert not [event for event in bob.told(PathSelected) if isinstance(event, PathSelected) and event.failed]


# --- handlers --------------------------------------------------------------------------------------------------------


async def test_a_handler_that_raises_harms_nothing(caplog: pytest.LogCaptureFixture, settled: None) -> None:
    """Whatever it is told: of the pool, of paths, of the peer."""
    seen: list[type] = []

    def handler(event: CallEvent) -> None:
        seen.append(type(event))
        raise RuntimeError("a handler of the user's")

    async with embedded_relays(2, "tcp") as (embedded, relays):
        alice, bob = pair(relays)
        async with alice, bob:
            alice.on_event = handler
            await connect(alice, bob)
            await heard(alice, bob)
            await warm(alice, bob)
            bob.muted = True
            await by_name(embedded, relays)[alice.used].close()
            await heard(alice, bob)
            await until(lambda: {PoolEvent, PathSelected, PeerChanged, RelayGone} <= set(seen))
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert {record.message for record in failures} == {"an event handler failed"}
    assert await alice.ended() == Ended("peer_hung_up")  # bob was closed first
