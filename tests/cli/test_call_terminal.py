"""`relaycall call` and `relaycall answer` as two people at two terminals use them."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.people import PASSPHRASE, Between, Person, introduce
from tests.cli.terminal import Terminal
from tests.cli.test_call import loudness

pytestmark = pytest.mark.slow

Start = Callable[..., Terminal]


@pytest.fixture
def start(alice: Person, bob: Person, between: Between) -> Iterator[Start]:
    """start(who, *arguments): they know each other, and have a terminal each."""
    alice.make("Alice", between.url)
    bob.make("Bob", between.url)
    introduce((alice, "alice"), (bob, "bob"))
    started: list[Terminal] = []

    def begin(who: Person, *arguments: str | Path, **env: str) -> Terminal:
        started.append(Terminal({**who.env, **env}, *arguments, *between.relays))
        return started[-1]

    yield begin
    for one in started:
        one.close()


def connected(start: Start, alice: Person, bob: Person, *arguments: str | Path) -> tuple[Terminal, Terminal]:
    """Alice has called Bob, who has said yes."""
    answer = start(bob, "answer", "--audio", "tone", *arguments)
    answer.expect("Waiting for calls")
    call = start(alice, "call", "bob", "--audio", "tone")
    answer.expect("y or n")
    answer.type("y")
    call.expect("Connected")
    answer.expect("Connected")
    return call, answer


def test_both_hear_each_other_and_use_the_keys(
    start: Start, alice: Person, bob: Person, between: Between, tmp_path: Path
) -> None:
    answer = start(bob, "answer", "--audio", "tone", "--record", tmp_path / "bob.wav", "--qr")
    answer.expect(f"You are Bob.\r\nFingerprint: {bob.card().identity.fingerprint}")
    answer.expect("▀")
    call = start(alice, "call", "bob", "--audio", "tone", "--record", tmp_path / "alice.wav")
    answer.expect(f'"alice" calls, .* not verified. Fingerprint: {alice.card().identity.fingerprint}')
    answer.expect("y or n")
    answer.type("x\x1b[Ay")  # a paste, and what an arrow key sends, are no answers
    answer.type("y")
    call.expect("Connected")
    quality = r"(good|fair) \d\.\d \| RTT \d+ ms \| loss \d+\.\d% \| \d+ kbit/s out, \d+ in"
    status = rf"connected 0:02 \| {quality} \| {re.escape(between.uri)}"
    call.expect(status)
    answer.expect(status)
    call.type("w")
    words = call.expect(r"same on both sides: (\S+)")[1]
    answer.type("w")
    assert answer.expect(r"same on both sides: (\S+)")[1] == words
    call.type("m")
    call.expect("You are muted")
    answer.expect('"alice" is muted')
    call.type("M")
    call.expect("heard again")
    answer.expect("not muted any more")
    call.type("quite a long text that somebody pastes")
    call.expect("connected 0:0")
    call.type("q")
    assert call.end() == 0, call.screen
    answer.expect('"alice" has hung up')
    answer.expect("Waiting for calls")
    answer.type("q")
    assert answer.end() == 0, answer.screen
    assert loudness(tmp_path / "alice.wav") > 500
    assert loudness(tmp_path / "bob.wav") > 500
    for one in (call, answer):
        assert one.modes_are_as_before()
        assert "canary" not in one.screen
        assert words not in str(one.command_lines)


def test_ctrl_c_hangs_up_and_is_130(start: Start, alice: Person, bob: Person) -> None:
    call, answer = connected(start, alice, bob)
    call.type("\x03")
    assert call.end() == 130
    answer.expect('"alice" has hung up')
    answer.type("\x03")
    assert answer.end() == 130
    for one in (call, answer):
        assert "Traceback" not in one.screen
        assert one.modes_are_as_before()


def test_a_second_ctrl_c_ends_it_at_once(
    start: Start, alice: Person, bob: Person, between: Between, tmp_path: Path
) -> None:
    call, answer = connected(start, alice, bob, "--record", tmp_path / "bob.wav")
    answer.expect("connected 0:01")
    between.end_relay()  # so that hanging up takes a while
    answer.signal(signal.SIGINT)
    time.sleep(0.05)
    answer.signal(signal.SIGINT)
    assert answer.end(5) == 130
    assert "hung up" not in answer.screen
    assert "Traceback" not in answer.screen
    assert answer.modes_are_as_before()
    assert loudness(tmp_path / "bob.wav") > 500  # what was recorded is not lost
    call.type("q")
    assert call.end() in (0, 3)  # 3 if it has found out about the relay before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_hang_up(number: signal.Signals, start: Start, alice: Person, bob: Person) -> None:
    call, answer = connected(start, alice, bob)
    answer.signal(number)
    assert answer.end() == 0
    call.expect('"bob" has hung up')
    assert call.end() == 0


def test_no_declines_and_a_caller_may_give_up(start: Start, alice: Person, bob: Person) -> None:
    answer = start(bob, "answer")
    answer.expect("Waiting for calls")
    call = start(alice, "call", "bob")
    answer.expect("y or n")
    answer.type("n")
    assert call.end() == 7
    answer.expect("Declined")
    call = start(alice, "call", "bob")
    answer.expect("y or n")
    call.type("q")
    assert call.end() == 0
    answer.expect("does not ring any more")
    answer.type("q")
    assert answer.end() == 0


def test_once_ends_with_the_call(start: Start, alice: Person, bob: Person) -> None:
    call, answer = connected(start, alice, bob, "--once")
    call.type("q")
    assert call.end() == 0
    assert answer.end() == 0
    assert answer.modes_are_as_before()


def test_the_passphrase_of_the_vault_is_asked_for_once(start: Start, alice: Person, bob: Person) -> None:
    answer = start(bob, "answer", RELAYCALL_VAULT_PASSPHRASE="")
    answer.expect("Passphrase of the vault: ")
    answer.type(PASSPHRASE + "\n")
    answer.expect("Waiting for calls")
    answer.type("q")
    assert answer.end() == 0
    assert answer.screen.count("Passphrase") == 1
    assert PASSPHRASE not in answer.screen


def test_a_call_by_hand_whose_texts_are_pasted(start: Start, alice: Person, bob: Person) -> None:
    answer = start(bob, "answer", "--manual", "--audio", "tone")
    answer.expect("Paste their text here")
    call = start(alice, "call", "--manual", "bob", "--audio", "tone", "--qr")
    offer = call.expect(r"RELAYCALL-ENVELOPE:1:[A-Z2-7]+:RELAYCALL")[0]
    call.expect("Paste their text here")
    answer.type("something else\n")
    answer.expect("no text of relaycall")
    answer.type(offer[:700])  # a slow line: the paste comes in two parts
    time.sleep(1)
    answer.type(offer[700:] + "\n")
    answer.expect("y or n")
    answer.type("y")
    reply = answer.expect(r"RELAYCALL-ENVELOPE:1:[A-Z2-7]+:RELAYCALL")[0]
    call.type(offer + "\n")
    call.expect("it is your own")
    call.type("> " + "\n> ".join(re.findall(".{1,70}", reply)) + "\n")
    call.expect("Connected")
    answer.expect("connected 0:01")
    call.type("q")
    assert call.end() == 0, call.screen
    answer.expect("has hung up")
    answer.expect("Paste their text here")
    answer.type("q")
    assert answer.end() == 0
