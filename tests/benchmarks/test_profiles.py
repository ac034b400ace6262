"""What the benchmark of the network profiles counts, and that it still runs."""

from __future__ import annotations

import asyncio
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from relaycall.quality.sample import Sample
from relaycall.testing import profile
from tests.benchmarks import profiles
from tests.benchmarks.profile_ends import Seen, freezes
from tests.benchmarks.profile_plots import Course, draw_course

SVG = "{http://www.w3.org/2000/svg}"


def seen(heard: int = 90, video: float = 1e5) -> Seen:
    samples = [Sample(float(at), rtt_ms=100.0, score=4.0, video_sent=360, video_received=270) for at in range(1, 5)]
    events = [(1.0, "VideoAdapted", "rate"), (2.0, "RelayChanged", ""), (3.0, "RelaySuspected", "")]
    return Seen(4.0, 2 * heard, 10, [0.0, 0.1, 2.1], [video] * 4, samples, events, 0.5)


def made(heard: int = 90) -> profiles.Call:
    directions = {
        way: profiles.Direction(seen(heard), seen(heard), 0.5, 20.0, 0.01) for way in profiles.DIRECTIONS
    }  # both ends alike
    return profiles.Call(directions, {"checks": {0: 100, 1: 300}, "answers": {1: 200}, "video": {0: 1400}}, 1.0)


def test_freezes_are_pauses_of_more_than_half_a_second() -> None:
    assert freezes([0.0, 0.4, 0.8], 1.2) == (0, 0)
    assert freezes([5.0, 5.4, 7.4, 7.5], 10.0) == (2, pytest.approx(4.5)), "what was before the first is none"
    assert freezes([], 10.0) == (1, 10.0)


def test_capacity_follows_the_schedule() -> None:
    found = profiles.capacity(profile("3g"), "up", 60.0)
    assert found[0] == (0.0, 768_000)
    assert sum(rate for _, rate in found[:-1]) / len(found[:-1]) == 624_000
    assert dict(found)[profiles.STEP * 60] == 192_000


def test_only_what_the_link_sent_counts_as_used() -> None:
    async def fill() -> tuple[float, int]:
        link = profiles.MeteredLink(seed=0)
        link.set("up", rate=80_000, queue=1.0)
        now = asyncio.get_running_loop().time()
        for _ in range(30):
            link.arrival("up", now, 1000)  # a tenth of a second each: eleven find room
        return link.sent("up"), link.counts["up", "lost"]

    sent, lost = asyncio.run(fill())
    assert lost == 19
    assert 0 <= sent < 1000, "what waits in the queue was not sent yet"


def test_a_report_has_a_row_for_each_direction_and_network() -> None:
    kinds = {"relaycall": [made(90), made(80), made(95)], "aiortc": [made(50)]}
    report = profiles.report({"3g": kinds, "tor": kinds}, 4.0)
    voice, video, paths = report.tables
    assert [row[0] for row in voice.rows] == ["3g, up", "3g, down", "tor, up", "tor, down"]
    assert list(voice.rows[0][1:3]) == ["50.0", "90.0 (80.0–95.0)"]
    assert len(video.rows) == 4
    assert list(paths.rows[0]) == ["3g", *["2.00 (2.00–2.00)"] * 2, "0.00 (0.00–0.00)", *list(paths.rows[0][4:])]
    assert report.figures["profiles_3g_both_relaycall_checks_percent"].median == 30
    assert report.figures["profiles_3g_both_relaycall_checks_most_kbps"].median == 4.0
    assert report.figures["profiles_tor_up_relaycall_freezes_count"].median == 2
    assert report.figures["profiles_tor_up_relaycall_changes_count"].median == 1
    json.dumps(report.as_json())


def test_a_course_is_drawn_as_a_file_of_its_own() -> None:
    samples = [
        Sample(float(at), loss=0.25, concealed=0.5, bitrate_sent=400_000, available=500_000, video_sent=270)
        for at in range(1, 21)
    ]
    link = profiles.capacity(profile("congested"), "up", 20.0)
    root = ET.fromstring(draw_course(Course("<a> & b", 20.0, link, samples, samples)))
    assert root.attrib["aria-label"] == "<a> & b"
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"Bit rate", "Video: rows of pixels", "Voice", "sent", "estimated", "the link", "not heard"} <= set(texts)
    areas = [one for one in root.iter(f"{SVG}svg") if one.attrib.get("preserveAspectRatio") == "none"]
    assert [len(area.findall(f"{SVG}path")) for area in areas] == [3, 2, 2]


def test_plots_are_saved_by_name(tmp_path: Path) -> None:
    profiles.save({"tor": {"relaycall": [made()], "aiortc": []}}, 4.0, tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tor.svg"]


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.timeout(120)
async def test_it_runs() -> None:
    report = await profiles.measure(1, tiny=True)
    assert all(math.isfinite(value) for figure in report.figures.values() for value in figure.values)
    figures = {name.removeprefix("profiles_congested_"): figure.median for name, figure in report.figures.items()}
    for way in profiles.DIRECTIONS:
        for kind in ("relaycall", "aiortc"):
            assert figures[f"{way}_{kind}_heard_percent"] > 20
            assert figures[f"{way}_{kind}_pictures_per_second"] > 0
    assert figures["up_relaycall_used_percent"] > 2 * figures["down_relaycall_used_percent"], "384 kbit/s, and 1500"
    assert figures["up_relaycall_rtt_ms"] >= 50
