"""Mallory delivers true envelopes again, late, in another order, to their sender, or to somebody else."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from relaycall.call import state
from relaycall.call.messages import Kind
from relaycall.identity.contact import Strangers
from relaycall.media.audio import SilenceSource
from tests.identity.enclosing import TO_PREKEY, enclosed
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until
from tests.scenarios.mitm.path import Letter
from tests.scenarios.mitm.world import Person, World, mallorys_world

SETTING_UP = {Kind.OFFER, Kind.RINGING, Kind.ANSWER, Kind.CONFIRM}


async def every_way_to_end(world: World, alice: Person, bob: Person) -> list[Letter]:
    """Calls that are hung up, declined, cancelled and busy. Returns all letters."""
    call, answered = await world.connected(alice, bob)
    await call.hang_up()
    await answered.ended()
    call, ring = await world.ringing(alice, bob)
    await ring.decline()
    assert (await call.ended()).reason == "declined"
    call, ring = await world.ringing(alice, bob)
    await call.hang_up()
    assert (await ring.ended()).reason == "cancelled"
    await world.settled()
    return list(world.path.sent)


async def again(world: World, letters: list[Letter]) -> None:
    for letter in letters:
        world.path.deliver(letter)
    await world.settled()


def count(letters: list[Letter], person: Person) -> int:
    return sum(letter.to == person.card.mailbox for letter in letters)


@pytest.mark.parametrize("order", ["as they came", "backwards", "shuffled"])
async def test_everything_again_after_the_calls(order: str) -> None:
    """Nothing rings, nothing is answered; introductions are among them."""
    async with mallorys_world() as world:
        alice, bob = await world.person("Alice"), await world.person("Bob")
        await alice.phone.contacts.add(bob.card, 0.0)
        await bob.phone.contacts.add(alice.card, 0.0)
        letters = await every_way_to_end(world, alice, bob)
        kinds = {world.kind(letter) for letter in letters}
        assert kinds >= {*SETTING_UP, Kind.INTRODUCTION, Kind.WELCOME, Kind.DECLINED, Kind.CANCELLED, Kind.HUNG_UP}
        replayed = list(letters)
        if order == "backwards":
            replayed.reverse()
        elif order == "shuffled":
            random.Random(1).shuffle(replayed)
        rings = len(bob.rings)
        await again(world, replayed)
        assert alice.refused == {"message_replayed": count(letters, alice)}
        assert bob.refused == {"message_replayed": count(letters, bob)}
        assert len(bob.rings) == rings
        assert world.path.sent == letters
        assert alice.calls == bob.calls == ()


async def test_everything_again_in_a_call() -> None:
    async with mallorys_world() as world:
        alice, bob = await world.two()
        await every_way_to_end(world, alice, bob)
        call, answered = await world.connected(alice, bob)
        letters = list(world.path.sent)
        await again(world, letters)
        assert alice.refused == {"message_replayed": count(letters, alice)}
        assert bob.refused == {"message_replayed": count(letters, bob)}
        before = alice.heard(), bob.heard()
        await until(lambda: alice.heard() > before[0] + 3 and bob.heard() > before[1] + 3)
        assert call.state == answered.state == "connected"
        assert (alice.calls, bob.calls) == ((call,), (answered,))


async def test_everything_again_after_a_restart() -> None:
    """The counters of contacts were kept before the messages were acted on."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        letters = await every_way_to_end(world, alice, bob)
        for person in (alice, bob):
            await person.phone.close()
        alice, bob = await world.person("Alice", alice.store), await world.person("Bob", bob.store)
        await again(world, letters)
        assert alice.refused == {"message_replayed": count(letters, alice)}
        assert bob.refused == {"message_replayed": count(letters, bob)}
        assert bob.rings == []
        assert world.path.sent == letters


@pytest.mark.slow
async def test_the_offer_of_a_stranger_again_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept about strangers, so it rings once more; who accepts hears nobody, and soon the call is over."""
    monkeypatch.setattr(state, "SETUP_TIMEOUT", 0.5)
    async with mallorys_world() as world:
        alice, bob = await world.person("Alice"), await world.person("Bob")
        await alice.phone.contacts.add(bob.card, 0.0)
        call, answered = await world.connected(alice, bob)
        await call.hang_up()
        await answered.ended()
        letters = list(world.path.sent)
        await bob.phone.close()
        bob = await world.person("Bob", bob.store)
        await again(world, letters)
        assert len(bob.rings) == 1
        ghost = bob.rings[0].accept(audio=SilenceSource())
        assert not await ghost.connected()
        assert (await ghost.ended()).reason in ("setup_timeout", "no_path")
        assert ghost.media is not None
        assert ghost.media.session is None or ghost.media.session.frames_heard == 0
        await world.settled()
        assert alice.errors[-1].code == "message_refused"  # the answer, about a call that is over


@pytest.mark.parametrize("kind", [*SETTING_UP], ids=lambda kind: kind.name.lower())
async def test_one_kind_doubled(kind: Kind) -> None:
    """The second is refused, and the call takes place."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        world.changing(kind, lambda letter: [letter, letter])
        call, answered = await world.connected(alice, bob)
        await until(lambda: alice.heard() > 2 and bob.heard() > 2)
        await until(lambda: call.spoken_words == answered.spoken_words != "")
        await world.settled()
        refused = Counter(alice.refused) + Counter(bob.refused)
        assert refused == {"message_replayed": len(world.sent(kind))}


