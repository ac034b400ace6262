"""The peer's addresses: told, learnt, replaced, and never more than a few."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import RecordRefused
from relaycall.ice.agent import Agent
from relaycall.ice.candidate import priority
from relaycall.ice.holdings import LINGER, Holdings
from relaycall.ice.remotes import Remotes
from relaycall.ice.timers import Timers
from relaycall.stun.address import IPV4, IPV6, Address


def address(number: int) -> Address:
    return Address("2.2.2.2", 5000 + number)


class Wire:
    """An allocation, as far as its peers go."""

    def __init__(self, host: str = "1.1.1.1") -> None:
        self.relayed = Address(host, 5000)
        self.peers: list[Address] = []
        self.full = False

    def add_peer(self, peer: Address) -> None:
        assert peer.family == self.relayed.family
        if self.full:
            raise ValueError
        if peer not in self.peers:
            self.peers.append(peer)

    def remove_peer(self, peer: Address) -> None:
        if peer in self.peers:
            self.peers.remove(peer)


class World:
    """A list of the peer's, our one allocation, the agent, and timers that the test lets go off."""

    def __init__(self, *told: int, paired: bool = True) -> None:
        self.wire = Wire()
        self.agent = Agent(True, "user", "a password of 22 chars.", random.Random(1).randbytes)
        self.agent.add_local(0, IPV4, 1, 0.0)
        self.waiting: list[Callable[[], None]] = []
        self.wires: dict[int, Wire] = {0: self.wire}
        held = cast(Holdings, SimpleNamespace(allocations=self.wires))
        self.remotes = Remotes(self.agent, held, cast(Timers, self))
        for number in told:
            self.remotes.add(address(number), priority(number), 0.0)
        if paired:
            self.remotes.pair_up()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        assert seconds == LINGER
        self.waiting.append(action)

    def linger(self) -> None:
        """The time is over."""
        waiting, self.waiting = self.waiting, []
        for action in waiting:
            action()

    def select(self, number: int) -> None:
        self.agent.failover.chosen = self.agent.pairs[0, address(number)]

    @property
    def numbers(self) -> list[int]:
        """What the peer is at, as far as we know."""
        return [candidate.port - 5000 for candidate in self.remotes]

    @property
    def paired(self) -> list[int]:
        """What is checked. A peer that is not paired is not a peer of the relay's either."""
        assert sorted(remote.port for _, remote in self.agent.pairs) == sorted(peer.port for peer in self.wire.peers)
        return [peer.port - 5000 for peer in self.wire.peers]


# --- told -------------------------------------------------------------------------------------------------------------


async def test_four_are_told_each_once_and_a_fifth_is_refused() -> None:
    world = World(1, 2, 1, 3, 4, 4)
    with pytest.raises(RecordRefused, match="more than 4"):
        world.remotes.add(address(5), 1, 0.0)
    world.remotes.add(address(2), 1, 0.0)
    assert world.numbers == world.paired == [1, 2, 3, 4]


async def test_what_was_told_of_an_address_is_kept() -> None:
    world = World()
    world.remotes.add(address(1), 777, 0.025)
    (found,) = world.remotes
    assert (found.priority, found.leg, found.type, found.transport) == (777, 0.025, "relay", "udp")
    assert found.address == address(1)


async def test_nothing_is_checked_before_it_is_time() -> None:
    world = World(1, 2, paired=False)
    assert world.numbers == [1, 2]
    assert world.paired == []
    world.remotes.pair_with(world.wire)  # type: ignore[arg-type]
    assert world.paired == []
    world.remotes.pair_up()
    assert world.paired == [1, 2]


async def test_a_new_allocation_takes_all_of_its_family() -> None:
    world = World(1, 2)
    world.remotes.add(Address("2a00::1", 5003), 1, 0.0)
    assert world.paired == [1, 2]
    for wire, peers in ((Wire(), 2), (Wire("2a00::2"), 1)):
        world.remotes.pair_with(wire)  # type: ignore[arg-type]
        assert {peer.family for peer in wire.peers} == {IPV4 if peers == 2 else IPV6}
        assert len(wire.peers) == peers


async def test_numbers_are_places_in_the_list() -> None:
    world = World(1, 2)
    assert [world.remotes.number(address(number)) for number in (1, 2, 3)] == [0, 1, -1]


# --- learnt -----------------------------------------------------------------------------------------------------------


async def test_what_is_learnt_does_not_take_the_place_of_what_is_told() -> None:
    world = World(1)
    for number in (11, 12, 13, 14):
        world.remotes.learn(address(number))
    for number in (2, 3, 4):
        world.remotes.add(address(number), 1, 0.0)
    assert world.numbers == world.paired == [1, 11, 12, 13, 14, 2, 3, 4]
    with pytest.raises(RecordRefused):
        world.remotes.add(address(5), 1, 0.0)


