"""What two agents do when paths fail, and what they do not do when one only looks like it. Virtual time, seeded."""

from __future__ import annotations

from itertools import pairwise

import pytest

from relaycall.ice.agent_events import Unselected
from relaycall.ice.pair import PairState
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import decode
from tests.ice.network import Network, Path, Side

CONSENT = 30.0  # seconds
SEEDS = range(10)


def chosen(side: Side) -> Path:
    assert side.selected is not None
    return side.selected


def cut(network: Network, *, one_way: bool = False) -> None:
    """Make black holes of all relays, or of the way from `a` to `b` only."""
    if one_way:
        network.blocked = {(one, other) for one in network.a.relays.values() for other in network.b.relays.values()}
    else:
        network.dead = set(network.a.relays.values())


# --- consent (RFC 7675) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_way", [False, True], ids=["both ways", "one way"])
@pytest.mark.parametrize("relays", [1, 2])
def test_consent_ends_after_thirty_seconds_without_an_answer_and_not_before(one_way: bool, relays: int) -> None:
    """With checks in one direction only neither side gets an answer: the way back or the way there is missing."""
    network = Network(rtt=0.05)
    network.connect(relays, relays)
    network.run(5)
    cut(network, one_way=one_way)
    network.run(CONSENT - 1.5)
    assert network.a.selected is not None
    assert network.b.selected is not None
    network.run(2)
    for side in network.sides:
        assert side.selected is None
        assert isinstance(side.history[-1][1], Unselected)
        assert {pair.state for pair in side.agent.pairs.values()} == {PairState.EXPIRED}


def test_consent_is_counted_from_the_last_answer() -> None:
    network = Network(rtt=0.05)
    network.connect()
    network.run(5)
    pair = network.a.agent.selected
    assert pair is not None
    cut(network)
    network.run(0.06)  # what was under way arrives
    last = pair.last_answer
    network.run(CONSENT + 1)
    (lost,) = [at for at, event in network.a.history if isinstance(event, Unselected)]
    assert lost == pytest.approx(last + CONSENT)


def test_a_path_that_answers_again_is_chosen_again() -> None:
    for seed in SEEDS:
        network = Network(seed, rtt=0.05, jitter=0.01)
        network.connect(1, 1)
        cut(network)
        network.run(60)
        assert network.a.selected is None
        network.dead.clear()
        network.run(2.5)
        assert network.agreed
        assert network.a.unselected() == network.b.unselected() == 1


@pytest.mark.parametrize(
    ("loss", "relays"),
    [(0.0, 1), (0.2, 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((0.0, 2), (0.2, 1)))],
)
@pytest.mark.slow
def test_a_path_of_600_ms_lives(loss: float, relays: int) -> None:
    """Ten minutes; a fifth of the packets lost each way is a third of the checks unanswered."""
    network = Network(3, rtt=0.3, loss=loss, jitter=0.02)
    network.start(relays, relays)
    network.run(10)
    assert network.agreed
    since = network.now
    network.run(600)
    assert network.a.unselected() == network.b.unselected() == 0
    assert network.a.moves(since) <= (20 if loss else 0)


@pytest.mark.slow
def test_a_lost_check_now_and_then_moves_nothing() -> None:
    """On a long path the checks sent while one is late are not late themselves."""
    for seed in range(3):
        network = Network(seed, rtt=0.3, loss=0.05, jitter=0.01)
        network.start(2, 2)
        network.run(10)
        since = network.now
        network.run(300)
        assert network.a.moves(since) == network.b.moves(since) == 0
        assert network.agreed


def test_a_path_that_becomes_much_slower_is_kept_when_it_is_the_only_one() -> None:
    network = Network(rtt=0.02)
    network.connect()
    network.slow = {chosen(network.a): 2.0}
    network.run(60)
    assert network.agreed
    assert network.a.moves() == network.b.moves() == 1
    pair = network.a.agent.selected
    assert pair is not None
    assert 1.9 < pair.rtt < 2.2
    assert pair.rtt_min < 0.05
    assert pair.healthy


