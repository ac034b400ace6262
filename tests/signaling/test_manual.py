"""Signaling that people carry: the transport. The contract's cases are in tests/contracts."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relaycall.errors import (
    ConfigError,
    EnvelopeRefused,
    MailboxFull,
    MailboxRefused,
    SignalingClosed,
    SignalingError,
    SignalingTimeout,
    TextIsOurs,
    TextNotForUs,
    TextOfOtherKind,
    TextOutOfOrder,
    TextRefused,
    TextStale,
    TextTruncated,
)
from relaycall.signaling import manual
from relaycall.signaling.armor import armor
from relaycall.signaling.base import ENVELOPE_SIZE, SignalingState
from relaycall.signaling.carried import ManualText
from relaycall.signaling.keys import FreshKey
from relaycall.signaling.manual import Accepted, ManualTransport
from relaycall.signaling.opening import open_signaling
from relaycall.signaling.rig import Impostor, silent, take
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here


class Person:
    """Has a transport, a clock, and a pile of what it was given to carry."""

    def __init__(self, key: FreshKey | None = None, lifetime: float = 600.0) -> None:
        self.wall = 1_700_000_000.0
        self.transport = ManualTransport("manual:", key=key, lifetime=lifetime, clock=lambda: self.wall)
        self.transport.on_text = self._take
        self.texts: list[ManualText] = []

    async def _take(self, text: ManualText) -> None:
        self.texts.append(text)

    async def send(self, other: Person, number: int) -> str:
        await self.transport.send(other.transport.mailbox, envelope(number))
        return self.texts[-1].text


def envelope(number: int) -> bytes:
    return number.to_bytes(4, "big").ljust(ENVELOPE_SIZE, b"\0")


@asynccontextmanager
async def two(lifetime: float = 600.0) -> AsyncIterator[tuple[Person, Person]]:
    alice, bob = Person(), Person(lifetime=lifetime)
    async with alice.transport, bob.transport:
        yield alice, bob


async def test_an_offer_and_an_answer() -> None:
    async with two() as (alice, bob):
        offer = await alice.send(bob, 1)
        assert await bob.transport.accept(offer) == Accepted(1, 0, ())
        (received,) = await take(bob.transport.receive())
        assert (received.envelope, received.duplicate) == (envelope(1), False)
        await bob.transport.acknowledge(received)
        answer = await bob.send(alice, 2)
        assert (await alice.transport.accept(f"Re: call\n{answer}\n\n> {offer}")).taken == 1
        assert [one.envelope for one in await take(alice.transport.receive())] == [envelope(2)]
        assert bob.texts[0].mailbox == alice.transport.mailbox
        assert bob.texts[0].created == bob.wall


async def test_what_was_pasted_before_is_known_and_comes_once() -> None:
    async with two() as (alice, bob):
        text, incoming = await alice.send(bob, 1), bob.transport.receive()
        assert await bob.transport.accept(text + text) == Accepted(1, 1, ())
        (received,) = await take(incoming)
        assert await bob.transport.accept(text) == Accepted(0, 1, ())
        await bob.transport.acknowledge(received)
        assert await bob.transport.accept(text) == Accepted(0, 1, ())
        assert await silent(incoming)


async def test_what_was_acknowledged_never_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in a new text, after the desk has forgotten the old one."""
    async with two() as (alice, bob):
        incoming = bob.transport.receive()
        await bob.transport.accept(await alice.send(bob, 1))
        (received,) = await take(incoming)
        await bob.transport.acknowledge(received)
        now = asyncio.get_running_loop().time() + 3600
        monkeypatch.setattr(manual, "_now", lambda: now)
        alice.wall += 3600
        bob.wall += 3600
        assert (await bob.transport.accept(await alice.send(bob, 1))).taken == 1
        assert await silent(incoming)


async def test_texts_of_one_paste_are_taken_in_the_order_of_making() -> None:
    async with two() as (alice, bob):
        texts = [await alice.send(bob, number) for number in range(4)]
        assert (await bob.transport.accept("\n".join(reversed(texts)))).taken == 4
        received = await take(bob.transport.receive(), 4)
        assert [one.envelope for one in received] == [envelope(number) for number in range(4)]


async def test_a_text_is_stale_after_its_lifetime() -> None:
    async with two(lifetime=60.0) as (alice, bob):
        text = await alice.send(bob, 1)
        bob.wall += 181
        with pytest.raises(TextStale):
            await bob.transport.accept(text)
        bob.wall -= 1
        assert (await bob.transport.accept(text)).taken == 1


async def test_each_refusal_is_its_own() -> None:
    async with two() as (alice, bob):
        first, second = await alice.send(bob, 1), await alice.send(bob, 2)
        for text, error in (
            (first[:-1], TextTruncated),
            (armor("card", b"card"), TextOfOtherKind),
            (armor("envelope", b"short"), TextRefused),
            (armor("envelope", bytes(16 + ENVELOPE_SIZE + 1)), TextRefused),
            (second, TextOutOfOrder),
            ("hello", TextRefused),
            ("", TextRefused),
            ("x" * 70000, TextRefused),
        ):
            with pytest.raises(error) as found:
                await bob.transport.accept(text)
            assert type(found.value) is error
        with pytest.raises(TextIsOurs):
            await alice.transport.accept(first)
        stranger = Person()
        async with stranger.transport:
            with pytest.raises(TextNotForUs):
                await stranger.transport.accept(first)
        assert await silent(bob.transport.receive())


