"""Whom `relaycall call` calls: a contact, whoever has a card, or whoever has made a one-time code."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, cast

import pytest

from relaycall.cli import call
from relaycall.cli.offering import Offering
from relaycall.cli.screen import JsonScreen, PeopleScreen
from relaycall.errors import PairingTimeout
from relaycall.identity.code_exchange import use_code
from relaycall.identity.contacts import ContactBook
from relaycall.identity.one_time_code import parse_code
from relaycall.media.audio import SilenceSource
from relaycall.signaling.opening import open_signaling
from tests.cli.conftest import Command
from tests.cli.people import NOW, Between, Person, introduce
from tests.cli.terminal import Terminal
from tests.cli.test_answer import stop
from tests.cli.test_call import accepting, events, objects
from tests.cli.test_contacts import Maker, other_card

Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def run(command: Command, alice: Person, bob: Person, between: Between) -> Run:
    """As Alice, who knows nobody; Bob knows her."""
    alice.make("Alice", between.url)
    bob.make("Bob", between.url)

    card = alice.card()

    async def add() -> None:
        book = ContactBook(bob.store)
        await book.load()
        await book.add(card, NOW)

    asyncio.run(add())

    def call_as_alice(*arguments: str | Path, **options: Any) -> CompletedProcess[str]:
        return command("call", *between.relays, "--seconds", "0.3", "--json", *arguments, env=alice.env, **options)

    return call_as_alice


# --- cards ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "way", ["file", *(pytest.param(way, marks=pytest.mark.slow) for way in ("text", "wrapped", "-"))]
)
def test_whoever_has_a_card_is_called(way: str, run: Run, bob: Person, between: Between, tmp_path: Path) -> None:
    (tmp_path / "card of bob").write_text(f"Hello,\n{bob.card_text}\n")
    text = bob.card_text
    given = {"text": [text], "wrapped": [text[:90], text[90:]], "file": ["card of bob"], "-": ["-"]}[way]
    taken = accepting(between, between.phone(bob))
    done = run(*given, given=text if way == "-" else "", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert taken.result(10) == "peer_hung_up"
    assert objects(done)[-1]["report"]["contact"] is False  # and nobody was added


@pytest.mark.slow
def test_a_contact_comes_before_a_file_of_that_name(
    run: Run, alice: Person, bob: Person, between: Between, tmp_path: Path
) -> None:
    introduce((alice, "alice"), (bob, "bob"))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "bob").write_text("this is no card")
    taken = accepting(between, between.phone(bob))
    done = run("bob", cwd=tmp_path / "here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert taken.result(10) == "peer_hung_up"


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ("none", 2, "contact_unknown"),
        ("no-card", 4, "text_refused"),
        ("folder", 2, "config"),
        ("RELAYCALL-CARD:1:AEGZ", 4, "text_truncated"),
        ("x" * 5000, 2, ""),
        ("\0", 2, ""),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) and value.isprintable() else "",
)
def test_what_is_nobody_is_told_at_once(given: str, code: int, words: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "no-card").write_text("nothing of ours")
    (tmp_path / "folder").mkdir()
    done = run(given, cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    (told,) = objects(done)
    assert told["event"] == "error"
    assert words in told["code"]
    assert told["next_step"]


# --- codes ------------------------------------------------------------------------------------------------------------


def test_a_code_is_no_argument(run: Run) -> None:
    done = run("--code", "7-absurd-bravado")
    assert done.returncode == 2
    assert "never an argument" in done.stdout
    assert "absurd" not in done.stdout + done.stderr


@pytest.mark.slow
def test_who_has_made_the_code_is_added_and_called(
    run: Run, alice: Person, bob: Person, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "SETTLE", 0.1)  # he knows her
    maker = Maker(between, bob.card())
    taken = accepting(between, between.phone(bob))
    done = run("--code", given=maker.text + "\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert maker.theirs.result(10) == alice.card().encode()
    assert taken.result(10) == "peer_hung_up"
    (added,) = events(done, "added")
    assert added["name"] == "Bob"
    assert added["verified"] is False
    assert added["fingerprint"] == bob.card().identity.fingerprint
    assert maker.text not in done.stdout + done.stderr


def test_a_taken_name_keeps_the_card_and_calls_nobody(run: Run, alice: Person, bob: Person, between: Between) -> None:
    introduce((alice, "alice"), (bob, "bob"))
    maker = Maker(between, other_card())
    done = run("--code", given=maker.text)
    assert done.returncode == 2
    assert [one["code"] for one in objects(done)] == ["contact_exists"]
    assert "--name" in objects(done)[0]["next_step"]
    assert "RELAYCALL-CARD" in done.stderr
    maker.theirs.result(10)


@pytest.mark.parametrize(("given", "code"), [("", 2), ("nonsense", 2), ("999-absurd-bravado", 4)])
def test_a_code_that_is_none(given: str, code: int, run: Run) -> None:
    done = run("--code", given=given)
    assert done.returncode == code
    assert objects(done)[-1]["event"] == "error"
    assert not given or given not in done.stdout + done.stderr


# --- the side that makes it -------------------------------------------------------------------------------------------


@pytest.fixture
def answers(command: Command, bob: Person, between: Between) -> Run:
    """As Bob, who takes only Carol's calls without asking, and knows nobody else."""
    bob.make("Bob", between.url)
    carol = Person(bob.folder.parent / "carol")
    carol.make("Carol", between.url)
    introduce((bob, "bob"), (carol, "carol"))
    arguments = ["answer", *between.relays, "--json", "--auto-accept", "carol", "--code"]
    return lambda *more: command(*arguments, *more, env=bob.env)


