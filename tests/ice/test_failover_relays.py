"""Relays that are given up, that fail, or that both sides share, in virtual time; and what checks ask for in doubt."""

from __future__ import annotations

import pytest

from relaycall.ice.agent_events import Doubled, LocalFailing, Selected
from relaycall.ice.candidate import priority
from relaycall.ice.decisions import Fact, Probe
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import decode
from tests.ice.network import Network, Path, Side


def call(relays: int = 2, seed: int = 1) -> tuple[Network, Path]:
    network = Network(seed, rtt=0.02, jitter=0.004)
    network.call(relays, relays, 3.0)
    path = network.a.selected
    assert path is not None
    return network, path


def failing(side: Side, since: float = 0.0) -> list[int]:
    return [event.local for at, event in side.history if isinstance(event, LocalFailing) and at >= since]


def introduce(network: Network, index: int, address: Address | None = None) -> Address:
    """One more relay of `a`, that both sides use at once."""
    address = network.a.allocate(index, address)
    for remote in network.b.relays.values():
        network.a.permit(address, remote)
    network.b.learn(address, index)
    return address


# --- given up ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["ours", "the peer's"])
def test_a_relay_that_is_given_up_is_left_without_a_gap(whose: str) -> None:
    network, path = call()
    since = network.now
    if whose == "ours":
        network.a.agent.retire_local(0, since)
    else:
        network.a.agent.retire_remote(path[1], True, since)
    network.run(3)
    assert network.agreed
    assert set(network.a.selected or ()).isdisjoint(path)
    for side, peer in (network.sides, network.sides[::-1]):
        assert side.moves(since) == 1
        assert side.gap(since) < 0.03
        assert side.lost(peer) <= peer.sequence - side.highest
    [moved] = [event for at, event in network.a.history if at >= since and isinstance(event, Selected)]
    assert not moved.failed
    network.dead = {path[0]} if whose == "ours" else set()
    network.run(40)
    assert failing(network.a) == []  # it is given up anyway


def test_the_last_relay_is_given_up_when_another_answers() -> None:
    network, path = call(1)
    network.a.agent.retire_local(0, network.now)
    network.run(1)
    assert network.a.selected == path
    address = introduce(network, 1)
    network.run(1)
    assert network.agreed
    assert network.a.selected == (address, path[1])
    assert not network.a.history[-1][1].failed  # type: ignore[union-attr]


def test_new_pairs_of_what_is_given_up_are_given_up_too() -> None:
    network, path = call(1)
    network.a.agent.retire_local(0, network.now)
    network.a.agent.retire_remote(path[1], True, network.now)
    other = network.b.allocate(1)
    network.b.permit(other, path[0])
    network.a.learn(other, 1)
    introduce(network, 1)
    assert {key: pair.retiring for key, pair in network.a.agent.pairs.items()} == {
        (0, path[1]): True,
        (0, other): True,
        (1, path[1]): True,
        (1, other): False,
    }


def test_what_is_given_up_after_all_not_and_what_comes_back_is_as_good_as_new() -> None:
    network, path = call()
    agent, now = network.a.agent, network.now
    agent.retire_remote(path[1], True, now)
    agent.retire_remote(path[1], False, now)
    assert not any(pair.retiring for pair in agent.pairs.values())
    agent.retire_remote(path[1], True, now)
    agent.remove_remote(path[1], now)
    agent.add_remote(path[1], priority(0), now)
    agent.retire_local(0, now)
    agent.remove_local(0, now)
    agent.add_local(0, path[0].family, priority(0), now)
    assert len(agent.pairs) == 4
    assert not any(pair.retiring for pair in agent.pairs.values())


def test_a_suspected_relay_is_checked_at_once() -> None:
    network, _ = call()
    network.a.agent.suspect_local(0, network.now)
    sent = len(network.a.checks)
    network.a.agent.handle_timeout(network.now)
    network.pump()
    assert {(local, remote) for _, local, remote, _ in network.a.checks[sent:]} >= {
        (0, remote) for remote in network.b.relays.values()
    }


# --- failing ----------------------------------------------------------------------------------------------------------


def test_a_dead_relay_is_told_once_and_again_when_it_fails_again() -> None:
    network, path = call()
    network.dead = {path[0]}
    network.run(10)
    assert failing(network.a) == [0]
    network.dead.clear()
    network.run(5)
    since = network.now
    assert failing(network.a, since) == []
    network.dead = {path[0]}
    network.run(30)  # spare pairs are checked each 12 s
    assert failing(network.a, since) == [0]


