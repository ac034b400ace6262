"""The ratchet sealer beyond the contract: what a thief cannot read, what is kept, and which session is written to."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.errors import (
    ConfigError,
    MessageRefused,
    MessageReplayed,
    PrekeyRetired,
)
from relaycall.identity.keys import SECRET_SIZE, Identity
from relaycall.identity.prekeys import DELETE_AFTER, ROTATE_AFTER
from relaycall.identity.ratchet import RatchetSealer
from relaycall.identity.ratchet_message import CHAIN_LIMIT
from relaycall.identity.rig import KIND, Person, Rig, refused, talk
from relaycall.identity.sealer import INTRODUCTION, MAX_STRANGERS
from tests.contracts.test_sealers import EnvelopeRig, RatchetRig
from tests.identity.ratchet_rig import conversation, entry_of, stolen, thief_reads, write_plainly
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here

# --- a thief ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rig", "safe"), [(RatchetRig, True), (EnvelopeRig, False)])
async def test_forward_secrecy(rig: type[Rig], safe: bool) -> None:
    """Who takes everything from a device cannot read what was read there before. With the default sealer he can."""
    here = rig()
    alice, bob = await here.acquainted()
    for _ in range(3):
        envelopes = [await alice.write(bob, b"a secret") for _ in range(3)]
        before = bob.store.snapshots[-1]
        for envelope in envelopes:
            assert await bob.read(envelope) == b"a secret"
        after = bob.store.snapshots[-1]
        for envelope in envelopes:
            assert await thief_reads(here, bob, before, "Alice", envelope) == b"a secret"  # the thief can read at all
            assert await thief_reads(here, bob, after, "Alice", envelope) == (None if safe else b"a secret")
        await talk(bob, alice)
        for envelope in envelopes:
            assert await thief_reads(here, bob, bob.store.snapshots[-1], "Alice", envelope) == (
                None if safe else b"a secret"
            )


async def test_the_first_messages_are_as_safe_as_the_prekey() -> None:
    """What came before the first answer can be read with the prekey, and no more once that is deleted."""
    rig = RatchetRig()
    alice, bob = await rig.pair()
    sent_at = rig.now
    first = await alice.write(bob, b"a secret")
    await talk(alice, bob)
    entries = bob.store.snapshots[-1]
    assert await thief_reads(rig, bob, entries, "Alice", first) == b"a secret"
    rig.now += ROTATE_AFTER
    bob.rotate()
    rig.now += DELETE_AFTER - ROTATE_AFTER + 1
    bob.rotate()
    rig.now = sent_at
    for thief in await stolen(rig, bob, entries, "Alice"):
        await refused(thief.open(first), PrekeyRetired)


@pytest.mark.parametrize(("rig", "safe"), [(RatchetRig, True), (EnvelopeRig, False)])
async def test_post_compromise_security(rig: type[Rig], safe: bool) -> None:
    """A thief who reads along loses the conversation after a message in each direction. Not so the default sealer's."""
    here = rig()
    alice, bob = await here.acquainted()
    thief = await here.again(bob)
    await alice.read(await bob.write(alice, b"there"))
    again = await alice.write(bob, b"and back")
    assert await bob.read(again) == await thief.read(again) == b"and back"  # until then he has what he needs
    for _ in range(2):
        await alice.read(await bob.write(alice, b"there"))
        later = await alice.write(bob, b"safe again")
        assert await bob.read(later) == b"safe again"
        if safe:
            await refused(thief.open(later))
            assert await thief_reads(here, bob, thief.store.snapshots[-1], "Alice", later) is None
        else:
            assert await thief.read(later) == b"safe again"


async def test_a_thief_cannot_change_what_kind_of_message_it_is() -> None:
    """Who can sign as the sender cannot pass the same ratchet message off as one of another kind, or as his own."""
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    mallory = await rig.person("Mallory")
    for one, other in ((mallory, bob), (bob, mallory)):
        await one.add(other)
        await one.learn_prekey(other)
    body = await alice.sealer._protect(bob.identity.public, bob.prekeys.current.public, KIND, b"x")  # type: ignore[attr-defined]
    await refused(bob.open(await write_plainly(alice, bob, body, KIND + 1)))
    await refused(bob.open(await write_plainly(mallory, bob, body)))
    assert await bob.read(await write_plainly(alice, bob, body)) == b"x"


# --- sessions --------------------------------------------------------------------------------------------------------


async def test_a_lost_session_begins_anew() -> None:
    """Either side writes first: a new session, or a refusal until somebody introduces himself. Nothing comes twice."""
    rig = RatchetRig()
    alice, bob = await rig.pair()
    first = await alice.write(bob, b"first")
    await bob.read(first)
    again = await rig.again(bob, {k: v for k, v in bob.store.snapshots[-1].items() if k != entry_of(bob, "Alice")})
    await refused(again.open(first), MessageReplayed)
    await talk(again, alice, rounds=2)

    bob = await rig.again(again, {k: v for k, v in again.store.snapshots[-1].items() if not k.startswith("ratchet/")})
    await refused(bob.open(await alice.write(bob, b"in a session that is gone")))
    await bob.read(await alice.write(bob, b"my card", INTRODUCTION))
    await alice.read(await bob.write(alice, b"mine"))
    await talk(alice, bob, rounds=2)


