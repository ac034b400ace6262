"""What every sealer must do, as cases that anybody can run on theirs.

    from relaycall.identity.rig import Rig

    class MyRig(Rig):
        def sealer(self, person):
            return MySealer(person, person.contacts, clock=person.clock)

    @pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.__name__)
    async def test_my_sealer(case):
        await case(MyRig())

A case takes a `Rig`, which brings the sealer, and raises AssertionError where the sealer breaks the contract. Those of
`INTRODUCTION_CONTRACT` are for sealers whose envelopes bring the sender's prekey along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from relaycall.errors import (
    ConfigError,
    MessageRefused,
    MessageReplayed,
    MessageStale,
    MessageTooLarge,
    NotForUs,
)
from relaycall.identity.contract_failures import (
    a_damaged_contact_is_no_stranger,
    a_deleted_prekey_is_told,
    a_store_that_fails_loses_nothing,
    no_counter_or_key_is_used_twice_after_a_crash,
    nothing_comes_twice_after_a_crash,
    two_devices_with_one_identity,
)
from relaycall.identity.envelope import CLOCK_SKEW
from relaycall.identity.prekeys import ROTATE_AFTER
from relaycall.identity.rig import KIND, Rig, refused, talk
from relaycall.identity.sealer import INTRODUCTION
from relaycall.signaling.base import ENVELOPE_SIZE

# --- what arrives ----------------------------------------------------------------------------------------------------


async def messages_go_both_ways(rig: Rig) -> None:
    """From the first one on, many in a row, and by turns; each names its sender, who is a contact."""
    alice, bob = await rig.pair()
    for sender, recipient in ((alice, bob), (bob, alice), (bob, alice)):
        for number in range(10):
            opened = await recipient.open(await sender.write(recipient, b"%d" % number, kind=number + 2))
            assert (opened.kind, opened.body, opened.sender) == (number + 2, b"%d" % number, sender.identity.public)
            assert opened.contact is not None
            assert opened.contact.identity == sender.identity.public
    await talk(alice, bob, rounds=10)


async def several_people_are_kept_apart(rig: Rig) -> None:
    """Conversations with two others do not get in each other's way."""
    alice, bob = await rig.pair()
    carol = await rig.person("Carol")
    for one, other in ((alice, carol), (carol, alice)):
        await one.add(other)
        await one.learn_prekey(other)
    for _ in range(3):
        to_bob, to_carol = await alice.write(bob, b"for Bob"), await alice.write(carol, b"for Carol")
        assert await carol.read(to_carol) == b"for Carol"
        assert await bob.read(to_bob) == b"for Bob"
        await talk(carol, alice)
        await talk(bob, alice)


async def every_envelope_has_one_size(rig: Rig) -> None:
    """4096 bytes, whatever is in it, and two of the same message have nothing in common."""
    alice, bob = await rig.pair()
    for size in (0, 1, 500, alice.sealer.capacity):
        for kind in (0, INTRODUCTION, 255):
            envelopes = [await alice.write(bob, bytes(size), kind) for _ in range(2)]
            assert [len(envelope) for envelope in envelopes] == [ENVELOPE_SIZE] * 2
            assert envelopes[0][:1124] != envelopes[1][:1124]
            for envelope in envelopes:
                assert (await bob.open(envelope)).kind == kind


async def the_capacity_is_exact(rig: Rig) -> None:
    """So many bytes fit, in the first message and later, and one more does not; that costs nothing."""
    alice, bob = await rig.pair()
    for _ in range(2):
        for sender, recipient in ((alice, bob), (bob, alice)):
            largest = b"\xa5" * sender.sealer.capacity
            await refused(sender.write(recipient, largest + b"\xa5"), MessageTooLarge)
            assert await recipient.read(await sender.write(recipient, largest)) == largest


async def a_stranger_is_heard_and_answered(rig: Rig) -> None:
    """Who is no contact of the recipient is named as such; the answer comes from a contact."""
    alice, bob = await rig.pair()
    await bob.contacts.remove("Alice")
    for _ in range(3):
        opened = await bob.open(await alice.write(bob, b"hello"))
        assert (opened.body, opened.sender, opened.contact) == (b"hello", alice.identity.public, None)
        if await bob.sealer.knows_prekey(alice.identity.public):
            answer = await alice.open(await bob.write(alice, b"who is it?"))
            assert answer.body == b"who is it?"
            assert answer.contact is not None


