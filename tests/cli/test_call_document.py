"""docs/cli.md names every verb, option, event and exit code, and shows a session as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from relaycall.cli import cli
from relaycall.cli.completion import completion
from tests.cli.people import Between, Person
from tests.cli.session import Session, masked

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "cli.md").read_text()


def commands(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All verbs, by their words."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, *path, name)
    else:
        yield path, command


def section(verb: str) -> str:
    """What the document says of a verb."""
    found = re.search(rf"^## [^\n]*relaycall {verb}\b.*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, verb
    return found[0]


@pytest.mark.parametrize(("path", "command"), [pytest.param(*found, id=" ".join(found[0])) for found in commands(cli)])
def test_every_verb_and_option_is_there(path: tuple[str, ...], command: click.Command) -> None:
    assert f"| `{path[0]}` |" in TEXT
    said = section(path[0])
    assert f"relaycall {' '.join(path)}" in said
    for option in command.params:
        if isinstance(option, click.Option):
            for name in option.opts:
                assert re.search(rf"{name}(?![a-z-])", said), name


def test_every_verb_in_it_exists() -> None:
    known = {path[0] for path, _ in commands(cli)}
    assert set(re.findall(r"^    relaycall ([a-z-]+)", TEXT, re.MULTILINE)) - {"VERB"} == known


def test_every_event_is_there() -> None:
    code = "".join(path.read_text() for path in (ROOT / "relaycall" / "cli").glob("*.py"))
    events = set(re.findall(r'(?:_screen|screen)\.(?:say|note|give)\(\s*"([a-z_]+)"', code))
    events |= set(re.findall(r'_tell_once\("([a-z_]+)"', code))
    assert {"ring", "ended", "stats"} - events == {"stats"}  # they are found
    table = TEXT.partition("### As JSON")[2].partition("\n## ")[0]
    for event in events | {"stats", "error"}:
        assert f"`{event}`" in table, event


def test_the_shells_are_those_of_the_command() -> None:
    (shell,) = completion.params
    assert isinstance(shell.type, click.Choice)
    for name in shell.type.choices:
        assert f"relaycall completion {name} >" in section("completion")


def block(name: str) -> list[str]:
    """What stands in the document after this mark."""
    found = re.search(rf"<!-- {name} -->\n\n((?:    [^\n]*\n|\n)+)", TEXT)
    assert found, name
    return [masked(line[4:]) for line in found[1].strip("\n").split("\n")]


@pytest.mark.slow
def test_the_session_is_what_happens(alice: Person, bob: Person, between: Between) -> None:
    session = Session(alice, bob, between)
    session.play()
    for name, lines in session.said.items():
        assert [masked(line) for line in lines[:-1]] == block(name)
    assert [masked(session.status)] == block("status")
