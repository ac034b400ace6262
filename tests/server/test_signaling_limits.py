"""Every limit has its reply, and who keeps to it does not notice that others do not."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from typing import Any

import aiohttp
import pytest

from relaycall.errors import SignalingBusy, SignalingRateLimited
from relaycall.server.signaling import SignalingServer
from relaycall.server.signaling_connections import MARGIN
from relaycall.server.signaling_limits import AddressBuckets, Bucket, Limits, source_of
from relaycall.server.signaling_store import MemoryStore
from relaycall.signaling import frames as f
from relaycall.signaling.mailboxes import Mailboxes
from relaycall.signaling.opening import open_signaling
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.server.signaling_clients import HOST, envelope, raw_client
from tests.waiting import eventually

each_scheme = pytest.mark.parametrize("scheme", ["ws", "http"])


async def in_turn(doing: list[Coroutine[Any, Any, None]]) -> None:
    """One after the other, up to the first that fails."""
    try:
        for one in doing:
            await one
    finally:
        for one in doing:
            one.close()


def test_a_bucket_lets_a_burst_pass_and_then_so_many_a_second() -> None:
    bucket = Bucket(rate=2.0, burst=3, now=10.0)
    assert [bucket.take(10.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take(10.0) == pytest.approx(0.5)
    assert bucket.take(10.25) == pytest.approx(0.25)
    assert bucket.take(10.5) == 0.0
    assert [bucket.take(1000.0) for _ in range(4)][:3] == [0.0] * 3
    assert bucket.take(1000.0) > 0


def test_addresses_have_buckets_of_their_own_and_only_so_many_are_known() -> None:
    buckets = AddressBuckets(rate=1.0, burst=1, addresses=3)
    assert buckets.take("a", 0.0) == 0.0
    assert buckets.take("a", 0.0) == 1.0
    assert [buckets.take(source, 0.0) for source in "bcd"] == [0.0] * 3
    assert len(buckets) == 3
    assert buckets.take("d", 0.0) == 1.0
    assert buckets.take("a", 0.0) == 0.0  # forgotten


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1 ", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
        ("unknown", ""),
        ("1.2.3.4:80", ""),
        ("x" * 10000, ""),
    ],
)
def test_what_an_address_counts_as(address: str, source: str) -> None:
    assert source_of(address) == source


async def test_envelopes_of_one_connection_are_limited_and_it_is_told_when_to_retry() -> None:
    limits = Limits(rate=20, burst=3)
    async with SignalingServer(limits=limits) as server, raw_client(server) as one, raw_client(server) as other:
        await one.claim()
        await other.claim()
        answers = [await one.send(number, other.mailbox) for number in range(4)]
        assert [answer.verdict for answer in answers] == [f.Verdict.TAKEN] * 3 + [f.Verdict.RATE_LIMITED]
        assert 0 < answers[3].retry_ms <= 50
        assert [isinstance(await other.frame(), f.Deliver) for _ in range(3)] == [True] * 3
        assert (await other.send(9, other.mailbox)).verdict is f.Verdict.TAKEN
        await asyncio.sleep(answers[3].retry_ms / 1000 + 0.02)
        assert (await one.send(10, one.mailbox)).verdict is f.Verdict.TAKEN


@each_scheme
async def test_envelopes_of_one_address_are_limited(scheme: str) -> None:
    limits = Limits(address_rate=0.5, address_burst=6)
    async with SignalingServer(limits=limits) as server, open_signaling(server.url(scheme)) as client:
        sending = [client.send(client.mailbox, envelope(number)) for number in range(7)]
        with pytest.raises(SignalingRateLimited) as limited:
            await in_turn(sending)
        assert 0 < limited.value.retry_after <= 2


@each_scheme
async def test_connecting_is_limited_for_one_address(scheme: str) -> None:
    limits = Limits(address_rate=0.5, address_burst=1)
    async with SignalingServer(limits=limits) as server:
        clients = [open_signaling(server.url(scheme)) for _ in range(3)]
        with pytest.raises(SignalingRateLimited):
            await in_turn([client.open() for client in clients])
        for client in clients:
            await client.close()


async def test_polls_are_limited_for_one_address() -> None:
    limits = Limits(address_rate=0.5, address_burst=4, poll=0.01)
    async with SignalingServer(limits=limits) as server, raw_client(server) as client:
        token = base64.urlsafe_b64encode((await client.claim()).token).decode()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
            found = []
            for _ in range(4):
                async with http.post(f"{server.url('http')}/v1/receive", data=f.Receive(f.START).encode()) as response:
                    found.append(response.status)
        assert found == [200, 200, 200, 429]


async def test_a_flood_of_frames_is_closed_with_4429() -> None:
    limits = Limits(frame_rate=1, frame_burst=10)
    async with SignalingServer(limits=limits) as server, raw_client(server) as flooding, raw_client(server) as one:
        await one.claim()
        await flooding.claim()
        for _ in range(12):
            await flooding.socket.send_bytes(f.Acknowledge(bytes(32)).encode())
        assert await flooding.closed_with() == f.CloseCode.RATE_LIMITED
        assert (await one.send(1, one.mailbox)).verdict is f.Verdict.TAKEN


@each_scheme
async def test_connections_are_limited_in_all(scheme: str) -> None:
    async with SignalingServer(limits=Limits(connections=2)) as server, raw_client(server) as one:
        await one.claim()
        async with raw_client(server):
            with pytest.raises(SignalingBusy):
                await open_signaling(server.url(scheme)).open()
        await eventually(lambda: server.connections == 1)
        async with raw_client(server) as again:
            await again.claim()


@each_scheme
async def test_connections_are_limited_for_one_address(scheme: str) -> None:
    async with SignalingServer(limits=Limits(connections_per_address=1)) as server, raw_client(server) as one:
        await one.claim()
        with pytest.raises(SignalingRateLimited):
            await open_signaling(server.url(scheme)).open()


@pytest.mark.parametrize("limits", [Limits(connections=1), Limits(connections_per_address=1)], ids=["all", "address"])
async def test_what_is_far_beyond_a_limit_is_closed_without_a_reply(limits: Limits) -> None:
    async with SignalingServer(limits=limits) as server, raw_client(server) as one:
        await one.claim()
        held = [await asyncio.open_connection(HOST, server.port) for _ in range(MARGIN + 10)]
        async with asyncio.timeout(5):
            assert await asyncio.wait_for(held[-1][0].read(), 5) == b""
        assert server.connections == MARGIN + 1
        assert (await one.send(1, one.mailbox)).verdict is f.Verdict.TAKEN
        for _, writer in held:
            writer.transport.abort()


async def test_behind_a_proxy_the_header_counts_and_only_its_last_entry() -> None:
    limits = Limits(address_rate=0.01, address_burst=2)
    async with (
        SignalingServer(limits=limits, trusted_header="X-Forwarded-For") as server,
        aiohttp.ClientSession() as http,
    ):

        async def status(forwarded: str) -> int:
            headers = {"X-Forwarded-For": forwarded} if forwarded else {}
            async with http.post(f"{server.url('http')}/v1/challenge", headers=headers) as response:
                return response.status

        assert [await status("192.0.2.1") for _ in range(3)] == [200, 200, 429]
        assert await status("192.0.2.9, 192.0.2.1") == 429  # what the client said before the proxy is not believed
        assert await status("192.0.2.1, 192.0.2.9") == 200
        assert [await status("") for _ in range(3)] == [200, 200, 429]
        headers = [("X-Forwarded-For", "192.0.2.77"), ("X-Forwarded-For", "192.0.2.1")]
        async with http.post(f"{server.url('http')}/v1/challenge", headers=headers) as response:
            assert response.status == 429


async def test_without_a_proxy_the_header_counts_for_nothing() -> None:
    limits = Limits(address_rate=0.01, address_burst=2)
    async with SignalingServer(limits=limits) as server, aiohttp.ClientSession() as http:
        found = []
        for number in range(3):
            headers = {"X-Forwarded-For": f"192.0.2.{number}"}
            async with http.post(f"{server.url('http')}/v1/challenge", headers=headers) as response:
                found.append(response.status)
                assert ("Retry-After" in response.headers) == (response.status == 429)
        assert found == [200, 200, 429]


@each_scheme
async def test_a_full_server_says_so(scheme: str) -> None:
    store = MemoryStore(Mailboxes(envelopes=2))
    async with SignalingServer(store=store) as server, open_signaling(server.url(scheme)) as client:
        await client.send(bytes(32), envelope(1))
        with pytest.raises(SignalingBusy):
            await client.send(bytes(32), envelope(2))
