"""What the transports over a network share: the URL, keeping connected, and errors by what went wrong.

The first connection is made by `open`, which fails with its error. From then on a lost connection is made again for as
long as it takes, with waits that grow and are random; what was being sent meanwhile waits for its own timeout.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import ssl
from abc import abstractmethod
from collections.abc import Callable, Collection
from typing import ClassVar, NamedTuple, NoReturn, TypeVar
from urllib.parse import urlsplit

import aiohttp

from relaycall.errors import (
    ConfigError,
    MailboxRefused,
    MailboxReplaced,
    MalformedMessage,
    NotSignaling,
    SignalingBusy,
    SignalingCertificate,
    SignalingClosed,
    SignalingError,
    SignalingMisnamed,
    SignalingRateLimited,
    SignalingRefused,
    SignalingTimeout,
    SignalingUnreachable,
)
from relaycall.redact import Secret
from relaycall.relays.http_credentials import FromHttp
from relaycall.signaling.base import CLOSE_TIMEOUT, SEND_TIMEOUT, SignalingState, check_envelope
from relaycall.signaling.client import Client
from relaycall.signaling.frames import (
    MAX_NAME,
    Answer,
    Challenge,
    Claim,
    NameplateAction,
    NameplateAnswer,
    NameplateRequest,
    Send,
)
from relaycall.signaling.keys import MailboxKey, claim_message
from relaycall.signaling.rendezvous import NAMEPLATE_TIMEOUT, Rendezvous, check_nameplate, check_outcome
from relaycall.signaling.session import reconnect_delay

CONNECT_TIMEOUT = 8.0  # seconds, for the connection and the proof
SETTLED = 10.0  # a connection that held so many seconds makes earlier failures count no more
LONGEST_WAIT = 30.0  # seconds a server may ask us to stay away
UNDER_WAY = 32  # envelopes that wait for the server's answer; more wait for their turn
A = TypeVar("A", Answer, NameplateAnswer)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Where(NamedTuple):
    """A server's URL in parts. `server` is host and port, as messages name it."""

    base: str
    name: str
    server: str


