"""The failover policy in doubt: what ends it, what makes it leave a path, and what the two sides tell each other."""

from __future__ import annotations

import pytest

from relaycall.ice.decisions import Double, Move, Phase, Probe
from relaycall.ice.pacing import retry_interval
from tests.ice.policy_world import BARELY, PATIENCE, RTT, World, in_phase

# --- leaving ----------------------------------------------------------------------------------------------------------


def left_after(world: World, sent: tuple[float, ...], proved: float, other: int = 3) -> float | None:
    """Seconds from the doubt until the chosen pair is left; checks on it were sent, and another answered, when?"""
    since = world.now
    for at in sent:
        world.check(world.pairs[0], since + at)
    assert world.tick(since + proved) == []
    world.answer(other, world.now)
    world.take()
    decisions = world.tick(since + 3)
    if world.numbers[0] == 0:
        return None
    assert decisions == [Move(world.pairs[other], 0.0, failed=True), Double(())]
    return world.now - since


@pytest.mark.parametrize(
    ("sent", "proved", "expected"),
    [
        ((0.0, 0.0, 0.0), RTT, 0.3),  # silence
        ((0.0, 0.0, 0.2), RTT, 0.45),  # the third check has its quarter of a second
        ((0.0, 0.1, 0.2, 0.3), RTT, 0.45),
        ((0.0, 0.0, 0.0), 0.5, 0.6),  # the other answered a tenth of a second ago
        ((0.0, 0.0), RTT, None),
        ((0.0, 0.0, 0.0), 2.95, None),
    ],
)
def test_silence_missed_checks_and_an_answer_elsewhere_each_are_needed(
    sent: tuple[float, ...], proved: float, expected: float | None
) -> None:
    world = World()
    world.doubt()
    left = left_after(world, sent, proved)
    if expected is None:
        assert left is None
        assert world.failover.phase is Phase.DOUBTED
    else:
        assert left is not None
        assert expected - BARELY <= left <= expected + 0.021  # it looks each 20 ms


@pytest.mark.parametrize("what", ["missed", "retiring", "suspect"])
def test_it_is_not_left_for_a_pair_that_is_not_healthy(what: str) -> None:
    world = World()
    world.doubt()
    since = world.now
    for _ in range(3):
        world.check(world.pairs[0], since)
    world.answer(3, since + RTT)
    pair = world.pairs[3]
    pair.missed, pair.suspect, pair.retiring = 3 * (what == "missed"), what == "suspect", what == "retiring"
    world.run(since + 2)
    assert world.numbers[0] == 0
    assert world.failover.next_timeout() <= world.now + 0.021


def test_its_own_answers_are_no_reason_to_leave_it() -> None:
    """An answer to an old check proves no other path, nor does one on the chosen pair."""
    world = World()
    world.doubt()
    since = world.now
    for _ in range(3):
        world.check(world.pairs[0], since)
    world.answer(3, since + RTT - BARELY)
    world.run(since + 2)
    assert world.numbers[0] == 0


def test_a_packet_in_doubt_puts_leaving_off() -> None:
    world = World()
    world.doubt()
    since = world.now
    for _ in range(3):
        world.check(world.pairs[0], since)
    world.answer(3, since + RTT)
    world.failover.heard(world.pairs[0], since + 0.2)
    world.take()
    world.tick(since + 1)
    assert world.now - since == pytest.approx(0.5, abs=0.021)
    assert world.numbers == (3, ())


def test_the_first_answer_elsewhere_counts_and_not_the_last() -> None:
    world = World()
    world.doubt()
    since = world.now
    for _ in range(3):
        world.check(world.pairs[0], since)
    for step in range(1, 5):
        world.tick(since + RTT * step)
        world.answer(3, since + RTT * step)
    world.tick(since + 0.4)
    assert world.numbers == (3, ())
    assert world.now - since == pytest.approx(0.3, abs=0.021)


