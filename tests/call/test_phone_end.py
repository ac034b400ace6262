"""Closing a phone in every state of its calls; handlers that raise; sources and sinks that raise; what is forgotten."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest

from relaycall.call.call import Call
from relaycall.call.phone import Phone
from relaycall.call.state import CallState
from relaycall.media.audio import SILENCE
from relaycall.media.srtp import derive_keys
from tests.call.phones import (
    Ear,
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
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import PASSWORD, USERNAME, until
from tests.scenarios.canaries import Canaries, bind_sockets, shown_by_objects

LIMIT = 3.0  # seconds


async def timed(close: Callable[[], Any]) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await close()
    assert loop.time() - start < LIMIT


class Scene:
    """A call that has come so far, and everything that has to be closed in its end."""

    def __init__(self) -> None:
        self.mouths = [Mouth(440), Mouth(660)]
        self.ears = [Ear(), Ear()]
        self.given = 1  # how many sides have a mouth and an ear

    async def until(self, state: str, alice: Phone, bob: Phone) -> None:
        outgoing = await alice.call("bob", audio=self.mouths[0], sink=self.ears[0])
        if state == "placed":
            return
        ring = await next_ring(bob)
        await until(lambda: outgoing.state is CallState.RINGING)
        if state == "rings":
            return
        self.given = 2
        incoming = ring.accept(audio=self.mouths[1], sink=self.ears[1])
        if state == "accepted":
            return
        await until(lambda: incoming.state is not CallState.ACCEPTED)
        if state == "connecting":
            return
        await connected(outgoing, incoming)
        await both_hear(outgoing, incoming)

    def all_closed(self) -> bool:
        return all(end.closed for ends in (self.mouths, self.ears) for end in ends[: self.given])  # type: ignore[index]


@pytest.mark.parametrize("state", ["placed", "rings", "accepted", "connecting", "connected"])
@pytest.mark.parametrize("who", ["alice", "bob"])
@pytest.mark.parametrize("prewarm", [False, True])
async def test_closing_the_phone(state: str, who: str, prewarm: bool) -> None:
    async with house(1) as home:
        phones = {"alice": await home.phone("alice", prewarm=prewarm), "bob": await home.phone("bob", prewarm=prewarm)}
        await befriend(*phones.values())
        scene = Scene()
        await scene.until(state, *phones.values())
        closing = phones[who]
        calls = closing.calls
        await asyncio.gather(timed(closing.close), timed(closing.close))
        assert closing.calls == ()
        assert all(call.state is CallState.ENDED for call in calls)
        async with asyncio.timeout(1):
            await asyncio.gather(*(call.ended() for call in calls), *(call.connected() for call in calls))
        other = next(phone for phone in phones.values() if phone is not closing)
        if state != "placed":
            await until(lambda: other.calls == ())
        await timed(other.close)
        assert scene.all_closed()
        await until(lambda: home.allocations == 0)


@pytest.mark.slow
async def test_closing_while_signaling_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last words never leave; the call ends all the same, and its keys are gone."""
    async with house(1) as home:
        alice, bob = await home.friends()
        calls = await connect(alice, bob, "bob")

        async def stuck(*_: object, **__: object) -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr(alice._desk._signaling, "send", stuck)  # type: ignore[union-attr]
        await timed(alice.close)
        assert await ended(*calls) == ["hung_up", "peer_hung_up"]


@pytest.mark.slow
@pytest.mark.parametrize("state", ["rings", "connecting", "connected"])
async def test_closing_while_the_relays_are_frozen(state: str) -> None:
    """Their sockets stay open and answer nothing."""
    async with house(2) as home:
        alice, bob = await home.friends()
        scene = Scene()
        await scene.until(state, alice, bob)
        for relay in home.relays:
            asyncio.get_running_loop().remove_reader(relay._udp._socket)  # type: ignore[union-attr]
        await asyncio.gather(timed(alice.close), timed(bob.close))
        assert scene.all_closed()


async def test_hanging_up_again_says_the_same() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing, incoming = await connect(alice, bob, "bob")
        first = await outgoing.hang_up()
        assert await outgoing.hang_up() == first == await outgoing.ended()
        await ended(incoming)


async def test_waiting_for_the_end_may_be_given_up() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing, _ = await connect(alice, bob, "bob")
        for wait in (outgoing.ended, outgoing.hang_up):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert await ended(outgoing) == ["hung_up"]


# --- handlers and ends that raise -------------------------------------------------------------------------------------


async def test_handlers_that_raise_are_logged_and_harm_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a handler of the user's")

    async def broken_later(*_: object) -> None:
        await asyncio.sleep(0)
        raise ValueError("a handler of the user's")

    async with house(1) as home:
        alice, bob = await home.friends()
        for phone in (alice, bob):
            for event in ("incoming", "refused", "signaling", "relays"):
                phone.on(event, broken)
                phone.on(event, broken_later)
        outgoing = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        incoming = ring.accept(audio=Mouth())
        for call in (outgoing, incoming):
            for event in ("state", "ended", "path_selected", "peer_changed", "spoken_words"):
                call.on(event, broken)
                call.on(event, broken_later)
        await connected(outgoing, incoming)
        await both_hear(outgoing, incoming)
        await outgoing.hang_up()
        assert await ended(incoming) == ["peer_hung_up"]
        await asyncio.sleep(0.01)
    assert caplog.text.count("an event handler failed") > 4


