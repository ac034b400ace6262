"""What the path carries in our direction, from what became of our packets. Without I/O.

How it works. A path is known by sending. While nothing waits on the way and nothing is lost because of us, all that is
known is that it carries what we send. When we send more, packets wait or are lost, and what arrives then is what it
carries. `transits` says how long they wait, `losses` which are lost because of us; the states follow from that:

    CLEAR   all waited 60 ms, for a second, or 150 ms, for a quarter     ──▶ QUEUED
            soon after more is sent: 30 ms more than before that         ──▶ TRIED
            more was lost than is tolerated                              ──▶ LOSSY, or QUEUED if they waited, too
            no word of what was sent, for 0.4 s and 1.5 round trips      ──▶ SILENT (from any state)
    QUEUED  no video is sent. The fate of all that was is known, and the voice behind it has passed; or 6 s  ──▶ CLEAR
    TRIED   less is sent, after a rest as long as all waited. Less waits; or after 2.5 s     ──▶ CLEAR; or QUEUED
    LOSSY   less is sent, for a round trip and 1.5 s                                                         ──▶ CLEAR
    SILENT  no video is sent. A packet arrived, by its fate or by the peer's count of our voice              ──▶ CLEAR

On QUEUED, TRIED and LOSSY `capacity` is measured. It is believed for 10 seconds, for twice as long each time it is
found to be the same again, 40 at most. It is forgotten when the path changes, and when packets of the same kind become
quicker than they were: then the link has become wider. A queue that does not go while we send no video is not ours: at
once if all that follows waits as long as before, within the jitter; else if it stays about the same twice in a row. It
is taken for a property of the path: waits are counted from there, the voice's too. A loss that stays as it is though we
send less is not ours either: it is tolerated, and the capacity forgotten. If it ends, it was a policer.

All that takes time. When a packet is overdue by more than messages differ, nothing more is sent until it is known what
became of it (`held`): a queue that nobody has told us of yet grows no further.

The peer may lie. Figures that cannot be are dropped and counted, the rest only says what a path of some kind would.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from relaycall.quality.fate import Fate
from relaycall.quality.hearing import Hearing
from relaycall.quality.ladder import LOWER_HEADERS, audio_wire_rate
from relaycall.quality.losses import Losses
from relaycall.quality.sample import PeerReport
from relaycall.quality.transits import FEW, Arrival, Transits
from relaycall.quality.trial import Trial

BUSY = 0.03  # seconds of waiting from which on the link is not idle
QUEUES = (0.06, 1.0), (0.15, 0.25)  # seconds that all waited, in a window of so many
TRIAL_WINDOWS = 0.3, 0.6  # seconds in which all waited too long on trial
DRAIN, TOO_LONG = 2.5, 0.25  # seconds that what waited may take, with less, and that it may wait at most
HOLD, HOLD_ROUND_TRIPS = 0.12, 1.1  # seconds, and round trips besides, after which a packet is overdue
WINDOW = 1.0  # seconds in which the capacity is measured
LATEST = 0.3  # seconds in which it may have become narrower
MIN_BUSY = 0.1  # seconds of a busy link that are enough to measure it
GAP = 0.2  # seconds without an arrival: what came then was not told
PAUSE = 0.2  # seconds between two packets of which the second was held up here
LESS = 1.5  # seconds for which LOSSY lasts, and a round trip
MAX_HOLD, HOLD_MARGIN = 6.0, 0.5  # seconds that QUEUED lasts at most; and beyond what is expected
QUIET = 0.3  # seconds without a fate in which the last of a queue would have come
PERSISTS = 0.7  # a queue that is at least so much of what it was has not changed
NOT_OURS = 2  # such queues in a row
STEADY = 0.03  # seconds by which a queue differs that is the same within the jitter
SILENCE, SILENCE_ROUND_TRIPS = 0.4, 1.5  # seconds, and round trips besides
TRUST, MAX_TRUST = 10.0, 40.0  # seconds
SAME = 0.25  # a capacity that differs by less is the same
SHARE = 0.9  # of the capacity
CALLED_LATE = 0.02  # seconds that `sent` may be called later than a packet's `sent_at`
ROUND_TRIP, ROUND_TRIP_UP = 0.2, 0.01  # seconds: at first, and by how much a message makes it longer
MAX_RATE = 100_000_000  # bit/s
MAX_KEPT = 4096  # packets
MAX_JUMP = 20_000  # numbers without a packet between them

NEVER = float("inf")


class Load(enum.Enum):
    """How much of the path is taken."""

    CLEAR = enum.auto()
    QUEUED = enum.auto()
    TRIED = enum.auto()
    LOSSY = enum.auto()
    SILENT = enum.auto()


@dataclass(slots=True)
class RateEstimator:
    """The estimate for one call in one direction. Times are in seconds, all on one monotonic clock but for arrivals.

    Attributes:
        other_rate: of all that is no video, voice and messages, in bit/s on the wire. Set it when it changes.
        load: the state.
        held: whether no video is to be sent for the moment, since it is not known what became of the latest.
        capacity: what the link was measured to carry of ours, voice included, in bit/s on the wire; None: unknown.
        queue: how long the latest packets waited at least, in seconds.
        measured, relieved: how often the capacity was measured, and the link seen to have become wider.
        silences: in a row, without any fate of an arrival between them.
        round_trip: from sending a packet until its fate is known, at best, in seconds.
        losses: of video packets.
        hearing: what the peer reports of our voice.
        dropped: figures that cannot be, by reason.
    """

    other_rate: int = audio_wire_rate(32000)
    load: Load = Load.CLEAR
    held: bool = False
    capacity: int | None = None
    queue: float = 0.0
    measured: int = 0
    relieved: int = 0
    silences: int = 0
    round_trip: float = ROUND_TRIP
    losses: Losses = field(default_factory=Losses)
    hearing: Hearing = field(default_factory=Hearing)
    dropped: Counter[str] = field(default_factory=Counter)
    _transits: Transits = field(default_factory=Transits, repr=False)
    _flying: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=MAX_KEPT), repr=False)
    _highest: int | None = field(default=None, repr=False)
    _highest_sent_at: float = field(default=-NEVER, repr=False)
    _path_since: float = field(default=-NEVER, repr=False)
    _fate_at: float = field(default=-NEVER, repr=False)
    _entered_at: float = field(default=-NEVER, repr=False)
    _until: float = field(default=NEVER, repr=False)  # at which LOSSY is judged, and QUEUED ends in any case
    _queue_then: float = field(default=0.0, repr=False)
    _loss_then: float = field(default=0.0, repr=False)
    _stuck: int = field(default=0, repr=False)  # queues in a row that did not go
    _trust: float = field(default=TRUST, repr=False)
    _trusted_until: float = field(default=-NEVER, repr=False)
    _believed: int | None = field(default=None, repr=False)  # the capacity that was measured last
    _trial: Trial = field(default_factory=Trial, repr=False)
    _rest_until: float = field(default=-NEVER, repr=False)

    @property
    def available(self) -> int | None:
        """What we may send, voice and video, in bit/s on the wire: 0.9 of the capacity, or what arrives if unknown."""
        if self.capacity is not None:
            return int(SHARE * self.capacity)
        window = self._transits.window(WINDOW)
        return int(sum(arrival.bits for arrival in window) / WINDOW) + self.other_rate if window else None

    @property
    def overdue_at(self) -> float:
        """When the oldest packet of which nothing is known will be overdue."""
        return self._flying[0][0] + HOLD + HOLD_ROUND_TRIPS * self.round_trip if self._flying else NEVER

    # --- what happens ------------------------------------------------------------------------------------------------

    def sent(self, now: float, size: int) -> None:
        """A video packet left for the first time: bytes with SRTP, without the headers below it."""
        if not self._flying:
            self._fate_at = max(self._fate_at, now)
        self._flying.append((now, size))

    def changed(self, now: float, *, more: bool) -> None:
        """From now on more is sent, or less, or of another kind: that is watched, and transits are learnt anew."""
        self.losses.raised(now, self.round_trip)
        self._transits.settle(now)
        if more:
            self._trial.begin(now, self.round_trip)
        else:
            self._trial.end()

    def path_changed(self, now: float) -> None:
        """Packets go another way."""
        self._path_since = now
        self._transits.forget()
        self.losses.forget()
        self.losses.excuse(now, now)
        self.hearing.stands(now, 0.0)
        self._distrust()
        self._stuck, self._queue_then = 0, 0.0
        self._clear(now)

    def report(self, now: float, report: PeerReport) -> None:
        """What the peer says of our voice, once a second."""
        if not self.hearing.take(now, report):
            self.dropped["report"] += 1
        elif self.load is Load.SILENT and self.hearing.since >= self._entered_at and self.hearing.received:
            self._end_silence(now)

    def fates(self, now: float, fates: Iterable[Fate]) -> None:
        """What became of some packets, in any order. Each is told once: as arrived, lost or untold."""
        possible = {fate.number: fate for fate in fates if self._is_possible(fate)}
        fresh = [possible[number] for number in sorted(possible) if self._is_new(number)]
        if not fresh:
            return
        self._count(now, fresh)
        while self._flying and self._flying[0][0] <= fresh[-1].sent_at + CALLED_LATE:
            self._flying.popleft()
        came = [fate for fate in fresh if fate.arrived_at is not None]
        for fate in came:
            if fate.arrived_at is not None and fate.sent_at > self._path_since:
                bits = 8 * (fate.size + LOWER_HEADERS)
                if not self._transits.add(now, fate.sent_at, fate.arrived_at, bits):
                    self.dropped["clock"] += 1
        if came:
            self.round_trip = min(max(now - came[-1].sent_at, 0.0), self.round_trip + ROUND_TRIP_UP)
            self._fate_at, self.silences = now, 0
            if self.load is Load.SILENT:
                self._end_silence(now)
        self._judge(now)

    def handle_timeout(self, now: float) -> None:
        """See what time has brought about; call it ten times a second while video is sent."""
        if now >= self._trusted_until:
            self.capacity = None
        if self._flying and self.load is not Load.SILENT:
            silence = now - max(self._fate_at, self._flying[0][0])
            if silence > SILENCE + SILENCE_ROUND_TRIPS * self.round_trip:
                self.load, self._entered_at = Load.SILENT, now
                self.silences += 1
                self._flying.clear()
        self._judge(now)

    def _count(self, now: float, fresh: list[Fate]) -> None:
        """The losses among these and in the gap before them, but for those that are excused."""
        counted = [fate for fate in fresh if fate.sent_at >= self.losses.excused_until]
        if counted:
            follows = self._highest is not None and self._highest_sent_at >= self.losses.excused_until
            before = self._highest if follows and self._highest is not None else counted[0].number - 1
            came = sum(fate.arrived_at is not None for fate in counted)
            untold = sum(fate.untold for fate in counted)
            self.losses.add(now, counted[-1].number - before - untold, came)
        self._highest, self._highest_sent_at = fresh[-1].number, fresh[-1].sent_at

    def _is_possible(self, fate: Fate) -> bool:
        """Comparisons are false for what is no number."""
        arrived_at = 0.0 if fate.arrived_at is None else fate.arrived_at
        possible = 0 < fate.size < 65536 and -1e12 < fate.sent_at < 1e12 and -1e12 < arrived_at < 1e12
        if not possible:
            self.dropped["fate"] += 1
        return possible

    def _is_new(self, number: int) -> bool:
        """Whether no later packet was told before. One that was sent again comes late, and was lost when it counted."""
        if self._highest is None or 0 < number - self._highest <= MAX_JUMP:
            return True
        if number > self._highest:
            self.dropped["number"] += 1
        return False

    # --- judging -----------------------------------------------------------------------------------------------------

    def _judge(self, now: float) -> None:
        self.queue = self._transits.queue
        self._trial.note(now, self.queue)
        self.losses.look(now)
        _JUDGES[self.load](self, now)
        self.held = now >= self.overdue_at or now < self._rest_until

    def _judge_clear(self, now: float) -> None:
        losing = self.losses.are_ours(now)
        if any(self._transits.waited(window) > queue for queue, window in QUEUES) or (
            losing and self._transits.late > BUSY
        ):
            self._queued(now)
        elif losing:
            self._measured(now, Load.LOSSY)
            self._until = now + self.round_trip + LESS
        elif any(self._transits.waited(window) > self._trial.limit(now) for window in TRIAL_WINDOWS):
            self._measured(now, Load.TRIED)
            self._until = now + self.round_trip + DRAIN
            self._rest_until = now + self.queue
        elif self.capacity is not None and self._transits.are_quicker(now, self.round_trip, self.capacity):
            self._distrust()
            self.relieved += 1

    def _judge_tried(self, now: float) -> None:
        if self.queue > TOO_LONG or now >= self._until:
            self._judge_clear(now)
            if self.load is Load.TRIED:
                self._clear(now)
        elif self._trial.is_undone(self.queue):
            self._clear(now)

    def _judge_lossy(self, now: float) -> None:
        if now >= self._until:
            if self.losses.judge(self._loss_then):
                self.capacity = None
            self._clear(now)

    def _judge_queued(self, now: float) -> None:
        """What waits behind the last video packet is voice, and passes at what the link carries beyond it."""
        quiet = now - max(self._fate_at, self._entered_at + self.round_trip) > QUIET
        left = (self.capacity or 0) - self.other_rate
        behind = self.queue * self.other_rate / left if left > 0 else NEVER
        passed = (not self._flying or quiet) and now >= self._fate_at + behind
        if passed or now >= self._until:
            self.losses.excuse(now, self._entered_at - WINDOW)
            self._transits.drained()
            self._clear(now)

    def _judge_silent(self, now: float) -> None:
        """It ends by what arrives."""

    # --- from state to state -----------------------------------------------------------------------------------------

    def _queued(self, now: float) -> None:
        """Measure. If the queue did not go the last times, wait for it once more, and then count from there."""
        if self._is_steady():
            self._accept(now)
            self._distrust()
            self._clear(now)
            return
        persists = self._transits.least >= PERSISTS * self._queue_then > 0
        self._stuck = self._stuck + 1 if persists else 0
        self._measured(now, Load.QUEUED)
        self._queue_then = self.queue
        if self._stuck == NOT_OURS:
            self._accept(now)
        flying = 8 * sum(size + LOWER_HEADERS for _, size in self._flying)
        drained = flying / max(self.capacity or 0, self.other_rate) + self.queue
        self._until = now + min(self.round_trip + HOLD_MARGIN + 1.5 * drained, MAX_HOLD)

    def _is_steady(self) -> bool:
        """Whether all since the last queue waited as long as it did: a rest did not make it shorter."""
        waits = self._transits.least, self.queue
        return self._queue_then > 0 and all(abs(wait - self._queue_then) <= STEADY for wait in waits)

    def _accept(self, now: float) -> None:
        """The queue is not ours: count from there."""
        self.hearing.stands(now, self._transits.least)
        self._transits.accept()
        self._stuck, self._queue_then = 0, 0.0

    def _measured(self, now: float, load: Load) -> None:
        capacity = self._passed() if load is Load.LOSSY else self._carried()
        same = self._believed is not None and abs(capacity - self._believed) <= SAME * self._believed
        if not same:
            self._trust = TRUST
        elif self.capacity is None:
            self._trust = min(2 * self._trust, MAX_TRUST)
        self.capacity = self._believed = capacity
        self._trusted_until = now + self._trust
        self.load, self._entered_at, self._loss_then = load, now, self.losses.latest
        self.measured += 1

    def _carried(self) -> int:
        """What arrived of ours while the link was busy, and what of it lately: it may have become narrower meanwhile.

        Voice passed in the share in which it was sent, and lost.
        """
        window = self._transits.window(WINDOW)
        idle = next((i for i in range(len(window) - 1, -1, -1) if window[i].wait < BUSY), -1)
        gaps = (i for i in range(1, len(window)) if window[i].arrived_at - window[i - 1].arrived_at > GAP)
        busy = window[max(idle + 1, *gaps, 0) :]
        if len(busy) >= FEW and busy[-1].arrived_at - busy[0].arrived_at >= MIN_BUSY:
            whole, latest = self._rate(busy), [one for one in busy if one.arrived_at > busy[-1].arrived_at - LATEST]
            told = len(latest) > FEW and latest[-1].arrived_at - latest[0].arrived_at >= MIN_BUSY
            return min(whole, self._rate(latest)) if told else whole
        # Too short to be measured alone. Most of the second was before, at the rate that was sent then.
        return min(self._rate(window), self._rate(window[max(idle, 0) :]) or MAX_RATE)

    def _rate(self, window: list[Arrival]) -> int:
        """At which voice and video arrived, in bit/s, but for the times in which we paused; 0 if no time passed."""
        took = sent = bits = 0.0
        for before, after in pairwise(window):
            gap = after.sent_at - before.sent_at
            if gap <= PAUSE:
                took += after.arrived_at - before.arrived_at
                sent += gap
                bits += after.bits
        others = self.other_rate * max(sent, 0.0) * (1 - self.losses.latest)
        return int(min((bits + others) / took, MAX_RATE)) if took > 0 else 0

    def _passed(self) -> int:
        """What arrived of ours of what was sent in a second, by our own clock."""
        window = self._transits.window(WINDOW)
        took = max(arrival.sent_at for arrival in window) - min(arrival.sent_at for arrival in window) if window else 0
        video = sum(arrival.bits for arrival in window) / took if took > MIN_BUSY else 0.0
        return int(min(video + self.other_rate * (1 - self.losses.latest), MAX_RATE))

    def _distrust(self) -> None:
        self.capacity = self._believed = None
        self._trust = TRUST

    def _end_silence(self, now: float) -> None:
        self.losses.excuse(now, self._entered_at - SILENCE - SILENCE_ROUND_TRIPS * self.round_trip - WINDOW)
        self._clear(now)

    def _clear(self, now: float) -> None:
        self.load, self._until = Load.CLEAR, NEVER
        self._flying.clear()
        self._transits.settle(now)


_JUDGES: dict[Load, Callable[[RateEstimator, float], None]] = {
    Load.CLEAR: RateEstimator._judge_clear,
    Load.QUEUED: RateEstimator._judge_queued,
    Load.TRIED: RateEstimator._judge_tried,
    Load.LOSSY: RateEstimator._judge_lossy,
    Load.SILENT: RateEstimator._judge_silent,
}
