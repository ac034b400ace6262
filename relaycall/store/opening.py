"""Which store this machine uses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from relaycall.errors import StoreUnavailable
from relaycall.redact import Secret
from relaycall.store.base import Store
from relaycall.store.keyring_store import KeyringStore
from relaycall.store.vault import VaultStore

PASSPHRASE = "RELAYCALL_VAULT_PASSPHRASE"  # noqa: S105 - the name of the variable


async def open_store(*, ask: Callable[[Path], Secret] | None = None) -> Store:
    """The vault if its passphrase is in the environment, else the keyring, else the vault if `ask` gives a passphrase.

    The variable comes first, so that who sets it gets the vault even where a keyring hangs.

    Args:
        ask: asks a person for the passphrase of the vault at this path, which may not exist yet.

    Raises:
        StoreUnavailable: no keyring, and no passphrase.
        StoreLocked, StoreTimeout: there is a keyring, and it is locked or hangs. The vault does not take its place:
            what is kept must not depend on what is locked at the moment.
    """
    passphrase = os.environ.get(PASSPHRASE)
    if passphrase:
        return VaultStore(vault_path(), Secret(passphrase))
    keyring = KeyringStore()
    try:
        await keyring.names()
    except StoreUnavailable as error:
        unavailable = error
    else:
        return keyring
    if ask is None:
        raise unavailable
    path = vault_path()
    return VaultStore(path, ask(path))


def vault_path() -> Path:
    """Where the vault is: the user's data folder."""
    import platformdirs

    return platformdirs.user_data_path("relaycall", appauthor=False) / "vault"
