"""P7: nobody without the keys can end a call, disturb it, or make it grow.

The attacker owns the relay (see `attacker`) and gives Alice 1,500 packets of each kind he has got (see `hostile`),
while the call is set up and while it is on. The call goes on, every packet is counted as dropped, and nothing is kept
of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import pytest

from relaycall.call.ends import MediaOptions
from relaycall.call.media_call import MediaCall
from relaycall.media.audio import ToneSource
from relaycall.stun import attributes as a
from relaycall.stun.message import Class, Message, Method, decode
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.scenarios.attacker import Attacker, is_rtcp, is_stun
from tests.scenarios.calling import close, connect, embedded_relays, heard, session, until
from tests.scenarios.hostile import KINDS, Kind

EACH = 1500  # packets of each kind
FEW = 250  # the same, where it has to be quick
BATCH = 25  # packets before the loop gets its turn
LOOP_GAP_LIMIT = 1.0  # seconds
# What else grows, as audio does that waits on a busy machine, does not each time; what is kept of each packet does.
ROUNDS = 4


@asynccontextmanager
async def under_attack(transport: str) -> AsyncIterator[tuple[Attacker, MediaCall, MediaCall]]:
    """Alice and Bob, prepared, on a relay that the attacker owns."""
    async with embedded_relays(1, transport) as ([relay], servers):
        attacker = Attacker(relay)
        alice = MediaCall(servers, caller=True, source=ToneSource(440), options=MediaOptions(laboratory=True))
        bob = MediaCall(servers, caller=False, source=ToneSource(660), options=MediaOptions(laboratory=True))
        try:
            async with longest_gap():
                yield attacker, alice, bob
        finally:
            await close(alice, bob)


@asynccontextmanager
async def longest_gap() -> AsyncIterator[None]:
    """Fail when the event loop stood still for a second; print for how long it did."""
    loop = asyncio.get_running_loop()
    gap = 0.0

    async def watch() -> None:
        nonlocal gap
        while True:
            before = loop.time()
            await asyncio.sleep(0.001)
            gap = max(gap, loop.time() - before - 0.001)

    watching = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        print(f"longest gap of the event loop: {gap * 1000:.0f} ms")
    assert gap < LOOP_GAP_LIMIT


def dropped(call: MediaCall) -> int:
    """Everything the call has dropped, whatever the reason."""
    total = sum(call.connection.dropped.values())
    if call.session is not None:
        transport = call.session.stats().transport
        total += sum(asdict(transport.dropped).values()) + transport.copies
    return total


def accounted(call: MediaCall) -> int:
    """The same, and what waits for the session to start."""
    return dropped(call) + len(call.connection._queue._packets)


async def give(attacker: Attacker, kind: Kind, count: int) -> None:
    """Send the victim packets of one kind."""
    send = attacker.from_relay if kind.by_relay else attacker.from_peer
    for number in range(count):
        send(kind.make(attacker))
        if number % BATCH == BATCH - 1:
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)


def kept(call: MediaCall) -> dict[str, int]:
    """How much a call holds: the sizes of everything in it that could grow."""
    connection = call.connection
    [allocation] = connection._held.allocations.values()
    client = allocation._client
    return {
        "tasks": len(asyncio.all_tasks()),
        "pairs": len(connection._agent.pairs),
        "peers": len(client._peers),
        "channels": len(client._channels),
        "requests": len(client._transactions._open),
        "to send": len(client.outgoing) + len(connection._agent.outgoing),
        "remote candidates": len(connection.remote_candidates),
    }


everywhere = pytest.mark.parametrize(
    ("transport", "each"),
    [("udp", FEW), ("tls", FEW), *(pytest.param(name, EACH, marks=pytest.mark.slow) for name in ("udp", "tcp", "tls"))],
)


@pytest.mark.slow
@everywhere
async def test_during_the_call(transport: str, each: int) -> None:
    async with under_attack(transport) as (attacker, alice, bob):
        await connect(alice, bob)
        [path] = alice.connection.path_stats()
        assert path.healthy
        attacker.target(alice.connection.local_candidates[0].address, bob.connection.local_candidates[0].address)
        await heard(alice, bob, frames=10)
        await until(
            lambda: any(map(is_rtcp, attacker.seen)) and any(map(is_stun, attacker.seen)) and len(attacker.checks) > 0
        )

        for kind in KINDS.values():  # once round before measuring: caches, free lists
            if kind.streams or transport == "udp":
                await give(attacker, kind, 20)
        before, growth, allowed = kept(alice), {}, 60 + each / 2
        for name, kind in KINDS.items():
            if not kind.streams and transport != "udp":
                continue
            for _ in range(ROUNDS):
                gc.collect()
                dropped_before, lost_before = dropped(alice), session(alice).stats().lost
                blocks = sys.getallocatedblocks()
                await give(attacker, kind, each)
                await until(lambda: dropped(alice) >= dropped_before + each, what=f"dropping {name}")  # noqa: B023
                await heard(alice, bob, frames=1)
                assert session(alice).stats().lost == lost_before, name
                gc.collect()
                growth[name] = sys.getallocatedblocks() - blocks
                if growth[name] < allowed:
                    break
        most = max(growth, key=lambda name: growth[name])
        print(f"{transport}: {each} packets of each of {len(growth)} kinds; most memory: {growth[most]} blocks, {most}")
        assert growth[most] < allowed, most
        assert all(after <= before[what] + 2 for what, after in kept(alice).items()), kept(alice)
        await at_full_rate(alice, bob)


async def at_full_rate(*calls: MediaCall) -> None:
    """Fifty frames a second arrive and are heard, at each of them: for half a second, within ten."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 10
    while True:
        before = {call: (session(call).frames_received, session(call).frames_heard) for call in calls}
        start = loop.time()
        await asyncio.sleep(0.5)
        expected = (loop.time() - start) * 50
        least = min(
            min(session(call).frames_received - received, session(call).frames_heard - audible)
            for call, (received, audible) in before.items()
        )
        if least >= 0.9 * expected:
            return
        assert loop.time() < until, f"{least} of {expected:.0f} frames"


