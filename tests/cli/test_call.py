"""`relaycall call`, in this process; who is called is a phone in a thread."""

from __future__ import annotations

import asyncio
import json
import socket
import wave
from array import array
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from relaycall.call import desk, switchboard
from relaycall.call.phone import Phone
from relaycall.cli import talk
from relaycall.errors import HandshakeRefused, MediaError, NoPath, PeerLost, SignalingTimeout
from relaycall.identity.handshake import CallerHandshake
from relaycall.media.audio import SilenceSource, ToneSource
from relaycall.media.files import FileSink
from tests.cli.conftest import Command
from tests.cli.people import Between, Person, introduce

Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def run(command: Command, alice: Person, bob: Person, between: Between) -> Run:
    """As Alice, who knows Bob, and he her."""
    alice.make("Alice", between.url)
    bob.make("Bob", between.url)
    introduce((alice, "alice"), (bob, "bob"))
    return lambda *arguments, given="", **env: command(*arguments, given=given, env={**alice.env, **env})


def objects(done: CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def events(done: CompletedProcess[str], event: str) -> list[dict[str, Any]]:
    return [one for one in objects(done) if one["event"] == event]


def loudness(path: Path) -> float:
    """The mean of the samples' magnitudes."""
    with wave.open(str(path)) as file:
        samples = array("h", file.readframes(file.getnframes()))
    return sum(map(abs, samples)) / max(1, len(samples))


def accepting(between: Between, phone: Phone, seconds: float | None = None) -> Future[str]:
    """Bob takes the next call, and hangs up after these seconds. Gives the reason of its end."""

    async def job() -> str:
        async for ring in phone.incoming():
            call = ring.accept(audio=ToneSource())
            if seconds is not None and await call.connected():
                await asyncio.sleep(seconds)
                await call.hang_up()
            return (await call.ended()).reason
        return "closed"

    return between.start(job())


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_call_that_is_heard_recorded_and_told(run: Run, bob: Person, between: Between, tmp_path: Path) -> None:
    taken = accepting(between, between.phone(bob))
    heard = tmp_path / "heard.wav"
    done = run("call", "bob", *between.relays, "--json", "--seconds", "2.2", "--record", heard, "--audio", "tone")
    assert done.returncode == 0, done.stdout + done.stderr
    assert taken.result(10) == "peer_hung_up"
    assert loudness(heard) > 500
    states = [one["state"] for one in events(done, "state")]
    assert states[0] == "calling"
    assert states[-2:] == ["connecting", "connected"]
    (words,) = events(done, "spoken_words")
    assert len(words["words"].split("-")) == 4
    stats = [one for one in events(done, "stats") if one["state"] == "connected"]
    assert stats[-1]["relay"] == between.uri
    assert stats[-1]["rtt_ms"] > 0
    assert stats[-1]["loss"] < 0.5
    assert 20_000 < stats[-1]["sent_bit_s"] < 80_000
    assert 20_000 < stats[-1]["received_bit_s"] < 80_000
    assert stats[-1]["level"] == "good"
    assert 4 < stats[-1]["score"] <= 4.5
    ended = objects(done)[-1]
    assert {name: ended[name] for name in ("event", "reason", "exit_code")} == {
        "event": "ended",
        "reason": "hung_up",
        "exit_code": 0,
    }
    assert ended["report"]["role"] == "caller"
    assert ended["report"]["seconds"]["connected"] > 2
    assert "canary" not in done.stdout + done.stderr


def test_people_see_lines_and_programs_nothing_on_standard_output(run: Run, bob: Person, between: Between) -> None:
    taken = accepting(between, between.phone(bob), seconds=0.1)
    done = run("call", "bob", *between.relays)
    assert done.returncode == 0, done.stderr
    assert taken.result(10) == "hung_up"
    assert done.stdout == ""
    assert "Connected." in done.stderr
    assert '"bob" has hung up.' in done.stderr
    assert "getting ready" not in done.stderr  # no line that changes where there is no terminal


@pytest.mark.slow
def test_a_file_that_ends_and_a_disk_that_is_full_end_no_call(
    run: Run, bob: Person, between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wave.open(str(tmp_path / "short.wav"), "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 4800))

    def full(self: FileSink, frame: object) -> None:
        raise MediaError("The disk is full.")

    monkeypatch.setattr(FileSink, "_place", full)
    taken = accepting(between, between.phone(bob))
    arguments = ["--audio", tmp_path / "short.wav", "--record", tmp_path / "heard.wav", "--seconds", "2", "--json"]
    done = run("call", "bob", *between.relays, *arguments)
    assert done.returncode == 0
    assert taken.result(10) == "peer_hung_up"
    assert len(events(done, "sound_ended")) == 1
    assert "The disk is full." in events(done, "recording_failed")[0]["sentence"]


# --- each class of failure has its exit code --------------------------------------------------------------------------


def test_2_usage(run: Run, between: Between, tmp_path: Path) -> None:
    cases: list[tuple[list[str | Path], str]] = [
        (["call"], "CONTACT"),
        (["call", "--code", "2-stapler-fascinate"], "never an argument"),
        (["call", "--code", "--manual", "--text-in", tmp_path / "x"], "--manual"),
        (["call", "bob", "--report", tmp_path / "call.txt"], ".html"),
        (["call", "bob", "--max-bitrate", "79"], "--max-bitrate"),
        (["call", "nobody", *between.relays], "nobody"),
        (["call", "bob"], "No relay"),
        (["call", "bob", "--relay", "turn:127.0.0.1"], "--user"),
        (["call", "bob", "--relay", "nonsense", *between.relays[3:]], "turn"),
        (["call", "bob", *between.relays, "--seconds", "-1"], "--seconds"),
        (["call", "bob", *between.relays, "--text-out", tmp_path / "x"], "--manual"),
        (["call", "bob", *between.relays, "--manual", "--signaling", "wss://x"], "--signaling"),
        (["call", "bob", *between.relays, "--manual"], "--text-in"),
        (["call", "bob", *between.relays, "--no-such-option"], "--no-such-option"),
        (["call", "bob", "--config", tmp_path / "none.toml"], "none.toml"),
    ]
    for arguments, words in cases:
        done = run(*arguments)
        assert done.returncode == 2, arguments
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_3_no_relay(run: Run, between: Between, bob: Person) -> None:
    between.phone(bob)
    relays = [f"turn:127.0.0.1:{free_port()}?transport=tcp" if one == between.uri else one for one in between.relays]
    done = run("call", "bob", *relays, "--json")
    assert done.returncode == 3
    assert events(done, "error")[0]["code"] == "no_relay"
    assert objects(done)[-1]["exit_code"] == 3


def test_a_relay_of_this_machine_is_told_once_with_what_allows_it(run: Run, between: Between, bob: Person) -> None:
    between.phone(bob)
    done = run("call", "bob", *between.relays[1:])
    assert done.returncode == 5
    assert "--laboratory" in done.stderr
    assert done.stderr.count(between.uri) == 1
    assert "error: No relay could be used.\n" in done.stderr


def test_4_no_signaling(run: Run, between: Between, alice: Person) -> None:
    done = run("call", "bob", *between.relays, "--signaling", f"ws://127.0.0.1:{free_port()}", "--json")
    assert done.returncode == 4
    assert [one["event"] for one in objects(done)] == ["error"]
    assert objects(done)[0]["next_step"]


def test_5_a_handshake_that_breaks_a_rule(
    run: Run, between: Between, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forged(self: CallerHandshake, answer: bytes) -> None:
        raise HandshakeRefused("its confirmation is wrong")

    monkeypatch.setattr(CallerHandshake, "accept", forged)
    accepting(between, between.phone(bob))
    done = run("call", "bob", *between.relays, "--json")
    assert done.returncode == 5
    assert events(done, "error")[0]["code"] == "handshake_refused"


def test_6_store_and_files(run: Run, between: Between, command: Command, tmp_path: Path) -> None:
    assert run("call", "bob", *between.relays, RELAYCALL_VAULT_PASSPHRASE="wrong").returncode == 6
    assert run("call", "bob", *between.relays, RELAYCALL_VAULT_PASSPHRASE="").returncode == 6
    assert run("call", "bob", *between.relays, "--audio", tmp_path / "none.wav").returncode == 6
    assert run("call", "bob", *between.relays, "--record", tmp_path / "heard.mp3").returncode == 6
    assert run("call", "bob", *between.relays, "--record", tmp_path / "no" / "heard.wav").returncode == 6
    nobody = Person(tmp_path / "nobody")
    done = command("call", "bob", *between.relays, env=nobody.env)
    assert done.returncode == 6
    assert "relaycall keys show" in done.stderr


def test_7_declined(run: Run, between: Between, bob: Person) -> None:
    phone = between.phone(bob)

    async def decline() -> None:
        async for ring in phone.incoming():
            await ring.decline()

    between.start(decline())
    done = run("call", "bob", *between.relays)
    assert done.returncode == 7
    assert "does not want to talk" in done.stderr


def test_7_busy(run: Run, between: Between, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switchboard, "MAX_RINGING", 0)
    between.phone(bob)
    done = run("call", "bob", *between.relays, "--json")
    assert done.returncode == 7
    assert objects(done)[-1]["reason"] == "busy"


def test_7_nobody_is_there(run: Run, between: Between, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "INTRODUCTION_TIMEOUT", 0.3)
    done = run("call", "bob", *between.relays, "--json")
    assert done.returncode == 7
    assert objects(done)[-1]["reason"] == "unanswered"


def test_7_they_do_not_know_us(run: Run, between: Between, bob: Person, command: Command) -> None:
    assert command("contacts", "remove", "alice", env=bob.env).returncode == 0
    between.phone(bob)
    done = run("call", "bob", *between.relays, "--json")
    assert done.returncode == 7
    assert events(done, "error")[0]["code"] == "code_needed"


@pytest.mark.parametrize(
    ("error", "code"), [(NoPath(), 3), (SignalingTimeout("x"), 4), (HandshakeRefused("x"), 5), (PeerLost(), 7)]
)
def test_what_ends_a_call_is_the_exit_code(error: Any, code: int, run: Run, between: Between, bob: Person) -> None:
    from relaycall.call.call import Call

    accepting(between, between.phone(bob))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Call, "_connect", _failing(error))
        done = run("call", "bob", *between.relays, "--json")
    assert done.returncode == code
    assert events(done, "error")[0]["code"] == error.code


def _failing(error: Exception) -> Any:
    async def connect(self: object) -> None:
        raise error

    return connect


def test_every_end_has_words_and_a_code() -> None:
    from relaycall.call.state import EndReason

    assert set(talk._ENDS) == set(EndReason) - {EndReason.FAILED}  # which comes with an error
    assert {code for code, _ in talk._ENDS.values()} == {0, 3, 7}


# --- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_call_whose_texts_are_carried_in_files(run: Run, between: Between, bob: Person, tmp_path: Path) -> None:
    phone = between.phone(bob, signaling="manual:")
    ours, theirs = tmp_path / "to-bob", tmp_path / "from-bob"
    theirs.write_text("nothing of ours\n")  # is told, and waited over

    async def carry() -> str:
        transport: Any = phone.signaling

        async def write(text: Any) -> None:
            theirs.write_text(f"Hello,\n\n> {text.text}\n")

        transport.on_text = write
        while not ours.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await transport.accept(ours.read_text())
        async for ring in phone.incoming():
            call = ring.accept(audio=SilenceSource())
            assert await call.connected()
            return (await call.ended()).reason
        return "closed"

    carried = between.start(carry())
    files = ["--text-out", ours, "--text-in", theirs]
    done = run("call", "--manual", "bob", *between.relays, *files, "--seconds", "0.5", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert carried.result(10) == "peer_hung_up"
    assert events(done, "refused")[0]["code"] == "text_refused"
    assert events(done, "text")[0]["text"] + "\n" == ours.read_text()
    assert events(done, "text_taken")
