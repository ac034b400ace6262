"""`relaycall credentials`, in this process, and as a person at a terminal runs it. Here the store is a vault."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relaycall import cli
from relaycall.redact import Secret
from relaycall.store import vault
from relaycall.store.vault_format import LOWEST
from tests.cli.conftest import Command
from tests.tools import require_tool

COMMAND = [sys.executable, "-W", "error", "-m", "relaycall", "credentials"]
PASSPHRASE = "passphrase-canary"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A machine without a keyring."""
    return {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "RELAYCALL_VAULT_PASSPHRASE": PASSPHRASE,
        "COLUMNS": "120",
    }


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(command: Command, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """In this process; new vaults are made at the lowest cost."""
    monkeypatch.setattr(vault, "COST", LOWEST)
    return lambda *arguments, given="", **more: command("credentials", *arguments, given=given, env={**env, **more})


def objects(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def vault_of(tmp_path: Path) -> Path:
    return tmp_path / "data" / "relaycall" / "vault"


def test_a_life(run: Run, tmp_path: Path) -> None:
    assert objects(run("list", "--json").stdout) == []
    assert "Nothing is kept" in run("list").stdout
    (tmp_path / "password").write_text("canary-1\n")
    done = run("set", "work", "--username", "user-canary", "--password-file", str(tmp_path / "password"))
    assert (done.returncode, done.stdout) == (0, "")
    assert str(vault_of(tmp_path)) in done.stderr
    done = run("set", "shared", "--secret", "--password-file", "-", given="canary-2\n")
    assert done.returncode == 0, done.stderr
    shown = run("list")
    assert re.search(r"shared.*secret", shown.stdout)
    assert re.search(r"work.*login", shown.stdout)
    assert "canary" not in shown.stdout + shown.stderr
    as_json = run("list", "--json")
    assert objects(as_json.stdout) == [{"name": "shared", "kind": "secret"}, {"name": "work", "kind": "login"}]
    assert run("remove", "work").returncode == 0
    done = run("remove", "work")
    assert done.returncode == 6
    assert "work" in done.stderr
    assert objects(run("list", "--json").stdout) == [{"name": "shared", "kind": "secret"}]
    assert b"canary" not in vault_of(tmp_path).read_bytes()


def password_of(username: str, secret: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()).decode()


def test_mint(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("shared-canary\n")
    run("set", "relay", "--secret", "--password-file", "-", given="shared-canary\n")
    sources = [
        ("--secret-file", str(tmp_path / "secret")),
        ("--secret-file", "-"),
        ("--secret-ref", "keyring:relay"),
        ("--secret-ref", "env:SHARED"),
        ("--secret-ref", f"file:{tmp_path}/secret"),
    ]
    for source in sources:
        done = run("mint", *source, "--ttl", "30m", "--json", given="shared-canary", SHARED="shared-canary")
        assert done.returncode == 0, done.stderr
        (made,) = objects(done.stdout)
        assert abs(made["expires_at"] - time.time() - 1800) < 30
        assert re.fullmatch(rf"{made['expires_at']}:[0-9a-f]{{16}}", made["username"])
        assert made["password"] == password_of(made["username"], "shared-canary")
        assert "canary" not in done.stdout + done.stderr
    shown = run("mint", "--secret-file", "-", given="shared-canary").stdout
    found = re.fullmatch(r"username: (\S+)\npassword: (\S+)\nexpires:  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\n", shown)
    assert found
    assert found[2] == password_of(found[1], "shared-canary")


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("1h", 3600), ("7d", 604800), ("", None)]
)
def test_how_long_they_hold(ttl: str, seconds: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret").write_text("x\n")
    code = cli.run(["credentials", "mint", "--secret-file", str(tmp_path / "secret"), "--json", "--ttl", ttl])
    assert code == (0 if seconds else 2)
    if seconds:
        assert abs(objects(capsys.readouterr().out)[0]["expires_at"] - time.time() - seconds) < 30


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["set", "work"], 2, "--password-file"),
        (["set", "work", "--password-file", "password"], 2, "--username or --secret"),
        (["set", "work", "--username", "u"], 2, "--password-file"),
        (["set", "work", "--username", "u", "--secret", "--password-file", "password"], 2, "--username"),
        (["set", "work", "--secret", "--password-file", "missing"], 2, "missing"),
        (["set", "work", "--secret", "--password-file", "empty"], 2, "is empty"),
        (["set", "work", "--secret", "--password-file", "lines"], 2, "one line"),
        (["set", "work", "--secret", "--password-file", "."], 2, "cannot be read"),
        (["set", "identity/me", "--secret", "--password-file", "password"], 2, "slash"),
        (["set", "a b", "--secret", "--password-file", "password"], 2, "name"),
        (["set"], 2, "NAME"),
        (["set", "work", "--password", "canary"], 2, "--password"),
        (["remove", "identity/me"], 2, "slash"),
        (["remove", "work"], 6, "work"),
        (["mint"], 2, "--secret-file"),
        (["mint", "--secret-file", "password", "--secret-ref", "env:X"], 2, "--secret-file"),
        (["mint", "--secret-file", "empty"], 2, "empty"),
        (["mint", "--secret-file", "password", "--ttl", "soon"], 2, "--ttl"),
        (["mint", "--secret-file", "password", "--ttl", "0"], 2, "a second and a year"),
        (["mint", "--secret-file", "password", "--ttl", "999999d"], 2, "a second and a year"),
        (["mint", "--secret-ref", "canary-pasted"], 2, "keyring:NAME"),
        (["mint", "--secret-ref", "keyring:none"], 6, "none"),
        (["mint", "--secret-ref", "env:NO_SUCH"], 2, "NO_SUCH"),
        (["nonsense"], 2, "nonsense"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_error(
    arguments: list[str],
    code: int,
    words: str,
    env: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "password").write_text("canary\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "lines").write_text("canary\ncanary\n")
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_DATA_HOME", "RELAYCALL_VAULT_PASSPHRASE"):
        monkeypatch.setenv(name, env[name])
    assert cli.run(["credentials", *arguments]) == code  # in this process: starting one for each takes long
    shown = capsys.readouterr()
    assert words in " ".join(shown.err.split())
    assert shown.out == ""
    if "--password" not in arguments:
        assert "canary" not in shown.err
    assert not vault_of(tmp_path).exists()


def test_a_wrong_passphrase_and_no_passphrase(run: Run, tmp_path: Path) -> None:
    run("set", "work", "--secret", "--password-file", "-", given="canary\n")
    before = vault_of(tmp_path).read_bytes()
    for passphrase, words in (("wrong", "wrong passphrase or altered file"), ("", "RELAYCALL_VAULT_PASSPHRASE")):
        for arguments in (["list"], ["remove", "work"], ["set", "work", "--secret", "--password-file", "-"]):
            done = run(*arguments, given="other\n", RELAYCALL_VAULT_PASSPHRASE=passphrase)
            assert done.returncode == 6
            assert words in " ".join(done.stderr.split())
    assert vault_of(tmp_path).read_bytes() == before


def test_what_belongs_to_others_is_neither_shown_nor_removed(run: Run, tmp_path: Path) -> None:
    store = vault.VaultStore(vault_of(tmp_path), Secret(PASSPHRASE))
    asyncio.run(store.set("identity/me", Secret("canary")))
    assert run("list", "--json").stdout == ""
    assert run("remove", "identity/me").returncode == 2


@pytest.mark.slow
def test_a_program_that_runs_it_is_told_no_more_by_verbose(env: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND[:-1], "-v", "credentials", "set", "work", "--username", "u", "--password-file", "-"],
        env={**env, "PYTHONASYNCIODEBUG": "1"},
        input="canary\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    assert "canary" not in done.stdout + done.stderr


# --- at a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        self.screen = ""
        self.command_lines: set[bytes] = set()
        self._master, slave = pty.openpty()
        command = [require_tool("setsid"), "--ctty", *COMMAND, *arguments]
        self._process = subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)

    def expect(self, words: str) -> None:
        until = time.monotonic() + 20
        while words not in self.screen:
            assert time.monotonic() < until, self.screen
            self.command_lines.add(Path(f"/proc/{self._process.pid}/cmdline").read_bytes())
            if select.select([self._master], [], [], 0.1)[0]:
                self.screen += os.read(self._master, 4096).decode()

    def type(self, text: str) -> None:
        """What a person types. The space after the question for a password is written once the echo is off."""
        os.write(self._master, text.encode())

    def end(self) -> int:
        """The exit code, when it has ended."""
        try:
            while data := os.read(self._master, 4096):
                self.screen += data.decode()
        except OSError:  # nobody has the other end any more
            pass
        return self._process.wait(timeout=20)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(env: dict[str, str]) -> Iterator[Any]:
    started: list[Terminal] = []

    def start(*arguments: str, **more: str) -> Terminal:
        started.append(Terminal({**env, **more}, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.slow
def test_what_is_not_given_is_asked_for_and_the_password_is_not_shown(terminal: Any, run: Run) -> None:
    set_ = terminal("set", "work")
    set_.expect("User name: ")
    set_.type("someone\n")
    set_.expect("Password: ")
    set_.type("canary\n")
    set_.expect("Repeat for confirmation: ")
    set_.type("canary\n")
    assert set_.end() == 0, set_.screen
    assert "Kept under the name work" in set_.screen
    assert "canary" not in set_.screen
    assert set_.command_lines
    assert not any(b"canary" in line or b"someone" in line for line in set_.command_lines)
    assert objects(run("list", "--json").stdout) == [{"name": "work", "kind": "login"}]


@pytest.mark.slow
def test_a_new_vault_asks_twice_for_its_passphrase_and_an_old_one_once(terminal: Any, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("canary\n")
    given = ("set", "work", "--secret", "--password-file", str(tmp_path / "password"))
    first = terminal(*given, RELAYCALL_VAULT_PASSPHRASE="")
    first.expect("Passphrase of the new vault: ")
    first.type("typed-canary\n")
    first.expect("Repeat for confirmation: ")
    first.type("typed-canary\n")
    assert first.end() == 0, first.screen
    second = terminal("list", "--json", RELAYCALL_VAULT_PASSPHRASE="")
    second.expect("Passphrase of the vault: ")
    second.type("typed-canary\n")
    assert second.end() == 0, second.screen
    assert '{"name": "work", "kind": "secret"}' in second.screen
    assert "canary" not in first.screen + second.screen


@pytest.mark.slow
def test_ctrl_c_at_a_question(terminal: Any, tmp_path: Path) -> None:
    set_ = terminal("set", "work", "--secret")
    set_.expect("Secret: ")
    set_.type("\x03")
    assert set_.end() == 130
    assert "Traceback" not in set_.screen
    assert not vault_of(tmp_path).exists()


@pytest.mark.slow
def test_ctrl_c_while_the_keyring_hangs(terminal: Any) -> None:
    listing = terminal(
        "list", PYTHON_KEYRING_BACKEND="tests.store.backends.Asleep", RELAYCALL_VAULT_PASSPHRASE="", PYTHONPATH="."
    )
    listing.expect("asleep")
    listing.type("\x03")
    start = time.monotonic()
    assert listing.end() in (130, 6)  # 6 if the two seconds were over first
    assert time.monotonic() - start < 10  # it sleeps for a minute
    assert "Traceback" not in listing.screen


def test_help_names_every_verb(run: Run) -> None:
    shown = run("--help").stdout
    for verb in ("set", "list", "remove", "mint"):
        assert re.search(rf"^  {verb} ", shown, re.MULTILINE)
