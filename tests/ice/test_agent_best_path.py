"""The path for two: expectation first, then what is measured from end to end."""

from __future__ import annotations

import pytest

from relaycall.ice.candidate import priority
from relaycall.stun.address import Address
from tests.ice.network import Network, Side

NEAR, COMMON = 0, 1  # each side's nearest relay, and one that lies between the two


def lengthen(network: Network, one: Address, other: Address, seconds: float) -> None:
    """Make the way between two relays longer, in both directions."""
    for path in ((one, other), (other, one)):
        network.slow[path] = seconds


def introduce(side: Side, peer: Side, mine: tuple[float, ...], theirs: tuple[float, ...]) -> None:
    """As `Side.allocate` and `Side.learn` do, with round trips to the relays in seconds."""
    for index, leg in enumerate(mine):
        address = Address(f"{side.host}{index + 1}", 50000)
        side.relays[index] = address
        side.agent.add_local(index, address.family, priority(index), side.network.now, leg)
    for index, leg in enumerate(theirs):
        remote = Address(f"{peer.host}{index + 1}", 50000)
        for local in side.relays.values():
            side.permit(local, remote)
        side.agent.add_remote(remote, priority(index), side.network.now, leg)


def wrong_nearest(seed: int, jitter: float = 0.0) -> Network:
    """Each side's nearest relay is 10 ms away, but far from all others; the common ones are 30 ms away and adjacent."""
    network = Network(seed, rtt=0.02, jitter=jitter)
    introduce(network.a, network.b, (0.01, 0.03), (0.01, 0.03))
    introduce(network.b, network.a, (0.01, 0.03), (0.01, 0.03))
    for one in network.a.relays:
        for other in network.b.relays:
            lengthen(network, network.a.relays[one], network.b.relays[other], 0.02 if one == other == COMMON else 0.2)
    network.pump()
    return network


def test_the_measured_path_wins_where_each_ones_nearest_relay_is_the_wrong_choice() -> None:
    for seed in range(5):
        network = wrong_nearest(seed, jitter=0.01)
        network.run(30)
        assert network.agreed
        assert network.a.selected == (network.a.relays[COMMON], network.b.relays[COMMON])
        moves = network.a.moves()
        network.run(60)
        assert network.a.moves() == moves


def test_a_sum_of_legs_that_is_less_is_preferred_at_once() -> None:
    """The order of configuration says relay 0, both sides' round trips say relay 1, and all paths answer alike."""
    network = Network(1, rtt=0.02)
    introduce(network.a, network.b, (0.08, 0.02), (0.09, 0.03))
    introduce(network.b, network.a, (0.09, 0.03), (0.08, 0.02))
    network.run(0.4)
    assert network.agreed
    assert network.a.selected == (network.a.relays[1], network.b.relays[1])


def test_without_legs_the_order_of_configuration_counts() -> None:
    network = Network(1, rtt=0.02)
    introduce(network.a, network.b, (0.0, 0.0), (0.0, 0.0))
    introduce(network.b, network.a, (0.0, 0.0), (0.0, 0.0))
    network.run(0.4)
    assert network.a.selected == (network.a.relays[0], network.b.relays[0])


@pytest.mark.slow
def test_equal_paths_with_jitter_are_not_swapped() -> None:
    for seed in range(4):
        network = Network(seed, rtt=0.05, jitter=0.03)
        network.connect(2, 2)
        moves = network.a.moves()
        network.run(100)
        assert network.a.moves() == moves


def test_a_path_that_becomes_much_slower_is_left() -> None:
    network = Network(3, rtt=0.05)
    network.connect(2, 2)
    first = network.a.selected
    assert first is not None
    network.run(15)
    network.slow[first] = 0.3
    network.run(60)
    assert network.agreed
    assert network.a.selected != first
