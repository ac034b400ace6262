"""Two connections whose relays fail while they talk: what is moved, doubted, doubled and left."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from relaycall.errors import NoPath
from relaycall.ice import failover
from relaycall.ice.events import ConnectionEvent, PathLost, PathSelected, RelayGone, RelaySuspected
from tests.ice.connecting import PACKET, Side, Site, Voice, server, talking, warm
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first choice is final, so that nobody moves before it is time."""
    monkeypatch.setattr(failover, "SETTLE", 0.0)


async def apart(site: Site) -> list[Side]:
    """Two relays on each side, each on a host of its own."""
    relays = [await site.relay(host=f"127.0.0.{number}") for number in (1, 2, 3, 4)]
    servers = [server(relay) for relay in relays]
    return await site.pair(servers[:2], servers[2:])


# --- moves ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("controlling", [True, False], ids=["controlling", "controlled"])
async def test_a_move_that_is_wanted_takes_the_peer_along_and_loses_nothing(site: Site, controlling: bool) -> None:
    both = await apart(site)
    side, peer = both if controlling else both[::-1]
    async with talking(side, peer) as voices:
        await warm(side, peer)
        old = side.selected()[-1], peer.selected()[-1]
        side.move()
        assert side.selected()[-1] != old[0]  # at once, to a path that shares no relay with the one before
        await eventually(lambda: peer.selected()[-1] != old[1], timeout=1.0)
        for voice in voices:
            await voice.hears(20)
            assert voice.missing == 0
        assert PathSelected(side.selected()[-1], 1, failed=False) in side.events


async def test_a_move_to_nowhere_is_refused(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(near)], [server(far)])
    async with talking(alice, bob) as voices:
        with pytest.raises(NoPath):
            alice.move()
        await voices[0].hears()
    await alice.close()
    with pytest.raises(NoPath):
        alice.move()


async def test_a_move_before_there_is_a_path_is_refused(site: Site) -> None:
    near, far = await site.relay(), await site.relay()
    alice, _ = await site.pair([server(near)], [server(far)], connect=False)
    with pytest.raises(NoPath):
        alice.move()


async def test_a_move_away_from_a_path_in_doubt_is_not_refused(site: Site) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(near), server(spare)], [server(far)])
    refused: list[NoPath] = []

    def move(event: ConnectionEvent) -> None:
        if isinstance(event, RelaySuspected):
            assert alice._agent.failover.has_backup(asyncio.get_running_loop().time())
            try:
                alice.move()
            except NoPath as error:
                refused.append(error)

    async with talking(alice, bob) as (_, at_bob):
        await warm(alice, bob)
        alice.on_event = move
        at_bob.silence()
        await asyncio.sleep(0.5)
        assert not refused


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["both", "down"])
async def test_a_path_that_falls_silent_is_doubled_and_left(site: Site, direction: str) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    proxies = {(found := await site.lossy(relay))[1].name: found for relay in (near, spare)}
    alice, bob = await site.pair([through for _, through in proxies.values()], [server(far)])
    async with talking(alice, bob) as (at_alice, at_bob):
        await warm(alice, bob)
        old = alice.selected()[-1]
        seen, before = len(alice.events), set(at_bob.counts)
        proxies[old][0].set(direction, black_hole=True)
        await eventually(lambda: alice.told(RelaySuspected), timeout=1.0)
        await eventually(lambda: alice.selected()[-1] != old, timeout=3.0)
        for voice in (at_alice, at_bob):
            await voice.hears()
        events = [event for event in alice.events[seen:] if isinstance(event, RelaySuspected | PathSelected)]
        new = next(name for name in proxies if name != old)
        number = alice.path_stats()[0].remote
        suspected, selected = events
        assert suspected == RelaySuspected(old)
        assert selected in [PathSelected(new, number, failed=failed) for failed in (True, False)]  # or bob was first
        assert at_alice.missing == 0  # what was sent into the silence came again
        assert at_bob.missing == 0
        if direction == "down":  # what we send still arrives on the silent path, and on the other as well
            assert sum(count > 1 for number, count in at_bob.counts.items() if number not in before) >= 5
        assert not alice.told(PathLost)


