"""The level: down after two seconds, up after five, lost in silence, and no flapping in between."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.quality.level import FAIR_FROM, GOOD_FROM, LevelWatch, level_of
from relaycall.quality.sample import Level
from relaycall.quality.score import opinion

G, F, P, L = Level.GOOD, Level.FAIR, Level.POOR, Level.LOST
SCORES = {G: 4.2, F: 3.1, P: 2.0}


def followed(worth: str, start: Level = G) -> str:
    """The level after each second that was worth G, F or P; "-": nothing came, "." a single packet did."""
    watch = LevelWatch(start)
    levels = {level.value[0].upper(): level for level in Level}
    shown = ""
    for letter in worth:
        if letter in "-.":
            watch.take(1.0, int(letter == "."), 1.0, 1.0)
        else:
            watch.take(1.0, 50, SCORES[levels[letter]], SCORES[levels[letter]])
        shown += watch.level.value[0].upper()
    return shown


@pytest.mark.parametrize(
    ("start", "worth", "shown"),
    [
        # down at once after two seconds, to the best of what it was worth in them
        (G, "PP", "GP"),
        (G, "FF", "GF"),
        (G, "FP", "GF"),
        (G, "PF", "GF"),
        (G, "FPPP", "GFFP"),
        # not for a single second, or two that are apart
        (G, "PGPGPG", "GGGGGG"),
        (F, "PFPFPF", "FFFFFF"),
        # up after five, to the worst of what it was worth in them
        (P, "GGGGG", "PPPPG"),
        (P, "GGFGG", "PPPPF"),
        (P, "FFFFF", "PPPPF"),
        (P, "GGGGPGGGGG", "PPPPPPPPPG"),
        (F, "GGGGFGGGGG", "FFFFFFFFFG"),
        (P, "FFFFFGGGGG", "PPPPFFFFFG"),
        # from better to worse and back: the time begins anew
        (F, "GGGGPGGGGG", "FFFFFFFFFG"),
        (F, "PGP", "FFF"),
        # silence
        (G, "-", "G"),
        (G, "--", "GL"),
        (G, "-.-.-", "GPPPP"),
        (G, "---G", "GLLP"),
        (G, "--GGGGGG", "GLPPPPPG"),
        (G, "--...", "GLLLL"),
        (P, "G-GGGGG", "PPPPPPG"),
        (P, "GGGG--", "PPPPPL"),
    ],
)
def test_the_level_follows(start: Level, worth: str, shown: str) -> None:
    assert followed(worth, start) == shown


def test_the_bounds_are_those_of_g_109() -> None:
    assert level_of(opinion(70.1)) is G
    assert level_of(opinion(69.9)) is F
    assert level_of(opinion(51.0)) is F
    assert level_of(opinion(49.0)) is P
    assert level_of(GOOD_FROM) is G
    assert level_of(FAIR_FROM) is F


def test_the_length_of_the_stretches_does_not_matter() -> None:
    for seconds in (0.1, 0.25, 1.0):
        watch = LevelWatch()
        taken = 0.0
        while not watch.take(seconds, 50 * seconds, 2.0, 2.0):
            taken += seconds
        assert 2.0 - seconds - 1e-6 <= taken <= 2.0
    assert LevelWatch().take(10.0, 500, 2.0, 2.0)
    assert LevelWatch().take(10.0, 0, 2.0, 2.0)


def after(start: Level, latest: float, recent: float) -> Level:
    """The level after ten seconds of the same."""
    watch = LevelWatch(start)
    for _ in range(10):
        watch.take(1.0, 50, latest, recent)
    return watch.level


@pytest.mark.parametrize(
    ("start", "latest", "recent", "then"),
    [
        (G, 1.0, 3.41, G),  # below the bound, within the margin
        (G, 1.0, 3.39, F),
        (F, 4.4, 3.79, F),
        (F, 4.4, 3.81, G),
        (F, 1.0, 2.41, F),
        (F, 1.0, 2.39, P),
        (P, 4.4, 2.79, P),
        (P, 4.4, 2.81, F),
        # what is bad in five seconds, and not in the latest, is over
        (G, 4.4, 1.0, G),
        (G, 3.0, 1.0, F),
        # what is good in five seconds is good
        (P, 1.0, 4.4, G),
    ],
)
def test_the_recent_score_has_a_margin(start: Level, latest: float, recent: float, then: Level) -> None:
    assert after(start, latest, recent) is then


def test_what_it_was_worth_before_it_was_lost_does_not_count() -> None:
    watch = LevelWatch()
    watch.take(1.0, 50, SCORES[F], SCORES[F])
    watch.take(2.0, 0, 1.0, 1.0)
    levels = []
    for _ in range(6):
        watch.take(1.0, 50, SCORES[G], SCORES[G])
        levels.append(watch.level)
    assert levels == [P, P, P, P, P, G]


def test_a_change_is_told_once() -> None:
    watch = LevelWatch()
    assert [watch.take(1.0, 50, 2.0, 2.0) for _ in range(4)] == [False, True, False, False]
    assert [watch.take(1.0, 0, 2.0, 2.0) for _ in range(4)] == [False, True, False, False]


@given(st.text("GFP-.", max_size=60), st.sampled_from(Level))
def test_it_never_flaps(worth: str, start: Level) -> None:
    """Between two times that it became better, or better and then worse, there are the seconds that it takes."""
    shown = start.value[0].upper() + followed(worth, start)
    order = "GFPL"
    changes = [
        (second, order.index(one) - order.index(other))
        for second, (one, other) in enumerate(pairwise(shown))
        if one != other and one != "L"  # from LOST to POOR it goes at once
    ]
    for (first, _), (then, gain) in pairwise(changes):
        assert then - first >= (5 if gain > 0 else 1)
