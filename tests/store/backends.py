"""Keyrings as they come, for tests in this process and, by PYTHON_KEYRING_BACKEND, in others."""

from __future__ import annotations

import sys
import threading
import time
from typing import ClassVar

from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as Fail
from keyring.errors import InitError, KeyringLocked, PasswordSetError

CANARY = "canary-from-the-keyring"


class Memory(KeyringBackend):
    """One that works."""

    priority: ClassVar[float] = 5

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


class Hanging(Memory):
    """Answers when `released`, or after a minute."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.calls = 0

    def get_password(self, service: str, username: str) -> str | None:
        self.calls += 1
        self.released.wait(60)
        return super().get_password(service, username)


class Asleep(Memory):
    """Says so, and sleeps where nothing can wake it."""

    def get_password(self, service: str, username: str) -> str | None:
        print("asleep", file=sys.stderr, flush=True)
        time.sleep(60)
        return None


class Raising(Memory):
    """Raises what it is told to, on every call."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def get_password(self, service: str, username: str) -> str | None:
        raise self.error

    def set_password(self, service: str, username: str, password: str) -> None:
        raise self.error

    delete_password = get_password


class Locked(Raising):
    """Nobody unlocks it."""

    def __init__(self) -> None:
        super().__init__(KeyringLocked(CANARY))


class Full(Memory):
    """Reads, and does not write."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise PasswordSetError(f"cannot keep {password}")


class Uninitialised(Raising):
    def __init__(self) -> None:
        super().__init__(InitError(CANARY))


class PlaintextKeyring(Memory):
    """As keyrings.alt names its own."""


class Derived(PlaintextKeyring):
    """Under another name."""


class DerivedFail(Fail):
    """Under another name."""
