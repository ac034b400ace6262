"""A call over a narrow link in virtual time: a sender with its adaptation, and a receiver, as ours are.

The encoder is worse than ours: it begins with a keyframe of three times the size at each change, and never makes up
for it. Everything random comes from a seed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import Any

from relaycall.media.video.format import Encoding
from relaycall.quality.adaptation import Adaptation, VideoAdapted
from relaycall.quality.ladder import Limits
from relaycall.quality.sample import PeerReport
from tests.quality.links import OTHER, Clock, Conditions, Download, Link, Packet

SRTP, BELOW = 28, 32  # bytes of a packet's headers and tag, and those of TURN, UDP and IP
CONTROL = 140  # bytes on the wire of a message to the other side
PIECE = 1100  # bytes of a frame in a packet
FEEDBACK, REPORT = 0.1, 1.0  # seconds between messages of the receiver's
REORDERING = 0.03  # seconds until a gap is asked for
LOST_AFTER = 1.0  # seconds
AGAIN = 3  # a third of the bit rate at most is sent again


@dataclass(frozen=True, slots=True)
class Fated:
    """What became of a video packet, as the video sender tells it."""

    number: int
    size: int
    sent_at: float
    arrived_at: float | None
    untold: bool = False


@dataclass
class Moment:
    """What an audio packet met: when it was sent, how long it waited on the link, whether it came."""

    at: float
    wait: float
    came: bool = False


@dataclass
class AudioChange:
    at: float
    bitrate: int
    expected_loss: float


@dataclass
class Change:
    at: float
    encoding: Encoding | None
    reason: str


@dataclass
class SimulatedCall:
    """A sender with its adaptation, the link, and the receiver.

    Args:
        conditions: of the link at the start; `step` changes them later.
        seed: of everything random.
        limits, source: of the adaptation.
        lie: what the receiver tells instead of the truth.
        sent_share: of the bit rate asked for, what the encoder makes.
        tells: whether the sender gets video, too, and tells of it.
    """

    conditions: Conditions
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    source: tuple[int, int] | None = (1280, 720)
    lie: Callable[[list[Fated]], list[Fated]] | None = None
    report_lie: Callable[[PeerReport], PeerReport] | None = None
    sent_share: float = 1.0
    tells: bool = True
    steps: tuple[tuple[float, dict[str, Any]], ...] = ()

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.random = random.Random(self.seed)
        self.link = Link(self.clock, self.seed + 1, self.conditions, self._arrived)
        self.link.dropped = self._dropped
        self.adaptation = Adaptation(self.limits)
        self.audio: list[Moment] = []
        self.changes: list[Change] = []
        self.audio_changes: list[AudioChange] = []
        self.asked: list[tuple[float, float]] = []  # when, and the bit rate of video, at each frame
        self.delivered: dict[int, int] = {}  # bytes that came, in each second, of this call
        self._offset = 1000 * self.random.random()
        self._encoding: Encoding | None = None
        self._keyframe = True
        self._backlog: deque[int] = deque()  # sizes of packets before the pacer
        self._pacing = False
        self._number = 0
        self._log: dict[int, tuple[float, int]] = {}  # by number: when it was sent, and its size
        self._news: deque[tuple[float, int]] = deque()  # arrivals to be told: time, number
        self._highest: deque[int] = deque(maxlen=3)
        self._seen = -1  # the highest number that came
        self._missing: list[tuple[float, int]] = []  # since when, numbers
        self._again: deque[int] = deque()  # sizes
        self._again_left = 0.0  # bytes
        self._last_frame = -1.0
        self._received = self._lost = self._audio_number = self._expected = 0
        self._transits: deque[tuple[float, float]] = deque()
        self._downloads: list[Download] = []
        self._next_tick = 0.0
        self.clock.at(0.0, self._speak)
        self.clock.at(0.0, self._frame)
        self.clock.at(FEEDBACK * self.random.random(), self._tell)
        self.clock.at(REPORT * self.random.random(), self._report)
        self.clock.at(0.0, self._other)
        for time, what in self.steps:
            self.clock.at(time, self.step, what)
        self.step({})
        if self.source is not None:
            self.adaptation.set_source(0.0, self.source)
        self._apply()

    # --- the link's side ---------------------------------------------------------------------------------------------

    def run(self, until: float) -> None:
        self.clock.run(until)

    def step(self, what: dict[str, Any]) -> None:
        self.link.change(**what)
        while len(self._downloads) < self.link.conditions.greedy:
            self._downloads.append(Download(self.clock, self.link))
            self._downloads[-1].fill()
        while len(self._downloads) > self.link.conditions.greedy:
            self._downloads.pop().stopped = True

    def _other(self) -> None:
        rate = self.link.conditions.other
        if rate:
            self.link.send(Packet("other", OTHER, self.clock.now))
        gap = OTHER * 8 / rate if rate else 0.1
        self.clock.at(self.clock.now + gap * (0.5 + self.random.random()), self._other)

    def _greedy(self, lost: bool) -> None:
        if self._downloads:
            download = self._downloads[self.random.randrange(len(self._downloads))]
            self.clock.at(self.clock.now + 0.03, download.lost if lost else download.acknowledged)

    def _dropped(self, packet: Packet) -> None:
        if packet.kind == "greedy":
            self._greedy(lost=True)

    def _arrived(self, packet: Packet) -> None:
        now = self.clock.now
        if packet.kind == "greedy":
            self._greedy(lost=False)
            return
        if packet.kind == "other":
            return
        self.delivered[int(now)] = self.delivered.get(int(now), 0) + packet.size
        if packet.kind == "control":
            return
        if packet.kind == "video":
            self._news.append((now, packet.number))
            self._missing += [(now, number) for number in range(self._seen + 1, packet.number)]
            self._seen = packet.number
            return
        if packet.kind == "again":
            return
        self.audio[packet.number].came = True
        self._lost += packet.number - self._expected
        self._expected = packet.number + 1
        self._received += 1
        self._transits.append((now, now - packet.sent_at))

    # --- the sender --------------------------------------------------------------------------------------------------

    def _speak(self) -> None:
        now = self.clock.now
        size = self.adaptation.audio_bitrate // 400 + SRTP + BELOW
        self.audio.append(Moment(now, self.link.wait))
        self.link.send(Packet("audio", size, now, self._audio_number))
        self._audio_number += 1
        if now >= self._next_tick:
            self.adaptation.handle_timeout(now)
            self._apply()
        self.clock.at(now + 0.02, self._speak)

    def _apply(self) -> None:
        now = self.clock.now
        self._next_tick = self.adaptation.next_timeout()
        for decision in self.adaptation.take_decisions():
            if isinstance(decision, VideoAdapted):
                self.changes.append(Change(now, decision.encoding, decision.reason))
            else:
                self.audio_changes.append(AudioChange(now, decision.bitrate, decision.expected_loss))
        if self.adaptation.encoding != self._encoding:
            self._encoding = self.adaptation.encoding
            self._keyframe = True
            self._backlog.clear()
            self._again.clear()

    def _frame(self) -> None:
        now, encoding = self.clock.now, self._encoding
        self.clock.at(now + 1 / (encoding.frame_rate if encoding else 30), self._frame)
        self.asked.append((now, encoding.bitrate if encoding else 0))
        if encoding is None or self.adaptation.held:
            return
        mean = encoding.bitrate / 8 / encoding.frame_rate * self.sent_share
        size = max(40, int(mean * (3 if self._keyframe else 1) * max(0.4, self.random.gauss(1, 0.15))))
        self._keyframe = False
        pieces = ceil(size / PIECE)
        self._backlog.extend(size // pieces + 1 + SRTP for _ in range(pieces))
        if not self._pacing:
            self._pace()

    def _pace(self) -> None:
        self._pacing = bool((self._backlog or self._again) and self._encoding)
        if not self._pacing or self._encoding is None:
            return
        if self.adaptation.held:
            self.clock.at(self.clock.now + 0.01, self._pace)
            return
        now, again = self.clock.now, bool(self._again)
        size = self._again.popleft() if again else self._backlog.popleft()
        if not again:
            self._log[self._number] = now, size
        self.adaptation.sent(now + 0.0001, size)
        self.link.send(Packet("again" if again else "video", size + BELOW, now, self._number))
        self._number += not again
        self.clock.at(now + size * 8 / (1.5 * self._encoding.bitrate), self._pace)

    def _asked_again(self, numbers: list[int]) -> None:
        rate = self._encoding.bitrate if self._encoding else 0
        self._again_left = min(self._again_left + rate / AGAIN / 8 * FEEDBACK, rate / AGAIN / 8)
        fates = []
        for number in [number for number in numbers if number in self._log]:
            sent_at, size = self._log.pop(number)
            fates.append(Fated(number, size, sent_at, None))
            if size < self._again_left:
                self._again_left -= size
                self._again.append(size)
        if self._again and not self._pacing:
            self._pace()
        self._tell_fates(fates)

    def _told(self, arrivals: list[tuple[float, int]]) -> None:
        now, fates = self.clock.now, []
        for at, number in arrivals:
            if number in self._log:
                sent_at, size = self._log.pop(number)
                fates.append(Fated(number, size, sent_at, at * 1.0001 + self._offset))
        overtaken = self._highest[0] if len(self._highest) == 3 else -1
        for number in [n for n, (at, _) in self._log.items() if n < overtaken or now - at > LOST_AFTER]:
            sent_at, size = self._log.pop(number)
            fates.append(Fated(number, size, sent_at, None))
        if arrivals:
            self._highest.append(max(number for _, number in arrivals))
        self._tell_fates(fates)

    def _tell_fates(self, fates: list[Fated]) -> None:
        fates = self.lie(fates) if self.lie else fates
        if fates:
            self.adaptation.fates(self.clock.now, fates)
            self._apply()

    # --- the receiver ------------------------------------------------------------------------------------------------

    def _back(self, do: Callable[..., None], *args: Any) -> None:
        conditions = self.link.conditions
        if self.random.random() >= conditions.feedback_loss:
            self.clock.at(self.clock.now + conditions.delay + conditions.feedback_delay, do, *args)

    def _tell(self) -> None:
        now = self.clock.now
        if self.tells:
            self.link.send(Packet("control", CONTROL, now))
        while self._news and self._news[0][0] < now - 2.1 * FEEDBACK:  # each is told twice
            self._news.popleft()
        if self._news and self._news[-1][0] > now - FEEDBACK:
            self._back(self._told, list(self._news))
        else:
            self.clock.at(now, self._told, [])
        wanted = [number for since, number in self._missing if since <= now - REORDERING]
        if wanted:
            self._missing = [one for one in self._missing if one[0] > now - REORDERING]
            self._back(self._asked_again, wanted)
        self.clock.at(now + FEEDBACK, self._tell)

    def _report(self) -> None:
        now = self.clock.now
        while self._transits and self._transits[0][0] < now - 30:
            self._transits.popleft()
        least = min((transit for _, transit in self._transits), default=0.0)
        latest = [transit - least for at, transit in self._transits if at > now - REPORT]
        report = PeerReport(
            received=self._received,
            lost=self._lost,
            queue_ms=1000 * sum(latest) / len(latest) if latest else 0.0,
        )
        self._back(self._reported, self.report_lie(report) if self.report_lie else report)
        self.clock.at(now + REPORT, self._report)

    def _reported(self, report: PeerReport) -> None:
        self.adaptation.sent_besides(8 * CONTROL / FEEDBACK if self.tells else 0.0)
        self.adaptation.report(self.clock.now, report)
        self._apply()

    # --- what is asked of it -----------------------------------------------------------------------------------------

    def audio_loss(self, since: float, until: float) -> float:
        """Share of the audio packets sent in this time that never came; those of the last half second are left out."""
        sent = [moment for moment in self.audio if since <= moment.at < min(until, self.clock.now - 0.5)]
        return sum(not moment.came for moment in sent) / len(sent)

    def wait(self, since: float, until: float) -> list[float]:
        """How long audio packets waited on the link, in seconds, in order."""
        return [moment.wait for moment in self.audio if since <= moment.at < until]

    def use(self, since: int, until: int, rate: float) -> float:
        """Share of this rate that the call's own packets took."""
        return sum(self.delivered.get(second, 0) for second in range(since, until)) * 8 / (until - since) / rate

    def video_rate(self, since: float, until: float) -> float:
        """Mean bit rate asked of the encoder, in bit/s."""
        times = [*self.asked, (self.clock.now, 0.0)]
        spans = ((max(a, since), min(b, until), rate) for (a, rate), (b, _) in pairwise(times))
        return sum((b - a) * rate for a, b, rate in spans if b > a) / (until - since)
