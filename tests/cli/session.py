"""The session of docs/cli.md: two people exchange a code and talk, each at a terminal of their own.

python -m tests.cli.session     # prints it, as the document shows it
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from tests.cli.people import Between, Person
from tests.cli.terminal import Terminal

COLUMNS, LINES = 120, 30

# What differs from one session to the next, and what stands for it when two are compared.
_MASKS = [
    (r"RELAYCALL-CARD:1:[A-Z2-7.]+:RELAYCALL", "CARD"),
    (r"\b[0-9a-f]{4}( [0-9a-f]{4}){7}\b", "FINGERPRINT"),
    (r"\b\d+-[a-z]+-[a-z]+\b", "CODE"),
    (r"\b[a-z]+-[a-z]+-[a-z]+-[a-z]+\b", "WORDS"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"\d+ columns and \d+ lines", "SIZE"),
    (r"RTT \d+ ms", "RTT"),
    (r"\d+ kbit/s out, \d+ in", "RATE"),
    (r"loss \d+\.\d%", "LOSS"),
    (r"\b(good|fair) \d\.\d\b", "LEVEL"),
    (r"^(Connected for|Round trip|Lost:|Heard:|Opinion score) .*", r"\1"),
    (r"^[\d.]+ k?B sent, [\d.]+ k?B received\.$", "BYTES"),
]


def masked(text: str) -> str:
    """The text without what differs from one session to the next."""
    for pattern, stands in _MASKS:
        text = re.sub(pattern, stands, text)
    return text


def configure(person: Person, between: Between) -> None:
    """Give them a configuration with the relay."""
    folder = person.folder / "config" / "relaycall"
    folder.mkdir(parents=True)
    options = dict(zip(between.relays[1::2], between.relays[2::2], strict=True))
    (folder / "config.toml").write_text(
        f'laboratory = true\n[[relays]]\nurls = "{options["--relay"]}"\n'
        f'username = "{options["--user"]}"\ncredential = "file:{options["--credential-file"]}"\n'
    )


class Session:
    """Two people at their terminals.

    Attributes:
        said: what each of them has seen, by name: the commands and what came.
        status: the line of a call that changes, as it was seen once.
    """

    def __init__(self, alice: Person, bob: Person, between: Between) -> None:
        self._people = {"alice": alice, "bob": bob}
        self._url = between.url
        self.said: dict[str, list[str]] = {"alice": [], "bob": []}
        self.status = ""
        for person in self._people.values():
            configure(person, between)

    def play(self) -> None:
        """From the keys to the end of the call."""
        for name in self.said:
            self._end(name, self._start(name, "keys", "show", "--name", name.title(), "--signaling", self._url))
        answer = self._start("bob", "answer", "--code", "--audio", "tone", "--once", "--record", "alice.wav")
        code = answer.expect(r"one-time code: (\S+)")[1]
        call = self._start("alice", "call", "--code", "--audio", "tone", "--report", "call.html")
        call.expect("one-time code: ")
        call.type(code + "\n")
        answer.expect("y or n")
        answer.type("y")
        call.expect("Connected")
        self.status = call.expect(r"connected 0:02 [^\r]*")[0]
        for terminal in (call, answer):
            terminal.type("w")
            terminal.expect("both sides: .*\n")
        call.type("q")
        self._end("alice", call)
        self._end("bob", answer)

    def _start(self, name: str, *arguments: str) -> Terminal:
        self.said[name].append(" ".join(("$ relaycall", *arguments)))
        person = self._people[name]
        return Terminal(person.env, *arguments, columns=COLUMNS, lines=LINES, cwd=person.folder)

    def _end(self, name: str, terminal: Terminal) -> None:
        assert terminal.end() == 0, terminal.screen
        self.said[name] += [line.rstrip() for line in "\n".join(terminal.lines).strip().splitlines()] + [""]
        terminal.close()


def main() -> None:
    """Print it."""
    with tempfile.TemporaryDirectory() as folder, Between(Path(folder)) as between:
        session = Session(Person(Path(folder) / "alice"), Person(Path(folder) / "bob"), between)
        session.play()
        for name, lines in session.said.items():
            sys.stdout.write(f"{name}:\n\n" + "".join(f"    {line}".rstrip() + "\n" for line in lines))
        sys.stdout.write(f"status:\n\n    {session.status}\n")


if __name__ == "__main__":
    main()
