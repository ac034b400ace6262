"""Probing, choosing and keeping relays: coturn, several of them, at different distances and with different faults."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from relaycall.ice.allocation import allocate
from relaycall.redact import Secret
from relaycall.relays.credentials import TimeLimited
from relaycall.relays.pool import RelayPool
from relaycall.relays.probe import probe
from relaycall.relays.probe_result import ProbeResult, Verdict
from relaycall.relays.selecting import select_relays
from relaycall.relays.server import RelayServer, Transport
from tests.benchmarks.delay_proxy import DelayProxy
from tests.coturn import Coturn
from tests.netns import Network
from tests.waiting import eventually

pytestmark = pytest.mark.interop

RTTS = 30, 10, 60  # ms, of three relays
FIREWALL = """
table inet firewall {
  chain input {
    type filter hook input priority 0
    udp dport 20000-29999 drop
  }
}
"""


@asynccontextmanager
async def coturns(count: int, **options: object) -> AsyncIterator[list[Coturn]]:
    """So many, on addresses of their own."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Coturn(ip=f"127.0.0.{11 + number}", **options))  # type: ignore[arg-type]
            for number in range(count)
        ]


@asynccontextmanager
async def behind(relay: Coturn, rtt: float, transport: Transport = "udp") -> AsyncIterator[RelayServer]:
    """The relay, as it is seen from `rtt` milliseconds away."""
    proxy = DelayProxy(relay.ip, relay.port)
    udp, tcp = await proxy.open()
    proxy.set_delay(rtt / 2000)
    try:
        port = udp if transport == "udp" else tcp
        yield RelayServer("127.0.0.1", port, transport).with_credentials(relay.username, relay.password)
    finally:
        await asyncio.sleep(rtt / 1000)
        await proxy.close()


async def verdict(server: RelayServer) -> ProbeResult:
    (result,) = await probe([server], laboratory=True)
    return result


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_of_three_at_different_distances_the_nearest_two_are_chosen(transport: Transport) -> None:
    async with coturns(3) as relays, AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(behind(relay, rtt, transport))
            for relay, rtt in zip(relays, RTTS, strict=True)
        ]
        chosen = await select_relays(servers, laboratory=True)
        assert (chosen.primary, chosen.backup) == (servers[1], servers[0])
        for result, rtt in zip(chosen.table, sorted(RTTS), strict=True):
            assert result.verdict is Verdict.OK
            assert result.rtt_min_ms is not None
            assert rtt - 1 <= result.rtt_min_ms < rtt + 15


async def test_each_fault_has_its_verdict() -> None:
    denying = ("--denied-peer-ip=127.0.0.0-127.255.255.255",)
    async with coturns(2) as (good, frozen), coturns_with(denying, ("--user-quota=1",)) as (denied, full):
        holding = await allocate(full.server(), laboratory=True)
        try:
            frozen.freeze()
            await asyncio.sleep(0.1)  # until each of its threads has stopped
            servers = {
                "ok": good.server(),
                "relay_credentials": good.server("tcp").with_credentials("user", "wrong"),
                "relay_timeout": frozen.server(),
                "unchecked": denied.server(),
                "relay_quota": full.server(),
            }
            results = await probe(list(servers.values()), laboratory=True)
        finally:
            await holding.close()
            frozen.thaw()
    assert [str(result.verdict) for result in results] == list(servers)


@asynccontextmanager
async def coturns_with(*extras: Sequence[str]) -> AsyncIterator[list[Coturn]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Coturn(ip=f"127.0.0.{21 + number}", extra=extra))
            for number, extra in enumerate(extras)
        ]


async def test_a_wrong_shared_secret() -> None:
    async with coturns_with(("--use-auth-secret", "--static-auth-secret=right")) as (relay,):
        for secret, expected in (("right", Verdict.OK), ("wrong", Verdict.REFUSED_CREDENTIALS)):
            login = await TimeLimited(Secret(secret), ttl=60).credentials()
            server = relay.server().with_credentials(login.username, login.password)
            assert (await verdict(server)).verdict is expected


@pytest.mark.netns
async def test_relay_ports_behind_a_firewall_are_found_out(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("password")
    with Network("client", "relay") as network:
        async with Coturn(ip=network.ip("relay"), port=3478, prefix=network.prefix("relay")) as relay:

            def probed() -> dict[str, object]:
                command = [*network.prefix("client"), sys.executable, "-m", "relaycall", "probe", relay.uri("udp")]
                options = ["--user", "user", "--credential-file", str(secret), "--json", "--laboratory"]
                done = subprocess.run([*command, *options], capture_output=True, check=False)
                result: dict[str, object] = json.loads(done.stdout.splitlines()[0])
                return result | {"exit": done.returncode}

            before = await asyncio.to_thread(probed)
            network.nft("relay", FIREWALL)
            after = await asyncio.to_thread(probed)
    assert (before["verdict"], before["exit"]) == ("ok", 0)
    assert (after["verdict"], after["exit"], after["loss"]) == ("no_forwarding", 3, 1.0)


async def test_a_pool_survives_the_death_of_its_best_relay() -> None:
    async with coturns(3) as relays, AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(behind(relay, rtt, "tcp")) for relay, rtt in zip(relays, RTTS, strict=True)
        ]
        async with RelayPool(servers, laboratory=True) as pool:
            assert [one.server for one in pool.allocations] == [servers[1], servers[0]]
            relays[1].kill()
            await eventually(lambda: [one.server for one in pool.allocations] == [servers[0], servers[2]], timeout=5)


async def test_a_pool_of_frozen_relays_closes_within_1_2_seconds() -> None:
    async with coturns(2) as relays, RelayPool([relay.server() for relay in relays], laboratory=True) as pool:
        for relay in relays:
            relay.freeze()
        started = time.monotonic()
        await pool.close()
        assert time.monotonic() - started < 1.5
        for relay in relays:
            relay.thaw()