def test_with_no_healthy_pair_it_stays_while_it_can() -> None:
    for phase in (Phase.STEADY, Phase.DOUBTED):
        world = in_phase(phase)
        world.sick(1, 2, 3)
        world.pairs[0].suspect = True
        world.failover.unreachable(world.now)
        assert (world.failover.phase, world.numbers[0]) == (phase, 0)
        world.pairs[1].nomination = 1
        world.remove(0)
        world.failover.gone(world.now)
        assert (world.failover.phase, world.numbers) == (Phase.STEADY, (3, ()))
        world.remove(1, 2, 3)
        world.failover.gone(world.now)
        assert (world.failover.phase, world.numbers) == (Phase.NONE, (None, ()))
        assert world.take()[-1] == Move(None)
        world.failover.usable(world.now)
        assert world.take() == []


def test_a_pair_that_is_removed_or_expires_is_left_and_no_other_is() -> None:
    for number, expected in ((0, 3), (1, 0)):
        for gone in (lambda world, number: world.remove(number), lambda world, n: world.pairs[n].to("expired")):
            world = World()
            gone(world, number)
            world.failover.gone(world.now)
            assert world.numbers == (expected, ())


def test_what_carries_doubles_and_is_gone_is_replaced() -> None:
    world = World()
    world.failover.set_protect(True, world.now)
    world.take()
    world.remove(3)
    world.failover.gone(world.now)
    assert world.take() == [Double((world.pairs[1],))]
    world.pairs[1].suspect = True
    world.failover.unreachable(world.now)
    assert world.take() == [Double((world.pairs[2],))]
    world.pairs[1].suspect = False
    world.answer(1, world.now)
    assert world.take() == [Double((world.pairs[1],))]


def test_without_a_path_nothing_carries_doubles() -> None:
    world = World()
    world.doubt()
    world.remove(0, 1, 2, 3)
    world.failover.gone(world.now)
    assert set(map(str, world.take())) == {str(Move(None)), str(Double(()))}


@pytest.mark.parametrize(
    ("watched", "silent", "missed", "left"),
    [
        (False, 0.0, 3, True),
        (False, 0.0, 2, False),
        (True, 0.29, 3, False),
        (True, 0.31, 3, True),
        (True, 0.31, 2, False),
    ],
)
def test_missed_checks_count_where_no_media_comes(watched: bool, silent: float, missed: int, left: bool) -> None:
    world = World(watched=watched)
    world.failover.heard(world.pairs[0], world.now)
    world.pairs[0].missed = missed
    world.failover.missed(world.now + silent)
    assert world.take() == ([Move(world.pairs[3], pytest.approx((silent + RTT) * watched, abs=1e-4), True)] * left)


def test_a_report_counts_at_once_though_media_comes_and_one_about_another_pair_does_not() -> None:
    world = World()
    world.sick(0)
    world.pairs[1].suspect = True
    world.failover.unreachable(world.now)
    assert world.take() == []
    world.pairs[0].suspect = True
    world.failover.missed(world.now)
    assert world.numbers == (3, ())


def test_a_path_that_is_given_up_is_left_without_fault_as_soon_as_another_answers() -> None:
    world = World()
    world.sick(1, 2, 3)
    world.pairs[0].retiring = True
    world.failover.unreachable(world.now)
    assert world.take() == []
    world.answer(2, world.now)
    assert world.take() == [Move(world.pairs[2])]


def test_a_pair_backs_the_chosen_one_while_it_answers_or_is_new() -> None:
    world = World(numbers=(0, 3))
    pair, backed = world.pairs[3], world.failover.has_backup
    assert backed(world.now)
    for what in ("suspect", "retiring"):
        setattr(pair, what, True)
        assert not backed(world.now)
        setattr(pair, what, False)
    pair.missed = 8
    assert backed(world.now)
    pair.missed = 9
    assert not backed(world.now)
    pair.missed = 0
    pair.to("expired")
    assert not backed(world.now)
    world.remove(3)
    assert not backed(world.now)
    created = world.add(3).created
    assert backed(created + 0.6 - BARELY)
    assert not backed(created + 0.6 + BARELY)