@pytest.mark.parametrize("late", [*SETTING_UP], ids=lambda kind: kind.name.lower())
async def test_a_message_overtaken_by_the_next_one(late: Kind) -> None:
    """It is refused when it comes, and what matters was said again: the call takes place."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        held: list[Letter] = []

        def overtake(letter: Letter) -> list[Letter]:
            if world.kind(letter) is late and not held:
                held.append(letter)
                return []
            if len(held) == 1 and letter.to == held[0].to:
                held.append(letter)
                return [letter, held[0]]
            return [letter]

        world.path.plan = overtake
        call, answered = await world.connected(alice, bob)
        await until(lambda: alice.heard() > 2 and bob.heard() > 2)
        if late is Kind.CONFIRM:  # the last of all to the callee; then something else has to come
            call.hear(Kind.ANSWER, call._agreement.answer)
        await until(lambda: len(held) == 2)
        await world.settled()
        assert Counter(alice.refused) + Counter(bob.refused) == {"message_replayed": 1}
        assert call.state == answered.state == "connected"


async def test_everything_reflected_to_its_sender() -> None:
    async with mallorys_world() as world:
        alice, bob = await world.person("Alice"), await world.person("Bob")
        await alice.phone.contacts.add(bob.card, 0.0)
        world.path.plan = lambda letter: [letter.readdressed(letter.sender), letter]
        await every_way_to_end(world, alice, bob)
        by_alice, by_bob = (
            sum(letter.sender == one.card.mailbox for letter in world.path.sent) for one in (alice, bob)
        )
        assert alice.refused == {"not_for_us": by_alice}
        assert bob.refused == {"not_for_us": by_bob}


async def test_everything_forwarded_to_carol() -> None:
    """Who knows all of them, and whom all of them know."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        carol = await world.person("Carol")
        for one, name in ((alice, "Alice"), (bob, "Bob")):
            await carol.knows(one, name)
            await one.knows(carol, "Carol")
        world.path.plan = lambda letter: [letter.readdressed(carol.card.mailbox), letter]
        await every_way_to_end(world, alice, bob)
        assert carol.refused == {"not_for_us": len(world.path.sent)}
        assert carol.rings == []


async def test_an_offer_opened_by_its_recipient_and_sealed_again_to_carol() -> None:
    """Alice calls Mallory, and he passes on what she has signed: it names him as the one it is for."""
    async with mallorys_world() as world:
        alice, carol = await world.person("Alice"), await world.person("Carol")
        await world.befriends_mallory(alice, carol)
        await carol.knows(alice, "Alice")
        call = await alice.phone.call("Mallory", audio=SilenceSource())
        await until(lambda: bool(world.sent(Kind.OFFER)))
        prekey = world.mallory.own.prekeys.current
        info = b"relaycall envelope 1\0" + prekey.id
        signed = TO_PREKEY.decrypt(world.mallory.letters()[0].envelope[4:], prekey.hpke_key(), info)
        world.path.deliver(Letter(b"", carol.card.mailbox, enclosed(signed, carol.to_prekey)))
        await world.settled()
        assert carol.refused == {"signature_refused": 1}
        assert carol.rings == []
        await call.hang_up()


async def test_glare_forced_by_delay() -> None:
    """Mallory holds both offers until both have called: one call, the same on both sides."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        held: list[Letter] = []
        world.changing(Kind.OFFER, lambda letter: held.append(letter) or [])  # type: ignore[func-returns-value]
        calls = [await one.phone.call(name, audio=SilenceSource()) for one, name in ((alice, "Bob"), (bob, "Alice"))]
        await until(lambda: {letter.sender for letter in held} == {alice.card.mailbox, bob.card.mailbox})
        world.path.plan = lambda letter: [letter]
        for letter in held:
            world.path.deliver(letter)
        for call in calls:
            assert await call.connected()
        await until(lambda: alice.heard() > 2 and bob.heard() > 2)
        await until(lambda: calls[0].spoken_words == calls[1].spoken_words != "")
        assert calls[0].id == calls[1].id
        assert [call.caller for call in calls] in ([True, False], [False, True])
        assert len(alice.calls) == len(bob.calls) == 1
        await calls[0].hang_up()
        await calls[1].ended()
        assert sum(relay.active for relay in world.relays) == 0


@pytest.mark.parametrize("strangers", [Strangers.CODE, Strangers.REFUSE])
async def test_what_a_stranger_sent_is_refused_again_after_a_restart(strangers: Strangers) -> None:
    """By these policies nothing of a stranger's rings, the first time or later."""
    async with mallorys_world() as world:
        alice, bob = await world.person("Alice"), await world.person("Bob", strangers=strangers)
        await alice.knows(bob, "Bob")
        call = await alice.phone.call("Bob", audio=SilenceSource())
        await until(lambda: bob.refused != {})
        await call.hang_up()
        letters = list(world.path.sent)
        await bob.phone.close()
        bob = await world.person("Bob", bob.store, strangers=strangers)
        await again(world, letters)
        assert set(bob.refused) <= {"message_refused", "message_replayed"}
        assert bob.rings == []
        assert bob.calls == ()
        assert world.path.sent == letters
