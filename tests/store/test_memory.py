"""The store in memory."""

from __future__ import annotations

import pytest

from relaycall.errors import ConfigError
from relaycall.redact import Secret
from relaycall.store import Store
from relaycall.store.memory import MemoryStore


async def test_what_is_kept_is_found_replaced_and_forgotten() -> None:
    store: Store = MemoryStore()
    assert await store.get("relay") is None
    await store.set("relay", Secret("first"))
    await store.set("relay", Secret("second"))
    await store.set("identity/me", Secret("keys"))
    found = await store.get("relay")
    assert found is not None
    assert found.reveal() == "second"
    assert await store.names() == ("identity/me", "relay")
    assert await store.remove("relay")
    assert not await store.remove("relay")
    assert await store.get("relay") is None
    assert await store.names() == ("identity/me",)


async def test_stores_are_apart() -> None:
    one, other = MemoryStore(), MemoryStore()
    await one.set("relay", Secret("one's"))
    assert await other.get("relay") is None


@pytest.mark.parametrize("name", ["", "/names", "two words", "a" * 129])
async def test_what_cannot_be_a_name(name: str) -> None:
    """The other stores refuse it too: what works here works there."""
    store = MemoryStore()
    with pytest.raises(ConfigError):
        await store.get(name)
    with pytest.raises(ConfigError):
        await store.set(name, Secret("x"))
    with pytest.raises(ConfigError):
        await store.remove(name)
    assert await store.names() == ()


async def test_it_shows_nothing() -> None:
    store = MemoryStore()
    await store.set("canary-name", Secret("canary-secret"))
    assert repr(store) == str(store) == "MemoryStore()"
