"""Credentials from an HTTP endpoint, which is a real server on loopback, well behaved and otherwise."""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import json
import logging
import pickle
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relaycall.errors import (
    ConfigError,
    CredentialsCertificate,
    CredentialsError,
    CredentialsMalformed,
    CredentialsRefused,
    CredentialsTimeout,
    NoRelay,
    RelayError,
)
from relaycall.ice.allocation import allocate
from relaycall.redact import Secret
from relaycall.relays.credentials import TimeLimited
from relaycall.relays.http_credentials import DEFAULT_TTL, LONGEST_TTL, MAX_ANSWER, FromHttp
from relaycall.server.turn import Relay
from tests.certificates import Authority, Leaf
from tests.coturn import free_port
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.store.shown import shown

NOW = 1_800_000_000.0
CANARIES = ("canary", "wrong-token")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Clocks:
    """Wall clock and monotonic clock, set by hand."""

    def __init__(self) -> None:
        self.unix = NOW
        self.monotonic = 50.0

    def advance(self, seconds: float) -> None:
        self.unix += seconds
        self.monotonic += seconds


class Endpoint:
    """A server that counts its requests and answers each as it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.delay = 0.0
        self.scheme = "http"
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        await asyncio.sleep(self.delay)
        headers = {"Date": email.utils.formatdate(NOW, usegmt=True), **self.headers}
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return web.Response(body=body, status=self.status, headers=headers, content_type="application/json")

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/credentials?apiKey=url-canary"

    @property
    def name(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(endpoint: Endpoint, handler: Handler | None = None, leaf: Leaf | None = None) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler or endpoint.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=leaf.server_context() if leaf else None)
        await site.start()
        endpoint.port = runner.addresses[0][1]
        endpoint.scheme = "https" if leaf else "http"
        yield
    finally:
        await runner.cleanup()


def answer(username: str = "user-canary", credential: str = "canary", **more: Any) -> dict[str, Any]:
    urls = ["stun:relay.example.org", "turn:relay.example.org", "turns:relay.example.org:443"]
    return {"iceServers": [{"urls": urls, "username": username, "credential": credential}], **more}


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    one = Endpoint(answer())
    async with serving(one):
        yield one


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def source_of(endpoint: Endpoint, clocks: Clocks | None = None, **options: Any) -> FromHttp:
    clocks = clocks or Clocks()
    given = {"clock": lambda: clocks.unix, "monotonic": lambda: clocks.monotonic, "laboratory": True, **options}
    return FromHttp(endpoint.url, **given)


@pytest.fixture(autouse=True)
def nothing_told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No secret in the log, at DEBUG and of whatever library."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("tests").debug("DEBUG is seen")
    yield
    records = caplog.get_records("setup") + caplog.get_records("call")
    text = "\n".join(logging.Formatter().format(record) for record in records)
    assert "DEBUG is seen" in text
    for canary in CANARIES:
        assert canary not in text


async def failing(source: FromHttp) -> CredentialsError:
    """What it raises, checked for what every such error must be."""
    with pytest.raises(CredentialsError) as caught:
        await source.relays()
    error = caught.value
    for canary in CANARIES:
        assert canary not in shown(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert error.relay == source.name
    assert error.relay in error.sentence
    return error


# --- what is asked, and what comes of it ------------------------------------------------------------------------------


async def test_relays_with_their_credentials(endpoint: Endpoint) -> None:
    source = source_of(endpoint)
    assert source.expires_at is None
    relays = await source.relays()
    assert [relay.name for relay in relays] == [
        "turn:relay.example.org:3478?transport=udp",
        "turns:relay.example.org:443?transport=tcp",
    ]
    assert {(relay.username, relay.password) for relay in relays} == {("user-canary", Secret("canary"))}
    assert source.expires_at == NOW + DEFAULT_TTL
    found = await source.credentials()
    assert (found.username, found.password, found.expires_at) == ("user-canary", Secret("canary"), NOW + DEFAULT_TTL)


async def test_the_request(endpoint: Endpoint) -> None:
    await source_of(endpoint).relays()
    await source_of(endpoint, method="POST", body={"ttl": 60}, bearer=Secret("token-canary")).relays()
    await source_of(endpoint, method="POST", headers={"X-Key": Secret("key-canary"), "X-Plain": "p"}).relays()
    (get, path, got, nothing), (post, _, token, body), (_, _, key, empty) = endpoint.requests
    assert (get, path, nothing) == ("GET", "/credentials?apiKey=url-canary", b"")
    assert got["User-Agent"] == "relaycall"
    assert "Authorization" not in got
    assert "Cookie" not in got
    assert (post, json.loads(body), token["Authorization"]) == ("POST", {"ttl": 60}, "Bearer token-canary")
    assert (key["X-Key"], key["X-Plain"], empty) == ("key-canary", "p", b"")


async def test_a_proxy_in_the_environment_is_not_asked(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port('127.0.0.1')}")
    assert await source_of(endpoint).relays()


async def test_credentials_that_differ_from_relay_to_relay(endpoint: Endpoint) -> None:
    other = {"urls": "turn:other.example.org", "username": "other-canary", "credential": "canary"}
    endpoint.answer = [*answer()["iceServers"], other]
    source = source_of(endpoint)
    assert len(await source.relays()) == 3
    with pytest.raises(CredentialsError, match="differ") as caught:
        await source.credentials()
    assert "canary" not in shown(caught.value)


async def test_a_relay_takes_them() -> None:
    async with Relay(auth_secret="shared", laboratory=True) as relay:
        made = TimeLimited(Secret("shared")).mint()
        entry = {"urls": relay.uri("udp"), "username": made.username, "credential": made.password.reveal()}
        endpoint = Endpoint({"iceServers": entry})
        endpoint.headers = {"Date": email.utils.formatdate(usegmt=True)}
        async with serving(endpoint):
            (server,) = await FromHttp(endpoint.url, laboratory=True).relays()
        allocation = await allocate(server, laboratory=True)
        await allocation.close()


# --- how long they hold -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "holds"),
    [
        (answer(), DEFAULT_TTL),
        (answer(ttl=100), 100),
        (answer(ttl="100"), 100),
        (answer(username=f"{NOW + 200:.0f}:x-canary"), 200),
        (answer(username=f"{NOW + 200:.0f}:x-canary", ttl=100), 100),
        (answer(username=f"{NOW + 200:.0f}:x-canary", ttl=1000), 200),
        (answer(ttl=10**12), LONGEST_TTL),
    ],
)
async def test_how_long_they_hold(given: Any, holds: float, endpoint: Endpoint, clocks: Clocks) -> None:
    endpoint.answer = given
    source = source_of(endpoint, clocks)
    await source.relays()
    assert source.expires_at == NOW + holds
    clocks.advance(0.79 * holds)
    await source.relays()
    assert len(endpoint.requests) == 1
    clocks.advance(0.02 * holds)
    await source.relays()
    assert len(endpoint.requests) == 2


async def test_either_clock_makes_them_old(endpoint: Endpoint, clocks: Clocks) -> None:
    endpoint.answer = answer(ttl=100)
    source = source_of(endpoint, clocks)
    await source.relays()
    clocks.unix += 90  # the machine slept
    await source.relays()
    assert len(endpoint.requests) == 2
    clocks.unix -= 3600  # somebody set the clock back
    clocks.monotonic += 90
    await source.relays()
    assert len(endpoint.requests) == 3


async def test_an_expiry_is_by_the_endpoints_clock(endpoint: Endpoint, clocks: Clocks) -> None:
    clocks.unix = NOW + 1000  # ours is ahead: by it, they would have expired
    endpoint.answer = answer(username=f"{NOW + 200:.0f}:canary")
    source = source_of(endpoint, clocks)
    await source.relays()
    assert source.expires_at == NOW + 1200
    endpoint.answer = answer(username=f"{NOW - 10:.0f}:canary")
    assert "already expired" in (await failing(source_of(endpoint, clocks))).sentence


async def test_callers_at_the_same_time_share_a_request(endpoint: Endpoint) -> None:
    endpoint.delay = 0.1
    source = source_of(endpoint)
    found = await asyncio.gather(*(source.relays() for _ in range(10)), source.credentials())
    assert len(endpoint.requests) == 1
    assert all(relays == found[0] for relays in found[:10])
    found[0].clear()
    assert await source.relays() == found[1]


async def test_a_failure_is_shared_and_not_kept(endpoint: Endpoint) -> None:
    endpoint.delay, endpoint.status = 0.05, 500
    source = source_of(endpoint)
    found = await asyncio.gather(*(source.relays() for _ in range(5)), return_exceptions=True)
    assert {type(error) for error in found} == {CredentialsError}
    assert len(endpoint.requests) == 1
    endpoint.status = 200
    assert await source.relays()


async def test_what_was_given_stays_when_a_renewal_fails(endpoint: Endpoint, clocks: Clocks) -> None:
    source = source_of(endpoint, clocks)
    await source.relays()
    before = source.expires_at
    clocks.advance(DEFAULT_TTL * 0.9)
    endpoint.status = 500
    await failing(source)
    assert source.expires_at == before
    endpoint.status = 200
    await source.relays()
    assert source.expires_at == NOW + DEFAULT_TTL * 1.9


async def test_one_caller_that_leaves_does_not_take_the_others_along(endpoint: Endpoint) -> None:
    endpoint.delay = 0.2
    source = source_of(endpoint)
    first, second = (asyncio.create_task(source.relays()) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    assert await second
    assert first.cancelled()
    assert len(endpoint.requests) == 1


async def test_the_last_caller_that_leaves_ends_the_request(endpoint: Endpoint) -> None:
    endpoint.delay = 30
    source = source_of(endpoint)
    callers = [asyncio.create_task(source.relays()) for _ in range(2)]
    await asyncio.sleep(0.05)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    endpoint.delay = 0
    assert await source.relays()  # at once, and not the cancelled one


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, CredentialsRefused, "refused the token"),
        (403, CredentialsRefused, "refused the token"),
        (404, CredentialsError, "status 404"),
        (429, CredentialsError, "status 429"),
        (500, CredentialsError, "status 500"),
        (304, CredentialsError, "redirects"),
    ],
)
async def test_a_status(status: int, kind: type, words: str, endpoint: Endpoint) -> None:
    endpoint.status, endpoint.answer = status, b"" if status == 304 else b"canary"
    error = await failing(source_of(endpoint, bearer=Secret("wrong-token")))
    assert type(error) is kind
    assert words in error.sentence
    assert "clock" not in error.sentence


@pytest.mark.parametrize(("skew", "minutes"), [(-1200, 20), (1200, 20), (299, None), (-299, None)])
async def test_a_wrong_clock_is_named_when_it_may_be_the_cause(
    skew: float, minutes: int | None, endpoint: Endpoint, clocks: Clocks
) -> None:
    endpoint.status = 401
    clocks.unix += skew
    error = await failing(source_of(endpoint, clocks))
    assert ("clock" in error.sentence) == (minutes is not None)
    if minutes:
        assert f"differ by {minutes} minutes" in error.sentence


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 99 Foo 2020 00:00:00 GMT", "0" * 4000])
async def test_a_date_that_is_none(date: str, endpoint: Endpoint) -> None:
    endpoint.status, endpoint.headers = 401, {"Date": date}
    assert type(await failing(source_of(endpoint))) is CredentialsRefused


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("elsewhere", [True, False])
async def test_a_redirect_is_not_followed(status: int, elsewhere: bool, endpoint: Endpoint) -> None:
    other = Endpoint(answer())
    async with serving(other):
        target = other.url if elsewhere else endpoint.url + "&again"
        endpoint.status, endpoint.headers = status, {"Location": target}
        error = await failing(source_of(endpoint, bearer=Secret("token-canary")))
    assert "redirects" in error.sentence
    assert len(endpoint.requests) == 1
    assert other.requests == []


@pytest.mark.parametrize(
    "body",
    [b"", b"canary", b"<html>canary</html>", b'{"iceServers": "canary"}', b"[" * 60000, b'{"iceServers": []}', b"\xff"],
    ids=lambda body: repr(body[:12]),
)
async def test_an_answer_of_another_shape(body: bytes, endpoint: Endpoint) -> None:
    endpoint.answer = body
    assert type(await failing(source_of(endpoint))) is CredentialsMalformed


async def test_an_answer_that_is_compressed(endpoint: Endpoint) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < MAX_ANSWER
    endpoint.answer, endpoint.headers = bomb, {"Content-Encoding": "gzip"}
    error = await failing(source_of(endpoint))
    assert type(error) is CredentialsMalformed
    assert "compressed" in error.sentence


async def test_an_answer_that_is_long(endpoint: Endpoint) -> None:
    endpoint.answer = json.dumps(answer()).encode() + b" " * MAX_ANSWER
    error = await failing(source_of(endpoint))
    assert type(error) is CredentialsMalformed
    assert str(MAX_ANSWER) in error.sentence
    endpoint.answer = endpoint.answer[:MAX_ANSWER]
    assert await source_of(endpoint).relays()


async def test_an_answer_without_end() -> None:
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"canary" * 10000)
            sent += 60000

    endpoint = Endpoint(None)
    async with serving(endpoint, pour):
        assert type(await failing(source_of(endpoint))) is CredentialsMalformed
    assert sent < 20_000_000


async def silence(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("handler", [silence, drip])
async def test_a_slow_endpoint_is_given_up(handler: Handler) -> None:
    endpoint = Endpoint(None)
    async with serving(endpoint, handler):
        start = time.monotonic()
        error = await failing(source_of(endpoint, timeout=0.4))
    assert type(error) is CredentialsTimeout
    assert time.monotonic() - start < 1.5


async def test_nobody_there() -> None:
    endpoint = Endpoint(None)
    endpoint.port = free_port("127.0.0.1")
    assert "refused the connection" in (await failing(source_of(endpoint))).sentence


async def test_a_name_that_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "canary")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    error = await failing(FromHttp("https://relay.example.org/x"))
    assert "its name is unknown" in error.sentence


@asynccontextmanager
async def speaking(data: bytes) -> AsyncIterator[int]:
    """A server that says this to whoever connects, and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await reader.read(100)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"canary\r\n\r\n",
        b"HTTP/1.1 200 canary\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\ncanary",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ncanary",
        b"HTTP/1.1 200 OK\r\nX: " + b"canary" * 5000 + b"\r\n\r\n",
    ],
    ids=lambda data: repr(data[:40]),
)
async def test_what_does_not_speak_http(data: bytes) -> None:
    endpoint = Endpoint(None)
    async with speaking(data) as endpoint.port:
        error = await failing(source_of(endpoint, timeout=3))
    assert type(error) is CredentialsError
    assert "the exchange failed" in error.sentence


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Callable[[Leaf], Awaitable[Endpoint]]]:
    async with AsyncExitStack() as stack:

        async def start(leaf: Leaf) -> Endpoint:
            endpoint = Endpoint(answer())
            await stack.enter_async_context(serving(endpoint, leaf=leaf))
            return endpoint

        yield start


