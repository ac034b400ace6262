"""What the measure measures: with the keys Mallory does hear them, and without Mallory they hear each other."""

from __future__ import annotations

import secrets
import struct
from types import SimpleNamespace

import pytest

from relaycall.call.messages import Kind, read_call_id, read_offer
from relaycall.identity.handshake import _OFFER_SIZE, CallerHandshake, _derive
from relaycall.identity.safety import safety_number
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until
from tests.scenarios.mitm.between import between
from tests.scenarios.mitm.correspondent import Correspondent
from tests.scenarios.mitm.world import Person, World, mallorys_world


async def as_if(world: World, victim: Person, other: Person) -> Correspondent:
    """Mallory with all keys of somebody, prekeys included."""
    stolen = await Correspondent.of(world.path, victim.own)
    await stolen.knows(other.card, other.name, other.own.signed_prekey().encode())
    return stolen


async def test_without_mallory_they_hear_each_other_and_nothing_is_refused() -> None:
    async with mallorys_world() as world:
        alice, bob = await world.two()
        call, answered = await world.connected(alice, bob)
        await until(lambda: alice.heard() > 5 and bob.heard() > 5)
        await world.settled()
        assert call.spoken_words == answered.spoken_words != ""
        assert call.id == answered.id
        assert (alice.refused, bob.refused) == ({}, {})
        assert len(world.wiretap.packets) > 10


async def test_with_the_key_of_the_call_the_wiretap_hears_both() -> None:
    """The control of the measure itself."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        call, _ = await world.connected(alice, bob)
        await until(lambda: alice.heard() > 5 and bob.heard() > 5)
        assert call._agreement.keys is not None
        assert world.wiretap.frames([call._agreement.keys.media]) == len(world.wiretap.packets)
        assert len({struct.unpack_from("!L", packet, 8) for packet in world.wiretap.packets}) == 2


async def test_with_all_keys_of_both_he_sits_between_them_and_the_spoken_words_tell() -> None:
    """The safety number cannot: the keys are the true ones. What he hears, he hears as a party to two calls."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        like_bob, like_alice = await as_if(world, bob, alice), await as_if(world, alice, bob)
        async with between(world, callee=like_bob, caller=like_alice, alice=alice.card, bob=bob.card) as mallory:
            call, answered = await world.connected(alice, bob)
            await until(lambda: min(mallory.frames()) > 5 and min(alice.heard(), bob.heard()) > 5)
            assert world.frames_of_mallory() > 10
            await until(lambda: answered.spoken_words != "")
            assert call.spoken_words != answered.spoken_words
            assert call.id != answered.id
            assert (alice.refused, bob.refused) == ({}, {})
            seen_by_alice = safety_number(alice.own.identity.public, call.party.identity)
            seen_by_bob = safety_number(bob.own.identity.public, answered.party.identity)
            assert seen_by_alice.digits == seen_by_bob.digits
            world.keys.clear()
            await call.hang_up()
            await answered.hang_up()


@pytest.mark.parametrize("ephemeral", [False, True], ids=["long-term keys", "and an ephemeral one"])
async def test_who_only_listens_needs_an_ephemeral_key(ephemeral: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all long-term keys and prekeys he opens every envelope, and knows two of the three secrets of the call."""
    made: list[bytes] = []

    def remembered(size: int) -> bytes:
        made.append(secrets.SystemRandom().randbytes(size))
        return made[-1]

    async with mallorys_world() as world:
        alice, bob = await world.two()
        monkeypatch.setattr("relaycall.call.agreement.secrets", SimpleNamespace(token_bytes=remembered))
        await world.connected(alice, bob)
        await until(lambda: alice.heard() > 5 and bob.heard() > 5)
        offers, answers = (
            [message.body for letter in world.sent(kind) if (message := world.inside(letter)) is not None]
            for kind in (Kind.OFFER, Kind.ANSWER)
        )
        offer, answer = read_offer(offers[0])[1], read_call_id(answers[0])[1]
        a, b = alice.own.identity, bob.own.identity
        if ephemeral:
            caller = CallerHandshake(a, b.public, offer[_OFFER_SIZE:], secret=made[0], nonce=made[1])
            assert caller.offer == offer
            assert world.wiretap.frames([caller.accept(answer)[1].media]) > 10
        else:
            with_a, with_b = a.agree(answer[32:64]), b.agree(offer[1:33])
            for guess in (bytes(32), with_a, with_b, a.agree(b.public.agreement)):
                world.keys.append(_derive(a.public, b.public, offer, answer, [guess, with_a, with_b]).media)
