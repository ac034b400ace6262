"""The examples: each runs offline as it stands, and does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from relaycall.media.files import FileSource

ROOT = Path(__file__).parents[2]
EXAMPLES = {path.name: path for path in sorted((ROOT / "examples").glob("*.py"))}
FAST: set[str] = set()  # the README's two snippets are run with the fast tests
WORDS = r"[a-z]+-[a-z]+-[a-z]+-[a-z]+"

# What each says on the way, in this order.
SAYS = {
    "aiortc_relay_only.py": ["Bob heard: hello", "in use:", "kept warm:"],
    "answer.py": [
        "'alice' calls: a contact.",
        "Alice is told: declined",
        f"Read these to each other: {WORDS}",
        "Alice is told: hung_up",
    ],
    "answering_machine.py": ["Alice is told: peer_hung_up", r"'alice' left message-\d+.ogg: hung_up"],
    "bot_plays_a_file.py": ["Alice is told: peer_hung_up", "'alice' was played the file: hung_up"],
    "custom_signaling.py": ["kept: envelopes arrive", "kept: closing is bounded and final"],
    "embedded_servers.py": ["2 connections, 2 allocations", "It is over: hung_up"],
    "manual_exchange.py": [
        r"A text of \d+ characters is carried.\nA text of \d+ characters is carried.",
        "They hear each other.",
        "told: +(peer_)?hung_up",
        "told: +(peer_)?hung_up",
    ],
    "place_a_call.py": ["is ringing", "is connected", f"Read these to each other: {WORDS}", "It is over: hung_up"],
    "record.py": ["It is over: peer_hung_up", r"heard.ogg has [23]\.\d seconds."],
    "test_my_app.py": ["3 passed"],
    "video_call.py": ["Video: Encoding", "(good|fair|poor): [1-9][0-9]+ kbit/s sent", "It is over: hung_up"],
    "two_parties.py": [f"Alice reads: {WORDS}", "Bob is told: peer_hung_up"],
}
# What is recorded, and for how many seconds at least.
RECORDS = {
    "answering_machine.py": ("message-*.ogg", 1.5),
    "bot_plays_a_file.py": ("heard.wav", 1.0),
    "record.py": ("heard.ogg", 2.0),
    "two_parties.py": ("heard.wav", 2.0),
}


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def spoken(path: Path) -> float:
    """The seconds of a recording in which somebody is heard."""
    source, loud = FileSource(path), 0
    while (pcm := source.read()) is not None:
        loud += max(array("h", pcm)) > 300
    source.close()
    return loud / 50


def test_every_example_is_known_here_and_in_the_document() -> None:
    listed = re.findall(r"^- \[(\w+\.py)\]\(\.\./examples/\1\)", (ROOT / "docs" / "examples.md").read_text(), re.M)
    assert sorted(listed) == sorted(EXAMPLES) == sorted(SAYS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in EXAMPLES]
)
def test_it_does_what_it_says(name: str, tmp_path: Path) -> None:
    lines = EXAMPLES[name].read_text().splitlines()
    assert len(lines) < 80
    if name.startswith("test_"):
        (tmp_path / name).write_text(EXAMPLES[name].read_text())  # away from this project's settings of pytest
        done = run(tmp_path, "-m", "pytest", "-o", "asyncio_default_fixture_loop_scope=function", name)
    else:
        done = run(tmp_path, EXAMPLES[name])
    assert done.returncode == 0, done.stdout + done.stderr
    rest = done.stdout
    for words in SAYS[name]:
        found = re.search(words, rest)
        assert found, f"{words!r} is missing: {done.stdout}"
        rest = rest[found.end() :]
    if name in RECORDS:
        pattern, least = RECORDS[name]
        (recording,) = tmp_path.glob(pattern)
        assert spoken(recording) > least / 2


WITH_ARGUMENTS = [name for name, path in EXAMPLES.items() if "case _:" in path.read_text()]


@pytest.mark.parametrize("name", WITH_ARGUMENTS)
@pytest.mark.slow
def test_other_arguments_are_explained(name: str, tmp_path: Path) -> None:
    done = run(tmp_path, EXAMPLES[name], "what?")
    assert done.returncode == 1
    assert f"python examples/{name}" in done.stderr
