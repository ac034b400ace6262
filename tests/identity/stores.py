"""Stores for tests: in memory, with ways to fail."""

from __future__ import annotations

import asyncio

from relaycall.errors import StoreError
from relaycall.redact import Secret
from relaycall.store.base import check_name


class MemoryStore:
    """A Store that keeps nothing beyond itself.

    Attributes:
        kept: what is in it.
        listed: names it shows besides.
        writes: how often something was set.
        gate: clear it, and every call waits.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Secret] = {}
        self.listed: set[str] = set()
        self.writes = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, name: str) -> Secret | None:
        await self._turn(name)
        return self.kept.get(name)

    async def set(self, name: str, secret: Secret) -> None:
        await self._turn(name)
        self.writes += 1
        self.kept[name] = secret

    async def remove(self, name: str) -> bool:
        await self._turn(name)
        return self.kept.pop(name, None) is not None

    async def names(self) -> tuple[str, ...]:
        await asyncio.sleep(0)
        return tuple(sorted({*self.kept, *self.listed}))

    async def _turn(self, name: str) -> None:
        check_name(name)
        await asyncio.sleep(0)
        await self.gate.wait()


class DyingStore(MemoryStore):
    """One that fails at a change, and at all later ones until it is revived; it can be read all the time."""

    def __init__(self) -> None:
        super().__init__()
        self._left: int | None = None
        self._written = False

    def dies_after(self, changes: int, *, written: bool = False) -> None:
        """Fail after so many changes. `written`: the changes that fail are made all the same."""
        self._left, self._written = changes, written

    def revive(self) -> None:
        self._left = None

    async def set(self, name: str, secret: Secret) -> None:
        dead = self._is_dead()
        if not dead or self._written:
            await super().set(name, secret)
        if dead:
            raise StoreError

    async def remove(self, name: str) -> bool:
        dead = self._is_dead()
        done = await super().remove(name) if not dead or self._written else False
        if dead:
            raise StoreError
        return done

    def _is_dead(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0
