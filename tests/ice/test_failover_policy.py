"""The failover policy: when silence is noticed, where media goes, and when another path is better."""

from __future__ import annotations

import pytest

from relaycall.ice.decisions import Double, Fact, Move, Phase, Probe
from tests.ice.policy_world import BARELY, NEVER, PATIENCE, RTT, World, in_phase

# --- the table --------------------------------------------------------------------------------------------------------

ROWS = {
    (Phase.NONE, Fact.USABLE): (Phase.STEADY, 0),
    (Phase.NONE, Fact.TOLD): (Phase.STEADY, 2),
    (Phase.STEADY, Fact.SILENT): (Phase.DOUBTED, 0),
    (Phase.STEADY, Fact.UNANSWERED): (Phase.STEADY, 3),
    (Phase.STEADY, Fact.UNREACHABLE): (Phase.STEADY, 3),
    (Phase.STEADY, Fact.GONE): (Phase.STEADY, 3),
    (Phase.STEADY, Fact.BETTER): (Phase.STEADY, 2),
    (Phase.STEADY, Fact.TOLD): (Phase.STEADY, 2),
    (Phase.DOUBTED, Fact.ALIVE): (Phase.STEADY, 0),
    (Phase.DOUBTED, Fact.OVERDUE): (Phase.STEADY, 3),
    (Phase.DOUBTED, Fact.UNREACHABLE): (Phase.STEADY, 3),
    (Phase.DOUBTED, Fact.GONE): (Phase.STEADY, 3),
    (Phase.DOUBTED, Fact.BETTER): (Phase.STEADY, 2),
    (Phase.DOUBTED, Fact.TOLD): (Phase.STEADY, 2),
}


@pytest.mark.parametrize("fact", Fact)
@pytest.mark.parametrize("phase", Phase)
def test_each_phase_and_fact(phase: Phase, fact: Fact) -> None:
    world = in_phase(phase)
    failover = world.failover
    before = world.numbers, failover.next_timeout(), failover.probe_interval(world.now)
    failover._fact(fact, world.now, world.pairs[2])
    if (phase, fact) in ROWS:
        assert (failover.phase, world.numbers[0]) == ROWS[phase, fact]
        assert world.take()
    else:
        assert failover.phase is phase
        assert (world.numbers, failover.next_timeout(), failover.probe_interval(world.now)) == before
        assert world.take() == []


def test_the_first_choice_is_healthy_nominated_and_preferred() -> None:
    for prepare, expected in (("", 0), ("sick", 1), ("nominated", 2), ("both", 1), ("expired", 1)):
        world = World(chosen=False, watched=False)
        if prepare in ("sick", "both"):
            world.sick(0)
        if prepare in ("nominated", "both"):
            world.pairs[0 if prepare == "both" else 2].nomination = 4
        if prepare == "expired":
            world.pairs[0].to("expired")
        world.failover.usable(world.now)
        assert world.take() == [Move(world.pairs[expected])]


def test_without_a_usable_pair_nothing_is_chosen() -> None:
    world = World(chosen=False, watched=False, numbers=(0,))
    world.pairs[0].to("expired")
    world.failover.usable(world.now)
    assert (world.failover.phase, world.numbers, world.take()) == (Phase.NONE, (None, ()), [])
    assert world.failover.next_timeout() == NEVER
    world.failover.move(world.now)
    world.failover.missed(world.now)
    world.failover.unreachable(world.now)
    world.failover.gone(world.now)
    world.failover.set_protect(True, world.now)
    assert world.failover.silence(world.now) == 0.0
    assert not world.failover.has_backup(world.now)
    assert world.take() == []


# --- silence ----------------------------------------------------------------------------------------------------------


def test_steady_media_is_missed_after_seventy_milliseconds_and_not_before() -> None:
    world = World()
    heard = world.now
    assert world.failover.heard_at == heard
    assert world.patience() == pytest.approx(PATIENCE)
    world.failover.handle_timeout(heard + PATIENCE - BARELY)
    assert world.take() == []
    world.failover.handle_timeout(heard + PATIENCE + BARELY)
    assert world.take() == [Double((world.pairs[3],), pytest.approx(PATIENCE + RTT, abs=1e-4)), Probe(doubted=True)]


@pytest.mark.parametrize(("pause", "patience"), [(0.02, 0.07), (0.04, 0.07), (0.1, 0.145), (0.2, 0.27), (0.6, 0.4)])
def test_pauses_are_learnt(pause: float, patience: float) -> None:
    """Packets come in bunches, one every 20 ms on average: a fourth more than the pause between, and 20 ms."""
    world = World()
    for _ in range(40):
        for _ in range(round(pause / 0.02) - 1):
            world.failover.heard(world.pairs[0], world.now)
        world.media(pause, pause)
    assert world.patience() == pytest.approx(patience, abs=0.001)


