"""The page about network profiles has all of them, and its plots are pictures and nothing else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from relaycall.testing.profiles import PROFILES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "networks.md").read_text()
SVG = "{http://www.w3.org/2000/svg}"
DRAWS = {"svg", "style", "g", "rect", "line", "path", "text"}
FIGURE = re.compile(r"\d")


def plot(name: str) -> str:
    return (DOCS / "plots" / f"{name}.svg").read_text()


def tables() -> list[list[list[str]]]:
    """The cells of each table of the page, below its head."""
    found = re.findall(r"^\|[ -|]+\|\n((?:\|.*\|\n)+)", PAGE, re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()] for table in found]


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_a_row_in_each_table(name: str) -> None:
    assert len(tables()) >= 4, "what it is, the voice, the video, the paths"
    for table in tables():
        rows = [cells[1:] for cells in table if cells[0].startswith(f"`{name}`")]
        assert rows, table[0]
        assert all(any(FIGURE.search(cell) for cell in row) for row in rows), "a row without a figure"


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_a_plot_that_is_shown(name: str) -> None:
    assert re.search(rf"!\[[^\]]+\]\(plots/{name}\.svg\)", PAGE), "without a text in its place, or not at all"
    assert name in ET.fromstring(plot(name)).attrib["aria-label"]


def test_no_plot_is_left_over() -> None:
    assert {path.stem for path in (DOCS / "plots").iterdir()} == set(PROFILES)


@pytest.mark.parametrize("name", PROFILES)
def test_a_plot_only_draws(name: str) -> None:
    root = ET.fromstring(plot(name))
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in DRAWS, element.tag
        assert not [key for key in element.attrib if key.startswith("on") or key.endswith("href")], element.attrib
    outside = plot(name).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"://|url\(|@import|<!|<\?", outside), "it refers to something outside"


@pytest.mark.parametrize("name", PROFILES)
def test_a_plot_holds_no_address(name: str) -> None:
    assert not re.search(r"\d+\.\d+\.\d+\.\d+|\[?[0-9a-f]*::[0-9a-f]*|turns?:|@\w", plot(name).replace("@media", ""))


@pytest.mark.parametrize("name", PROFILES)
def test_a_plot_is_readable_in_light_and_dark(name: str) -> None:
    root = ET.fromstring(plot(name))
    style = root.findtext(f"{SVG}style") or ""
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    for part in (light, dark):
        assert "--page:" in part
        assert "--text:" in part
    ground = root.find(f"{SVG}rect")
    assert ground is not None
    assert "var(--page)" in ground.attrib["style"], "on a page of another colour its text would not be seen"
    assert {label.text for label in root.iter(f"{SVG}text") if "label" in label.attrib.get("class", "")} == {
        "sent", "estimated", "the link", "seen", "not heard", "lost"
    }  # fmt: skip
