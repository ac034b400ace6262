"""The two programs of the README, as two people run them: each in a process, with a vault of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relaycall.server.signaling import SignalingServer
from relaycall.server.turn import Relay

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROGRAMS = dict(re.findall(r"^`(\w+\.py)`[^\n]*:\n\n```python\n(.*?)^```", README, re.S | re.M))
TIMEOUT = 30.0  # seconds for all of it


def local(program: str, **there: str) -> str:
    """The program for servers on this machine. Nothing else about it is changed."""
    for shown, meant in there.items():
        assert program.count(shown) == 1, shown
        program = program.replace(shown, meant)
    return program


def written(folder: Path, name: str, **there: str) -> Path:
    folder.mkdir()
    (folder / name).write_text(local(PROGRAMS[name], **there))
    return folder


@asynccontextmanager
async def running(folder: Path, name: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", name, *arguments),
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "XDG_DATA_HOME": str(folder / "data"),
            "RELAYCALL_VAULT_PASSPHRASE": f"passphrase of {name}",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def line_with(process: asyncio.subprocess.Process, words: str) -> str:
    """The next line with these words: what follows them."""
    assert process.stdout is not None
    assert process.stderr is not None
    while line := (await process.stdout.readline()).decode():
        if words in line:
            return line.partition(words)[2].strip()
    raise AssertionError((await process.stderr.read()).decode())


async def test_one_calls_the_other_and_is_heard(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(TIMEOUT),
        SignalingServer() as server,
        Relay(users={"relay-user": "relay-password"}, laboratory=True) as relay,
    ):
        there = {
            "turns:relay.example.org:5349": relay.uri("udp"),
            "wss://signaling.example.org": server.url(),
            "Phone(": "Phone(laboratory=True, ",
        }
        async with running(written(tmp_path / "bob", "answer.py", **there), "answer.py") as bob:
            card = await line_with(bob, "Whoever has this can call me:")
            alices = written(tmp_path / "alice", "call.py", **there, **{"sleep(3)": "sleep(1)"})
            async with running(alices, "call.py", card) as alice:
                assert await line_with(bob, "'Alice'") == "calls."
                words = await line_with(alice, "Read these to each other:")
                assert len(words.split("-")) == 4
                assert await line_with(bob, "Read these to each other:") == words
                assert await line_with(alice, "It is over:") == "hung_up"
                assert await line_with(bob, "It is over:") == "peer_hung_up"
                assert await alice.wait() == 0
    heard = array("h", (tmp_path / "bob" / "heard.wav").read_bytes()[44:])
    assert len(heard) > 48000 / 2
    assert max(heard) > 1000


@pytest.mark.parametrize("name", ["answer.py", "call.py"])
def test_a_program_has_some_twenty_lines(name: str) -> None:
    lines = [line for line in PROGRAMS[name].splitlines() if line]
    assert len(lines) <= 20
