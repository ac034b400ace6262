"""Secrets by reference, so that configuration files and arguments hold none."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from relaycall.errors import ConfigError, SecretMissing, StoreTimeout
from relaycall.redact import Secret
from relaycall.store.base import Store, check_name
from relaycall.store.login import decode_login
from relaycall.store.opening import open_store
from relaycall.worker import Worker

READ_TIMEOUT = 3.0  # seconds; the file may be a pipe, or on a dead network disk
_MAX_FILE = 65536


async def resolve_secret(reference: str, *, store: Store | None = None) -> Secret:
    """The secret that a reference stands for.

    Args:
        reference: `keyring:NAME` (the store, whether keyring or vault), `env:NAME` (an environment variable), or
            `file:PATH` (a file with one line).
        store: where `keyring:` looks; by default what `open_store` gives.

    Raises:
        ConfigError: it is no reference (what it is is not repeated: it may be a secret), the variable is not set, or
            the file cannot be used.
        SecretMissing: the store has nothing of that name.
        StoreError: the store cannot be used.
    """
    kind, _, name = reference.partition(":")
    if kind == "keyring" and name:
        kept = await (store or await open_store()).get(check_name(name))
        if kept is None:
            raise SecretMissing(f"Nothing is kept under the name {name}.")
        return decode_login(kept).password
    if kind == "env" and name:
        value = os.environ.get(name)
        if not value:
            raise ConfigError(f"The environment variable {name} is not set.", "Set it to the secret.")
        return Secret(value)
    if kind == "file" and name:
        with contextlib.suppress(TimeoutError):
            return await Worker("relaycall-file").run(lambda: read_secret_file(Path(name)), READ_TIMEOUT)
        raise StoreTimeout(f"The file {name} could not be read in time.", "Check that it is not a waiting pipe.")
    raise ConfigError("A secret has to be given as a reference.", "Write keyring:NAME, env:NAME or file:PATH.")


def read_secret_file(path: Path) -> Secret:
    """The one line of a file; of a pipe too. Waits for a pipe as long as its writer does.

    Raises:
        ConfigError: it cannot be read, is empty, or holds more than one line.
    """
    found = _one_line(path)
    if isinstance(found, Secret):
        return found
    raise ConfigError(f"The file {path} {found}.", "It has to hold the secret as one line.")


def _one_line(path: Path) -> Secret | str:
    """The secret, or what is wrong with the file. Apart, so that the frame that raises holds no content."""
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(_MAX_FILE + 1)
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, RuntimeError, ValueError):
        return "cannot be read"
    if not text:
        return "is empty"
    if len(data) > _MAX_FILE or any(character in text for character in "\n\r\0"):
        return "holds more than one line"
    return Secret(text)
