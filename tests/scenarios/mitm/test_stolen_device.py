"""Everything was recorded, and years later both devices are taken: what is on them does not open the call.

Prekeys are deleted after two weeks, and the keys of a call when it ends. What remains are the long-term keys.
"""

from __future__ import annotations

import gc
import itertools
import random
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from relaycall.call.messages import Kind, read_call_id, read_offer
from relaycall.call.record import decode_record, derive_call_key
from relaycall.errors import PrekeyRetired, RelaycallError
from relaycall.identity.envelope import Message, OpeningKey, Seal, from_identity, open_envelope
from relaycall.identity.handshake import CalleeHandshake, CallerHandshake, _derive
from relaycall.identity.keys import Identity, PublicIdentity
from relaycall.identity.own import OwnKeys, load_own
from relaycall.identity.prekeys import DELETE_AFTER
from relaycall.media.srtp import derive_keys
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until
from tests.scenarios.mitm.correspondent import Correspondent
from tests.scenarios.mitm.path import Letter
from tests.scenarios.mitm.world import Person, World, mallorys_world

OFFER_HEAD, ANSWER_HEAD = 65, 96


async def a_recorded_call(world: World) -> tuple[Person, Person]:
    """Two who meet by their cards, with introductions; both phones are closed afterwards."""
    alice, bob = await world.person("Alice"), await world.person("Bob")
    await alice.phone.contacts.add(bob.card, time.time())
    await bob.phone.contacts.add(alice.card, time.time())
    call, answered = await world.connected(alice, bob)
    await until(lambda: alice.heard() > 5 and bob.heard() > 5)
    await until(lambda: answered.spoken_words != "")
    await call.hang_up()
    await answered.ended()
    await world.settled()
    for person in (alice, bob):
        await person.phone.close()
    assert len(world.wiretap.packets) > 10
    assert {world.kind(letter) for letter in world.path.sent} >= {
        Kind.INTRODUCTION,
        Kind.WELCOME,
        Kind.OFFER,
        Kind.ANSWER,
        Kind.CONFIRM,
        Kind.HUNG_UP,
    }
    return alice, bob


def opened(letters: list[Letter], devices: list[OwnKeys]) -> list[Message]:
    """What the keys on the devices open."""
    found = []
    for letter in letters:
        for own in devices:
            keys = [OpeningKey(prekey.id, prekey.hpke_key()) for prekey in own.prekeys]
            keys += [OpeningKey(retired, None) for retired in own.prekeys.retired]
            try:
                found.append(open_envelope(letter.envelope, own.identity, [*keys, from_identity(own.identity)]))
            except RelaycallError:
                continue
    return found


def call_keys(offer: bytes, answer: bytes, a: Identity, b: Identity) -> Iterator[bytes]:
    """Every call key that this code can be made to derive from both messages and both identities."""
    with_a, with_b = a.agree(answer[32:64]), b.agree(offer[1:33])
    for guess in (b"", bytes(32), with_a, with_b, a.agree(b.public.agreement), offer[33:65], answer[64:96]):
        yield _derive(a.public, b.public, offer, answer, [guess, with_a, with_b]).media
    for secret in (a.reveal()[32:64], b.reveal()[32:64], bytes(32)):
        nonce, public = answer[64:96], [a.public, b.public]
        for identity, peer in ((a, public[1]), (b, public[0])):
            yield CalleeHandshake(identity, peer, offer).answer(answer[96:], secret=secret, nonce=nonce)[1].media
            caller = CallerHandshake(identity, peer, offer[65:], secret=secret, nonce=nonce)
            caller.offer = offer
            yield caller.accept(answer)[1].media
    records = [decode_record(data, laboratory=True) for data in (offer[OFFER_HEAD:], answer[ANSWER_HEAD:])]
    yield derive_call_key(*records)
    for record in records:
        yield record.key


async def devices_of(people: tuple[Person, Person], now: float) -> list[OwnKeys]:
    """What is on both, read at that time by a program that starts."""
    return [await load_own(person.store, now) for person in people]


async def test_after_two_weeks_nothing_that_was_recorded_can_be_opened() -> None:
    """But introductions: a card, which others have as well, and a public prekey."""
    async with mallorys_world() as world:
        people = await a_recorded_call(world)
        letters = list(world.path.sent)
        devices = await devices_of(people, time.time() + DELETE_AFTER)
        found = opened(letters, devices)
        assert {(message.kind, message.seal) for message in found} == {(Kind.INTRODUCTION, Seal.IDENTITY)}
        assert found[0].body == people[0].own.card().encode()
        for person in people:
            assert {name.split("/")[0] for name in person.store.kept} == {"identity", "contacts", "counters", "prekeys"}