async def test_a_fault_is_told_unless_something_new_was_taken() -> None:
    async with two() as (alice, bob):
        first, own = await alice.send(bob, 1), await bob.send(alice, 9)
        second = await alice.send(bob, 2)
        with pytest.raises(TextOutOfOrder):
            await bob.transport.accept(f"{own} {second}")
        with pytest.raises(TextTruncated):
            await bob.transport.accept(f"{own} {first[:-1]}")
        found = await bob.transport.accept(f"{own} {first} {second[:-1]}")
        assert (found.taken, found.known) == (1, 0)
        assert [type(error) for error in found.refused] == [TextTruncated, TextIsOurs]
        with pytest.raises(TextTruncated):
            await bob.transport.accept(f"{own} {first} {second[:-1]}")
        assert (await bob.transport.accept(f"{own} {first}")).known == 1


async def test_a_paste_that_does_not_fit_may_be_repeated() -> None:
    async with two() as (alice, bob):
        texts = [await alice.send(bob, number) for number in range(65)]
        await bob.transport.accept("\n".join(texts[:63]))
        with pytest.raises(MailboxFull):
            await bob.transport.accept("\n".join(texts[62:]))
        incoming = bob.transport.receive()
        for received in await take(incoming, 64):
            await bob.transport.acknowledge(received)
        assert await bob.transport.accept("\n".join(texts[62:])) == Accepted(1, 2, ())
        assert [one.envelope for one in await take(incoming)] == [envelope(64)]


async def test_who_carries_may_refuse_or_fail() -> None:
    async with two() as (alice, bob):
        carry = alice.transport.on_text
        alice.transport.on_text = None
        with pytest.raises(SignalingError, match="Nobody is there to carry"):
            await alice.send(bob, 1)

        async def no_terminal(_: ManualText) -> None:
            raise OSError("canary")

        alice.transport.on_text = no_terminal
        with pytest.raises(SignalingError, match=r"showing it failed \(OSError\)") as found:
            await alice.send(bob, 1)
        assert "canary" not in f"{found.value!r} {found.value.args} {found.value.__cause__!r}"
        assert found.value.__suppress_context__

        async def full(_: ManualText) -> None:
            raise MailboxFull("bob's desk")

        alice.transport.on_text = full
        with pytest.raises(MailboxFull, match="bob's desk"):
            await alice.send(bob, 1)
        alice.transport.on_text = carry
        assert (await bob.transport.accept(await alice.send(bob, 2))).taken == 1  # no gap


async def test_who_carries_is_waited_for_in_bounds_and_one_at_a_time() -> None:
    async with two() as (alice, bob):
        loop, calls = asyncio.get_running_loop(), []

        async def never(text: ManualText) -> None:
            calls.append(text)
            await asyncio.Event().wait()

        alice.transport.on_text = never
        start = loop.time()
        sends = [alice.transport.send(bob.transport.mailbox, envelope(1), timeout=0.05) for _ in range(3)]
        failures = await asyncio.gather(*sends, return_exceptions=True)
        assert [type(failure) for failure in failures] == [SignalingTimeout] * 3
        assert loop.time() - start < 5
        assert len(calls) == 1

        async def impatient(_: ManualText) -> None:
            raise TimeoutError

        alice.transport.on_text = impatient
        with pytest.raises(SignalingError, match="TimeoutError"):
            await alice.send(bob, 1)


async def test_what_waits_for_its_turn_is_not_sent_once_it_is_closed() -> None:
    async with two() as (alice, bob):
        carried, go = [], asyncio.Event()

        async def slow(text: ManualText) -> None:
            carried.append(text)
            await go.wait()

        alice.transport.on_text = slow
        sends = [asyncio.ensure_future(alice.transport.send(bob.transport.mailbox, envelope(n))) for n in range(3)]
        await asyncio.sleep(0)
        await alice.transport.close()
        go.set()
        failures = await asyncio.gather(*sends, return_exceptions=True)
        assert [type(failure) for failure in failures] == [type(None), SignalingClosed, SignalingClosed]
        assert len(carried) == 1


async def test_before_it_is_opened_and_after_it_is_closed() -> None:
    alice, bob = Person(), Person()
    for _ in range(2):
        with pytest.raises(SignalingClosed):
            await alice.send(bob, 1)
        with pytest.raises(SignalingClosed):
            await alice.transport.accept("hello")
        await alice.transport.close()
    with pytest.raises(EnvelopeRefused):
        await alice.transport.send(b"", envelope(1))
    with pytest.raises(MailboxRefused):
        await ManualTransport("manual:", key=Impostor(FreshKey().public)).open()


async def test_what_waits_is_kept_for_the_next_transport_and_forgotten_with_the_last() -> None:
    alice, key = Person(), FreshKey()
    bob = Person(key)
    async with alice.transport:
        async with bob.transport:
            await bob.transport.accept(await alice.send(bob, 1))
        later = Person(key)
        async with later.transport:
            received = await take(later.transport.receive())
            assert [(one.envelope, one.duplicate) for one in received] == [(envelope(1), True)]
            with pytest.raises(SignalingClosed):  # by us, so it was not replaced
                await bob.send(alice, 2)
    mailboxes = {alice.transport.mailbox, bob.transport.mailbox}
    assert mailboxes <= set(manual._desks)
    del alice, bob, later, received
    gc.collect()
    assert not mailboxes & set(manual._desks)


async def test_it_is_opened_by_its_url() -> None:
    async with open_signaling("manual:") as signaling:
        assert isinstance(signaling, ManualTransport)
        assert signaling.state is SignalingState.OPEN
        assert repr(signaling) == "<ManualTransport manual:: open>"
    for url in ("manual:x", "manual://host", "manual:?", "MANUAL:"):
        with pytest.raises(ConfigError, match="signaling by hand"):
            open_signaling(url)
