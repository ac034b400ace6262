"""What somebody hostile tries with a phone: to learn whom it knows, to crowd others out, to keep it from ending."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from relaycall.call.messages import Kind, offer_body
from relaycall.call.phone import Phone
from relaycall.call.state import CallState, Input
from relaycall.errors import CodeNeeded
from relaycall.identity.contact import Strangers
from relaycall.identity.envelope import seal, to_identity
from relaycall.identity.keys import Identity
from relaycall.identity.sealer import MAX_STRANGERS
from relaycall.signaling.base import Received, envelope_id
from tests.call.phones import (
    Mouth,
    befriend,
    connect,
    connected,
    ended,
    house,
    next_ring,
    nobody_else_writes,  # noqa: F401 - for every test here
)
from tests.call.test_phone_hostile import acquainted, offer_of, say
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until


async def answer_to(phone: Phone, bob: Phone) -> str:
    """What an introduction to Bob gets."""
    assert phone._desk is not None
    try:
        return str(await phone._desk.introduce(phone._desk.party_of(bob.card)))
    except CodeNeeded as error:
        return error.code


async def test_the_answer_does_not_tell_whom_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaycall.call.desk.INTRODUCTION_TIMEOUT", 0.5)
    async with house(1) as home:
        bob, carol = await home.phone("bob"), await home.phone("carol")
        await bob.contacts.add(carol.card, time.time())
        for name in ("carol", "dave"):
            assert await answer_to(await home.phone(name), bob) == "code_needed"
        assert home.codes("bob") == ["key_changed"]  # our user is told


async def test_who_rings_again_and_again_pushes_nobody_out() -> None:
    async with house(1) as home:
        alice, bob = await acquainted(home)
        mallory = await home.phone("mallory")
        await befriend(bob, mallory)
        for call in await connect(mallory, bob, "bob"):
            await call.hang_up()
        call = await alice.call("bob", audio=Mouth())
        await until(lambda: call.state is CallState.RINGING)
        called = next(one for one in bob.calls if one.party.name == "alice")._agreement.called
        assert called is not None
        for _ in range(20):
            body = offer_body(mallory.card.encode(), offer_of(mallory, bob, called.record))
            await say(mallory, bob, Kind.OFFER, body)
            await asyncio.sleep(0.01)
        rings = [await next_ring(bob) for _ in range(2)]
        assert sorted(ring.party.name for ring in rings) == ["alice", "mallory"]
        await call.hang_up()


async def test_strangers_that_ring_leave_room_for_contacts() -> None:
    async with house(1) as home:
        alice, bob = await home.phone("alice"), await home.phone("bob", strangers=Strangers.RING)
        await befriend(alice, bob)
        calls = [await (await home.phone(f"s{number}")).call(bob.card, audio=Mouth()) for number in range(5)]
        await until(lambda: sum(call.state is CallState.RINGING for call in calls) == 4)
        call = await alice.call("bob", audio=Mouth())
        await until(lambda: call.state is CallState.RINGING)
        for one in (*calls, call):
            await one.hang_up()


async def test_made_up_strangers_break_no_call_with_a_true_one() -> None:
    async with house(1) as home:
        alice, bob = await home.phone("alice"), await home.phone("bob", strangers=Strangers.RING)
        call = await alice.call(bob.card, audio=Mouth())
        ring = await next_ring(bob)
        assert bob._desk is not None
        assert bob._board is not None
        theirs = bob.card.identity
        for number in range(MAX_STRANGERS):
            nobody = Identity(os.urandom(96))
            envelope = seal(
                nobody, theirs, to_identity(theirs), kind=1, body=b"", counter=number + 1, now=time.time() + 1
            )
            await bob._take(bob._desk, bob._board, Received(envelope_id(envelope), envelope, False))
        await connected(call, ring.accept(audio=Mouth()))
        await call.hang_up()


async def test_an_end_that_is_cancelled_before_it_begins_is_told() -> None:
    """As asyncio.run does with every task when the program is interrupted."""
    async with house(1) as home:
        alice, bob = await home.friends()
        call, other = await connect(alice, bob, "bob")
        call.happens(Input.HANG_UP)
        assert call._finishing is not None
        call._finishing.cancel()
        assert await ended(call) == ["hung_up"]
        await call._sound.close()
        await other.hang_up()


async def test_a_second_call_is_answered_though_the_first_is_given_up() -> None:
    """Both wait for the answer to an introduction."""
    async with house(1) as home:
        alice, bob = await home.phone("alice"), await home.phone("bob", strangers=Strangers.RING)
        assert bob._desk is not None
        first = await alice.call(bob.card, audio=Mouth())
        second = await alice.call(bob.card, audio=Mouth())
        await asyncio.sleep(0)
        await first.hang_up()
        await connected(second, (await next_ring(bob)).accept(audio=Mouth()))
        await second.hang_up()
