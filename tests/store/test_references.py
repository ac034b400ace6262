"""Secrets by reference: each kind, and what is said when there is none."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from relaycall.errors import ConfigError, SecretMissing, StoreTimeout
from relaycall.redact import Secret
from relaycall.store import references, resolve_secret
from relaycall.store.login import StoredLogin, encode_login
from relaycall.store.references import read_secret_file
from relaycall.store.vault import VaultStore
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.store.shown import shown


@pytest.fixture
def store(tmp_path: Path) -> VaultStore:
    return VaultStore(tmp_path / "store" / "vault", Secret("passphrase"))


async def test_from_the_store(store: VaultStore) -> None:
    await store.set("shared", Secret("alone"))
    await store.set("work", encode_login(StoredLogin("user", Secret("password"))))
    assert await resolve_secret("keyring:shared", store=store) == Secret("alone")
    assert await resolve_secret("keyring:work", store=store) == Secret("password")
    with pytest.raises(SecretMissing, match="elsewhere"):
        await resolve_secret("keyring:elsewhere", store=store)
    with pytest.raises(ConfigError):
        await resolve_secret("keyring:no such", store=store)


async def test_from_the_store_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("RELAYCALL_VAULT_PASSPHRASE", "passphrase")
    await VaultStore(tmp_path / "relaycall" / "vault", Secret("passphrase")).set("shared", Secret("alone"))
    assert await resolve_secret("keyring:shared") == Secret("alone")


async def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", " it: self ")
    assert await resolve_secret("env:SOME_SECRET") == Secret(" it: self ")
    monkeypatch.setenv("SOME_SECRET", "")
    for name in ("SOME_SECRET", "NO_SUCH_VARIABLE", "a=b", "a\0b"):
        with pytest.raises(ConfigError, match="is not set"):
            await resolve_secret(f"env:{name}")


@pytest.mark.parametrize(
    ("data", "secret"),
    [(b"it\n", "it"), (b"it", "it"), (b"it\r\n", "it"), (b" it \n", " it "), ("ü:\n".encode(), "ü:")],
)
async def test_from_a_file(data: bytes, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(data)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert await resolve_secret(f"file:{tmp_path}/secret") == Secret(secret)
    assert await resolve_secret("file:~/secret") == Secret(secret)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"canary\n\n", "more than one line"),
        (b"canary\rmore", "more than one line"),
        (b"canary\0", "more than one line"),
        (b"canary" * 20000, "more than one line"),
        (b"canary\xff\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
async def test_from_a_file_that_cannot_be_used(data: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=words) as caught:
        await resolve_secret(f"file:{path}")
    assert str(path) in caught.value.sentence
    assert "canary" not in shown(caught.value)


@pytest.mark.parametrize("path", ["{folder}", "/nonexistent\0", "~nobody-here/secret"])
async def test_from_what_is_no_file(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        await resolve_secret(f"file:{path.format(folder=tmp_path)}")


async def test_from_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("it\n"))
    writer.start()
    assert await resolve_secret(f"file:{pipe}") == Secret("it")
    writer.join()


async def test_from_a_pipe_nobody_writes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "READ_TIMEOUT", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    start = time.monotonic()
    try:
        with pytest.raises(StoreTimeout, match="pipe"):
            await resolve_secret(f"file:{pipe}")
        assert time.monotonic() - start < 1
    finally:
        (await asyncio.to_thread(pipe.open, "wb")).close()


@pytest.mark.parametrize(
    "given", ["", "canary", "canary:x", ":canary", "keyring:", "env:", "file:", "ENV:canary", "canary\n"]
)
async def test_what_is_no_reference_is_not_repeated(given: str) -> None:
    with pytest.raises(ConfigError, match="keyring:NAME, env:NAME or file:PATH") as caught:
        await resolve_secret(given)
    assert "canary" not in str(caught.value)


def test_a_file_is_read_for_the_command_line_in_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("it\n")
    assert read_secret_file(tmp_path / "secret") == Secret("it")