async def test_four_are_learnt_and_the_oldest_makes_room() -> None:
    world = World(1)
    for number in (11, 12, 13, 14, 11, 1):  # known ones change nothing
        world.remotes.learn(address(number))
    assert world.numbers == [1, 11, 12, 13, 14]
    world.remotes.learn(address(15))
    assert world.numbers == world.paired == [1, 12, 13, 14, 15]
    world.remotes.learn(address(11))  # it may come back
    assert world.numbers == world.paired == [1, 13, 14, 15, 11]


async def test_an_address_that_no_channel_is_left_for_is_counted() -> None:
    world = World(1)
    world.wire.full = True
    world.remotes.learn(address(11))
    world.remotes.replace([address(2), address(3)])
    assert world.remotes.dropped == {"channel": 3}
    assert world.numbers == [2, 3]


# --- replaced ---------------------------------------------------------------------------------------------------------


async def test_all_that_the_peer_has_replaces_all_it_had() -> None:
    world = World(1, 2)
    world.remotes.learn(address(11))
    world.remotes.replace([address(2), address(3)])
    assert world.numbers == [2, 3]
    assert world.paired == [1, 2, 11, 3]  # for a moment, until it is known that the new one works
    assert {remote.port - 5000 for (_, remote), pair in world.agent.pairs.items() if pair.retiring} == {1, 11}
    world.linger()
    assert world.numbers == world.paired == [2, 3]
    world.remotes.replace([address(2), address(3)])
    assert not world.waiting
    assert world.numbers == world.paired == [2, 3]


async def test_of_a_longer_list_four_count_each_once() -> None:
    world = World(1, 2, 3, 4)
    world.remotes.replace([address(number) for number in (5, 5, 6, 7, 8, 9)])
    assert world.numbers == [5, 6, 7, 8]
    assert [candidate.priority for candidate in world.remotes] == [priority(index) for index in range(4)]


async def test_what_still_carries_the_call_is_kept_until_it_does_not() -> None:
    world = World(1)
    world.select(1)
    world.remotes.replace([address(2)])
    for _ in range(3):
        world.linger()
        assert world.paired == [1, 2]
        assert world.numbers == [2]
    world.select(2)
    world.linger()
    assert world.paired == [2]
    assert not world.waiting


async def test_what_is_told_again_in_time_is_not_given_up() -> None:
    world = World(1)
    world.remotes.replace([address(2)])
    world.remotes.replace([address(2), address(1)])
    assert not any(pair.retiring for pair in world.agent.pairs.values())
    world.linger()
    assert sorted(world.numbers) == sorted(world.paired) == [1, 2]


async def test_no_more_than_four_are_kept_for_a_moment() -> None:
    world = World(1, 2, 3, 4)
    world.remotes.replace([address(number) for number in (5, 6, 7, 8)])
    assert len(world.paired) == 8
    world.remotes.replace([address(number) for number in (9, 10, 11, 12)])
    assert world.paired == [5, 6, 7, 8, 9, 10, 11, 12]
    world.linger()
    assert world.paired == [9, 10, 11, 12]


async def test_a_learnt_address_that_is_told_stays_when_others_are_learnt() -> None:
    world = World(1)
    world.remotes.learn(address(11))
    world.remotes.replace([address(1), address(11)])
    for number in (12, 13, 14, 15, 16):
        world.remotes.learn(address(number))
    assert world.numbers == [1, 11, 13, 14, 15, 16]


Steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "learn", "replace", "linger"]), st.lists(st.integers(0, 16), min_size=1, max_size=6)
    ),
    max_size=30,
)


@given(Steps)
async def test_whatever_the_peer_does_there_are_at_most_twelve(steps: list[tuple[str, list[int]]]) -> None:
    world = World()
    for what, numbers in steps:
        if what == "linger":
            world.linger()
            assert set(world.numbers) == set(world.paired)
        elif what == "replace":
            world.remotes.replace([address(number) for number in numbers])
            assert set(world.numbers) == set(list(dict.fromkeys(numbers))[:4])
        else:
            for number in numbers:
                if what == "learn":
                    world.remotes.learn(address(number))
                    assert number in world.paired
                    continue
                try:
                    world.remotes.add(address(number), 1, 0.0)
                except RecordRefused:
                    assert number not in world.paired
        assert len(world.numbers) <= 8
        assert len(world.paired) <= 12
        assert set(world.numbers) <= set(world.paired)
