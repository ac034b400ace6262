"""Before two people know each other: cards that Mallory swaps, and introductions that he takes part in."""

from __future__ import annotations

import time

import msgspec
import pytest

from relaycall.call.messages import Kind, offer_body
from relaycall.errors import CardRefused, ContactExists, KeyChanged
from relaycall.identity.card import Card, card_from_text, card_to_text
from relaycall.identity.contact import Strangers, Unverified
from relaycall.identity.handshake import CallerHandshake
from relaycall.identity.safety import safety_number
from relaycall.media.audio import SilenceSource
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until
from tests.scenarios.mitm.between import Between, between
from tests.scenarios.mitm.correspondent import Correspondent
from tests.scenarios.mitm.path import URL, Letter
from tests.scenarios.mitm.world import Person, World, mallorys_world


async def swapped_cards(world: World, **bobs: Unverified) -> tuple[Person, Person, Correspondent, Correspondent]:
    """Alice and Bob know each other by cards that Mallory has made, and have compared nothing."""
    alice, bob = await world.person("Alice"), await world.person("Bob", **bobs)
    as_bob = await Correspondent.fresh(world.path, "Bob")
    as_alice = await Correspondent.fresh(world.path, "Alice")
    await alice.knows(as_bob, "Bob", verified=False)
    await bob.knows(as_alice, "Alice", verified=False)
    await as_bob.knows(alice.card, "Alice", alice.own.signed_prekey().encode())
    await as_alice.knows(bob.card, "Bob", bob.own.signed_prekey().encode())
    return alice, bob, as_bob, as_alice


async def test_swapped_cards_that_nobody_compares() -> None:
    """He hears them: these two have his keys, and nothing else to know each other by. Both checks would tell."""
    async with mallorys_world() as world:
        alice, bob, as_bob, as_alice = await swapped_cards(world)
        async with between(world, callee=as_bob, caller=as_alice, alice=alice.card, bob=bob.card) as mallory:
            call, answered = await world.connected(alice, bob)
            await until(lambda: min(mallory.frames()) > 5)
            assert world.frames_of_mallory() > 10
            await until(lambda: answered.spoken_words != "")
            assert call.spoken_words != answered.spoken_words
            seen_by_alice = safety_number(alice.own.identity.public, call.party.identity)
            seen_by_bob = safety_number(bob.own.identity.public, answered.party.identity)
            assert not set(seen_by_alice.digits.split()) & set(seen_by_bob.digits.split())
            assert (alice.refused, bob.refused) == ({}, {})
            world.keys.clear()
            await call.hang_up()
            await answered.hang_up()


async def test_swapped_cards_where_only_verified_contacts_may_ring() -> None:
    """Bob is not rung, and Mallory hears nothing of him."""
    async with mallorys_world() as world:
        alice, bob, as_bob, as_alice = await swapped_cards(world, unverified=Unverified.REFUSE)
        async with between(world, callee=as_bob, caller=as_alice, alice=alice.card, bob=bob.card) as mallory:
            call = await alice.phone.call("Bob", audio=SilenceSource())
            await until(lambda: bob.refused != {})
            assert bob.refused == {"not_verified": 1}
            assert bob.rings == []
            assert mallory.frames()[1] == 0
            world.keys.clear()  # that of his call with Alice, who takes him for Bob
            await call.hang_up()


NAMES = ["Alice", "ALICE", "alice", "\uff21lice", "A\u2113ice"]  # the last two are folded to the same


