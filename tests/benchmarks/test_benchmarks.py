"""Each benchmark still runs, with tiny sizes. What it measures is not judged here: times are no test."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as suite
from tests.benchmarks.party import Party
from tests.benchmarks.report import Figure, Report, Table


async def measured(name: str) -> Report:
    report: Report = await importlib.import_module(f"tests.benchmarks.{name}").measure(1, tiny=True)
    assert report.tables
    assert all(str(table) for table in report.tables)
    assert report.figures
    assert all(math.isfinite(value) for figure in report.figures.values() for value in figure.values)
    json.dumps(report.as_json())
    return report


@pytest.mark.slow
@pytest.mark.interop
async def test_setup() -> None:
    report = await measured("setup")
    assert report.facts["setup_proxy_round_trip_ms"][50] >= 49.5, "the proxy does not delay"
    for name in "aiortc", "relaycall":
        for transport in "udp", "tcp":
            took = report.figures[f"setup_{transport}_{name}_rtt50_allocated_ms"]
            assert took.median >= 100, "a check and its answer cross two delayed paths each way"


@pytest.mark.slow
@pytest.mark.interop
async def test_packet_cost() -> None:
    report = await measured("packet_cost")
    assert report.facts["packet_cost_lost_percent"].keys() == {"aiortc", "relaycall", "bare"}
    assert all(share < 100 for share in report.facts["packet_cost_lost_percent"].values()), "nothing arrived"


@pytest.mark.slow
@pytest.mark.interop
async def test_call_cpu() -> None:
    report = await measured("call_cpu")
    assert all(figure.median > 0 for figure in report.figures.values())
    assert all(value > 50 for figure in report.facts["call_cpu_heard_percent"].values() for value in figure)


@pytest.mark.slow
@pytest.mark.interop
async def test_packet_sizes() -> None:
    report = await measured("packet_sizes")
    assert report.figures["packet_sizes_relaycall_distinct_count"].median == 1
    assert report.figures["packet_sizes_aiortc_distinct_count"].median > 10, "the witness sees no difference at all"


@pytest.mark.slow
def test_media_cost() -> None:
    found = importlib.import_module("tests.benchmarks.media_cost").run(1.8)
    assert found
    assert all(value > 0 for value in found.values())


class Failing:
    def fail(self) -> None:
        raise ValueError("what went wrong")


async def test_what_fails_in_a_party_is_told() -> None:
    async with Party(Failing) as party:
        with pytest.raises(RuntimeError, match="what went wrong"):
            await party.ask("fail")


def test_figure() -> None:
    assert str(Figure.of([3.0, 1.0, 2.0])) == "2.00 (1.00–3.00)"
    assert str(Figure.of([12.34])) == "12.3"
    assert str(Figure.of([1234.5])) == "1234"


def test_table_lines_up() -> None:
    table = Table("Title", ["", "ms"], notes=["A note."])
    table.add("a longer name", Figure.of([1.0]))
    table.add("b", 12345)
    assert str(table).splitlines()[2:6] == [
        "                  ms",
        "--------------------",
        "a longer name   1.00",
        "b              12345",
    ]


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    suite.main(["--list"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in suite.NAMES)


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        suite.main(["nothing"])
    assert ended.value.code == 2
    assert "nothing" in capsys.readouterr().err


def test_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Module:
        TITLE = "one"

        @staticmethod
        async def measure(runs: int) -> Report:
            return Report([Table("Title", ["", "ms"])], {"one_ms": Figure.of([1.0] * runs)})

    monkeypatch.setattr(suite, "_module", lambda name: Module)
    suite.main(["setup", "--runs", "2", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["benchmarks"]["setup"]["figures"]["one_ms"]["values"] == [1.0, 1.0]
    assert found["conditions"]["aiortc"]
    assert "Title" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.interop
async def test_failover() -> None:
    report = await measured("failover")
    assert any(name.startswith("failover_aiortc_") for name in report.figures)


@pytest.mark.slow
async def test_false_moves() -> None:
    report = await measured("false_moves")
    assert report.figures["false_moves_loss1_relays2_count"].median == 0


@pytest.mark.slow
@pytest.mark.interop
async def test_signaling() -> None:
    report = await measured("signaling")
    assert any(name.startswith("signaling_") for name in report.figures)


async def test_sealing() -> None:
    report = await measured("sealing")
    assert len(report.figures) == 12
    assert all(figure.median > 0 for figure in report.figures.values())


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.timeout(120)
async def test_phone() -> None:
    report = await measured("phone")
    assert report.figures["phone_memory_rtt50_up_ms"].median >= 150, "nothing delays signaling, or the relays"
    assert report.figures["phone_idle_signaling_bytes_per_minute"].median < 10_000


@pytest.mark.slow
async def test_heard() -> None:
    report = await measured("heard")
    learning, without = (report.figures[f"heard_loss20_{kind}_percent"].median for kind in ("learning", "without_fec"))
    assert 75 < without < 85, "what is restored counts, what is made up does not"
    assert without + 5 < learning < 98


@pytest.mark.slow
async def test_mouth_to_ear() -> None:
    report = await measured("mouth_to_ear")
    ours, stock = (report.figures[f"mouth_to_ear_{name}_one_lost_ms"].median for name in ("relaycall", "aiortc"))
    assert 26.5 < ours < stock, "a block and the codec take 26.5 ms"


@pytest.mark.slow
async def test_voice_quality() -> None:
    pytest.importorskip("pystoi", reason="the extra bench")
    report = await measured("voice_quality")
    assert report.figures["voice_quality_0_percent_lost_relaycall_stoi"].median > 0.95
    assert report.figures["voice_quality_10_percent_lost_aiortc_stoi"].median < 0.8, "loss is not seen"


async def test_without_the_extra_voice_quality_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    report = await importlib.import_module("tests.benchmarks.voice_quality").measure(1)
    assert "relaycall[bench]" in str(report.tables[0])
    assert report.figures == {}


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.timeout(120)
async def test_cut() -> None:
    """Both share a link that is cut before either is at full rate."""
    report = await measured("cut")
    for kind in "relaycall", "aiortc":
        assert report.figures[f"cut_up_{kind}_before_kbps"].median > 50
        assert 10 < report.figures[f"cut_up_{kind}_used_percent"].median <= 101
    assert report.figures["cut_up_relaycall_made_up_percent"].median < 30


@pytest.mark.slow
async def test_adaptation() -> None:
    report = await measured("adaptation")
    assert 50 < report.figures["adaptation_steady_rate150_use_percent"].median < 100
