"""What is configured, and where each value came from.

Each setting is taken whole from the first place that has it; what the places behind that say is checked all the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from relaycall.config.entries import TYPES, EndpointEntry, Given, RelayEntry
from relaycall.config.places import FILE_VARIABLE, from_arguments, from_environment, from_file, user_file
from relaycall.errors import ConfigError
from relaycall.redact import Secret
from relaycall.relays.server import RelayServer
from relaycall.store import Store, resolve_secret

_REFERENCE = re.compile(r"(keyring|env|file):.+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """One relay, or one by several ways, as configured.

    Attributes:
        urls: `turn:` and `turns:` URIs.
        username, credential: long-term credentials. The latter may be a reference; if that is `keyring:NAME`, the user
            name may be the one kept there.
        shared_secret: in their place, what time-limited credentials are made from; it may be a reference.
        ttl: seconds that those hold.
        tls_name, region, operator: as in `RelayServer`.
    """

    urls: tuple[str, ...]
    username: str | None = field(default=None, repr=False)
    credential: Secret | None = None
    shared_secret: Secret | None = None
    ttl: int = 86400
    tls_name: str | None = None
    region: str | None = None
    operator: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """An HTTP endpoint that gives relays with credentials. The secrets in it may be references.

    Attributes:
        url: https; it may hold a key.
        method: "GET", or "POST" with `body` as JSON.
        bearer: a token for the Authorization header.
        headers: more headers.
    """

    url: Secret
    method: str = "GET"
    bearer: Secret | None = None
    headers: Mapping[str, Secret] = field(default_factory=dict)
    body: Mapping[str, object] | None = field(default=None, repr=False)


class ShownSetting(NamedTuple):
    """One value as people may see it: the path of its key, the value, and where it came from."""

    key: str
    value: object
    source: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What is configured. `load` reads it.

    Attributes:
        relays, endpoints: the relays, and where to fetch more.
        username, credential: for the relays that have none of their own.
        laboratory: allow relays on loopback and private addresses.
        force_turn: always true: relaycall has no other way than relays.
        sources: where those that are set came from, by name.
    """

    relays: tuple[RelaySettings, ...] = ()
    endpoints: tuple[EndpointSettings, ...] = ()
    username: str | None = field(default=None, repr=False)
    credential: Secret | None = None
    laboratory: bool = False
    force_turn: bool = True
    sources: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        *,
        relays: Sequence[str] | None = None,
        username: str | None = None,
        credential: Secret | str | None = None,
        laboratory: bool | None = None,
        force_turn: bool | None = None,
        file: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Read them from everywhere.

        Args:
            relays, username, credential, laboratory, force_turn: what they are, whatever else is configured; None
                leaves it to the other places. `relays` are URIs.
            file: TOML (.toml), JSON (.json) or YAML (.yaml, .yml); by default what RELAYCALL_CONFIG names, if anything.
            environ: the environment; by default the process's.

        Raises:
            ConfigError: names the key, variable or file that is wrong. `force_turn` that is false is wrong.
            ExtraMissing: a YAML file, without the extra `yaml`.
        """
        environ = os.environ if environ is None else environ
        given = from_arguments(
            {
                "relays": relays,
                "username": username,
                "credential": credential.reveal() if isinstance(credential, Secret) else credential,
                "laboratory": laboratory,
                "force_turn": force_turn,
            }
        )
        given += from_environment(environ)
        if file is not None or environ.get(FILE_VARIABLE):
            given += from_file(file or Path(environ[FILE_VARIABLE]))
        if user_file().exists():
            given += from_file(user_file())
        found: dict[str, Given] = {}
        for one in given:
            checked = one.checked()
            parsed = checked._replace(value=_PARSERS.get(one.name, _as_it_is)(checked))
            found.setdefault(one.name, parsed)
        _check_login(found)
        values = {name: one.value for name, one in found.items()}
        return cls(**values, sources=MappingProxyType({name: one.source for name, one in found.items()}))

    def shown(self) -> list[ShownSetting]:
        """Everything with where it came from: secrets and user names as `***`, references as they stand."""
        return [
            ShownSetting(key, value, self.sources.get(name, "default"))
            for name in TYPES
            for key, value in _rows(name, getattr(self, name))
        ]


async def reveal(given: Secret, *, store: Store | None = None) -> Secret:
    """The secret that a setting stands for: what the reference leads to, or itself.

    Raises:
        ConfigError, StoreError: as `resolve_secret`.
    """
    text = given.reveal()
    return await resolve_secret(text, store=store) if _REFERENCE.fullmatch(text) else given


def _as_it_is(given: Given) -> Any:
    return given.value


def _relays(given: Given) -> tuple[RelaySettings, ...]:
    return tuple(_relay(given, f"[{number}]", entry) for number, entry in enumerate(given.value))


def _relay(given: Given, at: str, entry: RelayEntry) -> RelaySettings:
    """One entry of `relays`, checked as a whole. Raises ConfigError."""
    urls = [entry.urls] if isinstance(entry.urls, str) else entry.urls
    if not urls:
        raise given.wrong(f"{at}.urls", "is empty")
    for name in ("username", "credential", "shared_secret"):
        if getattr(entry, name) == "":
            raise given.wrong(f"{at}.{name}", "is empty")
    for number, url in enumerate(urls):
        below = at if given.source in ("argument", "environment") else f"{at}.urls"
        _accepted(given, below if isinstance(entry.urls, str) else f"{below}[{number}]", url)
    for name in ("username", "tls_name", "region", "operator"):
        _accepted(given, f"{at}.{name}", urls[0], **{name: getattr(entry, name)})
    if entry.shared_secret is not None and (entry.username is not None or entry.credential is not None):
        raise given.wrong(f"{at}.shared_secret", "cannot stand beside a username or credential")
    if entry.username is not None and entry.credential is None:
        raise given.wrong(f"{at}.credential", "is missing")
    if entry.credential is not None and entry.username is None and not entry.credential.startswith("keyring:"):
        raise given.wrong(f"{at}.username", "is missing")
    return RelaySettings(
        tuple(urls),
        entry.username,
        _secret(entry.credential),
        _secret(entry.shared_secret),
        entry.ttl,
        entry.tls_name,
        entry.region,
        entry.operator,
    )


def _accepted(given: Given, below: str, url: str, **attributes: Any) -> None:
    """Raises ConfigError, naming the key, for what a relay cannot have."""
    try:
        RelayServer.parse(url, **attributes)
        return
    except ConfigError as error:
        sentence, next_step = error.sentence, error.next_step
    raise given.wrong(below, f"is not usable: {sentence[0].lower()}{sentence[1:].rstrip('.')}", next_step)


def _endpoints(given: Given) -> tuple[EndpointSettings, ...]:
    return tuple(_endpoint(given, f"[{number}]", entry) for number, entry in enumerate(given.value))


def _endpoint(given: Given, at: str, entry: EndpointEntry) -> EndpointSettings:
    """One entry of `endpoints`. What its URL and headers may be is checked where they are used: they may be references.
    Raises ConfigError.
    """
    if entry.method not in ("GET", "POST"):
        raise given.wrong(f"{at}.method", "has to be GET or POST")
    if entry.method == "GET" and entry.body is not None:
        raise given.wrong(f"{at}.body", "takes the method POST")
    if not _REFERENCE.fullmatch(entry.url) and _origin(entry.url) is None:
        raise given.wrong(f"{at}.url", "has to be an https URL")
    headers = {name: Secret(value) for name, value in entry.headers.items()}
    return EndpointSettings(Secret(entry.url), entry.method, _secret(entry.bearer), headers, entry.body)


def _check_login(found: Mapping[str, Given]) -> None:
    """Raises ConfigError if there is half of the user name and credential for all relays."""
    username, credential = found.get("username"), found.get("credential")
    if username is not None and credential is None:
        raise username.wrong("", "has no credential beside it")
    if credential is not None and username is None and not credential.value.reveal().startswith("keyring:"):
        raise credential.wrong("", "has no username beside it")


_PARSERS: dict[str, Callable[[Given], Any]] = {
    "relays": _relays,
    "endpoints": _endpoints,
    "credential": lambda given: Secret(given.value),
}


def _secret(text: str | None) -> Secret | None:
    return None if text is None else Secret(text)


def _origin(url: str) -> str | None:
    """Scheme and host of an http or https URL, the part that holds no key; None for anything else."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    return f"{parts.scheme}://{host}" if parts.scheme in ("http", "https") and host else None


def _rows(key: str, value: Any) -> Iterator[tuple[str, object]]:
    """A value for people to see, line by line: lists and tables by the paths of what they hold."""
    name = key.rpartition(".")[2]
    if isinstance(value, Secret):
        text = value.reveal()
        reference = _REFERENCE.fullmatch(text) is not None and text.isprintable()
        origin = _origin(text) if name == "url" else None
        yield key, text if reference else f"{origin}/***" if origin else "***"
    elif isinstance(value, RelaySettings | EndpointSettings):
        for attribute in value.__dataclass_fields__:
            held = getattr(value, attribute)
            unused = attribute == "ttl" and getattr(value, "shared_secret", None) is None
            if held is not None and held != {} and not unused:
                yield from _rows(f"{key}.{attribute}", held)
    elif isinstance(value, tuple) and value and name != "urls":
        for number, held in enumerate(value):
            yield from _rows(f"{key}[{number}]", held)
    elif isinstance(value, Mapping) and name == "headers":
        for header, held in value.items():
            yield from _rows(f"{key}.{header}", held)
    elif name in ("username", "body") and value is not None:
        yield key, "***"
    else:
        yield key, list(value) if isinstance(value, tuple) else value
