"""The page: one file that loads nothing, shows no address unless asked, and is not changed by any text in it."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.call.events import RelayChanged
from relaycall.call.report.facts import RelayFact
from relaycall.call.report.page import POLICY
from relaycall.call.report.report import CallReport
from relaycall.quality.history import History, Mark
from relaycall.quality.sample import Level, PeerReport, Sample
from tests.call.report.reports import (
    CANARIES,
    NEVER_CONNECTED,
    TLS,
    UDP,
    Page,
    call_facts,
    call_marks,
    call_report,
    call_samples,
)

PLOTS = ["course", "score", "rtt", "loss", "delay", "bitrate", "heard"]
VIDEO_PLOTS = ["video-bitrate", "video-rate", "video-size"]
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "footer", "section", "h1", "h2", "p", "div", "bdi"),
    *("span", "b", "small", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
    *("svg", "line", "path", "rect", "text"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "id", "scope", "data-of", "aria-label", "role"),
    *("width", "height", "viewbox", "preserveaspectratio", "x", "y", "x1", "x2", "y1", "y2", "d", "text-anchor"),
}
texts = st.text(min_size=1, max_size=40) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '" onload="alert(1)',
        "'><img src=x>",
        "</style><b>",
        "]]>",
        "&lt;",
        "<!--",
        "\u202e\0\n",
    ]
)


def plots(page: Page) -> list[str]:
    return [attributes["id"].removeprefix("plot-") for attributes in page.named("figure")]


def test_it_is_one_document_that_loads_and_runs_nothing() -> None:
    html = call_report().html()
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>\n<html")
    assert {name for name, _ in page.elements} <= ELEMENTS
    assert {name for _, attributes in page.elements for name in attributes} <= ATTRIBUTES
    metas = [meta for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert metas == [{"http-equiv": "Content-Security-Policy", "content": POLICY}]
    assert POLICY == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert html.index("Content-Security-Policy") < html.index("<style>")
    assert not re.search(r"url\(|@import|@font-face|//", page.style)
    assert not re.search(r"https?:|//", html)


def test_it_has_one_drawing_for_each_plot() -> None:
    page = Page(call_report().html())
    assert plots(page) == PLOTS
    drawings = [attributes for attributes in page.named("svg") if attributes.get("role") == "img"]
    assert len(drawings) == len(PLOTS)
    assert all(attributes["aria-label"] for attributes in drawings)


def test_video_has_plots_if_there_was_any() -> None:
    report = CallReport(call_facts(video_sent=True), call_samples(video=True))
    page = Page(report.html())
    assert plots(page) == PLOTS + VIDEO_PLOTS
    assert " video sent " in page.text
    assert " video none " in Page(call_report().html()).text


def test_the_classes_of_what_is_drawn_have_a_look() -> None:
    """Also those that are made of levels and kinds."""
    page = Page(CallReport(call_facts(), call_samples(video=True), call_marks()).html())
    used = {name for tag, at in page.elements if tag in ("line", "path", "rect") for name in at["class"].split()}
    assert used >= {"grid", "axis", "line", "area", "mark", "audio", "video", "s0", "s1", "s2", "s3", "is-lost"}
    unstyled = {name for name in used if f".{name}" not in page.style}
    assert unstyled <= {"relay", "path"}  # as any mark


# --- addresses --------------------------------------------------------------------------------------------------------


def test_there_is_no_address_in_it() -> None:
    html = call_report(party="127.0.0.2", ended="127.0.0.2").html()
    for canary in (*CANARIES, "turn:", "turns:"):
        assert canary not in html
    assert "It has no address in it" in html
    assert "relay A" in html


def test_there_are_addresses_in_it_when_asked() -> None:
    html = call_report().html(addresses=True)
    for canary in CANARIES:
        assert canary in html
    assert "It has no address in it" not in html


def test_samples_may_have_relays_that_the_facts_do_not_name() -> None:
    report = CallReport(call_facts(relays=(), moves=()), call_samples(), call_marks())
    for canary in CANARIES:
        assert canary not in report.html() or canary == "127.0.0.2"
    assert "127.0.0.2" not in report.html()


# --- texts of others --------------------------------------------------------------------------------------------------


def outline(html: str) -> list[tuple[str, tuple[str, ...]]]:
    """Elements and their attributes' names, without what a text says."""
    return [(name, tuple(attributes)) for name, attributes in Page(html).elements]


def with_texts(party: str, operator: str, relay: str, text: str, ended: str) -> CallReport:
    facts = call_facts(
        party=party,
        ended=ended,
        relays=(RelayFact(relay, "udp", operator),),
        peer_hosts=(text,),
        signaling_host=text,
        moves=((1.0, RelayChanged(relay, relay, False, 20.0, 0)),),
    )
    samples = [replace(one, relay=relay) for one in call_samples(3)]
    return CallReport(facts, samples, [Mark(1.0, "path", text), Mark(2.0, text, text)])


