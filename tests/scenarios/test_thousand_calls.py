"""A thousand calls, one after the other, between two phones: nothing of them is left.

Every fourth has video. Every tenth is not answered but declined, cancelled, or turned away because the callee is busy,
in turns; the others are heard on both sides and hung up by alternating sides. RELAYCALL_CALLS=1000 says how many; the
first of them fill what is bounded.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from relaycall.call.call import Call
from relaycall.call.phone import Phone
from relaycall.media.audio import ToneSource
from relaycall.media.video.sinks import SeenTrack
from relaycall.media.video.sources import TestPattern
from tests.call.phones import (  # noqa: F401
    House,
    befriend,
    both_hear,
    connected,
    ended,
    house,
    next_ring,
    nobody_else_writes,
)
from tests.scenarios.calling import until

CALLS = int(os.environ.get("RELAYCALL_CALLS", "1000"))
WARM_UP = CALLS * 6 // 10  # until what is bounded is full: envelopes that are known, calls that are over, failures
FRAMES = 3  # heard on each side
BLOCKS = 400  # that may come and go: one for each call
RSS = 2 << 20  # bytes; the C libraries keep some of what they free
TONE = ToneSource()  # one for all: to make one takes longer than a call

PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Left:
    """What this process holds. `blocks` of at most 512 bytes are Python's own; `rss` is all of its memory, in bytes;
    `objects` are those of relaycall, by type. (tracemalloc would make each call four times as slow.)"""

    blocks: int
    rss: int
    tasks: int
    threads: int
    descriptors: int
    timers: int
    objects: Counter[str]


async def held() -> Left:
    """What is held once all that was told to end has ended."""
    await asyncio.sleep(0.2)
    gc.collect()
    handles = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return Left(
        blocks=sys.getallocatedblocks(),
        rss=int((PROCESS / "statm").read_text().split()[1]) * resource.getpagesize(),
        tasks=len(asyncio.all_tasks()),
        threads=threading.active_count(),
        descriptors=len(list((PROCESS / "fd").iterdir())),
        timers=sum(not handle.cancelled() for handle in handles),
        objects=Counter(
            type(each).__qualname__ for each in gc.get_objects() if type(each).__module__.startswith("relaycall")
        ),
    )


async def connect(alice: Phone, bob: Phone, *, video: bool = False) -> tuple[Call, Call]:
    pictures = [{"video": TestPattern(64, 64), "video_sink": SeenTrack()} if video else {} for _ in range(2)]
    outgoing = await alice.call("bob", audio=TONE, **pictures[0])
    incoming = (await next_ring(bob)).accept(audio=TONE, **pictures[1])
    await connected(outgoing, incoming)
    return outgoing, incoming


async def talk(alice: Phone, bob: Phone, number: int) -> None:
    """A call that is heard, and hung up by one of the two."""
    outgoing, incoming = await connect(alice, bob, video=number % 4 == 1)
    await both_hear(outgoing, incoming, frames=FRAMES)
    first, second = (outgoing, incoming) if number % 2 else (incoming, outgoing)
    assert (await first.hang_up()).reason == "hung_up"
    assert await ended(second) == ["peer_hung_up"]


async def decline(alice: Phone, bob: Phone) -> None:
    outgoing = await alice.call("bob", audio=TONE)
    await (await next_ring(bob)).decline()
    assert await ended(outgoing) == ["declined"]


async def cancel(alice: Phone, bob: Phone) -> None:
    outgoing = await alice.call("bob", audio=TONE)
    ring = await next_ring(bob)
    await outgoing.hang_up()
    assert await ended(ring) == ["cancelled"]


async def busy(alice: Phone, bob: Phone, carol: Phone) -> None:
    outgoing, incoming = await connect(alice, bob)
    other = await carol.call("bob", audio=TONE)
    assert await ended(other) == ["busy"]
    await outgoing.hang_up()
    await ended(incoming)


async def calls(home: House, phones: tuple[Phone, Phone, Phone], numbers: range) -> None:
    alice, bob, carol = phones
    for number in numbers:
        if number % 10:
            await talk(alice, bob, number)
        elif number % 30 == 0:
            await decline(alice, bob)
        elif number % 30 == 10:
            await cancel(alice, bob)
        else:
            await busy(alice, bob, carol)
        await until(lambda: not any(phone.calls for phone in phones), what="the end of a call on every side")
    await until(lambda: home.allocations == 0, what="giving every allocation back")


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nothing_is_left_of_a_thousand_calls(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "relaycall")  # or pytest keeps what each call logs
    async with house() as home:
        alice, bob = await home.friends()
        carol = await home.phone("carol")
        await befriend(carol, bob)
        phones = alice, bob, carol
        await calls(home, phones, range(WARM_UP))
        before = await held()
        await calls(home, phones, range(WARM_UP, CALLS))
        after = await held()
    grown = {name: count - before.objects[name] for name, count in after.objects.items()}
    assert not {name: count for name, count in grown.items() if count > 0}, "objects of calls that are over"
    assert after.tasks <= before.tasks
    assert after.threads <= before.threads
    assert after.descriptors <= before.descriptors
    assert after.timers <= before.timers
    assert after.blocks - before.blocks < BLOCKS
    assert after.rss - before.rss < RSS
