"""Checks of this machine: what is installed, the store of secrets, and the clock."""

from __future__ import annotations

import email.utils
import http.client
import platform
import ssl
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

from relaycall.config import Settings, reveal
from relaycall.diagnosis.finding import Cause, Finding, Status, failed, ok
from relaycall.errors import RelaycallError, StoreError, StoreUnavailable
from relaycall.store import Store, open_store
from relaycall.worker import Worker

AIORTC = "1.16."  # whose private names are known
OLDEST_OPENSSL = (3, 0)  # older ones get no fixes any more
SKEW = 30.0  # seconds a clock may be wrong without a word
WRONG_CLOCK = 120.0  # seconds beyond which time-limited credentials and calls may be refused
CLOCK_TIMEOUT = 5.0  # seconds
INSTALL = "Install relaycall again: pip install --upgrade relaycall."


def check_versions() -> Finding:
    """Python and the packages that calls depend on."""
    found, missing = [f"Python {platform.python_version()}"], []
    for name in ("aiortc", "av", "cryptography"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        sentence = f"{', '.join(missing)} cannot be found; there is {', '.join(found)}."
        return Finding("versions", Status.FAIL, sentence, INSTALL, Cause.INSTALLATION, exit_code=6)
    text = ", ".join(found)
    if f"aiortc {AIORTC}" not in text:
        sentence = f"{text}: this aiortc is not one that relaycall is made for."
        return Finding("versions", Status.WARN, sentence, INSTALL, Cause.INSTALLATION)
    return ok("versions", f"{text}.")


def check_openssl() -> Finding:
    """Python's OpenSSL, which TLS to relays uses, and the one inside cryptography, which aiortc's DTLS uses."""
    try:
        from cryptography.hazmat.backends.openssl.backend import backend

        other = backend.openssl_version_text()
    except Exception as error:  # a broken installation may raise anything
        sentence = f"cryptography cannot be loaded ({type(error).__name__})."
        return Finding("openssl", Status.FAIL, sentence, INSTALL, Cause.INSTALLATION, exit_code=6)
    text = f"Python's ssl has {ssl.OPENSSL_VERSION}, cryptography and aiortc have {other}."
    if ssl.OPENSSL_VERSION_INFO < OLDEST_OPENSSL:
        step = "Use a Python that is built with OpenSSL 3."
        return Finding("openssl", Status.WARN, f"{text} The first is old.", step, Cause.INSTALLATION)
    return ok("openssl", text)


async def check_store(settings: Settings | None) -> tuple[Finding, Store | None]:
    """The keyring or vault, which has to be there only if something configured is kept in it."""
    needed = settings is not None and any(_is_kept(line.value) for line in settings.shown())
    try:
        store = await open_store()
        await store.names()
    except StoreError as error:
        if needed:
            return failed("keyring", error, Cause.STORE), None
        note = " Nothing that is configured is kept there."
        absent = isinstance(error, StoreUnavailable)
        return Finding(
            "keyring",
            Status.OK if absent else Status.WARN,
            error.sentence + note,
            "" if absent else error.next_step,
            Cause.NONE if absent else Cause.STORE,
        ), None
    return ok("keyring", "The store of secrets can be read."), store


def _is_kept(value: object) -> bool:
    return isinstance(value, str) and value.startswith("keyring:")


async def check_clock(
    settings: Settings | None, *, store: Store | None = None, clock: Callable[[], float] = time.time
) -> Finding:
    """This machine's clock, by the Date of an endpoint's HTTPS server; nobody else is asked."""
    if settings is None or not settings.endpoints:
        return ok("clock", "Not checked: there is no HTTPS endpoint configured to compare it with.")
    try:
        url = (await reveal(settings.endpoints[0].url, store=store)).reveal()
        laboratory, asked = settings.laboratory, clock()
        date = await Worker("relaycall-clock").run(lambda: _date_of(url, laboratory), CLOCK_TIMEOUT)
    except (RelaycallError, TimeoutError):
        date = None
    if date is None:
        return ok("clock", "Not checked: the configured endpoint did not tell the time.")
    skew = date - (asked + clock()) / 2
    sentence = f"The clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead'}, by the configured endpoint."
    step = "Let the system set its clock by the network (NTP)."
    if abs(skew) > WRONG_CLOCK:
        return Finding("clock", Status.FAIL, sentence, step, Cause.CLOCK, exit_code=6)
    if abs(skew) > SKEW:
        return Finding("clock", Status.WARN, sentence, step, Cause.CLOCK)
    return ok("clock", "The clock is right, by the configured endpoint.")


def _date_of(url: str, laboratory: bool) -> float | None:
    """Unix time by the server's Date header. The path, which may hold a key, is not sent."""
    try:
        parts = urlsplit(url)
        if parts.scheme != "https" and not laboratory:
            return None
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=CLOCK_TIMEOUT)
        try:
            connection.request("HEAD", "/")
            date = connection.getresponse().getheader("Date")
        finally:
            connection.close()
        return email.utils.parsedate_to_datetime(date).timestamp() if date else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
