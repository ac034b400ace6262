"""Mallory lets through what he likes. Whatever he drops, both sides come to an end in time, and know why."""

from __future__ import annotations

import asyncio

import pytest

from relaycall.call import desk, state
from relaycall.call.call import Call
from relaycall.call.messages import Kind
from relaycall.call.ring import Ring
from relaycall.media.audio import SilenceSource
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until
from tests.scenarios.mitm.world import World, mallorys_world

RING, SETUP, INTRODUCTION = 0.5, 0.5, 0.3  # seconds, in place of 60, 30 and 20
SLACK = 2.5  # seconds: closing may take two


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "RING_TIMEOUT", RING)
    monkeypatch.setattr(state, "SETUP_TIMEOUT", SETUP)
    monkeypatch.setattr(desk, "INTRODUCTION_TIMEOUT", INTRODUCTION)


async def ends(*calls: Call | Ring, within: float) -> list[str]:
    """Why they ended, within the time that is promised and what closing takes."""
    async with asyncio.timeout(within + SLACK):
        return [(await call.ended()).reason for call in calls]


def nothing_is_left(world: World) -> bool:
    return not any(person.calls for person in world.people) and not sum(relay.active for relay in world.relays)


@pytest.mark.slow
@pytest.mark.parametrize("introduced", [True, False], ids=["introduced", "not introduced"])
async def test_nothing_gets_through(introduced: bool) -> None:
    async with mallorys_world() as world:
        alice, bob = await world.two()
        if not introduced:
            await alice.store.remove("prekeys/" + alice.phone.contacts.get("Bob").entry.removeprefix("contacts/"))
        world.path.plan = lambda _: []
        call = await alice.phone.call("Bob", audio=SilenceSource())
        assert await ends(call, within=RING) == ["unanswered"]
        assert bob.rings == []
        assert nothing_is_left(world)
        assert world.sent(Kind.OFFER if introduced else Kind.INTRODUCTION)


@pytest.mark.slow
async def test_nothing_gets_through_after_the_ring() -> None:
    """The callee's phone stops ringing though nobody tells it that the caller gave up."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        call, ring = await world.ringing(alice, bob)
        world.path.plan = lambda _: []
        assert await ends(call, ring, within=RING) == ["unanswered", "unanswered"]
        assert nothing_is_left(world)


@pytest.mark.slow
@pytest.mark.parametrize("dropped", [{Kind.ANSWER}, {Kind.ANSWER, Kind.RINGING}], ids=["answer", "all answers"])
async def test_the_answer_does_not_get_through(dropped: set[Kind]) -> None:
    async with mallorys_world() as world:
        alice, bob = await world.two()
        world.dropping(*dropped)
        call, ring = await world.ringing(alice, bob)
        answered = ring.accept(audio=SilenceSource())
        reasons = await ends(call, answered, within=RING + SETUP)
        assert reasons in (
            ["unanswered", "cancelled"],
            ["unanswered", "setup_timeout"],
            ["peer_hung_up", "setup_timeout"],
        )
        assert nothing_is_left(world)
        assert world.wiretap.packets == []


@pytest.mark.slow
async def test_nothing_gets_through_after_the_acceptance() -> None:
    """Neither the answer nor anybody's last words."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        call, ring = await world.ringing(alice, bob)
        world.path.plan = lambda _: []
        answered = ring.accept(audio=SilenceSource())
        assert await ends(call, answered, within=RING + SETUP) == ["unanswered", "setup_timeout"]
        assert nothing_is_left(world)


async def test_nothing_gets_through_once_the_call_is_up() -> None:
    """The call does not need him: it goes on, and its end is told on the media path."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        call, answered = await world.connected(alice, bob)
        world.path.plan = lambda _: []
        before = alice.heard(), bob.heard()
        await until(lambda: alice.heard() > before[0] + 5 and bob.heard() > before[1] + 5)
        await call.hang_up()
        assert await ends(answered, within=0) == ["peer_hung_up"]
        assert nothing_is_left(world)


@pytest.mark.parametrize("stripped", [Kind.RINGING, Kind.CONFIRM], ids=lambda kind: kind.name.lower())
async def test_what_the_call_can_do_without(stripped: Kind) -> None:
    """Stripped of its confirmation, the callee has no words to compare; it never has wrong ones."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        world.dropping(stripped)
        call, answered = await world.connected(alice, bob)
        await until(lambda: alice.heard() > 5 and bob.heard() > 5)
        await world.settled()
        assert answered.spoken_words == ("" if stripped is Kind.CONFIRM else call.spoken_words)
        await call.hang_up()
        assert await ends(answered, within=0) == ["peer_hung_up"]


@pytest.mark.slow
@pytest.mark.parametrize("stripped", [Kind.DECLINED, Kind.CANCELLED, Kind.HUNG_UP], ids=lambda kind: kind.name.lower())
async def test_the_end_does_not_get_through(stripped: Kind) -> None:
    """Then each side comes to its own."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        world.dropping(stripped)
        if stripped is Kind.HUNG_UP:
            call, answered = await world.connected(alice, bob)
            await call.hang_up()
            reasons = await ends(call, answered, within=0)
        else:
            call, ring = await world.ringing(alice, bob)
            await (ring.decline() if stripped is Kind.DECLINED else call.hang_up())
            reasons = await ends(call, ring, within=RING)
        assert (
            reasons
            == {
                Kind.DECLINED: ["unanswered", "declined"],
                Kind.CANCELLED: ["cancelled", "unanswered"],
                Kind.HUNG_UP: ["hung_up", "peer_hung_up"],
            }[stripped]
        )
        assert nothing_is_left(world)
        assert world.sent(stripped)


@pytest.mark.slow
async def test_a_code_that_mallory_demands_in_bobs_place_ends_nothing() -> None:
    """Only who is called may say that a code is needed."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        await world.befriends_mallory(alice, bob)
        await alice.store.remove("prekeys/" + alice.phone.contacts.get("Bob").entry.removeprefix("contacts/"))
        world.path.plan = lambda _: []
        call = await alice.phone.call("Bob", audio=SilenceSource())
        await until(lambda: bool(world.sent(Kind.INTRODUCTION)))
        await world.mallory.post(alice.card, Kind.CODE_NEEDED, b"")
        assert await ends(call, within=RING) == ["unanswered"]
        assert alice.refused == {"message_refused": 1}
