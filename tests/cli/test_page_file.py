"""Where the page of a call goes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from relaycall.cli.page_file import check_page, path_of_call, write_page
from relaycall.errors import ConfigError


def test_later_calls_have_their_pages_beside_the_first() -> None:
    paths = [path_of_call(Path("a/call.html"), number) for number in (1, 2, 12)]
    assert paths == [Path("a/call.html"), Path("a/call-2.html"), Path("a/call-12.html")]


def test_a_page_is_for_our_user_alone_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "call.html"
    path.write_text("before")
    path.chmod(0o644)
    check_page(path)
    write_page(path, "<p>ü</p>")
    assert path.read_bytes() == b"<p>\xc3\xbc</p>"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["call.html"]


@pytest.mark.parametrize("name", ["call.txt", "call", "folder.html", "none/call.html", "pipe.html"])
def test_where_no_page_can_be_is_said_before_the_call(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    os.mkfifo(tmp_path / "pipe.html")
    with pytest.raises(ConfigError) as caught:
        check_page(tmp_path / name)
    assert name in caught.value.sentence
    assert caught.value.next_step


def test_a_page_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "call.html"
    path.write_text("before")
    (tmp_path / ".call.html.new").mkdir()
    with pytest.raises(ConfigError, match="could not be written"):
        write_page(path, "after")
    assert path.read_text() == "before"
