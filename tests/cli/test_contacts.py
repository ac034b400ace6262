"""`relaycall contacts`, in this process, and at a terminal."""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from relaycall import cli
from relaycall.cli.remote_text import shown
from relaycall.errors import NameplateUnknown, PairingFailed
from relaycall.identity.card import Card, card_to_text
from relaycall.identity.code_exchange import offer_code, use_code
from relaycall.identity.keys import Identity
from relaycall.identity.one_time_code import OneTimeCode, parse_code
from relaycall.redact import Secret
from relaycall.signaling.opening import open_signaling
from relaycall.signaling.rendezvous import Rendezvous
from tests.cli.conftest import Command
from tests.cli.people import NOW, Between, Person
from tests.cli.terminal import Terminal
from tests.cli.test_keys import URL, Run, card_of


@pytest.fixture
def run(command: Command, alice: Person) -> Run:
    """As Alice."""
    return lambda *arguments, given="": command("contacts", *arguments, given=given, env=alice.env)


def listed(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("list", "--json").stdout.splitlines()]


def test_a_life(run: Run, tmp_path: Path) -> None:
    assert "no contacts" in run("list").stdout
    (tmp_path / "card").write_text(card_of(1))
    added = run("add", tmp_path / "card")
    assert added.returncode == 0, added.stderr
    assert Identity(b"\1" * 96).public.fingerprint in added.stdout
    assert "not verified" in added.stdout
    assert run("add", card_of(2, "Carol"), "--name", "carol at work").returncode == 0
    assert json.loads(run("add", "-", "--json", given=card_of(3, "Dave")).stdout)["name"] == "Dave"
    wrapped = "\n> ".join(re.findall(".{1,60}", card_of(4, "Erin")))
    assert run("add", *wrapped.split()).returncode == 0
    assert [entry["name"] for entry in listed(run)] == ["Bob", "carol at work", "Dave", "Erin"]
    assert {entry["verified"] for entry in listed(run)} == {False}
    assert run("rename", "bob", "Robert").returncode == 0
    assert run("remove", "dave").returncode == 0
    assert run("remove", "dave").returncode == 2
    shown_ = run("list").stdout
    for word in ("Robert", "carol at work", "Erin", URL, Identity(b"\1" * 96).public.fingerprint):
        assert word in shown_
    assert "Dave" not in shown_


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["add", card_of(9)], 2),  # the name is taken
        (["add", card_of(1), "--name", "other"], 2),  # these keys have another name
        (["add", card_of(9), "--name", "BOB"], 2),
        (["add", card_of(9), "--name", "\u202ebob"], 2),
        (["add", "no-such-canary"], 2),
        (["add"], 2),
        (["add", card_of(9)[:50]], 4),
        (["add", card_of(9).replace("RELAYCALL-CARD", "RELAYCALL-ENVELOPE")], 4),
        (["add", card_of(9), "--code"], 2),
        (["add", card_of(9), "--signaling", URL], 2),
        (["rename", "bob", ""], 2),
        (["rename", "nobody", "x"], 2),
        (["remove", "nobody"], 2),
        (["remove", "contacts/0"], 2),
        (["nonsense"], 2),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_error_and_changes_nothing(arguments: list[str], code: int, run: Run) -> None:
    run("add", card_of(1))
    before = listed(run)
    done = run(*arguments)
    assert done.returncode == code
    assert done.stderr
    assert "canary" not in done.stderr
    assert "\u202e" not in done.stderr
    assert "Traceback" not in done.stderr
    assert listed(run) == before


def test_who_comes_again_with_other_keys_or_another_name_is_told_what_to_do(run: Run) -> None:
    run("add", card_of(1), "--name", "bob of the lake")
    changed = run("add", card_of(9), "--name", "Bob of the Lake")
    assert changed.returncode == 2
    assert "relaycall keys accept 'bob of the lake'" in changed.stderr
    for seed in (1, 9):
        assert Identity(bytes([seed]) * 96).public.fingerprint in changed.stderr
    renamed = run("add", card_of(1), "--name", "robert")
    assert renamed.returncode == 2
    assert "relaycall contacts rename 'bob of the lake' NEW" in renamed.stderr
    assert "accept" not in renamed.stderr
    assert len(listed(run)) == 1


def test_our_own_card_is_refused(run: Run, alice: Person) -> None:
    alice.make("Alice", URL)
    done = run("add", alice.card_text)
    assert done.returncode == 2
    assert "your own" in done.stderr
    assert listed(run) == []


