"""Which store is used: the keyring, the vault, or none, and never plaintext."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backends.fail
import keyring.backends.null
import pytest

from relaycall.errors import ConfigError, StoreLocked, StoreTimeout, StoreUnavailable
from relaycall.redact import Secret
from relaycall.store import keyring_store, open_store
from relaycall.store.keyring_store import KeyringStore
from relaycall.store.opening import vault_path
from relaycall.store.vault import VaultStore
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.store import backends


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("RELAYCALL_VAULT_PASSPHRASE", raising=False)
    before = keyring.core._keyring_backend
    yield
    keyring.core._keyring_backend = before


def never(_: Path) -> Secret:
    raise AssertionError("nobody is to be asked")


async def test_the_keyring_where_there_is_one() -> None:
    keyring.set_keyring(backends.Memory())
    assert isinstance(await open_store(ask=never), KeyringStore)


async def test_the_vault_where_its_passphrase_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAYCALL_VAULT_PASSPHRASE", "passphrase")
    keyring.set_keyring(backends.Locked())  # and whatever state a keyring is in
    store = await open_store(ask=never)
    assert isinstance(store, VaultStore)
    assert store.path == tmp_path / "relaycall" / "vault" == vault_path()
    await store.set("work", Secret("it"))
    assert await VaultStore(store.path, Secret("passphrase")).get("work") == Secret("it")


@pytest.mark.parametrize(
    "absent", [keyring.backends.fail.Keyring, keyring.backends.null.Keyring, backends.PlaintextKeyring]
)
async def test_the_vault_where_somebody_gives_its_passphrase(absent: type, tmp_path: Path) -> None:
    keyring.set_keyring(absent())
    asked = []
    store = await open_store(ask=lambda path: asked.append(path) or Secret("typed"))
    assert isinstance(store, VaultStore)
    assert asked == [tmp_path / "relaycall" / "vault"]
    assert not asked[0].exists()
    with pytest.raises(ConfigError):
        await open_store(ask=lambda _: Secret(""))


async def test_none_where_there_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.set_keyring(keyring.backends.fail.Keyring())
    monkeypatch.setenv("RELAYCALL_VAULT_PASSPHRASE", "")
    with pytest.raises(StoreUnavailable) as caught:
        await open_store()
    for way in ("RELAYCALL_VAULT_PASSPHRASE", "env:NAME", "file:PATH"):
        assert way in caught.value.next_step


async def test_a_locked_or_hanging_keyring_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.set_keyring(backends.Locked())
    with pytest.raises(StoreLocked):
        await open_store(ask=never)
    monkeypatch.setattr(keyring_store.KeyringStore.__init__, "__kwdefaults__", {"timeout": 0.2})
    hanging = backends.Hanging()
    keyring.set_keyring(hanging)
    try:
        with pytest.raises(StoreTimeout):
            await open_store(ask=never)
    finally:
        hanging.released.set()
