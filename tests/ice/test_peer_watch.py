"""Whether there is any sign of the peer: four seconds, ninety, and what our own stalls change."""

from __future__ import annotations

import pytest

from relaycall.ice.decisions import PeerBack, PeerSilent
from relaycall.ice.peer_watch import PeerWatch
from tests.ice.policy_world import World

START = 100.0
BARELY = 1e-6
NEVER = float("inf")


@pytest.fixture
def watch() -> PeerWatch:
    """One that was started, and has looked."""
    watch = PeerWatch()
    watch.start(START)
    assert watch.handle_timeout(START) is None
    return watch


def test_nothing_is_told_before_the_peer_is_expected() -> None:
    watch = PeerWatch()
    assert watch.next_timeout() == NEVER
    assert watch.sign(START) is None
    watch.stalled(60.0, START)
    assert watch.next_timeout() == NEVER
    assert watch.handle_timeout(START + 1000) is None


def test_silence_is_told_after_four_seconds_and_the_end_after_ninety_once_each(watch: PeerWatch) -> None:
    for after, told in ((4.0, PeerSilent()), (90.0, PeerSilent(gone=True))):
        assert watch.next_timeout() == START + after
        assert watch.handle_timeout(START + after - BARELY) is None
        assert watch.handle_timeout(START + after) == told
        assert watch.handle_timeout(START + after) is None
    assert watch.next_timeout() == NEVER


def test_the_end_is_final(watch: PeerWatch) -> None:
    watch.handle_timeout(START + 4)
    watch.handle_timeout(START + 90)
    assert watch.sign(START + 91) is None
    watch.stalled(5.0, START + 92)
    assert watch.next_timeout() == NEVER


def test_any_sign_puts_silence_off(watch: PeerWatch) -> None:
    assert watch.sign(START + 3) is None
    assert watch.next_timeout() == START + 7
    assert watch.handle_timeout(START + 7 - BARELY) is None


def test_who_is_heard_again_is_back_once_and_may_fall_silent_again(watch: PeerWatch) -> None:
    watch.handle_timeout(START + 4)
    assert watch.sign(START + 50) == PeerBack()
    assert watch.sign(START + 50.02) is None
    assert watch.next_timeout() == START + 50.02 + 4
    assert watch.handle_timeout(START + 55) == PeerSilent()
    assert watch.next_timeout() == START + 50.02 + 90


# --- stalls -----------------------------------------------------------------------------------------------------------


def test_a_short_stall_changes_nothing(watch: PeerWatch) -> None:
    watch.stalled(1.0 - BARELY, START + 1)
    assert watch.next_timeout() == START + 4
    assert watch.sign(START + 1.01) is None
    assert watch.next_timeout() == START + 1.01 + 4


def test_a_stall_right_after_the_start_is_one_like_any_other() -> None:
    watch = PeerWatch()
    watch.start(START)
    watch.stalled(2.0, START + 2)
    assert watch.next_timeout() == START + 6


@pytest.mark.parametrize("seconds", [1.0, 5.0, 60.0, 1000.0])
def test_after_a_long_stall_the_peer_has_four_seconds_again(watch: PeerWatch, seconds: float) -> None:
    now = START + seconds
    watch.stalled(seconds, now)
    assert watch.handle_timeout(now + 4 - BARELY) is None
    assert watch.handle_timeout(now + 4) == PeerSilent()
    assert watch.next_timeout() == pytest.approx(max(START + 90, now + 4))


def test_what_is_read_within_half_a_second_of_a_long_stall_is_no_sign(watch: PeerWatch) -> None:
    now = START + 60
    watch.stalled(60.0, now)
    watch.sign(now + 0.5 - BARELY)
    assert watch.next_timeout() == now + 4
    watch.sign(now + 0.5)
    assert watch.next_timeout() == now + 0.5 + 4


def test_what_was_read_just_before_the_stall_is_noticed_is_no_sign(watch: PeerWatch) -> None:
    """The loop reads first, and only then learns how late it is: the time of the last look counts."""
    watch.sign(START + 1)
    watch.handle_timeout(START + 1)
    now = START + 31
    watch.sign(now)
    watch.stalled(30.0, now)
    watch.handle_timeout(now + 4)
    assert watch.next_timeout() == START + 1 + 90


def test_a_stall_while_silent_leaves_the_peer_four_seconds_to_be_heard(watch: PeerWatch) -> None:
    watch.handle_timeout(START + 4)
    now = START + 604
    watch.stalled(600.0, now)
    assert watch.next_timeout() == pytest.approx(now + 4)
    assert watch.sign(now + 1) == PeerBack()


def test_a_second_stall_gives_no_more_than_four_seconds_each(watch: PeerWatch) -> None:
    """Stalled again and again, it ends all the same."""
    watch.handle_timeout(START + 4)
    now = START + 4
    for _ in range(40):
        now += 2.0
        watch.stalled(1.5, now)
        assert watch.handle_timeout(now) is None
    assert watch.next_timeout() == START + 90


# --- in the policy --------------------------------------------------------------------------------------------------


def test_a_peer_that_is_gone_is_told_and_one_that_is_back() -> None:
    world = World()
    since = world.now
    world.doubt()
    assert world.tick(since + 5) == [PeerSilent()]
    assert world.now == pytest.approx(since + 4.0, abs=1e-3)
    world.failover.heard(world.pairs[1], world.now)
    assert world.take() == [PeerBack()]
    assert world.tick(since + 9) == [PeerSilent()]
    world.answer(2, world.now)
    assert PeerBack() in world.take()
    assert [world.tick(world.now + 100) for _ in range(3)] == [[PeerSilent()], [PeerSilent(gone=True)], []]


def test_a_long_stall_is_not_the_peers_silence() -> None:
    world = World()
    world.now += 10.0
    world.failover.stalled(10.0, world.now)
    world.failover.handle_timeout(world.now)
    assert PeerSilent() not in world.take()
