"""Mallory is a verified contact of both, on the signaling path, and passes on what he is sent as his own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from types import SimpleNamespace

import msgspec
import pytest

from relaycall.call import state
from relaycall.call.call import Call
from relaycall.call.messages import Kind, offer_body, read_call_id, read_offer, tag
from relaycall.call.record import RelayCandidate, decode_record, encode_record
from relaycall.identity.envelope import seal, to_identity
from relaycall.identity.handshake import CalleeHandshake, offer_hash
from relaycall.identity.prekeys import PublicPrekey, SignedPrekey
from relaycall.media.audio import SilenceSource
from tests.identity.enclosing import content, enclosed, filled, signed
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import session, until
from tests.scenarios.mitm.correspondent import Correspondent
from tests.scenarios.mitm.path import Letter
from tests.scenarios.mitm.world import Person, World, mallorys_world

HEAD = 1 + 32 + 32  # of an offer, before the record
ANSWER_HEAD = 32 + 32 + 32


def with_record(message: bytes, head: int, **changes: object) -> bytes:
    """An offer or answer with another record in it."""
    record = decode_record(message[head:], laboratory=True)
    return message[:head] + encode_record(msgspec.structs.replace(record, **changes))


# What Mallory, who has opened it, may change in an offer or an answer before he signs it as his own.
CHANGES: dict[str, Callable[[bytes, int], bytes]] = {
    "nothing": lambda message, _: message,
    "the record's key": lambda message, head: with_record(message, head, key=secrets.token_bytes(32)),
    "the ICE password": lambda message, head: with_record(message, head, pwd="x" * 24),
    "the SSRC": lambda message, head: with_record(
        message, head, audio=msgspec.structs.replace(decode_record(message[head:], laboratory=True).audio, ssrc=77)
    ),
    "the candidates": lambda message, head: with_record(
        message, head, candidates=(RelayCandidate("127.0.0.1", 9999, 1),)
    ),
}


class Relayed:
    """Alice calls Mallory. He has Bob called with her offer, and answers her with Bob's answer, both as his own."""

    def __init__(self, world: World, alice: Person, bob: Person, change: Callable[[bytes, int], bytes]) -> None:
        self.world, self.alice, self.bob, self.change = world, alice, bob, change

    async def run(self) -> tuple[Call, Call]:
        world, mallory = self.world, self.world.mallory
        call = await self.alice.phone.call("Mallory", audio=SilenceSource())
        await until(lambda: bool(world.sent(Kind.OFFER)))
        _, offer = read_offer(world.body(world.sent(Kind.OFFER)[0]))
        forged = self.change(offer, HEAD)
        await mallory.post(self.bob.card, Kind.OFFER, offer_body(mallory.card.encode(), forged))
        await until(lambda: bool(self.bob.rings))
        answered = self.bob.rings[0].accept(audio=SilenceSource())
        await until(lambda: bool(world.sent(Kind.ANSWER)))
        _, answer = read_call_id(world.body(world.sent(Kind.ANSWER)[0]))
        answer = offer_hash(offer) + self.change(answer, ANSWER_HEAD)[32:]
        await mallory.post(self.alice.card, Kind.ANSWER, call.id + answer)
        await until(lambda: bool(world.sent(Kind.CONFIRM)))
        _, confirm = read_call_id(world.body(world.sent(Kind.CONFIRM)[0]))
        await mallory.post(self.bob.card, Kind.CONFIRM, answered.id + offer_hash(forged) + confirm[32:])
        await world.settled()
        world.keys += [key for offered in (offer, forged) for key in guesses(world, mallory, offered, answer)]
        return call, answered


def guesses(world: World, mallory: Correspondent, offer: bytes, answer: bytes) -> list[bytes]:
    """Call keys that Mallory can make of what he has opened: as if an ephemeral key were his own."""
    identity, peers = mallory.own.identity, [person.own.identity.public for person in world.people]
    record = answer[ANSWER_HEAD:]
    return [
        CalleeHandshake(identity, peer, offer).answer(record, secret=secret, nonce=answer[64:96])[1].media
        for peer in peers
        for secret in (bytes(32), answer[32:64], offer[1:33])
    ]