# --- alive ------------------------------------------------------------------------------------------------------------


def test_three_packets_end_the_doubt() -> None:
    for _ in range(2):
        world = World()
        for _ in range(2):  # each time it takes three
            world.doubt()
            world.failover.heard(world.pairs[1], world.now)
            world.media(0.04)
            assert world.failover.phase is Phase.DOUBTED
            world.media(0.02)
            assert world.take() == [Double(())]
            assert world.failover.phase is Phase.STEADY


def test_an_answer_to_a_check_that_was_sent_since_ends_the_doubt_for_a_second() -> None:
    world = World()
    world.doubt()
    since = world.now
    world.answer(0, since + 0.03)  # sent before
    world.answer(1, since + RTT)
    assert world.failover.phase is Phase.DOUBTED
    world.answer(0, since + RTT)
    assert (world.failover.phase, world.failover.also) == (Phase.STEADY, ())
    world.take()
    world.tick(since + 5)
    assert world.failover.phase is Phase.DOUBTED
    assert world.now == pytest.approx(since + RTT + 1.0 + PATIENCE, abs=1e-3)


def test_answers_on_a_steady_path_do_not_put_doubt_off() -> None:
    world = World()
    before = world.failover.next_timeout()
    world.answer(0, world.now)
    assert world.failover.next_timeout() == before


# --- what the peer asks for -------------------------------------------------------------------------------------------


def test_what_the_peer_wants_holds_for_half_a_second() -> None:
    world = World()
    world.failover.wanted(world.pairs[2], 0.1, world.now)
    assert world.take() == [Double((world.pairs[2],), pytest.approx(0.1 + RTT, abs=1e-4))]
    since = world.now
    world.media(0.4)
    world.failover.wanted(world.pairs[2], 0.5, world.now)
    assert world.take() == []
    world.media(0.48)
    world.failover.handle_timeout(world.now)
    assert world.take() == []
    world.media(0.02)
    assert world.tick(world.now + 0.05) == [Double(())]
    assert world.now == pytest.approx(since + 0.9)


def test_what_the_peer_wants_comes_before_our_own_choice_and_on_usable_pairs_only() -> None:
    world = World()
    world.doubt()
    for later, number in enumerate((0, 1, 2)):
        world.failover.wanted(world.pairs[number], 0.0, world.now + later / 100)
    assert world.numbers == (0, (2, 3)), "of several the latest, and our own"
    world.pairs[2].to("expired")
    world.failover.gone(world.now + 0.03)
    assert world.numbers == (0, (1, 3))


def test_the_others_word_is_followed_half_a_second_after_our_own_move() -> None:
    world = World()
    assert world.failover.agrees(world.now)
    world.failover.told(world.pairs[3], world.now)
    assert world.failover.agrees(world.now)
    world.failover.move(world.now)
    assert not world.failover.agrees(world.now + 0.5 - BARELY)
    assert world.failover.agrees(world.now + 0.5 + BARELY)
    world = World(chosen=False, watched=False)
    world.failover.usable(world.now)
    assert world.failover.agrees(world.now)


def test_checks_ask_for_media_on_doubled_pairs_in_doubt_and_on_the_pair_we_went_to() -> None:
    world = World()

    def asked() -> list[bool | None]:
        return [world.failover.asks(world.pairs[number], world.now) for number in range(4)]

    assert asked() == [None] * 4
    world.failover.wanted(world.pairs[2], 0.0, world.now)
    assert asked() == [None] * 4
    world.take()
    world.doubt()
    assert asked() == [None, None, False, False]
    world.pairs[0].suspect = True
    world.failover.unreachable(world.now)
    assert asked() == [None, None, None, True]
    world.now += 0.1
    assert asked()[3] is True
    world.failover.heard(world.pairs[3], world.now)
    assert asked() == [None] * 4


