"""The embedded relay with clients that others wrote: coturn's turnutils_uclient, and Chromium."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relaycall.server.certificates import development_tls
from relaycall.server.turn import Relay
from tests.tools import require_tool

pytestmark = [pytest.mark.interop, pytest.mark.slow]

PAGE = Path(__file__).with_name("relay_pair.html")
CHROMIUM_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--allow-loopback-in-peer-connection"),
)


# --- turnutils_uclient ------------------------------------------------------------------------------------------------
# It sends to itself through pairs of allocations (-y), by Send indications (-s): for its channels it picks any number
# up to 0x7FFF, as RFC 5766 had it, and RFC 8656 refuses those above 0x4FFF.

CLIENTS, MESSAGES = 4, 50


@pytest.mark.parametrize(
    ("transport", "options"),
    [
        ("udp", ()),
        ("udp", ("-x",)),  # relayed on IPv6
        ("udp", ("-c",)),  # no EVEN-PORT
        ("tcp", ("-t",)),
        ("tls", ("-t", "-S")),
    ],
)
async def test_uclient_loses_nothing(transport: str, options: tuple[str, ...]) -> None:
    context, _ = development_tls("127.0.0.1")
    async with Relay(
        users={"alice": "secret"}, relay_host6="::1", tls_port=0, ssl_context=context, laboratory=True
    ) as relay:
        port = {"udp": relay.udp_port, "tcp": relay.tcp_port, "tls": relay.tls_port}[transport]
        await uclient(relay, "-p", str(port), "-u", "alice", "-w", "secret", *options, "127.0.0.1")


async def test_uclient_on_ipv6() -> None:
    async with Relay(host="::1", users={"alice": "secret"}, laboratory=True) as relay:
        await uclient(relay, "-p", str(relay.udp_port), "-u", "alice", "-w", "secret", "-x", "::1")


async def test_uclient_with_time_limited_credentials() -> None:
    async with Relay(auth_secret="shared", laboratory=True) as relay:
        await uclient(relay, "-p", str(relay.udp_port), "-u", "alice", "-W", "shared", "127.0.0.1")


async def uclient(relay: Relay, *arguments: str) -> None:
    """Run it, and ask that it and the relay agree that nothing was lost."""
    process = await asyncio.create_subprocess_exec(
        require_tool("turnutils_uclient"),
        *("-y", "-s", "-m", str(CLIENTS), "-n", str(MESSAGES), "-z", "5", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(40):
            output = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output
    assert re.search(r"Total lost packets 0 \(0\.0+%\), total send dropped 0 ", output), output
    counted = re.search(r"tot_send_msgs=(\d+), tot_recv_msgs=\1$", output, re.MULTILINE)
    assert counted, output
    sent = int(counted[1])
    assert sent >= CLIENTS * MESSAGES
    assert (relay.counters.to_peers, relay.counters.to_clients, relay.counters.dropped) == (sent, sent, 0)


# --- Chromium ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_two_chromium_peers_talk_through_the_relay(transport: str) -> None:
    async with Relay(users={"alice": "secret"}, laboratory=True) as relay:
        server = {"urls": relay.uri(transport), "username": "alice", "credential": "secret"}
        result = await run_page({"iceServers": [server], "count": 200})
        assert "failed" not in result, result
        assert result["messages"] == [[f"{n} from {sender}" for n in range(200)] for sender in (1, 0)]
        assert result["candidateTypes"] == ["relay"]
        assert result["relayProtocols"] == [transport, transport]
        assert relay.counters.allocations >= 2
        assert relay.counters.to_peers >= 400
        assert relay.counters.malformed == 0


async def test_chromium_with_a_wrong_password_gets_nowhere() -> None:
    async with Relay(users={"alice": "secret"}, laboratory=True) as relay:
        server = {"urls": relay.uri("udp"), "username": "alice", "credential": "wrong"}
        page = asyncio.create_task(run_page({"iceServers": [server], "count": 1}))
        try:
            async with asyncio.timeout(20):
                while relay.counters.refused < 2:  # noqa: ASYNC110 (a counter is no event)
                    await asyncio.sleep(0.05)
            assert relay.counters.allocations == 0
        finally:
            page.cancel()
            await asyncio.gather(page, return_exceptions=True)


async def run_page(config: dict[str, Any]) -> dict[str, Any]:
    """Open the page in a Chromium of its own, and return what it reports."""
    chromium = require_tool("chromium")
    async with web_server(config) as (port, result):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            process = await asyncio.create_subprocess_exec(
                *(chromium, *CHROMIUM_FLAGS, f"--user-data-dir={profile}", f"http://127.0.0.1:{port}/"),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                return await asyncio.wait_for(result, 40)
            finally:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), 5)
                except TimeoutError:
                    process.kill()
                    await process.wait()


@asynccontextmanager
async def web_server(config: dict[str, Any]) -> AsyncIterator[tuple[int, asyncio.Future[dict[str, Any]]]]:
    """The page, its configuration, and a place to post the result; one request per connection."""
    result: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = b""
        if head.startswith("POST /result "):
            size = re.search(r"content-length: *(\d+)", head, re.IGNORECASE)
            posted = json.loads(await reader.readexactly(int(size[1]) if size else 0))
            if not result.done():
                result.set_result(posted)
        elif head.startswith("GET /config "):
            body = json.dumps(config).encode()
        elif head.startswith("GET / "):
            body = PAGE.read_bytes()
        kind = b"text/html" if head.startswith("GET / ") else b"application/json"
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (kind, len(body), body)
        )
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], result
    finally:
        server.close()
