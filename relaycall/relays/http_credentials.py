"""Relays and their credentials from an HTTP endpoint, as TURN providers have one.

The endpoint sees this machine's address, as a relay does. Its URL may hold a key, so errors name its scheme and host
alone. Redirects are not followed, since they would hand the key to whoever is named there.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import aiohttp

from relaycall.errors import (
    ConfigError,
    CredentialsCertificate,
    CredentialsError,
    CredentialsMalformed,
    CredentialsRefused,
    CredentialsTimeout,
    RelaycallError,
)
from relaycall.redact import Secret
from relaycall.relays.credentials import RelayCredentials
from relaycall.relays.ice_servers import AnswerRefused, decode_ice_servers, expiry_of
from relaycall.relays.server import RelayServer

TIMEOUT = 10.0  # seconds for the whole exchange
MAX_ANSWER = 65536  # bytes
DEFAULT_TTL = 300.0  # seconds, when the answer does not say
LONGEST_TTL = 86400.0  # an answer that promises more is asked again all the same
FRESH = 0.8  # of the time they hold, credentials are given out without asking again
MAX_SKEW = 300.0  # seconds two clocks may differ without a word

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VISIBLE = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # a URL: no spaces, controls or backslashes, which parsers differ on
_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")


class _Issued(NamedTuple):
    """What the endpoint gave, and until when it is given out again: by both clocks, since one may be set, and the
    other may stand still while the machine sleeps."""

    relays: tuple[RelayServer, ...]
    expires_at: float
    fresh_until: float
    fresh_until_monotonic: float


class _Response(NamedTuple):
    """Status, Unix time of the Date header, and body."""

    status: int
    date: float | None
    body: bytes

    def __repr__(self) -> str:
        return f"<response {self.status}>"


class FromHttp:
    """Relays with credentials from an endpoint that answers with W3C's `iceServers`.

    What it gave is given out again for 80 % of the time it holds; callers at the same time share one request.

    Args:
        url: https. It may hold a key.
        method: "GET", or "POST" with `body` as JSON.
        bearer: a token for the Authorization header.
        headers: more headers; give as a Secret what is one.
        timeout: seconds for the whole exchange.
        ssl_context: one that trusts a private authority; the default one trusts the system's.
        laboratory: allows http to a loopback address.
        clock: gives Unix time in seconds.
        monotonic: gives seconds that nobody sets.

    Raises:
        ConfigError: one of them is not usable; says which, and not what it is.
    """

    def __init__(
        self,
        url: str | Secret,
        *,
        method: Literal["GET", "POST"] = "GET",
        body: Mapping[str, object] | None = None,
        bearer: Secret | None = None,
        headers: Mapping[str, str | Secret] | None = None,
        timeout: float = TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
        laboratory: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = Secret(url) if isinstance(url, str) else url
        self.name = _endpoint_name(self._url, laboratory)
        if method not in ("GET", "POST") or (method == "GET" and body is not None):
            raise ConfigError("The method of a credentials endpoint is GET, or POST if there is a body.")
        if ssl_context is not None and (ssl_context.verify_mode != ssl.CERT_REQUIRED or not ssl_context.check_hostname):
            raise ConfigError("The TLS context for the credentials endpoint does not verify.", "Give one that does.")
        self._method = method
        self._body = body
        self._headers = _headers(bearer, headers or {})
        self._timeout = timeout
        self._ssl_context = ssl_context
        self._clock = clock
        self._monotonic = monotonic
        self._issued: _Issued | None = None
        self._request: asyncio.Task[_Issued] | None = None
        self._waiting = 0

    def __repr__(self) -> str:
        return f"FromHttp({self.name!r})"

    @property
    def expires_at(self) -> float | None:
        """Unix time in seconds at which what was given last ends; None before."""
        return self._issued.expires_at if self._issued else None

    async def relays(self) -> list[RelayServer]:
        """The relays with their credentials, in the order the endpoint gives.

        Raises:
            CredentialsError: by type, why there are none. `relay` is the endpoint's scheme and host.
        """
        return list((await self._current()).relays)

    async def credentials(self) -> RelayCredentials:
        """The user name and password that the endpoint gives for all its relays.

        Raises:
            CredentialsError: as `relays`, or they differ from relay to relay.
        """
        issued = await self._current()
        first = issued.relays[0]
        assert first.username is not None
        assert first.password is not None
        if any((relay.username, relay.password) != (first.username, first.password) for relay in issued.relays):
            raise CredentialsError(self.name, "those it gives differ from relay to relay: use relays()")
        return RelayCredentials(first.username, first.password, issued.expires_at)

    async def _current(self) -> _Issued:
        issued = self._issued
        if issued and self._clock() < issued.fresh_until and self._monotonic() < issued.fresh_until_monotonic:
            return issued
        request = self._request
        if request is None:
            request = self._request = asyncio.get_running_loop().create_task(self._ask())
        self._waiting += 1
        try:
            return await asyncio.shield(request)
        finally:
            self._waiting -= 1
            if not self._waiting:  # the last has left
                request.cancel()
                self._request = None

    async def _ask(self) -> _Issued:
        response = await self._exchange()
        now = self._clock()
        failure = _failure_of(self.name, response, now)
        if failure is None:
            try:
                relays, ttl = decode_ice_servers(response.body)
            except AnswerRefused as error:
                failure = CredentialsMalformed(self.name, str(error))
        if failure is not None:
            raise failure
        # An expiry in a user name is by the endpoint's clock.
        expiries = [expiry_of(relay.username or "") for relay in relays]
        left = [expiry - (now if response.date is None else response.date) for expiry in expiries if expiry is not None]
        holds = min([LONGEST_TTL, *left, *([ttl] if ttl is not None else [] if left else [DEFAULT_TTL])])
        if holds < 1:
            raise CredentialsError(self.name, "those it gave have already expired")
        self._issued = _Issued(tuple(relays), now + holds, now + FRESH * holds, self._monotonic() + FRESH * holds)
        return self._issued

    async def _exchange(self) -> _Response:
        """One request. Raises CredentialsError; what aiohttp raised, which may hold the URL, is not its context."""
        failure: RelaycallError
        try:
            async with asyncio.timeout(self._timeout):
                return await self._send()
        except TimeoutError:
            failure = CredentialsTimeout(self.name)
        except RelaycallError as error:
            failure = error.with_traceback(None)  # whose frames hold the headers
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            trusted = not isinstance(error, aiohttp.ClientConnectorCertificateError)
            reason = "it did not complete the handshake" if trusted else "its certificate was refused"
            failure = CredentialsCertificate(self.name, reason)
        except aiohttp.ClientConnectorDNSError:
            failure = CredentialsError(self.name, "its name is unknown")
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, ConnectionRefusedError)
            failure = CredentialsError(self.name, "it refused the connection" if refused else "it cannot be reached")
        except Exception as error:
            failure = CredentialsError(self.name, f"the exchange failed: {type(error).__name__}")
        raise failure

    async def _send(self) -> _Response:
        headers = {name: value.reveal() for name, value in self._headers.items()}
        async with (
            aiohttp.ClientSession(auto_decompress=False, trust_env=False) as session,
            session.request(
                self._method,
                self._url.reveal(),
                headers=headers,
                json=self._body,
                allow_redirects=False,
                ssl=self._ssl_context or True,
            ) as response,
        ):
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise CredentialsMalformed(self.name, "it is compressed, which was not asked for")
            body = bytearray()
            async for chunk in response.content.iter_chunked(8192):
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise CredentialsMalformed(self.name, f"it is longer than {MAX_ANSWER} bytes")
            return _Response(response.status, _unix_time(response.headers.get("Date")), bytes(body))


def _failure_of(name: str, response: _Response, now: float) -> CredentialsError | None:
    status = response.status
    if 200 <= status < 300:
        return None
    if status in (401, 403):
        return CredentialsRefused(name, _skew(response.date, now))
    if 300 <= status < 400:
        return CredentialsError(name, "it redirects, which is not followed: give the URL it leads to")
    return CredentialsError(name, f"it answered with status {status}")


def _skew(date: float | None, now: float) -> str:
    """A hint when the clocks differ, since a token's time is then wrong."""
    if date is None or abs(date - now) <= MAX_SKEW:
        return ""
    return f"its clock and this machine's differ by {abs(date - now) / 60:.0f} minutes: set this machine's clock"