# --- moving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_way", [False, True], ids=["relay dead", "one way"])
@pytest.mark.parametrize(("rtt", "limit"), [(0.01, 2.1), (0.05, 2.1), (0.15, 2.7), (0.3, 3.8)])
@pytest.mark.slow
def test_a_path_that_stops_answering_is_left(rtt: float, limit: float, one_way: bool) -> None:
    """For good, by both, for the path that shares no relay with it, and at no time without a choice."""
    for seed in SEEDS:
        network = Network(seed, rtt=rtt, jitter=0.004)
        network.connect(2, 2)
        network.run(network.random.uniform(3, 5))
        failing, since = chosen(network.a), network.now
        if one_way:
            network.blocked = {failing}
        else:
            network.dead = {failing[0]}
        network.run(limit)
        assert network.agreed
        assert set(chosen(network.a)).isdisjoint(failing)
        assert network.a.moves(since) == 1
        network.run(10)
        assert network.agreed
        assert network.a.moves(since) == 1
        assert network.a.unselected() == network.b.unselected() == 0


@pytest.mark.slow
def test_each_side_moves_once() -> None:
    """An answer on a path that was nominated long ago is no reason to go there."""
    for seed in range(15):
        network = Network(seed, rtt=0.15, jitter=0.004)
        network.connect(2, 2)
        network.run(network.random.uniform(3, 5))
        since = network.now
        network.blocked = {chosen(network.a)}
        network.run(10)
        assert network.a.moves(since) == network.b.moves(since) == 1


def test_a_path_that_only_one_side_finds_failing_does_not_swing() -> None:
    """Checks of `b` are lost, those of `a` and their answers pass: `a` stays, so `b` leaves once, and comes back."""
    for seed in SEEDS:
        network = Network(seed, rtt=0.05)
        network.connect(2, 2)
        path = chosen(network.a)
        requests_lost(network.b, path[::-1])
        since = network.now
        network.run(20)
        assert network.a.moves(since) == 0
        assert network.b.moves(since) == 1
        network.b.rewrite = lambda data: data
        network.run(3)
        assert network.agreed
        assert network.a.selected == path


def requests_lost(side: Side, path: Path) -> None:
    """Have this side's requests on one path, and not its answers, arrive as something nobody believes."""

    def rewrite(data: bytes) -> bytes:
        _, local, remote, sent = side.checks[-1]
        return data[:20] if sent is data and (side.relays[local], remote) == path else data

    side.rewrite = rewrite


def test_without_a_healthy_path_the_failing_one_is_kept() -> None:
    network = Network(rtt=0.05)
    network.connect(2, 2)
    network.run(2)
    cut(network)
    for _ in range(280):
        network.run(0.1)
        assert network.a.selected is not None
        assert network.b.selected is not None
    assert network.a.moves(102) <= 2  # while the others had not failed yet
    network.dead.clear()
    network.run(3)
    assert network.agreed


@pytest.mark.parametrize("what", ["suspect_local", "remove_local"])
def test_a_relay_reported_gone_is_left_at_once_for_a_disjoint_path(what: str) -> None:
    for seed in SEEDS:
        network = Network(seed, rtt=0.05, jitter=0.01)
        network.connect(2, 2)
        failing = chosen(network.a)
        network.dead = {failing[0]}
        getattr(network.a.agent, what)(0, network.now)
        assert network.a.selected == (network.a.relays[1], network.b.relays[1])
        network.run(0.05 + 0.011)
        assert network.agreed  # told by the one check that nominates, after half a round trip of the path
        network.run(10)
        assert network.agreed
        assert network.a.unselected() == network.b.unselected() == 0


def test_a_suspected_relay_that_answers_is_healthy_again_and_the_call_stays_where_it_went() -> None:
    network = Network(rtt=0.05)
    network.connect(2, 2)
    network.a.agent.suspect_local(0, network.now)
    assert not any(pair.healthy for pair in network.a.agent.pairs.values() if pair.local == 0)
    network.run(1)
    assert all(pair.healthy for pair in network.a.agent.pairs.values())
    assert network.a.selected == (network.a.relays[1], network.b.relays[1])
    network.run(10)
    assert network.agreed