def test_a_hiccup_is_worth_twenty_milliseconds_and_is_forgotten_in_forty_seconds() -> None:
    world = World()
    world.media(0.3, 0.3)
    assert world.patience() == pytest.approx(PATIENCE + 1.25 * 0.02)
    world.media(20.0)
    assert world.patience() == pytest.approx(PATIENCE + 1.25 * 0.01)
    world.media(20.0)
    assert world.patience() == pytest.approx(PATIENCE)


def test_a_longer_pause_by_a_little_is_learnt_as_it_is() -> None:
    world = World()
    world.media(0.05, 0.05)
    assert world.patience() == pytest.approx(PATIENCE + 1.25 * 0.01)


def test_the_peer_has_four_tenths_of_a_second_to_begin() -> None:
    world = World(watched=False)
    world.failover.watch(world.now)
    assert world.failover.watching
    assert world.failover.heard_at == world.now
    assert world.patience() == pytest.approx(0.4 + PATIENCE)


def test_what_is_not_watched_is_never_in_doubt() -> None:
    world = World(watched=False)
    assert world.failover.next_timeout() == NEVER
    world.failover.handle_timeout(world.now + 60)
    assert world.take() == []


def test_media_on_another_pair_does_not_break_the_silence() -> None:
    world = World()
    heard = world.now
    world.media(0.06, number=1)
    assert world.failover.heard_at == world.now
    assert world.failover.next_timeout() == pytest.approx(heard + PATIENCE)
    assert world.failover.silence(world.now) == pytest.approx(0.06)
    world = World()
    world.failover.heard(world.pairs[1], world.now)  # after a long pause, there
    assert world.patience() == pytest.approx(PATIENCE)


def test_after_a_move_the_peer_has_a_round_trip_to_follow() -> None:
    world = World()
    world.failover.told(world.pairs[3], world.now)
    assert world.patience() == pytest.approx(RTT + 0.07 + PATIENCE)


# --- where media goes, and what goes again ----------------------------------------------------------------------------


def test_what_was_lost_in_silence_goes_again_where_it_did_not_go_yet() -> None:
    world = World()
    world.now += 0.04
    world.pairs[0].suspect = True
    world.failover.unreachable(world.now)
    assert world.take() == [Move(world.pairs[3], pytest.approx(0.04 + RTT, abs=1e-4), failed=True)]
    world = World()
    world.doubt()
    world.pairs[0].suspect = True
    world.failover.unreachable(world.now)
    assert world.take() == [Move(world.pairs[3], 0.0, failed=True), Double((), 0.0)]


def test_a_minute_is_as_long_as_silence_gets() -> None:
    world = World()
    assert world.failover.silence(world.now + 59) == pytest.approx(59)
    assert world.failover.silence(world.now + 61) == 60.0


def test_nothing_goes_again_after_a_move_that_nothing_failed_for() -> None:
    world = World()
    world.failover.move(world.now + 0.04)
    assert world.take() == [Move(world.pairs[3])]
    world = World()
    world.failover.told(world.pairs[1], world.now + 0.04)
    assert world.take() == [Move(world.pairs[1])]
    world = World(watched=False)  # nothing is known of what came
    world.pairs[0].suspect = True
    world.failover.unreachable(world.now)
    assert world.take() == [Move(world.pairs[3], 0.0, failed=True)]


@pytest.mark.parametrize(
    ("prepare", "spare"),
    [
        ({}, 3),  # shares no relay
        ({3: "missed"}, 1),  # shares one, is preferred
        ({3: "retiring"}, 1),
        ({3: "suspect"}, 1),
        ({3: "expired"}, 1),
        ({3: "missed", 2: "nominated"}, 2),
        ({2: "nominated"}, 3),
        ({3: "missed", 1: "suspect"}, 2),
    ],
)
@pytest.mark.parametrize("why", ["move", "protect", "doubt"])
def test_the_spare_is_healthy_then_apart_then_nominated_then_preferred(
    prepare: dict[int, str], spare: int, why: str
) -> None:
    world = World()
    for number, what in prepare.items():
        pair = world.pairs[number]
        pair.missed = 3 if what == "missed" else 0
        pair.nomination = 1 if what == "nominated" else -1
        pair.suspect, pair.retiring = what == "suspect", what == "retiring"
        if what == "expired":
            pair.to("expired")
    if why == "move":
        world.failover.move(world.now)
        assert world.numbers == (spare, ())
    elif why == "protect":
        world.failover.set_protect(True, world.now)
        assert world.numbers == (0, (spare,))
    else:
        world.doubt()
        assert world.numbers == (0, (spare,))


