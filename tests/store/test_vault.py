"""The vault on disk: whole or not at all, its owner's alone, and never replaced when it does not open."""

# ruff: noqa: ASYNC220, ASYNC240 - files and other programs are what these tests are about

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import pickle
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relaycall.errors import (
    ConfigError,
    StoreError,
    StoreTimeout,
    VaultDamaged,
    VaultExposed,
    VaultRefused,
)
from relaycall.redact import Secret
from relaycall.store import vault
from relaycall.store.vault import VaultStore
from relaycall.store.vault_format import COST, LOWEST
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.store.shown import shown

PASSPHRASE = Secret("passphrase-canary")
SECRET = Secret("secret-canary")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """New vaults at the lowest cost."""
    monkeypatch.setattr(vault, "COST", LOWEST)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "relaycall" / "vault"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_keeps_and_forgets(path: Path) -> None:
    store = VaultStore(path, PASSPHRASE)
    assert await store.get("work") is None
    assert await store.names() == ()
    assert await store.remove("work") is False
    assert not path.exists()  # looking makes nothing
    await store.set("work", SECRET)
    await store.set("home", Secret("other"))
    await store.set("home", Secret("newer"))
    for one in (store, VaultStore(path, PASSPHRASE)):
        assert await one.get("work") == SECRET
        assert await one.get("home") == Secret("newer")
        assert await one.names() == ("home", "work")
    assert await store.remove("work") is True
    assert await store.remove("work") is False
    assert await VaultStore(path, PASSPHRASE).names() == ("home",)
    with pytest.raises(ConfigError):
        await store.get("no such/")


async def test_only_its_owner_can_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        await VaultStore(path, PASSPHRASE).set("work", SECRET)
    finally:
        os.umask(before)
    assert mode(path.parent) == 0o700
    assert {entry.name: mode(entry) for entry in path.parent.iterdir()} == {"vault": 0o600, "vault.lock": 0o600}


async def test_each_write_is_another_nonce_and_opens_without_deriving_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    derived = []
    monkeypatch.setattr(vault, "derive_key", lambda *given: derived.append(given) or bytes(32))
    store = VaultStore(path, PASSPHRASE)
    nonces = set()
    for _ in range(5):
        await store.set("work", SECRET)
        nonces.add(path.read_bytes()[34:46])
    assert len(nonces) == 5
    assert len(derived) == 1
    assert path.read_bytes()[18:34] != VaultStore(path, PASSPHRASE)._salt  # a salt for each vault


async def test_a_new_vault_has_the_full_cost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "COST", COST)
    await VaultStore(path, PASSPHRASE).set("work", SECRET)
    assert int.from_bytes(path.read_bytes()[9:13], "big") == 65536
    assert await VaultStore(path, PASSPHRASE).get("work") == SECRET


async def test_deriving_the_key_does_not_stop_the_event_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "COST", COST._replace(iterations=10))
    longest, running = 0.0, True

    async def tick() -> None:
        nonlocal longest
        while running:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - start)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.01)
    start = time.perf_counter()
    await VaultStore(path, PASSPHRASE).set("work", SECRET)
    took = time.perf_counter() - start
    running = False
    await ticking
    assert longest < took / 2


# --- what does not open stays as it is --------------------------------------------------------------------------------


async def every_call(store: VaultStore) -> list[BaseException]:
    calls = [store.get("work"), store.set("work", SECRET), store.remove("work"), store.names()]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, BaseException) for error in found), found
    return found


async def test_a_wrong_passphrase(path: Path) -> None:
    await VaultStore(path, PASSPHRASE).set("work", SECRET)
    before = path.read_bytes()
    for error in await every_call(VaultStore(path, Secret("wrong-canary"))):
        assert type(error) is VaultRefused
        assert "wrong passphrase or altered file" in error.sentence
        assert "canary" not in shown(error)
    assert path.read_bytes() == before
    with pytest.raises(ConfigError):
        VaultStore(path, Secret(""))


