"""Where the user name and password for a relay come from.

Whoever holds an allocation renews it by asking its source again before `expires_at`, and making a new allocation with
the answer before the old one ends.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from relaycall.errors import ConfigError, SecretMissing
from relaycall.redact import Secret
from relaycall.store import Store, open_store
from relaycall.store.base import check_name
from relaycall.store.login import decode_login
from relaycall.stun.turn_auth import rest_password

LONGEST_TTL = 366 * 86400


@dataclass(frozen=True, slots=True)
class RelayCredentials:
    """Long-term credentials (RFC 8489, section 9.2). Neither repr nor pickle has them.

    Attributes:
        expires_at: Unix time in seconds after which a relay refuses them, or None.
    """

    username: str = field(repr=False)
    password: Secret
    expires_at: float | None = None


class CredentialsSource(Protocol):
    """Gives credentials each time they are asked for."""

    async def credentials(self) -> RelayCredentials:
        """Credentials that hold now, and for a while. Raises a RelaycallError."""


class Static:
    """The same user name and password for ever.

    Args:
        username, password: as the relay's operator gave them.
    """

    def __init__(self, username: str, password: Secret | str) -> None:
        password = Secret(password) if isinstance(password, str) else password
        self._credentials = RelayCredentials(username, password)

    async def credentials(self) -> RelayCredentials:
        """The two."""
        return self._credentials


class FromStore:
    """The user name and password that `relaycall credentials set NAME` kept, read each time.

    Args:
        name: under which they are kept.
        store: where; by default what `open_store` gives.

    Raises:
        ConfigError: that cannot be a name.
    """

    def __init__(self, name: str, store: Store | None = None) -> None:
        self._name = check_name(name)
        self._store = store

    def __repr__(self) -> str:
        return f"FromStore({self._name!r})"

    async def credentials(self) -> RelayCredentials:
        """The two as they are kept now.

        Raises:
            SecretMissing: there is nothing of that name, or it has no user name.
            StoreError: the store cannot be used.
        """
        if self._store is None:
            self._store = await open_store()
        kept = await self._store.get(self._name)
        if kept is None:
            raise SecretMissing(f"Nothing is kept under the name {self._name}.")
        login = decode_login(kept)
        if login.username is None:
            raise SecretMissing(
                f"What is kept under the name {self._name} has no user name.",
                f"Set it again, with one: relaycall credentials set {self._name}.",
            )
        return RelayCredentials(login.username, login.password)


class TimeLimited:
    """Credentials minted here from the secret that a relay shares (coturn's `static-auth-secret`).

    The user name is `expiry:random`. It names nobody, and no two are alike, so that relays cannot tell by it who comes
    back.

    Args:
        secret: the shared one.
        ttl: seconds they hold.
        clock: gives Unix time in seconds. A relay compares the expiry with its own clock.

    Raises:
        ConfigError: the secret is empty, or `ttl` is not between a second and a year.
    """

    def __init__(self, secret: Secret, ttl: float = 86400, clock: Callable[[], float] = time.time) -> None:
        if not secret.reveal():
            raise ConfigError("The shared secret is empty.", "Give the relay's static-auth-secret.")
        if not 1 <= ttl <= LONGEST_TTL:
            raise ConfigError("The time credentials hold must be between a second and a year.")
        self._secret = secret
        self._ttl = ttl
        self._clock = clock

    def __repr__(self) -> str:
        return f"TimeLimited(ttl={self._ttl!r})"

    def mint(self) -> RelayCredentials:
        """New ones."""
        expiry = int(self._clock() + self._ttl)
        username = f"{expiry}:{secrets.token_hex(8)}"
        return RelayCredentials(username, Secret(rest_password(self._secret.reveal(), username)), float(expiry))

    async def credentials(self) -> RelayCredentials:
        """New ones, each time."""
        return self.mint()
