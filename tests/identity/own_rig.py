"""For the tests of our own keys in a store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import keyring
import pytest

from relaycall.errors import StoreError
from relaycall.identity import own
from relaycall.identity.prekeys import ROTATE_AFTER
from relaycall.redact import Secret
from relaycall.store import vault
from relaycall.store.vault_format import LOWEST

NOW = 1_700_000_000.5
WEEK = ROTATE_AFTER
URL = "wss://signal.example.org"


class MemoryStore:
    """A store that can take its time and can fail."""

    def __init__(self) -> None:
        self.kept: dict[str, Secret] = {}
        self.written: list[str] = []
        self.pause: Callable[[], float] = lambda: 0.0
        self.failure: StoreError | None = None

    async def get(self, name: str) -> Secret | None:
        await asyncio.sleep(self.pause())
        return self.kept.get(name)

    async def set(self, name: str, secret: Secret) -> None:
        await asyncio.sleep(self.pause())
        if self.failure:
            raise self.failure
        self.written.append(name)
        self.kept[name] = secret

    async def remove(self, name: str) -> bool:
        return self.kept.pop(name, None) is not None

    async def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.kept))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No waiting, a cheap vault, and the keyring as it was before."""
    before = keyring.core._keyring_backend
    monkeypatch.setattr(vault, "COST", LOWEST)
    monkeypatch.setattr(own, "SETTLE", 0.0)
    yield
    keyring.core._keyring_backend = before
