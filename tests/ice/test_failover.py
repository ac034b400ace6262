"""A call whose paths fail, in virtual time: what the listener misses, who moves, and what does not move anybody.

Two agents, their relays and 50 packets of media a second each way. Seeded; every figure here is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import pytest

from relaycall.ice.agent_events import Doubled, Doubted, LocalFailing
from relaycall.ice.decisions import PeerBack, PeerSilent
from tests.ice.network import Network, Path, Side

SEEDS = range(5)
Fault = Callable[[Network, Path], None]


def frozen(network: Network, path: Path) -> None:
    network.dead = {path[0]}


def frozen_far(network: Network, path: Path) -> None:
    network.dead = {path[1]}


def one_way(network: Network, path: Path) -> None:
    network.blocked = {path}


def other_way(network: Network, path: Path) -> None:
    network.blocked = {path[::-1]}


def killed(network: Network, path: Path) -> None:
    """Its owner learns of it from the network, with the next packet."""
    network.dead = {path[0]}
    network.later(0.02, lambda: report(network.a, path[0], network))


def killed_far(network: Network, path: Path) -> None:
    network.dead = {path[1]}
    network.later(0.02, lambda: report(network.b, path[1], network))


def report(side: Side, relay: object, network: Network) -> None:
    local = next(index for index, address in side.relays.items() if address == relay)
    side.agent.suspect_local(local, network.now)


def call(seed: int, **world: float) -> tuple[Network, Path]:
    """A call that runs, at a random phase, and its path."""
    network = Network(seed, **{"rtt": 0.02, "jitter": 0.004, **world})  # type: ignore[arg-type]
    network.call(2, 2, 3.0 + network.random.random())
    path = network.a.selected
    assert path is not None
    return network, path


def count(side: Side, kind: type, since: float = 0.0) -> int:
    return sum(at >= since and isinstance(event, kind) for at, event in side.history)


# --- paths that fail --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "rtt", "gap"),
    [
        # Silence of 95 ms, and what was under way; and where only one side hears it, the way of its request.
        (frozen, 0.02, 0.14),
        (frozen_far, 0.02, 0.14),
        (one_way, 0.02, 0.16),
        (other_way, 0.02, 0.16),
        (killed, 0.02, 0.09),
        (killed_far, 0.02, 0.09),
        (frozen, 0.15, 0.27),
        (one_way, 0.15, 0.42),
        (killed, 0.15, 0.27),
    ],
)
def test_a_failing_path_costs_a_short_gap_and_no_packet(fault: Fault, rtt: float, gap: float) -> None:
    """Both sides end on one pair that shares no relay with the failing one, and each moves once."""
    for seed in SEEDS:
        network, path = call(seed, rtt=rtt)
        since = network.now
        fault(network, path)
        network.run(4)
        assert network.agreed
        assert set(network.a.selected or ()).isdisjoint(path)
        for side, peer in (network.sides, network.sides[::-1]):
            assert side.moves(since) == 1
            assert side.gap(since) <= gap
            assert side.lost(peer) <= peer.sequence - side.highest
            assert side.also == ()
            assert side.unselected() == 0


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_media_stays_on_one_path_while_nothing_is_wrong(loss: float) -> None:
    network, _ = call(1, loss=loss)
    before, sent = [side.media_bytes for side in network.sides], [side.sequence for side in network.sides]
    network.run(40)
    for side, earlier, first in zip(network.sides, before, sent, strict=True):
        assert (side.media_bytes - earlier) / (side.sequence - first) / 108 < 1.02


def test_a_move_that_is_wanted_costs_nothing() -> None:
    for mover in range(2):
        for seed in SEEDS:
            network, path = call(seed)
            since = network.now
            assert network.sides[mover].agent.move(network.now)
            network.run(3)
            assert network.agreed
            assert network.a.selected != path
            for side, peer in (network.sides, network.sides[::-1]):
                assert side.moves(since) == 1
                assert side.gap(since) < 0.03
                assert side.lost(peer) <= peer.sequence - side.highest


def test_a_move_without_another_path_is_refused() -> None:
    network = Network(rtt=0.02)
    network.call(1, 1)
    assert not network.a.agent.move(network.now)


def test_in_doubt_media_goes_over_a_path_that_shares_no_relay_with_the_suspect() -> None:
    network, path = call(3)
    since = network.now
    network.dead = {path[0]}
    network.run(0.2)
    for side in network.sides:
        assert count(side, Doubted, since) == 1
        [(local, remote)] = side.also
        assert {side.relays[local], remote}.isdisjoint(path)
    network.run(3)
    assert [side.also for side in network.sides] == [(), ()]


def test_a_path_that_pauses_is_doubted_and_kept() -> None:
    """A quarter of a second without anything, then it goes on."""
    for seed in SEEDS:
        network, path = call(seed)
        since = network.now
        network.dead = {path[0]}
        network.run(0.25)
        network.dead.clear()
        network.run(3)
        assert network.a.selected == path
        assert network.a.moves(since) == network.b.moves(since) == 0
        assert count(network.a, Doubted, since) == 1
        assert network.a.gap(since) < 0.15
        assert network.a.also == network.b.also == ()


def test_a_second_fault_while_the_first_is_in_doubt() -> None:
    """The path that is disjoint dies with the one in use: what is left shares a relay with each."""
    network, path = call(5)
    others = {(one, other) for one in network.a.relays.values() for other in network.b.relays.values()}
    spare = next(pair for pair in others if set(pair).isdisjoint(path))
    since = network.now
    network.blocked = {path, path[::-1], spare, spare[::-1]}
    network.run(4)
    assert network.agreed
    assert network.a.selected not in (path, spare)
    assert network.a.gap(since) < 1.0


def test_deaths_one_after_the_other_are_survived_while_new_relays_come() -> None:
    network, _ = call(2)
    for index in range(2, 6):
        path = network.a.selected
        assert path is not None
        since = network.now
        network.dead.add(path[0])
        network.run(2)
        address = network.a.allocate(index)
        for remote in network.b.relays.values():
            network.a.permit(address, remote)
        network.b.learn(address, index)
        network.run(3)
        assert network.agreed
        assert network.a.gap(since) < 0.16
        assert network.b.gap(since) < 0.16


def test_all_paths_dead_then_one_comes_back() -> None:
    network, _ = call(4)
    network.dead = set(network.a.relays.values())
    network.run(10)
    assert network.a.selected is not None
    network.dead.remove(network.a.relays[1])
    network.run(2.5)
    assert network.agreed
    assert (network.a.selected or ())[0] == network.a.relays[1]
    assert network.a.arrivals[-1][0] > network.now - 0.1


# --- what must not move anybody ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "relays"),
    [
        *((0.1, 2), (0.3, 1)),
        *(pytest.param(loss, relays, marks=pytest.mark.slow) for loss in (0.01, 0.05, 0.2) for relays in (1, 2)),
        *(pytest.param(loss, relays, marks=pytest.mark.slow) for loss, relays in ((0.1, 1), (0.3, 2))),
    ],
)
def test_random_loss_moves_nobody(loss: float, relays: int) -> None:
    """Five minutes each here; `python -m tests.benchmarks false_moves` runs thirty hours."""
    network = Network(11, rtt=0.05, loss=loss, jitter=0.004)
    network.start(relays, relays)
    network.run(8)
    network.watch()
    network.run(5)
    since = network.now
    network.run(300)
    for side in network.sides:
        assert side.moves(since) == 0
        assert count(side, LocalFailing) == 0


@pytest.mark.parametrize("seconds", [0.2, 0.7, 2.0, 5.0])
def test_our_own_stall_moves_nobody(seconds: float) -> None:
    for seed in SEEDS:
        network, path = call(seed)
        since = network.now
        network.a.stall(seconds)
        network.run(seconds + 4)
        assert network.agreed
        assert network.a.selected == path
        assert network.a.moves(since) == network.b.moves(since) == 0
        assert count(network.a, PeerSilent) == 0


def test_jitter_is_learnt() -> None:
    """Packets that come in bunches of ten: doubt at first, then none."""
    network, path = call(6)
    network.slow = {path[::-1]: 0.0}

    def bunch() -> None:
        network.slow[path[::-1]] = 0.2 - (network.now * 5 % 1) / 5
        network.later(0.01, bunch)

    bunch()
    network.run(60)
    since = network.now
    network.run(60)
    assert network.a.moves(since) == 0
    assert count(network.a, Doubted, since) <= 1


def test_a_short_hiccup_does_not_make_us_slow() -> None:
    """A quarter of a second without packets, once, changes when the next silence is noticed by 40 ms at most."""
    network, path = call(7)
    network.dead = {path[0]}
    network.run(0.25)
    network.dead.clear()
    network.run(3)
    since = network.now
    path = network.a.selected or path
    network.dead = {path[0]}
    network.run(3)
    assert network.a.gap(since) < 0.18


# --- the peer is gone, or we were -------------------------------------------------------------------------------------


def test_a_peer_that_is_not_heard_is_told_after_four_seconds_and_given_up_after_ninety() -> None:
    network, path = call(1)
    gone, since = network.b, network.now
    gone.stall(1000)
    network.run(95)
    silent = [(at - since, event.gone) for at, event in network.a.history if isinstance(event, PeerSilent)]
    assert [gone for _, gone in silent] == [False, True]
    assert silent[0][0] == pytest.approx(4.0, abs=0.1)
    assert silent[1][0] == pytest.approx(90.0, abs=0.1)
    assert network.a.moves(since) <= len(network.a.agent.pairs) + 1  # consent ends on one pair after the other
    assert path is not None


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [5, 60])
def test_a_machine_that_was_suspended_comes_back(seconds: float) -> None:
    for seed in range(3):
        network, _ = call(seed)
        network.a.stall(seconds)
        network.run(seconds + 3)
        assert network.agreed
        assert network.b.arrivals[-1][0] > network.now - 0.1
        assert network.a.arrivals[-1][0] > network.now - 0.1
        assert count(network.b, PeerSilent) == count(network.b, PeerBack) == 1
        assert count(network.a, PeerSilent) == 0


def test_after_ten_minutes_of_suspension_both_give_up() -> None:
    network, _ = call(1)
    network.a.stall(600)
    network.later(95, lambda: setattr(network.b, "stalled_until", 1e9))  # it has ended the call
    network.run(606)
    for side in network.sides:
        assert any(isinstance(event, PeerSilent) and event.gone for _, event in side.history)


def test_a_dead_allocation_is_told_while_others_work() -> None:
    network, path = call(1)
    network.dead = {path[0]}
    network.run(8)
    [failing] = [event.local for _, event in network.a.history if isinstance(event, LocalFailing)]
    assert network.a.relays[failing] == path[0]
    assert count(network.b, LocalFailing) == 0


# --- over two paths always --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [frozen, frozen_far, one_way, killed])
def test_protected_media_has_no_gap(fault: Fault) -> None:
    for seed in SEEDS:
        network, _ = call(seed)
        for side in network.sides:
            side.agent.protect(True, network.now)
        network.run(1)
        path, since = network.a.selected, network.now
        assert path is not None
        for side in network.sides:
            [(local, remote)] = side.also
            assert {side.relays[local], remote}.isdisjoint(path)
        fault(network, path)
        network.run(4)
        for side, peer in (network.sides, network.sides[::-1]):
            assert side.gap(since) < 0.03
            assert side.lost(peer) <= peer.sequence - side.highest
            assert len(side.also) == 1


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_checks_cost_less_than_two_hundredths_of_the_call() -> None:
    network, _ = call(1, rtt=0.05)
    network.run(10)
    before = [(side.check_bytes, side.media_bytes) for side in network.sides]
    network.run(60)
    checks = sum(side.check_bytes - check for side, (check, _) in zip(network.sides, before, strict=True))
    media = sum(side.media_bytes - media for side, (_, media) in zip(network.sides, before, strict=True))
    assert checks / media <= 0.02


def test_doubt_costs_a_bounded_number_of_checks_and_packets() -> None:
    """The peer is gone: for ninety seconds we send media twice at most, and checks ever more rarely."""
    network, _ = call(1)
    network.b.stall(1000)
    since, sent = network.now, network.a.media_bytes
    network.run(60)
    checks = [at - since for at, *_ in network.a.checks if at >= since]
    assert len([at for at in checks if at < 1]) < 100
    assert len([at for at in checks if at >= 20]) <= 4 * 40 * 1.5
    assert network.a.media_bytes - sent <= 2 * 108 * 50 * 61


@pytest.mark.slow
def test_the_gaps_are_as_short_as_silence_can_be_noticed() -> None:
    gaps = []
    for seed in range(20):
        network, path = call(seed, rtt=0.0, jitter=0.002)
        since = network.now
        network.dead = {path[0]}
        network.run(2)
        gaps += [network.a.gap(since), network.b.gap(since)]
    assert median(gaps) < 0.1
    assert max(gaps) < 0.12


def test_doubling_ends_when_the_peer_asks_no_longer() -> None:
    """Only `b` is in doubt; `a` sends over two paths because it is asked to, and stops half a second later."""
    network, path = call(1)
    since = network.now
    network.blocked = {path}
    network.run(0.3)
    assert count(network.a, Doubted, since) == 0
    assert len(network.a.also) == 1
    network.blocked = set()
    network.run(3)
    assert network.a.also == ()
    assert count(network.a, Doubled, since) >= 2
