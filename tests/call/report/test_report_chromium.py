"""The page in Chromium: it complains of nothing, and what is drawn has a size and stays on the page."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from pathlib import Path

import pytest

from relaycall.call.report.page import POLICY
from relaycall.call.report.report import CallReport
from tests.call.report.reports import NEVER_CONNECTED, call_facts, call_marks, call_report, call_samples
from tests.tools import require_tool

pytestmark = [pytest.mark.interop, pytest.mark.slow]

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"),
)
DARK = "--blink-settings=preferredColorScheme=0"
PAGES = {
    "full": CallReport(call_facts(video_sent=True), call_samples(video=True), call_marks()),
    "hour": CallReport(call_facts(connected=3600.0), call_samples(3600)),
    "addresses": call_report(),
    "never": CallReport(NEVER_CONNECTED),
}


async def chromium(folder: Path, html: str, *flags: str) -> tuple[str, str]:
    """What it prints, and what the console of the page has."""
    page = folder / "report.html"
    page.write_text(html)
    process = await asyncio.create_subprocess_exec(
        *(require_tool("chromium"), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page.as_uri()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, logged = await asyncio.wait_for(process.communicate(), 45)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    console = [line for line in logged.decode().splitlines() if "CONSOLE" in line]
    return printed.decode(), "\n".join(console)


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height of a picture."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("name", PAGES)
async def test_it_is_shown_and_nothing_is_complained_of(name: str, tmp_path: Path) -> None:
    html = PAGES[name].html(addresses=name == "addresses")
    for width, dark in ((1000, False), (400, True)):
        picture = tmp_path / f"{width}.png"
        flags = [f"--window-size={width},1400", f"--screenshot={picture}", *([DARK] if dark else [])]
        _, console = await chromium(tmp_path, html, *flags)
        assert console == ""
        assert size_of(picture.read_bytes()) == (width, 1400)
        assert picture.stat().st_size > 20_000  # an empty page has fewer


@pytest.mark.parametrize(
    "added",
    [
        "<script>document.title = 1</script>",
        '<img src="file:///canary.png">',
        '<link rel="stylesheet" href="http://127.0.0.1:9/canary.css">',
        '<p onclick="canary()">',
        "<style>p { background: url(http://127.0.0.1:9/canary.png) }</style>",
    ],
)
async def test_what_is_put_into_it_is_not_loaded_or_run_and_complained_of(added: str, tmp_path: Path) -> None:
    html = PAGES["never"].html().replace("<footer", f"{added}<footer")
    _, console = await chromium(tmp_path, html, f"--screenshot={tmp_path / 'picture.png'}")
    assert "Content Security Policy" in console


MEASURE = """<script>
const page = WIDTH;  // a window cannot be as narrow as a telephone
document.documentElement.style.width = page + "px";
const box = (one) => one.getBoundingClientRect(), found = [];
const tell = (what, one) => found.push(what + ": " + (one.textContent || one.outerHTML).slice(0, 80));
for (const one of document.querySelectorAll("svg text, td, th, dd, .tile *"))
  if (box(one).width && (box(one).left < 0 || box(one).right > page)) tell("beside the page", one);
for (const one of document.querySelectorAll("svg[role=img]")) {
  if (box(one).width < 150) tell("too narrow", one);
  for (const line of one.querySelectorAll("path, rect, line.grid, line.mark"))
    if (box(line).left < box(one).left - 3 || box(line).right > box(one).right + 3
        || box(line).top < box(one).top - 6 || box(line).bottom > box(one).bottom + 6) tell("beside the plot", line);
}
if (document.body.scrollWidth > page) found.push("wider than the page");
const lines = document.querySelectorAll("path.line").length;
document.body.innerHTML = "<pre>" + JSON.stringify({wide: innerWidth >= page, lines, found}) + "</pre>";
</script>"""


@pytest.mark.parametrize("width", [360, 700, 1200])
@pytest.mark.parametrize("name", PAGES)
async def test_everything_is_on_the_page(name: str, width: int, tmp_path: Path) -> None:
    html = PAGES[name].html(addresses=name == "addresses").replace(POLICY, "")
    html = html.replace("</body>", f"{MEASURE.replace('WIDTH', str(width))}</body>")
    printed, _ = await chromium(tmp_path, html, "--dump-dom", f"--window-size={width},1000")
    measured = json.loads(re.findall(r"<pre>(.*)</pre>", printed, re.S)[0])
    assert measured["found"] == []
    assert measured["wide"]
    assert (measured["lines"] > 5) == (name != "never")