def test_a_suspected_only_relay_is_kept() -> None:
    network = Network(rtt=0.05)
    network.connect()
    network.a.agent.suspect_local(0, network.now)
    assert network.a.selected is not None
    network.run(30)
    assert network.a.moves() == 1


def test_a_remote_that_is_given_up_is_left_at_once() -> None:
    network = Network(rtt=0.05)
    network.connect(1, 2)
    first, second = network.b.relays.values()
    network.a.agent.remove_remote(first, network.now)
    assert network.a.selected == (network.a.relays[0], second)
    assert list(network.a.agent.pairs) == [(0, second)]
    network.a.agent.remove_remote(second, network.now)
    network.pump()
    assert isinstance(network.a.history[-1][1], Unselected)


def test_refusing_the_chosen_pair_moves() -> None:
    network = Network(rtt=0.05)
    network.connect(2, 1)
    network.a.agent.refuse_pair(0, network.b.relays[0], network.now)
    assert network.a.selected == (network.a.relays[1], network.b.relays[0])


def test_a_failing_path_is_better_than_none() -> None:
    network = Network(rtt=0.05)
    network.connect(2, 1)
    cut(network)
    network.run(5)
    assert not any(pair.healthy for pair in network.a.agent.pairs.values())
    network.a.agent.remove_local(network.a.agent.selected.local, network.now)  # type: ignore[union-attr]
    assert network.a.selected is not None
    assert network.a.unselected() == 0


def test_the_last_relay_gone_leaves_no_path() -> None:
    network = Network(rtt=0.05)
    network.connect()
    network.a.agent.remove_local(0, network.now)
    network.pump()
    assert isinstance(network.a.history[-1][1], Unselected)
    network.run(1)
    assert network.a.agent.next_timeout() == float("inf")


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_a_healthy_path_is_checked_about_once_a_second() -> None:
    network = Network(rtt=0.05)
    network.connect(2, 2)
    network.run(10)
    since = network.now
    network.run(60)
    for side in network.sides:
        for key in side.agent.pairs:
            times = [at for at, local, remote, _ in side.checks if (local, remote) == key and at > since]
            assert 50 <= len(times) <= 60
            assert all(0.8 <= later - at <= 1.4 for at, later in pairwise(times))


def test_only_checks_on_the_chosen_pair_nominate_once_there_is_one() -> None:
    network = Network(rtt=0.05)
    network.connect(2, 2)
    network.run(5)
    since, path = network.now, chosen(network.a)
    network.run(20)
    for at, local, remote, data in network.a.checks:
        message = decode(data)
        if at > since:
            assert message.has(a.USE_CANDIDATE) == message.has(a.NOMINATION) == (remote == path[1] and local == 0)
    assert not any(decode(data).has(a.USE_CANDIDATE) for _, _, _, data in network.b.checks)


def test_a_dead_path_is_remembered_in_bounded_space() -> None:
    network = Network(rtt=0.05)
    network.connect()
    cut(network)
    network.run(29)
    (pair,) = network.a.agent.pairs.values()
    assert len(pair.outstanding) == 64
    assert not pair.healthy


def test_an_answer_after_more_than_ten_seconds_is_none() -> None:
    network = Network(rtt=0.05)
    network.connect()
    (pair,) = network.a.agent.pairs.values()
    network.slow = {chosen(network.a): 10.1}
    network.run(29)
    before = pair.answered
    network.run(3)
    assert pair.answered == before
    assert network.a.selected is None


def test_a_silent_address_is_checked_once_a_second_for_ever() -> None:
    network = Network(rtt=0.05)
    network.connect()
    silent = Address("3.3.3.3", 50000)
    network.a.learn(silent, 1)
    network.run(10)
    since = network.now
    network.run(60)
    assert len([1 for at, _, remote, _ in network.a.checks if remote == silent and at > since]) == 60
    assert network.a.moves() == 1
