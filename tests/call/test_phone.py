"""Two phones: calls from the first ring to the end, in each of the ways in which a call may go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relaycall.call.call import Call
from relaycall.call.events import AudioEnded, Ended, SinkFailed
from relaycall.call.messages import Kind
from relaycall.call.phone import Phone
from relaycall.call.state import CallState
from relaycall.errors import ConfigError, ContactUnknown, PhoneClosed
from relaycall.identity.sealer import Opened
from tests.call.phones import (
    Ear,
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
from tests.media.listening import tone_share
from tests.scenarios.calling import until


async def test_accept_and_decline_may_be_awaited_and_need_not() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        incoming = await ring.accept(audio=Mouth())
        assert isinstance(incoming, Call)
        assert await incoming is incoming
        await incoming.hang_up()
        outgoing = await (await alice.call("bob", audio=Mouth()))
        (await next_ring(bob)).decline()
        assert (await outgoing.ended()).reason == "declined"


async def test_what_is_muted_before_it_is_connected_says_nothing() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing = await alice.call("bob", audio=Mouth())
        outgoing.muted = True
        told: list[Any] = []
        incoming = (await next_ring(bob)).accept(audio=Mouth())
        incoming.on("peer_changed", told.append)
        await connected(outgoing, incoming)
        assert outgoing.muted
        assert outgoing.media is not None
        assert outgoing.media.session is not None
        assert outgoing.media.session.muted
        await until(lambda: [each.muted for each in told] == [True])


async def test_the_end_of_a_source_and_a_sink_that_fails_are_told() -> None:
    class Broken:
        def write(self, frame: object) -> None:
            raise ValueError

        def close(self) -> None:
            pass

    class Short(Mouth):
        def read(self) -> bytes | None:
            return None

    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing = await alice.call("bob", audio=Short(), sink=Broken())
        told: list[Any] = []
        outgoing.on("audio_ended", told.append)
        outgoing.on("sink_failed", told.append)
        incoming = (await next_ring(bob)).accept(audio=Mouth())
        await connected(outgoing, incoming)
        await until(lambda: len(told) == 2)
        assert AudioEnded(None) in told
        assert any(isinstance(each, SinkFailed) and each.error.code == "media" for each in told)
        await asyncio.sleep(1.2)
        assert len(told) == 2, "once"


async def test_a_call_is_heard_on_both_sides() -> None:
    async with house() as home:
        alice, bob = await home.friends()
        mouths, ears = (Mouth(440), Mouth(660)), (Ear(), Ear())
        outgoing = await alice.call("bob", audio=mouths[0], sink=ears[0])
        assert outgoing.caller
        ring = await next_ring(bob)
        assert (ring.party.name, ring.rings) == ("alice", True)
        incoming = ring.accept(audio=mouths[1], sink=ears[1])
        assert not ring.rings
        assert not incoming.caller
        await connected(outgoing, incoming)
        assert outgoing.id == incoming.id
        assert len(outgoing.id) == 16
        await both_hear(outgoing, incoming, frames=15)
        assert await outgoing.hang_up() == Ended("hung_up")
        assert await ended(incoming) == ["peer_hung_up"]
        assert alice.calls == bob.calls == ()
        assert [mouth.closed > 0 for mouth in mouths] == [ear.closed > 0 for ear in ears] == [True, True]
        assert tone_share(ears[0].samples, 660) > 0.8
        assert tone_share(ears[1].samples, 440) > 0.8
    assert home.codes("alice") == home.codes("bob") == []
    assert home.allocations == 0


async def test_the_callee_hangs_up_and_calls_back() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing, incoming = await connect(alice, bob, "bob")
        assert await incoming.hang_up() == Ended("hung_up")
        assert await ended(outgoing) == ["peer_hung_up"]
        again, back = await connect(bob, alice, "alice")
        assert again.id == back.id != outgoing.id
        await both_hear(again, back)
        assert await back.hang_up() == Ended("hung_up")
        assert await ended(again) == ["peer_hung_up"]


async def test_both_hang_up_at_once() -> None:
    async with house(1) as home:
        calls = await connect(*await home.friends(), "bob")
        ends = await asyncio.gather(*(call.hang_up() for call in calls))
        assert {end.reason for end in ends} <= {"hung_up", "peer_hung_up"}
        assert "hung_up" in {end.reason for end in ends}


async def test_leaving_the_block_hangs_up() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        async with await alice.call("bob", audio=Mouth()) as outgoing:
            async with (await next_ring(bob)).accept(audio=Mouth()) as incoming:
                await connected(outgoing, incoming)
            assert await ended(outgoing, incoming) == ["peer_hung_up", "hung_up"]


async def test_the_course_of_a_call_is_told() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        told: list[object] = []
        outgoing = await alice.call("bob", audio=Mouth())
        outgoing.on("state", told.append)
        outgoing.on("ended", told.append)
        outgoing.on("path_selected", lambda event: told.append(type(event).__name__))
        incoming = (await next_ring(bob)).accept(audio=Mouth())
        await connected(outgoing, incoming)
        await outgoing.hang_up()
    order = [CallState.CALLING, CallState.RINGING, CallState.CONNECTING, "PathSelected", CallState.CONNECTED]
    assert [each for each in told if each in order][: len(order)] == order
    assert told[-2:] == [CallState.ENDED, Ended("hung_up")]


async def test_the_words_to_compare_are_the_same() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing, incoming = await connect(alice, bob, "bob")
        await until(lambda: bool(incoming.spoken_words))
        words = outgoing.spoken_words
        assert incoming.spoken_words == words
        assert len(words.split("-")) == 4
        await outgoing.hang_up()
        assert await ended(incoming) == ["peer_hung_up"]
        assert outgoing.spoken_words == incoming.spoken_words == ""
        others = await connect(alice, bob, "bob")
        await until(lambda: all(call.spoken_words for call in others))
        assert others[0].spoken_words != words


async def test_muting_is_told_and_heard() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        told: list[bool] = []
        outgoing, incoming = await connect(alice, bob, "bob")
        incoming.on("peer_changed", lambda event: told.append(event.muted))
        outgoing.muted = True
        await until(lambda: told == [True])
        assert (outgoing.muted, incoming.muted) == (True, False)
        outgoing.muted = False
        await until(lambda: told == [True, False])


# --- calls that do not take place -------------------------------------------------------------------------------------


async def test_declining() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        mouth, ear = Mouth(), Ear()
        outgoing = await alice.call("bob", audio=mouth, sink=ear)
        ring = await next_ring(bob)
        assert await ring.decline() == Ended("declined")
        assert await ended(outgoing) == ["declined"]
        assert not await outgoing.connected()
        assert mouth.closed
        assert ear.closed
        assert bob.calls == ()
        assert home.allocations == 0


async def test_cancelling_while_it_rings() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        assert await outgoing.hang_up() == Ended("cancelled")
        assert await ended(ring) == ["cancelled"]
        assert not ring.rings


async def test_accepting_what_was_cancelled() -> None:
    """The call says so, and closes what it was given."""
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        await outgoing.hang_up()
        await ended(ring)
        mouth, ear = Mouth(), Ear()
        late = ring.accept(audio=mouth, sink=ear)
        assert await ended(late) == ["cancelled"]
        assert not await late.connected()
        assert mouth.closed == ear.closed == 1


async def test_accepting_twice_is_accepting_once() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        first, second = Mouth(), Mouth()
        incoming = ring.accept(audio=first)
        assert ring.accept(audio=second) is incoming
        await connected(outgoing, incoming)
        assert (first.closed, second.closed) == (0, 1)


async def test_cancelling_before_anything_was_sent() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        mouth = Mouth()
        outgoing = await alice.call("bob", audio=mouth)
        assert await outgoing.hang_up() == Ended("hung_up")
        await asyncio.sleep(0.05)
        assert mouth.closed == 1
        assert bob.calls == ()
        assert home.allocations == 0


@pytest.mark.parametrize("turns", range(0, 60, 3))
async def test_cancelling_at_any_moment(turns: int) -> None:
    """After so many turns of the event loop. Neither side is left ringing, and no relay is left allocated."""
    async with house(1) as home:
        alice, bob = await home.friends()
        bob.on("incoming", lambda ring: ring.accept(audio=Mouth()))
        mouth = Mouth()
        outgoing = await alice.call("bob", audio=mouth)
        for _ in range(turns):
            await asyncio.sleep(0)
        await outgoing.hang_up()
        await until(lambda: bob.calls == ())
        await until(lambda: home.allocations == 0)
        assert mouth.closed


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaycall.call.state.RING_TIMEOUT", 0.3)
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        assert await ended(outgoing) == ["unanswered"]
        assert await ended(ring) in (["unanswered"], ["cancelled"])


async def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone that was there before, with a prekey we have, is closed."""
    monkeypatch.setattr("relaycall.call.state.RING_TIMEOUT", 0.2)
    async with house(1) as home:
        alice, bob = await home.friends()
        for call in await connect(alice, bob, "bob"):
            await call.hang_up()
        await bob.close()
        outgoing = await alice.call("bob", audio=Mouth())
        assert await ended(outgoing) == ["unanswered"]


