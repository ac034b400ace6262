"""Networks by name: each is what it says, and each carries a call."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from relaycall.call.call import Call
from relaycall.call.phone import Phone
from relaycall.errors import ConfigError
from relaycall.identity.own import create_own
from relaycall.media.audio import ToneSource
from relaycall.media.session import AudioStats
from relaycall.store.memory import MemoryStore
from relaycall.testing import Link, Profile, embedded_relay, lossy_network, profile
from relaycall.testing.conditions import Conditions, Fate, Schedule
from relaycall.testing.profiles import PROFILES
from tests.leaks import nothing_left_behind  # noqa: F401
from tests.waiting import eventually

AUDIO = 140  # bytes of a packet on the link
FRAME = 0.02  # seconds


@pytest.mark.parametrize("name", ["good", "3g", "lossy-wifi", "congested", "satellite", "tor"])
def test_they_are_found_by_name(name: str) -> None:
    assert profile(name).name == name
    assert profile(name).about.endswith(".")


def test_a_wrong_name_is_told_the_right_ones() -> None:
    with pytest.raises(ConfigError) as refused:
        profile("5g")
    assert all(name in refused.value.next_step for name in PROFILES)


@pytest.mark.parametrize("found", PROFILES.values(), ids=PROFILES)
def test_a_schedule_begins_and_begins_again_with_the_first_conditions(found: Profile) -> None:
    for first, schedule in ((found.up, found.up_schedule), (found.down, found.down_schedule)):
        fate = Fate(1)
        fate.conditions = first
        fate.run(schedule, 0.0)
        assert fate.at(0.0) == first
        assert schedule.repeat is None or fate.at(3 * schedule.repeat) == first


def sent(conditions: Conditions, schedule: Schedule, seconds: float) -> tuple[float, float, float]:
    """Audio over it, in virtual time: the share that was lost, the mean and the most of the delay, in seconds."""
    fate = Fate(1)
    fate.conditions = conditions
    fate.run(schedule, 0.0)
    count = round(seconds / FRAME)
    took = [at - n * FRAME for n in range(count) if (at := fate.next(n * FRAME, AUDIO)) is not None]
    return 1 - len(took) / count, sum(took) / len(took), max(took)


@pytest.mark.parametrize(
    ("name", "lost", "mean_ms", "most_ms"),
    [
        ("good", (0.0, 0.0), (10, 13), (11, 14)),
        ("3g", (0.003, 0.010), (170, 215), (200, 230)),
        ("lossy-wifi", (0.03, 0.08), (10, 30), (25, 70)),
        ("congested", (0.005, 0.03), (100, 170), (200, 240)),
        ("satellite", (0.003, 0.010), (310, 335), (325, 340)),
        ("tor", (0.0, 0.0), (200, 280), (500, 540)),
    ],
)
def test_audio_alone_finds_what_the_profile_says(
    name: str, lost: tuple[float, float], mean_ms: tuple[float, float], most_ms: tuple[float, float]
) -> None:
    """For two minutes, of what the person sends. Audio alone fills no queue."""
    share, mean, most = sent(profile(name).up, profile(name).up_schedule, 120.0)
    for value, (low, high) in ((share, lost), (mean * 1000, mean_ms), (most * 1000, most_ms)):
        assert low <= value <= high


@asynccontextmanager
async def call_from(network: Profile) -> AsyncIterator[tuple[Link, Call, Call]]:
    """A call from somebody in a network to somebody in a clean one, with a tone both ways."""
    signaling = f"memory:{secrets.token_hex(8)}"
    async with AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(embedded_relay()) for _ in range(2)]
        link, through = await stack.enter_async_context(lossy_network(relays, network, seed=7))
        phones = []
        for name, reached in (("alice", through), ("bob", relays)):
            store = MemoryStore()
            await create_own(store, name, signaling, time.time())
            phone = Phone(signaling=signaling, relays=reached, store=store, laboratory=True)
            phones.append(await stack.enter_async_context(phone))
        alice, bob = phones
        await alice.contacts.add(bob.card, time.time())
        await bob.contacts.add(alice.card, time.time())
        answered: list[Call] = []
        bob.on("incoming", lambda ring: answered.append(ring.accept(audio=ToneSource(440))))
        call = await alice.call("bob", audio=ToneSource(440))
        assert await call.connected()
        assert await answered[0].connected()
        yield link, call, answered[0]


def heard_by(call: Call) -> AudioStats:
    assert call.media is not None
    assert call.media.session is not None
    return call.media.session.stats()


@pytest.mark.slow
@pytest.mark.parametrize("found", PROFILES.values(), ids=PROFILES)
async def test_it_carries_a_call(found: Profile) -> None:
    """Three seconds of sound are heard on either side, and it is this network that they came through."""
    async with call_from(found) as (link, alice, bob):
        await eventually(lambda: all(heard_by(call).frames_heard >= 150 for call in (alice, bob)), 10)
        assert link.counts["up", "passed"] >= 150 <= link.counts["down", "passed"]
        assert alice.media is not None
        path = alice.media.connection.path_stats()[0]
        assert path.rtt_ms >= found.round_trip * 1000
