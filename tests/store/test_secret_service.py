"""The keyring of a Linux desktop, by the library and by the command line: gnome-keyring behind D-Bus."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.secret_service import SecretService

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
ENDS = 20  # seconds: 2 for the keyring, the rest to start Python on a busy machine; what hangs takes 30


@pytest.fixture
def service(tmp_path: Path) -> Iterator[SecretService]:
    with SecretService(tmp_path) as service:
        yield service


def python(service: SecretService, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-W", "error", *arguments],
        env=service.env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **{"stdin": subprocess.DEVNULL, **options},
    )


def relaycall(service: SecretService, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    options = {} if given is None else {"stdin": None, "input": given}
    return python(service, "-m", "relaycall", "credentials", *arguments, **options)


LOCK = """
import contextlib, secretstorage
with contextlib.closing(secretstorage.dbus_init()) as bus:
    secretstorage.get_default_collection(bus).lock()
"""


def test_the_command_line_keeps_shows_and_forgets(service: SecretService) -> None:
    done = relaycall(service, "set", "work", "--username", "user-canary", "--password-file", "-", given="canary-1\n")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    done = relaycall(service, "set", "shared", "--secret", "--password-file", "-", given="canary-2\n")
    assert done.returncode == 0, done.stderr
    done = relaycall(service, "list", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"name": "shared", "kind": "secret"},
        {"name": "work", "kind": "login"},
    ]
    assert b"canary" not in service.kept  # it is encrypted there
    done = relaycall(service, "mint", "--secret-ref", "keyring:shared", "--json")
    assert set(json.loads(done.stdout)) == {"username", "password", "expires_at"}
    assert relaycall(service, "remove", "work").returncode == 0
    assert relaycall(service, "remove", "work").returncode == 6
    assert relaycall(service, "list", "--json").stdout == '{"name": "shared", "kind": "secret"}\n'


def test_the_library(service: SecretService) -> None:
    script = """
import asyncio
from relaycall.redact import Secret
from relaycall.relays.credentials import FromStore
from relaycall.store import open_store, resolve_secret
from relaycall.store.keyring_store import KeyringStore
from relaycall.store.login import StoredLogin, encode_login
async def main():
    store = await open_store()
    assert isinstance(store, KeyringStore)
    assert await store.get("work") is None
    await store.set("work", encode_login(StoredLogin("someone", Secret("canary \\u00fc"))))
    await asyncio.gather(*(store.set(f"name-{n}", Secret(str(n))) for n in range(5)))
    found = await FromStore("work").credentials()
    assert (found.username, found.password.reveal()) == ("someone", "canary \\u00fc")
    assert (await resolve_secret("keyring:name-3")).reveal() == "3"
    assert await store.names() == ("name-0", "name-1", "name-2", "name-3", "name-4", "work")
    assert await store.remove("name-1")
    assert len(await store.names()) == 5
asyncio.run(main(), debug=True)
"""
    done = python(service, "-c", f"import logging; logging.basicConfig(level=0)\n{script}")
    assert done.returncode == 0, done.stderr
    assert "DEBUG:asyncio" in done.stderr
    assert "canary" not in done.stdout + done.stderr


def test_locked_and_nobody_there_to_unlock_it(service: SecretService) -> None:
    relaycall(service, "set", "work", "--username", "u", "--password-file", "-", given="canary\n")
    done = python(service, "-c", LOCK)
    assert done.returncode == 0, done.stderr
    start = time.monotonic()
    done = relaycall(service, "list")
    assert time.monotonic() - start < ENDS
    assert done.returncode == 6
    assert "locked" in done.stderr or "did not answer in time" in done.stderr
    assert "RELAYCALL_VAULT_PASSPHRASE" in done.stderr


def test_frozen(service: SecretService) -> None:
    """SIGSTOP: D-Bus takes the question and nobody answers."""
    daemon = service._daemons[1]
    daemon.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    done = relaycall(service, "list")
    assert time.monotonic() - start < ENDS
    assert done.returncode == 6
    assert "did not answer in time" in done.stderr
    os.kill(daemon.pid, signal.SIGCONT)
    assert relaycall(service, "list").returncode == 0


def test_gone(service: SecretService) -> None:
    service.stop()
    done = relaycall(service, "list")
    assert done.returncode == 6
    assert "no keyring that keeps secrets encrypted" in done.stderr
    service.env["RELAYCALL_VAULT_PASSPHRASE"] = "passphrase"
    assert relaycall(service, "list").returncode == 0
