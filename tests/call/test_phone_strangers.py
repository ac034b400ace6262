"""Who may ring a phone, what a stranger learns, and whom it never talks to."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace

import pytest

from relaycall.call.line import Party
from relaycall.call.messages import Kind
from relaycall.call.phone import Phone
from relaycall.call.state import CallState
from relaycall.errors import CodeNeeded, KeyChanged, NotVerified, OnAnotherServer, SignalingTimeout
from relaycall.identity.card import Card, card_from_text, card_to_text
from relaycall.identity.contact import Strangers, Unverified
from relaycall.identity.keys import Identity
from relaycall.identity.own import OwnKeys, change_own, load_own
from relaycall.signaling.frames import Verdict
from relaycall.signaling.memory import MemoryTransport
from tests.call.phones import (
    House,
    Mouth,
    befriend,
    connect,
    connected,
    ended,
    house,
    next_ring,
    nobody_else_writes,  # noqa: F401 - for every test here
)
from tests.identity.stores import MemoryStore
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until


def sent_by(phone: Phone) -> list[Kind]:
    """Every message that it sends from now on, by kind."""
    assert phone._desk is not None
    sent: list[Kind] = []
    seal = phone._desk._sealer.seal

    async def note(to: object, kind: int, body: bytes) -> bytes:
        sent.append(Kind(kind))
        return await seal(to, kind, body)  # type: ignore[arg-type]

    phone._desk._sealer.seal = note  # type: ignore[method-assign, assignment]
    return sent


async def stranger(home: House, **options: object) -> tuple[Phone, Phone]:
    """Alice has Bob's card, and he has never heard of her."""
    alice, bob = await home.phone("alice"), await home.phone("bob", **options)
    await alice.contacts.add(bob.card, time.time())
    return alice, bob


async def test_strangers_are_refused_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """To them it is as if nobody were there; no relay is asked for their sake."""
    monkeypatch.setattr("relaycall.call.desk.INTRODUCTION_TIMEOUT", 0.2)
    async with house(1) as home:
        alice, bob = await stranger(home, strangers=Strangers.REFUSE)
        rings: list[object] = []
        bob.on("incoming", rings.append)
        sent = sent_by(bob)
        took = asyncio.get_running_loop().time()
        call = await alice.call("bob", audio=Mouth())
        assert await ended(call) == ["unanswered"]
        assert asyncio.get_running_loop().time() - took >= 0.2
        assert home.codes("bob") == ["message_refused"]
        assert sent == rings == []
        assert bob.calls == ()


async def test_strangers_need_a_code() -> None:
    async with house(1) as home:
        alice, bob = await stranger(home)  # the default
        call = await alice.call("bob", audio=Mouth())
        end = await call.ended()
        assert (end.reason, type(end.error)) == ("code_needed", CodeNeeded)
        assert bob.calls == ()
        assert home.codes("bob") == []


async def test_a_strangers_offer_without_a_code_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """She got a prekey of his in another way, and does without the introduction."""
    monkeypatch.setattr("relaycall.call.state.RING_TIMEOUT", 0.2)
    async with house(1) as home:
        alice, bob = await home.friends()
        for call in await connect(alice, bob, "bob"):
            await call.hang_up()
        await bob.contacts.remove("alice")
        before, sent = home.granted, sent_by(bob)
        call = await alice.call("bob", audio=Mouth())
        assert await ended(call) == ["unanswered"]
        assert "message_refused" in home.codes("bob")
        assert sent == []
        assert home.granted == before + 1  # hers
        assert bob.calls == ()


async def test_strangers_may_ring() -> None:
    async with house(1) as home:
        alice, bob = await stranger(home, strangers=Strangers.RING)
        call = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        assert (ring.party.contact, ring.party.name) == (None, "alice")
        assert repr(ring) == "<Ring of <a stranger>>"
        await connected(call, ring.accept(audio=Mouth()))


async def test_calling_by_card_alone() -> None:
    async with house(1) as home:
        alice, bob = await home.phone("alice"), await home.phone("bob", strangers=Strangers.RING)
        call = await alice.call(bob.card, audio=Mouth())
        await connected(call, (await next_ring(bob)).accept(audio=Mouth()))
        assert alice.contacts.names == bob.contacts.names == ()


async def test_strangers_get_few_answers() -> None:
    """Ten at once, and then one a second, and one at a time to each: a phone is no amplifier."""
    async with house(1) as home:
        bob = await home.phone("bob")
        sent = sent_by(bob)
        alice = await home.phone("alice")
        party = alice._desk.party_of(bob.card)  # type: ignore[union-attr]
        for _ in range(20):
            await alice._desk.post(party, Kind.INTRODUCTION, alice.card.encode())  # type: ignore[union-attr]
        await until(lambda: len(home.refused["bob"]) >= 9)
        await until(lambda: sent != [])
        assert 1 <= sent.count(Kind.CODE_NEEDED) <= 11


