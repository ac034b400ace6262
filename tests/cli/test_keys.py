"""`relaycall keys`, in this process, and at a terminal."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import segno

from relaycall.identity.card import Card, card_to_text
from relaycall.identity.contact import Contact
from relaycall.identity.contacts import ContactBook
from relaycall.identity.keys import Identity
from relaycall.identity.own import rotate_identity
from relaycall.identity.safety import safety_number
from relaycall.redact import Secret
from tests.cli.conftest import Command
from tests.cli.people import NOW, Person, introduce
from tests.cli.terminal import Terminal

URL = "wss://signaling.example.org"
Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def run(command: Command, alice: Person) -> Run:
    """As Alice."""
    return lambda *arguments, given="": command(*arguments, given=given, env=alice.env)


@pytest.fixture
def known(alice: Person, bob: Person) -> Contact:
    """Alice knows Bob."""
    alice.make("Alice", URL)
    bob.make("Bob", URL)
    introduce((alice, "alice"), (bob, "bob"))
    return contact_of(alice)


def contact_of(person: Person, name: str = "bob") -> Contact:
    async def look() -> Contact:
        book = ContactBook(person.store)
        await book.load()
        return book.get(name)

    return asyncio.run(look())


# --- show and export --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [(), ("--name", "Alice"), ("--signaling", URL), ("--json",)])
def test_no_keys_are_made_unless_both_name_and_server_are_given(
    given: tuple[str, ...], run: Run, alice: Person
) -> None:
    done = run("keys", "show", *given)
    assert done.returncode == 6
    assert "--name and --signaling" in done.stderr
    assert asyncio.run(alice.store.get("identity/me")) is None


def test_keys_are_made_once_and_shown_as_they_are(run: Run, alice: Person) -> None:
    made = run("keys", "show", "--name", "Alice", "--signaling", URL, "--json")
    assert made.returncode == 0, made.stderr
    entry = json.loads(made.stdout)
    assert entry["card"] == alice.card_text
    assert entry["fingerprint"] == alice.card().identity.fingerprint
    assert (entry["name"], entry["signaling"]) == ("Alice", URL)
    again = run("keys", "show", "--name", "Alice", "--signaling", URL)
    assert again.returncode == 0
    assert entry["fingerprint"] in again.stdout
    assert entry["card"] in again.stdout
    assert "\x1b" not in again.stdout  # no picture where there is no terminal
    other = run("keys", "show", "--name", "Mallory")
    assert other.returncode == 2
    assert "already" in other.stderr
    assert alice.card_text == entry["card"]


@pytest.mark.parametrize(
    ("name", "url"), [("Alice", "nonsense"), ("Alice", "gopher://x"), ("", URL), ("A\x1b[31m", URL), ("x" * 65, URL)]
)
def test_what_cannot_stand_in_a_card_makes_no_keys(name: str, url: str, run: Run, alice: Person) -> None:
    done = run("keys", "show", "--name", name, "--signaling", url)
    assert done.returncode in (2, 6)  # an empty name is none
    assert "\x1b" not in done.stderr
    assert asyncio.run(alice.store.get("identity/me")) is None


def test_a_server_that_could_not_be_used_makes_no_keys(run: Run, alice: Person) -> None:
    arguments = ["keys", "show", "--name", "Alice", "--signaling", "ws://signaling.example.org"]
    done = run(*arguments)
    assert done.returncode == 2
    assert "wss:" in done.stderr
    assert asyncio.run(alice.store.get("identity/me")) is None
    assert run(*arguments, "--laboratory").returncode == 0
    moved = run("keys", "show", "--signaling", URL)
    assert moved.returncode == 2
    assert "answer --signaling" in moved.stderr


def test_without_a_keyring_the_vault_is_named_and_nothing_that_keeps_no_keys(command: Command, alice: Person) -> None:
    env = {name: value for name, value in alice.env.items() if name != "RELAYCALL_VAULT_PASSPHRASE"}
    for arguments in (["keys", "show"], ["contacts", "list"]):
        done = command(*arguments, env=env)
        assert done.returncode == 6
        assert "RELAYCALL_VAULT_PASSPHRASE" in done.stderr
        assert "env:" not in done.stderr
        assert "file:" not in done.stderr


def test_damaged_keys_stay_as_they_are(run: Run, alice: Person) -> None:
    damaged = Secret("canary-damaged")
    asyncio.run(alice.store.set("identity/me", damaged))
    for arguments in (["show", "--name", "Alice", "--signaling", URL], ["export"], ["rotate", "--yes"]):
        done = run("keys", *arguments)
        assert done.returncode == 6
        assert "cannot be read" in done.stderr
        assert "canary" not in done.stdout + done.stderr
    assert asyncio.run(alice.store.get("identity/me")) == damaged


def test_the_card_is_exported(run: Run, alice: Person, tmp_path: Path) -> None:
    assert run("keys", "export").returncode == 6
    alice.make("Alice", URL)
    assert run("keys", "export").stdout == alice.card_text + "\n"
    file = tmp_path / "card.txt"
    assert run("keys", "export", file).returncode == 0
    assert file.read_text() == alice.card_text + "\n"
    file.write_text("something else")
    done = run("keys", "export", file)
    assert done.returncode == 2
    assert file.read_text() == "something else"
    assert run("keys", "export", tmp_path / "no" / "card.txt").returncode == 2


# --- verify -----------------------------------------------------------------------------------------------------------


def test_the_number_is_the_same_on_both_sides_and_asking_for_it_changes_nothing(
    run: Run, command: Command, alice: Person, bob: Person, known: Contact
) -> None:
    mine = json.loads(run("keys", "verify", "bob", "--json").stdout)
    theirs = json.loads(command("keys", "verify", "alice", "--json", env=bob.env).stdout)
    assert mine["digits"] == theirs["digits"] == safety_number(alice.card().identity, known.identity).digits
    assert mine["words"] == theirs["words"]
    assert mine["verified"] is False
    assert not contact_of(alice).verified


def test_yes_verifies(run: Run, alice: Person, known: Contact) -> None:
    done = run("keys", "verify", "BOB", "--yes")
    assert done.returncode == 0, done.stderr
    number = safety_number(alice.card().identity, known.identity)
    assert number.digits in " ".join(done.stdout.split())
    assert " ".join(number.words) in " ".join(done.stdout.split())
    assert contact_of(alice).verified
    assert json.loads(run("keys", "verify", "bob", "--json").stdout)["verified"] is True


def test_without_a_terminal_nobody_is_asked(run: Run, alice: Person, known: Contact) -> None:
    for arguments in (["verify", "bob"], ["rotate"], ["accept", "bob", card_of(1)]):
        before = alice.card(), contact_of(alice)
        done = run("keys", *arguments, given="y\n")
        assert done.returncode == 2
        assert "--yes" in done.stderr
        assert (alice.card(), contact_of(alice)) == before


def test_the_qr_code_holds_the_bytes_that_the_other_side_compares(alice: Person, known: Contact) -> None:
    number = safety_number(alice.card().identity, known.identity).qr()
    assert segno.make_qr(number.decode("latin-1"), error="L").matrix == segno.make_qr(number, error="L").matrix


# --- accept and rotate ------------------------------------------------------------------------------------------------


def card_of(seed: int, name: str = "Bob") -> str:
    identity = Identity(bytes([seed]) * 96)
    return card_to_text(Card.make(identity, serial=1, name=name, signaling=URL, created=int(NOW)))


def test_changed_keys_are_taken_with_both_fingerprints_shown(
    run: Run, alice: Person, known: Contact, tmp_path: Path
) -> None:
    run("keys", "verify", "bob", "--yes")
    file = tmp_path / "new"
    file.write_text("They write:\n> " + card_of(1) + "\n")
    done = run("keys", "accept", "bob", file, "--yes")
    assert done.returncode == 0, done.stderr
    after = contact_of(alice)
    assert after.identity == Identity(b"\1" * 96).public
    assert not after.verified
    assert known.identity.fingerprint in done.stdout
    assert after.identity.fingerprint in done.stdout
    done = run("keys", "accept", "bob", "-", "--json", given=card_of(1))  # nothing to ask about
    assert json.loads(done.stdout)["known"] == json.loads(done.stdout)["new"] == after.identity.fingerprint


@pytest.mark.parametrize(
    ("contact", "card", "code"),
    [
        ("nobody", card_of(1), 2),
        ("bob", "RELAYCALL-CARD:1:AAAA", 4),
        ("bob", card_of(1)[:-20] + ":RELAYCALL", 4),
        ("bob", "no-such-file-canary", 2),
        ("bob", ".", 2),
    ],
)
def test_what_is_not_taken_changes_nothing(
    contact: str, card: str, code: int, run: Run, alice: Person, known: Contact
) -> None:
    done = run("keys", "accept", contact, card, "--yes")
    assert done.returncode == code
    assert "canary" not in done.stderr
    assert contact_of(alice) == known


def test_rotate_makes_others_keys_and_keeps_the_contacts(run: Run, alice: Person, known: Contact) -> None:
    before = alice.card()
    done = run("keys", "rotate", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    entry = json.loads(done.stdout)
    assert entry["before"] == before.identity.fingerprint
    assert entry["fingerprint"] == alice.card().identity.fingerprint != entry["before"]
    assert entry["card"] == alice.card_text
    assert contact_of(alice) == known
    asyncio.run(rotate_identity(alice.store, NOW))
    assert alice.card().serial == before.serial + 2


# --- at a terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_person_is_asked_before_keys_are_made(alice: Person) -> None:
    show = Terminal(alice.env, "keys", "show", columns=100, lines=60)
    show.expect("call yourself: ")
    show.type("Alice\n")
    show.expect("signaling server: ")
    show.type(URL + "\n")
    assert show.end() == 0, show.screen
    assert alice.card_text in show.screen.replace("\r\n", "")
    assert "▀" in show.screen
    show.close()


@pytest.mark.slow
@pytest.mark.parametrize(("says", "code"), [("y", 0), ("n", 5)])
def test_verify_asks_and_a_no_takes_it_back(says: str, code: int, alice: Person, known: Contact, run: Run) -> None:
    run("keys", "verify", "bob", "--yes")
    verify = Terminal(alice.env, "keys", "verify", "bob")
    verify.expect(r"\[y/n\]")
    verify.type("\n")  # Enter alone is no answer
    verify.expect(r"\[y/n\]")
    verify.type(says + "\n")
    assert verify.end() == code
    assert contact_of(alice).verified is (says == "y")
    assert re.search("▀", verify.screen)
    verify.close()