def test_what_others_call_themselves_is_shown_as_it_is_written(run: Run) -> None:
    run("add", card_of(1, "[red]Bob[/red] [link=x]"))
    for arguments in (["list"], ["rename", "[red]Bob[/red] [link=x]", "[bold]\\"]):
        done = run(*arguments)
        assert "[red]Bob[/red] [link=x]" in done.stdout + done.stderr
    assert "[bold]\\" in run("list").stdout


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("Bob", '"Bob"'),
        ("Bob\x1b[2J\r\n", r'"Bob\x1b[2J\r\n"'),
        ("a\u202eb\u2066c\u200bd", r'"a\u202eb\u2066c\u200bd"'),
        ('Bob", a contact', r'"Bob\", a contact"'),
        ("\\x1b", r'"\\x1b"'),
        ("Zoë 电话 עברית", '"Zoë 电话 עברית"'),
        ("\x9b31m\x7f\U000e0041\ud800", r'"\x9b31m\x7f\U000e0041\ud800"'),
    ],
)
def test_remote_text_cannot_reach_the_terminal_as_anything_but_text(text: str, safe: str) -> None:
    assert shown(text) == safe


def test_a_damaged_entry_is_told_and_can_be_removed(run: Run, alice: Person) -> None:
    run("add", card_of(1))
    entry = f"contacts/{'0' * 32}"
    asyncio.run(alice.store.set(entry, Secret("damaged")))
    assert entry in run("list").stderr
    assert {"damaged": entry} in listed(run)
    assert run("remove", entry).returncode == 0
    assert [found.get("name") for found in listed(run)] == ["Bob"]


# --- codes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--code", "7-absurd-bravado"],
        ["--code=7-absurd-bravado"],
        ["--code", "7", "absurd", "bravado"],
        ["--code", "new", "7-absurd-bravado"],
        ["7-absurd-bravado"],
    ],
)
def test_a_code_is_never_an_argument_and_is_not_repeated(arguments: list[str], run: Run) -> None:
    done = run("add", *arguments)
    assert done.returncode == 2
    assert "absurd" not in done.stdout + done.stderr
    assert "bravado" not in done.stdout + done.stderr


def test_a_malformed_code_is_not_repeated_either(run: Run, alice: Person) -> None:
    alice.make("Alice", URL)
    for given in ("zulu-yucatan\n", "7-zulu-canary\n", "", "x" * 10_000):
        done = run("add", "--code", given=given)
        assert done.returncode == 2, done.stderr
        assert "canary" not in done.stderr
        assert "zulu" not in done.stderr


def other_card(name: str = "Bob") -> Card:
    return Card.make(Identity(b"\1" * 96), serial=1, name=name, signaling=URL, created=int(NOW))


class Maker:
    """Makes a code in the thread, and waits for its use.

    Attributes:
        text: the code.
        theirs: what comes in exchange, once it does.
    """

    def __init__(self, between: Between, card: Card) -> None:
        made: Future[str] = Future()

        async def offered() -> bytes:
            async with offer_code(open_signaling(between.url), card.encode()) as offer:
                made.set_result(offer.code.reveal())
                return await offer.peer_payload()

        self.theirs = between.start(offered())
        self.text = made.result(10)


def test_cards_cross_by_a_code_that_is_typed(run: Run, alice: Person, between: Between) -> None:
    alice.make("Alice", between.url)
    maker = Maker(between, other_card())
    done = run("add", "--code", "--json", given=maker.text.replace("-", " ").upper() + "\n")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fingerprint"] == other_card().identity.fingerprint
    assert maker.theirs.result(10) == alice.card().encode()
    assert maker.text not in done.stdout + done.stderr
    assert [entry["name"] for entry in listed(run)] == ["Bob"]


def test_a_taken_name_is_told_before_a_code_is_used_up_or_the_card_is_kept(
    run: Run, alice: Person, between: Between
) -> None:
    alice.make("Alice", between.url)
    run("add", card_of(7))
    maker = Maker(between, other_card())
    assert run("add", "--code", "--name", "bob", given=maker.text).returncode == 2
    assert not maker.theirs.done()
    done = run("add", "--code", given=maker.text)
    assert done.returncode == 2
    assert card_to_text(other_card()) in done.stderr  # it can still be added, under another name
    assert run("add", card_to_text(other_card()), "--name", "bobby").returncode == 0
    maker.theirs.result(10)