async def test_a_handler_of_errors_that_raises() -> None:
    def broken(*_: object) -> None:
        raise ValueError("a handler of the user's")

    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing, incoming = await connect(alice, bob, "bob")
        for event in ("state", "error"):
            outgoing.on(event, broken)
        assert (await outgoing.hang_up()).reason == "hung_up"
        await ended(incoming)


class Bad(Mouth):
    """A source, anybody's."""

    def __init__(self, fails_at: str) -> None:
        super().__init__()
        self.fails_at = fails_at

    def read(self) -> bytes | None:
        if self.fails_at == "read":
            raise RuntimeError("a source of the user's")
        return SILENCE

    def close(self) -> None:
        super().close()
        if self.fails_at == "close":
            raise RuntimeError("not closed")


@pytest.mark.parametrize("fails_at", ["read", "close"])
@pytest.mark.parametrize("how_far", ["placed", "connected"])
async def test_sources_that_raise(fails_at: str, how_far: str) -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        source, ear = Bad(fails_at), Ear()
        outgoing = await alice.call("bob", audio=source, sink=ear)
        if how_far == "connected":
            incoming = (await next_ring(bob)).accept(audio=Mouth())
            await connected(outgoing, incoming)
            await both_hear(outgoing, incoming)
        assert (await outgoing.hang_up()).error is None
        assert source.closed
        assert ear.closed
        await until(lambda: bob.calls == ())
        await until(lambda: home.allocations == 0)


# --- what is forgotten and what is never shown ------------------------------------------------------------------------


async def the_call_that_was(home: House) -> tuple[Call, Call, list[str]]:
    """Both sides of a call that is up, and its secrets in hex, so that this test holds none of their bytes."""
    alice, bob = await home.friends()
    one, other = await connect(alice, bob, "bob")
    await until(lambda: bool(one.spoken_words and other.spoken_words))
    keys = one._agreement.keys
    assert keys is not None
    srtp = derive_keys(keys.media, caller=True)
    secrets = [keys.media, keys.from_caller, keys.from_callee, keys.spoken, srtp.send, srtp.receive]
    return one, other, [bytes(secret).hex() for secret in secrets]


def holders(secret: str) -> list[str]:
    """The types of what holds these bytes, in an attribute or as an element; not bytes, which hold nothing."""
    sought = bytes.fromhex(secret)
    found = []
    for holder in gc.get_objects():
        for item in gc.get_referents(holder):
            if isinstance(item, bytes | bytearray) and sought in item:
                found.append(type(holder).__name__)  # noqa: PERF401 - it would hold the bytes itself
    return found


async def test_the_keys_of_a_call_that_is_over_are_forgotten() -> None:
    """Nothing that can be reached holds them any more, though somebody keeps both calls."""
    async with house(1) as home:
        one, other, secrets = await the_call_that_was(home)
        assert holders(secrets[0])
        await one.hang_up()
        await ended(other)
        for call in (one, other):
            agreement = call._agreement
            assert agreement.keys is not None
            assert agreement.keys.media == agreement.keys.spoken == agreement.answer == agreement.peer_record == b""
        gc.collect()
        assert {secret: holders(secret) for secret in secrets} == {secret: [] for secret in secrets}


async def test_nothing_shows_a_secret_or_an_address(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each side's sockets have an address of its own, which must be nowhere: not in a log, not in any repr."""
    caplog.set_level(logging.DEBUG)
    bind_sockets(monkeypatch)
    parties = [Canaries("127.0.0.21"), Canaries("127.0.0.22")]
    async with house(1) as home:
        alice, bob = await home.friends()
        one = await parties[0].sends(alice.call("bob", audio=Mouth()))
        ring = await next_ring(bob)

        async def accept() -> Call:
            return ring.accept(audio=Mouth())

        other = await parties[1].sends(accept())
        shown = [shown_by_objects()]
        await connected(one, other)
        assert one._agreement.keys is not None
        keys = {
            "media": one._agreement.keys.media,
            "caller": one._agreement.keys.from_caller,
            "callee": one._agreement.keys.from_callee,
        }
        shown.append(shown_by_objects())
        await one.hang_up()
        await ended(other)
        shown.append(shown_by_objects())
    assert all(party.ports for party in parties)
    for kind in ("call.call.Call", "call.ring.Ring", "call.phone.Phone", "call.line.Party", "call.sound.Sound"):
        assert f"relaycall.{kind}" in shown[1]
    for party in parties:
        party.secrets |= {"user": USERNAME, "password": PASSWORD, **keys}
        for line in [caplog.text, *(text for objects in shown for text in objects.values())]:
            assert party.in_text(line) == []
