"""Whether more was too much."""

from __future__ import annotations

from relaycall.quality.trial import MORE, NEVER, TRIAL, UNDONE, USUAL, Trial


def test_nothing_is_on_trial_at_first_and_after_a_while() -> None:
    trial = Trial()
    assert trial.limit(0.0) == NEVER
    trial.begin(10.0, round_trip=0.5)
    assert trial.limit(10.0 + TRIAL + 0.49) < NEVER
    assert trial.limit(10.0 + TRIAL + 0.5) == NEVER
    trial.begin(20.0, round_trip=0.0)
    trial.end()
    assert trial.limit(20.1) == NEVER


def test_what_is_usual_is_the_longest_wait_just_before() -> None:
    trial = Trial()
    for at, queue in ((7.0, 0.5), (10.0 - USUAL + 0.1, 0.04), (9.9, 0.01)):
        trial.note(at, queue)
    trial.begin(10.0, round_trip=0.0)
    assert trial.limit(10.0) == 0.04 + MORE
    trial.note(11.0, 0.2)
    assert trial.limit(11.0) == 0.04 + MORE, "what comes of it does not count"
    assert not trial.is_undone(0.04 + UNDONE)
    assert trial.is_undone(0.04 + UNDONE - 0.001)
    trial.end()
    assert trial.is_undone(0.05), "less is sent, and it is still known what is usual"
