"""The command line, called in this process: starting one for each test takes long."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import keyring
import pytest

from relaycall import cli
from tests.cli.people import alice, between, bob, cheap_vaults  # noqa: F401 - fixtures

Command = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def standard_input(text: str) -> Iterator[None]:
    """Put this into what /dev/stdin leads to."""
    before = os.dup(0)
    with tempfile.TemporaryFile("w+") as file:
        file.write(text)
        file.seek(0)
        os.dup2(file.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """command(*arguments, given=standard input, env=all of the environment, cwd=folder): what came of it."""

    def call(
        *arguments: str | Path, given: str = "", env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with monkeypatch.context() as patch, standard_input(given), open(0, closefd=False) as stdin:
            patch.setattr(sys, "stdin", stdin)
            for name in set() if env is None else os.environ.keys() - env.keys():
                patch.delenv(name)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            if cwd is not None:
                patch.chdir(cwd)
            patch.setattr(keyring.core, "_keyring_backend", None)  # it is chosen by the environment, at first use
            code = cli.run([*map(str, arguments)])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return call