@everywhere
async def test_while_the_call_is_set_up(transport: str, each: int) -> None:
    """First with no peer known, then with Alice's checks under way, then while the two connect."""
    kinds = {name: kind for name, kind in KINDS.items() if (kind.streams or transport == "udp") and not kind.media}
    async with under_attack(transport) as (attacker, alice, bob):
        for_bob, for_alice = await asyncio.gather(alice.prepare(), bob.prepare())
        attacker.target(alice.connection.local_candidates[0].address, bob.connection.local_candidates[0].address)
        for name, kind in kinds.items():
            if kind.by_relay:
                before = dropped(alice)
                await give(attacker, kind, each)
                await until(lambda: dropped(alice) >= before + each, what=f"dropping {name}")  # noqa: B023

        connecting = asyncio.ensure_future(alice.connect(for_alice, timeout=30))
        await until(lambda: bool(attacker.checks))
        attacker.username = f"{alice.connection.local_username}:{bob.connection.local_username}"
        for name, kind in kinds.items():
            before = accounted(alice)
            await give(attacker, kind, each)
            await until(lambda: accounted(alice) >= before + each, what=f"dropping {name}")  # noqa: B023
        assert not connecting.done()

        storm = asyncio.ensure_future(keep_giving(attacker, list(kinds.values())))
        try:
            await asyncio.gather(connecting, bob.connect(for_bob, timeout=10))
            await heard(alice, bob, frames=5)
        finally:
            storm.cancel()
            await asyncio.wait([storm])
        await at_full_rate(alice, bob)
        assert not alice.connection._queue._packets


async def keep_giving(attacker: Attacker, kinds: list[Kind]) -> None:
    while True:
        for kind in kinds:
            await give(attacker, kind, BATCH)


@pytest.mark.parametrize(("transport", "code"), [("udp", 437), ("tls", 500)])
async def test_unsigned_errors_with_the_right_transaction_id(transport: str, code: int) -> None:
    """To a real Refresh, just before the real answer. Only 401, 438 and 441 may come unsigned (RFC 8489)."""
    async with under_attack(transport) as (attacker, alice, bob):
        await connect(alice, bob)
        attacker.target(alice.connection.local_candidates[0].address, bob.connection.local_candidates[0].address)
        await heard(alice, bob)
        receive = attacker._relay._server.receive
        refreshed = 0

        def answer(source: Any, data: bytes, now: float) -> bytes | None:
            nonlocal refreshed
            with contextlib.suppress(Exception):
                request = decode(data)
                if request.method is Method.REFRESH and attacker.victim and source == attacker.victim.source:
                    refreshed += 1
                    error = [a.ERROR_CODE(a.ErrorCode(code))]
                    forged = Message(Method.REFRESH, Class.ERROR, request.transaction_id, error)
                    for number in range(EACH):
                        attacker.from_relay(forged.encode(b"a guess" if number % 2 else None))
            return receive(source, data, now)

        attacker._relay._server.receive = answer  # type: ignore[method-assign]
        before = dropped(alice)
        [allocation] = alice.connection._held.allocations.values()
        client = allocation._client
        client._refresh_at = asyncio.get_running_loop().time()
        allocation._pump()
        await until(lambda: refreshed > 0 and not client._transactions._open)
        attacker._relay._server.receive = receive  # type: ignore[method-assign]
        assert dropped(alice) >= before + EACH
        assert client._refresh_at > asyncio.get_running_loop().time() + 60
        assert alice.connection.failures == []
        await at_full_rate(alice, bob)


@pytest.mark.slow
async def test_real_checks_given_again_are_answered_and_change_nothing() -> None:
    """A retransmission looks the same, so they are answered (RFC 8445); one answer each, and no more."""
    async with under_attack("udp") as (attacker, alice, bob):
        await connect(alice, bob)
        attacker.target(alice.connection.local_candidates[0].address, bob.connection.local_candidates[0].address)
        await heard(alice, bob)
        await until(lambda: any(packet[:2] == b"\x00\x01" for packet in attacker.seen))
        before, controlling = kept(alice), alice.connection.ice_controlling
        await give(attacker, Kind(lambda attacker: attacker.latest(lambda packet: packet[:2] == b"\x00\x01")), FEW)
        assert alice.connection.ice_controlling is controlling
        assert all(after <= before[what] + 2 for what, after in kept(alice).items())
        await at_full_rate(alice, bob)


async def test_strangers_do_not_reach_the_client() -> None:
    """Who learns where Alice's socket is and sends there himself, even from the relay's host, is not even read."""
    async with under_attack("udp") as (_, alice, bob):
        await connect(alice, bob)
        await heard(alice, bob)
        [allocation] = alice.connection._held.allocations.values()
        assert allocation._socket is not None
        before, local = dropped(alice), allocation._socket.local
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for number in range(EACH):
                stranger.sendto(os.urandom(number % 1400), (local.host, local.port))
        await at_full_rate(alice, bob)
        assert dropped(alice) == before


@pytest.mark.slow
async def test_control_the_call_does_end_when_the_relay_is_silent() -> None:
    """Or the tests above could pass with a victim that hears nothing of the attacker."""
    async with under_attack("udp") as (attacker, alice, bob):
        await connect(alice, bob)
        await heard(alice, bob)
        attacker._relay._server.close()
        with pytest.raises(AssertionError, match="hearing"):
            await heard(alice, frames=25, timeout=0.7)
