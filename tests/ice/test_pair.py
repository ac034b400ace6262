"""One pair: its states, round trips, and what counts as a missed check."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from relaycall.ice.pair import ANSWER_LIFETIME, MAX_OUTSTANDING, Pair, PairState
from relaycall.stun.address import Address

CONSENT = 30.0


@pytest.fixture
def pair() -> Pair:
    return Pair(0, Address("2.2.2.2", 50000), 1, created=0.0)


TIDS: Iterator[int] = count(1)


def send(pair: Pair, now: float) -> bytes:
    tid = next(TIDS).to_bytes(12, "big")
    pair.check_sent(tid, now, True)
    return tid


def answered(pair: Pair, sent: float, rtt: float) -> None:
    assert pair.check_answered(send(pair, sent), sent + rtt, CONSENT)


def test_a_pair_is_usable_once_it_was_answered(pair: Pair) -> None:
    send(pair, 1.0)
    assert pair.state is PairState.CHECKING
    assert not pair.healthy
    answered(pair, 2.0, 0.1)
    assert pair.state is PairState.VALID
    assert pair.healthy
    assert pair.consent_until == pytest.approx(2.1 + CONSENT)


def test_an_answer_counts_once_and_only_for_a_check_that_was_sent(pair: Pair) -> None:
    tid = send(pair, 1.0)
    assert not pair.check_answered(bytes(12), 1.1, CONSENT)
    assert pair.state is PairState.CHECKING
    assert pair.check_answered(tid, 1.1, CONSENT)
    assert not pair.check_answered(tid, 1.2, CONSENT)
    assert (pair.sent, pair.answered) == (1, 1)


def test_an_answer_far_too_late_is_none(pair: Pair) -> None:
    tid, other = send(pair, 1.0), send(pair, 1.0)
    assert pair.check_answered(tid, 1.0 + ANSWER_LIFETIME, CONSENT)
    assert not pair.check_answered(other, 1.001 + ANSWER_LIFETIME, CONSENT)


def test_round_trips_are_smoothed_as_rfc_6298_says(pair: Pair) -> None:
    answered(pair, 1.0, 0.080)
    assert (pair.rtt, pair.rtt_min) == pytest.approx((0.080, 0.080))
    answered(pair, 2.0, 0.160)
    assert (pair.rtt, pair.rtt_min) == pytest.approx((0.090, 0.080))
    for second in range(3, 103):
        answered(pair, second, 0.040)
    assert pair.rtt == pytest.approx(0.040, rel=0.01)
    assert pair.rtt_min == pytest.approx(0.040)
    assert pair.patience == 0.25


def test_checks_are_missed_when_their_own_time_is_over(pair: Pair) -> None:
    answered(pair, 0.0, 0.4)
    answered(pair, 1.0, 0.4)
    patience = pair.patience
    assert 0.6 < patience < 1.0
    send(pair, 2.0)
    assert pair.count_missed(2.0 + patience - 0.001) == 0
    assert pair.count_missed(2.0 + patience) == 1
    send(pair, 3.0)
    send(pair, 3.2)
    assert pair.count_missed(3.2 + patience - 0.001) == 2
    assert pair.healthy
    assert pair.count_missed(3.2 + patience) == 3
    assert not pair.healthy


def test_any_answer_makes_a_pair_healthy_again(pair: Pair) -> None:
    answered(pair, 0.0, 0.1)
    tids = [send(pair, 1.0 + 0.2 * i) for i in range(5)]
    assert pair.count_missed(4.0) == 5
    pair.suspect = True
    assert pair.check_answered(tids[0], 4.0, CONSENT)  # late, but there
    assert pair.missed == 0
    assert pair.healthy
    assert pair.count_missed(9.0) == 0  # what was sent before that answer is forgiven


def test_checks_long_before_an_answered_one_are_forgotten(pair: Pair) -> None:
    answered(pair, 0.0, 0.1)
    old, recent, last = send(pair, 1.0), send(pair, 4.9), send(pair, 5.0)
    assert pair.check_answered(last, 5.1, CONSENT)
    assert list(pair.outstanding) == [recent]
    assert not pair.check_answered(old, 5.1, CONSENT)


def test_what_is_remembered_is_bounded(pair: Pair) -> None:
    tids = [send(pair, i / 100) for i in range(MAX_OUTSTANDING + 5)]
    assert list(pair.outstanding) == tids[5:]
    assert pair.sent == MAX_OUTSTANDING + 5


# --- what is made of it -----------------------------------------------------------------------------------------------


def test_a_stall_of_ours_excuses_what_was_sent_before_it(pair: Pair) -> None:
    """Whatever was sent counts as sent when the stall ended, and not as answered."""
    answered(pair, 0.0, 0.1)
    for at in (1.0, 1.0, 1.2):
        send(pair, at)
    assert pair.count_missed(3.0) == 3
    pair.excuse(3.0)
    assert pair.missed == 0
    assert pair.healthy
    assert pair.count_missed(3.0 + pair.patience - 0.001) == 0
    assert pair.count_missed(3.0 + pair.patience) == 3


def test_missed_checks_are_none_while_the_excuse_holds(pair: Pair) -> None:
    answered(pair, 0.0, 0.1)
    pair.excuse(3.0)
    pair.missed = 2
    assert pair.count_missed(3.0) == pair.missed == 0


@pytest.mark.parametrize("what", ["suspect", "retiring"])
def test_a_pair_that_is_reported_or_given_up_is_not_healthy(pair: Pair, what: str) -> None:
    answered(pair, 0.0, 0.1)
    setattr(pair, what, True)
    assert not pair.healthy
    answered(pair, 1.0, 0.1)
    assert pair.healthy == (what == "suspect")  # an answer does not change that it is given up


def test_a_pair_fails_after_six_checks_in_a_row(pair: Pair) -> None:
    answered(pair, 0.0, 0.1)
    pair.missed = 8
    assert not pair.fails
    pair.missed = 9
    assert pair.fails


def measured(rtt: float, deviation: float = 0.0, answers: int = 5) -> Pair:
    return Pair(
        0, Address("2.2.2.2", 50000), 1, created=0.0, rtt=rtt, rtt_deviation=deviation, answered=answers, sent=answers
    )


@pytest.mark.parametrize(
    ("pair", "other", "faster"),
    [
        (measured(0.079), measured(0.1), True),
        (measured(0.081), measured(0.1), False),
        (measured(0.079, answers=4), measured(0.1), False),
        (measured(0.079), measured(0.1, answers=4), False),
        (measured(0.075, deviation=0.004), measured(0.1), True),
        (measured(0.075, deviation=0.006), measured(0.1), False),
        (measured(0.075), measured(0.1, deviation=0.005), True),
        (measured(0.075), measured(0.1, deviation=0.007), False),
        (measured(0.1), measured(0.1), False),
    ],
)
def test_faster_is_what_is_clearly_faster_and_known_well(pair: Pair, other: Pair, faster: bool) -> None:
    assert pair.surely_faster_than(other) == faster


def placed(local: int, ours: str, theirs: str, port: int = 50000) -> Pair:
    return Pair(local, Address(theirs, port), 1, created=0.0, hosts=(ours, theirs))


def test_pairs_are_apart_that_share_no_relay_whoevers_it_is() -> None:
    """Least shared last; where the relays are the same, other allocations on them."""
    current = placed(0, "1.1.1.1", "2.2.2.2")
    others = [
        current,
        placed(1, "1.1.1.1", "2.2.2.2"),  # another allocation of ours on the same relays
        placed(1, "1.1.1.1", "2.2.2.2", 50001),  # and of the peer's
        placed(1, "2.2.2.2", "1.1.1.1"),  # the same two, swapped
        placed(0, "1.1.1.1", "2.2.2.3"),
        placed(1, "1.1.1.2", "2.2.2.2", 50001),
        placed(1, "2.2.2.2", "2.2.2.3"),  # the peer's relay is one of ours as well
        placed(1, "1.1.1.2", "2.2.2.3"),
    ]
    apart = [pair.apart_from(current) for pair in others]
    assert apart == [(-2, 0), (-2, 1), (-2, 2), (-2, 2), (-1, 1), (-1, 2), (-1, 2), (0, 2)]


# --- its states -------------------------------------------------------------------------------------------------------


def test_each_state_and_event() -> None:
    allowed = {
        (PairState.CHECKING, "answered"): PairState.VALID,
        (PairState.VALID, "answered"): PairState.VALID,
        (PairState.EXPIRED, "answered"): PairState.VALID,
        (PairState.VALID, "expired"): PairState.EXPIRED,
        (PairState.CHECKING, "removed"): PairState.DEAD,
        (PairState.VALID, "removed"): PairState.DEAD,
        (PairState.EXPIRED, "removed"): PairState.DEAD,
    }
    for state in PairState:
        for event in ("answered", "expired", "removed", "unheard of"):
            pair = Pair(0, Address("2.2.2.2", 50000), 1, created=0.0, state=state)
            if (state, event) in allowed:
                pair.to(event)
                assert pair.state is allowed[state, event]
            else:
                with pytest.raises(KeyError):
                    pair.to(event)
                assert pair.state is state


def test_a_pair_shows_no_address(pair: Pair) -> None:
    assert "2.2.2.2" not in f"{pair!r} {pair}"
