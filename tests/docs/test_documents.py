"""The documents are right: their examples run, and nothing is left out."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import relaycall
from relaycall import errors

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FAST = {"quickstart.md", "video.md"}  # the others' examples are run with the slow tests


def blocks() -> list[pytest.param]:
    """All but the README's: `test_readme` runs them."""
    found = []
    for document in DOCUMENTS[1:]:
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", document.read_text(), re.S | re.M)):
            marks = () if document.name in FAST else pytest.mark.slow
            found.append(pytest.param(code, id=f"{document.name}-{number}", marks=marks))
    return found


@pytest.mark.parametrize("code", blocks())
def test_example_runs_as_it_stands(code: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=30, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr


def test_readme_shows_every_command_of_the_makefile_it_names() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for named in re.findall(r"^    make ([a-z-]+)", (ROOT / "README.md").read_text(), re.M):
        assert named in targets


def test_every_error_is_documented_with_its_code_and_exit_code() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    for error in classes:
        if issubclass(error, errors.RelaycallError) and error is not errors.RelaycallError:
            assert f"| `{error.__name__}` | `{error.code}` | {error.exit_code} |" in text, error.__name__


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_version_is_the_one_in_the_changelog_or_unreleased() -> None:
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
    assert relaycall.__doc__
