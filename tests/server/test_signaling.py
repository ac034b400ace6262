"""The signaling server: proofs, hostile frames, slow clients, shutdown, and what it does not say."""

from __future__ import annotations

import asyncio
import base64
import logging
import resource
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.errors import ConfigError
from relaycall.redact import Secret
from relaycall.relays.http_credentials import FromHttp
from relaycall.relays.probe import probe
from relaycall.relays.server import RelayServer
from relaycall.server.signaling import SignalingServer
from relaycall.server.signaling_limits import Limits
from relaycall.server.signaling_store import MemoryStore
from relaycall.server.turn import Relay
from relaycall.signaling import frames as f
from relaycall.signaling.base import QUEUE, SignalingState
from relaycall.signaling.mailboxes import Mailboxes
from relaycall.signaling.opening import open_signaling
from tests.leaks import no_leaks, nothing_left_behind  # noqa: F401 - for every test here
from tests.server.signaling_clients import HOST, RawClient, envelope, raw_client, raw_http
from tests.waiting import eventually

BEGINNING = Limits(header_timeout=0.3, idle_timeout=60)
QUICK = Limits(header_timeout=0.3, idle_timeout=0.3, body_timeout=0.3, claim_timeout=0.3, silence=0.5, poll=0.2)


async def exchange(one: RawClient, other: RawClient, number: int = 1) -> None:
    """The server still serves."""
    assert (await one.send(number, other.mailbox)).verdict is f.Verdict.TAKEN
    delivered = await other.frame()
    assert isinstance(delivered, f.Deliver)
    assert delivered.envelope == envelope(number)


# --- proofs ----------------------------------------------------------------------------------------------------------


async def test_a_proof_for_another_name_is_refused() -> None:
    """So a server cannot pass on the proof that was made for it."""
    async with SignalingServer(names=["Signaling.Test"]) as server:
        for name, code in ((HOST, f.CloseCode.MISNAMED), ("localhost", f.CloseCode.MISNAMED), ("signaling.test", None)):
            async with raw_client(server) as client:
                await client.challenged()
                await client.socket.send_bytes(client.claim_frame(name).encode())
                if code is None:
                    assert isinstance(await client.frame(), f.Opened)
                else:
                    assert await client.closed_with() == code


async def test_a_proof_passed_on_is_refused() -> None:
    """The name in the claim is changed, or the challenge is another connection's."""
    async with SignalingServer(names=["one.test", HOST]) as server, raw_client(server) as victim:
        await victim.challenged()
        async with raw_client(server) as thief:
            await thief.challenged()
            await thief.socket.send_bytes(victim.claim_frame()._replace(name="one.test").encode())
            assert await thief.closed_with() == f.CloseCode.REFUSED
        async with raw_client(server) as thief:
            await thief.challenged()
            await thief.socket.send_bytes(victim.claim_frame().encode())
            assert await thief.closed_with() == f.CloseCode.REFUSED
        await victim.socket.send_bytes(victim.claim_frame().encode())
        assert isinstance(await victim.frame(), f.Opened)


@pytest.mark.parametrize("field", ["session", "public", "nonce", "signature"])
async def test_a_claim_with_one_bit_changed_is_refused(field: str) -> None:
    async with SignalingServer() as server, raw_client(server) as client:
        await client.challenged()
        claim = client.claim_frame()
        value = getattr(claim, field)
        await client.socket.send_bytes(claim._replace(**{field: value[:-1] + bytes([value[-1] ^ 1])}).encode())
        assert await client.closed_with() == f.CloseCode.REFUSED


async def test_http_asks_for_a_token_that_it_gave() -> None:
    async with SignalingServer() as server, aiohttp.ClientSession() as http:
        for token in ("", "Bearer", "Bearer !", "Bearer AAAA", f"Bearer {'A' * 118}==", "Basic AAAA"):
            async with http.post(
                f"{server.url('http')}/v1/receive",
                data=f.Receive(f.START).encode(),
                headers={"Authorization": token},
            ) as response:
                assert response.status == 401