async def a_stranger_becomes_a_contact(rig: Rig) -> None:
    """The conversation goes on, and what came before does not come again."""
    alice, bob = await rig.pair()
    await bob.contacts.remove("Alice")
    first = await alice.write(bob, b"hello")
    assert (await bob.open(first)).contact is None
    await bob.add(alice)
    await refused(bob.open(first), MessageReplayed)
    opened = await bob.open(await alice.write(bob, b"thank you"))
    assert opened.contact is not None
    await refused(bob.open(first), MessageReplayed)
    await bob.learn_prekey(alice)
    await talk(bob, alice, rounds=2)
    await refused((await rig.again(bob)).open(first), MessageReplayed)


async def a_removed_contact_is_one_no_more(rig: Rig) -> None:
    """What they write is refused or a stranger's; after an introduction it is heard, and they may be added again."""
    alice, bob = await rig.acquainted()
    await bob.contacts.remove("Alice")
    late = await alice.write(bob, b"still there?")
    try:
        assert (await bob.open(late)).contact is None
    except MessageRefused:
        await refused(bob.open(late))
    opened = await bob.open(await alice.write(bob, b"my card", INTRODUCTION))
    assert (opened.kind, opened.body, opened.contact) == (INTRODUCTION, b"my card", None)
    await bob.add(alice)
    await bob.learn_prekey(alice)
    await talk(bob, alice, rounds=2)
    await refused(bob.open(late))


# --- what does not ---------------------------------------------------------------------------------------------------


async def an_envelope_is_accepted_once(rig: Rig) -> None:
    """Not at once again, not after later ones, and not by a program that has just started."""
    alice, bob = await rig.pair()
    opened = []
    for number in range(4):
        opened.append(await alice.write(bob, b"%d" % number))
        assert await bob.read(opened[-1]) == b"%d" % number
        for envelope in opened:
            await refused(bob.open(envelope), MessageReplayed)
        if number % 2:
            await talk(bob, alice)
    bob = await rig.again(bob)
    for envelope in opened:
        await refused(bob.open(envelope), MessageReplayed)
    await talk(alice, bob)


async def what_was_altered_is_refused(rig: Rig) -> None:
    """Truncated, extended, with a bit flipped, or spliced from two. The unaltered one is accepted afterwards."""
    alice, bob = await rig.acquainted()
    envelope, other = await alice.write(bob, b"first"), await alice.write(bob, b"second")
    for length in (0, 1, 4, 100, 1124, 2048, ENVELOPE_SIZE - 1):
        await refused(bob.open(envelope[:length]), NotForUs)
    await refused(bob.open(envelope + b"\0"), NotForUs)
    for at in (0, 3, 4, 1000, 1091, 1092, 1123, 1124, 1200, 2000, 3000, ENVELOPE_SIZE - 17, ENVELOPE_SIZE - 1):
        flipped = bytearray(envelope)
        flipped[at] ^= 1
        await refused(bob.open(bytes(flipped)), NotForUs)
    for at in (4, 1092, 1124, 1200):
        await refused(bob.open(envelope[:at] + other[at:]), NotForUs)
    for garbage in (bytes(ENVELOPE_SIZE), b"\xff" * ENVELOPE_SIZE, envelope[:4] + bytes(ENVELOPE_SIZE - 4)):
        await refused(bob.open(garbage), NotForUs)
    assert await bob.read(envelope) == b"first"
    assert await bob.read(other) == b"second"


async def another_recipient_cannot_open_it(rig: Rig) -> None:
    """Not a third person, and not the sender, to whom it is reflected."""
    alice, bob = await rig.acquainted()
    carol = await rig.person("Carol")
    await carol.add(alice)
    envelope = await alice.write(bob, b"for Bob")
    await refused(carol.open(envelope), NotForUs)
    await refused(alice.open(envelope), NotForUs)
    assert await bob.read(envelope) == b"for Bob"


async def who_passes_it_on_is_its_sender(rig: Rig) -> None:
    """Bob cannot make Carol believe that Alice wrote to her."""
    alice, bob = await rig.acquainted()
    carol = await rig.person("Carol")
    for other in (alice, bob):
        await carol.add(other)
    await bob.add(carol)
    await bob.learn_prekey(carol)
    opened = await bob.open(await alice.write(bob, b"between us"))
    passed_on = await carol.open(await bob.write(carol, opened.body, opened.kind))
    assert passed_on.sender == bob.identity.public
    assert passed_on.contact is not None
    assert passed_on.contact.name == "Bob"


