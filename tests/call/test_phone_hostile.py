"""What comes in and is not right: it is refused, counted, and changes nothing."""

from __future__ import annotations

import asyncio
import os
import secrets

import pytest

from relaycall.call.call import Call
from relaycall.call.messages import TAG_SIZE, Kind, offer_body
from relaycall.call.phone import Phone
from relaycall.call.record import decode_record
from relaycall.call.state import CallState
from relaycall.errors import MailboxReplaced
from relaycall.identity.contact import Strangers
from relaycall.identity.envelope import CONTENT_SIZE
from relaycall.identity.handshake import CallerHandshake
from relaycall.signaling.base import ENVELOPE_SIZE, Received, envelope_id
from relaycall.signaling.memory import MemoryTransport
from tests.call.phones import (
    House,
    Mouth,
    befriend,
    both_hear,
    connect,
    connected,
    ended,
    house,
    next_ring,
    nobody_else_writes,  # noqa: F401 - for every test here
)
from tests.identity.stores import DyingStore
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until


async def say(sender: Phone, to: Phone, kind: int, body: bytes) -> None:
    """A sealed message, whatever it means."""
    assert sender._desk is not None
    party = sender._desk.party_of(to.card)
    envelope = await sender._desk._sealer.seal(party.identity, kind, body)
    await sender._desk._signaling.send(party.mailbox, envelope)


def counted(phone: Phone) -> int:
    return sum(phone.refused.values())


async def acquainted(home: House) -> tuple[Phone, Phone]:
    """They have called before, so each has a prekey of the other."""
    alice, bob = await home.friends()
    for call in await connect(alice, bob, "bob"):
        await call.hang_up()
    await until(lambda: home.allocations == 0)
    return alice, bob


# --- before anybody accepts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
async def test_before_accepting_no_relay_is_asked_and_no_path_is_tried(known: bool) -> None:
    async with house(2) as home:
        alice, bob = await home.phone("alice"), await home.phone("bob", strangers=Strangers.RING)
        if known:
            await befriend(alice, bob)
        call = await alice.call(bob.card, audio=Mouth())
        ring = await next_ring(bob)
        await until(lambda: call.state is CallState.RINGING)
        await asyncio.sleep(0.1)
        assert home.granted == home.allocations == 2  # hers
        assert sum(relay.counters.to_peers for relay in home.relays) == 0
        assert bob.calls[0].media is None
        incoming = ring.accept(audio=Mouth())
        await connected(call, incoming)
        assert home.granted == 4


async def test_rings_of_many_strangers_take_nothing() -> None:
    """Four ring, the others are busy."""
    async with house(1) as home:
        bob = await home.phone("bob", strangers=Strangers.RING)
        carol = await home.phone("carol")
        before = home.granted
        callers = [await home.phone(f"stranger {number}") for number in range(6)]
        calls = [await caller.call(bob.card, audio=Mouth()) for caller in callers]
        await until(lambda: all(call.state in (CallState.RINGING, CallState.ENDED) for call in calls))
        assert sorted(str(call.state) for call in calls) == ["ended"] * 2 + ["ringing"] * 4
        assert home.granted == before + 6
        assert [call.media for call in bob.calls] == [None] * 4
        assert carol.calls == ()


# --- envelopes --------------------------------------------------------------------------------------------------------


async def test_garbage() -> None:
    async with house(1) as home:
        _, bob = await home.friends()
        mailbox = bob.card.mailbox
        async with MemoryTransport(home.url) as anybody:
            for garbage in (bytes(ENVELOPE_SIZE), *(os.urandom(ENVELOPE_SIZE) for _ in range(10))):
                await anybody.send(mailbox, garbage)
            await until(lambda: counted(bob) == 11)
        assert bob.refused == {"not_for_us": 11}
        assert len(home.refused["bob"]) == 11
        assert bob._signaling._mailboxes.waiting == 0  # type: ignore[union-attr] - it is not kept
        assert bob.calls == ()