def _unix_time(date: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError):
        return None


def _endpoint_name(url: Secret, laboratory: bool) -> str:
    """Scheme, host and port, as messages name the endpoint. Raises ConfigError."""
    try:
        parts = urlsplit(url.reveal()) if _VISIBLE.fullmatch(url.reveal()) else None
        host, port = (parts.hostname, parts.port) if parts else (None, None)
    except ValueError:
        parts = host = port = None
    if parts is None or not host or parts.fragment:
        raise ConfigError("The URL of the credentials endpoint is not one.", "Write https://host/path.")
    if "@" in parts.netloc:
        raise ConfigError("The URL of the credentials endpoint holds a user name.", "Give it as a header.")
    if parts.scheme != "https" and not (parts.scheme == "http" and laboratory and _LOOPBACK.fullmatch(host)):
        raise ConfigError(
            "The URL of the credentials endpoint has to begin with https://.",
            "In a laboratory, http:// to a loopback address is allowed.",
        )
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"


def _headers(bearer: Secret | None, more: Mapping[str, str | Secret]) -> dict[str, Secret]:
    headers = {"Accept": Secret("application/json"), "Accept-Encoding": Secret("identity")}
    headers["User-Agent"] = Secret("relaycall")  # aiohttp's own names its version and Python's
    for name, value in more.items():
        headers[name] = value if isinstance(value, Secret) else Secret(value)
    if bearer is not None:
        headers["Authorization"] = Secret(f"Bearer {bearer.reveal()}")
    for name, secret in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not re.fullmatch(r"[\x20-\x7e]+", secret.reveal()):
            raise ConfigError("A header for the credentials endpoint has characters that a header cannot have.")
    return headers
