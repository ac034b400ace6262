"""The vault file on disk: for machines without a keyring.

It is replaced as a whole: written beside itself, flushed to the disk, and renamed. A lock keeps two programs from
overwriting each other's change. What cannot be opened is never replaced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from relaycall.errors import ConfigError, RelaycallError, StoreError, StoreTimeout, VaultExposed
from relaycall.redact import Secret
from relaycall.store.base import check_name
from relaycall.store.vault_format import COST, MAX_SIZE, Cost, Header, decode_header, derive_key, seal, unseal
from relaycall.worker import Worker

LOCK_TIMEOUT = 3.0  # seconds another program may hold the vault
_WORK_TIMEOUT = 10.0  # seconds for Argon2id and the disk
_LOCK_STEP = 0.02

T = TypeVar("T")


class VaultStore:
    """A Store in one encrypted file. The file comes into being with the first secret.

    Args:
        path: the file; its folder is made, for its owner alone, if there is none.
        passphrase: opens it. The key is derived at the first call and kept for the next ones.
        lock_timeout: seconds to wait for another program.

    Raises:
        ConfigError: the passphrase is empty.
    """

    def __init__(self, path: Path, passphrase: Secret, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        if not passphrase.reveal():
            raise ConfigError("The passphrase of the vault is empty.", "Give one that nobody can guess.")
        self.path = path
        self._passphrase = passphrase
        self._lock_timeout = lock_timeout
        self._worker = Worker("relaycall-vault")
        self._salt = secrets.token_bytes(16)
        self._cost = COST
        self._key: Secret | None = None

    def __repr__(self) -> str:
        return f"VaultStore({str(self.path)!r})"

    async def get(self, name: str) -> Secret | None:
        """The secret, or None.

        Raises:
            VaultRefused: wrong passphrase or altered file.
            VaultDamaged: not a vault, or cut short.
            VaultExposed: others may read or replace it.
            StoreError: the file cannot be read; when writing, StoreTimeout if another program holds it.
        """
        check_name(name)
        return await self._call(lambda: self._load().get(name))

    async def set(self, name: str, secret: Secret) -> None:
        """Keep it, in place of what was there; on the disk when this returns."""
        check_name(name)

        def change() -> None:
            with self._locked():
                self._save({**self._load(), name: secret})

        await self._call(change)

    async def remove(self, name: str) -> bool:
        """Forget it. False when there was none of that name."""
        check_name(name)

        def change() -> bool:
            with self._locked():
                entries = self._load()
                if name not in entries:
                    return False
                del entries[name]
                self._save(entries)
                return True

        return await self._call(change)

    async def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return await self._call(lambda: tuple(sorted(self._load())))

    async def _call(self, call: Callable[[], T]) -> T:
        with contextlib.suppress(TimeoutError):
            return await self._worker.run(lambda: self._translated(call), self._lock_timeout + _WORK_TIMEOUT)
        raise StoreTimeout(f"The vault {self.path} could not be used in time.", "Check the disk it is on.")

    def _translated(self, call: Callable[[], T]) -> T:
        failure: RelaycallError
        try:
            return call()
        except RelaycallError as error:
            failure = error
        except OSError as error:
            reason = errno.errorcode.get(error.errno or 0, "an error of the disk")
            failure = StoreError(f"The vault {self.path} cannot be used ({reason}).", "Check its folder and the disk.")
        except Exception as error:  # memory, or a cryptography without Argon2id
            failure = StoreError(f"The vault {self.path} cannot be used ({type(error).__name__}).")
        raise failure

    # In the worker's thread from here on.

    def _load(self) -> dict[str, Secret]:
        data = self._read()
        if data is None:
            return {}
        header = decode_header(data, str(self.path))
        return unseal(data, self._key_for(header.salt, header.cost), str(self.path))

    def _key_for(self, salt: bytes, cost: Cost) -> bytes:
        if self._key is None or (salt, cost) != (self._salt, self._cost):
            self._key = Secret(derive_key(self._passphrase, salt, cost).hex())
            self._salt, self._cost = salt, cost
        return bytes.fromhex(self._key.reveal())

    def _read(self) -> bytes | None:
        """The file, or None when there is none. What is checked is what was opened, so nothing can change between."""
        self._check_folder()
        wrong = "is a symbolic link"
        try:
            with open(self.path, "rb", opener=_open) as file:
                self._check(os.fstat(file.fileno()))
                return file.read(MAX_SIZE + 1)
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            wrong = "is not a regular file"
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
        raise VaultExposed(f"The vault {self.path} {wrong}.")

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise VaultExposed(f"The vault {self.path} is not a regular file.")
        if found.st_uid != os.geteuid():
            raise VaultExposed(f"The vault {self.path} belongs to another user.")
        if found.st_mode & 0o077:
            raise VaultExposed(f"The vault {self.path} is open to other users.")

    def _check_folder(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self.path.parent.stat().st_mode & 0o022:
                raise VaultExposed(f"Other users may write to the folder of the vault {self.path}.")

    def _save(self, entries: dict[str, Secret]) -> None:
        """Replace the file. Only under the lock, and only after what is there was opened."""
        header = Header(self._cost, self._salt, secrets.token_bytes(12))
        data = seal(entries, self._key_for(self._salt, self._cost), header)
        temporary = self.path.with_name(self.path.name + ".new")
        temporary.unlink(missing_ok=True)  # of a program that died here
        try:
            with open(temporary, "xb", opener=_open) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock file beside the vault, which stays: the vault itself is replaced."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = _open(str(self.path.with_name(self.path.name + ".lock")), os.O_RDWR | os.O_CREAT)
        try:
            until = time.monotonic() + self._lock_timeout
            while not _try_lock(descriptor):
                if time.monotonic() >= until:
                    raise StoreTimeout(f"Another program holds the vault {self.path}.", "Wait for it, or end it.")
                time.sleep(_LOCK_STEP)
            yield
        finally:
            os.close(descriptor)


def _open(path: str, flags: int) -> int:
    """No link is followed, no pipe waited for, and what is made is its owner's alone."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