async def test_what_was_read_before_a_session_was_lost_does_not_come_again() -> None:
    """The first messages all begin the session: an earlier one is not accepted in what a later one began anew."""
    rig = RatchetRig()
    alice, bob = await rig.pair()
    first, second, third = [await alice.write(bob, b"%d" % number) for number in range(3)]
    await bob.read(second)
    assert isinstance(bob.sealer, RatchetSealer)
    await bob.sealer.forget(alice.identity.public)
    assert await bob.read(third) == b"2"
    for envelope in (first, second, third):
        await refused(bob.open(envelope), MessageReplayed)


async def test_an_introduction_begins_a_new_session() -> None:
    """What the peer writes after it is in another session, which a copy of the old one cannot follow."""
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    before = conversation(bob, "Alice").current
    await bob.read(await alice.write(bob, b"my card", INTRODUCTION))
    in_flight = await alice.write(bob, b"in flight")
    await talk(bob, alice)
    after = conversation(bob, "Alice")
    assert before is not None
    assert after.current is not None
    assert after.current.id != before.id
    assert conversation(alice, "Bob").current.id == after.current.id  # type: ignore[union-attr]
    assert await bob.read(in_flight) == b"in flight"


async def test_who_begin_at_once_agree_at_once() -> None:
    """Once each has read the other's first message, both write in the same session, and it ratchets on."""
    rig = RatchetRig()
    alice, bob = await rig.pair()
    for _ in range(3):
        to_bob, to_alice = await alice.write(bob, b"to Bob"), await bob.write(alice, b"to Alice")
        await bob.read(to_bob)
        await alice.read(to_alice)
        ours, theirs = conversation(alice, "Bob").current, conversation(bob, "Alice").current
        assert ours is not None
        assert theirs is not None
        assert ours.id == theirs.id
    assert ours.start is None
    assert theirs.start is None


async def test_repeated_introductions_begin_one_session() -> None:
    """What is written in answer to the first is good after the answer to the last."""
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    answers = []
    for _ in range(4):
        await bob.open(await alice.write(bob, b"my card", INTRODUCTION))
        answers.append(await bob.write(alice, b"mine"))
    await alice.read(answers[0])
    offer = await alice.write(bob, b"offer")
    assert await bob.read(offer) == b"offer"
    for answer in answers[1:]:
        await alice.read(answer)
    await talk(alice, bob)


async def test_a_store_restored_from_a_copy() -> None:
    """Old sessions on one side: an introduction mends it, and what was accepted since the copy is not reused."""
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    copy = bob.store.snapshots[-1]
    await talk(alice, bob, rounds=5)
    bob = await rig.again(bob, copy)
    await refused(alice.open(await bob.write(alice, b"with old keys")))
    await alice.read(await bob.write(alice, b"my card", INTRODUCTION))
    await talk(alice, bob, rounds=3)


@pytest.mark.parametrize("introducer", ["Alice", "Bob"])
async def test_an_unanswered_session_restored_from_a_copy(introducer: str) -> None:
    """It uses its keys twice, and is refused; an introduction of either side mends it."""
    rig = RatchetRig()
    alice, bob = await rig.pair()
    await alice.read(await bob.write(alice, b"first"))
    copy = bob.store.snapshots[-1]
    for _ in range(3):
        await alice.read(await bob.write(alice, b"later"))
    bob = await rig.again(bob, copy)
    await refused(alice.open(await bob.write(alice, b"under the same key")), MessageReplayed)
    one, other = (alice, bob) if introducer == "Alice" else (bob, alice)
    await other.read(await one.write(other, b"my card", INTRODUCTION))
    await talk(bob, alice, rounds=3)


async def test_new_keys_of_our_own_begin_new_sessions() -> None:
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    alice.identity = Identity(bytes(range(SECRET_SIZE)))
    opened = await bob.open(await alice.write(bob, b"with new keys"))
    assert (opened.body, opened.sender, opened.contact) == (b"with new keys", alice.identity.public, None)


async def test_a_prekey_that_is_gone_before_the_answer() -> None:
    """A session that was not answered is begun again with the prekey of today."""
    rig = RatchetRig()
    alice, bob = await rig.pair()
    await alice.write(bob, b"lost")
    rig.now += DELETE_AFTER + 1
    for person in (alice, bob):
        person.rotate()
    await alice.learn_prekey(bob)
    assert await bob.read(await alice.write(bob, b"not lost")) == b"not lost"


async def test_without_a_prekey_nothing_is_sealed_but_an_introduction() -> None:
    rig = RatchetRig()
    alice, bob = await rig.pair(prekeys=False)
    await refused(alice.write(bob, b"a secret"), ConfigError)


