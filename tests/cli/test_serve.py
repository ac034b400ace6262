"""`relaycall serve`, as a person and as a program runs it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relaycall.cli import run
from relaycall.relays.probe import probe
from relaycall.relays.server import RelayServer
from relaycall.signaling.network import NetworkTransport
from relaycall.signaling.opening import open_signaling
from tests.certificates import Authority
from tests.tools import require_tool

ENVELOPE = bytes(4096)


@asynccontextmanager
async def serving(*arguments: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relaycall", "serve", "--port", "0", *map(str, arguments)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode()


async def ended_by(process: asyncio.subprocess.Process, number: signal.Signals) -> tuple[int | None, str, str]:
    process.send_signal(number)
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.slow
async def test_it_says_where_it_listens_and_what_it_cannot_see_and_ctrl_c_ends_it() -> None:
    async with serving() as process:
        line = await line_of(process)
        assert line.startswith("Listening: ws://127.0.0.1:")
        async with open_signaling(line.split()[1]) as one, open_signaling(line.split()[3]) as other:
            await one.send(other.mailbox, ENVELOPE)
            assert (await anext(other.receive())).envelope == ENVELOPE
            code, out, err = await ended_by(process, signal.SIGINT)
    assert code == 130
    assert "It does not see who calls whom" in out
    assert err.strip() == "Interrupted; everything is closed."


@pytest.mark.slow
@pytest.mark.parametrize("place", [1, 3], ids=["ws", "http"])
async def test_killed_and_back_within_five_seconds_nothing_is_lost(place: int) -> None:
    async with serving() as process:
        url = (await line_of(process)).split()[place]
        async with open_signaling(url) as one, open_signaling(url) as other:
            await one.send(other.mailbox, ENVELOPE)
            process.kill()
            await process.communicate()
            sending = asyncio.ensure_future(one.send(other.mailbox, bytes(4095) + b"x"))
            await asyncio.sleep(1)
            async with serving("--port", url.rpartition(":")[2]) as again:
                await line_of(again)
                await sending
                incoming = other.receive()
                found = []
                async with asyncio.timeout(20):
                    while b"x" not in found:
                        received = await anext(incoming)
                        if not received.duplicate:
                            found.append(received.envelope[-1:])
                assert found == [b"\0", b"x"]


@pytest.mark.slow
async def test_json_tls_and_sigterm(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    leaf = authority.leaf("localhost")
    async with serving("--json", "--tls-cert", leaf.cert, "--tls-key", leaf.key) as process:
        said = json.loads(await line_of(process))
        assert said["event"] == "listening"
        assert said["relays"] == []
        assert [url.partition(":")[0] for url in said["urls"]] == ["wss", "https"]
        for url in said["urls"]:
            url = url.replace("127.0.0.1", "localhost")
            async with open_signaling(url, ssl_context=authority.client_context()) as client:
                await client.send(client.mailbox, ENVELOPE)
        assert await ended_by(process, signal.SIGTERM) == (0, "", "")


@pytest.mark.slow
async def test_turn_starts_a_relay_and_clients_get_credentials_for_it() -> None:
    async with serving("--turn", "--json") as process:
        said = json.loads(await line_of(process))
        async with open_signaling(said["urls"][0]) as client:
            assert isinstance(client, NetworkTransport)
            relays = await client.credentials().relays()
        assert [relay.name for relay in relays] == said["relays"]
        login = said["login"]
        relays += [RelayServer.parse(uri, **login) for uri in said["relays"]]
        assert {str(one.verdict) for one in await probe(relays, laboratory=True)} == {"ok"}
        assert (await ended_by(process, signal.SIGINT))[0] == 130


@pytest.mark.slow
async def test_turn_gives_a_line_to_copy() -> None:
    async with serving("--turn") as process:
        options = ""
        while not options:
            options = (await line_of(process)).partition("until this ends: ")[2].strip()
        password = options.partition("<(echo ")[2].partition(")")[0]
        arguments = shlex.split(options.replace(f"<(echo {password})", "FILE"))
        assert arguments[::2] == ["--relay", "--user", "--credential-file", "--laboratory"]
        relay = RelayServer.parse(arguments[1], username=arguments[3], password=password)
        assert [str(one.verdict) for one in await probe([relay], laboratory=True)] == ["ok"]


@pytest.mark.slow
async def test_a_shell_takes_the_line(tmp_path: Path) -> None:
    async with serving("--turn") as process:
        options = ""
        while not options:
            options = (await line_of(process)).partition("until this ends: ")[2].strip()
        demo = f"{shlex.quote(sys.executable)} -m relaycall demo --seconds 1 --out {tmp_path}/heard.ogg {options}"
        shell = await asyncio.create_subprocess_exec(
            require_tool("bash"), "-c", demo, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        async with asyncio.timeout(60):
            out, _ = await shell.communicate()
        assert shell.returncode == 0, out.decode()


@pytest.mark.slow
async def test_a_name_is_what_clients_have_to_use() -> None:
    async with serving("--name", "localhost") as process:
        url = (await line_of(process)).split()[1]
        async with open_signaling(url.replace("127.0.0.1", "localhost")):
            pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "nowhere"], "must be an IP address"),
        (["--host", "nowhere", "--turn"], "must be an IP address"),
        (["--host", "0.0.0.0"], "--name"),
        (["--host", "0.0.0.0", "--turn", "--name", "a.test"], "needs one address"),
        (["--host", "192.0.2.1"], "cannot listen"),
        (["--tls-cert", "cert"], "go together"),
        (["--tls-cert", "missing", "--tls-key", "missing"], "cannot be used"),
        (["--turn-url", "turn:a.test"], "go together"),
        (["--turn-secret-file", "secret"], "go together"),
        (["--turn-url", "turn:a.test", "--turn-secret-file", "missing"], "cannot be read"),
        (["--turn-url", "http://a.test", "--turn-secret-file", "secret"], "turn:"),
        (["--turn", "--turn-url", "turn:a.test", "--turn-secret-file", "secret"], "of its own"),
        (["--port", "65536"], "--port"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_ends_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret").write_text("canary-secret")
    assert run(["serve", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "canary-secret" not in err


def test_a_port_in_use_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert run(["serve", "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot listen" in capsys.readouterr().err


def test_without_the_package_for_redis_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "relaycall.server.signaling_redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    assert run(["serve", "--redis", "redis://:canary@127.0.0.1:1/0"]) == 2
    err = capsys.readouterr().err
    assert "relaycall[redis]" in err
    assert "canary" not in err


def test_a_redis_that_does_not_answer_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("redis://:canary@127.0.0.1:1/0", "canary"):
        assert run(["serve", "--redis", url]) == 2
        err = capsys.readouterr().err
        assert "Redis" in err
        assert "canary" not in err
