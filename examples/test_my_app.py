"""Tests of an app of your own: `relaycall.testing` has two phones that know each other, and a network that is bad.

    pip install pytest pytest-asyncio
    pytest examples/test_my_app.py

It all happens in the tests' process. To place a call that leaves it: examples/place_a_call.py.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from relaycall import HeardTrack, Phone, SilenceSource, ToneSource
from relaycall.testing import embedded_relay, local_pair, lossy_link

# --- the app ----------------------------------------------------------------------------------------------------------


async def time_signal(phone: Phone, welcome: set[str]) -> None:
    """Plays a tone to whoever is welcome, until they hang up."""
    async for ring in phone.incoming():
        if ring.party.name in welcome:
            await ring.accept(audio=ToneSource(440)).ended()
        else:
            await ring.decline()


# --- its tests --------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def phones() -> AsyncIterator[tuple[Phone, Phone]]:
    async with local_pair() as pair:
        yield pair


async def loudest(heard: HeardTrack, frames: int) -> int:
    """The highest sample in so many frames of 20 ms."""
    sound = [bytes((await heard.recv()).planes[0]) for _ in range(frames)]
    return max(max(memoryview(pcm).cast("h")) for pcm in sound)


@pytest.mark.asyncio
async def test_who_is_welcome_hears_the_tone(phones: tuple[Phone, Phone]) -> None:
    alice, bob = phones
    app = asyncio.create_task(time_signal(bob, {"alice"}))
    async with await alice.call("bob", audio=SilenceSource(), sink=(heard := HeardTrack())) as call:
        assert await call.connected()
        assert await loudest(heard, 25) > 1000
    app.cancel()


@pytest.mark.asyncio
async def test_others_are_declined(phones: tuple[Phone, Phone]) -> None:
    alice, bob = phones
    app = asyncio.create_task(time_signal(bob, {"carol"}))
    call = await alice.call("bob", audio=SilenceSource())
    assert (await call.ended()).reason == "declined"
    app.cancel()


@pytest.mark.asyncio
async def test_the_tone_comes_through_a_bad_network() -> None:
    async with (
        embedded_relay() as relay,
        lossy_link(relay, seed=7) as (link, through),
        local_pair(relays=[through]) as (
            alice,
            bob,
        ),
    ):
        link.set("both", delay=0.02, jitter=0.01, loss=0.05)
        app = asyncio.create_task(time_signal(bob, {"alice"}))
        async with await alice.call("bob", audio=SilenceSource(), sink=(heard := HeardTrack())) as call:
            assert await call.connected()
            assert await loudest(heard, 50) > 1000
        app.cancel()
