"""A link has two directions, is set and run by the event loop's clock, and counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relaycall.errors import ConfigError
from relaycall.testing.conditions import Conditions, Schedule
from relaycall.testing.link import Link
from relaycall.testing.profiles import profile


def conditions(link: Link, after: float = 0.0) -> tuple[Conditions, Conditions]:
    now = asyncio.get_running_loop().time() + after
    return link.fates["up"].at(now), link.fates["down"].at(now)


async def test_each_direction_is_set_for_itself() -> None:
    link = Link()
    link.set("both", delay=0.1)
    link.set("up", loss=0.5)
    assert conditions(link) == (Conditions(delay=0.1, loss=0.5), Conditions(delay=0.1))


def test_it_can_be_set_before_there_is_a_loop() -> None:
    link = Link()
    link.set("up", delay=0.1)
    assert link.fates["up"].conditions.delay == 0.1


@pytest.mark.parametrize(
    ("direction", "wrong"), [("sideways", {}), ("both", {"lose": 0.1}), ("both", {"loss": 7}), ("both", {"rate": 1})]
)
def test_what_cannot_be_changes_nothing(direction: Any, wrong: dict[str, float]) -> None:
    link = Link()
    with pytest.raises(ConfigError):
        link.set(direction, delay=0.1, **wrong)
    assert all(fate.conditions == Conditions() for fate in link.fates.values())


async def test_a_schedule_runs_in_one_direction() -> None:
    link = Link()
    link.run("up", Schedule([(5.0, {"rate": 9000})]))
    assert conditions(link) == (Conditions(), Conditions())
    assert conditions(link, 5.0) == (Conditions(rate=9000), Conditions())


async def test_what_is_set_is_set_after_the_steps_that_are_due() -> None:
    link = Link()
    link.run("up", Schedule([(0.0, {"rate": 9000})]))
    link.set("up", rate=None)
    assert conditions(link, 1.0)[0].rate is None


async def test_it_imitates_a_profile() -> None:
    link, congested = Link(), profile("congested")
    link.imitate(congested)
    assert conditions(link) == (congested.up, congested.down)
    up, down = conditions(link, 6.0)
    assert (up.rate, down.rate) == (150_000, 500_000)
    link.imitate(profile("good"))
    assert conditions(link, 6.0) == (profile("good").up, profile("good").down), "nothing is left of the one before"


def test_it_counts_what_passes_and_what_is_lost() -> None:
    link = Link(seed=3)
    assert link.lost("both") == 0.0
    link.set("up", loss=1.0)
    for _ in range(3):
        assert link.arrival("up", 0.0, 140) is None
        assert link.arrival("down", 0.0, 140) == 0.0
    assert link.counts == {("up", "lost"): 3, ("down", "passed"): 3}
    assert [link.lost(direction) for direction in ("up", "down", "both")] == [1.0, 0.0, 0.5]
    with pytest.raises(ConfigError):
        link.lost("sideways")  # type: ignore[arg-type]


def test_the_directions_have_a_luck_of_their_own() -> None:
    link = Link(seed=3)
    link.set("both", loss=0.5)
    up, down = ([link.arrival(direction, 0.0, 140) for _ in range(50)] for direction in ("up", "down"))
    assert up != down