async def test_http_tells_who_polls_too_late_that_the_mailbox_is_another_clients() -> None:
    async with SignalingServer() as server, raw_client(server) as one, raw_client(server) as other:
        token = base64.urlsafe_b64encode((await one.claim()).token).decode()
        other.key = one.key
        await other.claim()
        assert await one.closed_with() == f.CloseCode.REPLACED
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(f"{server.url('http')}/v1/receive", data=f.Receive(f.START).encode()) as response,
        ):
            assert response.status == 409
        assert (await other.send(1, other.mailbox)).verdict is f.Verdict.TAKEN


async def test_a_later_poll_of_the_same_client_ends_the_earlier_one_and_not_the_client() -> None:
    async with SignalingServer() as server, raw_client(server) as one:
        token = base64.urlsafe_b64encode((await one.claim()).token).decode()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:

            async def poll() -> tuple[int, f.ServerFrame]:
                async with http.post(f"{server.url('http')}/v1/receive", data=f.Receive(f.START).encode()) as response:
                    return response.status, f.decode_server(await response.read())

            earlier = asyncio.ensure_future(poll())
            assert await one.closed_with() == f.CloseCode.RESTART
            later = asyncio.ensure_future(poll())
            assert await earlier == (200, f.Nothing())
            async with raw_client(server) as sender:
                await sender.claim()
                await sender.send(1, one.mailbox)
            status, delivered = await later
            assert (status, type(delivered)) == (200, f.Deliver)


# --- frames that are none --------------------------------------------------------------------------------------------

BAD_FRAMES = [b"", b"\0", b"\xff" * 33, bytes(4133), f.Send(1, bytes(32), envelope()).encode()[:-1], b"[" * 4000]


