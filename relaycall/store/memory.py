"""Secrets in this process's memory: for tests and demos. They are gone with it."""

from __future__ import annotations

from relaycall.redact import Secret
from relaycall.store.base import check_name


class MemoryStore:
    """A Store that keeps nothing beyond itself. Keys kept here make a new stranger of us at each start."""

    def __init__(self) -> None:
        self._entries: dict[str, Secret] = {}

    def __repr__(self) -> str:
        return "MemoryStore()"

    async def get(self, name: str) -> Secret | None:
        """The secret, or None."""
        return self._entries.get(check_name(name))

    async def set(self, name: str, secret: Secret) -> None:
        """Keep it, in place of what was there."""
        self._entries[check_name(name)] = secret

    async def remove(self, name: str) -> bool:
        """Forget it. False when there was none of that name."""
        return self._entries.pop(check_name(name), None) is not None

    async def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._entries))