async def test_nobody_was_ever_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even an introduction is answered."""
    monkeypatch.setattr("relaycall.call.desk.INTRODUCTION_TIMEOUT", 0.2)
    async with house(1) as home:
        alice, bob = await home.friends()
        await bob.close()
        outgoing = await alice.call("bob", audio=Mouth())
        assert await ended(outgoing) == ["unanswered"]


async def test_busy() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        carol = await home.phone("carol")
        await befriend(alice, bob, carol)
        calls = await connect(alice, bob, "bob")
        third = await carol.call("bob", audio=Mouth())
        assert await ended(third) == ["busy"]
        await both_hear(*calls)
        assert len(bob.calls) == 1


async def test_who_was_told_that_it_is_busy_does_not_ring_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The offer is under way twice, and between the two of them the other call ends."""
    async with house(1) as home:
        alice, bob = await home.friends()
        carol = await home.phone("carol")
        await befriend(alice, bob, carol)
        board, heard = bob._board, []
        assert board is not None
        hear = board.hear

        async def noted(opened: Opened) -> None:
            heard.append(opened)
            await hear(opened)

        monkeypatch.setattr(board, "hear", noted)
        calls = await connect(alice, bob, "bob")
        third = await carol.call("bob", audio=Mouth())
        assert await ended(third) == ["busy"]
        for call in calls:
            await call.hang_up()
        await until(lambda: not bob.calls)
        await hear(next(opened for opened in reversed(heard) if opened.kind == Kind.OFFER))
        assert bob.calls == ()
        again = await carol.call("bob", audio=Mouth())
        await next_ring(bob)  # another call is another thing
        await again.hang_up()