class NetworkTransport(Client, Rendezvous):
    """A transport that keeps a connection.

    Args:
        url: scheme, host, port and perhaps a path, under which the server is.
        key: whose mailbox; by default a fresh one.
        ssl_context: one that trusts a private authority; the default one trusts the system's.
        laboratory: allows the plain scheme to other hosts than loopback.

    Attributes:
        schemes: the plain and the TLS one.

    Raises:
        ConfigError: one of them is not usable.
    """

    schemes: ClassVar[tuple[str, str]]

    def __init__(
        self,
        url: str,
        *,
        key: MailboxKey | None = None,
        ssl_context: ssl.SSLContext | None = None,
        laboratory: bool = False,
    ) -> None:
        if ssl_context is not None and (ssl_context.verify_mode != ssl.CERT_REQUIRED or not ssl_context.check_hostname):
            raise ConfigError("The TLS context for the signaling server does not verify.", "Give one that does.")
        where = parse_url(url, self.schemes, laboratory)
        super().__init__(where.server, key)
        self._where = where
        self._ssl = ssl_context or True
        self._http: aiohttp.ClientSession | None = None
        self._token = b""
        self._task: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[Answer | NameplateAnswer]] = {}
        self._turns = asyncio.Semaphore(UNDER_WAY)
        self._opening = asyncio.Lock()

    # --- to be filled in ----------------------------------------------------------------------------------------------

    @abstractmethod
    async def _connect(self, http: aiohttp.ClientSession) -> None:
        """Make a connection and prove the mailbox's key. Raises anything."""

    @abstractmethod
    async def _serve(self) -> float:
        """Receive until the connection is lost. Returns for how many seconds the server wants us to stay away.

        Raises MailboxReplaced, or anything, which counts as lost.
        """

    @abstractmethod
    async def _write(self, frame: Send | NameplateRequest) -> None:
        """Write what is pending if there is a connection; or else it is written on the next. Raises anything."""

    @abstractmethod
    async def _leave(self) -> None:
        """Before closing: get out what is left, and say goodbye. Raises anything."""

    # --- the interface ------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        async with self._opening:
            if self._task is not None:
                return
            if self._is_closed():
                raise SignalingClosed(self._server)
            await self._try()
            if self._is_closed():  # meanwhile
                await self._drop()
                raise SignalingClosed(self._server)
            self._task = asyncio.create_task(self._run())
        self._to(SignalingState.OPEN)

    async def send(self, mailbox: bytes, envelope: bytes, *, timeout: float = SEND_TIMEOUT) -> None:
        check_envelope(mailbox, envelope)
        answer = await self._ask(lambda: self._session.send(mailbox, envelope), Answer, timeout)
        self._check_taken(answer.verdict, answer.retry_ms / 1000)

    async def allocate_nameplate(self, *, timeout: float = NAMEPLATE_TIMEOUT) -> int:
        answer = await self._do(NameplateAction.ALLOCATE, 0, timeout)
        if not answer.nameplate:
            raise NotSignaling(self._server)
        return answer.nameplate

    async def claim_nameplate(self, nameplate: int, *, timeout: float = NAMEPLATE_TIMEOUT) -> bytes:
        self._check_open()
        check_nameplate(self._server, nameplate)
        return (await self._do(NameplateAction.CLAIM, nameplate, timeout)).mailbox

    async def release_nameplate(self, *, timeout: float = NAMEPLATE_TIMEOUT) -> None:
        await self._do(NameplateAction.RELEASE, 0, timeout)

    async def close(self) -> None:
        self._to(SignalingState.CLOSED)
        for future in self._answers.values():
            if not future.done():
                future.set_exception(SignalingClosed(self._server))
        task, self._task = self._task, None
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT / 4):
                await self._leave()
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=CLOSE_TIMEOUT / 4)
        await self._drop()

    def credentials(self) -> FromHttp:
        """Relays with time-limited credentials, if the server gives any: to who is connected, for up to a day.

        Raises:
            SignalingClosed: not opened yet, or closed.
        """
        self._check_open()
        base = self._where.base.replace("ws", "http", 1) if self._where.base.startswith("ws") else self._where.base
        return FromHttp(
            f"{base}/v1/credentials",
            bearer=Secret(base64.urlsafe_b64encode(self._token).decode()),
            ssl_context=self._ssl if isinstance(self._ssl, ssl.SSLContext) else None,
            laboratory=base.startswith("http:"),
        )

    # --- keeping connected --------------------------------------------------------------------------------------------

    async def _do(self, action: NameplateAction, nameplate: int, timeout: float) -> NameplateAnswer:
        answer = await self._ask(lambda: self._session.request(action, nameplate), NameplateAnswer, timeout)
        check_outcome(self._server, answer.outcome, answer.retry_ms / 1000)
        return answer

    async def _ask(self, made: Callable[[], Send | NameplateRequest], kind: type[A], timeout: float) -> A:
        """Have something pending, made when its turn comes, and wait for its answer. Raises SignalingTimeout."""
        self._check_open()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._turns:
                self._check_open()
                answer = await self._answer(made())
                assert isinstance(answer, kind)  # the session passes others over
                return answer
        raise SignalingTimeout(self._server)

    async def _answer(self, frame: Send | NameplateRequest) -> Answer | NameplateAnswer:
        future: asyncio.Future[Answer | NameplateAnswer] = asyncio.get_running_loop().create_future()
        self._answers[frame.number] = future
        try:
            with contextlib.suppress(aiohttp.ClientError, OSError):  # the connection is lost; the next one takes it
                await self._write(frame)
            return await future
        finally:
            del self._answers[frame.number]
            self._session.pending.pop(frame.number, None)

    def _answered(self, answer: Answer | NameplateAnswer) -> None:
        if self._session.answered(answer, asyncio.get_running_loop().time()):
            future = self._answers.get(answer.number)
            if future is not None and not future.done():
                future.set_result(answer)

    def _claim(self, challenge: Challenge) -> Claim:
        message = claim_message(self._where.name, challenge.nonce, self._number)
        return Claim(self._where.name, self._number, self._key.public, challenge.nonce, self._key.sign(message))

    async def _run(self) -> None:
        try:
            await self._keep_connected()
        except (MailboxRefused, MailboxReplaced) as error:
            self._failure = error.with_traceback(None)
            self._to(SignalingState.CLOSED)
            for future in self._answers.values():
                if not future.done():
                    future.set_exception(self._failure)
            await self._drop()

    async def _keep_connected(self) -> NoReturn:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            connected_at = loop.time()
            wait = 0.0
            try:
                wait = await self._serve()
            except (MailboxRefused, MailboxReplaced):
                raise
            except Exception:  # noqa: S110 - whatever it was, the connection cannot be used any more
                pass
            self._to(SignalingState.RECONNECTING)
            await self._drop()
            if loop.time() >= connected_at + SETTLED:
                failures = 0
            while True:
                await asyncio.sleep(min(wait, LONGEST_WAIT) + reconnect_delay(failures, random.random()))
                failures += 1
                try:
                    await self._try()
                    break
                except (MailboxRefused, MailboxReplaced):
                    raise
                except SignalingRateLimited as error:
                    wait = error.retry_after
                except SignalingError:
                    wait = 0.0
            self._to(SignalingState.OPEN)

    async def _try(self) -> None:
        """One attempt to connect. Raises SignalingError; what aiohttp raised is not its context."""
        self._http = _http_session()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._connect(self._http)
                return
        except Exception as error:
            failure = failure_of(error, self._server)
        except BaseException:
            await self._drop()
            raise
        await self._drop()
        raise failure

    async def _drop(self) -> None:
        """End the connection without a word."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()


def parse_url(url: str, schemes: Collection[str], laboratory: bool) -> Where:
    """A server's URL. Raises ConfigError."""
    plain, secure = schemes
    try:
        parts = urlsplit(url) if url.isascii() and url.isprintable() and not set(url) & set(' \\"<>') else None
        host, port = (parts.hostname, parts.port) if parts else (None, None)
    except ValueError:
        parts = host = port = None
    if parts is None or not host or len(host) > MAX_NAME or parts.scheme not in schemes:
        raise ConfigError(
            "The URL of the signaling server is not one.", f"Write {secure}://host, or {secure}://host:port."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError("The URL of the signaling server has more than host, port and path.", "Leave the rest out.")
    if parts.scheme == plain and host not in _LOOPBACK and not laboratory:
        raise ConfigError(
            f"The URL of the signaling server has to begin with {secure}://, as it is not on this machine.",
            f"In a laboratory, {plain}:// is allowed everywhere.",
        )
    shown = f"[{host}]" if ":" in host else host
    server = f"{shown}:{port or (80 if parts.scheme == plain else 443)}"
    return Where(f"{parts.scheme}://{server}{parts.path.rstrip('/')}", host, server)


def failure_of(error: Exception, server: str) -> SignalingError:
    """The error of ours that says what a failed connection was about."""
    match error:
        case SignalingError():
            return error.with_traceback(None)
        case TimeoutError():
            return SignalingTimeout(server)
        case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
            return SignalingCertificate(server, "its certificate was refused")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return SignalingCertificate(server, "it did not complete the handshake")
        case aiohttp.ClientConnectorDNSError():
            return SignalingUnreachable(server, "its name is unknown")
        case aiohttp.ClientConnectorError():
            refused = isinstance(error.os_error, ConnectionRefusedError)
            return SignalingRefused(server) if refused else SignalingUnreachable(server)
        case aiohttp.WSServerHandshakeError():
            return failure_of_status(error.status, server)
        case _Redirected():
            return NotSignaling(server, "it redirects, which is not followed")
        case aiohttp.ClientConnectionError() | ConnectionError():
            return SignalingUnreachable(server, "it ended the connection")
        case aiohttp.ClientError() | MalformedMessage():
            return NotSignaling(server)
        case _:
            return SignalingUnreachable(server, type(error).__name__)


def failure_of_status(status: int, server: str, retry_after: float = 1.0) -> SignalingError:
    """The error of ours that stands for a status of HTTP; `retry_after` in seconds."""
    match status:
        case 401:
            return MailboxRefused(server)
        case 408:
            return SignalingTimeout(server)
        case 409:
            return MailboxReplaced(server)
        case 421:
            return SignalingMisnamed(server)
        case 429:
            return SignalingRateLimited(server, retry_after=retry_after)
        case 503:
            return SignalingBusy(server)
    return NotSignaling(server, f"it answered with status {status}")


class _Redirected(Exception):
    """The server sends us elsewhere."""


def _http_session() -> aiohttp.ClientSession:
    async def refuse(*_: object) -> None:
        raise _Redirected

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return aiohttp.ClientSession(
        auto_decompress=False,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "relaycall", "Accept-Encoding": "identity"},
        trace_configs=[trace],
    )