async def what_is_old_or_from_the_future_is_stale(rig: Rig) -> None:
    """Two minutes aside for the clocks; the limits themselves are still good."""
    alice, bob = await rig.acquainted()
    for wrong in (-rig.max_age - CLOCK_SKEW - 1, CLOCK_SKEW + 1, -3600.0, 3600.0, -1e9, 1e9):
        envelope = await alice.write(bob, b"from another time")
        sent = rig.now
        rig.now = sent - wrong
        await refused(bob.open(envelope), MessageStale)
        rig.now = sent
        assert await bob.read(envelope) == b"from another time"
    for allowed in (rig.max_age + CLOCK_SKEW - 1, -CLOCK_SKEW + 1):
        envelope = await alice.write(bob, b"late, or early")
        rig.now += allowed
        assert await bob.read(envelope) == b"late, or early"
        rig.now -= allowed


async def a_clock_that_is_wrong_is_told(rig: Rig) -> None:
    """By an hour, on either side: each side refuses what the other sends. Set right, all goes on."""
    alice, bob = await rig.acquainted()
    rig.now += 7200  # or the other's prekey would be from the future
    for wrong in (3600.0, -3600.0):
        bob.clock_error = wrong
        await refused(bob.open(await alice.write(bob, b"what time is it?")), MessageStale)
        await refused(alice.open(await bob.write(alice, b"an hour from now")), MessageStale)
        bob.clock_error = 0.0
        await talk(alice, bob)


async def messages_may_be_lost(rig: Rig) -> None:
    """The later ones are accepted: in the first ones, in a row, and at a change of direction."""
    alice, bob = await rig.pair()
    for lost in (1, 0, 5, 2):
        for sender, recipient in ((alice, bob), (bob, alice)):
            for _ in range(lost):
                await sender.write(recipient, b"lost")
            assert await recipient.read(await sender.write(recipient, b"not lost")) == b"not lost"


async def messages_may_be_reordered(rig: Rig) -> None:
    """Earlier ones that come later are accepted once, or refused, as the sealer promises. Later ones are accepted."""
    alice, bob = await rig.pair()
    for order in ((2, 0, 1, 3), (0, 3, 2, 1), (3, 2, 1, 0)):
        for sender, recipient in ((alice, bob), (bob, alice)):
            envelopes = [await sender.write(recipient, b"%d" % number) for number in range(4)]
            highest = -1
            for number in order:
                if number > highest or rig.any_order:
                    assert await recipient.read(envelopes[number]) == b"%d" % number
                else:
                    await refused(recipient.open(envelopes[number]), MessageReplayed)
                highest = max(highest, number)
            for envelope in envelopes:
                await refused(recipient.open(envelope), MessageReplayed)


async def both_may_write_at_once(rig: Rig) -> None:
    """The first messages cross, several times over, and everything arrives; so does what comes afterwards."""
    alice, bob = await rig.pair()
    for count in (1, 3, 2):
        to_bob = [await alice.write(bob, b"a%d" % number) for number in range(count)]
        to_alice = [await bob.write(alice, b"b%d" % number) for number in range(count)]
        assert [await bob.read(envelope) for envelope in to_bob] == [b"a%d" % number for number in range(count)]
        assert [await alice.read(envelope) for envelope in to_alice] == [b"b%d" % number for number in range(count)]
        for envelope in to_bob:
            await refused(bob.open(envelope), MessageReplayed)
    await talk(bob, alice, rounds=3)


async def one_may_write_and_read_at_once(rig: Rig) -> None:
    """Messages of one person, sealed and opened by tasks that do not wait for each other."""
    alice, bob = await rig.acquainted()
    incoming = [await bob.write(alice, b"%d" % number) for number in range(5)]
    results = await asyncio.gather(
        *(alice.write(bob, b"%d" % number) for number in range(5)), *(alice.open(envelope) for envelope in incoming)
    )
    outgoing = [result for result in results if isinstance(result, bytes)]
    assert sorted([await bob.read(envelope) for envelope in outgoing]) == [b"%d" % number for number in range(5)]
    await talk(alice, bob, rounds=2)
    twice = await bob.write(alice, b"twice")
    both = await asyncio.gather(alice.open(twice), alice.open(twice), return_exceptions=True)
    assert sum(isinstance(one, MessageReplayed) for one in both) == 1


