"""A relay as the user names it: a `turn:` or `turns:` URI (RFC 7065) with its credentials."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field, replace
from typing import Literal

from relaycall.errors import ConfigError
from relaycall.redact import Secret

Transport = Literal["udp", "tcp", "tls"]

_URI = re.compile(r"(?P<scheme>[^:]*):(?P<host>\[[^\]]*\]|[^:?\[\]]*)(?::(?P<port>[^?]*))?(?:\?(?P<query>.*))?", re.S)
_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
_USERNAME_SIZE = 508  # bytes (RFC 8489, section 14.3)
_EXAMPLE = "Write it as turn:relay.example.org:3478?transport=udp or turns:relay.example.org:5349."


@dataclass(frozen=True, slots=True)
class RelayServer:
    """One relay over one transport.

    Attributes:
        host: a name, or an IP literal without brackets.
        port: 1 to 65535.
        transport: "udp", "tcp", or "tls" (TURN over TLS over TCP).
        username, password: long-term credentials (RFC 8489, section 9.2).
        tls_name: the name the certificate must carry, when `host` is a pinned address.
        ssl_context: a TLS context of the caller's; the default one trusts the system's authorities.
        region, operator: where it stands and who runs it, in the user's own words; a backup is chosen by them. They are
            no part of what the relay is: two that differ in them alone are equal.

    Raises:
        ConfigError: a user name or password that cannot be sent; a `tls_name` that no certificate can carry; a label
            that is not 1 to 64 printable characters.
    """

    host: str
    port: int
    transport: Transport = "udp"
    username: str | None = field(default=None, repr=False)
    password: Secret | None = field(default=None, repr=False)
    tls_name: str | None = None
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    region: str | None = field(default=None, compare=False)
    operator: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for text in (self.username, self.password.reveal() if self.password else None):
            if text is not None and any("\ud800" <= character <= "\udfff" for character in text):
                raise ConfigError("The relay's user name or password is not text that UTF-8 can hold.")
        if self.username is not None and len(self.username.encode()) > _USERNAME_SIZE:
            raise ConfigError(f"The relay's user name is longer than {_USERNAME_SIZE} bytes.")
        if self.tls_name is not None and not (_NAME.fullmatch(self.tls_name) or _is_literal(self.tls_name)):
            raise ConfigError("The relay's tls_name is not a host name or an address.")
        for what, label in (("region", self.region), ("operator", self.operator)):
            if label is not None and not (1 <= len(label) <= 64 and label.isprintable()):
                raise ConfigError(f"The relay's {what} is not a label of 1 to 64 printable characters.")

    @classmethod
    def parse(
        cls,
        uri: str,
        *,
        username: str | None = None,
        password: Secret | str | None = None,
        tls_name: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        region: str | None = None,
        operator: str | None = None,
    ) -> RelayServer:
        """Read a URI. Default ports: 3478, and 5349 for `turns:`; default transport: UDP, and TLS for `turns:`.

        The other arguments are the attributes of the same name. To pin a relay's address, give that in the URI, and
        the name that its certificate carries as `tls_name`.

        Raises:
            ConfigError: names the part that is wrong.
        """
        found = _URI.fullmatch(uri)
        scheme = found["scheme"].lower() if found else ""
        if not found or scheme not in ("turn", "turns"):
            raise ConfigError("A relay's URI has to start with turn: or turns:.", _EXAMPLE)
        if "@" in uri:
            raise ConfigError("A relay's URI holds no user name or password.", "Give them apart from the URI.")
        host = _host(found["host"])
        port = _port(found["port"], 5349 if scheme == "turns" else 3478)
        transport = _transport(scheme, found["query"])
        return cls(host, port, transport, username, _secret(password), tls_name, ssl_context, region, operator)

    @property
    def name(self) -> str:
        """The URI, as messages and tables name this relay; without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.transport == "tls":
            return f"turns:{host}:{self.port}?transport=tcp"
        return f"turn:{host}:{self.port}?transport={self.transport}"

    def with_credentials(self, username: str, password: Secret | str) -> RelayServer:
        """The same relay with these credentials."""
        return replace(self, username=username, password=_secret(password))


def is_host_name(text: str) -> bool:
    """Whether this is a host name: not an address, and nothing more than a name."""
    return bool(_NAME.fullmatch(text)) and not _is_literal(text)


def _is_literal(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _secret(password: Secret | str | None) -> Secret | None:
    return Secret(password) if isinstance(password, str) else password


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            ip = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            ip = None
        if ip is None or ip.scope_id is not None:
            raise ConfigError("The host of the relay's URI is not an IPv6 address.", _EXAMPLE)
        return str(ip)
    if not text:
        raise ConfigError("The relay's URI has no host.", _EXAMPLE)
    if not _NAME.fullmatch(text):
        raise ConfigError("The host of the relay's URI is not a host name or an address.", _EXAMPLE)
    return text


def _port(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ConfigError("The port of the relay's URI is not a number from 1 to 65535.", _EXAMPLE)
    return int(text)


def _transport(scheme: str, query: str | None) -> Transport:
    if query is None:
        return "tls" if scheme == "turns" else "udp"
    found = re.fullmatch(r"transport=(udp|tcp)", query, re.IGNORECASE)
    if not found:
        raise ConfigError("After the ? of a relay's URI only transport=udp or transport=tcp may stand.", _EXAMPLE)
    transport = found[1].lower()
    if scheme == "turns":
        if transport == "udp":
            raise ConfigError("TURN over DTLS (turns: with transport=udp) is not supported.", "Use transport=tcp.")
        return "tls"
    return "tcp" if transport == "tcp" else "udp"