async def friends(world: World) -> tuple[Person, Person]:
    """Alice and Bob know each other and Mallory, all verified."""
    alice, bob = await world.two()
    await world.befriends_mallory(alice, bob)
    return alice, bob


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
async def test_a_handshake_passed_on_as_his_own(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown key share: both are set up with Mallory, as they see, have different keys, and never hear anything."""
    monkeypatch.setattr(state, "SETUP_TIMEOUT", 2.0)
    async with mallorys_world() as world:
        alice, bob = await friends(world)
        call, answered = await Relayed(world, alice, bob, CHANGES[change]).run()
        assert call.party.name == answered.party.name == "Mallory"
        assert call.id != answered.id
        assert call._agreement.keys is not None
        assert answered._agreement.keys is not None
        assert call._agreement.keys.media != answered._agreement.keys.media
        assert bob.errors[-1].code == "handshake_refused"  # the nonce: Alice is bound to it, and not Mallory
        assert answered.spoken_words == "" != call.spoken_words
        if change not in ("the ICE password", "the candidates"):  # the paths come up, and nothing on them is believed
            ends = session(call.media), session(answered.media)  # type: ignore[arg-type]
            dropped = [end._transport.counters.dropped for end in ends]
            await until(lambda: all(end.authentication + end.wrong_ssrc > 5 for end in dropped))
            assert len(world.wiretap.packets) > 10
        assert not await call.connected()
        assert not await answered.connected()
        reasons = {(await end.ended()).reason for end in (call, answered)}
        assert reasons <= {"setup_timeout", "no_path", "record_refused"}
        assert alice.heard() == bob.heard() == 0


async def test_an_offer_passed_on_under_the_name_of_who_made_it() -> None:
    """With Alice's card in it, signed by Mallory: the card is not the sender's."""
    async with mallorys_world() as world:
        alice, bob = await friends(world)
        call = await alice.phone.call("Mallory", audio=SilenceSource())
        await until(lambda: bool(world.mallory.letters()))
        await world.mallory.post(bob.card, Kind.OFFER, world.body(world.mallory.letters()[0]))
        await world.settled()
        assert bob.refused == {"card_refused": 1}
        assert bob.rings == []
        await call.hang_up()


@pytest.mark.parametrize("place", range(3), ids=["no version", "the next one", "the highest"])
async def test_another_version_of_the_offer(place: int) -> None:
    async with mallorys_world() as world:
        alice, bob = await friends(world)
        call = await alice.phone.call("Mallory", audio=SilenceSource())
        await until(lambda: bool(world.mallory.letters()))
        _, offer = read_offer(world.body(world.mallory.letters()[0]))
        forged = bytes([(0, 2, 255)[place]]) + offer[1:]
        await world.mallory.post(bob.card, Kind.OFFER, offer_body(world.mallory.card.encode(), forged))
        await world.settled()
        assert bob.refused == {"handshake_refused": 1}
        assert bob.rings == []
        await call.hang_up()


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize("what", ["record", "card", "prekey"])
async def test_another_version_inside(what: str, version: int) -> None:
    """Everything with a version, in an envelope that is signed as it should be."""
    async with mallorys_world() as world:
        alice, bob = await friends(world)
        call = await alice.phone.call("Mallory", audio=SilenceSource())
        await until(lambda: bool(world.mallory.letters()))
        _, offer = read_offer(world.body(world.mallory.letters()[0]))
        card = world.mallory.card.encode()
        assert (card[1], offer[-9:]) == (1, b"\xa7version\x01")
        if what == "record":
            offer = offer[:-1] + bytes([version])
        elif what == "card":
            card = card[:1] + bytes([version]) + card[2:]
        else:
            signed = world.mallory.own.signed_prekey().encode()
            world.mallory.attaches(bytes([version]) + signed[1:])
        await world.mallory.post(bob.card, Kind.OFFER, offer_body(card, offer))
        await world.settled()
        assert bob.refused == {
            {"record": "record_refused", "card": "card_refused", "prekey": "message_refused"}[what]: 1
        }
        assert bob.rings == []
        await call.hang_up()


ABOUT_A_CALL = [kind for kind in Kind if kind >= Kind.RINGING]


@pytest.mark.parametrize("kind", ABOUT_A_CALL, ids=lambda kind: kind.name.lower())
async def test_a_contact_who_is_not_the_party_cannot_touch_the_call(kind: Kind) -> None:
    """Not in a call that is up, nor in one that rings; he knows its id, and even its tag, and repeats what was said."""
    async with mallorys_world() as world:
        alice, bob = await friends(world)
        call, answered = await world.connected(alice, bob)
        await until(lambda: answered.spoken_words != "")
        assert call._agreement.keys is not None
        said = {world.kind(letter): read_call_id(world.body(letter))[1] for letter in world.path.sent}
        hung_up = tag(call._agreement.keys.from_caller, call.id)
        for person in (alice, bob):
            await world.mallory.post(person.card, kind, call.id + said.get(kind, hung_up))
        await world.settled()
        before = alice.heard(), bob.heard()
        await until(lambda: alice.heard() > before[0] + 2 and bob.heard() > before[1] + 2)
        assert alice.refused == bob.refused == {"message_refused": 1}
        assert call.state == answered.state == "connected"


@pytest.mark.parametrize("kind", ABOUT_A_CALL, ids=lambda kind: kind.name.lower())
async def test_with_a_stolen_identity_but_not_the_keys_of_the_call(kind: Kind) -> None:
    """He signs as Alice, to Bob, in their call: Bob goes on hearing her. Only the key of the call can end it."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        call, answered = await world.connected(alice, bob)
        await until(lambda: answered.spoken_words != "")
        words = answered.spoken_words
        like_alice = await Correspondent.of(world.path, alice.own)
        await like_alice.knows(bob.card, "Bob", bob.own.signed_prekey().encode())
        assert call._agreement.keys is not None
        theirs = tag(call._agreement.keys.from_callee, call.id)  # of the other direction: reflected
        ours = tag(call._agreement.keys.from_caller, bytes(16))  # of another call
        for rest in (b"", bytes(32), secrets.token_bytes(32), theirs, ours, theirs + b"\0"):
            await like_alice.post(bob.card, kind, call.id + rest)
        await world.settled()
        before = bob.heard()
        await until(lambda: bob.heard() > before + 2)
        assert answered.state == "connected"
        assert answered.spoken_words == words
        refusing = {Kind.HUNG_UP, Kind.CONFIRM, Kind.ANSWER}
        refused = {
            code: count for code, count in bob.refused.items() if code != "message_replayed"
        }  # Alice's own, late
        assert refused == ({"handshake_refused": 6} if kind in refusing else {})


@pytest.mark.parametrize(
    "kind", [kind for kind in Kind if kind is not Kind.INTRODUCTION], ids=lambda kind: kind.name.lower()
)
async def test_what_is_sealed_to_the_long_term_key_is_an_introduction_or_refused(kind: Kind) -> None:
    """Whoever makes Bob's contacts believe that he has no prekey gets nothing accepted without one."""
    async with mallorys_world() as world:
        _, bob = await friends(world)
        envelope = seal(
            world.mallory.own.identity,
            bob.card.identity,
            to_identity(bob.card.identity),
            kind=kind,
            body=world.mallory.card.encode(),
            counter=1,
            now=time.time(),
        )
        world.path.deliver(Letter(b"", bob.card.mailbox, envelope))
        await world.settled()
        assert str(bob.errors[0]).startswith("An envelope was refused: it is not sealed to a prekey")
        assert bob.refused == {"message_refused": 1}


async def test_with_stolen_keys_he_is_nobody_else_to_their_owner() -> None:
    """Mallory has all of Alice's keys, opens what is sealed to her, and cannot answer her as Bob."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        call, ring = await world.ringing(alice, bob)
        offer = read_offer(world.body(world.sent(Kind.OFFER)[0]))[1]
        bobs = CalleeHandshake(alice.own.identity, alice.card.identity, offer)
        answer, keys = bobs.answer(offer[HEAD:], secret=secrets.token_bytes(32), nonce=secrets.token_bytes(32))
        world.keys.append(keys.media)
        now = time.time()
        body = call.id + answer
        inside = content(bob.card.identity, body, counter=int(now * 1e6) + 1, sent_ms=int(now * 1000))
        for by in (alice.own.identity, world.mallory.own.identity):
            recipient = SimpleNamespace(public=alice.card.identity)
            forged = enclosed(signed(filled(inside), alice.to_prekey, by=by, recipient=recipient), alice.to_prekey)  # type: ignore[arg-type]
            world.path.deliver(Letter(b"", alice.card.mailbox, forged))
        await world.settled()
        assert alice.refused == {"signature_refused": 2}
        ring.accept(audio=SilenceSource())
        assert await call.connected()
        await until(lambda: alice.heard() > 2 and bob.heard() > 2)


@pytest.mark.slow
async def test_the_answer_of_an_old_call_in_a_new_one() -> None:
    """Mallory is called twice, and gives the second time what was good the first time."""
    async with mallorys_world() as world:
        alice, bob = await friends(world)
        call, answered = await Relayed(world, alice, bob, CHANGES["nothing"]).run()
        await answered.hang_up()
        await call.hang_up()
        old = read_call_id(world.body(world.sent(Kind.ANSWER)[-1]))[1]
        second = await alice.phone.call("Mallory", audio=SilenceSource())
        await until(lambda: second.state == "calling")
        await world.mallory.post(alice.card, Kind.ANSWER, second.id + old)
        assert (await second.ended()).reason == "handshake_refused"
        await world.settled()
        assert alice.errors[-1].code == "handshake_refused"


@pytest.mark.slow
async def test_the_offer_of_an_old_call_again() -> None:
    """With a new counter and signed anew: it is about a call that is over, and its id cannot be another."""
    async with mallorys_world() as world:
        alice, bob = await friends(world)
        call, answered = await Relayed(world, alice, bob, CHANGES["nothing"]).run()
        await call.hang_up()
        await answered.hang_up()
        offer = read_offer(world.body(world.sent(Kind.OFFER)[0]))[1]
        await world.mallory.post(bob.card, Kind.OFFER, offer_body(world.mallory.card.encode(), offer))
        await world.settled()
        assert bob.errors[-1].code == "message_refused"
        assert len(bob.rings) == 1


# --- prekeys ----------------------------------------------------------------------------------------------------------


def prekey_of(person: Person, age: float) -> bytes:
    """A prekey that somebody has really signed, made so many seconds ago."""
    public = person.own.prekeys.current.public
    old = PublicPrekey(public.mlkem, public.x25519, int(time.time() - age))
    return SignedPrekey.make(person.own.identity, old).encode()


def altered(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


DAYS = 86400.0
PREKEYS: dict[str, Callable[[World, Person], bytes]] = {
    "Alice's own, from Mallory": lambda _, alice: alice.own.signed_prekey().encode(),
    "Mallory's with Alice's signature": lambda world, alice: (
        world.mallory.own.signed_prekey().encode()[:-64] + alice.own.signed_prekey().encode()[-64:]
    ),
    "altered": lambda world, _: altered(world.mallory.own.signed_prekey().encode()),
    "cut": lambda world, _: world.mallory.own.signed_prekey().encode()[:-1],
}


@pytest.mark.parametrize("which", PREKEYS)
async def test_another_prekey_attached(which: str) -> None:
    """It is not the sender's: the message is refused, and whom Bob seals to Alice by is as before."""
    async with mallorys_world() as world:
        alice, bob = await friends(world)
        contacts = bob.phone.contacts
        before = [await contacts.prekey(contacts.get(name)) for name in ("Alice", "Mallory")]
        world.mallory.attaches(PREKEYS[which](world, alice))
        await world.mallory.post(bob.card, Kind.INTRODUCTION, world.mallory.card.encode())
        await world.settled()
        assert bob.refused == {"message_refused": 1}
        assert [await contacts.prekey(contacts.get(name)) for name in ("Alice", "Mallory")] == before


@pytest.mark.parametrize("age", [14 * DAYS, -300.0], ids=["two weeks old", "from the future"])
async def test_a_stale_prekey_under_a_stolen_signature(age: float) -> None:
    async with mallorys_world() as world:
        alice, bob = await world.two()
        contacts = bob.phone.contacts
        before = await contacts.prekey(contacts.get("Alice"))
        like_alice = await Correspondent.of(world.path, alice.own)
        await like_alice.knows(bob.card, "Bob", bob.own.signed_prekey().encode())
        like_alice.attaches(prekey_of(alice, age))
        await like_alice.post(bob.card, Kind.INTRODUCTION, alice.card.encode())
        await world.settled()
        assert bob.refused == {"message_refused": 1}
        assert await contacts.prekey(contacts.get("Alice")) == before


async def test_an_earlier_prekey_put_back_by_a_replay() -> None:
    """Alice makes a new prekey and says so; Mallory repeats what she said before. A refused message changes nothing."""
    async with mallorys_world() as world:
        alice, bob = await world.two()
        contacts = bob.phone.contacts
        like_alice = await Correspondent.of(world.path, alice.own)
        await like_alice.knows(bob.card, "Bob", bob.own.signed_prekey().encode())
        await like_alice.post(bob.card, Kind.INTRODUCTION, alice.card.encode())
        await world.settled()
        earlier = Letter(b"", bob.card.mailbox, await like_alice.sealed(bob.card.identity, Kind.INTRODUCTION, b""))
        like_alice.attaches(prekey_of(alice, -1.0))
        await like_alice.post(bob.card, Kind.INTRODUCTION, alice.card.encode())
        await world.settled()
        assert bob.refused == {}
        new = await contacts.prekey(contacts.get("Alice"))
        assert new == prekey_of(alice, -1.0) != alice.own.signed_prekey().encode()
        world.path.deliver(earlier)
        await world.settled()
        assert bob.refused == {"message_replayed": 1}
        assert await contacts.prekey(contacts.get("Alice")) == new