def test_a_relay_that_replaces_a_failing_one_under_its_number_may_fail_too() -> None:
    network, path = call()
    network.dead = {path[0]}
    network.run(10)
    assert failing(network.a) == [0]
    network.a.agent.remove_local(0, network.now)
    assert network.a.agent._failing == set()
    network.b.agent.remove_remote(path[0], network.now)
    address = introduce(network, 0, Address("1.1.1.9", 50000))
    network.run(5)
    network.dead = {address}
    network.run(20)
    assert failing(network.a) == [0, 0]


def test_a_relay_fails_when_all_its_pairs_do_and_were_answered_before() -> None:
    network, path = call()
    network.blocked = {path, path[::-1]}  # one of two pairs
    introduce(network, 2)
    network.dead = {network.a.relays[2]}  # never answered
    network.run(15)
    assert failing(network.a) == []
    network, _ = call()
    network.dead = set(network.b.relays.values())
    network.run(15)
    assert failing(network.a) == []  # the peer's fault as well as ours


def test_an_address_that_never_answered_does_not_hide_that_a_relay_fails() -> None:
    network, path = call()
    network.a.learn(Address("3.3.3.3", 50000), 2)
    network.run(3)
    network.dead = {path[0]}
    network.run(10)
    assert failing(network.a) == [0]


def test_a_new_pair_is_not_said_to_miss_what_it_never_answered() -> None:
    network, _ = call(1)
    silent = Address("3.3.3.3", 50000)
    network.a.learn(silent, 2)
    network.run(0.59)
    assert network.a.agent.pairs[0, silent].missed == 0
    assert network.a.agent.failover.has_backup(network.now)


# --- one relay for both -----------------------------------------------------------------------------------------------


def test_the_spare_shares_no_relay_though_the_peer_has_the_same() -> None:
    """Ours are on hosts 1 and 2, the peer's on 2 and 3: of the other pairs only one uses none of the hosts in use."""
    network = Network(1, rtt=0.02)
    agent, now = network.a.agent, network.now
    network.b.host = network.a.host
    for index, host in enumerate(("1.1.1.1", "1.1.1.2")):
        network.a.relays[index] = Address(host, 50000)
        agent.add_local(index, network.a.relays[index].family, priority(index), now, host=host)
    for index, host in enumerate(("1.1.1.2", "1.1.1.3")):
        network.b.allocate(index, Address(host, 50001))
    network.meet(network.a)
    network.meet(network.b)
    network.run(2)
    assert network.agreed
    agent.protect(True, network.now)
    network.pump()
    chosen = agent.selected
    assert chosen is not None
    assert chosen.hosts == ("1.1.1.1", "1.1.1.2")
    [(local, remote)] = network.a.also
    assert (network.a.relays[local].host, remote.host) == ("1.1.1.2", "1.1.1.3")


# --- what checks ask for ----------------------------------------------------------------------------------------------


def asked(side: Side, since: float) -> list[tuple[float, int, Address, a.MediaHere]]:
    """When media was asked for, where, and how."""
    checks = [(at, local, remote, decode(data)) for at, local, remote, data in side.checks if at >= since]
    return [
        (at, local, remote, media_here)
        for at, local, remote, message in checks
        if (media_here := message.get(a.MEDIA_HERE)) is not None
    ]


def test_in_doubt_checks_on_the_second_path_tell_how_long_it_has_been_silent() -> None:
    network, path = call()
    since = network.now
    last = network.a.arrivals[-1][0]
    network.blocked = {path[::-1]}
    network.run(0.3, lambda network: bool(asked(network.a, since)))
    [(at, local, remote, media_here), *_] = asked(network.a, since)
    assert {network.a.relays[local], remote}.isdisjoint(path)
    last = max(arrived for arrived, _ in network.a.arrivals if arrived <= at)
    assert media_here == a.MediaHere(False, round(1000 * (at - last)))
    assert media_here.silent_ms >= 70
    network.run(0.5)
    assert any(media_here.moved for *_, media_here in asked(network.a, since))


def test_silence_that_is_told_is_bounded() -> None:
    network, _ = call()
    network.a.agent.failover.heard_at = network.now + 1.0
    network.a.agent.move(network.now)
    network.pump()
    assert asked(network.a, network.now)[-1][3] == a.MediaHere(True, 0)
    network.a.agent.failover.heard_at = network.now - 100.0
    network.a.agent.move(network.now)
    network.pump()
    assert asked(network.a, network.now)[-1][3] == a.MediaHere(True, 0xFFFF)


