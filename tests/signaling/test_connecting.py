"""What can go wrong on the way to a server: each has its error, which names the server, within 10 seconds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relaycall.errors import (
    ConfigError,
    NotSignaling,
    SignalingCertificate,
    SignalingClosed,
    SignalingError,
    SignalingMisnamed,
    SignalingRefused,
    SignalingTimeout,
    SignalingUnreachable,
)
from relaycall.server.signaling import SignalingServer
from relaycall.server.signaling_limits import Limits
from relaycall.signaling import http, network, websocket
from relaycall.signaling.base import Signaling, SignalingState
from relaycall.signaling.opening import open_signaling
from tests.certificates import Authority
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.signaling.forwarder import Forwarder
from tests.waiting import eventually

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
each_scheme = pytest.mark.parametrize("scheme", ["ws", "http"])
ENVELOPE = bytes(4096)


@asynccontextmanager
async def something_else(answer: bytes | None, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that is not ours: answers anything with these bytes, or nothing. Gives its port."""
    handlers, writers = set(), set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        writers.add(writer)
        try:
            if answer is None:
                await reader.read()
            elif await reader.read(1):
                writer.write(answer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*handlers, return_exceptions=True)


async def failed_to_open(url: str, **options: object) -> SignalingError:
    client = open_signaling(url, **options)  # type: ignore[arg-type]
    with pytest.raises(SignalingError) as failed:
        async with asyncio.timeout(10):
            await client.open()
    assert client.state is SignalingState.CONNECTING
    await client.close()
    error = failed.value
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


@each_scheme
async def test_a_refused_port(scheme: str) -> None:
    async with something_else(b"") as port:
        pass
    error = await failed_to_open(f"{scheme}://127.0.0.1:{port}")
    assert type(error) is SignalingRefused
    assert error.sentence == f"The signaling server 127.0.0.1:{port} refused the connection."


@pytest.mark.parametrize("scheme", ["wss", "https"])
async def test_an_unknown_name(scheme: str) -> None:
    error = await failed_to_open(f"{scheme}://nowhere.invalid")
    assert type(error) is SignalingUnreachable
    assert error.server == "nowhere.invalid:443"


NOT_OURS = {
    "a web server": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "a proxy without a server": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "another path": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "noise": bytes(range(256)) * 300,
    "a long header": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    "another relaycall": b"HTTP/1.1 200 OK\r\nRelaycall-Signaling: relaycall.9\r\nContent-Length: 0\r\n\r\n",
    "a bad frame": b"HTTP/1.1 200 OK\r\nRelaycall-Signaling: relaycall.1\r\nContent-Length: 3\r\n\r\n\x81ab",
    "a reply without end": b"HTTP/1.1 200 OK\r\nRelaycall-Signaling: relaycall.1\r\n\r\n" + bytes(1_000_000),
}


@each_scheme
@pytest.mark.parametrize("answer", NOT_OURS.values(), ids=NOT_OURS.keys())
async def test_a_server_that_is_not_ours(scheme: str, answer: bytes) -> None:
    async with something_else(answer) as port:
        error = await failed_to_open(f"{scheme}://127.0.0.1:{port}")
    assert type(error) is NotSignaling
    assert error.server == f"127.0.0.1:{port}"


@each_scheme
async def test_one_that_hangs_up(scheme: str) -> None:
    async with something_else(b"") as port:
        assert type(await failed_to_open(f"{scheme}://127.0.0.1:{port}")) is SignalingUnreachable


