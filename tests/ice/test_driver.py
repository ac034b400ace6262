"""What agents decide, carried out by connections: the order of events, our own stalls, the last spare path."""

from __future__ import annotations

import asyncio
import time

import pytest

from relaycall.errors import NoPath
from relaycall.ice import driver, failover, holdings
from relaycall.ice.events import (
    NoBackup,
    PathLost,
    PathSelected,
    PeerHeard,
    PeerUnheard,
    RelayGone,
    RelaySuspected,
)
from relaycall.relays.server import Transport
from tests.ice.connecting import PACKET, LenderLog, Site, at, server, talking, warm
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first choice is final, so that nobody moves before it is time."""
    monkeypatch.setattr(failover, "SETTLE", 0.0)


# --- our own stalls ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_loop_that_is_blocked_moves_nobody_and_is_no_event(site: Site) -> None:
    """Media, checks and answers lie unread in the sockets meanwhile: nobody's relay is to blame."""
    relays = [await site.relay() for _ in range(4)]
    servers = [server(relay) for relay in relays]
    alice, bob = await site.pair(servers[:2], servers[2:])
    async with talking(alice, bob) as voices:
        await warm(alice, bob)
        doubts = []
        for _ in range(3):
            before = {side: len(side.events) for side in (alice, bob)}
            time.sleep(0.3)  # noqa: ASYNC251 - that is what it is about
            for voice in voices:
                await voice.hears(5)
            told = [event for side, count in before.items() for event in side.events[count:]]
            assert all(isinstance(event, RelaySuspected | NoBackup) for event in told), told
            doubts.append(told)
        assert [] in doubts, "a busy machine stalls us too, but not each time"
        assert all(voice.missing == 0 for voice in voices)


# --- before a path is sure --------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_who_is_checked_and_not_answered_sends_for_a_while(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "REACHED_FOR", 0.3)
    one, other = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(one)], [server(other)], connect=False)
    alice.remote_password = "not bob's, so that he answers nothing"
    connecting = [asyncio.ensure_future(side.connect(2)) for side in (alice, bob)]
    try:
        await asyncio.wait_for(alice.reached.wait(), 2)
        alice.send_packet(PACKET)
        await eventually(lambda: bob.came)
        assert alice.selected() == []
        await eventually(lambda: alice._outlet.path is None)
        alice.send_packet(PACKET)
        assert alice.dropped["no_path"] == 1
        with pytest.raises(NoPath):
            await connecting[0]
    finally:
        await asyncio.gather(*connecting, return_exceptions=True)


# --- the last spare path ----------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_spare_relay_that_falls_silent_is_told_once(site: Site) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    proxies = {name.name: proxy for proxy, name in [await site.lossy(relay) for relay in (near, spare)]}
    alice, bob = await site.pair([at(int(name.split(":")[2].split("?")[0])) for name in proxies], [server(far)])
    async with talking(alice, bob):
        await warm(alice, bob)
        (unused,) = proxies.keys() - {alice.selected()[-1]}
        assert alice._agent.failover.has_backup(asyncio.get_running_loop().time())
        assert alice.told(NoBackup) == []
        proxies[unused].set("both", black_hole=True)
        await eventually(lambda: alice.told(NoBackup), timeout=20)
        await asyncio.sleep(0.5)
        assert len(alice.told(NoBackup)) == 1
        assert alice.told(PathLost) == []


async def test_the_loss_of_the_spare_relay_is_told(site: Site) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(near, "tcp"), server(spare, "tcp")], [server(far)])
    async with talking(alice, bob):
        await warm(alice, bob)
        used = alice._agent.selected
        assert used is not None
        other = spare if used.local == 0 else near
        await other.close()
        await eventually(lambda: alice.told(RelayGone))
        assert not alice._agent.failover.has_backup(asyncio.get_running_loop().time())
        await eventually(lambda: alice.told(NoBackup), timeout=1.0)


async def test_a_call_that_begins_without_a_spare_path_is_told(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(near)], [server(far)])
    async with talking(alice, bob):
        await eventually(lambda: alice.told(NoBackup), timeout=1.0)


async def test_a_move_to_the_last_path_is_told_and_the_next_loss_again(site: Site) -> None:
    near, spare, third, far = [await site.relay() for _ in range(4)]
    alice, bob = await site.pair([server(near, "tcp"), server(spare, "tcp")], [server(far)])
    relays = {server(relay, "tcp").name: relay for relay in (near, spare, third)}
    async with talking(alice, bob):
        await warm(alice, bob)
        await relays[alice.selected()[-1]].close()
        await eventually(lambda: alice.told(NoBackup), timeout=1.0)
        assert len(alice.told(NoBackup)) == 1
        new = await site.allocation(server(third, "tcp"))
        alice.add_allocation(new)
        bob.set_remotes([candidate.address for candidate in alice.local_candidates])
        await warm(alice, bob)
        assert len(alice.told(NoBackup)) == 1
        await relays[alice.selected()[-1]].close()
        await eventually(lambda: len(alice.told(NoBackup)) == 2, timeout=2.0)


