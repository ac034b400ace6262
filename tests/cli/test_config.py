"""`relaycall config show`, as a person and as a program runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command

COMMAND = [sys.executable, "-W", "error", "-m", "relaycall", "config", "show"]
FILE = """
credential = "env:SHOWN_AS_IT_STANDS"
username = "canary-user"

[[relays]]
urls = ["turn:relay.example.org:3478", "turns:[2001:db8::1]:443?transport=tcp"]
username = "canary-user"
credential = "canary-password"
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RELAYCALL_")}
    return clean | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}


def show(env: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.slow
def test_a_table(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(FILE)
    done = show(env | {"RELAYCALL_LABORATORY": "1"}, "--config", tmp_path / "a.toml")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in done.stdout.splitlines()]
    by_key = {row[0]: row[1:] for row in rows if len(row) == 3}
    assert by_key["relays[0].urls"][0] == "turn:relay.example.org:3478"
    assert "turns:[2001:db8::1]:443?transport=tcp" in done.stdout
    assert by_key["relays[0].credential"][0] == "***"
    assert by_key["credential"][0] == "env:SHOWN_AS_IT_STANDS"
    assert by_key["laboratory"] == ["true", "environment"]
    assert by_key["force_turn"] == ["true", "default"]
    assert by_key["endpoints"] == ["none", "default"]
    assert "canary" not in done.stdout


def test_json(command: Command, env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "config" / "relaycall" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(FILE)
    done = command("config", "show", "--json", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0] == {
        "key": "relays[0].urls",
        "value": ["turn:relay.example.org:3478", "turns:[2001:db8::1]:443?transport=tcp"],
        "source": f"file {file}",
    }
    assert {"key": "laboratory", "value": False, "source": "default"} in lines
    assert "canary" not in done.stdout


def test_what_is_wrong_ends_with_2_and_names_the_key(command: Command, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"callRtcConfig": {"forceTurn": "canary"}}')
    done = command("config", "show", env=env | {"RELAYCALL_CONFIG": str(tmp_path / "a.json")})
    assert (done.returncode, done.stdout) == (2, "")
    assert "callRtcConfig.forceTurn" in done.stderr
    assert "canary" not in done.stderr
    done = command("config", "show", "--config", tmp_path / "none.toml", env=env)
    assert done.returncode == 2
    assert "none.toml does not exist" in done.stderr