async def test_set_up_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relays' sockets say nothing once both have allocated: no path is ever found."""
    monkeypatch.setattr("relaycall.call.state.SETUP_TIMEOUT", 0.3)
    async with house(1) as home:
        alice, bob = await home.friends()
        outgoing = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        monkeypatch.setattr("relaycall.ice.allocation.Allocation._receive", lambda *_: None)
        mouth = Mouth()
        incoming = ring.accept(audio=mouth)
        reasons = await ended(outgoing, incoming)
        assert set(reasons) <= {"setup_timeout", "peer_hung_up", "declined"}
        assert "setup_timeout" in reasons
        assert mouth.closed


# --- the phone --------------------------------------------------------------------------------------------------------


async def test_an_unknown_contact() -> None:
    async with house(1) as home:
        alice = await home.phone("alice")
        with pytest.raises(ContactUnknown):
            await alice.call("nobody", audio=Mouth())
        assert alice.calls == ()


async def test_our_own_card() -> None:
    async with house(1) as home:
        alice = await home.phone("alice")
        with pytest.raises(ConfigError):
            await alice.call(alice.card, audio=Mouth())
        assert alice.calls == ()


async def test_a_phone_that_is_not_open() -> None:
    async with house(1) as home:
        closed = await home.phone("alice")
        await closed.close()
        never = Phone(signaling=home.url, relays=home.servers)
        for phone in (closed, never):
            for use in (lambda phone=phone: phone.card, lambda phone=phone: phone.contacts):
                with pytest.raises(PhoneClosed):
                    use()
            with pytest.raises(PhoneClosed):
                await phone.call("bob", audio=Mouth())
            with pytest.raises(PhoneClosed):
                await next_ring(phone)
        await never.close()


async def test_rings_end_with_the_phone() -> None:
    async with house(1) as home:
        alice = await home.phone("alice")
        seen: list[object] = []

        async def answer() -> None:
            seen.extend([ring async for ring in alice.incoming()])
            seen.append("end")

        waiting = [asyncio.create_task(answer()) for _ in range(2)]
        await asyncio.sleep(0)
        await alice.close()
        await asyncio.wait_for(asyncio.gather(*waiting), 1)
        assert seen == ["end", "end"]


async def test_a_ring_that_is_over_is_not_given() -> None:
    async with house(1) as home:
        alice, bob = await home.friends()
        first = await alice.call("bob", audio=Mouth())
        await until(lambda: bool(bob.calls))
        await first.hang_up()
        await until(lambda: bob.calls == ())
        second = await alice.call("bob", audio=Mouth())
        ring = await next_ring(bob)
        assert ring.rings
        incoming: Call = ring.accept(audio=Mouth())
        await connected(second, incoming)