@pytest.mark.parametrize("chosen_by", ["move", "told", "first", "unwatched"])
def test_every_pair_is_checked_for_half_a_second_after_our_own_move(chosen_by: str) -> None:
    world = World(watched=chosen_by not in ("first", "unwatched"), chosen=chosen_by != "first")
    failover = world.failover
    if chosen_by == "first":
        failover.watch(world.now)
        failover.usable(world.now)
    elif chosen_by == "told":
        failover.told(world.pairs[3], world.now)
    else:
        failover.move(world.now)
    own = chosen_by == "move"
    for later, interval in ((0.0, 0.05), (0.49, 0.05), (0.51, None)):
        assert failover.probe_interval(world.now + later) == (interval if own else None)
        assert failover.asks(failover.chosen or world.pairs[0], world.now + later) is (
            True if own and interval else None
        )
    failover.heard(world.pairs[3], world.now)
    assert failover.probe_interval(world.now) is None


def test_checks_in_doubt_become_rarer() -> None:
    world = World()
    assert world.failover.probe_interval(world.now) is None
    world.doubt()
    steps = [(0.0, 0.05), (0.99, 0.05), (1.01, 0.2), (4.99, 0.2), (5.01, 0.5), (14.99, 0.5), (15.01, 1.0), (1e6, 1.0)]
    assert [(at, world.failover.probe_interval(world.now + at)) for at, _ in steps] == steps


def test_of_few_pairs_all_are_checked_as_often_in_doubt_and_none_more_often() -> None:
    world = World(numbers=(3, 1, 0))
    world.doubt()
    assert [retry_interval(pair, world.failover, world.now) for pair in world.pairs.values()] == [0.05] * 3


# --- our own stalls ---------------------------------------------------------------------------------------------------


def test_after_a_short_stall_silence_is_noticed_twenty_milliseconds_later() -> None:
    world = World()
    world.now += 0.2
    world.failover.stalled(0.2, world.now)
    assert world.take() == []
    assert world.patience() == pytest.approx(0.02)


def test_after_a_long_stall_the_path_gets_its_time_anew_and_every_pair_is_checked() -> None:
    world = World()
    world.now += 0.99
    world.failover.stalled(0.99, world.now)
    assert world.take() == []
    world.now += 1.0
    world.failover.stalled(1.0, world.now)
    assert world.take() == [Probe(doubted=False)]
    assert world.patience() == pytest.approx(PATIENCE)


def test_a_stall_of_a_tenth_of_a_second_excuses_every_pair() -> None:
    for seconds, missed in ((0.09, 3), (0.1, 0)):
        world = World()
        world.sick(*world.pairs)
        world.failover.stalled(seconds, world.now)
        assert [pair.missed for pair in world.pairs.values()] == [missed] * 4


def test_a_stall_never_makes_doubt_come_sooner() -> None:
    world = World(watched=False)
    world.failover.watch(world.now)
    before = world.failover.next_timeout()
    world.failover.stalled(0.2, world.now)
    assert world.failover.next_timeout() == before


@pytest.mark.parametrize(("stall", "expected"), [(0.29, 0.29 - PATIENCE + 0.02 + 0.3), (1.0, 1.0 + 0.3)])
def test_a_stall_in_doubt_puts_leaving_off(stall: float, expected: float) -> None:
    """Silence counts from shortly before the end of a short stall, and from the end of a long one."""
    world = World()
    world.doubt()
    since = world.now
    for _ in range(3):
        world.check(world.pairs[0], since)
    world.answer(3, since + RTT)
    world.now += stall
    world.failover.stalled(stall, world.now)
    world.take()
    world.tick(since + 3)
    assert world.numbers == (3, ())
    assert expected - BARELY <= world.now - since <= expected + 0.021
