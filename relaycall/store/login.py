"""How a user name and its password are kept under one name, so that they change together."""

from __future__ import annotations

import json
from typing import NamedTuple

from relaycall.redact import Secret

_FIELDS = {"username", "password"}


class StoredLogin(NamedTuple):
    """What is kept under a name: a password with its user name, or a secret alone, whose `username` is None."""

    username: str | None
    password: Secret

    def __repr__(self) -> str:
        return "<stored login>"


def encode_login(login: StoredLogin) -> Secret:
    """A secret alone is kept as it is, a login as JSON."""
    if login.username is None:
        return login.password
    return Secret(json.dumps({"username": login.username, "password": login.password.reveal()}))


def decode_login(kept: Secret) -> StoredLogin:
    """The reverse. Whatever is not a login is a secret alone: other programs may have put it there."""
    try:
        found = json.loads(kept.reveal())
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and set(found) == _FIELDS and all(isinstance(value, str) for value in found.values()):
        return StoredLogin(found["username"], Secret(found["password"]))
    return StoredLogin(None, kept)
