"""What a store of secrets is."""

from __future__ import annotations

import re
from typing import Protocol

from relaycall.errors import ConfigError
from relaycall.redact import Secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*(/[A-Za-z0-9._@+-]+)*")
_LONGEST = 128


class Store(Protocol):
    """Secrets by name. Each call returns or raises a StoreError within seconds, whatever state the store is in.

    A name without a slash is the user's own (relay credentials). Other parts of relaycall keep what they need under a
    name with a slash ("identity/me"), which `relaycall credentials` neither lists nor removes.
    """

    async def get(self, name: str) -> Secret | None:
        """The secret, or None when there is none of that name."""

    async def set(self, name: str, secret: Secret) -> None:
        """Keep it, in place of what was there."""

    async def remove(self, name: str) -> bool:
        """Forget it. False when there was none of that name."""

    async def names(self) -> tuple[str, ...]:
        """All names, sorted."""


def check_name(name: str) -> str:
    """The name itself. Raises ConfigError when it cannot be one."""
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise ConfigError(
            "This cannot be the name of a secret.",
            f"Use up to {_LONGEST} letters, digits and . _ @ + - and begin with a letter or digit.",
        )
    return name
