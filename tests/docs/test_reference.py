"""The reference has every public name, once; the pages are all in the table of contents."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import relaycall
from relaycall import errors, testing

DOCS = Path(__file__).parents[2] / "docs"


def test_every_public_name_is_in_the_reference_once() -> None:
    pages = [page.read_text() for page in (DOCS / "reference").glob("*.md")]
    pages = [page for page in pages if ".. currentmodule:: relaycall.testing\n" not in page]
    listed = Counter(re.findall(r"^\.\. auto(?:class|data|function):: (\w+)", "\n".join(pages), re.M))
    assert sorted(listed.elements()) == sorted(set(relaycall.__all__) - set(errors.__all__))
    assert sum(".. automodule:: relaycall.errors\n" in page for page in pages) == 1


def test_what_is_for_tests_of_others_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "testing.md").read_text()
    listed = re.findall(r"^\.\. auto(?:class|function):: (\w+)", page, re.M)
    assert sorted(listed) == sorted(set(testing.__all__) - set(relaycall.__all__))


def test_every_page_is_in_the_table_of_contents_once() -> None:
    """Sphinx misses those that are left out, too; this is quicker."""
    contents = "\n".join(re.findall(r"^```\{toctree\}\n(.*?)^```", (DOCS / "index.md").read_text(), re.S | re.M))
    listed = re.findall(r"^[a-z][\w/-]+$", contents, re.M)
    pages = (page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md"))
    assert sorted(listed) == sorted(page for page in pages if page != "index")
