"""`relaycall demo`, in this process, and run as a person or a program runs it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from relaycall.cli import witness
from relaycall.server.turn import Relay
from relaycall.testing.profiles import PROFILES, profile
from tests.cli.conftest import Command

COMMAND = [sys.executable, "-W", "error", "-m", "relaycall"]


@pytest.fixture(autouse=True)
def nobody_was_seen_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The witness lasts as long as the process."""
    monkeypatch.setattr(witness, "_destinations", {})
    monkeypatch.setattr(witness, "_names", set())


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=40, check=False, **options
    )


def objects(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["udp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tcp", "tls"))])
def test_json_ends_with_a_summary_of_a_call_that_held(transport: str, tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    done = run("demo", "--json", "--seconds", "1.5", "--transport", transport, "--out", heard)
    assert done.returncode == 0, done.stdout + done.stderr
    started, *_, summary = objects(done.stdout)
    assert summary["event"] == "summary"
    assert summary["ok"] is True
    assert summary["candidate_types"] == ["relay"]
    assert summary["packet_sizes"] == [108]
    assert summary["frames_sent"] >= 75
    assert summary["frames_received"] >= 0.95 * summary["frames_sent"]
    assert 0 < summary["setup_ms"] < summary["sealed_setup_ms"] < 5000
    assert len(summary["spoken_words"].split("-")) == 4
    assert summary["alice"]["spoken_words"] == summary["bob"]["spoken_words"] == summary["spoken_words"]
    assert summary["recording"] == str(heard)
    assert heard.stat().st_size > 2 * 48000
    relays = {relay.split("?")[0].split(":", 1)[1] for relay in started["relays"]}
    assert set(summary["destinations"]) == {"alice", "bob"}
    for places in summary["destinations"].values():
        assert summary["signaling"] in places
        assert set(places) & relays
        assert set(places) <= relays | {summary["signaling"]}
    assert summary["names_looked_up"] == []


def test_the_relay_in_use_is_killed_halfway_and_the_call_goes_on(command: Command, tmp_path: Path) -> None:
    done = command("demo", "--json", "--seconds", "3", "--out", tmp_path / "heard.wav")
    assert done.returncode == 0, done.stdout + done.stderr
    *steps, summary = objects(done.stdout)
    [killed] = [step["relay"] for step in steps if step["event"] == "relay_killed"]
    changes = [step for step in steps if step["event"] == "relay_changed" and step["party"] == "bob"]
    assert summary["relay_changes"] == len(changes) >= 1
    assert summary["gap_ms"] == max(change["gap_ms"] for change in changes) > 0
    assert summary["lost"] == sum(change["lost"] for change in changes)
    assert killed not in (summary["alice"]["path"], summary["bob"]["path"])
    assert summary["similarity"] > 0.8


@pytest.mark.slow
def test_with_no_kill_nothing_changes(command: Command, tmp_path: Path) -> None:
    done = command("demo", "--json", "--seconds", "2", "--no-kill", "--protect", "--out", tmp_path / "heard.wav")
    *steps, summary = objects(done.stdout)
    assert not [step for step in steps if step["event"] in ("relay_killed", "relay_lost")]
    assert summary["relay_changes"] == 0
    assert summary["gap_ms"] == 0.0
    assert summary["alice"]["path"] != summary["bob"]["path"]  # two relays between them


@pytest.mark.slow
@pytest.mark.parametrize("network", PROFILES)
def test_in_a_network_the_call_holds_and_survives_its_relay(network: str, command: Command, tmp_path: Path) -> None:
    done = command("demo", "--json", "--seconds", "6", "--network", network, "--out", tmp_path / "heard.wav")
    assert done.returncode == 0, done.stdout + done.stderr
    *steps, summary = objects(done.stdout)
    [told] = [step for step in steps if step["event"] == "network"]
    assert (told["profile"], told["seed"]) == (network, 1)
    assert [step["event"] for step in steps].count("relay_killed") == 1
    assert summary["relay_changes"] >= 1
    assert summary["network"]["profile"] == network
    if network not in ("3g", "satellite"):  # of half a percent nothing may be lost in so short a time
        assert bool(summary["network"]["lost_up"]) == (profile(network).up.loss > 0 or network == "congested")
    assert summary["alice"]["path_rtt_ms"] >= profile(network).round_trip * 1000
    assert not set(summary["destinations"]["alice"]) & set(summary["destinations"]["bob"]) - {summary["signaling"]}


@pytest.mark.slow
def test_video_both_ways_and_a_page(command: Command, tmp_path: Path) -> None:
    page = tmp_path / "call.html"
    arguments = ["--video", "--report", page, "--network", "congested", "--seconds", "9", "--out", tmp_path / "x.wav"]
    done = command("demo", "--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    *steps, summary = objects(done.stdout)
    for party in ("alice", "bob"):
        found = summary[party]["video"]
        assert found["frames_sent"] > 20
        assert found["frames_seen"] > 20
        assert found["rows_seen"] in (180, 270, 360, 540, 720)
        assert found["bitrate_seen"] > 20_000
    assert [step["path"] for step in steps if step["event"] == "report"] == [str(page)]
    html = page.read_text()
    assert re.search(r"video (off|[^<]*kbit/s): (rate|loss)", html, re.IGNORECASE)  # it gave way
    assert "127.0.0.1" not in html


@pytest.mark.slow
def test_without_video_there_is_none_and_the_page_is_written(command: Command, tmp_path: Path) -> None:
    page = tmp_path / "call.html"
    page.mkdir()
    arguments = ["--json", "--seconds", "0.5", "--no-kill", "--out", tmp_path / "x.wav"]
    assert command("demo", *arguments, "--report", page).returncode == 2  # before the call
    page.rmdir()
    (tmp_path / ".call.html.new").mkdir()  # so that it cannot be written afterwards
    done = command("demo", *arguments, "--report", page)
    assert done.returncode == 0, done.stdout + done.stderr
    *steps, summary = objects(done.stdout)
    assert [step["code"] for step in steps if step["event"] == "report_failed"] == ["config"]
    assert summary["alice"]["video"] is None


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_network_over_streams(transport: str, command: Command, tmp_path: Path) -> None:
    arguments = ["--network", "tor", "--transport", transport, "--no-kill", "--seconds", "4", "--seed", "3"]
    done = command("demo", "--json", *arguments, "--out", tmp_path / "heard.wav")
    assert done.returncode == 0, done.stdout + done.stderr
    *_, summary = objects(done.stdout)
    assert summary["network"] == {"profile": "tor", "seed": 3, "lost_up": 0.0, "lost_down": 0.0}
    assert summary["alice"]["path_rtt_ms"] >= 300


@pytest.mark.slow
def test_table_for_people(command: Command, tmp_path: Path) -> None:
    done = command("demo", "--seconds", "1", "--out", tmp_path / "heard.ogg", env={**os.environ, "COLUMNS": "160"})
    assert done.returncode == 0, done.stderr
    for words in (
        "relays, round trip",
        "candidate types",
        "108 bytes",
        "sockets talked to",
        "(signaling)",
        "Connected in",
        "Words",
    ):
        assert words in done.stdout
    assert "Not as promised" not in done.stdout
    assert (tmp_path / "heard.ogg").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--audio", "missing.wav"], 6, "missing.wav"),
        (["--out", "no/such/folder/heard.wav"], 6, "heard.wav"),
        (["--out", "heard.mp3"], 6, ".ogg"),
        (["--seconds", "-1"], 2, "--seconds"),
        (["--transport", "pigeon"], 2, "pigeon"),
        (["--network", "5g"], 2, "lossy-wifi"),
        (["--seed", "x"], 2, "--seed"),
        (
            ["--network", "3g", "--relay", "turn:127.0.0.1:9", "--user", "u", "--credential-file", "password"],
            2,
            "embedded",
        ),
        (["--relay", "turn:127.0.0.1:9"], 2, "--credential-file"),
        (["--relay", "http://x", "--user", "u", "--credential-file", "password"], 2, "turn:"),
        (["--relay", "turn:127.0.0.1:9", "--user", "u", "--credential-file", "absent"], 2, "absent"),
        (["--relay", "turn:127.0.0.1:9", "--user", "u", "--credential-file", "empty"], 2, "empty"),
        (["--relay", "turn:127.0.0.1:9", "--user", "u", "--credential-file", "password"], 3, "refused the connection"),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_error(
    command: Command, arguments: list[str], code: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("a-canary-password\n")
    (tmp_path / "empty").write_text("\n")
    done = command("demo", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "a-canary-password" not in done.stdout + done.stderr
    if code != 2:
        as_json = command("demo", "--json", *arguments, cwd=tmp_path)
        assert as_json.returncode == code
        *_, error, summary = objects(as_json.stdout)
        assert error["event"] == "error"
        assert error["next_step"]
        assert summary["event"] == "summary"
        assert summary["ok"] is False


@pytest.mark.parametrize(
    ("options", "words"),
    [({"user_quota": 1, "laboratory": True}, "no allocation left for this user"), ({}, "forbids")],
    ids=["Bob gets no allocation", "peers are forbidden"],
)
async def test_why_a_given_relay_does_not_serve(
    command: Command, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("me")
    async with Relay(users={"try": "me"}, **options) as relay:
        given = ["--relay", relay.uri("udp"), "--user", "try", "--credential-file", tmp_path / "password"]
        start = time.monotonic()
        done = await asyncio.to_thread(
            command, "demo", "--laboratory", "--seconds", "1", "--out", tmp_path / "heard.wav", *given
        )
    assert time.monotonic() - start < 10
    assert done.returncode == 3, done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Connected" not in done.stdout + done.stderr


def test_an_unusable_file_is_found_before_the_network_is_used(command: Command, tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(b"this is not sound" * 100)
    (tmp_path / "password").write_text("x")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.bind(("127.0.0.1", 0))
        relay.settimeout(0.2)
        uri = f"turn:127.0.0.1:{relay.getsockname()[1]}"
        given = ["--relay", uri, "--user", "u", "--credential-file", "password"]
        done = command("demo", "--audio", "noise.wav", *given, cwd=tmp_path)
        assert done.returncode == 6
        with pytest.raises(TimeoutError):
            relay.recv(2048)


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_leaves_a_whole_recording(tmp_path: Path) -> None:
    heard = tmp_path / "heard.wav"
    process = subprocess.Popen(
        [*COMMAND, "demo", "--json", "--out", str(heard)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "progress":
            break
    time.sleep(1.0)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - start < 5
    assert "Traceback" not in errors
    data = heard.read_bytes()
    assert int.from_bytes(data[40:44], "little") == len(data) - 44 > 0


def test_version_and_help(command: Command) -> None:
    assert command("--version").stdout.startswith("relaycall, version ")
    assert "demo" in command("--help").stdout
    assert command("nonsense").returncode == 2


@pytest.mark.slow
def test_output_may_be_cut_short(tmp_path: Path) -> None:
    command = " ".join([*COMMAND, "demo", "--json", "--seconds", "0.5", "--out", str(tmp_path / "x.wav")])
    done = subprocess.run(f"{command} | head -n 1", shell=True, capture_output=True, text=True, timeout=30, check=True)
    assert "Traceback" not in done.stderr