async def test_a_sealer_on_a_stolen_device_says_that_the_prekey_is_deleted() -> None:
    """Even with the clock set back to the day of the call, and all counters forgotten."""
    async with mallorys_world() as world:
        people = await a_recorded_call(world)
        now = time.time()
        for own, mailbox in zip(
            await devices_of(people, now + DELETE_AFTER), [person.own.card().mailbox for person in people], strict=True
        ):
            thief = await Correspondent.of(world.path, own, clock=lambda: now)
            letters = [letter for letter in world.path.sent if letter.to == mailbox]
            sealed_to_prekeys = [letter for letter in letters if world.kind(letter) is not Kind.INTRODUCTION]
            assert len(sealed_to_prekeys) >= 2
            for letter in sealed_to_prekeys:
                with pytest.raises(PrekeyRetired):
                    await thief.opened(letter)


async def test_before_that_the_envelopes_can_be_opened_but_the_call_cannot() -> None:
    """The control: the same attempts open every envelope. The key of the call took ephemeral keys, which are gone."""
    async with mallorys_world() as world:
        people = await a_recorded_call(world)
        letters = list(world.path.sent)
        devices = await devices_of(people, time.time())
        found = opened(letters, devices)
        assert len(found) == len(letters)
        offer = next(read_offer(message.body)[1] for message in found if message.kind == Kind.OFFER)
        answer = next(read_call_id(message.body)[1] for message in found if message.kind == Kind.ANSWER)
        keys = list(call_keys(offer, answer, devices[0].identity, devices[1].identity))
        assert len(set(keys)) > 10
        world.keys += keys
        assert world.frames_of_mallory() == 0


async def test_the_attempts_succeed_with_one_ephemeral_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of those attempts: what they lack is that key, and nothing else."""
    made: list[bytes] = []

    def remembered(size: int) -> bytes:
        made.append(random.SystemRandom().randbytes(size))
        return made[-1]

    monkeypatch.setattr("relaycall.call.agreement.secrets", SimpleNamespace(token_bytes=remembered))
    async with mallorys_world() as world:
        people = await a_recorded_call(world)
        found = opened(list(world.path.sent), await devices_of(people, time.time()))
        offer = next(read_offer(message.body)[1] for message in found if message.kind == Kind.OFFER)
        answer = next(read_call_id(message.body)[1] for message in found if message.kind == Kind.ANSWER)
        alice, bob = (person.own.identity for person in people)
        keys = derive_with(made, alice, bob.public, offer, answer)
        assert world.wiretap.frames([keys]) == len(world.wiretap.packets)


def derive_with(made: list[bytes], a: Identity, b: PublicIdentity, offer: bytes, answer: bytes) -> bytes:
    for secret, nonce in itertools.pairwise(made):
        caller = CallerHandshake(a, b, offer[OFFER_HEAD:], secret=secret, nonce=nonce)
        if caller.offer == offer:
            return caller.accept(answer)[1].media
    raise AssertionError("the offer was made with other random bytes")


@pytest.mark.slow
async def test_when_a_call_has_ended_its_keys_are_nowhere_in_memory() -> None:
    """Not in the call that the program still holds, nor anywhere else in the interpreter."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        call, answered = await world.connected(alice, bob)
        await until(lambda: answered.spoken_words != "")
        assert call._agreement.keys is not None
        keys = call._agreement.keys
        srtp = derive_keys(keys.media, caller=True)
        wanted = {
            "media": keys.media[::-1],
            "from the caller": keys.from_caller[::-1],
            "from the callee": keys.from_callee[::-1],
            "spoken": keys.spoken[::-1],
            "SRTP out": srtp.send[::-1],
            "SRTP in": srtp.receive[::-1],
            "control out": srtp.control.send[::-1],
            "control in": srtp.control.receive[::-1],
        }  # backwards, so that this is not what is found
        del keys, srtp
        assert held_in([call, answered], wanted) >= {"media", "from the caller", "from the callee", "spoken"}
        await call.hang_up()
        await answered.ended()
        gc.collect()
        assert held_in([call, answered, alice.phone, bob.phone], wanted) == set()


def held_in(root: object, wanted: dict[str, bytes]) -> set[str]:
    """Which of the byte strings can be reached from an object."""
    found, seen, stack = set(), set(), [root]
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, type | SimpleNamespace) or type(one).__name__ == "module":
            continue
        seen.add(id(one))
        if isinstance(one, bytes | bytearray):
            found |= {name for name, secret in wanted.items() if secret[::-1] in one}
        stack += gc.get_referents(one)
    return found
