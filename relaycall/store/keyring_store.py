"""The operating system's keyring: Secret Service or KWallet, Keychain, Credential Manager.

A keyring may wait for D-Bus or for its user without end, so each call is made in a thread and given up after
`TIMEOUT`. A keyring that keeps secrets unencrypted, or nowhere, is not used.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from relaycall.errors import RelaycallError, StoreError, StoreLocked, StoreTimeout, StoreUnavailable
from relaycall.redact import Secret
from relaycall.store.base import check_name
from relaycall.worker import Worker

SERVICE = "relaycall"
TIMEOUT = 2.0  # seconds; a command has to end within 3
# A keyring cannot list its entries, so their names are kept in one more entry; no name begins with a slash.
INDEX = "/names"

T = TypeVar("T")


class KeyringStore:
    """A Store in the keyring, under the service name "relaycall".

    Two programs that add a name in the same moment may leave one of the two out of `names()`; it is found all the same.

    Args:
        timeout: seconds each call may take.
    """

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._worker = Worker("relaycall-keyring")

    def __repr__(self) -> str:
        return "KeyringStore()"

    async def get(self, name: str) -> Secret | None:
        """The secret, or None.

        Raises:
            StoreUnavailable: there is no keyring here that keeps secrets encrypted, or it failed.
            StoreLocked, StoreTimeout: it is locked, or does not answer. The same for the other calls.
        """
        check_name(name)
        return await self._call(lambda keyring: _get(keyring, name))

    async def set(self, name: str, secret: Secret) -> None:
        """Keep it, in place of what was there."""
        check_name(name)
        await self._call(lambda keyring: _set(keyring, name, secret))

    async def remove(self, name: str) -> bool:
        """Forget it. False when there was none of that name."""
        check_name(name)
        return await self._call(lambda keyring: _remove(keyring, name))

    async def names(self) -> tuple[str, ...]:
        """The names of what was kept through relaycall, sorted."""
        return tuple(await self._call(_read_index))

    async def _call(self, call: Callable[[Any], T]) -> T:
        with contextlib.suppress(TimeoutError):
            return await self._worker.run(lambda: _translated(call), self._timeout)
        raise StoreTimeout


def _translated(call: Callable[[Any], T]) -> T:
    """Make the call, with what the keyring raises replaced. Raised outside of the handler: nothing of it remains."""
    failure: RelaycallError
    try:
        return call(_usable_keyring())
    except RelaycallError as error:
        failure = error
    except Exception as error:
        failure = _store_error(error)
    raise failure


def _usable_keyring() -> Any:
    """The keyring of this machine, or the configured one (PYTHON_KEYRING_BACKEND, keyringrc.cfg)."""
    import keyring  # here, since looking for backends may hang as well
    from keyring.backends.chainer import ChainerBackend

    found: Any = keyring.get_keyring()
    if isinstance(found, ChainerBackend):
        # Several are installed: the best that may be used, and that one alone, or a secret could go to any of them.
        found = next(filter(_keeps_encrypted, found.backends), None)
    if found is None or not _keeps_encrypted(found):
        raise StoreUnavailable
    return found


def _keeps_encrypted(backend: Any) -> bool:
    """False for `null`, for whatever keeps plaintext, and for keyrings.alt, which is not meant for secrets at all."""
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(backend).__mro__]
    refused = ("keyring.backends.null.", "keyrings.alt.")
    return not any(kind.startswith(refused) or "plaintext" in kind.lower() for kind in kinds)


def _store_error(error: Exception) -> StoreError:
    """What the failure of a keyring means. Only the name of its type is kept: its text may hold anything."""
    kind = type(error).__name__
    if "Locked" in kind or "Dismissed" in kind:
        return StoreLocked()
    if kind == "PasswordSetError":
        return StoreError("The keyring refused to keep the secret.")
    if kind == "NoKeyringError":
        return StoreUnavailable()
    return StoreUnavailable(f"The keyring of this machine cannot be used ({kind}).")


def _get(keyring: Any, name: str) -> Secret | None:
    kept = keyring.get_password(SERVICE, name)
    return None if kept is None else Secret(kept)


def _set(keyring: Any, name: str, secret: Secret) -> None:
    names = _read_index(keyring)
    if name not in names:
        # First the name: if the second step fails, a name without a secret is seen, and a secret without a name is not.
        keyring.set_password(SERVICE, INDEX, json.dumps(sorted([*names, name])))
    keyring.set_password(SERVICE, name, secret.reveal())


def _remove(keyring: Any, name: str) -> bool:
    kept = _get(keyring, name)
    if kept is not None:
        keyring.delete_password(SERVICE, name)
    names = _read_index(keyring)
    if name in names:
        keyring.set_password(SERVICE, INDEX, json.dumps([other for other in names if other != name]))
    return kept is not None


def _read_index(keyring: Any) -> list[str]:
    kept = keyring.get_password(SERVICE, INDEX)
    if kept is None:
        return []
    with contextlib.suppress(ValueError, RecursionError):
        names = json.loads(kept)
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return sorted(names)
    raise StoreError(
        f"The keyring's entry {INDEX} of {SERVICE}, the list of names, is damaged.",
        "Remove that entry from the keyring.",
    )