Start = Callable[[Leaf], Awaitable[Endpoint]]


async def test_tls_with_a_private_authority(site: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    endpoint = await site(authority.leaf("127.0.0.1"))
    source = source_of(endpoint, ssl_context=authority.client_context(), laboratory=False)
    assert await source.relays()


@pytest.mark.parametrize("fault", ["unknown authority", "expired", "another name", "self-signed"])
async def test_a_certificate_that_is_not_trusted(fault: str, site: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    leaf = {
        "unknown authority": lambda: authority.leaf("127.0.0.1"),
        "expired": lambda: authority.leaf("127.0.0.1", expired=True),
        "another name": lambda: authority.leaf("relay.example.org"),
        "self-signed": lambda: authority.self_signed("127.0.0.1"),
    }[fault]()
    context = None if fault == "unknown authority" else authority.client_context()
    endpoint = await site(leaf)
    error = await failing(source_of(endpoint, ssl_context=context, bearer=Secret("token-canary")))
    assert type(error) is CredentialsCertificate
    assert "certificate" in error.sentence
    assert endpoint.requests == []  # the token was not sent


async def test_a_port_that_does_not_speak_tls() -> None:
    async with speaking(b"HTTP/1.1 400 canary\r\n\r\n") as port:
        error = await failing(FromHttp(f"https://127.0.0.1:{port}/x", timeout=3))
    assert type(error) is CredentialsCertificate
    assert "handshake" in error.sentence


def test_a_tls_context_that_does_not_verify_is_refused() -> None:
    lax = ssl.create_default_context()
    lax.check_hostname = False
    laxer = ssl.create_default_context()
    laxer.check_hostname = False
    laxer.verify_mode = ssl.CERT_NONE
    for context in (lax, laxer):
        with pytest.raises(ConfigError, match="does not verify"):
            FromHttp("https://example.org/", ssl_context=context)


# --- what it is given -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "canary",
        "https://",
        "https:///canary",
        "https://[::1/canary",
        "https://example.org:99999/canary",
        "https://example.org:x/canary",
        "https://example.org/canary#part",
        "https://user:canary@example.org/",
        "https://example.org/can ary",
        "https://example.org\\@canary.example.org/",
        "https://example.org/\ncanary",
        "https://exämple.org/canary",
        "ftp://example.org/canary",
        "http://example.org/canary",
        "http://127.0.0.1.example.org/canary",
        "http://10.0.0.1/canary",
        "file:///etc/canary",
    ],
)
@pytest.mark.parametrize("laboratory", [True, False])
def test_a_url_that_is_not_usable_is_not_repeated(url: str, laboratory: bool) -> None:
    for given in (url, Secret(url)):
        with pytest.raises(ConfigError) as caught:
            FromHttp(given, laboratory=laboratory)
        assert "canary" not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:80/", "http://localhost/", "http://[::1]:8080/"])
