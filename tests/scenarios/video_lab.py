"""A video call between two programs, over coturn, with an emulated network before one of them that sees its packets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from relaycall.media.video.stream import VIDEO_PAYLOAD_TYPES
from relaycall.relays.server import RelayServer
from relaycall.stun import attributes as a
from relaycall.stun.message import decode
from relaycall.testing import Link, LossyProxy
from relaycall.testing.lossy import UDP_HEADERS
from tests.coturn import Coturn
from tests.scenarios.programs import Program

RELAYS = ("127.0.0.1", "127.0.0.2")
WIDE = 2_000_000  # bit/s
Notes = list[dict[str, Any]]


@dataclass
class Tap:
    """What a client sends, by kind and second, in bytes on the link."""

    sizes: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    _seen: dict[bytes, None] = field(default_factory=dict)

    def __call__(self, data: bytes) -> None:
        self.sizes[self._kind(data)][int(time.monotonic())] += len(data) + UDP_HEADERS

    def _kind(self, data: bytes) -> str:
        payload = _payload(data)
        if payload is None:
            return "turn"
        if payload[0] < 4:
            return "answers" if payload[0] else "checks"
        kind = payload[1] & 0x7F
        if 192 <= payload[1] < 224:
            return "rtcp"
        again = payload[:12] in self._seen
        self._seen[payload[:12]] = None
        if kind in VIDEO_PAYLOAD_TYPES:
            return "video again" if again else "video"
        name = "audio" if kind == 111 else "control"
        return f"{name} copies" if again else name

    def rates(self, since: float, until: float) -> dict[str, int]:
        """By kind, in bit/s, over the whole seconds between."""
        seconds = range(int(since) + 1, int(until))
        return {kind: 8 * sum(sizes[each] for each in seconds) // len(seconds) for kind, sizes in self.sizes.items()}

    def checks(self, at: float) -> int:
        """Of this second, in kbit/s, answers included."""
        return 8 * sum(self.sizes[kind][int(at) + 1] for kind in ("checks", "answers")) // 1000


def _payload(data: bytes) -> bytes | None:
    """What goes to the peer, if anything does."""
    if 0x40 <= data[0] < 0x80:
        return data[4:] or None
    try:
        return decode(data).get(a.DATA)
    except Exception:  # what is between client and relay only is no business of ours
        return None


@dataclass
class Lab:
    """The call.

    Attributes:
        alice, bob: the programs.
        link: before Alice.
        tap: of what Alice sends.
        notes, events: of each of them, by name, so far.
    """

    alice: Program
    bob: Program
    link: Link
    tap: Tap
    notes: dict[str, Notes] = field(default_factory=lambda: {"alice": [], "bob": []})
    events: dict[str, list[tuple[float, str, str]]] = field(default_factory=lambda: {"alice": [], "bob": []})

    @property
    def programs(self) -> tuple[Program, Program]:
        return self.alice, self.bob

    async def look(self, seconds: float = 0.0) -> None:
        """Let time pass, and fetch what was noted."""
        await asyncio.sleep(seconds)
        for name, program in (("alice", self.alice), ("bob", self.bob)):
            found = await program.ask("notes")
            self.notes[name] += found["notes"]
            self.events[name] += [tuple(event) for event in found["events"]]

    def between(self, name: str, since: float, until: float) -> Notes:
        """The notes of that time; one at least before and after."""
        found = [note for note in self.notes[name] if since <= note["at"] <= until]
        assert len(found) > 1, "nothing was noted in that time"
        return found

    def told(self, *kinds: str, since: float = 0.0) -> list[tuple[str, float, str]]:
        """Who was told of events of these kinds, when and what."""
        return [
            (name, at, text)
            for name, events in self.events.items()
            for at, kind, text in events
            if kind in kinds and at >= since
        ]

    async def close(self) -> None:
        """Close both, each within two seconds."""
        for answer in await asyncio.gather(self.alice.ask("close"), self.bob.ask("close")):
            assert answer["seconds"] < 2.0, answer


def grown(notes: Notes, what: str) -> int:
    """By how much a count has grown."""
    return int(notes[-1][what] - notes[0][what])


def missing(notes: Notes) -> float:
    """The share of the voice that was not heard as it was said: neither there in time nor recovered."""
    made_up, whole = grown(notes, "concealed"), grown(notes, "heard") + grown(notes, "recovered")
    return made_up / max(made_up + whole, 1)


def first(notes: Notes, holds: Any) -> float | None:
    """How many seconds after the first note it holds."""
    return next((note["at"] - notes[0]["at"] for note in notes if holds(note)), None)


@asynccontextmanager
async def lab(*, delay: float = 0.02, **settings: Any) -> AsyncIterator[Lab]:
    """A connected call over two relays, on a network that is good until it is set, with this delay each way."""
    async with AsyncExitStack() as stack:
        coturns = [await stack.enter_async_context(Coturn(ip=ip)) for ip in RELAYS]
        relays = [coturn.server() for coturn in coturns]
        link, tap = Link(seed=7), Tap()
        link.set("both", rate=WIDE, queue=0.3, delay=delay)
        through = [await stack.enter_async_context(_tapped(relay, link, tap)) for relay in relays]
        alice, bob = [
            await stack.enter_async_context(
                Program("video_party", {"relays": list(map(_told, ours)), "caller": caller, **settings})
            )
            for ours, caller in ((through, True), (relays, False))
        ]
        records = [await program.ask("prepare") for program in (alice, bob)]
        assert all("record" in record for record in records), records
        answers = await asyncio.gather(
            alice.ask("connect", record=records[1]["record"]), bob.ask("connect", record=records[0]["record"])
        )
        assert answers == [{}, {}]
        yield Lab(alice, bob, link, tap)


def _told(relay: RelayServer) -> list[str]:
    assert relay.username is not None
    assert relay.password is not None
    return [relay.name, relay.username, relay.password.reveal()]


@asynccontextmanager
async def _tapped(relay: RelayServer, link: Link, tap: Tap) -> AsyncIterator[RelayServer]:
    proxy = LossyProxy(relay.host, relay.port, link=link)
    proxy.on_packet = tap
    try:
        port, _ = await proxy.open()
        yield replace(relay, host="127.0.0.1", port=port)
    finally:
        await proxy.close()


def show(lab: Lab, since: float, title: str) -> None:
    """Print how it went, second by second."""
    print(f"\n{title}")
    for name in ("alice", "bob"):
        print(f"{name:6}   s  sent kbit/s  target  audio  missing  queue ms  pictures  available")
        notes = [note for note in lab.notes[name] if note["at"] >= since - 2.0]
        for start in range(-2, int(notes[-1]["at"] - since)):
            span = [note for note in notes if start <= note["at"] - since < start + 1.05]
            if len(span) > 1:
                print(
                    f"{start:10} {8 * grown(span, 'bytes') // 1000:12} {span[-1]['target'] // 1000:7}"
                    f" {span[-1]['audio_bitrate'] // 1000:6} {missing(span):8.1%} {span[-1]['queue_ms']:9.0f}"
                    f" {grown(span, 'pictures'):9} {(span[-1]['available'] or 0) // 1000:10}"
                )
    for who, at, text in sorted(_events(lab, since), key=lambda event: event[1]):
        print(f"{at - since:7.2f} {who} {text}")


def _events(lab: Lab, since: float) -> Iterable[tuple[str, float, str]]:
    for name, events in lab.events.items():
        yield from ((name, at, text) for at, _, text in events if at >= since - 2.0)
