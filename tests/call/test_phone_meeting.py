"""Calls that meet: both call at once, one calls again, and messages that come again."""

from __future__ import annotations

import asyncio

import pytest

from relaycall.call.call import Call
from relaycall.call.messages import Kind
from relaycall.call.phone import Phone
from relaycall.call.state import CallState
from relaycall.errors import MessageRefused, SignalingTimeout
from relaycall.identity.contact import Unverified
from tests.call.phones import (
    House,
    Mouth,
    both_hear,
    connect,
    connected,
    ended,
    house,
    next_ring,
    nobody_else_writes,  # noqa: F401 - for every test here
)
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.calling import until


async def meet(home: House, alice: Phone, bob: Phone, first: Call, second: Call) -> None:
    """It is one call, whichever it is, and nobody's relays are taken twice."""
    await connected(first, second)
    assert first.id == second.id
    assert first.caller is not second.caller
    assert alice.calls == (first,)
    assert bob.calls == (second,)
    assert home.allocations == 2
    await both_hear(first, second)
    await until(lambda: bool(first.spoken_words) and first.spoken_words == second.spoken_words)
    await first.hang_up()
    assert await ended(second) == ["peer_hung_up"]
    await until(lambda: home.allocations == 0)
    assert alice.calls == bob.calls == ()


@pytest.mark.parametrize("turns", [*range(0, 24, 2), *range(24, 72, 6)])
@pytest.mark.parametrize("introduced", [False, True])
async def test_both_call_at_once(turns: int, introduced: bool) -> None:
    """The second so many turns of the event loop after the first."""
    async with house(1) as home:
        alice, bob = await home.friends()
        if introduced:
            for call in await connect(alice, bob, "bob"):
                await call.hang_up()
            await until(lambda: home.allocations == 0)
        first = await alice.call("bob", audio=Mouth())
        for _ in range(turns):
            await asyncio.sleep(0)
        second = await bob.call("alice", audio=Mouth())
        await meet(home, alice, bob, first, second)
        assert home.codes("alice") == home.codes("bob") == []


@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.08])
async def test_both_call_while_relays_are_slow(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bob's relays take their time, and meanwhile Alice's call comes in."""
    async with house(1) as home:
        alice, bob = await home.friends()
        assert bob._board is not None
        take = bob._board._warm.take

        async def slowly() -> object:
            await asyncio.sleep(seconds)
            return await take()

        monkeypatch.setattr(bob._board._warm, "take", slowly)
        second = await bob.call("alice", audio=Mouth())
        first = await alice.call("bob", audio=Mouth())
        await meet(home, alice, bob, first, second)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_gave_way_needs_no_introduction_of_its_own(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bob asks for a prekey of Alice's and hears nothing, or cannot even ask: her call is enough."""

    async def introduce(_: object) -> bool:
        await asyncio.sleep(0.2)
        if fails:
            raise SignalingTimeout
        return False

    async with house(1) as home:
        alice, bob = await home.friends()
        monkeypatch.setattr(bob._board._desk, "introduce", introduce)  # type: ignore[union-attr]
        second = await bob.call("alice", audio=Mouth())
        first = await alice.call("bob", audio=Mouth())
        await connected(first, second)
        await asyncio.sleep(0.3)
        await meet(home, alice, bob, first, second)


async def _nothing(*_: object, **__: object) -> None:
    return None


async def test_whom_we_call_may_call_us_whatever_the_policy() -> None:
    """Both let nobody ring who is not verified, from the moment on in which each has called."""
    async with house(1) as home:
        alice, bob = await home.friends()
        for call in await connect(alice, bob, "bob"):
            await call.hang_up()
        first, second = await alice.call("bob", audio=Mouth()), await bob.call("alice", audio=Mouth())
        for phone in (alice, bob):
            phone._board._unverified = Unverified.REFUSE  # type: ignore[union-attr]
        await meet(home, alice, bob, first, second)


async def test_calling_who_calls_is_accepting() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        first = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        second = await bob.call("alice", audio=Mouth())
        assert not ring.rings
        await meet(home, alice, bob, first, second)


# --- calling again ----------------------------------------------------------------------------------------------------


async def crash(home: House, phone: Phone) -> Phone:
    """The phone is gone without a word, and there again. What its calls hold goes at the end of the test."""
    assert phone._signaling is not None
    await phone._signaling.close()
    return await home.phone("alice", store=phone._given_store)


async def test_the_peer_crashed_and_calls_again() -> None:
    """The new call rings, and when it is accepted the old one is over."""
    async with house(1) as home:
        alice, bob = await home.friends()
        _, old = await connect(alice, bob, "bob")
        again = await crash(home, alice)
        outgoing = await again.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        assert old.state is CallState.CONNECTED
        incoming = ring.accept(audio=Mouth())
        await connected(outgoing, incoming)
        assert await ended(old) == ["peer_hung_up"]
        assert bob.calls == (incoming,)
        await both_hear(outgoing, incoming)


async def test_the_peer_crashed_while_it_rang_and_calls_again() -> None:
    """One person rings once."""
    async with house(1) as home:
        alice, bob = await home.friends()
        await alice.call("bob", audio=Mouth())
        lost = await next_ring(bob)
        again = await crash(home, alice)
        outgoing = await again.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        assert await ended(lost) == ["cancelled"]
        await connected(outgoing, ring.accept(audio=Mouth()))
        assert len(bob.calls) == 1


# --- messages that come again -----------------------------------------------------------------------------------------


async def test_an_offer_that_comes_again_rings_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when what we said about it was lost: each offer gets an answer, and one call rings."""
    monkeypatch.setattr("relaycall.call.state.RESEND", 0.02)
    async with house(1) as home:
        alice, bob = await home.friends()
        said, rings = [], []
        bob.on("incoming", rings.append)
        post = bob._board._desk.post  # type: ignore[union-attr]

        async def lose(to: object, kind: Kind, body: bytes) -> None:
            said.append(kind)
            if kind is not Kind.RINGING:
                await post(to, kind, body)  # type: ignore[arg-type]

        monkeypatch.setattr(bob._board._desk, "post", lose)  # type: ignore[union-attr]
        outgoing = await alice.call("bob", audio=Mouth())
        await until(lambda: said.count(Kind.RINGING) > 3)
        assert outgoing.state is CallState.CALLING
        assert len(rings) == len(bob.calls) == 1
        assert home.codes("bob") == []
        await connected(outgoing, rings[0].accept(audio=Mouth()))


async def test_an_offer_that_comes_again_after_declining_does_not_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said in declining is lost."""
    monkeypatch.setattr("relaycall.call.state.RESEND", 0.02)
    async with house(1) as home:
        alice, bob = await home.friends()
        for call in await connect(alice, bob, "bob"):
            await call.hang_up()
        rings: list[object] = []
        bob.on("incoming", rings.append)
        monkeypatch.setattr(bob._board._desk, "post", _nothing)  # type: ignore[union-attr]
        outgoing = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        await ring.decline()
        await until(lambda: home.codes("bob").count(MessageRefused.code) > 2)
        assert outgoing.state is CallState.CALLING
        assert len(rings) == 1
        assert bob.calls == ()