@pytest.mark.parametrize(
    ("damage", "becomes"),
    [
        (lambda data: b"", VaultDamaged),
        (lambda data: data[:30], VaultDamaged),
        (lambda data: data[:-1], VaultRefused),
        (lambda data: data + b"\0", VaultRefused),
        (lambda data: b"{}", VaultDamaged),
        (lambda data: data[:9] + b"\xff\xff\xff\xff" + data[13:], VaultDamaged),
        (lambda data: data + bytes(1 << 21), VaultDamaged),
        (lambda data: data[:20] + b"\0" + data[21:], VaultRefused),
    ],
)
async def test_a_damaged_file_is_said_and_left_alone(damage: object, becomes: type, path: Path) -> None:
    await VaultStore(path, PASSPHRASE).set("work", SECRET)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    for error in await every_call(VaultStore(path, PASSPHRASE)):
        assert type(error) is becomes
        assert str(path) in error.sentence
        assert "canary" not in shown(error)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o601, 0o666])
async def test_a_file_open_to_others_is_refused(bits: int, path: Path) -> None:
    await VaultStore(path, PASSPHRASE).set("work", SECRET)
    path.chmod(bits)
    for error in await every_call(VaultStore(path, PASSPHRASE)):
        assert type(error) is VaultExposed
        assert "chmod 600" in error.next_step
    path.chmod(0o400)
    assert await VaultStore(path, PASSPHRASE).get("work") == SECRET


@pytest.mark.parametrize("bits", [0o770, 0o702, 0o777])
@pytest.mark.parametrize("exists", [True, False])
async def test_a_folder_others_may_write_to_is_refused(bits: int, exists: bool, path: Path) -> None:
    path.parent.mkdir(parents=True)
    if exists:
        await VaultStore(path, PASSPHRASE).set("work", SECRET)
    path.parent.chmod(bits)
    for error in await every_call(VaultStore(path, PASSPHRASE)):
        assert type(error) is VaultExposed
    assert path.exists() == exists


async def test_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    await VaultStore(real, PASSPHRASE).set("work", SECRET)
    path.parent.mkdir(parents=True)
    path.symlink_to(real)
    for error in await every_call(VaultStore(path, PASSPHRASE)):
        assert type(error) is VaultExposed
        assert "link" in error.sentence
    assert path.is_symlink()
    path.unlink()
    path.symlink_to(tmp_path / "nothing")
    assert {type(error) for error in await every_call(VaultStore(path, PASSPHRASE))} == {VaultExposed}


async def test_another_users_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await VaultStore(path, PASSPHRASE).set("work", SECRET)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    for error in await every_call(VaultStore(path, PASSPHRASE)):
        assert type(error) is VaultExposed
        assert "another user" in error.sentence


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path, 0o600), os.mkdir])
async def test_what_is_no_file_is_refused_at_once(make: object, path: Path) -> None:
    path.parent.mkdir(parents=True)
    make(path)
    start = time.monotonic()
    assert {type(error) for error in await every_call(VaultStore(path, PASSPHRASE))} == {VaultExposed}
    assert time.monotonic() - start < 2


async def test_a_link_in_place_of_the_lock_or_the_new_file_is_not_followed(path: Path, tmp_path: Path) -> None:
    await VaultStore(path, PASSPHRASE).set("work", SECRET)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.with_name("vault.new").symlink_to(victim)
    await VaultStore(path, PASSPHRASE).set("work", Secret("newer"))
    path.with_name("vault.lock").unlink()
    path.with_name("vault.lock").symlink_to(victim)
    with pytest.raises(StoreError, match="ELOOP"):
        await VaultStore(path, PASSPHRASE).set("work", Secret("newest"))
    assert victim.read_text() == "precious"
    assert await VaultStore(path, PASSPHRASE).get("work") == Secret("newer")