@pytest.mark.slow
async def test_many_messages_without_an_answer() -> None:
    """However many are lost, the next one is accepted: a session that goes too long without an answer is replaced."""
    rig = RatchetRig()
    alice, bob = await rig.acquainted()
    for count in (CHAIN_LIMIT - 2, 1, 1, CHAIN_LIMIT, 3):
        for _ in range(count):
            envelope = await alice.write(bob, b"lost, but for the last")
        assert await bob.read(envelope) == b"lost, but for the last"
    await talk(bob, alice)


async def in_any_order(data: st.DataObject) -> None:
    rig = RatchetRig()
    alice, bob = await rig.pair()
    on_the_way: dict[str, list[tuple[bytes, bytes]]] = {"Alice": [], "Bob": []}
    read: list[tuple[Person, bytes]] = []
    for number in range(data.draw(st.integers(0, 30))):
        sender, recipient = (alice, bob) if data.draw(st.booleans()) else (bob, alice)
        action = data.draw(st.sampled_from(["write", "read", "read", "lose"]))
        waiting = on_the_way[sender.name]
        if action == "write":
            body = b"%d" % number
            waiting.append((await sender.write(recipient, body), body))
        elif waiting:
            envelope, body = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            if action == "read":
                assert await recipient.read(envelope) == body
                read.append((recipient, envelope))
    for recipient, envelope in read:
        await refused(recipient.open(envelope), MessageReplayed)
    await talk(alice, bob, rounds=2)
    ours, theirs = conversation(alice, "Bob").current, conversation(bob, "Alice").current
    assert ours is not None
    assert theirs is not None
    assert ours.id == theirs.id
    assert ours.start is None
    assert theirs.start is None


@settings(max_examples=10)
@given(st.data())
@pytest.mark.slow
def test_in_any_order_with_losses_all_is_read_once_and_one_session_is_left(data: st.DataObject) -> None:
    asyncio.run(in_any_order(data))


async def through_any_trouble(data: st.DataObject) -> None:
    rig = RatchetRig()
    people = dict(zip("ab", await rig.pair(), strict=True))
    on_the_way: list[tuple[str, bytes, bytes]] = []
    read: list[tuple[str, bytes]] = []
    actions = ["write", "write", "read", "read", "read", "lose", "introduce", "forget", "copy", "restore", "restart"]
    copies = {name: person.store.snapshots[-1] for name, person in people.items()}
    for number in range(data.draw(st.integers(0, 40))):
        name = data.draw(st.sampled_from("ab"))
        person, other = people[name], people["b" if name == "a" else "a"]
        action = data.draw(st.sampled_from(actions))
        if action in ("write", "introduce"):
            body = b"%d" % number
            kind = INTRODUCTION if action == "introduce" else KIND
            on_the_way.append((other.name, await person.write(other, body, kind), body))
        elif action in ("read", "lose") and on_the_way:
            to, envelope, body = on_the_way.pop(data.draw(st.integers(0, len(on_the_way) - 1)))
            reader = people[to[0].lower()]
            try:
                assert action == "lose" or await reader.read(envelope) == body
            except MessageRefused:
                continue
            read.append((to, envelope)) if action == "read" else None
        elif action == "forget":
            await person.sealer.forget(other.identity.public)  # type: ignore[attr-defined]
        elif action == "copy":
            copies[name] = person.store.snapshots[-1]
        elif action in ("restore", "restart"):
            people[name] = await rig.again(person, copies[name] if action == "restore" else None)
            if action == "restore":  # what was read since the copy may come again: its store does not know
                read = [(to, envelope) for to, envelope in read if to != person.name]
    for to, envelope in read:
        await refused(people[to[0].lower()].open(envelope))
    alice, bob = people["a"], people["b"]
    rig.now += 61  # or it only repeats the last one
    await bob.read(await alice.write(bob, b"my card", INTRODUCTION))
    await talk(bob, alice, rounds=2)
    ours, theirs = conversation(alice, "Bob").current, conversation(bob, "Alice").current
    assert ours is not None
    assert theirs is not None
    assert ours.id == theirs.id


@settings(max_examples=10)
@given(st.data())
@pytest.mark.slow
def test_after_any_trouble_an_introduction_mends_it(data: st.DataObject) -> None:
    asyncio.run(through_any_trouble(data))


@pytest.mark.slow
async def test_the_sessions_of_strangers_are_bounded() -> None:
    rig = RatchetRig()
    bob = await rig.person("Bob")
    sealer = bob.sealer
    assert isinstance(sealer, RatchetSealer)
    for number in range(MAX_STRANGERS + 3):
        stranger = await rig.person(f"S{number}")
        await stranger.add(bob)
        await stranger.learn_prekey(bob)
        assert await bob.read(await stranger.write(bob, b"hello")) == b"hello"
    assert len(sealer._with_strangers) == MAX_STRANGERS
    assert not bob.store.snapshots[-1]
    assert await stranger.read(await bob.write(stranger, b"hello")) == b"hello"
