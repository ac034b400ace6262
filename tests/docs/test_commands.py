"""The commands that the documents show are there, with these arguments and options."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator

import click
import pytest

from relaycall.cli import cli
from tests.docs.test_documents import DOCUMENTS, ROOT


def shown() -> Iterator[tuple[str, list[str]]]:
    """Document and arguments of each `relaycall ...` that stands on a line of its own, or is what a service runs."""
    for document in DOCUMENTS:
        text = document.read_text().replace("\\\n", " ")
        for line in re.findall(r"^    (?:\$ |[A-Z_]+=\S+ |ExecStart=\S+/)?relaycall ([a-z].*)$", text, re.M):
            words = [word for word in shlex.split(line, comments=True) if word != "..."]
            yield document.name, list(itertools.takewhile(lambda word: word != ">", words))


def command(words: list[str]) -> tuple[click.Command, list[str]]:
    """What is run, and what is left for it."""
    found: click.Command = cli
    while isinstance(found, click.Group):
        name, *words = words
        assert name in found.commands, f"there is no {name}"
        found = found.commands[name]
    return found, words


COMMANDS = [pytest.param(words, id=f"{document}: {' '.join(words)}") for document, words in shown()]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_is_as_it_is_shown(words: list[str]) -> None:
    run, arguments = command(words)
    run.make_context(run.name, arguments)  # parses, and runs nothing


def test_they_are_found() -> None:
    places = {document for document, _ in shown()}
    assert {"README.md", "quickstart.md", "credentials.md", "howto-bot.md"} <= places
    assert len(COMMANDS) > 40
    assert ["serve", "--turn-url", "turn:relay.example.org", "--turn-secret-file", "secret"] in [w for _, w in shown()]


@pytest.mark.parametrize("words", [["no-such-verb"], ["keys", "no-such-verb"], ["demo", "--no-such-option"]])
def test_what_is_not_there_is_noticed(words: list[str]) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        test_a_command_is_as_it_is_shown(words)


def test_verbs_in_the_text_are_there() -> None:
    for document in DOCUMENTS:
        for verb in re.findall(r"`relaycall ([a-z][a-z-]*)", document.read_text()):
            assert verb in cli.commands, f"{document.name}: relaycall {verb}"


def test_targets_of_make_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for document in DOCUMENTS:
        named = set(re.findall(r"^    make ([a-z-]+)|`make ([a-z-]+)", document.read_text(), re.M))
        assert {first or second for first, second in named} <= targets, document.name


def test_files_in_the_text_are_there() -> None:
    for document in DOCUMENTS:
        for path in re.findall(r"`((?:relaycall|tests|docs|examples)/[\w./-]*)`", document.read_text()):
            assert (ROOT / path).exists(), f"{document.name}: {path}"
