"""Signaling is gone for an hour during a call, and nobody notices: phones, server and relays, in time that jumps.

Everything is real but the clock: sockets, relays, keys, Opus, the transport with its own way of coming back. In the
hour each side sends 180,000 packets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from relaycall.call.call import Call
from relaycall.call.phone import Phone
from relaycall.call.state import RING_TIMEOUT, CallState
from relaycall.errors import SignalingTimeout
from relaycall.server.signaling import SignalingServer
from relaycall.signaling.base import SignalingState
from tests.call.phones import (
    House,
    Mouth,
    both_hear,
    connect,
    ended,
    house,
    next_ring,
    nobody_else_writes,  # noqa: F401 - for every test here
)
from tests.jumping import JumpingLoop
from tests.signaling.forwarder import Forwarder

HOUR = 3600.0
LONGEST = 15.0  # seconds that a phone waits before it tries the server again


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture(autouse=True)
def no_other_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts seconds in media takes them from the loop, too."""
    for module in ("relaycall.media.transport", "relaycall.media.budget", "relaycall.call.media_call"):
        monkeypatch.setattr(f"{module}.monotonic", now)


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main)


class Front(Forwarder):
    """The way to the server; it counts who tries it."""

    tried = 0

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tried += 1
        await super()._accepted(reader, writer)

    def shut(self) -> None:
        self.is_open = False
        self.cut()


def frames(call: Call) -> tuple[int, int]:
    assert call.media is not None
    assert call.media.session is not None
    stats = call.media.session.stats()
    return stats.frames_heard, stats.concealed


async def outage(seconds: float) -> None:
    async with SignalingServer() as server, Front(server.port) as front, house(2) as home:
        home.url = f"ws://127.0.0.1:{front.port}"
        alice, bob = await home.friends()
        calls = await connect(alice, bob, "bob")
        told: list[object] = []
        for call in calls:
            call.on("state", told.append)
            call.on("peer_unheard", told.append)
        before = [frames(call) for call in calls]

        front.shut()
        front.tried = 0
        await asyncio.sleep(seconds)

        assert told == []
        assert [call.state for call in calls] == [CallState.CONNECTED] * 2
        for call, (heard, concealed) in zip(calls, before, strict=True):
            heard, concealed = frames(call)[0] - heard, frames(call)[1] - concealed
            assert heard >= 50 * (seconds - 1)
            assert concealed < 50
        assert home.allocations == 4
        # Neither gave up, and neither hammered at the door: in the long run one waits 7.5 seconds on average.
        assert seconds / LONGEST < front.tried < seconds

        await the_server_is_back(front, alice, bob)
        await both_hear(*calls)
        await calls[0].hang_up()
        assert await ended(calls[1]) == ["peer_hung_up"]
        for call in await connect(bob, alice, "alice"):
            await call.hang_up()
        assert home.codes("alice") == home.codes("bob") == []


async def the_server_is_back(front: Front, *phones: Phone) -> None:
    """Each phone is there again by itself, within its longest wait."""
    front.is_open = True
    since = now()
    async with asyncio.timeout(LONGEST + 1):
        while any(phone.signaling.state is not SignalingState.OPEN for phone in phones):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert now() - since <= LONGEST + 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nobody_notices_an_hour_without_signaling() -> None:
    run(outage(HOUR))


@pytest.mark.slow
def test_nobody_notices_two_minutes_without_signaling() -> None:
    run(outage(120.0))


@pytest.mark.slow
def test_an_hour_without_signaling_between_calls() -> None:
    async def main() -> None:
        async with SignalingServer() as server, Front(server.port) as front, house(1) as home:
            home.url = f"ws://127.0.0.1:{front.port}"
            alice, bob = await home.friends()
            front.shut()
            await asyncio.sleep(HOUR)
            await the_server_is_back(front, alice, bob)
            for call in await connect(alice, bob, "bob"):
                await call.hang_up()

    run(main())


def test_a_call_without_signaling_says_so_after_a_minute() -> None:
    async def main() -> None:
        async with SignalingServer() as server, Front(server.port) as front, house(1) as home:
            home.url = f"ws://127.0.0.1:{front.port}"
            alice, bob = await home.friends()
            for call in await connect(alice, bob, "bob"):
                await call.hang_up()
            front.shut()
            since = now()
            end = await (await alice.call("bob", audio=Mouth())).ended()
            assert isinstance(end.error, SignalingTimeout)
            assert now() - since <= RING_TIMEOUT + 2

    run(main())


async def ring_for_a_minute(home: House) -> None:
    alice, bob = await home.friends()
    since = now()
    outgoing = await alice.call("bob", audio=Mouth())
    ring = await next_ring(bob)
    reasons = await ended(outgoing, ring, timeout=100)
    assert reasons[0] == "unanswered"
    assert reasons[1] in ("unanswered", "cancelled")
    assert RING_TIMEOUT <= now() - since < RING_TIMEOUT + 3


def test_it_rings_for_a_minute() -> None:
    async def main() -> None:
        async with house(1) as home:
            await ring_for_a_minute(home)

    run(main())


def test_control_time_jumps_and_packets_do_not() -> None:
    """An hour takes no time, and what is sent on loopback arrives in the moment in which it was sent."""

    async def main() -> None:
        await asyncio.sleep(HOUR)
        async with SignalingServer() as server, Front(server.port) as front:
            since = now()
            reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert await reader.read()
            assert now() - since < 1
            writer.close()
            thread = asyncio.get_running_loop().run_in_executor(None, sum, range(100000))
            late = asyncio.get_running_loop().call_later(HOUR, pytest.fail)
            assert await thread
            late.cancel()
            assert HOUR <= now() < HOUR + 1

    run(main())