@pytest.mark.parametrize("is_open", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("bad", [*BAD_FRAMES, "text", "[" * 4000], ids=lambda bad: f"{len(bad)}{type(bad).__name__}")
async def test_a_malformed_frame_ends_that_client_alone(bad: bytes | str, is_open: bool) -> None:
    async with (
        SignalingServer() as server,
        raw_client(server) as hostile,
        raw_client(server) as one,
        raw_client(server) as other,
    ):
        await one.claim()
        await other.claim()
        await (hostile.claim() if is_open else hostile.challenged())
        await (hostile.socket.send_bytes(bad) if isinstance(bad, bytes) else hostile.socket.send_str(bad))
        assert await hostile.closed_with() == f.CloseCode.MALFORMED
        await exchange(one, other)


async def test_a_frame_that_is_too_long_is_closed_with_1009() -> None:
    async with SignalingServer() as server, raw_client(server) as client:
        await client.claim()
        await client.socket.send_bytes(bytes(4134))
        assert await client.closed_with() == 1009


async def test_a_frame_out_of_turn_ends_it() -> None:
    async with SignalingServer() as server:
        async with raw_client(server) as client:
            await client.challenged()
            await client.socket.send_bytes(f.Send(1, bytes(32), envelope()).encode())
            assert await client.closed_with() == f.CloseCode.MALFORMED
        for frame in (f.Receive(f.START).encode(), None):
            async with raw_client(server) as client:
                await client.claim()
                await client.socket.send_bytes(frame or client.claim_frame().encode())
                assert await client.closed_with() == f.CloseCode.MALFORMED


async def test_compression_is_not_taken_up_and_a_compressed_frame_ends_it() -> None:
    """What is compressed may be a thousand times as long as it looks."""
    async with SignalingServer() as server, raw_client(server, compress=15) as client:
        assert client.socket.compress == 0
        await client.challenged()
        writer = client.socket._writer
        await writer.send_frame(bytes(4000), aiohttp.WSMsgType.BINARY, compress=15)
        assert await client.closed_with() == 1002


async def test_another_protocol_is_refused() -> None:
    async with SignalingServer() as server, aiohttp.ClientSession() as http:
        for protocols in ((), ("relaycall.2",)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as failed:
                await http.ws_connect(f"{server.url('ws')}/v1/ws", protocols=protocols)
            assert failed.value.status == 400


STATUSES = [
    ("POST", "/v1/send", b"", 400),
    ("POST", "/v1/send", f.Acknowledge(bytes(32)).encode(), 401),
    ("POST", "/v1/challenge", b"x", 400),
    ("POST", "/v1/open", f.Send(1, bytes(32), envelope()).encode(), 401),
    ("POST", "/v1/receive", b"\4" * 16, 400),
    ("POST", "/v1/send", bytes(4134), 413),
    ("POST", "/v1/send", bytes(1_000_000), 413),
    ("GET", "/v1/send", b"", 405),
    ("GET", "/v1/ws", b"", 400),
    ("GET", "/", b"", 404),
    ("GET", "/v1/credentials", b"", 404),
    ("POST", "/../../etc/passwd", b"", 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), STATUSES, ids=lambda value: str(value)[:20])
async def test_each_bad_request_has_its_status_and_all_have_one_length(
    method: str, path: str, body: bytes, status: int
) -> None:
    async with SignalingServer() as server, aiohttp.ClientSession() as http:
        try:
            async with http.request(method, server.url("http") + path, data=body) as response:
                assert response.status == status
                assert await response.read() == bytes(16)
        except aiohttp.ClientOSError:  # it did not read a million bytes to the end
            assert len(body) > 100_000
        async with http.get(f"{server.url('http')}/health") as response:
            assert response.status == 200


async def test_replies_to_polls_have_one_length_whatever_they_hold() -> None:
    async with SignalingServer(limits=QUICK) as server:
        sizes = set()
        async with raw_client(server) as client:
            token = (await client.claim()).token
        headers = {"Authorization": f"Bearer {base64.urlsafe_b64encode(token).decode()}"}
        async with aiohttp.ClientSession(headers=headers) as http, raw_client(server) as sender:
            await sender.claim()
            for _ in range(2):
                async with http.post(f"{server.url('http')}/v1/receive", data=f.Receive(f.START).encode()) as response:
                    body = await response.read()
                    sizes.add((len(body), response.headers["Content-Length"]))
                await sender.send(1, client.mailbox)
            assert isinstance(f.decode_server(body), f.Deliver)
        assert len(sizes) == 1


@given(data=st.binary(max_size=300))
@settings(max_examples=40)
@pytest.mark.slow
def test_any_bytes_on_the_port_do_no_harm(data: bytes) -> None:
    async def scenario() -> None:
        async with SignalingServer(limits=QUICK) as server:
            await raw_http(server, data)
            async with raw_client(server) as one:
                await one.claim()
                await exchange(one, one)

    asyncio.run(scenario())


# --- slow and idle clients -------------------------------------------------------------------------------------------

SLOW = [
    b"",
    b"GET /health HTTP/1.1\r\nHost: x\r\n",
    b"POST /v1/send HTTP/1.1\r\nHost: x\r\nContent-Length: 4133\r\n\r\n\2",
    b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: relaycall.1\r\n\r\n",
]
SLOW_REPLIES = [b"", b"", b"HTTP/1.1 408", b"HTTP/1.1 200", b"HTTP/1.1 101"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "reply"), list(zip(SLOW, SLOW_REPLIES, strict=True)), ids=["none", "header", "body", "idle", "claim"]
)
async def test_who_is_slow_is_ended(sent: bytes, reply: bytes) -> None:
    async with SignalingServer(limits=QUICK if reply else BEGINNING) as server:
        assert (await raw_http(server, sent)).startswith(reply)
        await eventually(lambda: server.connections == 0)


@pytest.mark.slow
async def test_a_header_that_drips_is_ended_too() -> None:
    async with SignalingServer(limits=BEGINNING) as server:
        _, writer = await asyncio.open_connection(HOST, server.port)
        await eventually(lambda: server.connections == 1)
        writer.write(b"GET /health HTTP/1.1\r\n")
        for _ in range(50):  # fewer than are too many
            writer.write(b"X-A: b\r\n")
            await asyncio.sleep(0.05)
            if not server.connections:
                break
        assert not server.connections
        writer.transport.abort()


@pytest.mark.slow
async def test_a_silent_websocket_is_ended_and_one_that_pings_is_not() -> None:
    async with SignalingServer(limits=QUICK) as server, raw_client(server) as pinging, raw_client(server) as silent:
        await pinging.claim()
        await silent.claim()
        until = asyncio.get_running_loop().time() + 2.5
        while asyncio.get_running_loop().time() < until:
            await pinging.socket.ping()
            await asyncio.sleep(0.1)
        assert server.connections == 1
        await exchange(pinging, pinging)
        assert await silent.closed_with() == 1006


async def test_a_client_that_never_acknowledges_holds_so_much_and_no_more() -> None:
    boxes = Mailboxes()
    async with (
        SignalingServer(store=MemoryStore(boxes)) as server,
        raw_client(server) as never,
        raw_client(server) as one,
        raw_client(server) as other,
    ):
        for client in (never, one, other):
            await client.claim()
        verdicts = [(await one.send(number, never.mailbox)).verdict for number in range(QUEUE + 10)]
        assert verdicts == [f.Verdict.TAKEN] * QUEUE + [f.Verdict.MAILBOX_FULL] * 10
        assert boxes.waiting == QUEUE
        await exchange(one, other, 100)


async def test_a_client_that_does_not_read_its_socket_delays_nobody() -> None:
    """More waits for it than the kernel's buffers hold."""
    boxes = Mailboxes(queue=4000)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with (
        SignalingServer(store=MemoryStore(boxes)) as server,
        raw_client(server) as one,
        raw_client(server) as other,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=lambda _: sock)) as http,
        http.ws_connect(f"{server.url('ws')}/v1/ws", protocols=(f.PROTOCOL,)) as held,
    ):
        await one.claim()
        await other.claim()
        stuck = RawClient(held)
        await stuck.claim()
        assert held._conn is not None
        transport = held._conn.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        for number in range(4000):
            assert boxes.put(stuck.mailbox, envelope(number), asyncio.get_running_loop().time()) is f.Verdict.TAKEN
        assert (await one.send(5000, stuck.mailbox)).verdict is f.Verdict.MAILBOX_FULL
        await exchange(one, other, 100)
        transport.abort()


