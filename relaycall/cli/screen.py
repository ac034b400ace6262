"""What a call shows: for people lines and one that changes, for programs one JSON object per line."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from types import TracebackType
from typing import Protocol

import click
from rich.cells import set_cell_size

from relaycall.cli.hints import next_step_of
from relaycall.cli.meter import Reading
from relaycall.errors import NoRelay, RelaycallError

RELAYS = ("relay", "relay_lost")  # the events that tell why a relay cannot be used


class Screen(Protocol):
    """Where a call tells how it goes. A context manager: the line that changes is gone afterwards."""

    def __enter__(self) -> Screen: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, event: str, text: str, /, **data: object) -> None:
        """Something happened. `text` is safe to show; `data` is for programs."""

    def note(self, event: str, /, **data: object) -> None:
        """Something that people are told when they ask for it."""

    def ask(self, text: str) -> None:
        """Our user has to do something."""

    def give(self, event: str, text: str, data: str) -> None:
        """Something is to be taken from here, `data`: told by `text`."""

    def read(self, reading: Reading) -> None:
        """How the call is."""

    def failed(self, error: RelaycallError) -> None:
        """It could not be done, or ended by an error."""


def screen_for(as_json: bool) -> Screen:
    """The screen for programs, or the one for people."""
    return JsonScreen() if as_json else PeopleScreen()


class StatusLine:
    """A line at the bottom of a terminal that changes, on standard error. Elsewhere there is none."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown = False

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Put this into it."""
        if self._terminal:
            cut = set_cell_size(text, max(1, shutil.get_terminal_size().columns - 1)).rstrip()
            click.echo(f"\r\x1b[K{cut}", nl=False, err=True)
            self._shown = True

    def clear(self) -> None:
        """Take it away, so that something else may be written."""
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._shown = False


class PeopleScreen:
    """What happens goes to standard error, and what is to be taken from here to standard output.

    A failure of a relay is told by several, and shown once.
    """

    def __init__(self) -> None:
        self._line = StatusLine()
        self._relays: dict[object, tuple[str, str]] = {}  # by relay: what told its last failure, and how

    def __enter__(self) -> PeopleScreen:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.clear()

    def say(self, event: str, text: str, /, **data: object) -> None:
        if event in RELAYS:
            told = self._relays.get(data.get("relay"))
            if told is not None and told[0] != event and told[1] == text:
                return
            self._relays[data.get("relay")] = event, text
        elif event in ("ring", "ended"):
            self._relays.clear()
        self._line.clear()
        click.echo(text, err=True)

    def note(self, event: str, /, **data: object) -> None:
        """Nothing to show."""

    def ask(self, text: str) -> None:
        self.say("question", text)

    def give(self, event: str, text: str, data: str) -> None:
        self.say(event, text)
        click.echo(data)

    def read(self, reading: Reading) -> None:
        self._line.show(reading.text())

    def failed(self, error: RelaycallError) -> None:
        sentence = error.sentence
        if isinstance(error, NoRelay):
            for _, told in self._relays.values():
                sentence = sentence.replace(f" {told}", "")
        self.say("error", f"error: {sentence}\n       {next_step_of(error)}")


class JsonScreen:
    """One JSON object per line on standard output; what our user has to do goes to standard error."""

    def __enter__(self) -> JsonScreen:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to clear."""

    def say(self, event: str, text: str, /, **data: object) -> None:
        self._print({"event": event, **data})

    def note(self, event: str, /, **data: object) -> None:
        self._print({"event": event, **data})

    def ask(self, text: str) -> None:
        click.echo(text, err=True)

    def give(self, event: str, text: str, data: str) -> None:
        self._print({"event": event, "text": data})

    def read(self, reading: Reading) -> None:
        self._print({"event": "stats", **asdict(reading)})

    def failed(self, error: RelaycallError) -> None:
        step = next_step_of(error)
        self._print({"event": "error", "code": error.code, "sentence": error.sentence, "next_step": step})

    @staticmethod
    def _print(entry: dict[str, object]) -> None:
        click.echo(json.dumps(entry))