async def test_a_replayed_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every envelope of a call is given to the phone once more, during the call and after it."""
    async with house(1) as home:
        alice, bob = await acquainted(home)
        envelopes: list[bytes] = []
        send = alice._desk._signaling.send  # type: ignore[union-attr]

        async def note(mailbox: bytes, envelope: bytes) -> None:
            envelopes.append(envelope)
            await send(mailbox, envelope)

        monkeypatch.setattr(alice._desk._signaling, "send", note)  # type: ignore[union-attr]
        calls = await connect(alice, bob, "bob")
        await until(lambda: len(envelopes) == 2)
        assert bob._desk is not None
        assert bob._board is not None
        for _ in range(2):
            for number, envelope in enumerate(envelopes, counted(bob) + 1):
                await bob._take(bob._desk, bob._board, Received(envelope_id(envelope), envelope, True))
                assert bob.refused["message_replayed"] == number
            await both_hear(*calls) if calls[0].state is CallState.CONNECTED else None
            await calls[0].hang_up()
            await ended(calls[1])
        assert bob.calls == ()


def offer_of(alice: Phone, bob: Phone, record: bytes) -> bytes:
    shake = CallerHandshake(
        alice._held.identity,  # type: ignore[union-attr]
        bob.card.identity,
        record,
        secret=secrets.token_bytes(32),
        nonce=secrets.token_bytes(32),
    )
    return shake.offer


MESSAGES = {
    "a kind nobody knows": (200, b"", "message_refused"),
    "kind 0": (0, b"x" * 100, "message_refused"),
    "an introduction without a card": (Kind.INTRODUCTION, b"", "card_refused"),
    "a welcome without a card": (Kind.WELCOME, bytes(300), "card_refused"),
    "a welcome to nothing": (Kind.WELCOME, None, "message_refused"),
    "a code that nobody asked for": (Kind.CODE_NEEDED, b"", "message_refused"),
    "an offer of nothing": (Kind.OFFER, b"", "handshake_refused"),
    "an offer that is cut short": (Kind.OFFER, b"\xff\xff" + bytes(100), "handshake_refused"),
    "an offer of another version": (Kind.OFFER, b"\0\0\2" + bytes(200), "handshake_refused"),
    "an offer with a record that is none": (Kind.OFFER, b"\0\0\1" + bytes(200), "record_refused"),
    **{f"{kind.name} without a call": (kind, b"", "handshake_refused") for kind in Kind if kind > Kind.OFFER},
    **{
        f"{kind.name} of no call": (kind, bytes(16) + bytes(100), "message_refused")
        for kind in Kind
        if kind > Kind.OFFER
    },
}


@pytest.mark.parametrize("what", MESSAGES)
async def test_messages_of_a_contact_that_mean_nothing(what: str) -> None:
    kind, body, code = MESSAGES[what]
    async with house(1) as home:
        alice, bob = await acquainted(home)
        before = home.granted
        await say(alice, bob, kind, alice.card.encode() if body is None else body)
        await until(lambda: counted(bob) == 1)
        assert bob.refused == {code: 1}
        assert bob.calls == ()
        assert home.granted == before
        await connect(alice, bob, "bob")


async def test_an_offer_with_somebody_elses_card() -> None:
    async with house(1) as home:
        alice, bob = await acquainted(home)
        carol = await home.phone("carol")
        call = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        record = ring._call._agreement.called.record  # type: ignore[union-attr]
        assert decode_record(record, laboratory=True)
        await call.hang_up()
        await ended(ring)
        await say(alice, bob, Kind.OFFER, offer_body(carol.card.encode(), offer_of(alice, bob, record)))
        await until(lambda: bob.refused == {"card_refused": 1})
        assert bob.calls == ()


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind > Kind.OFFER])
async def test_messages_about_a_call_of_others(kind: Kind) -> None:
    """Carol, a contact too, has got hold of the call's id."""
    async with house(1) as home:
        alice, bob = await home.friends()
        carol = await home.phone("carol")
        await befriend(alice, bob, carol)
        for call in await connect(carol, bob, "bob"):
            await call.hang_up()
        calls = await connect(alice, bob, "bob")
        await until(lambda: bool(calls[1].spoken_words))
        await say(carol, bob, kind, calls[1].id + bytes(64))
        await until(lambda: bob.refused == {"message_refused": 1})
        await both_hear(*calls)
        assert [call.state for call in calls] == [CallState.CONNECTED] * 2


@pytest.mark.parametrize("kind", [Kind.RINGING, Kind.DECLINED, Kind.BUSY, Kind.CANCELLED, Kind.ANSWER, Kind.CONFIRM])
@pytest.mark.parametrize("to_the_caller", [False, True])
async def test_messages_of_the_other_side_that_come_too_late(kind: Kind, to_the_caller: bool) -> None:
    """Whoever of the two sends them: a call that is up stays up."""
    async with house(1) as home:
        alice, bob = await home.friends()
        calls = await connect(alice, bob, "bob")
        await until(lambda: bool(calls[1].spoken_words))
        words = calls[1].spoken_words
        sender, receiver = (bob, alice) if to_the_caller else (alice, bob)
        await say(sender, receiver, kind, calls[0].id + bytes(64))
        await say(sender, receiver, 200, b"")  # is refused when the other one was taken in
        await until(lambda: receiver.refused["message_refused"] == 1)
        await both_hear(*calls)
        assert [call.state for call in calls] == [CallState.CONNECTED] * 2
        assert calls[1].spoken_words == words


