"""Two agents find each other: how fast, on which path, in which role. Virtual time, seeded."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from relaycall.ice.agent import MAX_PAIRS, Agent
from relaycall.ice.agent_events import Reached
from relaycall.ice.candidate import priority
from relaycall.ice.pair import PairState
from relaycall.stun import attributes as a
from relaycall.stun.address import IPV4, IPV6, Address
from relaycall.stun.message import Class, Message, Method, decode
from tests.ice.network import Network, Side

SEEDS = range(10)


def connected(network: Network) -> bool:
    return network.connected


def agreed(network: Network) -> bool:
    return network.agreed


# --- one round trip ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rtt", [0.0, 0.05, 0.15, 0.3])
@pytest.mark.parametrize("skew", [0.0, 0.003, 0.02, 0.1])
def test_both_are_connected_after_one_round_trip_of_checks(rtt: float, skew: float) -> None:
    """A path from end to end takes one relay round trip each way, so a check and its answer take two.

    On top comes what the race for the permissions costs: 13 ms at the most over these seeds.
    """
    for seed in SEEDS:
        network = Network(seed, rtt=rtt, jitter=0.002)
        network.start(2, 2, skew=skew if seed % 2 else -skew)
        took = network.run(5, connected)
        assert took - skew <= 2 * rtt + 0.030


@pytest.mark.parametrize("rtt", [0.05, 0.15, 0.3])
def test_who_was_checked_may_send_before_it_is_answered(rtt: float) -> None:
    """Half of a round trip of checks is saved: what is sent then arrives."""
    for seed in SEEDS:
        network = Network(seed, rtt=rtt, jitter=0.002)
        network.start(2, 2)
        start = network.now
        network.run(5, connected)
        for side in (network.a, network.b):
            reached = [at for at, event in side.history if isinstance(event, Reached)]
            assert reached[0] - start <= rtt + 0.030
            assert side.connected_at is not None
            assert reached[-1] <= side.connected_at, "not once there is something better"


@pytest.mark.parametrize("wait", [0.2, 0.3, 0.35, 0.5, 1.9, 2.5, 10.0])
def test_who_waits_for_the_other_is_connected_within_one_more_interval(wait: float) -> None:
    """All that `a` sent was dropped for want of a permission; it repeats every 50 ms, and when it hears of `b`."""
    network = Network(rtt=0.05)
    network.a.allocate(0)
    network.b.allocate(0)
    network.meet(network.a)
    network.run(wait)
    network.meet(network.b)
    assert network.run(1, lambda network: network.b.connected_at is not None) <= 2 * 0.05 + 0.001
    assert network.run(1, connected) <= 0.050 + 0.001


def test_nothing_is_sent_before_there_is_a_pair() -> None:
    network = Network()
    network.a.allocate(0)
    network.run(10)
    assert not network.a.checks
    assert network.a.agent.next_timeout() == float("inf")


def test_the_first_checks_come_fast_and_then_once_a_second() -> None:
    network = Network()
    network.a.allocate(0)
    network.a.learn(Address("2.2.2.1", 50000), 0)
    network.run(10)
    times = [at - 100 for at, *_ in network.a.checks]
    assert times[:6] == pytest.approx([0, 0.01, 0.03, 0.06, 0.10, 0.15])
    assert sum(at < 2 for at in times) == 43
    assert [later - at for at, later in pairwise(times) if at > 2.1] == pytest.approx([1.0] * 6)


def test_what_checks_and_answers_carry() -> None:
    """RFC 8445, sections 7.1 and 7.3.1."""
    network = Network()
    network.connect()
    for side in network.sides:
        peer = network.peer(side)
        priorities = {pair.local: priority(pair.local) for pair in side.agent.pairs.values()}
        for _, local, _, data in side.checks:
            check = decode(data)
            assert check.get(a.USERNAME) == f"{peer.agent.ufrag}:{side.agent.ufrag}"
            assert check.get(a.PRIORITY) == priorities[local]
            assert check.has(a.ICE_CONTROLLING) is side.agent.controlling
            assert check.has(a.ICE_CONTROLLED) is not side.agent.controlling
            assert check.verify(peer.agent.pwd.encode())
            assert check.has(a.FINGERPRINT)
    answers = [(side, decode(data)) for side, _, _, data in network.delivered if data[0] == 1]
    assert answers
    for side, answer in answers:
        assert answer.verify(network.peer(side).agent.pwd.encode())
        assert answer.has(a.FINGERPRINT)
        assert answer.get(a.XOR_MAPPED_ADDRESS) == side.relays[0]


# --- one pair ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_both_ends_agree_on_one_pair(loss: float) -> None:
    for seed in SEEDS:
        network = Network(seed, rtt=0.05, loss=loss, jitter=0.02)
        network.start(2, 2)
        network.run(10, agreed)
        assert network.agreed
        if not loss:
            network.run(2)
            moves = network.a.moves(), network.b.moves()
            network.run(20)
            assert network.agreed
            assert (network.a.moves(), network.b.moves()) == moves


def test_the_first_relays_are_preferred_among_equals() -> None:
    for seed in SEEDS:
        network = Network(seed, rtt=0.05, jitter=0.01)
        network.connect(3, 2)
        assert network.a.selected == (network.a.relays[0], network.b.relays[0])


def test_a_much_slower_first_relay_is_not_preferred() -> None:
    network = Network(rtt=0.05)
    for first in (network.a, network.b):
        first.allocate(0)
        first.allocate(1)
    network.slow = {
        (one, other): 0.1
        for one in network.a.relays.values()
        for other in network.b.relays.values()
        if one == network.a.relays[0] or other == network.b.relays[0]
    }
    network.meet(network.a)
    network.meet(network.b)
    network.run(2)
    assert network.a.selected == (network.a.relays[1], network.b.relays[1])


def test_a_preferred_pair_that_answers_late_does_not_move_a_settled_call() -> None:
    network = Network(rtt=0.05)
    path = (Address("1.1.1.1", 50000), Address("2.2.2.1", 50000))
    network.blocked = {path}
    network.start(2, 1)
    network.run(2)
    assert network.a.selected == (network.a.relays[1], network.b.relays[0])
    network.blocked.clear()
    network.run(10)
    assert network.a.agent.pairs[0, path[1]].state is PairState.VALID
    assert network.a.selected == (network.a.relays[1], network.b.relays[0])
    assert network.agreed


def test_a_renomination_that_is_lost_or_late_converges() -> None:
    """The nominating checks of a move are lost or overtaken; the ones after it carry the same number again."""
    for seed in SEEDS:
        network = Network(seed, rtt=0.05, jitter=0.05)
        network.connect(2, 2)
        network.loss, network.jitter = 0.5, 0.4
        network.a.agent.suspect_local(network.a.agent.selected.local, network.now)  # type: ignore[union-attr]
        network.run(3)
        network.loss, network.jitter = 0.0, 0.05
        network.run(3)
        assert network.agreed
        moves = network.b.moves()
        network.run(10)
        assert network.agreed
        assert network.b.moves() == moves


def test_an_old_nomination_that_arrives_late_changes_nothing() -> None:
    network = Network(rtt=0.05)
    network.connect(2, 2)
    old = network.a.selected
    assert old is not None
    captured = [entry for entry in network.delivered if entry[0] is network.b and entry[2] == old[0]]
    network.a.agent.suspect_local(0, network.now)
    network.run(3)
    chosen = network.b.selected
    assert network.agreed
    assert chosen != old[::-1]
    moves = network.b.moves()
    for _, local, source, data in captured:
        network.b.agent.receive(local, source, data, network.now)
    network.run(1)
    assert network.b.selected == chosen
    assert network.b.moves() == moves


def nominate(network: Network, local: int, source: Address, number: int) -> None:
    """A nomination that reaches `b` as if `a` had sent it."""
    b = network.b.agent
    pairs = [a.USERNAME(f"{b.ufrag}:{network.a.agent.ufrag}"), a.USE_CANDIDATE(None), a.NOMINATION(number)]
    data = Message(Method.BINDING, Class.REQUEST, bytes(12), pairs).encode(b.pwd.encode())
    b.receive(local, source, data, network.now)
    network.pump()


def test_of_nominations_with_one_number_the_first_counts() -> None:
    network = Network()
    network.connect(2, 2)
    nominate(network, 0, network.a.relays[1], 50)
    nominate(network, 1, network.a.relays[1], 50)
    assert network.b.selected == (network.b.relays[0], network.a.relays[1])
    nominate(network, 1, network.a.relays[1], 51)
    assert network.b.selected == (network.b.relays[1], network.a.relays[1])


def test_a_nominated_pair_is_taken_as_soon_as_it_answers() -> None:
    network = Network()
    path = (Address("1.1.1.2", 50000), Address("2.2.2.2", 50000))
    network.blocked = {path, path[::-1]}
    network.start(2, 2)
    network.run(5)
    before, pair = network.b.selected, network.b.agent.pairs[1, path[0]]
    nominate(network, 1, path[0], 50)
    network.run(1)
    assert network.b.selected == before
    network.blocked.clear()
    network.run(5, lambda _network: pair.state is PairState.VALID)
    assert network.b.selected == path[::-1]


# --- roles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", [True, False], ids=["controlling", "controlled"])
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_a_role_conflict_is_settled(both: bool, loss: float) -> None:
    for seed in SEEDS:
        network = Network(seed, rtt=0.05, loss=loss, jitter=0.01, controlling=(both, both))
        network.start(2, 2, skew=0.02)
        network.run(10, agreed)
        network.loss = 0.0
        network.run(3)
        assert network.agreed
        assert network.a.agent.controlling != network.b.agent.controlling
        larger = network.a if network.a.agent._tie_breaker > network.b.agent._tie_breaker else network.b
        assert larger.agent.controlling


def test_a_role_conflict_costs_little() -> None:
    for seed in SEEDS:
        network = Network(seed, rtt=0.05, controlling=(True, True))
        network.start(2, 2)
        assert network.run(5, agreed) <= 4 * 0.05 + 0.030


def without_numbers(side: Side, peer: Side) -> None:
    """Make this side one that does not know NOMINATION."""
    added = (a.MESSAGE_INTEGRITY, a.FINGERPRINT, a.NOMINATION)

    def rewrite(data: bytes) -> bytes:
        message = decode(data)
        if not message.has(a.NOMINATION):
            return data
        kept = [(attribute, value) for attribute, value in message.attributes if attribute not in added]
        return Message(message.method, message.kind, message.transaction_id, kept).encode(
            peer.agent.pwd.encode(), fingerprint=True
        )

    side.rewrite = rewrite


def test_a_stock_peer_without_numbers_is_followed() -> None:
    for seed in SEEDS:
        network = Network(seed, rtt=0.05, jitter=0.01)
        without_numbers(network.a, network.b)
        network.start(2, 2)
        network.run(2)
        assert network.agreed
        chosen = network.a.agent.selected
        assert chosen is not None
        assert network.b.agent.selected is not None
        assert network.b.agent.selected.nomination == 0
        network.a.agent.suspect_local(chosen.local, network.now)
        network.run(2)
        assert network.a.agent.selected is not chosen
        assert network.agreed


# --- candidates -------------------------------------------------------------------------------------------------------


def test_candidates_may_come_at_any_time() -> None:
    network = Network(rtt=0.05)
    network.connect()
    first = network.a.selected
    late_a, late_b = network.a.allocate(1), network.b.allocate(1)
    for known in network.b.relays.values():
        network.a.permit(late_a, known)
    for known in network.a.relays.values():
        network.b.permit(late_b, known)
    network.a.learn(late_b, 1)
    network.b.learn(late_a, 1)
    network.run(1)
    assert len(network.a.agent.pairs) == len(network.b.agent.pairs) == 4
    assert all(pair.state is PairState.VALID for pair in network.a.agent.pairs.values())
    assert network.a.selected == first  # more relays are no reason to move
    network.dead.add(network.a.relays[0])
    network.run(3)
    assert network.a.selected == (late_a, late_b)
    assert network.agreed


def test_only_addresses_of_one_family_are_paired() -> None:
    agent = Agent(True, "ufrag", "password-of-22-characters", random.Random(1).randbytes)
    agent.add_local(0, IPV4, priority(0), 0.0)
    agent.add_local(1, IPV6, priority(1), 0.0)
    agent.add_remote(Address("2.2.2.2", 5000), priority(0), 0.0)
    agent.add_remote(Address("2a00::2", 5000), priority(1), 0.0)
    assert list(agent.pairs) == [(0, Address("2.2.2.2", 5000)), (1, Address("2a00::2", 5000))]


def test_pairs_are_bounded_and_a_candidate_counts_once() -> None:
    agent = Agent(True, "ufrag", "password-of-22-characters", random.Random(1).randbytes)
    for index in range(9):
        agent.add_local(index, IPV4, priority(index), 0.0)
    for index in range(9):
        agent.add_remote(Address("2.2.2.2", 5000 + index), priority(index), 0.0)
        agent.add_remote(Address("2.2.2.2", 5000 + index), priority(index), 0.0)
    assert len(agent.pairs) == MAX_PAIRS == 64


def test_priorities_are_those_of_rfc_8445_and_the_same_on_both_ends() -> None:
    network = Network()
    network.start(2, 2)
    network.run(0.1)
    mine = {(pair.local, pair.remote.host): pair.priority for pair in network.a.agent.pairs.values()}
    theirs = {
        (int(pair.remote.host[-1]) - 1, network.b.relays[pair.local].host): pair.priority
        for pair in network.b.agent.pairs.values()
    }
    assert mine == theirs
    g, d = priority(1), priority(0)
    assert mine[1, "2.2.2.1"] == 2**32 * min(g, d) + 2 * max(g, d) + (1 if g > d else 0)


def test_refused_pairs_are_not_checked_and_when_all_are_it_shows() -> None:
    network = Network()
    network.start(1, 2)
    agent = network.a.agent
    first, second = network.b.relays.values()
    agent.refuse_pair(0, first, network.now)
    assert not agent.all_refused
    network.a.checks.clear()
    network.run(1)
    assert {remote for _, _, remote, _ in network.a.checks} == {second}
    agent.remove_remote(first, network.now)
    agent.add_remote(first, priority(0), network.now)
    assert list(agent.pairs) == [(0, second)]
    agent.refuse_pair(0, second, network.now)
    assert agent.all_refused
    assert agent.selected is None


def test_nothing_is_refused_when_nothing_was_tried() -> None:
    assert not Agent(True, "ufrag", "password-of-22-characters", random.Random(1).randbytes).all_refused
