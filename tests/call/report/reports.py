"""Reports for tests: calls that went in some way."""

from __future__ import annotations

import math
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from relaycall.call.events import RelayChanged
from relaycall.call.report.facts import CallFacts, RelayFact
from relaycall.call.report.report import CallReport
from relaycall.quality.history import Mark
from relaycall.quality.sample import Level, PeerReport, Sample

UDP = "turn:relay-canary.example:3478?transport=udp"
TLS = "turns:[2001:db8::1]:5349?transport=tcp"
CANARIES = ("127.0.0.2", "2001:db8::1", "relay-canary", "signaling-canary")


def call_facts(**given: Any) -> CallFacts:
    """A call of three minutes that went well, but for a relay that died."""
    facts = CallFacts(
        caller=True,
        started_at=1_795_284_000.0,
        ended="peer_hung_up",
        party="Bob",
        contact=True,
        verified=True,
        ringing=4.2,
        to_accept=4.9,
        to_connected=0.31,
        connected=180.4,
        relays=(RelayFact(UDP, "udp", "Example", shared=False), RelayFact(TLS, "tls", shared=False)),
        peer_hosts=("127.0.0.2",),
        signaling="wss",
        signaling_host="signaling-canary.example",
        bytes_sent=1_080_000,
        bytes_received=1_000_000,
        packets_sent=9000,
        packets_received=8900,
        theirs=PeerReport(received=8910, lost=90, recovered=60, concealed=30),
        mine=PeerReport(received=8820, lost=180),
        moves=((72.0, RelayChanged(UDP, TLS, True, 214.0, 6)), (126.0, RelayChanged(TLS, TLS, False, 21.0, 0))),
    )
    return replace(facts, **given)


def call_samples(count: int = 180, *, interval: float = 1.0, video: bool = False) -> list[Sample]:
    """From second to second: the relay dies at two fifths, after it was bad for a while."""
    samples = []
    for i in range(1, count + 1):
        share = i / count
        bad = 0.35 < share < 0.5
        silent = 0.39 < share < 0.41
        samples.append(
            Sample(
                at=i * interval,
                relay=UDP if share < 0.4 else TLS,
                rtt_ms=None if silent else 60 + 10 * math.sin(i) + 80 * bad,
                loss=0.08 if bad else 0.0,
                loss_sent=None if i < 3 else 0.02,
                recovered=0.05 if bad else 0.0,
                concealed=0.03 if bad else 0.0,
                jitter_ms=12.0 if bad else 2.0,
                queue_ms=90.0 if bad else 1.0,
                playout_delay_ms=80.0 if bad else 40.0,
                bitrate_sent=44_000 + 600_000 * video,
                bitrate_received=45_000,
                available=None if i < 5 else 300_000,
                audio_bitrate=24_000 if bad else 32_000,
                frame_rate_sent=30.0 * video,
                video_bitrate_sent=600_000 * video,
                video_sent=480 * video,
                score=1.0 if silent else 3.2 if bad else 4.3,
                level=Level.LOST if silent else Level.POOR if bad else Level.GOOD,
            )
        )
    return samples


def call_marks() -> list[Mark]:
    return [
        Mark(63.0, "video", "Video is off: the path carries 180 kbit/s."),
        Mark(66.0, "audio", "The voice takes 24 kbit/s."),
        Mark(67.0, "level", "It is poor to listen."),
        Mark(72.0, "relay", "Another relay."),
        Mark(74.0, "path", f"Nothing from 127.0.0.2:9 or [2001:db8::1]:3478 or 2001:db8::1: over {UDP}."),
    ]


def call_report(**given: Any) -> CallReport:
    return CallReport(call_facts(**given), call_samples(), call_marks())


NEVER_CONNECTED = CallFacts(caller=False, started_at=1_795_284_000.0, ended="declined", party="Al", ringing=7.0)


class Page(HTMLParser):
    """A page, read strictly: every element is closed in order.

    Attributes:
        elements: (name, attributes) of each, in order.
        texts: everything between them, but for the style.
        style: the style.
    """

    VOID = frozenset({"meta"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), tag
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self._open, tag
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["style"]:
            self.style += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def named(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of this name."""
        return [attributes for name, attributes in self.elements if name == tag]