@pytest.mark.parametrize("tag", [b"", bytes(TAG_SIZE), bytes(TAG_SIZE + 1)])
async def test_hanging_up_takes_the_key_of_the_call(tag: bytes) -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        calls = await connect(alice, bob, "bob")
        await say(alice, bob, Kind.HUNG_UP, calls[0].id + tag)
        await until(lambda: bob.refused == {"handshake_refused": 1})
        await both_hear(*calls)


@pytest.mark.parametrize("what", ["short", "to another offer", "with a key that is none", "with her own record"])
async def test_a_wrong_answer_ends_the_call_with_the_reason(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(1) as home:
        alice, bob = await acquainted(home)
        call = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        await until(lambda: call.state is CallState.RINGING)
        good = ring._call._agreement.called.answer(  # type: ignore[union-attr]
            ring._call._agreement.called.record,  # type: ignore[union-attr]
            secret=secrets.token_bytes(32),
            nonce=secrets.token_bytes(32),
        )[0]
        answer = {
            "short": good[:50],
            "to another offer": bytes(32) + good[32:],
            "with a key that is none": good[:32] + bytes(32) + good[64:],
            "with her own record": good,
        }[what]
        await say(bob, alice, Kind.ANSWER, call.id + answer)
        end = await call.ended()
        if what == "with her own record":
            assert end.reason == "record_refused"
        else:
            assert end.reason == "handshake_refused"
            assert alice.refused == {"handshake_refused": 1}
            assert await ended(ring) == ["cancelled"]


async def test_the_last_words_of_a_call_may_come_when_it_is_over() -> None:
    """Media has said it before, and it is nothing to complain about."""
    async with house(1) as home:
        alice, bob = await home.friends()
        calls = await connect(alice, bob, "bob")
        await calls[0].hang_up()
        await ended(calls[1])
        await say(alice, bob, Kind.HUNG_UP, calls[0].id + bytes(TAG_SIZE))
        await say(alice, bob, Kind.OFFER, b"")  # is refused when the other one was taken in
        await until(lambda: bob.refused["handshake_refused"] == 1)
        assert bob.refused == {"handshake_refused": 1}


async def test_what_is_as_large_as_can_be() -> None:
    async with house(1) as home:
        alice, bob = await acquainted(home)
        assert alice._desk is not None
        await say(alice, bob, Kind.OFFER, os.urandom(alice._desk._sealer.capacity))
        await until(lambda: counted(bob) == 1)
        assert alice._desk._sealer.capacity < CONTENT_SIZE
        assert bob.calls == ()


# --- when our own side fails ------------------------------------------------------------------------------------------


async def test_a_store_that_fails_loses_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is believed before its counter is kept. The offer comes again, and then it rings."""
    monkeypatch.setattr("relaycall.call.state.RESEND", 0.05)
    async with house(1) as home:
        store = DyingStore()
        alice, bob = await home.phone("alice"), await home.phone("bob", store=store)
        await befriend(alice, bob)
        for call in await connect(alice, bob, "bob"):
            await call.hang_up()
        store.dies_after(0)
        call = await alice.call("bob", audio=Mouth())
        await until(lambda: bob.refused["store"] > 1)
        assert bob._signaling._mailboxes.waiting > 1  # type: ignore[union-attr] - the server keeps them for a minute
        assert bob.calls == ()
        store.revive()
        await connected(call, (await next_ring(bob)).accept(audio=Mouth()))


async def test_a_store_that_fails_in_placing_a_call() -> None:
    async with house(1) as home:
        store = DyingStore()
        alice, bob = await home.phone("alice", store=store), await home.phone("bob")
        await befriend(alice, bob)
        store.dies_after(0)
        call = await alice.call("bob", audio=Mouth())
        assert await ended(call) == ["store"]
        assert home.allocations == 0


async def test_another_phone_with_our_keys() -> None:
    """What rings here is the other's now; what is connected goes on; and the phone says why it hears no more."""
    async with house(1) as home:
        alice, bob = await home.friends()
        carol = await home.phone("carol")
        await befriend(alice, bob, carol)
        calls = await connect(alice, bob, "bob")
        bob._board._calls.clear()  # type: ignore[union-attr] - else Carol would hear that he is busy
        outgoing = await carol.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        bob._board._calls.add(calls[1])  # type: ignore[union-attr]
        other = await home.phone("bob", store=bob._given_store)
        assert await ended(ring) == ["answered_elsewhere"]
        with pytest.raises(MailboxReplaced):
            await next_ring(bob)
        with pytest.raises(MailboxReplaced):
            await next_ring(bob)
        await both_hear(*calls)
        assert outgoing.state is CallState.RINGING
        assert await outgoing.hang_up()
        assert isinstance(calls[0], Call)
        assert await calls[0].hang_up()
        again = await alice.call("bob", audio=Mouth())
        await connected(again, (await next_ring(other)).accept(audio=Mouth()))
