"""`relaycall doctor`, as a person and as a program runs it."""

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

from relaycall.cli.doctor import conclusion
from relaycall.diagnosis import Cause, Finding, Status
from relaycall.server.turn import Relay
from tests.cli.conftest import Command
from tests.waiting import eventually

USER, PASSWORD = "canary-user", "canary-password"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RELAYCALL_")}
    clean |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    clean |= {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    return clean | {"RELAYCALL_USERNAME": USER, "RELAYCALL_CREDENTIAL": PASSWORD, "RELAYCALL_LABORATORY": "1"}


async def started(env: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "relaycall", "doctor", *arguments),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


Doctor = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def doctor(command: Command, env: dict[str, str]) -> Doctor:
    """In a thread of this process."""

    async def call(*arguments: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(command, "doctor", *arguments, env=env)
        assert PASSWORD not in done.stdout + done.stderr
        assert USER not in done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    return call


async def test_each_line_has_a_status_and_what_is_wrong_a_next_step(doctor: Doctor, env: dict[str, str]) -> None:
    async with Relay(host="127.0.0.1", users={USER: PASSWORD}, laboratory=True) as relay:
        env["RELAYCALL_RELAYS"] = relay.uri("udp")
        code, out, err = await doctor()
        assert relay.active == 0
    lines = out.splitlines()
    assert code == 0, out
    assert [line.split()[1] for line in lines if line.startswith("ok ")][:4] == [
        "versions:",
        "openssl:",
        "configuration:",
        "keyring:",
    ]
    assert any(line.startswith(f"ok    relay {relay.uri('udp')}: It works: ") for line in lines)
    assert lines[-1] == "Nothing is wrong."
    assert f"... {relay.uri('udp')}: ok" in err.splitlines()


async def test_json_and_the_exit_code_of_a_broken_relay(doctor: Doctor, env: dict[str, str]) -> None:
    async with Relay(host="127.0.0.1", users={"x": "y"}, laboratory=True) as relay:
        env["RELAYCALL_RELAYS"] = relay.uri("udp")
        code, out, _ = await doctor("--json")
    objects = [json.loads(line) for line in out.splitlines()]
    assert code == 3
    assert objects[-1] == {"event": "conclusion", "cause": "relay", "exit_code": 3}
    (broken,) = [one for one in objects if one.get("status") == "fail"]
    assert broken["check"] == f"relay {relay.uri('udp')}"
    assert set(broken) == {"event", "check", "status", "sentence", "next_step", "cause"}
    assert broken["next_step"]


async def test_a_configuration_that_is_wrong(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"callRtcConfig": {"forceTurn": false}}')
    code, out, _ = await doctor("--config", str(tmp_path / "a.json"))
    assert code == 2
    assert "fail  configuration: The setting callRtcConfig.forceTurn (file " in out
    assert out.endswith("The configuration is wrong.\n")


@pytest.mark.slow
async def test_ctrl_c_leaves_nothing_allocated(env: dict[str, str]) -> None:
    loop = asyncio.get_running_loop()
    hole, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    async with Relay(host="127.0.0.1", users={USER: PASSWORD}, laboratory=True) as relay:
        port = hole.get_extra_info("sockname")[1]
        env["RELAYCALL_RELAYS"] = f"turn:127.0.0.1:{port} {relay.uri('udp')}"
        process = await started(env)
        assert process.stderr is not None
        while b": ok" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 5)
        assert process.returncode == 130
        assert out == b""
        assert b"Interrupted" in err
        await eventually(lambda: relay.active == 0, timeout=1)
    hole.close()


def finding(status: Status, cause: Cause, exit_code: int) -> Finding:
    return Finding("x", status, "X.", "", cause, exit_code)


def test_the_conclusion_is_the_first_failure_or_else_the_first_warning() -> None:
    fine = finding(Status.OK, Cause.NONE, 0)
    warning = finding(Status.WARN, Cause.CLOCK, 0)
    store, relay = finding(Status.FAIL, Cause.STORE, 6), finding(Status.FAIL, Cause.RELAY, 3)
    assert conclusion([fine]) == (0, Cause.NONE)
    assert conclusion([fine, warning, fine]) == (0, Cause.CLOCK)
    assert conclusion([warning, store, relay]) == (6, Cause.STORE)
    assert conclusion([relay, store]) == (3, Cause.RELAY)