@pytest.mark.slow
@settings(deadline=None)
@given(texts, texts, texts, texts, texts, st.booleans())
def test_no_text_changes_the_page(
    party: str, operator: str, relay: str, text: str, ended: str, addresses: bool
) -> None:
    plain = with_texts("party", "operator", "relay", "text", "ended").html(addresses=addresses)
    other = with_texts(party, operator, relay, text, ended).html(addresses=addresses)
    assert outline(other) == outline(plain)
    other.encode()


def test_an_end_that_is_no_code_is_not_shown() -> None:
    assert "It ended by an error: relays_lost." in Page(call_report(ended="relays_lost").html()).text
    assert "It ended by an error." in Page(call_report(ended="<b>").html()).text


def test_names_are_shown_as_they_are() -> None:
    page = Page(call_report(party="<b>Bob & \u202eeve</b>").html())
    assert "A call with <b>Bob & \\u202eeve</b>" in page.text


# --- all kinds of calls -----------------------------------------------------------------------------------------------


def test_a_call_that_was_never_connected() -> None:
    page = Page(CallReport(NEVER_CONNECTED).html())
    assert plots(page) == []
    assert "It was never connected. You declined." in page.text
    assert "Nothing was measured" in page.text
    assert "Who could see what" in page.text


def test_a_call_of_less_than_a_second() -> None:
    page = Page(CallReport(call_facts(connected=0.4, moves=(), theirs=PeerReport(), mine=None)).html())
    assert "Nothing was measured" in page.text
    assert "It lasted 0 seconds." in page.text


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(1.9, "1 second"), (3.6, "3 seconds"), (59.9, "59 seconds"), (61.0, "1:01 minutes"), (3600.0, "1:00:00 hours")],
)
def test_how_long_it_lasted_is_what_the_clock_showed(seconds: float, told: str) -> None:
    report = CallReport(call_facts(connected=seconds, moves=()))
    assert f"It lasted {told}." in Page(report.html()).text
    if seconds < 60:
        assert report.text().startswith(f"Connected for 0:{int(seconds):02} ")


def test_a_call_of_one_sample() -> None:
    page = Page(CallReport(call_facts(connected=1.2, moves=()), call_samples(1)).html())
    assert plots(page) == PLOTS


def test_what_happened_is_told_with_the_numbers_of_the_plots() -> None:
    page = Page(call_report().html())
    for told in (
        "1 1:03 Video is off: the path carries 180 kbit/s.",
        "2 1:06 The voice takes 24 kbit/s.",
        "1:07 It is poor to listen.",
        "3 1:12 Moved from relay A to relay B, since the path before failed.",
        "5 2:06 The other side's relay changed, ours stayed relay B.",
        "1:12 relay A relay B 214 ms 6",
    ):
        assert told in page.text
    assert "Another relay." not in page.text  # the move is told by its facts


def test_one_second_of_an_hour_without_sound_is_in_its_course() -> None:
    samples = [Sample(float(i), level=Level.LOST if i == 1805 else Level.GOOD) for i in range(1, 3601)]
    page = Page(CallReport(call_facts(connected=3600.0), samples).html())
    lanes = [attributes for attributes in page.named("rect") if "is-relay" not in attributes["class"]]
    assert [lane["class"] for lane in lanes] == ["lane is-good", "lane is-lost", "lane is-good"]
    assert float(lanes[1]["x"].rstrip("%")) == pytest.approx(50, abs=0.5)


def test_what_is_told_is_a_sentence() -> None:
    report = CallReport(
        call_facts(), call_samples(), [Mark(1.0, "video", "video off: too slow"), Mark(2.0, "path", "")]
    )
    assert "1 0:01 Video off: too slow. 2 0:02 " in Page(report.html()).text


def test_moves_are_told_by_their_marks_if_the_facts_have_none() -> None:
    page = Page(call_report(moves=()).html())
    assert "1:12 Another relay." in page.text


@pytest.mark.slow
def test_how_long_it_is_does_not_grow_with_what_happens() -> None:
    marks = [Mark(i * 0.01, "path", "x" * 10_000) for i in range(5000)]
    moves = tuple((i * 0.01, RelayChanged(UDP, TLS, True, 20.0, 0)) for i in range(5000))
    report = CallReport(call_facts(moves=moves), call_samples(), marks)
    html = report.html()
    assert len(html) < 1_000_000
    assert "And 9800 more." in html
    assert "And 4800 more." in html


def test_the_page_of_an_hour_is_small_and_quickly_made() -> None:
    history = History()
    for sample in call_samples(7200, video=True):
        history.add(sample)
    report = CallReport(call_facts(connected=7200.0), history.samples, call_marks())
    assert len(report.samples) >= 1800
    began = time.process_time()
    html = report.html()
    assert time.process_time() - began < 3.0
    assert len(html.encode()) < 400_000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e300, 1e300, 10**12])
def test_figures_that_a_liar_sends_are_drawn_somewhere(value: float) -> None:
    samples = [
        Sample(float(i), rtt_ms=value, loss_sent=value, available=int(min(value, 1e300)) if value > 1 else None)
        for i in range(1, 5)
    ]
    html = CallReport(call_facts(), samples).html()
    Page(html)
    assert "NaN" not in html
    assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', html)