CONTRACT: list[Callable[[Rig], Awaitable[None]]] = [
    messages_go_both_ways,
    several_people_are_kept_apart,
    every_envelope_has_one_size,
    the_capacity_is_exact,
    a_stranger_is_heard_and_answered,
    a_stranger_becomes_a_contact,
    a_removed_contact_is_one_no_more,
    an_envelope_is_accepted_once,
    what_was_altered_is_refused,
    another_recipient_cannot_open_it,
    who_passes_it_on_is_its_sender,
    what_is_old_or_from_the_future_is_stale,
    a_clock_that_is_wrong_is_told,
    messages_may_be_lost,
    messages_may_be_reordered,
    both_may_write_at_once,
    one_may_write_and_read_at_once,
    a_deleted_prekey_is_told,
    two_devices_with_one_identity,
    nothing_comes_twice_after_a_crash,
    no_counter_or_key_is_used_twice_after_a_crash,
    a_store_that_fails_loses_nothing,
    a_damaged_contact_is_no_stranger,
]


async def an_introduction_comes_first(rig: Rig) -> None:
    """With a card alone: it brings the sender's prekey, the answer the recipient's."""
    alice, bob = await rig.pair(prekeys=False)
    for one, other in ((alice, bob), (bob, alice)):
        assert not await one.sealer.knows_prekey(other.identity.public)
    envelope = await alice.write(bob, b"my card", INTRODUCTION)
    opened = await bob.open(envelope)
    assert (opened.kind, opened.body) == (INTRODUCTION, b"my card")
    await refused(bob.open(envelope), MessageReplayed)
    assert await bob.sealer.knows_prekey(alice.identity.public)
    assert await alice.read(await bob.write(alice, b"mine")) == b"mine"
    assert await alice.sealer.knows_prekey(bob.identity.public)
    await talk(alice, bob, rounds=2)


async def strangers_introduce_themselves(rig: Rig) -> None:
    """The recipient knows nothing of them, answers, and forgets them when the program ends, or makes them contacts."""
    alice, bob = await rig.pair(prekeys=False)
    await bob.contacts.remove("Alice")
    for _ in range(2):
        opened = await bob.open(await alice.write(bob, b"my card", INTRODUCTION))
        assert (opened.kind, opened.body, opened.contact) == (INTRODUCTION, b"my card", None)
        assert await bob.sealer.knows_prekey(alice.identity.public)
        await talk(bob, alice, rounds=2)
        bob = await rig.again(bob)
        assert not await bob.sealer.knows_prekey(alice.identity.public)
    await bob.open(await alice.write(bob, b"my card", INTRODUCTION))
    await bob.add(alice)
    await talk(bob, alice, rounds=2)


async def both_may_introduce_themselves_at_once(rig: Rig) -> None:
    """The introductions cross, and so do the answers."""
    alice, bob = await rig.pair(prekeys=False)
    for _ in range(2):
        for kind in (INTRODUCTION, KIND, KIND):
            to_bob, to_alice = await alice.write(bob, b"to Bob", kind), await bob.write(alice, b"to Alice", kind)
            assert await bob.read(to_bob) == b"to Bob"
            assert await alice.read(to_alice) == b"to Alice"
        await talk(bob, alice, rounds=2)


async def a_rotated_prekey_does_not_matter(rig: Rig) -> None:
    """What was sealed to the one before is opened, and the answer brings the new one."""
    alice, bob = await rig.acquainted()
    for _ in range(3):
        rig.now += ROTATE_AFTER - 10
        envelope = await alice.write(bob, b"to the old one")
        rig.now += 20
        alice.rotate()
        bob.rotate()
        assert await bob.read(envelope) == b"to the old one"
        await talk(bob, alice)


async def nothing_else_goes_without_a_prekey(rig: Rig) -> None:
    """It is not sealed, or not accepted."""
    alice, bob = await rig.pair(prekeys=False)
    try:
        envelope = await alice.write(bob, b"a secret")
    except ConfigError:
        return
    await refused(bob.open(envelope))


INTRODUCTION_CONTRACT: list[Callable[[Rig], Awaitable[None]]] = [
    an_introduction_comes_first,
    strangers_introduce_themselves,
    both_may_introduce_themselves_at_once,
    a_rotated_prekey_does_not_matter,
    nothing_else_goes_without_a_prekey,
]