def test_a_pair_that_misses_answers_carries_doubles_when_there_is_no_better_and_is_not_moved_to() -> None:
    for what, expected in (("missed", (3,)), ("retiring", (3,)), ("suspect", ()), ("expired", ())):
        world = World(numbers=(0, 3))
        pair = world.pairs[3]
        pair.missed = 3 if what == "missed" else 0
        pair.suspect, pair.retiring = what == "suspect", what == "retiring"
        if what == "expired":
            pair.to("expired")
        world.failover.move(world.now)
        assert world.take() == []
        world.doubt()
        assert world.numbers == (0, expected)


def test_in_doubt_a_pair_that_answers_is_better_than_one_that_shares_nothing() -> None:
    world = World()
    world.doubt()
    world.answer(2, world.now + RTT)
    assert world.numbers == (0, (2,))
    [double] = world.take()
    assert isinstance(double, Double)
    assert double.pairs == (world.pairs[2],)
    assert double.resend > RTT, "what the first spare may have swallowed goes again"
    world.answer(3, world.now + 2 * RTT)
    assert world.numbers == (0, (3,))


def test_what_answered_in_an_earlier_doubt_counts_no_longer() -> None:
    world = World()
    world.doubt()
    world.answer(2, world.now + RTT)
    world.answer(0, world.now + RTT)
    assert world.numbers == (0, ())
    world.failover.move(world.now + 2 * RTT)
    assert world.numbers == (3, ())
    world = World()
    world.doubt()
    world.answer(2, world.now + RTT)
    world.answer(0, world.now + RTT)
    world.take()
    world.tick(world.now + 2)
    assert world.failover.phase is Phase.DOUBTED
    assert world.numbers == (0, (3,))


# --- over two paths always --------------------------------------------------------------------------------------------


def test_protection_goes_on_and_off_at_once_and_outlives_a_move() -> None:
    world = World()
    world.failover.set_protect(True, world.now)
    assert world.take() == [Double((world.pairs[3],))]
    world.doubt()
    assert world.numbers == (0, (3,))
    world.failover.told(world.pairs[3], world.now)
    assert world.numbers == (3, (0,))
    world.failover.set_protect(False, world.now)
    assert world.numbers == (3, ())
    world = World(chosen=False, watched=False)
    world.failover.set_protect(True, world.now)
    assert world.take() == []
    world.failover.usable(world.now)
    assert world.take() == [Move(world.pairs[0]), Double((world.pairs[3],))]


# --- a better one -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "other", "rtt", "after", "moves"),
    [
        (1, 0, 0.078, 0.49, True),
        (1, 0, 0.079, 0.49, False),  # slower than expectation can explain
        (1, 0, RTT, 0.51, False),  # settled
        (0, 1, RTT, 0.49, False),  # not preferred
        (0, 1, 0.01, 0.49, False),  # nor does measurement count yet
        (0, 1, 0.01, 9.9, False),
        (0, 1, 0.01, 10.1, True),
        (0, 1, 0.055, 10.1, False),  # not clearly faster
        (0, 0, 0.01, 10.1, False),
    ],
)
def test_expectation_has_its_say_for_a_moment_and_then_measurement(
    chosen: int, other: int, rtt: float, after: float, moves: bool
) -> None:
    world = World(chosen=False, watched=False)
    world.pairs[chosen].nomination = 1
    world.failover.usable(world.now)
    pair = world.pairs[other]
    pair.rtt = rtt
    world.take()
    world.failover.faster(pair, world.now + after)
    assert world.take() == [Move(pair)] * moves


def test_only_between_healthy_pairs_of_a_steady_choice_there_is_a_better_one() -> None:
    for what in ("none", "other", "chosen", "doubted"):
        world = World(chosen=what != "none", watched=what != "none")
        world.pairs[1].rtt = 0.01
        if what == "doubted":
            world.doubt()
        elif what != "none":
            world.sick(1 if what == "other" else 0)
        world.failover.faster(world.pairs[1], world.now)
        assert world.take() == []


def test_ten_seconds_pass_between_a_move_and_one_for_speed() -> None:
    world = World()
    world.failover.told(world.pairs[3], world.now)
    world.pairs[1].rtt = 0.01
    world.failover.faster(world.pairs[1], world.now + 10 - BARELY)
    assert world.numbers[0] == 3
    world.failover.faster(world.pairs[1], world.now + 10 + BARELY)
    assert world.numbers[0] == 1


@pytest.mark.parametrize("why", ["failed", "told"])
def test_whoever_leaves_a_path_looks_at_all_the_others(why: str) -> None:
    """A relay that failed under one path may carry others, which are looked at rarely."""
    world = World()
    if why == "failed":
        world.pairs[0].suspect = True
        world.failover.unreachable(world.now)
    else:
        world.failover.told(world.pairs[1], world.now)
    assert world.failover.decisions[0] == Probe(doubted=False)
    world = World()
    world.failover.move(world.now)
    assert Probe(doubted=False) not in world.failover.decisions