@pytest.fixture
def offered(between: Between, monkeypatch: pytest.MonkeyPatch) -> asyncio.Future[str] | Any:
    """The code that is made, once it is: it can be waited for in the thread."""
    made: asyncio.Queue[str] = asyncio.Queue()

    real = JsonScreen.say

    def say(self: JsonScreen, event: str, text: str, /, **data: Any) -> None:
        real(self, event, text, **data)
        if event == "code":
            between._loop.call_soon_threadsafe(made.put_nowait, data["code"])

    monkeypatch.setattr(JsonScreen, "say", say)
    return made


def test_who_uses_the_code_is_a_contact_and_rings_while_we_answer(
    answers: Run, offered: Any, alice: Person, bob: Person, between: Between
) -> None:
    alice.make("Alice", between.url)
    phone = between.phone(alice)

    async def use() -> str:
        code = parse_code(await offered.get())
        theirs = await use_code(open_signaling(between.url), code, phone.card.encode())
        assert theirs == bob_card.encode()
        await phone.contacts.add(bob_card, NOW)
        for _ in range(50):  # until he has written it down
            await asyncio.sleep(0.1)
            call = await phone.call("Bob", audio=SilenceSource())
            reason = (await call.ended()).reason
            if reason != "code_needed":
                break
        stop()
        return reason

    bob_card = bob.card()
    using = between.start(use())
    done = answers()
    assert done.returncode == 0, done.stdout + done.stderr
    assert using.result(10) == "declined"  # it rang, and there is nobody at a terminal
    (code,) = events(done, "code")
    assert code["seconds"] == 600
    (added,) = events(done, "added")
    assert (added["name"], added["verified"]) == ("Alice", False)
    assert [one["name"] for one in events(done, "ring")] == ["Alice"]


def test_a_wrong_try_is_told_and_calls_go_on(answers: Run, offered: Any, alice: Person, between: Between) -> None:
    card = alice.make("Alice", between.url).encode()

    async def use() -> None:
        code = parse_code(await offered.get())
        wrong = type(code)(code.nameplate, bytes([code.secret[0] ^ 1, code.secret[1]]))
        with pytest.raises(Exception, match="used up"):
            await use_code(open_signaling(between.url), wrong, card)
        await asyncio.sleep(0.3)
        stop()

    using = between.start(use())
    done = answers()
    using.result(10)
    assert done.returncode == 0
    (ended,) = events(done, "code_ended")
    assert ended["code"] == "pairing_failed"
    assert ended["next_step"]
    assert events(done, "added") == []


def test_when_we_end_the_code_leads_nowhere(answers: Run, offered: Any, alice: Person, between: Between) -> None:
    alice.make("Alice", between.url)

    async def end() -> str:
        code: str = await offered.get()
        stop()
        return code

    ending = between.start(end())
    assert answers().returncode == 0
    code = parse_code(ending.result(10))
    with pytest.raises(Exception, match="number"):
        between.run(use_code(open_signaling(between.url), code, alice.card().encode()))


async def test_a_code_that_nobody_uses_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    class Nobody:
        async def peer_payload(self) -> bytes:
            raise PairingTimeout

    found = Offering.__new__(Offering)
    found._phone, found._screen = cast(Any, None), PeopleScreen()
    await found._wait(Nobody())  # type: ignore[arg-type]
    assert capsys.readouterr().err.startswith(f"The one-time code has ended: {PairingTimeout.sentence}")


# --- two people at two terminals, over a server of their own ----------------------------------------------------------


@pytest.fixture
def served() -> Iterator[dict[str, Any]]:
    """What `relaycall serve --turn` says of itself."""
    command = [sys.executable, "-m", "relaycall", "serve", "--port", "0", "--turn", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.terminate()


@pytest.mark.slow
def test_a_code_is_told_used_and_called_with(
    served: dict[str, Any], alice: Person, bob: Person, tmp_path: Path
) -> None:
    url = served["urls"][0]
    alice.make("Alice", url)
    bob.make("Bob", url)
    (tmp_path / "password").write_text(served["login"]["password"])
    relay = ["--relay", served["relays"][0], "--user", served["login"]["username"]]
    relay += ["--credential-file", str(tmp_path / "password"), "--laboratory"]
    answer = Terminal(bob.env, "answer", "--code", "--qr", "--once", "--audio", "tone", *relay)
    code = answer.expect(r"Your one-time code: (\S+)\r\n")[1]
    answer.expect("▀")
    call = Terminal(alice.env, "call", "--code", "--audio", "tone", *relay)
    call.expect("Their one-time code: ")
    call.type(code + "\n")
    call.expect(f'Added "Bob", fingerprint {bob.card().identity.fingerprint}')
    answer.expect(f'Added "Alice", fingerprint {alice.card().identity.fingerprint}')
    answer.expect('"Alice" calls, a contact of yours, not verified')
    answer.expect("y or n")
    answer.type("y")
    call.expect(r"connected 0:02 \| (good|fair) \d\.\d \| ")
    call.type("q")
    assert call.end() == 0, call.screen
    assert answer.end() == 0, answer.screen
    for one in (call, answer):
        assert one.screen.count("Opinion score") == 1
        assert one.modes_are_as_before()
        assert not any(word.encode() in line for word in code.split("-")[1:] for line in one.command_lines)
        one.close()


@pytest.mark.slow
def test_ctrl_c_where_the_code_is_typed(alice: Person, between: Between) -> None:
    alice.make("Alice", between.url)
    call = Terminal(alice.env, "call", "--code", *between.relays)
    call.expect("Their one-time code: ")
    call.type("\x03")
    assert call.end() == 130
    assert "Traceback" not in call.screen
    call.close()
