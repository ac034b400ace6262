"""`relaycall answer`, in this process; who calls is a phone in a thread."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from pyee.asyncio import AsyncIOEventEmitter

from relaycall.call.phone import Phone
from relaycall.cli.calling import News
from relaycall.errors import KeyChanged, MessageReplayed, NotForUs
from relaycall.identity.own import rotate_identity
from relaycall.media.audio import ToneSource
from tests.cli.conftest import Command
from tests.cli.people import NOW, Between, Person, introduce
from tests.cli.test_call import events, loudness, objects

Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def run(command: Command, alice: Person, bob: Person, between: Between) -> Run:
    """As Bob, who knows Alice, and she him."""
    alice.make("Alice", between.url)
    bob.make("Bob", between.url)
    introduce((alice, "alice"), (bob, "bob"))
    arguments = ["answer", *between.relays, "--json"]
    return lambda *more: command(*arguments, *more, env=bob.env)


def stop() -> None:
    """Tell the command line, which runs in this process and takes calls, to end."""
    os.kill(os.getpid(), signal.SIGTERM)


async def calls(phone: Phone, *, seconds: float | None = None, times: int = 1, then_stop: bool = False) -> list[str]:
    """Call Bob. Gives how each call ended."""
    found = []
    for _ in range(times):
        call = await phone.call("bob", audio=ToneSource())
        if seconds is not None and await call.connected():
            await asyncio.sleep(seconds)
            await call.hang_up()
        found.append((await call.ended()).reason)
    if then_stop:
        stop()
    return found


@pytest.mark.slow
def test_a_robot_takes_the_calls_of_those_it_trusts(run: Run, between: Between, alice: Person, tmp_path: Path) -> None:
    calling = between.start(calls(between.phone(alice)))
    heard = tmp_path / "heard.wav"
    done = run("--auto-accept", "ALICE", "--once", "--seconds", "1", "--record", heard, "--audio", "tone")
    assert done.returncode == 0, done.stdout + done.stderr
    assert calling.result(10) == ["peer_hung_up"]
    assert loudness(heard) > 500
    (waiting,) = events(done, "waiting")
    assert (waiting["name"], waiting["card"]) == ("Bob", "RELAYCALL" + waiting["card"][9:])
    (ring,) = events(done, "ring")
    assert ring["contact"] is True
    assert ring["verified"] is False
    assert ring["name"] == "alice"
    assert ring["fingerprint"] == alice.card().identity.fingerprint
    assert objects(done)[-1]["reason"] == "hung_up"


@pytest.mark.slow
def test_each_call_has_a_recording_of_its_own_until_it_is_told_to_end(
    run: Run, between: Between, alice: Person, tmp_path: Path
) -> None:
    calling = between.start(calls(between.phone(alice), seconds=0.3, times=2, then_stop=True))
    done = run("--auto-accept", "alice", "--record", tmp_path / "heard.wav")
    assert done.returncode == 0, done.stdout + done.stderr
    assert calling.result(10) == ["hung_up", "hung_up"]
    assert {path.name for path in tmp_path.glob("*.wav")} == {"heard.wav", "heard-2.wav"}
    assert len(events(done, "ended")) == 2


def test_without_a_terminal_all_others_are_declined(
    run: Run, between: Between, alice: Person, bob: Person, tmp_path: Path, cheap_vaults: None
) -> None:
    carol = Person(tmp_path / "carol")
    carol.make("Carol", between.url)
    introduce((bob, "bob"), (carol, "carol"))
    calling = between.start(calls(between.phone(alice), then_stop=True))
    done = run("--auto-accept", "carol")
    assert done.returncode == 0, done.stdout + done.stderr
    assert calling.result(10) == ["declined"]
    assert events(done, "declined")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "--auto-accept"),
        (("--auto-accept", "nobody"), 2, "nobody"),
        (("--auto-accept", "alice", "--strangers", "all"), 2, "--strangers"),
        (("--auto-accept", "alice", "--audio", "none.wav"), 6, "none.wav"),
        (("--auto-accept", "alice", "--signaling", "ws://127.0.0.1:9"), 4, "127.0.0.1:9"),
        (("--auto-accept", "alice", "--manual"), 2, "--text-in"),
    ],
)
def test_what_is_wrong_is_told_at_once(arguments: tuple[str, ...], code: int, words: str, run: Run) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert words in done.stdout + done.stderr


# --- strangers, and those who say they are somebody -------------------------------------------------------------------


@pytest.fixture
def stranger(alice: Person, bob: Person, between: Between, tmp_path: Path, run: Run, command: Command) -> Phone:
    """Somebody who knows Bob, and whom Bob does not know."""
    mallory = Person(tmp_path / "mallory")
    mallory.make("[red]Mallory[/red]", between.url)
    introduce((bob, "bob"), (mallory, "mallory"))
    assert command("contacts", "remove", "mallory", env=bob.env).returncode == 0
    return between.phone(mallory)


@pytest.mark.parametrize(("policy", "end"), [("code", "code_needed"), ("ring", "declined")])
def test_strangers(policy: str, end: str, run: Run, between: Between, stranger: Phone) -> None:
    calling = between.start(calls(stranger, then_stop=True))
    done = run("--auto-accept", "alice", "--strangers", policy)
    assert done.returncode == 0
    assert calling.result(10) == [end]
    assert [(one["contact"], one["name"]) for one in events(done, "ring")] == (
        [(False, "[red]Mallory[/red]")] if policy == "ring" else []
    )


@pytest.mark.slow
def test_a_stranger_who_is_refused_is_told_to_us_and_not_to_them(run: Run, between: Between, stranger: Phone) -> None:
    async def call() -> str:
        calling = await stranger.call("bob", audio=ToneSource())
        await asyncio.sleep(1.5)
        stop()
        await calling.hang_up()
        return str((await calling.ended()).reason)

    calling = between.start(call())
    done = run("--auto-accept", "alice", "--strangers", "refuse")
    assert done.returncode == 0
    assert calling.result(10) == "hung_up"
    assert [one["code"] for one in events(done, "refused")] == ["message_refused"]  # once, however often it came


class Told:
    """A screen that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, event: str, text: str, /, **data: object) -> None:
        self.lines.append(text)


