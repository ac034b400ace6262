"""Secrets in the keyring: what works, and what each way of not working becomes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backends.fail
import keyring.backends.null
import pytest
from keyring.backends.chainer import ChainerBackend

from relaycall.errors import ConfigError, StoreError, StoreLocked, StoreTimeout, StoreUnavailable
from relaycall.redact import Secret
from relaycall.store.keyring_store import INDEX, SERVICE, TIMEOUT, KeyringStore
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.store import backends
from tests.store.backends import CANARY, Hanging, Memory, Raising
from tests.store.shown import shown

SECRET = Secret("the-secret-itself")


@pytest.fixture(autouse=True)
def own_keyring() -> Iterator[None]:
    before = keyring.core._keyring_backend
    yield
    keyring.core._keyring_backend = before


def use(backend: keyring.backend.KeyringBackend) -> keyring.backend.KeyringBackend:
    keyring.set_keyring(backend)
    return backend


async def every_call(store: KeyringStore) -> list[BaseException]:
    """What each call of a store that does not work raises."""
    calls = [store.get("work"), store.set("work", SECRET), store.remove("work"), store.names()]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, BaseException) for error in found), found
    return found


async def test_keeps_and_forgets() -> None:
    backend = use(Memory())
    store = KeyringStore()
    assert await store.get("work") is None
    assert await store.names() == ()
    assert await store.remove("work") is False
    await store.set("work", SECRET)
    await store.set("home", Secret("other"))
    await store.set("home", Secret("newer"))
    assert await store.get("work") == SECRET
    assert await store.get("home") == Secret("newer")
    assert await store.names() == ("home", "work")
    assert backend.kept[SERVICE, "work"] == SECRET.reveal()
    assert await store.remove("work") is True
    assert await store.remove("work") is False
    assert await store.get("work") is None
    assert await store.names() == ("home",)


async def test_what_another_program_kept_there_is_found() -> None:
    backend = use(Memory())
    backend.set_password(SERVICE, "work", "by hand")
    store = KeyringStore()
    assert await store.get("work") == Secret("by hand")
    assert await store.names() == ()
    assert await store.remove("work") is True
    assert backend.kept == {}


async def test_a_name_without_a_secret_can_be_removed() -> None:
    backend = use(Memory())
    backend.set_password(SERVICE, INDEX, '["work"]')
    store = KeyringStore()
    assert await store.names() == ("work",)
    assert await store.remove("work") is False
    assert await store.names() == ()


@pytest.mark.parametrize("kept", ["", "{", "{}", '"work"', "[1]", "[" * 100_000, "null"])
async def test_a_damaged_list_of_names_is_said_and_left_alone(kept: str) -> None:
    backend = use(Memory())
    backend.set_password(SERVICE, INDEX, kept)
    for call in (KeyringStore().names(), KeyringStore().set("work", SECRET)):
        with pytest.raises(StoreError) as caught:
            await call
        assert INDEX in caught.value.sentence
    assert backend.kept == {(SERVICE, INDEX): kept}


@pytest.mark.parametrize("name", ["", "/names", "a/", "/", "a b", "ä", "x" * 129, "a\0", "a\n", "-x", "../x"])
async def test_what_cannot_be_a_name(name: str) -> None:
    use(Memory())
    store = KeyringStore()
    for call in (store.get(name), store.set(name, SECRET), store.remove(name)):
        with pytest.raises(ConfigError):
            await call


@pytest.mark.parametrize("name", ["a", "work-2", "identity/me", "a.b_c@d+e", "x" * 128])
async def test_what_can(name: str) -> None:
    use(Memory())
    store = KeyringStore()
    await store.set(name, SECRET)
    assert await store.names() == (name,)


# --- keyrings that may not be used -----------------------------------------------------------------------------------

REFUSED = [
    keyring.backends.fail.Keyring,
    keyring.backends.null.Keyring,
    backends.PlaintextKeyring,
    backends.Derived,
    backends.DerivedFail,
    backends.Uninitialised,
    type("Alt", (Memory,), {"__module__": "keyrings.alt.file"}),
]


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
async def test_one_that_keeps_nothing_or_plaintext_is_refused(kind: type) -> None:
    backend = use(kind())
    for error in await every_call(KeyringStore()):
        assert type(error) is StoreUnavailable
        for alternative in ("RELAYCALL_VAULT_PASSPHRASE", "env:NAME", "file:PATH"):
            assert alternative in error.next_step
    assert getattr(backend, "kept", {}) == {}


def chain(monkeypatch: pytest.MonkeyPatch, *members: Memory) -> None:
    monkeypatch.setattr(ChainerBackend, "backends", list(members))
    monkeypatch.setattr(ChainerBackend, "priority", 10)
    use(ChainerBackend())


async def test_of_several_the_first_that_encrypts_is_used_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, first, second = backends.PlaintextKeyring(), Memory(), Memory()
    for one in (plain, second):
        one.set_password(SERVICE, "old", "from elsewhere")
    chain(monkeypatch, plain, first, second)
    store = KeyringStore()
    await store.set("work", SECRET)
    assert await store.get("old") is None
    assert first.kept[SERVICE, "work"] == SECRET.reveal()
    assert SECRET.reveal() not in [*plain.kept.values(), *second.kept.values()]


@pytest.mark.parametrize("members", [[], [backends.PlaintextKeyring()]])
async def test_of_several_none(members: list[Memory], monkeypatch: pytest.MonkeyPatch) -> None:
    chain(monkeypatch, *members)
    with pytest.raises(StoreUnavailable):
        await KeyringStore().get("work")


async def test_a_configured_keyring_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.core._keyring_backend = None
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "no.such.Keyring")
    with pytest.raises(StoreUnavailable, match="ModuleNotFoundError"):
        await KeyringStore().get("work")


# --- keyrings that fail ----------------------------------------------------------------------------------------------


async def test_locked() -> None:
    use(backends.Locked())
    for error in await every_call(KeyringStore()):
        assert type(error) is StoreLocked
        for alternative in ("Unlock it", "RELAYCALL_VAULT_PASSPHRASE", "env:NAME", "file:PATH"):
            assert alternative in error.next_step


class PromptDismissedException(Exception):
    """As secretstorage names it."""


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (keyring.errors.NoKeyringError(CANARY), StoreUnavailable),
        (keyring.errors.InitError(CANARY), StoreUnavailable),
        (keyring.errors.KeyringLocked(CANARY), StoreLocked),
        (PromptDismissedException(CANARY), StoreLocked),
        (keyring.errors.PasswordDeleteError(CANARY), StoreUnavailable),
        (RuntimeError(CANARY), StoreUnavailable),
        (OSError(2, CANARY), StoreUnavailable),
        (TimeoutError(CANARY), StoreUnavailable),
        (StopIteration(CANARY), StoreUnavailable),
        (UnicodeEncodeError("utf-8", CANARY, 0, 1, "x"), StoreUnavailable),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_whatever_it_raises_becomes_ours_and_nothing_of_it_remains(raised: Exception, becomes: type) -> None:
    use(Raising(raised))
    for error in await every_call(KeyringStore()):
        assert type(error) is becomes
        assert CANARY not in shown(error)
        assert SECRET.reveal() not in shown(error)


async def test_one_that_does_not_take_the_secret() -> None:
    use(backends.Full())
    with pytest.raises(StoreError) as caught:
        await KeyringStore().set("work", SECRET)
    assert caught.value.code == "store"
    assert SECRET.reveal() not in shown(caught.value)


@pytest.mark.slow
async def test_hanging() -> None:
    backend = use(Hanging())
    store = KeyringStore()
    start = time.monotonic()
    try:
        errors = await every_call(store)
        assert TIMEOUT <= time.monotonic() - start < 3
        for error in errors:
            assert type(error) is StoreTimeout
            for alternative in ("Unlock it", "RELAYCALL_VAULT_PASSPHRASE", "env:NAME", "file:PATH"):
                assert alternative in error.next_step
        assert backend.calls == 1
    finally:
        backend.released.set()
    assert await store.get("work") is None  # unlocked meanwhile: works again
    assert (SERVICE, "work") not in backend.kept  # and what was given up did not happen behind one's back


# --- whole programs --------------------------------------------------------------------------------------------------


def command(backend: str, tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], float]:
    env = {**os.environ, "PYTHON_KEYRING_BACKEND": backend, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    env.pop("RELAYCALL_VAULT_PASSPHRASE", None)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "relaycall", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
        env=env,
        cwd=Path(__file__).parents[2],
    )
    return done, time.monotonic() - start


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("tests.store.backends.Asleep", "did not answer in time"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)  # the same in this process: above
            for case in (
                ("tests.store.backends.Locked", "is locked"),
                ("keyring.backends.fail.Keyring", "no keyring that keeps secrets encrypted"),
                ("keyring.backends.null.Keyring", "no keyring that keeps secrets encrypted"),
            )
        ),
    ],
)
@pytest.mark.slow
def test_a_command_ends_at_once_and_says_why(backend: str, words: str, tmp_path: Path) -> None:
    done, took = command(backend, tmp_path, "credentials", "list")
    assert done.returncode == 6, done.stderr
    assert words in done.stderr
    assert "RELAYCALL_VAULT_PASSPHRASE" in done.stderr
    assert "Traceback" not in done.stderr
    assert took < 20  # 2 s for the keyring, the rest to start Python on a busy machine; what hangs takes 30
    assert list(tmp_path.iterdir()) == []


# --- what nothing shows ----------------------------------------------------------------------------------------------


async def test_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("tests").debug("DEBUG is seen")
    use(Memory())
    store = KeyringStore()
    await store.set("work", SECRET)
    kept = await store.get("work")
    assert "DEBUG is seen" in caplog.text
    assert SECRET.reveal() not in caplog.text
    assert SECRET.reveal() not in repr([store, kept, json.dumps(await store.names())])
    for one in (store, kept):
        with pytest.raises(TypeError):
            pickle.dumps(one)