@pytest.mark.parametrize("kind", [Kind.OFFER, Kind.INTRODUCTION], ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("name", NAMES)
async def test_other_keys_under_a_pinned_name(name: str, kind: Kind) -> None:
    """Both fingerprints are told, and nothing rings."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        like_alice = await Correspondent.fresh(world.path, name)
        await like_alice.knows(bob.card, "Bob", bob.own.signed_prekey().encode())
        body = like_alice.card.encode()
        if kind is Kind.OFFER:
            body = offer_body(body, await an_offer(like_alice, world, bob))
        await like_alice.post(bob.card, kind, body)
        await world.settled()
        assert bob.refused == {"key_changed": 1}
        error = bob.errors[0]
        assert isinstance(error, KeyChanged)
        assert (error.known, error.presented) == (alice.card.identity.fingerprint, like_alice.public.fingerprint)
        assert bob.rings == []
        assert world.path.sent == []


async def an_offer(sender: Correspondent, world: World, to: Person) -> bytes:
    """An offer with a record that is good: Mallory's own, whom nobody can reach by it."""
    middle = Between(world, callee=sender, caller=sender, alice=to.card, bob=to.card)
    try:
        record = await middle.to_bob.prepare()
    finally:
        await middle.close()
    return CallerHandshake(sender.own.identity, to.card.identity, record, secret=bytes(32), nonce=bytes(32)).offer


def forged_card(owner: Correspondent, name: str, mailbox_key: bytes | None = None) -> Card:
    """A card that its owner has signed with both keys, with a mailbox that need not be theirs."""
    identity = owner.own.identity
    card = Card.make(identity, serial=9, name=name, signaling=URL, created=int(time.time()))
    card = msgspec.structs.replace(card, mailbox_key=mailbox_key or card.mailbox_key)
    content = card._signed()
    return msgspec.structs.replace(
        card,
        signature=identity.sign(b"relaycall card signature 1", content),
        proof=identity.sign_for_mailbox(b"relaycall card mailbox 1", content),
    )


@pytest.mark.parametrize("known", [True, False], ids=["a contact", "a stranger"])
@pytest.mark.parametrize("kind", [Kind.OFFER, Kind.INTRODUCTION, Kind.WELCOME], ids=lambda kind: kind.name.lower())
async def test_the_mailbox_of_a_contact_in_another_ones_card(kind: Kind, known: bool) -> None:
    """Under any name: what is sent to Mallory must not go to Alice, nor look as if it came from her."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        await world.befriends_mallory(*([bob] if known else []))
        await world.mallory.knows(bob.card, "Bob", bob.own.signed_prekey().encode())
        body = forged_card(world.mallory, "Somebody", alice.card.mailbox_key).encode()
        if kind is Kind.OFFER:
            body = offer_body(body, await an_offer(world.mallory, world, bob))
        await world.mallory.post(bob.card, kind, body)
        await world.settled()
        assert bob.refused == {"card_refused": 1}
        assert bob.rings == []
        assert world.path.sent == []


async def test_a_call_to_a_swapped_card_of_a_pinned_contact() -> None:
    """Alice has pinned Bob, and is given another card of his: with Mallory's keys."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        card = card_from_text(card_to_text(forged_card(world.mallory, "Bob")))
        with pytest.raises(KeyChanged) as refusal:
            await alice.phone.call(card, audio=SilenceSource())
        assert (refusal.value.known, refusal.value.presented) == (
            bob.card.identity.fingerprint,
            world.mallory.public.fingerprint,
        )
        assert alice.calls == ()
        assert world.path.sent == []
        with pytest.raises(ContactExists):
            await alice.phone.contacts.add(card, time.time())


async def test_a_card_with_the_mailbox_of_somebody_else_is_none() -> None:
    """Nobody can pin Bob's mailbox to other keys, which would keep Bob's own card out."""
    async with mallorys_world() as world:
        alice, bob = await world.person("Alice"), await world.person("Bob")
        with pytest.raises(CardRefused, match="its mailbox is not proved"):
            card_from_text(card_to_text(forged_card(world.mallory, "Somebody", bob.card.mailbox_key)))
        assert (await alice.phone.contacts.add(bob.card, time.time())).mailbox == bob.card.mailbox


# --- introductions ----------------------------------------------------------------------------------------------------


async def strangers_by_cards(world: World) -> tuple[Person, Person]:
    """Alice and Bob have each other's true cards, and no prekeys. Mallory is a contact of both."""
    alice, bob = await world.person("Alice"), await world.person("Bob")
    await alice.phone.contacts.add(bob.card, time.time())
    await bob.phone.contacts.add(alice.card, time.time())
    await world.befriends_mallory(alice, bob)
    return alice, bob


SUBSTITUTES = {
    "his own card": (Kind.WELCOME, lambda world, _: world.mallory.card.encode(), "message_refused"),
    "Bob's card": (Kind.WELCOME, lambda _, bob: bob.card.encode(), "card_refused"),
    "his keys under Bob's name": (
        Kind.WELCOME,
        lambda world, _: forged_card(world.mallory, "Bob").encode(),
        "message_refused",
    ),
    "his keys under Bob's mailbox": (
        Kind.WELCOME,
        lambda world, bob: forged_card(world.mallory, "Bob", bob.card.mailbox_key).encode(),
        "card_refused",
    ),
    "that a code is needed": (Kind.CODE_NEEDED, lambda *_: b"", "message_refused"),
}


@pytest.mark.parametrize("substitute", SUBSTITUTES)
async def test_mallory_answers_an_introduction_to_bob(substitute: str) -> None:
    """It does not count as Bob's answer, and when Bob's comes the call takes place."""
    kind, body, code = SUBSTITUTES[substitute]
    async with mallorys_world() as world:
        alice, bob = await strangers_by_cards(world)
        world.dropping(Kind.INTRODUCTION)
        call = await alice.phone.call("Bob", audio=SilenceSource())
        await until(lambda: bool(world.sent(Kind.INTRODUCTION)))
        await world.mallory.post(alice.card, kind, body(world, bob))
        await world.settled()
        assert alice.refused == {code: 1}
        assert call.state == "idle"
        world.path.plan = lambda letter: [letter]
        await until(lambda: bool(bob.rings))
        answered = bob.rings[0].accept(audio=SilenceSource())
        assert await call.connected()
        assert await answered.connected()
        await until(lambda: alice.heard() > 2 and bob.heard() > 2)
        assert call.party.identity == bob.card.identity


async def test_mallory_introduces_himself_as_alice() -> None:
    """With her card, her name, or a mailbox that is hers; and he passes on her introduction as his own."""
    async with mallorys_world() as world:
        alice, bob = await strangers_by_cards(world)
        await world.mallory.post(bob.card, Kind.INTRODUCTION, alice.card.encode())
        await world.settled()
        assert bob.refused == {"card_refused": 1}
        assert world.path.sent == []
        contacts = bob.phone.contacts
        assert await contacts.prekey(contacts.get("Alice")) is None


async def test_an_introduction_goes_to_nobody_else() -> None:
    """Reflected to Alice or forwarded to Carol it cannot be opened."""
    async with mallorys_world() as world:
        alice, bob = await strangers_by_cards(world)
        carol = await world.person("Carol")
        everybody = [one.card.mailbox for one in (alice, carol, bob)]
        world.changing(Kind.INTRODUCTION, lambda letter: [letter.readdressed(to) for to in everybody])
        call, ring = await world.ringing(alice, bob)
        await call.hang_up()
        await ring.ended()
        for one in (alice, carol):  # besides, a second welcome to an introduction that was repeated answers nothing
            assert one.refused["not_for_us"] == len(world.sent(Kind.INTRODUCTION))
        assert bob.refused == {}


@pytest.mark.slow
async def test_nothing_but_an_introduction_is_sealed_to_a_long_term_key() -> None:
    """Bob's prekey is lost while Alice calls him: she offers nothing that his long-term key could open later."""
    async with mallorys_world() as world:
        alice, _ = await world.two()
        contact = alice.phone.contacts.get("Bob")
        held: list[Letter] = []
        world.changing(Kind.RINGING, lambda letter: held.append(letter) or [])  # type: ignore[func-returns-value]
        call = await alice.phone.call("Bob", audio=SilenceSource())
        await until(lambda: bool(held))
        await alice.store.remove("prekeys/" + contact.entry.removeprefix("contacts/"))
        count = len(world.sent(Kind.OFFER))
        assert (await call.ended()).error is not None
        assert len(world.sent(Kind.OFFER)) == count
        for letter in world.path.sent:
            message = world.inside(letter)
            assert message is not None
            assert message.seal.name == "PREKEY"


@pytest.mark.parametrize("strangers", [Strangers.REFUSE, Strangers.CODE, Strangers.RING])
async def test_a_stranger_with_a_free_name(strangers: Strangers) -> None:
    """What Mallory gets from Bob as a stranger, by Bob's policy: nothing, a word that a code is needed, or a ring."""
    async with mallorys_world() as world:
        bob = await world.person("Bob", strangers=strangers)
        await world.mallory.knows(bob.card, "Bob", bob.own.signed_prekey().encode())
        await world.mallory.post(bob.card, Kind.INTRODUCTION, world.mallory.card.encode())
        await world.mallory.post(
            bob.card, Kind.OFFER, offer_body(world.mallory.card.encode(), await an_offer(world.mallory, world, bob))
        )
        await world.settled()
        answers = {
            Strangers.REFUSE: [],
            Strangers.CODE: [Kind.CODE_NEEDED],
            Strangers.RING: [Kind.WELCOME, Kind.RINGING],
        }
        assert [world.kind(letter) for letter in world.path.sent] == answers[strangers]
        assert [ring.party.contact for ring in bob.rings] == ([None] if strangers is Strangers.RING else [])
        assert sum(relay.active for relay in world.relays) == 0