@pytest.mark.slow
async def test_before_media_is_watched_silence_is_nothing(site: Site) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(near), server(spare)], [server(far)])
    bob.send_packet(PACKET)
    await asyncio.sleep(1.0)
    for side in (alice, bob):
        assert not side.told(RelaySuspected)


@pytest.mark.slow
@pytest.mark.parametrize("credulous", [True, False], ids=["the peer's", "forged"])
async def test_only_what_the_receiver_believes_shows_that_the_path_works(site: Site, credulous: bool) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(near), server(spare)], [server(far)])
    async with talking(alice, bob) as (at_alice, _):
        await warm(alice, bob)
        at_alice.credulous = credulous
        await at_alice.hears(50)
        assert bool(alice.told(RelaySuspected)) is not credulous
        assert not bob.told(RelaySuspected)


async def test_packets_that_nobody_takes_do_not_count_as_heard(site: Site) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(near), server(spare)], [server(far)])
    async with talking(alice, bob):
        await warm(alice, bob)
        alice.set_receiver(None)
        await eventually(lambda: alice.told(RelaySuspected), timeout=1.5)


# --- protection -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_protected_packets_go_twice_over_paths_that_share_no_relay(site: Site) -> None:
    alice, bob = await apart(site)
    async with talking(alice, bob) as (at_alice, at_bob):
        await eventually(lambda: all(path.healthy for path in alice.path_stats()))
        await warm(alice, bob)
        alice.protect(True)
        await at_bob.hears(3)
        first = max(at_bob.counts)
        bob.came.clear()
        await at_bob.hears(15)
        ways: dict[bytes, list[tuple[int, str]]] = {}
        for index, peer, data in list(bob.came):
            ways.setdefault(data, []).append((index, peer.host))
        whole = [way for data, way in ways.items() if first < int.from_bytes(data[1:5], "big") < max(at_bob.counts)]
        assert len(whole) >= 10
        for (one, from_one), (other, from_other) in whole:
            assert one != other
            assert from_one != from_other
        assert set(at_alice.counts.values()) == {1}  # one side alone is protected
        alice.protect(False)
        await asyncio.sleep(0.05)
        first = max(at_bob.counts)
        await at_bob.hears(15)
        assert Counter(at_bob.counts[number] for number in at_bob.counts if number > first).keys() == {1}


@pytest.mark.slow
async def test_a_protected_call_loses_nothing_while_a_relay_dies(site: Site) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    proxies = {(found := await site.lossy(relay))[1].name: found for relay in (near, spare)}
    alice, bob = await site.pair([through for _, through in proxies.values()], [server(far)])
    for side in (alice, bob):
        side.protect(True)
    async with talking(alice, bob) as voices:
        await warm(alice, bob)
        old = alice.selected()[-1]
        proxies[old][0].set("both", black_hole=True)
        await eventually(lambda: alice.selected()[-1] != old, timeout=3.0)
        for voice in voices:
            await voice.hears()
            assert voice.missing == 0


# --- events -----------------------------------------------------------------------------------------------------------


async def test_a_handler_may_look_at_the_paths(site: Site) -> None:
    near, spare, far = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(near, "tcp"), server(spare, "tcp")], [server(far)])
    looked: list[type[ConnectionEvent]] = []

    def look(event: ConnectionEvent) -> None:
        alice.path_stats()
        looked.append(type(event))

    async with talking(alice, bob):
        alice.on_event = look
        await near.close()
        await asyncio.sleep(0.2)
    assert RelayGone in looked


async def test_voices_are_heard_once(site: Site) -> None:
    """What the tests above count with: without protection and doubt, each packet comes once."""
    near, far = await site.relay(), await site.relay()
    alice, bob = await site.pair([server(near)], [server(far)])
    one, other = Voice(alice), Voice(bob)
    await one.hears(20)
    await other.hears(20)
    assert set(one.counts.values()) | set(other.counts.values()) == {1}
    for voice in (one, other):
        voice.silence()