def test_what_the_peer_asks_for_is_sent_again_and_no_more_than_that() -> None:
    """`b` hears nothing and asks: `a` sends over the other path too, from the last that `b` heard on."""
    network, path = call()
    since = network.now
    network.blocked = {path}
    network.run(0.3, lambda network: bool(network.a.also))
    [doubled] = [event for at, event in network.a.history if at >= since and isinstance(event, Doubled)]
    assert 0.07 <= doubled.resend <= 0.2


@pytest.mark.parametrize(
    "what",
    [
        "suspect_local",
        "retire_local",
        "retire_remote",
        "remove_local",
        "remove_remote",
        "refuse_pair",
        "move",
        "protect",
    ],
)
def test_what_is_decided_is_done_at_once(what: str) -> None:
    network, path = call()
    agent, now = network.a.agent, network.now
    arguments = {
        "suspect_local": (0,),
        "retire_local": (0,),
        "retire_remote": (path[1], True),
        "remove_local": (0,),
        "remove_remote": (path[1],),
        "refuse_pair": (0, path[1]),
        "protect": (True,),
    }.get(what, ())
    assert not agent.events
    getattr(agent, what)(*arguments, now)
    assert not agent.failover.decisions
    assert [type(event) for event in agent.events] == [Doubled if what == "protect" else Selected]


def test_packets_that_end_the_doubt_end_it_at_once() -> None:
    network, path = call()
    network.dead = {path[0]}
    network.run(0.3, lambda network: bool(network.a.also))
    agent, pair = network.a.agent, network.a.agent.selected
    assert pair is not None
    for _ in range(3):
        agent.heard(pair, network.now)
    assert not agent.failover.decisions
    assert agent.events[-1] == Doubled(())


def test_nobody_is_followed_to_a_path_without_consent() -> None:
    """`b` moves to a path whose consent has run out on the side of `a`, and asks for media there."""
    network, path = call()
    [spare] = [pair for pair in network.a.agent.pairs.values() if pair.local == 1 and pair.remote != path[1]]
    spare.to("expired")
    spare.next_check = network.now + 10
    since = network.now
    assert network.b.agent.move(network.now)
    network.run(0.5, lambda network: network.b.selected == path[::-1])
    assert asked(network.b, since)
    assert network.a.selected == path
    assert network.a.moves(since) == 0
    assert spare.wanted_until < network.now


def test_only_the_side_that_nominates_follows_and_not_against_its_own_move() -> None:
    network, _ = call()
    now = network.now
    for side in network.sides:
        agent, first = side.agent, side.agent.selected
        other = next(pair for pair in agent.pairs.values() if pair is not first)
        agent._media_wanted(other, a.MediaHere(False, 80), now)
        assert agent.selected is first
        agent._media_wanted(other, a.MediaHere(True, 80), now)
        assert agent.selected is (other if side is network.a else first)
    agent = network.a.agent
    agent.failover.decisions.clear()
    chosen = agent.selected
    assert chosen is not None
    agent._media_wanted(chosen, a.MediaHere(True, 80), now)
    assert not agent.failover.decisions
    assert agent.move(now)
    moved = agent.selected
    agent._media_wanted(chosen, a.MediaHere(True, 80), now + 0.4)
    assert agent.selected is moved
    agent._media_wanted(chosen, a.MediaHere(True, 80), now + 0.6)
    assert agent.selected is chosen


def test_an_answer_proves_a_path_by_when_its_check_was_sent() -> None:
    network, path = call()
    agent = network.a.agent
    [spare] = [pair for pair in agent.pairs.values() if pair.local == 1 and pair.remote != path[1]]
    before = spare.answered
    agent._check(spare, network.now)
    network.run(0.01)
    agent.failover._fact(Fact.SILENT, network.now)
    network.run(0.1, lambda _: spare.answered > before)
    assert spare.answered == before + 1
    assert spare.proved_at == float("inf")


# --- an owner that is late --------------------------------------------------------------------------------------------


def test_after_a_long_stall_every_pair_is_checked_and_nothing_is_doubted() -> None:
    network, _ = call()
    network.run(3)
    agent = network.a.agent
    sent = len(network.a.checks)
    agent.stalled(1.5, network.now)
    assert Probe(False) not in agent.failover.decisions
    agent.handle_timeout(network.now)
    network.pump()
    assert {(local, remote) for _, local, remote, _ in network.a.checks[sent:]} == set(agent.pairs)
    assert network.a.history[-1][0] < network.now