# --- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace"])
async def test_a_failed_write_leaves_the_old_file(step: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VaultStore(path, PASSPHRASE)
    await store.set("work", SECRET)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "secret-canary")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
        with pytest.raises(StoreError, match="ENOSPC") as caught:
            await store.set("work", Secret("newer"))
    assert "canary" not in shown(caught.value)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["vault", "vault.lock"]
    await store.set("work", Secret("newer"))
    assert await VaultStore(path, PASSPHRASE).get("work") == Secret("newer")


DYING = """
import asyncio, os, pathlib, sys
from relaycall.redact import Secret
from relaycall.store import vault
from relaycall.store.vault_format import LOWEST
vault.COST = LOWEST
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), 9)
asyncio.run(vault.VaultStore(pathlib.Path(sys.argv[1]), Secret("passphrase-canary")).set("work", Secret("newer")))
"""


async def test_a_program_killed_before_the_rename_leaves_the_old_file(path: Path) -> None:
    store = VaultStore(path, PASSPHRASE)
    await store.set("work", SECRET)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", DYING, str(path)], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == -9, done.stderr
    left = path.with_name("vault.new")
    assert mode(left) == 0o600
    assert b"newer" not in left.read_bytes()
    assert await store.get("work") == SECRET
    await store.set("work", Secret("after"))  # the lock went with the program
    assert await VaultStore(path, PASSPHRASE).get("work") == Secret("after")
    assert not left.exists()


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"ENOTDIR|EEXIST"):
        await VaultStore(tmp_path / "file" / "vault", PASSPHRASE).set("work", SECRET)


async def test_too_little_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(vault, "derive_key", fail)
    with pytest.raises(StoreError, match="MemoryError"):
        await VaultStore(path, PASSPHRASE).set("work", SECRET)


# --- several programs -------------------------------------------------------------------------------------------------

WRITING = """
import asyncio, pathlib, sys
from relaycall.redact import Secret
from relaycall.store import vault
from relaycall.store.vault_format import LOWEST
vault.COST = LOWEST
async def main():
    for number in range(8):
        store = vault.VaultStore(pathlib.Path(sys.argv[1]), Secret("passphrase-canary"), lock_timeout=20)
        await store.set(f"{sys.argv[2]}-{number}", Secret("x"))
asyncio.run(main())
"""


@pytest.mark.slow
async def test_several_writers_lose_nothing(path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITING, str(path), name]) for name in ("a", "b", "c")]
    while any(writer.poll() is None for writer in writers):
        await VaultStore(path, PASSPHRASE).names()  # a reader never sees half a file
        await asyncio.sleep(0.005)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert len(await VaultStore(path, PASSPHRASE).names()) == 24


async def test_a_vault_held_by_another_program_is_waited_for_and_then_given_up(path: Path) -> None:
    store = VaultStore(path, PASSPHRASE, lock_timeout=0.3)
    await store.set("work", SECRET)
    with path.with_name("vault.lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        start = time.monotonic()
        with pytest.raises(StoreTimeout, match="Another program") as caught:
            await store.set("work", Secret("newer"))
        assert 0.3 <= time.monotonic() - start < 1
        assert str(path) in caught.value.sentence
        assert await store.get("work") == SECRET  # reading waits for nobody
        writing = asyncio.create_task(store.set("work", Secret("newer")))
        await asyncio.sleep(0.1)
        fcntl.flock(other, fcntl.LOCK_UN)
        await writing
    assert await store.get("work") == Secret("newer")


# --- what nothing shows ----------------------------------------------------------------------------------------------


async def test_nothing_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("tests").debug("DEBUG is seen")
    store = VaultStore(path, PASSPHRASE)
    await store.set("work", SECRET)
    kept = await store.get("work")
    assert "DEBUG is seen" in caplog.text
    assert "canary" not in caplog.text + repr([store, kept]) + repr(vars(store))
    assert b"canary" not in b"".join(entry.read_bytes() for entry in path.parent.iterdir())
    for one in (store, kept):
        with pytest.raises(TypeError):
            pickle.dumps(one)
