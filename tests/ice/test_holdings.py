"""Allocations in use: added, retired, asked, lost, replaced. Against embedded relays."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relaycall.errors import RelayError, RelayLost, RelaysLost
from relaycall.ice import holdings as module
from relaycall.ice.agent import Agent
from relaycall.ice.allocation import Allocation
from relaycall.ice.candidate import priority
from relaycall.ice.events import ConnectionEvent, RelayGone
from relaycall.ice.holdings import Holdings
from relaycall.ice.timers import Timers
from relaycall.server.turn import Relay
from relaycall.stun.address import Address
from tests.ice.connecting import LenderLog, Site, server, talking
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.waiting import eventually


class Owner:
    """What a connection does with what happens, written down."""

    def __init__(self) -> None:
        self.events: list[ConnectionEvent] = []
        self.packets: list[tuple[int, Address, bytes]] = []
        self.strangers: list[tuple[int, Address, bytes]] = []
        self.forbidden: list[RelayError] = []
        self.ended = 0
        self.changes = 0

    def relay_packet(self, index: int, peer: Address, data: bytes, now: float) -> None:
        self.packets.append((index, peer, data))

    def relay_stranger(self, index: int, source: Address, data: bytes) -> None:
        self.strangers.append((index, source, data))

    def emit(self, event: ConnectionEvent) -> None:
        self.events.append(event)

    def relay_forbids(self, error: RelayError) -> None:
        self.forbidden.append(error)

    def relays_lost(self) -> None:
        self.ended += 1

    def relays_changed(self) -> None:
        self.changes += 1


class Bench:
    """Holdings, their owner and agent, and a lender if there is one."""

    def __init__(self, site: Site, *, lent: bool = True) -> None:
        self._site = site
        self.owner = Owner()
        self.lender = LenderLog()
        self.agent = Agent(True, "user", "a password of 22 chars.", os.urandom)
        self.timers = Timers()
        self.held = Holdings(self.agent, self.owner, self.lender if lent else None, self.timers)

    async def add(self, relay: Relay, index: int | None = None) -> Allocation:
        """Allocate over TCP, where the end of a relay is noticed at once, and use it."""
        allocation = await self._site.allocation(server(relay, "tcp"))
        self.held.add(allocation, index)
        return allocation


@asynccontextmanager
async def bench(site: Site, *, lent: bool = True) -> AsyncIterator[Bench]:
    made = Bench(site, lent=lent)
    try:
        yield made
    finally:
        await made.held.close()


def freeze(relay: Relay) -> None:
    """Its UDP socket stays open and answers nothing."""
    assert relay._udp is not None
    asyncio.get_running_loop().remove_reader(relay._udp._socket)


# --- added ------------------------------------------------------------------------------------------------------------


async def test_they_are_numbered_as_they_come_and_earlier_ones_are_preferred(site: Site) -> None:
    relay = await site.relay()
    async with bench(site) as made:
        await made.add(relay, 0)
        await made.add(relay, 3)  # 1 and 2 could not be had
        allocations = [await made.add(relay) for _ in range(2)]
        assert list(made.held.allocations) == list(made.held.candidates) == [0, 3, 4, 5]
        assert made.held.allocations[4] is allocations[0]
        found = made.held.candidates[5]
        assert found.address == allocations[1].relayed
        assert found.priority == priority(5) < made.held.candidates[4].priority
        assert found.leg == allocations[1].rtt
        assert made.owner.changes == 4
        await made.held.close()
        assert relay.active == 0
        assert made.held.allocations == {}


async def test_packets_and_strangers_come_with_the_number(site: Site) -> None:
    relay = await site.relay()
    async with bench(site) as made:
        peer, stranger = [await site.allocation(server(relay)) for _ in range(2)]
        await made.add(relay)
        ours = await made.add(relay)
        ours.add_peer(peer.relayed)
        for other in (peer, stranger):
            other.add_peer(ours.relayed)
        await asyncio.sleep(0.02)
        for other in (peer, stranger):
            other.send(ours.relayed, b"\x00 whatever")
        await eventually(lambda: made.owner.packets and made.owner.strangers)
        assert made.owner.packets == [(1, peer.relayed, b"\x00 whatever")]
        assert made.owner.strangers == [(1, stranger.relayed, b"\x00 whatever")]


async def test_a_peer_the_relay_forbids(site: Site) -> None:
    strict = await site.relay(laboratory=False)
    async with bench(site) as made:
        allocation = await made.add(strict)
        peer = Address("127.0.0.1", 5000)
        made.agent.add_remote(peer, 1, 0.0)
        assert (0, peer) in made.agent.pairs
        allocation.add_peer(peer)
        await eventually(lambda: made.owner.forbidden)
        assert made.held.failures == made.owner.forbidden
        assert made.agent.all_refused


# --- asked ------------------------------------------------------------------------------------------------------------


async def test_a_relay_that_answers_is_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.15)
    relay = await site.relay()
    async with bench(site) as made:
        await made.add(relay)
        made.held.ask(0)
        made.held.ask(7)  # there is none
        await asyncio.sleep(0.3)
        assert made.lender.doubted == []


@pytest.mark.slow
async def test_a_relay_that_does_not_answer_is_called_failing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.15)
    relay = await site.relay()
    async with bench(site) as made:
        allocation = await site.allocation(server(relay))
        made.held.add(allocation)
        await asyncio.sleep(0.01)
        freeze(relay)
        made.held.ask(0)
        made.held.ask(0)
        await asyncio.sleep(0.05)
        assert made.lender.doubted == []  # it has a moment
        await eventually(lambda: made.lender.doubted)
        assert made.lender.doubted == [allocation]  # once, though asked twice
        assert allocation.alive  # and it is not lost yet
        made.held.ask(0)
        await eventually(lambda: len(made.lender.doubted) == 2)


async def test_an_allocation_lost_before_it_is_judged_is_not_judged(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.1)
    relay, other = await site.relay(), await site.relay()
    async with bench(site) as made:
        await made.add(relay)
        await made.add(other)
        made.held.ask(0)
        await relay.close()
        await eventually(lambda: made.lender.gone)
        await asyncio.sleep(0.15)
        assert made.lender.doubted == []


async def test_what_fails_is_told_to_the_lender(site: Site) -> None:
    relay = await site.relay()
    async with bench(site) as made, bench(site, lent=False) as alone:
        allocation = await made.add(relay)
        made.held.fails(0)
        made.held.fails(1)
        assert made.lender.doubted == [allocation]
        await alone.add(relay)
        alone.held.fails(0)  # nobody to tell


# --- lost -------------------------------------------------------------------------------------------------------------


async def test_a_lost_one_is_told_to_everybody(site: Site) -> None:
    relay, other = await site.relay(), await site.relay()
    async with bench(site) as made:
        lost, _ = await made.add(relay), await made.add(other)
        changes = made.owner.changes
        await relay.close()
        await eventually(lambda: made.lender.gone)
        ((allocation, error),) = made.lender.gone
        assert allocation is lost
        assert type(error) is RelayLost
        assert made.owner.events == [RelayGone(error)]
        assert made.held.failures == [error]
        assert list(made.held.allocations) == list(made.held.candidates) == [1]
        assert made.owner.changes == changes + 1
        assert not made.owner.ended


async def test_without_a_lender_the_last_one_is_the_end(site: Site) -> None:
    relay, other = await site.relay(), await site.relay()
    async with bench(site, lent=False) as made:
        await made.add(relay)
        await made.add(other)
        await relay.close()
        await eventually(lambda: made.held.failures)
        assert not made.owner.ended
        await other.close()
        await eventually(lambda: made.owner.ended, timeout=0.5)
        assert made.owner.ended == 1
        assert len(made.owner.events) == 2


async def test_without_any_relay_for_long_it_is_the_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELAYLESS", 0.4)
    relay = await site.relay()
    async with bench(site) as made:
        await made.add(relay)
        await relay.close()
        await eventually(lambda: made.lender.gone)
        assert not made.owner.ended
        await eventually(lambda: made.owner.ended)
        assert made.owner.ended == 1


async def test_the_time_counts_from_the_last_word_of_a_relay(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELAYLESS", 0.4)
    relay = await site.relay()
    async with bench(site) as made:
        await made.add(relay)
        await asyncio.sleep(0.5)
        await relay.close()
        await eventually(lambda: made.owner.ended, timeout=0.3)


async def test_a_replacement_in_time_and_it_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELAYLESS", 0.4)
    relay, other = await site.relay(), await site.relay()
    async with bench(site) as made:
        await made.add(relay)
        await relay.close()
        await eventually(lambda: made.lender.gone)
        await made.add(other)
        await asyncio.sleep(0.5)
        assert not made.owner.ended


async def test_a_replacement_that_is_lost_too_starts_the_time_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELAYLESS", 0.6)
    relay, other = await site.relay(), await site.relay()
    async with bench(site) as made:
        await made.add(relay)
        await relay.close()
        await eventually(lambda: made.lender.gone)
        await asyncio.sleep(0.3)
        await made.add(other)
        await other.close()
        await eventually(lambda: len(made.lender.gone) == 2)
        await asyncio.sleep(0.4)
        assert not made.owner.ended


# --- retired ----------------------------------------------------------------------------------------------------------


async def test_a_retired_one_lingers_and_goes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER", 0.2)
    relay, other = await site.relay(), await site.relay()
    async with bench(site) as made:
        old, new = await made.add(relay), await made.add(other)
        made.held.retire(old)
        assert list(made.held.candidates) == [1]
        assert list(made.held.allocations) == [0, 1]
        await asyncio.sleep(0.05)
        assert old.alive
        await eventually(lambda: relay.active == 0)
        assert list(made.held.allocations) == [1]
        assert new.alive
        assert made.owner.events == made.lender.gone == []


async def test_retiring_what_is_not_held_does_nothing(site: Site) -> None:
    relay = await site.relay()
    async with bench(site) as made:
        held = await made.add(relay)
        stranger = await site.allocation(server(relay))
        changes = made.owner.changes
        made.held.retire(stranger)
        assert made.owner.changes == changes
        await made.held.close()
        made.held.retire(held)
        assert made.owner.changes == changes


async def test_the_loss_of_a_retired_one_is_no_event(site: Site) -> None:
    relay, other = await site.relay(), await site.relay()
    async with bench(site) as made:
        old, _ = await made.add(relay), await made.add(other)
        made.held.retire(old)
        await relay.close()
        await eventually(lambda: made.lender.gone)
        assert made.owner.events == []
        assert list(made.held.allocations) == [1]


@pytest.mark.slow
async def test_one_that_still_carries_the_call_is_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER", 0.1)
    near, far = await site.relay(), await site.relay()
    lender = LenderLog()
    alice, bob = await site.pair([server(near)], [server(far)], lender=lender)
    async with talking(alice, bob) as voices:
        (old,) = bob._held.allocations.values()
        bob.retire_allocation(old)
        assert bob.local_candidates == []
        await asyncio.sleep(0.4)
        assert old.alive
        for voice in voices:
            await voice.hears()
        assert bob.selected() == [server(far).name]
        assert bob.told(RelayGone) == lender.gone == []


@pytest.mark.parametrize("controlling", [True, False])
async def test_it_is_left_as_soon_as_there_is_another_way(
    site: Site, monkeypatch: pytest.MonkeyPatch, controlling: bool
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.1)
    near, far, other = [await site.relay() for _ in range(3)]
    alice, bob = await site.pair([server(near)], [server(far)])
    side, peer, relay = (alice, bob, near) if controlling else (bob, alice, far)
    async with talking(alice, bob) as voices:
        (old,) = side._held.allocations.values()
        new = await site.allocation(server(other))
        side.add_allocation(new)
        side.retire_allocation(old)  # in one go, as a pool does it
        peer.set_remotes([old.relayed, new.relayed])
        await eventually(lambda: relay.active == 0, timeout=1.0)
        for voice in voices:
            await voice.hears()
            assert voice.missing == 0


# --- closed -----------------------------------------------------------------------------------------------------------


async def test_close_leaves_no_timer_and_no_task(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every timer running: an answer due, a retired one, one on its way out, and no relay left."""
    monkeypatch.setattr(module, "LINGER", 0.05)
    relays = [await site.relay() for _ in range(3)]
    async with bench(site) as made:
        first, second, _ = [await made.add(relay) for relay in relays]
        made.held.retire(first)
        await eventually(lambda: 0 not in made.held.allocations)
        made.held.retire(second)
        made.held.ask(2)
        for relay in relays:
            await relay.close()
        await eventually(lambda: not made.held.allocations)
        assert len(made.timers._handles) >= 2
        async with asyncio.timeout(1.5):
            await made.held.close()
        await made.held.close()
    assert not made.owner.ended


async def test_a_call_whose_relays_are_all_lost_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELAYLESS", 0.3)
    near, far = await site.relay(), await site.relay()
    _, bob = await site.pair([server(near)], [server(far, "tcp")], lender=LenderLog())
    bob.watch()
    await far.close()
    async with asyncio.timeout(2.0):
        ended = await bob.ended()
    assert type(ended) is RelaysLost
    assert [type(why) for why in ended.failures] == [RelayLost]