def test_http_is_for_laboratories(url: str) -> None:
    assert FromHttp(url, laboratory=True).name == url.rstrip("/")
    with pytest.raises(ConfigError, match="https"):
        FromHttp(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/path?key=canary", "https://example.org"),
        ("HTTPS://Example.org:8443", "https://example.org:8443"),
        ("https://[2001:db8::1]/canary", "https://[2001:db8::1]"),
    ],
)
def test_it_is_named_without_its_key(url: str, name: str) -> None:
    source = FromHttp(url, bearer=Secret("canary"), headers={"X-Key": Secret("canary")})
    assert source.name == name
    assert repr(source) == f"FromHttp('{name}')"
    assert "canary" not in repr(vars(source))
    with pytest.raises(TypeError):
        pickle.dumps(source)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "PUT"},
        {"method": "GET", "body": {}},
        {"headers": {"X-Key": "canary\r\nX-More: 1"}},
        {"headers": {"X Key": "canary"}},
        {"headers": {"": "canary"}},
        {"headers": {"X-Key": ""}},
        {"bearer": Secret("canary\n")},
        {"bearer": Secret("canäry")},
    ],
    ids=str,
)
def test_options_that_are_not_usable(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        FromHttp("https://example.org/", **options)
    assert "canary" not in str(caught.value)


def test_its_errors_are_among_the_reasons_for_no_relay() -> None:
    error = CredentialsTimeout("https://example.org")
    assert isinstance(error, RelayError)
    assert "https://example.org" in NoRelay([error]).sentence
    assert re.fullmatch(r"[a-z_]+", error.code)