async def test_a_mailbox_that_takes_its_time_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a stranger waits for the server; a contact's call rings meanwhile, and closing does not wait."""
    async with house(1) as home:
        alice, bob = await home.friends(strangers=Strangers.CODE)
        mallory = await home.phone("mallory")
        post = bob._desk.post  # type: ignore[union-attr]

        async def slow(to: Party, kind: Kind, body: bytes) -> None:
            if kind is Kind.CODE_NEEDED:
                await asyncio.sleep(60)
            await post(to, kind, body)

        monkeypatch.setattr(bob._desk, "post", slow)
        call = await mallory.call(bob.card, audio=Mouth())
        await until(lambda: bob._board._replies != {})  # type: ignore[union-attr]
        await connected(await alice.call("bob", audio=Mouth()), (await next_ring(bob)).accept(audio=Mouth()))
        await call.hang_up()


@pytest.mark.parametrize("verified", [False, True])
async def test_who_is_not_verified(verified: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaycall.call.desk.INTRODUCTION_TIMEOUT", 0.2)
    async with house(1) as home:
        alice, bob = await home.friends()
        carol = await home.phone("carol", unverified=Unverified.REFUSE)
        await befriend(alice, carol)
        if verified:
            await carol.contacts.verify("alice")
        if not verified:
            with pytest.raises(NotVerified):
                await carol.call("alice", audio=Mouth())
        call = await alice.call("carol", audio=Mouth())
        if verified:
            await connected(call, (await next_ring(carol)).accept(audio=Mouth()))
        else:
            assert await ended(call) == ["unanswered"]
            assert home.codes("carol") == ["not_verified"]
        assert bob.calls == ()


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strangers", list(Strangers))
async def test_a_contact_with_other_keys(strangers: Strangers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the contact, or somebody who says so: nothing rings, and our user is told."""
    monkeypatch.setattr("relaycall.call.desk.INTRODUCTION_TIMEOUT", 0.2)
    async with house(1) as home:
        _, bob = await home.friends(strangers=strangers)
        impostor = await home.phone("Alice")
        await impostor.contacts.add(bob.card, time.time())
        call = await impostor.call("bob", audio=Mouth())
        # The same answer as to any stranger: it does not tell whether there is a contact of that name.
        assert await ended(call) == ["code_needed" if strangers is Strangers.CODE else "unanswered"]
        (error,) = home.refused["bob"]
        assert isinstance(error, KeyChanged)
        assert (error.name, error.presented) == ("alice", impostor.card.identity.fingerprint)
        assert bob.calls == ()


async def test_calling_a_card_with_the_name_or_mailbox_of_a_contact() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        other = await home.phone("bob")
        with pytest.raises(KeyChanged):
            await alice.call(other.card, audio=Mouth())
        assert other._held is not None
        own = other._held.own
        assert bob._held is not None
        both = Identity(
            own.identity.reveal()[:64] + bob._held.own.identity.reveal()[64:]
        )  # bob's mailbox, and new keys
        thief = card_from_text(card_to_text(replace(own, name="mallory", identity=both).card()))
        with pytest.raises(KeyChanged):
            await alice.call(thief, audio=Mouth())
        assert alice.calls == ()


async def test_who_accepts_the_change_is_called_again() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        await bob.close()
        new = await home.phone("bob")
        await new.contacts.add(alice.card, time.time())
        await alice.contacts.accept_change("bob", new.card, time.time())
        call = await alice.call("bob", audio=Mouth())
        await connected(call, (await next_ring(new)).accept(audio=Mouth()))


# --- introductions ----------------------------------------------------------------------------------------------------


async def test_the_first_call_introduces_and_the_second_does_not() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        sent = sent_by(alice)
        for number in range(2):
            calls = await connect(alice, bob, "bob")
            assert sent.count(Kind.INTRODUCTION) == 1
            await calls[0].hang_up()
            await ended(calls[1])
            assert sent.count(Kind.OFFER) == number + 1
        calls = await connect(bob, alice, "alice")
        assert sent.count(Kind.INTRODUCTION) == 1
        assert Kind.WELCOME not in sent


@pytest.mark.parametrize(("days", "introductions"), [(1, 0), (13, 0), (15, 1)])
async def test_after_two_weeks_they_are_introduced_again(
    days: int, introductions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = {"alice": MemoryStore(), "bob": MemoryStore()}
    async with house(1) as home:
        phones = [await home.phone(name, store=store) for name, store in stores.items()]
        await befriend(*phones)
        for call in await connect(*phones, "bob"):
            await call.hang_up()
        for phone in phones:
            await phone.close()
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + days * 86400)
        phones = [await home.phone(name, store=store) for name, store in stores.items()]
        for phone in phones:
            phone._desk._sealer._clock = time.time  # type: ignore[union-attr]
        sent = sent_by(phones[0])
        await connect(*phones, "bob")
        assert sent.count(Kind.INTRODUCTION) == introductions


async def test_an_introduction_outlives_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be sent at first is sent again."""
    monkeypatch.setattr("relaycall.call.desk.REPEAT", 0.05)
    async with house(1) as home:
        alice, bob = await home.friends()
        away = away_for(alice, 2)
        call = await alice.call("bob", audio=Mouth())
        await connected(call, (await next_ring(bob)).accept(audio=Mouth()))
        assert len(away) == 2


def away_for(phone: Phone, times: int) -> list[object]:
    """The phone's next envelopes are not taken."""
    assert phone._desk is not None
    refused: list[object] = []
    send = phone._desk._signaling.send

    async def refuse(mailbox: bytes, envelope: bytes) -> None:
        if len(refused) < times:
            refused.append(mailbox)
            raise SignalingTimeout
        await send(mailbox, envelope)

    phone._desk._signaling.send = refuse  # type: ignore[method-assign, assignment]
    return refused


async def test_an_introduction_that_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaycall.call.desk.REPEAT", 0.05)
    monkeypatch.setattr("relaycall.call.desk.INTRODUCTION_TIMEOUT", 0.2)
    async with house(1) as home:
        alice, _ = await home.friends()
        away_for(alice, 1000)
        end = await (await alice.call("bob", audio=Mouth())).ended()
        assert isinstance(end.error, SignalingTimeout)


async def test_two_calls_wait_for_one_introduction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is there. Each call waits its own time, and no offer is sent to whom we know no prekey of."""
    monkeypatch.setattr("relaycall.call.desk.INTRODUCTION_TIMEOUT", 0.2)
    async with house(1) as home:
        alice, bob = await home.friends()
        await bob.close()
        sent = sent_by(alice)
        calls = []
        for _ in range(2):
            calls.append(await alice.call("bob", audio=Mouth()))
            await asyncio.sleep(0.05)
        assert await ended(*calls) == ["unanswered"] * 2
        assert set(sent) == {Kind.INTRODUCTION}


# --- other servers ----------------------------------------------------------------------------------------------------


async def test_a_contact_on_another_server_is_never_contacted() -> None:
    """Whoever runs that server would see our address: there is not one connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        there = f"ws://127.0.0.1:{listener.getsockname()[1]}"
        async with house(1) as home:
            alice = await home.phone("alice", strangers=Strangers.RING)
            bob = await home.phone("bob")
            card = await moved(bob, there)
            with pytest.raises(OnAnotherServer):
                await alice.call(card, audio=Mouth())
            await alice.contacts.add(card, time.time())
            with pytest.raises(OnAnotherServer):
                await alice.call("bob", audio=Mouth())
            await bob.contacts.add(alice.card, time.time())
            call = await bob.call("alice", audio=Mouth())
            await until(lambda: home.codes("alice") == ["on_another_server"])
            assert call.state is CallState.IDLE
            await asyncio.sleep(0.1)
        with pytest.raises(BlockingIOError):
            listener.accept()


async def moved(phone: Phone, url: str) -> Card:
    """From now on the phone says that its mailbox is there. It is not."""
    assert phone._held is not None
    phone._held.own = replace(phone._held.own, signaling=url, serial=phone._held.own.serial + 1)
    return phone._held.own.card()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("wss://a.example", "https://a.example", True),
        ("wss://a.example", "wss://A.example:443/", True),
        ("wss://a.example", "wss://a.example/x", False),
        ("wss://a.example", "ws://a.example", False),
        ("wss://a.example", "wss://b.example", False),
        ("wss://a.example", "wss://a.example:8443", False),
        ("memory:a", "memory:a", True),
        ("memory:a", "memory:b", False),
        ("ws://[", "ws://[", True),
        ("ws://a:99999", "ws://a:99998", False),
    ],
)
def test_which_urls_are_of_one_server(one: str, other: str, same: bool) -> None:
    from relaycall.call.desk import same_server

    assert same_server(one, other) is same_server(other, one) is same


async def test_a_phone_that_moves_has_a_later_card_and_contacts_take_it() -> None:
    store = MemoryStore()
    async with house(1) as home:
        alice = await home.phone("alice", store=store)
        bob = await home.phone("bob")
        await befriend(alice, bob)
        serial = alice.card.serial
        await alice.close()
        own = await change_own(store, time.time(), signaling="memory:elsewhere")
        assert own.serial == serial + 1
        alice = await home.phone("alice", store=store)  # its URL is another one again
        assert (alice.card.serial, alice.card.signaling) == (serial + 2, home.url)
        assert isinstance(await load_own(store, time.time()), OwnKeys)
        await connect(alice, bob, "bob")
        assert bob.contacts.get("alice").serial == serial + 2


def test_control_memory_has_mailboxes() -> None:
    """What these tests stand on: an envelope to a mailbox that nobody has is taken, and says nothing."""
    assert MemoryTransport("memory:control")._mailboxes.put(bytes(32), bytes(4096), 0.0) is Verdict.TAKEN