def test_of_many_refusals_one_is_told_in_ten_seconds() -> None:
    phone: Any = AsyncIOEventEmitter()
    screen: Any = Told()
    now = 0.0
    News(phone, screen, lambda: now)
    for second in range(25):
        now = float(second)
        for error in (MessageReplayed(), NotForUs()):
            phone.emit("refused", error)
    assert len(screen.lines) == 6
    phone.emit("refused", KeyChanged("bob\x1b", "1111", "2222"))
    assert "1111" in screen.lines[-1]
    assert "relaycall keys accept" in screen.lines[-1]
    assert "\x1b" not in screen.lines[-1]


def test_changed_keys_are_told_once_a_minute_for_each_contact() -> None:
    phone: Any = AsyncIOEventEmitter()
    screen: Any = Told()
    now = 0.0
    News(phone, screen, lambda: now)
    for second in range(0, 100, 5):
        now = float(second)
        for name in ("bob", "carol of the lake"):
            phone.emit("refused", KeyChanged(name, "1111", "2222"))
    assert len(screen.lines) == 4
    assert screen.lines[0].endswith("relaycall keys accept bob CARD")
    assert screen.lines[1].endswith("relaycall keys accept 'carol of the lake' CARD")


@pytest.mark.slow
def test_who_is_not_verified_does_not_ring_if_that_is_wanted(run: Run, between: Between, alice: Person) -> None:
    phone = between.phone(alice)

    async def call() -> None:
        calling = await phone.call("bob", audio=ToneSource())
        await asyncio.sleep(1)
        stop()
        await calling.hang_up()

    calling = between.start(call())
    done = run("--auto-accept", "alice", "--unverified", "refuse")
    calling.result(10)
    assert done.returncode == 0
    assert events(done, "ring") == []
    assert events(done, "refused")[0]["code"] == "not_verified"


@pytest.mark.slow
def test_changed_keys_are_told_with_both_fingerprints(run: Run, between: Between, alice: Person) -> None:
    before = alice.card().identity.fingerprint
    asyncio.run(rotate_identity(alice.store, NOW))
    after = alice.card().identity.fingerprint
    # They take the name that Bob has for her.
    phone = between.phone(alice)

    async def call() -> None:
        calling = await phone.call("bob", audio=ToneSource())
        await asyncio.sleep(1.5)
        stop()
        await calling.hang_up()

    calling = between.start(call())
    done = run("--auto-accept", "alice", "--strangers", "ring")
    calling.result(10)
    assert done.returncode == 0
    (told,) = events(done, "refused")
    assert told["code"] == "key_changed"
    assert before in told["sentence"]
    assert after in told["sentence"]
    assert events(done, "ring") == []


def test_who_calls_again_has_lost_the_call_and_is_taken(run: Run, between: Between, alice: Person) -> None:
    first = between.phone(alice)

    async def call_twice() -> tuple[str, str]:
        lost = await first.call("bob", audio=ToneSource())
        assert await lost.connected()
        phone = Phone(signaling=between.url, relays=[between.relay], store=alice.store, laboratory=True, prewarm=False)
        async with phone:  # their mailbox is the new phone's from now on, and the old call goes on
            again = await phone.call("bob", audio=ToneSource())
            assert await again.connected()
            before = (await lost.ended()).reason
            await again.hang_up()
            stop()
            return before, (await again.ended()).reason

    calling = between.start(call_twice())
    done = run("--auto-accept", "alice")
    assert done.returncode == 0, done.stdout + done.stderr
    assert calling.result(10) == ("peer_hung_up", "hung_up")
    assert len(events(done, "ring")) == 1
    assert len(events(done, "again")) == 1
    assert len(events(done, "ended")) == 2


@pytest.mark.slow
def test_another_phone_with_our_keys_ends_it(run: Run, between: Between, alice: Person, bob: Person) -> None:
    first = between.phone(alice)

    async def take() -> None:
        ring: Any = await first.call("bob", audio=ToneSource())  # which shows that Bob is there
        await ring.ended()

    async def other() -> None:
        await take()
        phone = Phone(signaling=between.url, relays=[between.uri], store=bob.store, laboratory=True, prewarm=False)
        async with phone:
            await asyncio.sleep(1)

    taking = between.start(other())
    done = run("--auto-accept", "alice", "--seconds", "0.2")
    assert done.returncode == 4
    assert json.loads(done.stdout.splitlines()[-1])["code"] == "mailbox_replaced"
    taking.result(10)
