"""What a call sends, so that its voice stays clear: video gives way first. Without I/O.

    adaptation = Adaptation(Limits(low_data=True))
    adaptation.set_source(now, (1280, 720))        # there is something to be seen
    adaptation.sent(now, size)                     # each video packet
    adaptation.fates(now, fates)                   # ten times a second while video flows
    adaptation.report(now, report)                 # once a second, always
    adaptation.handle_timeout(now)                 # when next_timeout() says so
    adaptation.encoding, adaptation.audio_bitrate, adaptation.expected_loss; adaptation.take_decisions()

How it works. The estimator says what the path carries, `ladder` holds the steps of quality, `voice` decides for the
voice. Here is decided for the video:

    ABSENT   there is no source                          a source ──▶ ON, if the limits leave room, else BARRED
    BARRED   the limits leave no room                    they do ──▶ ON
    ON       QUEUED, TRIED or LOSSY: at once the rung that fits what was measured, and a lower one in any case
             a limit, the peer, the encoder or the source says so: at once the highest rung that is allowed
             a quarter of the packets is lost for 5 s, or there is no rung as low as needed ──▶ WAITING
             the voice is lost or late, but no video, for 5 s; or nothing is known of its fate ──▶ WAITING
             nothing waits and nothing more is lost for 1 s, at first 2 s: a rung up, if it fits into a known capacity
    WAITING  off because of rate, loss or encoder; the voice is clean for 5 s, then 10, 20, 40, 60 ──▶ ON, lowest rung

To go a rung up is to try: how much a path carries is known only by sending more. An attempt that fails measures the
capacity, and it is not tried again until the estimator has forgotten it: after 10 to 40 seconds, or when the link is
seen to be wider. While a queue passes, or nobody knows whether anything arrives, no video is sent
(`encoding` is None), but the rung is kept. The same holds for a link that fails: it was not our rate.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from relaycall.media.video.format import Encoding
from relaycall.media.video.history import EXTRA
from relaycall.quality.estimator import BUSY, Load, RateEstimator
from relaycall.quality.fate import Fate
from relaycall.quality.ladder import (
    LADDER,
    OFF,
    START,
    VIDEO_WIRE_RATES,
    Limits,
    audio_wire_rate,
    audio_within,
    encoding_for,
    highest_for_source,
    highest_within,
    pixel_rate,
)
from relaycall.quality.sample import PeerReport
from relaycall.quality.voice import Reason, Voice

INTERVAL = 0.1  # seconds between looks while video is sent
UP_AFTER, FIRST_UP_AFTER = 1.0, 2.0  # seconds, and a round trip: from one step up to the next; to the first one
VERIFIED = 3.0  # times of what arrives: the highest rate that may be asked for
RESEND = 1 / EXTRA  # of the bit rate of video: what is sent again on top of it at most
MUCH_LOSS, MUCH_LOSS_FOR = 0.25, 5.0  # share, and seconds
RETRY, MAX_RETRY = 5.0, 60.0  # seconds
PROVEN = 30.0  # seconds on after which video that was off is no longer an attempt
HARM, LATE = 0.1, 0.25  # share of the voice that is lost, and seconds it waits, beyond what is known of video
HARM_REPORTS = 5  # in a row
CLEAN_QUEUE, CLEAN_LOSS = 0.05, 0.15  # seconds and share, of the voice
OVERRUN = 0.9  # of the time there is for encoding
ENCODER_REST, MAX_ENCODER_REST = 30.0, 480.0  # seconds
ENCODER_SETTLE = 2.0  # seconds after a change in which the encoder is not judged
MAX_DECISIONS = 16
MAX_BESIDES, SMOOTHING = 50_000, 0.25  # bit/s, and share of what is new

NEVER = float("inf")


class Video(enum.Enum):
    """Whether video is sent, and if not, what it waits for."""

    ABSENT = enum.auto()
    BARRED = enum.auto()
    ON = enum.auto()
    WAITING = enum.auto()


@dataclass(frozen=True, slots=True)
class VideoAdapted:
    """The step of quality of our video has changed; None: it is off."""

    encoding: Encoding | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class AudioAdapted:
    """How our voice is encoded has changed: its bit rate in bit/s, and the share of loss it is prepared for."""

    bitrate: int
    expected_loss: float
    reason: Reason


@dataclass(slots=True)
class Adaptation:
    """What one call sends. Times are in seconds on one monotonic clock.

    Args:
        limits: what may be used.

    Attributes:
        video: the state.
        rung: of LADDER; OFF for none.
        estimator: what the path carries.
        voice: the voice's part.
    """

    limits: Limits = field(default_factory=Limits)
    estimator: RateEstimator = field(default_factory=RateEstimator, init=False)
    voice: Voice = field(default_factory=Voice, init=False)
    video: Video = field(default=Video.ABSENT, init=False)
    rung: int = field(default=OFF, init=False)
    _source: tuple[int, int] | None = field(default=None, init=False)
    _decisions: deque[VideoAdapted | AudioAdapted] = field(
        default_factory=lambda: deque(maxlen=MAX_DECISIONS), init=False, repr=False
    )
    _look_at: float = field(default=NEVER, init=False)
    _measured: int = field(default=0, init=False)  # by the estimator, as far as it was acted upon
    _changed_at: float = field(default=-NEVER, init=False)
    _up_after: float = field(default=UP_AFTER, init=False)
    _lossy_since: float = field(default=NEVER, init=False)
    _harmed: int = field(default=0, init=False)  # reports in a row
    _on_since: float = field(default=-NEVER, init=False)
    _retry: float = field(default=RETRY, init=False)
    _clean_since: float = field(default=NEVER, init=False)
    _besides: float = field(default=0.0, init=False)  # bit/s
    _encoder_load: float = field(default=0.0, init=False)
    _encoder_rung: int = field(default=len(LADDER) - 1, init=False)
    _encoder_until: float = field(default=-NEVER, init=False)
    _encoder_rest: float = field(default=ENCODER_REST, init=False)

    def __post_init__(self) -> None:
        self._limit_voice(-NEVER)

    @property
    def encoding(self) -> Encoding | None:
        """What video is to be sent with now; None: none is to be sent, for good or for a moment."""
        return None if self.estimator.load in (Load.QUEUED, Load.SILENT) else self._chosen()

    @property
    def held(self) -> bool:
        """Whether video is to wait for a moment, since nobody knows yet what became of the latest."""
        return self.estimator.held

    @property
    def audio_bitrate(self) -> int:
        """Of the voice, in bit/s."""
        return self.voice.bitrate

    @property
    def expected_loss(self) -> float:
        """The share of loss that the voice's coding is to be prepared for; 0 for none."""
        return self.voice.expected_loss

    def take_decisions(self) -> list[VideoAdapted | AudioAdapted]:
        """What was decided since the last time, the latest 16."""
        taken = list(self._decisions)
        self._decisions.clear()
        return taken

    # --- what happens ------------------------------------------------------------------------------------------------

    def set_source(self, now: float, size: tuple[int, int] | None) -> None:
        """There are pictures of this width and height in pixels to be sent, or none."""
        if size is not None and min(size) < 1:
            size = None
        self._source = size
        if size is None:
            self.video, self.rung, self._look_at = Video.ABSENT, OFF, NEVER
        else:
            self._decide(now)

    def set_limits(self, now: float, limits: Limits) -> None:
        """From now on these hold."""
        self.limits = limits
        self._limit_voice(now)
        self._decide(now)

    def sent(self, now: float, size: int) -> None:
        """A video packet left; see `RateEstimator.sent`."""
        self.estimator.sent(now, size)

    def fates(self, now: float, fates: Iterable[Fate]) -> None:
        """What became of video packets; see `RateEstimator.fates`."""
        self.estimator.fates(now, fates)
        self._decide(now)

    def report(self, now: float, report: PeerReport) -> None:
        """What the peer gets of ours, as it says."""
        reports = self.estimator.hearing.reports
        self.estimator.report(now, report)
        if self.estimator.hearing.reports == reports:
            return
        hearing, before = self.estimator.hearing, (self.voice.step, self.voice.expected_loss)
        self.voice.look(now, hearing, video=self.rung != OFF)
        self._tell_voice(before)
        unharmed = self.voice.step == self.voice.floor
        clean = unharmed and hearing.queue < CLEAN_QUEUE and hearing.loss < CLEAN_LOSS
        self._clean_since = min(self._clean_since, now) if clean else NEVER
        lost = hearing.latest_loss > self.estimator.losses.mean + HARM
        late = hearing.queue > self.estimator.queue + LATE
        self._harmed = self._harmed + 1 if self.video is Video.ON and (lost or late) else 0
        self._decide(now)

    def sent_besides(self, rate: float) -> None:
        """In the last second so much was sent that is neither video nor voice, in bit/s on the wire."""
        self._besides += SMOOTHING * (min(max(rate, 0.0), MAX_BESIDES) - self._besides)
        self._tell_voice((self.voice.step, self.voice.expected_loss))

    def path_changed(self, now: float) -> None:
        """Packets go over another path."""
        self.estimator.path_changed(now)
        self._decide(now)

    def encoder_overrun(self, now: float, share: float) -> None:
        """How much of the time it has for a frame the encoder needs, as a mean of a second; above 0.9 is too much."""
        self._encoder_load = share
        if self.video is not Video.ON or not share > OVERRUN or now < self._changed_at + ENCODER_SETTLE:
            return
        rows = min(self._source or (0, 0))
        lighter = [rung for rung in range(self.rung) if pixel_rate(rung, rows) < 0.9 * pixel_rate(self.rung, rows)]
        self._encoder_until = now + self._encoder_rest
        self._encoder_rest = min(2 * self._encoder_rest, MAX_ENCODER_REST)
        if lighter:
            self._encoder_rung = lighter[-1]
        elif share > 1:
            self._give_up(now, Reason.ENCODER)
        self._decide(now)

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        return self._look_at

    def handle_timeout(self, now: float) -> None:
        """See what time has brought about."""
        if now < self._look_at:
            return
        self._look_at = NEVER
        self.estimator.handle_timeout(now)
        self._decide(now)

    # --- deciding ----------------------------------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        if self._source is None:
            return
        _STEPS[self.video](self, now)
        overdue_at = NEVER if self.held else self.estimator.overdue_at
        self._look_at = min(self._look_at, now + INTERVAL, overdue_at)

    def _start(self, now: float) -> None:
        """ABSENT and BARRED: is there room?"""
        ceiling, reason = self._ceiling(now)
        if ceiling == OFF:
            if self.video is Video.ABSENT:
                self.video = Video.BARRED
                self._decisions.append(VideoAdapted(None, reason))
        elif now >= self._changed_at + UP_AFTER:
            self._turn_on(now, min(START, ceiling))

    def _retry_video(self, now: float) -> None:
        """WAITING: is the voice clean for long enough?"""
        ceiling, _ = self._ceiling(now)
        if ceiling != OFF and now >= max(self._clean_since, self._changed_at) + self._retry:
            self._retry = min(2 * self._retry, MAX_RETRY)
            self._turn_on(now, 0)

    def _turn_on(self, now: float, rung: int) -> None:
        self.video, self._on_since, self._lossy_since, self._harmed = Video.ON, now, NEVER, 0
        self._measured = self.estimator.measured
        self.estimator.silences = 0
        self._move(now, rung, Reason.BETTER)

    def _adapt(self, now: float) -> None:
        """ON: down at once, up slowly."""
        estimator = self.estimator
        if now >= self._on_since + PROVEN:
            self._retry = RETRY
        lossy = estimator.losses.latest > MUCH_LOSS and estimator.load is Load.CLEAR
        self._lossy_since = min(self._lossy_since, now) if lossy else NEVER
        ceiling, reason = self._ceiling(now)
        if estimator.measured != self._measured:
            self._measured = estimator.measured
            self._give_way(now)
        elif estimator.silences > 1 or self._harmed >= HARM_REPORTS:
            self._give_up(now, Reason.RATE)
        elif now - self._lossy_since >= MUCH_LOSS_FOR:
            self._give_up(now, Reason.LOSS)
        elif ceiling == OFF:
            self.video = Video.BARRED
            self._move(now, OFF, reason)
        elif ceiling < self.rung:
            self._move(now, ceiling, reason)
        elif self.rung < ceiling and self._may_raise(now):
            self._move(now, self.rung + 1, Reason.BETTER)

    def _give_way(self, now: float) -> None:
        """The path is full: take the rung that fits, and a lower one than now in any case."""
        lossy = self.estimator.load is Load.LOSSY
        fits = self._highest_within(self.estimator.available or 0)
        if fits == OFF and (lossy or self._needed(0) <= (self.estimator.capacity or 0)):
            fits = 0
        rung = min(fits, self.rung - 1)
        reason = Reason.LOSS if lossy else Reason.RATE
        if rung == OFF:
            self._give_up(now, reason)
        else:
            self._move(now, rung, reason)

    def _give_up(self, now: float, reason: Reason) -> None:
        self.video = Video.WAITING
        self._move(now, OFF, reason)

    def _may_raise(self, now: float) -> bool:
        estimator = self.estimator
        if now < self._changed_at + self._up_after + estimator.round_trip:
            return False
        if estimator.load is not Load.CLEAR or estimator.queue >= BUSY:
            return False
        rows = min(self._source or (0, 0))
        if self._encoder_load * pixel_rate(self.rung + 1, rows) > OVERRUN * pixel_rate(self.rung, rows):
            return False
        most = (estimator.available or 0) * (1 if estimator.capacity is not None else VERIFIED)
        return self._needed(self.rung + 1) <= most

    def _move(self, now: float, rung: int, reason: Reason) -> None:
        more = self.rung != OFF and rung > self.rung
        self._up_after = UP_AFTER if more else FIRST_UP_AFTER
        self.rung, self._changed_at = rung, now
        self.estimator.changed(now, more=more)
        self._decisions.append(VideoAdapted(self._chosen(), reason))

    def _chosen(self) -> Encoding | None:
        return None if self.rung == OFF or self._source is None else encoding_for(self.rung, *self._source)

    # --- limits ------------------------------------------------------------------------------------------------------

    def _ceiling(self, now: float) -> tuple[int, Reason]:
        """The highest rung that is allowed, and by whom."""
        assert self._source is not None
        if now >= self._encoder_until:
            self._encoder_rung = len(LADDER) - 1
        return min(
            (self._highest_within(self.limits.own), Reason.LIMIT),
            (self._highest_within(self.limits.peer), Reason.PEER),
            (self._encoder_rung, Reason.ENCODER),
            (highest_for_source(*self._source), Reason.SOURCE),
            (self.limits.highest_rung, Reason.LIMIT),
            key=lambda bound: bound[0],
        )

    def _highest_within(self, total: float) -> int:
        """The highest rung that leaves room for the voice, and for what is sent again."""
        return highest_within((total - self.estimator.other_rate) / self._again())

    def _needed(self, rung: int) -> float:
        """Bit/s on the wire of voice and video."""
        return self.estimator.other_rate + VIDEO_WIRE_RATES[rung] * self._again()

    def _again(self) -> float:
        """By what factor packets that are sent again raise the rate."""
        return 1 + min(self.estimator.losses.mean, RESEND)

    def _limit_voice(self, now: float) -> None:
        before = self.voice.step, self.voice.expected_loss
        reason = Reason.LIMIT if self.limits.own <= self.limits.peer else Reason.PEER
        self.voice.limit(now, audio_within(self.limits.total), reason)
        self._tell_voice(before)

    def _tell_voice(self, before: tuple[int, float]) -> None:
        voice = self.voice
        self.estimator.other_rate = audio_wire_rate(voice.bitrate) + int(self._besides)
        if before != (voice.step, voice.expected_loss):
            reason = voice.reason if before[0] != voice.step else Reason.LOSS
            self._decisions.append(AudioAdapted(voice.bitrate, voice.expected_loss, reason))


_STEPS = {
    Video.ABSENT: Adaptation._start,
    Video.BARRED: Adaptation._start,
    Video.ON: Adaptation._adapt,
    Video.WAITING: Adaptation._retry_video,
}
