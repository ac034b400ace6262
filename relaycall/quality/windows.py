"""What happened between readings: the differences of their counts, summed over the last 30 seconds.

Audio comes at a constant rate, so packets are missed before anything says that they are lost. Once nothing has come
for half a second, all that is due counts as lost; what is reported as lost later, and was counted then, is not counted
again. Nor is a packet that was overtaken, reported as lost, and came after all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from relaycall.quality.sample import PeerReport, Reading
from relaycall.quality.score import MAX_BURST

FRAME_SECONDS = 0.02  # of audio in a packet
LONGEST = 30.0  # seconds that are kept
SHORTEST = 0.001  # seconds between readings
SLOT = 0.5  # seconds; shorter spans are put together
SILENT = 0.5  # seconds without a packet after which packets are missed
MAX_OVERTAKEN = 10  # packets
ENOUGH = 20  # made-up frames from which on it is said how they are spread


@dataclass(slots=True)
class Span:
    """A stretch of time: counts in it, and figures multiplied by the seconds for which they held.

    Attributes:
        seconds: how long it is.
        received, lost, recovered, concealed: audio of the other side's.
        received_there, lost_there: audio of ours, by what the other side reported in it.
        bytes_sent, bytes_received, video_bytes_sent, video_bytes_received: as in a reading.
        frames_sent, frames_shown: of video, by us.
        rtt, jitter, queue, playout: milliseconds times seconds.
        rtt_known: seconds for which the round trip was known.
    """

    seconds: float = 0.0
    received: float = 0.0
    lost: float = 0.0
    recovered: float = 0.0
    concealed: float = 0.0
    received_there: float = 0.0
    lost_there: float = 0.0
    bytes_sent: float = 0.0
    bytes_received: float = 0.0
    video_bytes_sent: float = 0.0
    video_bytes_received: float = 0.0
    frames_sent: float = 0.0
    frames_shown: float = 0.0
    rtt: float = 0.0
    rtt_known: float = 0.0
    jitter: float = 0.0
    queue: float = 0.0
    playout: float = 0.0

    @property
    def reported(self) -> bool:
        """Whether the other side said in it how our audio came."""
        return self.received_there + self.lost_there > 0

    @property
    def frames(self) -> float:
        """Audio frames that were due to be heard."""
        return max(self.seconds / FRAME_SECONDS, self.concealed + self.recovered)

    def add(self, other: Span) -> None:
        """Take in another one."""
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_SUMMED = tuple(each.name for each in fields(Span))


@dataclass(slots=True)
class Losses:
    """Lost packets of one stream, as they are missed rather than as they are reported."""

    _begun: bool = field(default=False, init=False)
    _silent: float = field(default=0.0, init=False)  # seconds since a packet came
    _reported: float = field(default=0.0, init=False)  # in that time; below 0 is what came after all
    _counted: float = field(default=0.0, init=False)  # in that time

    def take(self, received: int, lost: int, seconds: float) -> float:
        """How many more to count as lost.

        Args:
            received, lost: by how much the two counts have changed.
            seconds: in how long.
        """
        self._begun |= received > 0
        self._silent += seconds
        self._reported += lost
        missed = self._begun and not received and self._silent >= SILENT
        due = max(self._reported, self._silent / FRAME_SECONDS if missed else 0.0)
        more = max(0.0, due - self._counted)
        self._counted += more
        if received:
            self._silent = self._counted = 0.0
            self._reported = max(min(self._reported, 0.0), -MAX_OVERTAKEN)
        return more


class Differences:
    """Turns readings into spans."""

    def __init__(self) -> None:
        self._at = 0.0
        self._reading: Reading | None = None
        self._losses = Losses()
        self._there_at = 0.0
        self._there = PeerReport()
        self._losses_there = Losses()

    def take(self, now: float, reading: Reading) -> Span | None:
        """What happened since the reading before. None: this is the first, or no millisecond has passed."""
        before, seconds = self._reading, now - self._at
        if before is not None and seconds < SHORTEST:
            return None
        self._at, self._reading = now, reading
        if before is None:
            self._there_at, self._there = now, reading.mine or PeerReport()
            return None
        theirs, then = reading.theirs, before.theirs
        received, lost = theirs.received - then.received, theirs.lost - then.lost
        rtt_ms = reading.rtt_ms
        span = Span(
            seconds,
            received,
            self._losses.take(received, lost, seconds),
            max(0, theirs.recovered - then.recovered),
            max(0, theirs.concealed - then.concealed),
            bytes_sent=max(0, reading.bytes_sent - before.bytes_sent),
            bytes_received=max(0, reading.bytes_received - before.bytes_received),
            video_bytes_sent=max(0, reading.video_bytes_sent - before.video_bytes_sent),
            video_bytes_received=max(0, reading.video_bytes_received - before.video_bytes_received),
            frames_sent=max(0, reading.video_frames_sent - before.video_frames_sent),
            frames_shown=max(0, theirs.frames_shown - then.frames_shown),
            rtt=0.0 if rtt_ms is None else rtt_ms * seconds,
            rtt_known=0.0 if rtt_ms is None else seconds,
            jitter=theirs.jitter_ms * seconds,
            queue=theirs.queue_ms * seconds,
            playout=theirs.playout_delay_ms * seconds,
        )
        if reading.mine is not None and reading.mine != self._there:
            self._reported(span, now, reading.mine)
        return span

    def _reported(self, span: Span, now: float, mine: PeerReport) -> None:
        """The other side has said more, of a time that may be longer than the span."""
        received, lost = mine.received - self._there.received, mine.lost - self._there.lost
        if received >= 0:
            span.received_there = received
            span.lost_there = self._losses_there.take(received, lost, now - self._there_at)
        else:  # it counts anew
            self._losses_there = Losses()
        self._there_at, self._there = now, mine


class Windows:
    """The spans of the last 30 seconds, 121 at most."""

    def __init__(self) -> None:
        self._slots: deque[Span] = deque()  # any two neighbours are longer than SLOT
        self._seconds = 0.0

    def add(self, span: Span) -> None:
        """The latest one. It belongs to the window from now on."""
        if self._slots and self._slots[-1].seconds + span.seconds <= SLOT:
            self._slots[-1].add(span)
        else:
            self._slots.append(span)
        self._seconds += span.seconds
        while self._seconds - self._slots[0].seconds >= LONGEST:
            self._seconds -= self._slots.popleft().seconds

    def clear(self) -> None:
        """Forget all."""
        self._slots.clear()
        self._seconds = 0.0

    def latest(self, seconds: float) -> Span:
        """All of the last seconds together, to half a slot; less while there is less."""
        together = Span()
        for slot in self._newest(seconds):
            together.add(slot)
        return together

    def burst(self) -> float:
        """How much longer the gaps are than random loss of as much would make them, 1 to 2.

        Frames that are missing one by one are spread over the slots as the binomial distribution has it. In runs of
        L frames on average they are spread 2 L - 1 times as widely.
        """
        missing = sum(slot.concealed for slot in self._slots)
        share = missing / max(sum(slot.frames for slot in self._slots), 1.0)
        if missing < ENOUGH or share >= 1:
            return 1.0
        spread = sum(
            (slot.concealed - share * slot.frames) ** 2 / (share * (1 - share) * slot.frames) for slot in self._slots
        )
        return min(max((spread / len(self._slots) + 1) / 2, 1.0), MAX_BURST)

    def _newest(self, seconds: float) -> Iterator[Span]:
        covered = 0.0
        for slot in reversed(self._slots):
            if covered > max(seconds - SLOT / 2, 0.0):
                return
            covered += slot.seconds
            yield slot
