"""`relaycall probe`, as a person and as a program calls it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from relaycall.cli import run
from relaycall.server.turn import Relay
from tests.cli.conftest import Command
from tests.waiting import eventually

USER, PASSWORD = "canary-user", "canary-password"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


Called = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def called(command: Command) -> Called:
    """Exit code, output and progress of the command in a thread of this process."""

    async def call(*arguments: str | Path) -> tuple[int, str, str]:
        done = await asyncio.to_thread(command, *arguments)
        return done.returncode, done.stdout, done.stderr

    return call


async def test_a_table_with_the_best_the_backup_and_what_to_do_about_the_rest(called: Called, secret: Path) -> None:
    async with Relay(users={USER: PASSWORD}, laboratory=True) as one, Relay(users={"x": "y"}, laboratory=True) as other:
        credentials = ("--user", USER, "--credential-file", secret, "--laboratory")
        code, out, err = await called("probe", one.uri("udp"), other.uri("udp"), one.uri("udp"), *credentials)
        assert one.active == 0
    assert code == 0
    lines = out.splitlines()
    row = next(line for line in lines if line.startswith("│") and one.uri("udp") in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[:2] == [one.uri("udp"), "udp ipv4"]
    assert cells[5:] == ["0%", "ok"]
    assert all(float(cell) >= 0 for cell in cells[2:5])
    assert any(other.uri("udp") in line and "relay_credentials" in line for line in lines)
    assert f"- The relay {other.uri('udp')} refused the user name or password (code 401)." in lines
    assert "  Check the credentials; time-limited ones may have expired." in lines
    assert f"- The relay {one.uri('udp')} is given 2 times; it was probed once." in lines
    assert lines[-1].startswith(f"The best is {one.uri('udp')} (")
    assert lines[-1].endswith("ms), and there is no backup.")
    assert "2/2" in err
    assert PASSWORD not in out + err
    assert USER not in out + err


async def test_json(called: Called, secret: Path) -> None:
    async with Relay(users={USER: PASSWORD}, laboratory=True) as one:
        arguments = (one.uri("udp"), one.uri("tcp"), "turn:nowhere.invalid", "--json", "--laboratory")
        code, out, err = await called("probe", *arguments, "--user", USER, "--credential-file", secret)
    objects = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(entry["event"], entry.get("verdict")) for entry in objects] == [
        ("result", "ok"),
        ("result", "ok"),
        ("result", "relay_name_unknown"),
        ("selection", None),
    ]
    assert objects[-1]["primary"] == one.uri("udp")
    assert objects[-1]["latency_ms"] > 0
    assert PASSWORD not in out + err
    assert USER not in out + err


async def test_without_a_url_the_configured_relays_are_probed(
    called: Called, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Relay(users={USER: PASSWORD}, laboratory=True) as relay:
        monkeypatch.setenv("RELAYCALL_RELAYS", relay.uri("udp"))
        monkeypatch.setenv("RELAYCALL_USERNAME", USER)
        monkeypatch.setenv("RELAYCALL_CREDENTIAL", f"file:{secret}")
        code, out, _ = await called("probe", "--json", "--laboratory")
        assert code == 0
        assert json.loads(out.splitlines()[-1])["primary"] == relay.uri("udp")


def test_none_usable_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "turn:nowhere.invalid"]) == 3
    assert "No relay can be used." in capsys.readouterr().out
    assert run(["probe", "turn:nowhere.invalid", "--json"]) == 3
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["primary"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "No relay is given, and none is configured."),
        (["turn:a.test", "--user", "u"], "one --user with its --credential-file"),
        (["turn:a.test", "turn:b.test", "turn:c.test", *(["--user", "u", "--credential-file", "f"] * 2)], "one --user"),
        (["turn:a.test:99999", "--user", "u", "--credential-file", "f"], "The port of the relay's URI"),
        (["stun:a.test"], "has to start with turn: or turns:"),
        (["turn:a.test", "--user", "u", "--credential-file", "missing"], "cannot be read"),
    ],
)
def test_bad_usage_ends_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    Path("f").write_text("secret")
    assert run(["probe", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
async def test_watching_goes_on_until_ctrl_c_and_leaves_nothing_allocated(secret: Path) -> None:
    async with Relay(users={USER: PASSWORD}, laboratory=True) as relay:
        arguments = [relay.uri("udp"), "--user", USER, "--credential-file", str(secret), "--laboratory", "--watch"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relaycall", "probe", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        while not (line := await process.stdout.readline()).startswith(b"The best is"):
            assert line
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 130
        assert b"Interrupted" in err
        assert relay.active == 0


@pytest.mark.slow
async def test_ctrl_c_in_the_middle_of_a_probe_leaves_nothing_allocated(secret: Path) -> None:
    async with Relay(users={USER: PASSWORD}, laboratory=True) as relay, Relay(users={"x": "y"}) as denying:
        hole = asyncio.DatagramProtocol()
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: hole, ("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        urls = [relay.uri("udp"), relay.uri("tcp"), f"turn:127.0.0.1:{port}", denying.uri("udp")]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relaycall", "probe", *urls, "--user", USER),
            *("--credential-file", str(secret), "--laboratory"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        await eventually(lambda: relay.active > 0, timeout=10)
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
        assert process.returncode == 130
        assert out == b""
        await eventually(lambda: relay.active == 0, timeout=1)
        transport.close()
