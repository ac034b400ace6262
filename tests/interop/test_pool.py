"""A pool that serves a call, with coturn: relays that are killed, frozen, and too small."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from relaycall.relays.pool import RelayPool
from relaycall.relays.server import RelayServer, Transport
from relaycall.stun.address import Address
from tests.coturn import Coturn
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.netns import Network
from tests.relays.pooling import Call, Log
from tests.waiting import eventually

pytestmark = pytest.mark.interop


@asynccontextmanager
async def coturns(count: int, *extra: str) -> AsyncIterator[list[Coturn]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Coturn(ip=f"127.0.0.{21 + number}", extra=extra)) for number in range(count)
        ]


@asynccontextmanager
async def lent(servers: list[RelayServer], log: Log | None = None) -> AsyncIterator[tuple[RelayPool, Call]]:
    async with RelayPool(servers, measure=False, laboratory=True, on_event=log) as pool:
        call = Call(pool)
        pool.lend(call)
        try:
            yield pool, call
        finally:
            await pool.close()
            await call.close()


async def talk(call: Call) -> None:
    """Send as a call does, so that the kernel tells when nobody listens any more."""
    peer = Address("127.0.0.1", 9)
    while True:
        for allocation in list(call.used):
            allocation.add_peer(peer)
            allocation.send(peer, bytes(100))
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("frozen", [False, True])
async def test_both_relays_die_and_one_that_is_back_after_three_seconds_is_used_soon(
    transport: Transport, frozen: bool
) -> None:
    """Killed, which is noticed by itself; or frozen, which the call reports, and thawed."""
    async with coturns(2) as relays, lent([relay.server(transport) for relay in relays]) as (pool, call):
        talking = asyncio.ensure_future(talk(call))
        before = list(call.used)
        for relay in relays:
            if frozen:
                relay.freeze()
            else:
                relay.kill()
        if frozen:
            for one in before:
                pool.failing(one)
        else:
            await eventually(lambda: not call.used, timeout=5)
        await asyncio.sleep(3)
        if frozen:
            relays[1].thaw()
        else:
            await relays[1].start()
        back = time.monotonic()
        await eventually(lambda: set(call.used) - set(before), timeout=3)
        took = time.monotonic() - back
        print(f"{transport}, {'frozen' if frozen else 'killed'}: an allocation {took:.2f} s after the return")
        assert took < 2.5
        talking.cancel()
        await asyncio.wait([talking])
        if frozen:
            relays[0].thaw()


async def test_a_frozen_relay_that_is_reported_is_replaced_and_retired() -> None:
    async with coturns(3) as relays, lent([relay.server() for relay in relays]) as (pool, call):
        first, second = call.used
        relays[0].freeze()
        pool.failing(first)
        await eventually(lambda: len(call.log) == 4)
        assert call.log[2:] == [("add", relays[2].uri("udp")), ("retire", relays[0].uri("udp"))]
        assert second in call.used
        relays[0].thaw()


async def test_of_two_relays_a_frozen_one_is_kept() -> None:
    async with coturns(2) as relays, lent([relay.server() for relay in relays]) as (pool, call):
        relays[0].freeze()
        pool.failing(call.used[0])
        await asyncio.sleep(0.5)
        assert len(call.log) == 2
        relays[0].thaw()


async def test_without_measuring_a_quota_of_one_is_enough() -> None:
    log = Log()
    async with coturns(2, "--user-quota=1") as relays, lent([relay.server() for relay in relays], log) as (_, call):
        assert len(call.used) == 2
        assert log.kinds() == ["allocated", "allocated"]


# Holds one allocation on the relay given, and prints a line for each thing that happens to it.
KEEP = """
import asyncio, sys
from relaycall.relays.pool import RelayPool
from relaycall.relays.server import RelayServer
from tests.relays.pooling import Call

class Printing(Call):
    def _note(self, what, allocation):
        super()._note(what, allocation)
        print(what, allocation.local.host, flush=True)

async def main():
    server = RelayServer.parse(sys.argv[1], username="user", password="password")
    async with RelayPool([server], measure=False, laboratory=True) as pool:
        call = Printing(pool)
        pool.lend(call)
        await asyncio.to_thread(sys.stdin.read)
        await pool.close()
        await call.close()

asyncio.run(main())
"""


@pytest.mark.netns
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_machine_that_gets_another_address_has_a_new_allocation_within_seconds(transport: Transport) -> None:
    with Network("alice", "relay") as network:
        alice = network.prefix("alice")

        def ip(*arguments: str) -> None:
            subprocess.run([*alice, "ip", *arguments], check=True)

        async with Coturn(ip=network.ip("relay"), port=3478, prefix=network.prefix("relay")) as relay:
            process = await asyncio.create_subprocess_exec(
                *alice,
                sys.executable,
                "-c",
                KEEP,
                relay.uri(transport),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                async with asyncio.timeout(15):
                    assert await process.stdout.readline() == f"add {network.ip('alice')}\n".encode()
                    ip("address", "add", "10.77.1.9/24", "dev", "eth0")
                    ip("route", "replace", "default", "via", "10.77.1.1", "src", "10.77.1.9")
                    changed = time.monotonic()
                    assert await process.stdout.readline() == b"add 10.77.1.9\n"
                    print(f"{transport}: a new allocation {time.monotonic() - changed:.2f} s after the change")
                    assert await process.stdout.readline() == f"retire {network.ip('alice')}\n".encode()
                    ip("route", "delete", "default")
                    await asyncio.sleep(2.5)
                    ip("route", "add", "default", "via", "10.77.1.1")
                    assert await process.stdout.readline() == f"add {network.ip('alice')}\n".encode()
                    process.stdin.close()
                    assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                process._transport.close()  # type: ignore[attr-defined]
