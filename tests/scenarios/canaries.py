"""Canaries: values that must not be found in certain places, in every form they could take there."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import gc
import ipaddress
import pickle
import re
import socket
import traceback
import types
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from relaycall.stun.attributes import MAGIC_COOKIE

T = TypeVar("T")

_party: contextvars.ContextVar[Canaries | None] = contextvars.ContextVar("canaries", default=None)


@dataclass
class Canaries:
    """What must not be seen of one party.

    Attributes:
        host: the address its sockets have; no one else's here.
        ports: theirs.
        secrets: by name; text or bytes.
    """

    host: str
    ports: set[int] = field(default_factory=set)
    secrets: dict[str, str | bytes] = field(default_factory=dict)

    async def sends(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine whose sockets shall have this party's address."""
        token = _party.set(self)
        try:
            task = asyncio.ensure_future(coroutine)
        finally:
            _party.reset(token)
        return await task

    def address_in(self, data: bytes) -> list[str]:
        """Which forms of the address are in there."""
        packed = ipaddress.ip_address(self.host).packed
        masked = (int.from_bytes(packed, "big") ^ MAGIC_COOKIE).to_bytes(4, "big")
        forms = {"host": self.host.encode(), "host in binary": packed, "host as STUN masks it": masked}
        found = [name for name, form in forms.items() if form in data]
        return found + [f"port {port}" for port in self.ports if re.search(rb"(?<!\d)%d(?!\d)" % port, data)]

    def secrets_in(self, data: bytes, *, but: tuple[str, ...] = ()) -> list[str]:
        """Which of the secrets are in there, as they are or as hex, base64 or a Python literal."""
        return [
            name
            for name, secret in self.secrets.items()
            if name not in but and any(form in data for form in _forms(secret))
        ]

    def in_text(self, text: str) -> list[str]:
        """Everything that is in there."""
        return self.address_in(text.encode(errors="replace")) + self.secrets_in(text.encode(errors="replace"))


def _forms(secret: str | bytes) -> Iterator[bytes]:
    raw = secret.encode() if isinstance(secret, str) else secret
    yield raw
    yield raw[:12].hex().encode()
    yield base64.b64encode(raw[:12])
    yield repr(raw)[2:-1].encode()


def bind_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the sockets of each party (see `Canaries.sends`) that party's address."""

    class Bound(socket.socket):
        def connect(self, address: Any) -> None:
            party = _party.get()
            if party is not None:
                self.bind((party.host, 0))
                party.ports.add(self.getsockname()[1])
            super().connect(address)

    names = {**vars(socket), "socket": Bound}
    monkeypatch.setattr("relaycall.ice.sockets.socket", types.SimpleNamespace(**names))


def shown_by(error: BaseException) -> str:
    """All that an error can show, what it was raised from included, and what it is when pickled."""
    shown = [*traceback.format_exception(error)]
    at: BaseException | None = error
    while at is not None:
        shown += [str(at), repr(at), repr(at.args), repr(getattr(at, "__dict__", {}))]
        shown.append(pickle.dumps(at).decode("latin-1"))
        at = at.__cause__ or at.__context__
    return "\n".join(shown)


def shown_by_objects() -> dict[str, str]:
    """What every living object of the package shows of itself, by type."""
    shown: dict[str, str] = {}
    for found in gc.get_objects():
        kind = type(found)
        if kind.__module__.partition(".")[0] == "relaycall":
            name = f"{kind.__module__}.{kind.__qualname__}"
            shown[name] = f"{shown.get(name, '')}{found!r} {found!s} {found}\n"
    return shown
