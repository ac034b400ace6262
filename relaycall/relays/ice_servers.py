"""What a credentials endpoint answers: the `iceServers` of W3C's WebRTC, section 4.2, as relays with credentials.

Three shapes are in use, and all are read: `{"iceServers": [...]}` or with a single server in place of the list
(Cloudflare), `{"ice_servers": [...], "ttl": "86400"}` (Twilio), and the list alone (Metered).
"""

from __future__ import annotations

import re

import msgspec

from relaycall.errors import ConfigError
from relaycall.redact import Secret
from relaycall.relays.server import RelayServer

MAX_RELAYS = 32
_MAX_USERNAME = 513  # bytes (RFC 8489, section 14.3)
_EXPIRY = re.compile(r"([0-9]{1,12})(:.*)?", re.DOTALL | re.ASCII)


class _Entry(msgspec.Struct):
    """RTCIceServer. What else stands there is not looked at."""

    urls: str | list[str]
    username: str | None = None
    credential: str | None = None
    credential_type: str = msgspec.field(default="password", name="credentialType")

    __repr__ = object.__repr__


class _Answer(msgspec.Struct):
    ice_servers: list[_Entry] | _Entry | None = msgspec.field(default=None, name="iceServers")
    twilio: list[_Entry] | None = msgspec.field(default=None, name="ice_servers")
    ttl: float | str | None = None

    __repr__ = object.__repr__


_decoder: msgspec.json.Decoder[_Answer | list[_Entry]] = msgspec.json.Decoder(_Answer | list[_Entry])


class AnswerRefused(Exception):
    """The answer breaks a rule, which is the argument; nothing of the answer is in it."""


def decode_ice_servers(body: bytes) -> tuple[list[RelayServer], float | None]:
    """The relays, in the order given, and the seconds the answer says they hold. STUN servers are left out.

    Raises:
        AnswerRefused: the rule that is broken.
    """
    try:
        answer = _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        answer = None
    if answer is None:
        raise AnswerRefused("it is not JSON of that shape")
    if isinstance(answer, _Answer):
        found, ttl = answer.ice_servers if answer.ice_servers is not None else answer.twilio, _ttl(answer.ttl)
    else:
        found, ttl = answer, None
    entries = found if isinstance(found, list) else [found] if found is not None else []
    relays = [relay for entry in entries for relay in _relays(entry)]
    if not relays:
        raise AnswerRefused("it names no TURN server")
    if len(relays) > MAX_RELAYS:
        raise AnswerRefused(f"it names more than {MAX_RELAYS} TURN servers")
    return relays, ttl


def expiry_of(username: str) -> int | None:
    """The Unix time in a time-limited user name (`expiry[:anything]`), or None in any other."""
    found = _EXPIRY.fullmatch(username)
    # Before 2001 it is no time but a number that is somebody's name.
    return int(found[1]) if found and int(found[1]) >= 1_000_000_000 else None


def _relays(entry: _Entry) -> list[RelayServer]:
    urls = [entry.urls] if isinstance(entry.urls, str) else entry.urls
    urls = [url for url in urls if not url.lower().startswith(("stun:", "stuns:"))]
    if not urls:
        return []
    if entry.credential_type != "password":
        raise AnswerRefused("a TURN server wants another kind of credential than a password")
    if not entry.username or not entry.credential:
        raise AnswerRefused("a TURN server has no user name or no credential")
    if len(entry.username.encode()) > _MAX_USERNAME:
        raise AnswerRefused("a user name is too long")
    password = Secret(entry.credential)
    relays = []
    for url in urls:
        try:
            relays.append(RelayServer.parse(url, username=entry.username, password=password))
        except ConfigError as error:
            rule = error.sentence
            break
    else:
        return relays
    raise AnswerRefused(rule[0].lower() + rule[1:].rstrip("."))


def _ttl(given: float | str | None) -> float | None:
    """Seconds; Twilio gives them as text."""
    if given is None:
        return None
    if isinstance(given, str):
        if not re.fullmatch(r"[0-9]{1,12}", given, re.ASCII):
            raise AnswerRefused("its ttl is not a number")
        given = float(given)
    if not given >= 1:
        raise AnswerRefused("its ttl is not a number of seconds")
    return given
