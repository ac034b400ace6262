"""What a call comes to: the summary for programs and the lines for a terminal."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.call.report.facts import RelayFact, signaling_of
from relaycall.call.report.figures import amount, clock, figures_of, in_order, percent, short, spread
from relaycall.call.report.report import CallReport
from relaycall.call.state import EndReason
from relaycall.quality.sample import Level, PeerReport, Sample
from relaycall.relays.server import RelayServer
from tests.call.report.reports import CANARIES, NEVER_CONNECTED, TLS, UDP, call_facts, call_report

values = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.001, 100)), min_size=1, max_size=40)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_a_value_counts_for_the_time_it_stood() -> None:
    found = spread([(10.0, 1.0), (20.0, 8.0), (1000.0, 1.0)])
    assert found is not None
    assert (found.min, found.median, found.p95, found.max) == (10.0, 20.0, 1000.0, 1000.0)
    found = spread([(10.0, 1.0), (20.0, 1.0), (30.0, 98.0)])
    assert found is not None
    assert (found.min, found.median, found.p95) == (10.0, 30.0, 30.0)
    assert spread([]) is None


@given(values)
def test_a_spread_is_of_the_values_and_in_order(pairs: list[tuple[float, float]]) -> None:
    found = spread(pairs)
    assert found is not None
    assert min(pairs)[0] == found.min <= found.median <= found.p95 <= found.max == max(pairs)[0]
    assert {found.median, found.p95} <= {value for value, _ in pairs}


def test_what_was_never_known_is_none_and_what_was_sometimes_is_of_that_time() -> None:
    samples = [Sample(1.0), Sample(2.0, rtt_ms=50.0), Sample(3.0), Sample(4.0, rtt_ms=70.0, level=Level.POOR)]
    figures = figures_of(samples)
    assert figures.loss_sent is None
    assert figures.rtt_ms is not None
    assert (figures.rtt_ms.min, figures.rtt_ms.max) == (50.0, 70.0)
    assert figures.levels == {Level.GOOD: 0.75, Level.FAIR: 0.0, Level.POOR: 0.25, Level.LOST: 0.0}
    assert figures_of([]).levels == {}


def test_samples_that_cannot_be_drawn_are_left_out_and_the_rest_is_put_in_order() -> None:
    times = (3.0, float("nan"), 1.0, float("inf"), -1.0, 2.0)
    assert [one.at for one in in_order(Sample(at) for at in times)] == [1.0, 2.0, 3.0]


def test_figures_that_are_no_numbers_are_not_counted() -> None:
    figures = figures_of([Sample(1.0, rtt_ms=float("nan"), loss=float("inf")), Sample(2.0, rtt_ms=5.0)])
    assert figures.rtt_ms is not None
    assert figures.rtt_ms.max == 5.0
    assert figures.loss is not None
    assert figures.loss.max == 0.0


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.0001, "under 0.1 %"), (0.123, "12.3 %"), (0.5, "50 %"), (0.99999, "over 99.9 %"), (1.0, "100 %")],
)
def test_only_none_is_no_percent_and_only_all_is_a_hundred(share: float, text: str) -> None:
    assert percent(share).replace("\u00a0", " ") == text


def test_times_and_amounts_as_text() -> None:
    assert [clock(seconds) for seconds in (0, 61.9, 3600, 3725)] == ["0:00", "1:01", "1:00:00", "1:02:05"]
    assert [short(seconds) for seconds in (0.31, 61)] == ["0.3 s", "1:01 min"]
    assert [amount(count) for count in (999, 1500, 2_500_000, 3 * 10**9)] == ["999 bytes", "1.5 kB", "2.5 MB", "3.0 GB"]


# --- facts ------------------------------------------------------------------------------------------------------------


def test_a_relay_is_known_by_its_name_and_not_by_its_credentials() -> None:
    server = RelayServer.parse(
        TLS.replace("?transport=tcp", ""), username="user", password="canary", operator="Example"
    )
    relay = RelayFact.of(server, shared=True)
    assert relay == RelayFact(server.name, "tls", "Example", True)
    assert b"canary" not in pickle.dumps(relay)
    assert [RelayFact(name, "udp").host for name in (TLS, UDP)] == ["2001:db8::1", "relay-canary.example"]


def test_shared_is_known_if_it_is_known_of_one() -> None:
    yes, no, unknown = (RelayFact(UDP, "udp", shared=shared) for shared in (True, False, None))
    shared = [call_facts(relays=relays).shared for relays in ((no, yes), (no, unknown), (unknown,), ())]
    assert shared == [True, False, None, None]


@pytest.mark.parametrize(
    ("url", "kind", "host"),
    [
        ("wss://Server.example:8443/path", "wss", "server.example"),
        ("ws://[2001:db8::1]:8443", "ws", "2001:db8::1"),
        ("https://server.example", "https", "server.example"),
        ("http://server.example", "http", "server.example"),
        ("memory:name", "memory", ""),
        ("manual:", "manual", ""),
        ("mqtt://broker.example", "other", ""),
        ("ws://[nothing", "ws", ""),
        ("", "other", ""),
    ],
)
def test_how_messages_travel_is_told_by_the_url(url: str, kind: str, host: str) -> None:
    assert signaling_of(url) == (kind, host)


def test_shares_are_of_what_was_sent() -> None:
    facts = call_facts()
    assert (facts.loss, facts.loss_sent) == (0.01, 0.02)
    assert facts.recovered == pytest.approx(60 / 9000)
    assert facts.concealed == pytest.approx(30 / 9000)
    nothing = call_facts(theirs=PeerReport(), mine=None)
    assert (nothing.loss, nothing.loss_sent, nothing.recovered) == (None, None, None)
    assert call_facts(theirs=PeerReport(received=1, concealed=50)).concealed == 1.0


def test_a_repr_shows_no_address_and_nobody() -> None:
    shown = repr(call_report(party="party-canary"))
    for canary in (*CANARIES, "party-canary"):
        assert canary not in shown


# --- the summary ------------------------------------------------------------------------------------------------------


def test_the_summary_is_json_and_has_the_figures() -> None:
    summary = json.loads(json.dumps(call_report().summary(), allow_nan=False))
    assert summary["role"] == "caller"
    assert summary["ended"] == "peer_hung_up"
    assert summary["seconds"] == {"ringing": 4.2, "to_accept": 4.9, "to_connected": 0.31, "connected": 180.4}
    assert summary["rtt_ms"].keys() == {"min", "median", "p95", "max"}
    assert 50 <= summary["rtt_ms"]["min"] < 61 < summary["rtt_ms"]["max"] <= 150
    assert summary["score"]["median"] == 4.3
    assert summary["levels"]["good"] == pytest.approx(0.85, abs=0.02)
    assert sum(summary["levels"].values()) == pytest.approx(1)
    assert summary["heard"]["loss"] == 0.01
    assert summary["relays"][1] == {"relay": "relay B", "transport": "tls", "shared": False}
    assert summary["moves"][0] == {
        "at": 72.0,
        "old": "relay A",
        "new": "relay B",
        "failed": True,
        "gap_ms": 214.0,
        "lost": 6,
    }


def test_the_summary_names_relays_only_when_asked_and_nobody_else_ever() -> None:
    report = call_report(party="party-canary")
    shown = json.dumps(report.summary())
    for canary in (*CANARIES, "party-canary", "Example"):
        assert canary not in shown
    asked = json.dumps(report.summary(addresses=True))
    assert UDP in asked
    assert "party-canary" not in asked


def test_a_call_that_was_never_connected_has_a_summary() -> None:
    summary = json.loads(json.dumps(CallReport(NEVER_CONNECTED).summary()))
    assert summary["seconds"]["connected"] is None
    assert summary["rtt_ms"] is None
    assert summary["levels"] == {}


# --- for a terminal ---------------------------------------------------------------------------------------------------


def test_the_lines_for_a_terminal() -> None:
    lines = call_report().text().replace("\u00a0", " ").splitlines()
    assert lines[0] == "Connected for 3:00 after 4.2 s of ringing and 0.3 s of set-up."
    assert lines[2] == "Lost: 1 % of their sound, 2 % of yours."
    assert lines[3] == "Heard: 99 % as it was sent, 0.7 % restored, 0.3 % made up."
    assert "good 8" in lines[4]
    assert lines[5] == "Moved at 1:12, the path failed: 214 ms without a new packet, 6 lost."
    assert lines[-1] == "1.1 MB sent, 1.0 MB received."
    for canary in (*CANARIES, "Bob"):
        assert canary not in "".join(lines)


@pytest.mark.parametrize("reason", [*EndReason, "no_relay"])
@pytest.mark.parametrize("caller", [True, False])
def test_every_end_has_a_sentence(reason: str, caller: bool) -> None:
    report = CallReport(replace(NEVER_CONNECTED, ended=str(reason), caller=caller))
    assert report.text().startswith("Not connected. ")
    assert ("by an error: " + reason in report.text()) == (reason in ("no_relay", EndReason.FAILED))


def test_who_declined_depends_on_the_side() -> None:
    assert CallReport(NEVER_CONNECTED).text() == "Not connected. You declined."
    assert CallReport(replace(NEVER_CONNECTED, caller=True)).text() == "Not connected. They declined."
