"""Trials of paths, in virtual time: which is found better, how long it takes, and that nothing is checked for ever."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from relaycall.ice.pair import Pair
from relaycall.ice.trial import INTERVAL, LASTS, MAX_PAIRS, MAX_PAUSE, MAX_WAIT, NEVER, PAUSE, Trial
from relaycall.stun.address import Address

SEEDS = range(20)


def a_pair(number: int, rtt: float) -> Pair:
    """Valid, and answered for a while."""
    pair = Pair(number, Address(f"1.1.1.{number}", 5000), 100 - number, 0.0)
    for at in range(10):
        tid = bytes((number, at))
        pair.check_sent(tid, float(at), True)
        pair.check_answered(tid, at + rtt, 30.0)
    pair.next_check = 1000.0
    return pair


def run(pairs: list[Pair], losses: list[float], rtts: list[float], seed: int = 0) -> tuple[Pair | None, float]:
    """The verdict on the first pair, and how long it took."""
    chance, trial, now = random.Random(seed), Trial(), 20.0
    trial.start(pairs, now)
    answers: list[tuple[float, Pair, bytes]] = []
    serial = 0
    while trial.next_timeout() < NEVER:
        now = max(now, trial.next_timeout())
        for answer in sorted((one for one in answers if one[0] <= now), key=lambda one: one[0]):
            answers.remove(answer)
            answer[1].check_answered(answer[2], answer[0], 30.0)
        better = trial.handle_timeout(pairs[0], now)
        if better is not None:
            return better, now - 20.0
        for pair, loss, rtt in zip(pairs, losses, rtts, strict=True):
            if pair.next_check <= now:
                serial += 1
                tid = serial.to_bytes(4, "big")
                pair.check_sent(tid, now, True)
                pair.next_check = 1000.0
                if chance.random() >= loss:
                    answers.append((now + rtt, pair, tid))
        assert now < 30
    return None, now - 20.0


def test_the_shorter_path_is_found() -> None:
    pairs = [a_pair(1, 0.2), a_pair(2, 0.1), a_pair(3, 0.15)]
    better, took = run(pairs, [0, 0, 0], [0.2, 0.1, 0.15])
    assert better is pairs[1]
    assert took <= LASTS + MAX_WAIT + 2 * INTERVAL


def test_the_path_that_loses_less_is_found() -> None:
    found = 0
    for seed in SEEDS:
        pairs = [a_pair(1, 0.1), a_pair(2, 0.12)]
        found += run(pairs, [0.3, 0.0], [0.1, 0.12], seed)[0] is pairs[1]
    assert found >= 16


def test_among_equals_nobody_moves() -> None:
    for seed in SEEDS:
        pairs = [a_pair(1, 0.1), a_pair(2, 0.09), a_pair(3, 0.1)]
        assert run(pairs, [0.0, 0.0, 0.0], [0.1, 0.09, 0.1], seed)[0] is None


def test_a_short_path_that_loses_more_is_none() -> None:
    assert not any(run([a_pair(1, 0.2), a_pair(2, 0.05)], [0.0, 0.3], [0.2, 0.05], seed)[0] for seed in SEEDS)


@pytest.mark.parametrize("loss", [0.02, 0.1, 0.3, 0.5])
def test_loss_by_chance_moves_hardly_anybody(loss: float) -> None:
    moves = sum(run([a_pair(1, 0.1), a_pair(2, 0.1)], [loss, loss], [0.1, 0.1], seed)[0] is not None for seed in SEEDS)
    assert moves <= 1


def test_a_suspect_path_is_no_choice() -> None:
    pairs = [a_pair(1, 0.2), a_pair(2, 0.05)]
    pairs[1].retiring = True
    assert run(pairs, [0, 0], [0.2, 0.05])[0] is None


def test_with_one_path_there_is_nothing_to_try() -> None:
    trial = Trial()
    trial.start([a_pair(1, 0.1)], 20.0)
    assert trial.next_timeout() == NEVER


def test_many_paths_are_not_all_checked() -> None:
    pairs = [a_pair(number, 0.1) for number in range(1, 20)]
    trial = Trial()
    trial.start(pairs, 20.0)
    trial.handle_timeout(pairs[0], 20.0)
    assert sum(pair.next_check == 20.0 for pair in pairs) == MAX_PAIRS


def test_after_a_trial_in_vain_the_next_one_waits_ever_longer() -> None:
    pairs = [a_pair(1, 0.1), a_pair(2, 0.1)]
    trial, now, began = Trial(), 20.0, []
    while now < 1000:
        trial.start(pairs, now)
        if trial.next_timeout() < NEVER:
            began.append(now)
            while trial.next_timeout() < NEVER:
                now = trial.next_timeout()
                assert trial.handle_timeout(pairs[0], now) is None
        now += 1
    waits = [after - before for before, after in pairwise(began)]
    assert waits == sorted(waits)
    assert PAUSE < waits[0] < PAUSE + 2 * LASTS
    assert MAX_PAUSE < waits[-1] < MAX_PAUSE + 2 * LASTS


def test_a_second_trial_waits_for_the_first() -> None:
    pairs = [a_pair(1, 0.1), a_pair(2, 0.1)]
    trial = Trial()
    trial.start(pairs, 20.0)
    trial.handle_timeout(pairs[0], 20.0)
    trial.start(pairs, 21.0)
    assert trial.next_timeout() == 20.0 + INTERVAL


@pytest.mark.parametrize("chosen", [None, a_pair(9, 0.1)])
def test_if_the_path_in_use_is_another_one_now_there_is_no_verdict(chosen: Pair | None) -> None:
    pairs = [a_pair(1, 0.2), a_pair(2, 0.05)]
    trial = Trial()
    trial.start(pairs, 20.0)
    verdicts = []
    while trial.next_timeout() < NEVER:
        verdicts.append(trial.handle_timeout(chosen, trial.next_timeout()))
    assert set(verdicts) == {None}