# Connects ten thousand times, says so, and keeps all of them until its input ends.
IDLE = f"""
import resource, socket, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
sockets = [socket.create_connection(("{HOST}", int(sys.argv[1])), timeout=30) for _ in range(10000)]
print(len(sockets), flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
async def test_ten_thousand_idle_sockets() -> None:
    limits = Limits(connections=10001, connections_per_address=10001, header_timeout=120, idle_timeout=120)
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        async with SignalingServer(limits=limits) as server, raw_client(server) as one:
            await one.claim()
            # The other ends are a process of their own: both together are more descriptors than most machines allow.
            client = await asyncio.create_subprocess_exec(
                sys.executable, "-c", IDLE, str(server.port), stdin=PIPE, stdout=PIPE
            )
            assert client.stdin is not None
            assert client.stdout is not None
            assert await client.stdout.readline() == b"10000\n"
            await eventually(lambda: server.connections == 10001, timeout=20)
            await exchange(one, one)
            client.stdin.close()
            await client.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


# --- the end of the server -------------------------------------------------------------------------------------------


async def test_a_shutdown_tells_each_client_when_to_come_back() -> None:
    async with SignalingServer() as server, aiohttp.ClientSession() as http:
        clients = [
            RawClient(await http.ws_connect(f"{server.url('ws')}/v1/ws", protocols=(f.PROTOCOL,))) for _ in range(8)
        ]
        for client in clients:
            await client.claim()
        closing = asyncio.ensure_future(server.close())
        told = set()
        for client in clients:
            message = await client.socket.receive(timeout=5)
            assert client.socket.close_code == f.CloseCode.RESTART
            assert message.extra.startswith("retry=")
            told.add(int(message.extra.removeprefix("retry=")))
        assert all(0 <= ms < 3000 for ms in told)
        assert len(told) > 1
        await closing


@pytest.mark.parametrize("scheme", ["ws", "http"])
@pytest.mark.slow
async def test_clients_come_back_after_a_shutdown(scheme: str) -> None:
    server = await SignalingServer().__aenter__()
    async with open_signaling(server.url(scheme)) as one, open_signaling(server.url(scheme)) as other:
        start = asyncio.get_running_loop().time()
        await server.close()
        assert asyncio.get_running_loop().time() - start < 3
        await eventually(lambda: one.state is other.state is SignalingState.RECONNECTING)
        async with SignalingServer(port=server.port):
            await one.send(other.mailbox, envelope(1))
            assert (await anext(other.receive())).envelope == envelope(1)
            await one.close()
            await other.close()


async def test_closing_with_clients_that_do_not_answer_is_bounded() -> None:
    async with no_leaks():
        server = await SignalingServer().__aenter__()
        held = [await asyncio.open_connection(HOST, server.port) for _ in range(3)]
        for _, writer in held:
            writer.write(SLOW[4])
        await eventually(lambda: server.connections == 3)
        start = asyncio.get_running_loop().time()
        await server.close()
        await server.close()
        assert asyncio.get_running_loop().time() - start < 4
        assert server.connections == 0
        for _, writer in held:
            writer.transport.abort()


async def test_health_and_readiness() -> None:
    class Failing(MemoryStore):
        async def epoch(self) -> bytes:
            raise ConnectionRefusedError

    for store, ready in ((MemoryStore(), 200), (Failing(), 503)):
        async with SignalingServer(store=store) as server, aiohttp.ClientSession() as http:
            for path, status in (("/health", 200), ("/ready", ready)):
                async with http.get(server.url("http") + path) as response:
                    assert response.status == status


# --- what it does not say --------------------------------------------------------------------------------------------


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


async def test_no_address_mailbox_or_envelope_is_logged(
    everything_logged: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    class Failing(MemoryStore):
        async def put(self, mailbox: bytes, envelope: bytes) -> f.Verdict:
            raise ValueError("canary")

    for store in (MemoryStore(), Failing()):
        async with SignalingServer(store=store, host="127.0.0.1") as server:
            async with raw_client(server) as client:
                await client.claim()
                await client.socket.send_bytes(f.Send(1, client.mailbox, b"canary".ljust(4096)).encode())
                await client.socket.send_bytes(b"canary")
                await client.closed_with()
                mailbox = client.mailbox
            await raw_http(server, b"GET /canary HTTP/1.1\r\nBad Header: canary\r\n\r\n")
            await raw_http(server, b"GET /canary HTTP/1.1\r\nConnection: close\r\nHost: canary\r\n\r\n")
    text = everything_logged.text + repr(server)
    assert "A request failed: ValueError" in text
    for secret in ("127.0.0.1", "canary", mailbox.hex(), repr(mailbox)):
        assert secret not in text


# --- credentials -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_connected_clients_get_credentials_for_the_relays(scheme: str) -> None:
    async with Relay(auth_secret="shared secret", laboratory=True) as relay:
        uris = [relay.uri("udp"), relay.uri("tcp")]
        async with (
            SignalingServer(relays=uris, relay_secret=Secret("shared secret")) as server,
            open_signaling(server.url(scheme)) as client,
        ):
            source = client.credentials()
            assert isinstance(source, FromHttp)
            relays = await source.relays()
            assert [one.name for one in relays] == [RelayServer.parse(uri).name for uri in uris]
            assert [str(one.verdict) for one in await probe(relays, laboratory=True)] == ["ok", "ok"]
            async with aiohttp.ClientSession() as http, http.get(f"{server.url('http')}/v1/credentials") as response:
                assert response.status == 401


# --- what it is given ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"host": "localhost"}, "IP address"),
        ({"host": "0.0.0.0"}, "needs the name"),
        ({"names": ["https://x"]}, "no host name"),
        ({"names": [""]}, "no host name"),
        ({"relays": ["turn:a.test"]}, "go together"),
        ({"relay_secret": Secret("x")}, "go together"),
        ({"relays": ["http://a.test"], "relay_secret": Secret("x")}, "turn:"),
    ],
    ids=str,
)
def test_what_cannot_work_is_a_config_error(given_: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SignalingServer(**given_)  # type: ignore[arg-type]


async def test_a_port_in_use_is_a_config_error() -> None:
    async with SignalingServer() as server:
        for host, port in ((HOST, server.port), ("192.0.2.1", 0), (HOST, 99999)):
            with pytest.raises(ConfigError, match="cannot listen"):
                await SignalingServer(host=host, port=port).__aenter__()
