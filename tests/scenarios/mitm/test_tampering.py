"""Mallory alters, swaps and splices what he cannot open: it is refused as not for us, and the call takes place."""

from __future__ import annotations

import pytest

from relaycall.call.messages import Kind
from relaycall.media.audio import SilenceSource
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until
from tests.scenarios.mitm.alterations import ALTERATIONS
from tests.scenarios.mitm.path import Letter
from tests.scenarios.mitm.world import Person, World, mallorys_world

SETTING_UP = (Kind.OFFER, Kind.RINGING, Kind.ANSWER, Kind.CONFIRM)


async def a_call_takes_place(world: World, alice: Person, bob: Person) -> None:
    call, answered = await world.connected(alice, bob)
    await until(lambda: alice.heard() > 2 and bob.heard() > 2)
    await until(lambda: call.spoken_words == answered.spoken_words != "")
    await call.hang_up()
    assert (await answered.ended()).reason == "peer_hung_up"
    await world.settled()


@pytest.mark.parametrize("alteration", ALTERATIONS)
async def test_each_envelope_altered_and_then_as_it_was(alteration: str) -> None:
    """The altered one costs the true one nothing, whatever kind it is of."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        earlier: dict[bytes, bytes] = {}

        def alter(letter: Letter) -> list[Letter]:
            other = earlier.setdefault(letter.to, letter.envelope[::-1])
            earlier[letter.to] = letter.envelope
            return [letter.altered(ALTERATIONS[alteration](letter.envelope, other)), letter]

        world.path.plan = alter
        await a_call_takes_place(world, alice, bob)
        letters = [letter for letter in world.path.sent if world.inside(letter) is not None]
        to_alice, to_bob = (sum(letter.to == one.card.mailbox for letter in letters) for one in (alice, bob))
        assert (alice.refused, bob.refused) == ({"not_for_us": to_alice}, {"not_for_us": to_bob})
        assert min(to_alice, to_bob) >= 2


@pytest.mark.parametrize("kind", SETTING_UP, ids=lambda kind: kind.name.lower())
async def test_an_envelope_altered_in_place_of_the_true_one(kind: Kind) -> None:
    """It is sent again, and the call takes place; without a confirmation the callee has no words."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        left = [kind]

        def once(letter: Letter) -> list[Letter]:
            if not left or world.kind(letter) is not left[0]:
                return [letter]
            left.clear()
            return [letter.altered(ALTERATIONS["a bit of the content"](letter.envelope, b""))]

        world.path.plan = once
        call, answered = await world.connected(alice, bob)
        await until(lambda: alice.heard() > 2 and bob.heard() > 2)
        await world.settled()
        assert not left
        assert answered.spoken_words in ({"", call.spoken_words} if kind is Kind.CONFIRM else {call.spoken_words})
        at_bob = kind in (Kind.OFFER, Kind.CONFIRM)
        assert (alice.refused, bob.refused) == (
            {} if at_bob else {"not_for_us": 1},
            {"not_for_us": 1} if at_bob else {},
        )


async def test_envelopes_of_two_calls_swapped() -> None:
    """Alice calls Bob and Carol calls Dave; each call is given the other one's envelopes, and then the true ones."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        carol, dave = await world.person("Carol"), await world.person("Dave")
        await carol.knows(dave, "Dave")
        await dave.knows(carol, "Carol")
        partner = {
            one.card.mailbox: other.card.mailbox
            for one, other in ((alice, carol), (carol, alice), (bob, dave), (dave, bob))
        }
        world.path.plan = lambda letter: [letter.readdressed(partner[letter.to]), letter]
        calls = [*await world.connected(alice, bob), *await world.connected(carol, dave, "Dave")]
        await until(lambda: min(one.heard() for one in world.people) > 2)
        await world.settled()
        for one in world.people:
            assert set(one.refused) == {"not_for_us"}
            assert one.refused["not_for_us"] >= 2
        assert calls[0].spoken_words == calls[1].spoken_words != calls[2].spoken_words == calls[3].spoken_words
        assert len({call.id for call in calls}) == 2


async def test_answers_of_two_calls_of_the_same_two_swapped() -> None:
    """The first call is over; its answer, which Mallory kept back, reaches the second."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        world.dropping(Kind.ANSWER)
        first, ring = await world.ringing(alice, bob)
        ring.accept(audio=SilenceSource())
        await until(lambda: bool(world.sent(Kind.ANSWER)))
        await first.hang_up()
        await ring.ended()
        kept = world.sent(Kind.ANSWER)[0]
        instead = {Kind.RINGING: [kept]}  # as the first that comes, so its counter is good
        world.path.plan = lambda letter: instead.get(world.kind(letter), [letter])  # type: ignore[arg-type]
        await a_call_takes_place(world, alice, bob)
        assert set(alice.refused) <= {"message_replayed"}  # nothing came of it, nor of its repetitions
