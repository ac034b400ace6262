"""The echo warning, on levels as people make them: talkspurts of syllables, and turns."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from relaycall.media.devices import echo
from relaycall.media.devices.echo import EVERY, EchoWatch
from relaycall.media.devices.level import SILENT, Level

SECOND = 50  # steps


def speech(seed: int) -> Iterator[float]:
    """Levels of somebody who talks and pauses: spurts of 0.3 to 3 s, syllables of 100 to 300 ms within."""
    rng = random.Random(seed)
    while True:
        for _ in range(rng.randint(2, 12)):
            loudest = rng.uniform(-32, -12)
            length = rng.randint(5, 15)
            for step in range(length):
                yield loudest - 18 * abs(2 * step / length - 1) + rng.gauss(0, 1.5)
        for _ in range(rng.randint(10, 90)):
            yield -70 + rng.gauss(0, 2)


def level(db: float) -> Level:
    return Level(min(0.0, db + 10), max(-96.0, min(0.0, db)))


def power_sum(*levels: float) -> float:
    return 10 * math.log10(sum(10 ** (one / 10) for one in levels))


def found_after(
    watch: EchoWatch, seconds: float, played: Iterator[float], own: Iterator[float], delay: int, loss_db: float | None
) -> float | None:
    """When it is found, in seconds. `loss_db`: by how much the echo is weaker; None for a headset."""
    past = [-96.0] * (delay + 1)
    noise = random.Random(0)
    for step in range(round(seconds * SECOND)):
        past.append(next(played))
        watch.played(level(past[-1]))
        echo = past[-1 - delay] - loss_db if loss_db is not None else -96.0
        watch.recorded(level(power_sum(echo, next(own), -58 + noise.gauss(0, 1))))
        if watch.found:
            return step / SECOND
    return None


def silence() -> Iterator[float]:
    while True:
        yield -96.0


@pytest.mark.parametrize("delay", [0, 3, 12, 24])
@pytest.mark.parametrize("loss_db", [0.0, 12.0, 20.0])
def test_an_echo_is_found_while_we_listen(delay: int, loss_db: float) -> None:
    times = [found_after(EchoWatch(), 30, speech(seed), silence(), delay, loss_db) for seed in range(4)]
    assert sum(time is not None and time < 20 for time in times) >= 3, times


@pytest.mark.parametrize("pairs", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_two_who_talk_without_regard_for_each_other_are_no_echo(pairs: int) -> None:
    """Ten minutes each."""
    times = [found_after(EchoWatch(), 600, speech(seed), speech(seed + 1000), 0, None) for seed in range(pairs)]
    assert times == [None] * pairs


@pytest.mark.parametrize(
    ("compared", "found"),
    [
        ([(3, 0.9)] * 4, True),
        ([(3, 0.9), (5, 0.85), (2, 0.9), (4, 0.81)], True),
        ([(3, 0.9)] * 3, False),
        ([(3, 0.79)] * 9, False),
        ([(3, 0.9), (3, 0.9), (3, 0.9), (3, 0.5)] * 3, False),
        ([(3, 0.9), (20, 0.9)] * 9, False),
        ([(20, 0.9), *[(3, 0.9)] * 4], True),
    ],
)
def test_it_has_to_be_so_four_times_in_a_row_at_about_the_same_delay(
    compared: list[tuple[int, float]], found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = iter(compared)
    monkeypatch.setattr(echo, "_best_delay", lambda played, recorded: next(results, (0, 0.0)))
    watch = EchoWatch()
    for _ in range(EVERY * (len(compared) + 5)):
        watch.played(SILENT)
        watch.recorded(SILENT)
    assert watch.found is found


def test_a_steady_sound_says_nothing() -> None:
    def hum() -> Iterator[float]:
        while True:
            yield -20.0

    assert found_after(EchoWatch(), 30, hum(), hum(), 3, 0.0) is None


def test_nothing_is_played() -> None:
    assert found_after(EchoWatch(), 30, silence(), speech(1), 0, None) is None


def test_what_comes_too_late_is_not_compared() -> None:
    assert found_after(EchoWatch(), 30, speech(3), silence(), 60, 0.0) is None


def test_a_speaker_that_gets_nothing_more_is_quiet() -> None:
    watch, voice = EchoWatch(), speech(4)
    watch.played(level(-12))
    for _ in range(60 * EVERY):
        watch.recorded(level(next(voice)))
    assert not watch.found
    assert len(watch._played) < 300