@each_scheme
async def test_one_that_says_nothing(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert network.CONNECT_TIMEOUT < 10
    monkeypatch.setattr(network, "CONNECT_TIMEOUT", 0.3)
    async with something_else(None) as port:
        assert type(await failed_to_open(f"{scheme}://127.0.0.1:{port}")) is SignalingTimeout


@pytest.mark.parametrize("scheme", ["wss", "https"])
@pytest.mark.parametrize("kind", ["unknown authority", "expired", "another name", "no TLS"])
async def test_certificates(scheme: str, kind: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    leaf = authority.leaf("other.test" if kind == "another name" else "localhost", expired=kind == "expired")
    options = {} if kind == "unknown authority" else {"ssl_context": authority.client_context()}
    context = None if kind == "no TLS" else leaf.server_context()
    async with SignalingServer(ssl_context=context) as server:
        error = await failed_to_open(f"{scheme}://localhost:{server.port}", **options)
    assert type(error) is SignalingCertificate
    assert error.server == f"localhost:{server.port}"


@each_scheme
async def test_a_server_that_goes_by_another_name(scheme: str) -> None:
    async with SignalingServer(names=["signaling.test"]) as server:
        error = await failed_to_open(f"{scheme}://127.0.0.1:{server.port}")
    assert type(error) is SignalingMisnamed
    assert "--name" in error.next_step


@each_scheme
async def test_a_path_in_the_url_is_kept(scheme: str) -> None:
    async with SignalingServer() as server:
        error = await failed_to_open(f"{scheme}://127.0.0.1:{server.port}/elsewhere")
    assert type(error) is NotSignaling


@each_scheme
async def test_a_send_while_the_server_is_away_waits_for_its_timeout_and_no_longer(scheme: str) -> None:
    async with (
        SignalingServer() as server,
        Forwarder(server.port) as way,
        open_signaling(f"{scheme}://127.0.0.1:{way.port}") as client,
    ):
        way.is_open = False
        way.cut()
        await eventually(lambda: client.state is SignalingState.RECONNECTING)
        start = asyncio.get_running_loop().time()
        with pytest.raises(SignalingTimeout):
            await client.send(client.mailbox, ENVELOPE, timeout=0.3)
        assert 0.25 < asyncio.get_running_loop().time() - start < 2
        way.is_open = True
        await eventually(lambda: client.state is SignalingState.OPEN, timeout=15)
        await client.send(client.mailbox, bytes(4095) + b"x")
        assert (await anext(client.receive())).envelope[-1:] == b"x"  # what timed out is not sent later


@each_scheme
@pytest.mark.slow
async def test_a_half_open_connection_is_noticed(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes back any more, and nothing says so. What was on its way meanwhile comes later, once."""
    assert websocket.HEARTBEAT * 1.5 < 30
    assert Limits().poll < http.POLL_TIMEOUT < 60
    monkeypatch.setattr(websocket, "HEARTBEAT", 0.8)
    monkeypatch.setattr(http, "POLL_TIMEOUT", 1.0)
    monkeypatch.setattr(network, "CONNECT_TIMEOUT", 0.5)
    async with (
        SignalingServer(limits=Limits(poll=0.3)) as server,
        Forwarder(server.port) as way,
        open_signaling(f"{scheme}://127.0.0.1:{way.port}") as client,
        open_signaling(server.url(scheme)) as sender,
    ):
        until = asyncio.get_running_loop().time() + 1.3
        while asyncio.get_running_loop().time() < until:
            assert client.state is SignalingState.OPEN, "it was given up while all was well"
            await asyncio.sleep(0.005)
        way.is_mute = True
        await sender.send(client.mailbox, ENVELOPE)
        await eventually(lambda: client.state is SignalingState.RECONNECTING, timeout=4)
        assert way.is_open
        way.is_mute = False
        await eventually(lambda: client.state is SignalingState.OPEN, timeout=15)
        received = client.receive()
        assert (await anext(received)).envelope == ENVELOPE
        await sender.send(client.mailbox, bytes(4095) + b"x")
        assert (await anext(received)).envelope[-1:] == b"x"  # not the first one again


@each_scheme
async def test_closing_while_the_server_is_away_is_bounded(scheme: str) -> None:
    async with SignalingServer() as server, Forwarder(server.port) as way:
        client = open_signaling(f"{scheme}://127.0.0.1:{way.port}")
        await client.open()
        way.is_open = False
        way.cut()
        await eventually(lambda: client.state is SignalingState.RECONNECTING)
        sending = asyncio.ensure_future(client.send(client.mailbox, ENVELOPE))
        await asyncio.sleep(0)
        start = asyncio.get_running_loop().time()
        await client.close()
        assert asyncio.get_running_loop().time() - start < 2
        with pytest.raises(SignalingClosed):
            await sending


@each_scheme
async def test_opened_twice_is_opened_once(scheme: str) -> None:
    async with SignalingServer() as server:
        client = open_signaling(server.url(scheme))
        with pytest.raises(SignalingClosed):
            client.receive()
        with pytest.raises(SignalingClosed):
            await client.send(client.mailbox, ENVELOPE)
        await asyncio.gather(client.open(), client.open())
        await client.open()
        assert server.connections <= 2
        await client.close()


@each_scheme
async def test_closed_while_it_is_being_opened(scheme: str) -> None:
    async with SignalingServer() as server:
        client = open_signaling(server.url(scheme))
        opening = asyncio.ensure_future(client.open())
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(SignalingError):
            await opening
        assert client.state is SignalingState.CLOSED
        await eventually(lambda: server.connections == 0)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory:",
        "memory:" + "x" * 65,
        "ftp://host",
        "wss://",
        "wss:///path",
        "wss://user@host",
        "wss://host?query",
        "wss://host#part",
        "wss://host:99999",
        "wss://ho st",
        "wss://hö.example",
        "wss://[::1",
        "ws://signaling.example.org",
        "http://192.0.2.1",
        "https://" + "a" * 256,
    ],
)
def test_a_url_that_is_not_usable_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_signaling(url)
    assert "user@" not in str(refused.value)


def test_plain_text_leaves_the_machine_in_a_laboratory_only() -> None:
    assert isinstance(open_signaling("ws://192.0.2.1", laboratory=True), Signaling)
    assert isinstance(open_signaling("http://localhost:8080"), Signaling)


def test_a_context_that_does_not_verify_is_refused() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ConfigError, match="does not verify"):
        open_signaling("wss://host", ssl_context=context)


def test_other_schemes_come_from_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        @staticmethod
        def load() -> object:
            return lambda url, **options: (url, sorted(options))

    def entry_points(*, group: str, name: str) -> list[type[Entry]]:
        return [Entry] if (group, name) == ("relaycall.signaling", "carrier-pigeon") else []

    monkeypatch.setattr("relaycall.signaling.opening.entry_points", entry_points)
    made = open_signaling("carrier-pigeon://loft")
    assert made == ("carrier-pigeon://loft", ["key", "laboratory", "ssl_context"])
    with pytest.raises(ConfigError, match="scheme"):
        open_signaling("carrier-snail://garden")