async def test_before_media_is_watched_no_spare_path_is_missed(site: Site) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    alice, _ = await site.pair([server(near, "tcp"), server(spare, "tcp")], [server(far)])
    await eventually(lambda: alice._agent.failover.has_backup(asyncio.get_running_loop().time()))
    await near.close()
    await eventually(lambda: len(alice.selected()) > 1 or alice.selected() == [server(spare, "tcp").name])
    await asyncio.sleep(0.1)
    assert alice.told(NoBackup) == []


# --- the order of events ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_relay_that_dies_is_left_before_anything_else_is_told(site: Site, transport: Transport) -> None:
    relays = [await site.relay() for _ in range(3)]
    near, spare, far = relays
    alice, bob = await site.pair([server(near, transport), server(spare, transport)], [server(far)])
    by_name = {server(relay, transport).name: relay for relay in (near, spare)}
    async with talking(alice, bob) as voices:
        await warm(alice, bob)
        old = alice.selected()[-1]
        seen = len(alice.events)
        await by_name[old].close()
        await eventually(lambda: alice.selected()[-1] != old, timeout=1.0)
        for voice in voices:
            await voice.hears()
        first = alice.events[seen:]
        moved = next(event for event in first if isinstance(event, PathSelected))
        assert moved.relay == next(name for name in by_name if name != old)
        if transport == "tcp":  # the loss is certain, and why it moves
            assert [type(event) for event in first if not isinstance(event, NoBackup)] == [RelayGone, PathSelected]
        else:  # the network said so, and it is asked first; or the silence was noticed before that
            kinds = [type(event) for event in first if not isinstance(event, RelaySuspected | NoBackup)]
            assert kinds == [PathSelected]


@pytest.mark.slow
async def test_the_relay_named_is_the_one_that_fell_silent(site: Site) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    proxies = [await site.lossy(relay) for relay in (near, spare)]
    alice, bob = await site.pair([through for _, through in proxies], [server(far)])
    async with talking(alice, bob):
        await warm(alice, bob)
        old, seen = alice.selected()[-1], len(alice.events)
        proxy = next(proxy for proxy, through in proxies if through.name == old)
        proxy.set("both", black_hole=True)
        await eventually(lambda: alice.selected()[-1] != old, timeout=3.0)
        suspected, moved = [event for event in alice.events[seen:] if isinstance(event, RelaySuspected | PathSelected)]
        assert suspected == RelaySuspected(old)
        assert isinstance(moved, PathSelected)


async def test_without_any_path_the_loss_is_told_and_nothing_is_doubled(site: Site) -> None:
    near, far, other = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(far), server(other)], [server(near, "tcp")], lender=LenderLog())
    async with talking(alice, bob):
        bob.protect(True)
        await eventually(lambda: bob._outlet.also)
        await near.close()
        await eventually(lambda: bob.told(PathLost))
        assert bob._outlet.path is None
        assert bob.path_stats() == []


async def test_what_was_doubled_is_forgotten_with_the_path(site: Site) -> None:
    near, far, other = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(far), server(other)], [server(near, "tcp")], lender=LenderLog())
    async with talking(alice, bob):
        bob.protect(True)
        await eventually(lambda: bob._outlet.also)
        await near.close()
        await eventually(lambda: bob.told(PathLost))
        assert bob._agent.failover.also == ()
        assert bob._outlet.also == ()


@pytest.mark.slow
async def test_a_peer_that_is_silent_for_four_seconds_is_told_and_every_relay_is_asked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdings, "ANSWER_WITHIN", 0.5)
    near, spare, far = [await site.relay() for _ in range(3)]
    proxy, through = await site.lossy(far)
    lender = LenderLog()
    bob, alice = await site.pair([through], [server(near), server(spare)], lender=lender)
    async with talking(alice, bob) as (at_alice, _):
        proxy.set("both", black_hole=True)
        await eventually(lambda: alice.told(PeerUnheard), timeout=6.0)
        told_at = asyncio.get_running_loop().time() - 0.2  # the answers may be here already
        await eventually(lambda: all(one.heard_at >= told_at for one in alice._held.allocations.values()), timeout=1.0)
        proxy.set("both", black_hole=False)
        await eventually(lambda: alice.told(PeerHeard), timeout=2.0)
        await at_alice.hears()
        assert len(alice.told(PeerUnheard)) == len(alice.told(PeerHeard)) == 1
        assert lender.doubted == []  # they answered