def test_a_wrong_code_fails_on_both_sides_once(run: Run, alice: Person, between: Between) -> None:
    alice.make("Alice", between.url)
    maker = Maker(between, other_card())
    right = parse_code(maker.text)
    wrong = OneTimeCode(right.nameplate, bytes([right.secret[0] ^ 1, right.secret[1]])).reveal()
    done = run("add", "--code", given=wrong)
    assert done.returncode == 5
    assert "used up" in done.stderr
    assert not any(word in done.stderr for word in wrong.split("-")[1:])
    with pytest.raises(PairingFailed):
        maker.theirs.result(10)
    assert run("add", "--code", given=maker.text).returncode == 4  # the number is gone
    assert listed(run) == []


@pytest.mark.parametrize("given", ["7-absurd-bravado", ""])
def test_codes_take_keys_and_a_server(given: str, run: Run, alice: Person) -> None:
    assert run("add", "--code", given="7-absurd-bravado").returncode == 6  # nothing to give in exchange
    alice.make("Alice", "ws://127.0.0.1:9")
    assert run("add", "--code", given="7-absurd-bravado").returncode == 4
    assert run("add", "--code", "new").returncode == 4
    assert run("add", "--code", "new", "--signaling", "manual:").returncode == 2


@pytest.mark.slow
def test_a_new_code_is_shown_and_waits_and_is_in_no_log(alice: Person, between: Between, run: Run) -> None:
    alice.make("Alice", between.url)
    env = {**alice.env, "PYTHONASYNCIODEBUG": "1"}
    add = Terminal(env, "-v", "contacts", "add", "--code", "new")
    code = add.expect(r"one-time code: (\S+)")[1]
    add.expect("Waiting for them: (10:00|9:[0-5][0-9])")
    theirs = between.run(use_code(open_signaling(between.url), parse_code(code), other_card().encode()))
    assert add.end() == 0, add.screen
    assert theirs == alice.card().encode()
    assert add.screen.count(code) == 1
    words = code.encode().split(b"-")[1:]
    assert not any(word in line for line in add.command_lines for word in words)
    assert [entry["name"] for entry in listed(run)] == ["Bob"]
    add.close()


@pytest.mark.slow
def test_a_code_is_typed_at_the_terminal_and_asked_for_again(alice: Person, between: Between) -> None:
    alice.make("Alice", between.url)
    maker = Maker(between, other_card())
    add = Terminal(alice.env, "-v", "contacts", "add", "--code")
    add.expect("one-time code: ")
    add.type("7-nonsense-nonsense\n")
    add.expect("not in the list")
    add.expect("one-time code: ")
    add.type(maker.text + "\n")
    assert add.end() == 0, add.screen
    assert add.screen.count(maker.text) == 1  # as it was typed
    assert not any(maker.text.encode() in line for line in add.command_lines)
    add.close()


@pytest.mark.slow
def test_ctrl_c_takes_a_code_back(alice: Person, between: Between) -> None:
    alice.make("Alice", between.url)
    add = Terminal(alice.env, "contacts", "add", "--code", "new")
    code = parse_code(add.expect(r"one-time code: (\S+)")[1])
    add.expect("Waiting")
    add.type("\x03")
    assert add.end() == 130
    assert "Traceback" not in add.screen

    async def claim() -> bytes:
        async with open_signaling(between.url) as signaling:
            assert isinstance(signaling, Rendezvous)
            return await signaling.claim_nameplate(code.nameplate)

    with pytest.raises(NameplateUnknown):
        between.run(claim())
    add.close()


@pytest.mark.slow
def test_a_card_is_pasted(alice: Person, run: Run) -> None:
    add = Terminal(alice.env, "contacts", "add")
    add.expect("Paste")
    add.type("Here it is:\n> " + card_of(1) + "\n")
    assert add.end() == 0, add.screen
    assert [entry["name"] for entry in listed(run)] == ["Bob"]
    add.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["completion", shell]) == 0
    assert "_RELAYCALL_COMPLETE" in capsys.readouterr().out
    assert cli.run(["completion", "tcsh"]) == 2


@pytest.mark.parametrize(
    ("words", "found"), [("relaycall con", {"config", "contacts"}), ("relaycall keys ro", {"rotate"})]
)
def test_what_the_script_asks_for_is_answered(
    words: str, found: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_RELAYCALL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit):
        cli.run([])
    assert {line.partition(",")[2] for line in capsys.readouterr().out.splitlines()} == found
