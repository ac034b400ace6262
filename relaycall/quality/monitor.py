"""The quality monitor, without I/O: readings of what is counted go in, samples, changes of level and advice come out.

    monitor = Monitor(connected_at=now)
    sample = monitor.read(now, reading)     # once a second as a rule
    monitor.window(5.0)                     # the same over the last 5 seconds
    monitor.advice(now)                     # whether to try another relay

How it works. `windows` keeps the differences between readings, 30 seconds of them. A sample is made from those since
the reading before; a window from all that lie in it, so its rates and shares are those of the whole window, and its
times the means over it. `score` says what that sounds like, `level` what it is called, `advice` whether the path
should be another.
"""

from __future__ import annotations

from collections import deque

from relaycall.errors import ConfigError
from relaycall.quality.advice import WINDOW, Advice, Adviser
from relaycall.quality.level import LevelChanged, LevelWatch
from relaycall.quality.sample import Level, Reading, Sample
from relaycall.quality.score import score
from relaycall.quality.windows import LONGEST, SILENT, Differences, Span, Windows

RTT_LIMIT_MS, LOSS_LIMIT = 150.0, 0.02
RECENT = 5.0  # seconds that the level looks at
MAX_DECISIONS = 16


class Monitor:
    """Watches one call.

    Args:
        connected_at: seconds, on the clock of all the times that come after.
        rtt_limit_ms, loss_limit: above which another relay is advised, over 5 seconds; None for never. The loss is the
            share that is lost of ours: the other side looks after its own.

    Attributes:
        decisions: the changes of level, for the owner to take; the latest 16.

    Raises:
        ConfigError: a limit is not a number above 0, or a loss is above 1.
    """

    def __init__(
        self,
        connected_at: float,
        *,
        rtt_limit_ms: float | None = RTT_LIMIT_MS,
        loss_limit: float | None = LOSS_LIMIT,
    ) -> None:
        self.decisions: deque[LevelChanged] = deque(maxlen=MAX_DECISIONS)
        self._connected_at = connected_at
        self._at = connected_at
        self._relay_since = connected_at
        self._reading = Reading()
        self._differences = Differences()
        self._windows = Windows()
        self._watch = LevelWatch()
        self._adviser = Adviser(rtt_limit_ms, loss_limit)
        self._loss_sent: float | None = None  # as it was reported last

    @property
    def level(self) -> Level:
        """How the call is to its listener."""
        return self._watch.level

    def read(self, now: float, reading: Reading) -> Sample | None:
        """Take a reading.

        Returns:
            how it was since the one before. None: this is the first, no millisecond has passed, or counts began anew.
        """
        if _began_anew(self._reading, reading):
            self._differences = Differences()
            self._windows.clear()
        if reading.relay != self._reading.relay:
            self._relay_since = now
        span = self._differences.take(now, reading)
        self._at, self._reading = max(now, self._at), reading
        if span is None:
            return None
        if span.reported:
            self._loss_sent = _share(span.lost_there, span.received_there)
        self._windows.add(span)  # first, since the score looks at how losses are spread
        before, latest = self.level, self._score(span)
        if self._watch.take(span.seconds, span.received, latest, self._score(self._windows.latest(RECENT))):
            self.decisions.append(LevelChanged(now - self._connected_at, before, self.level, latest))
        return self._sample(span, latest)

    def window(self, seconds: float) -> Sample | None:
        """How the call was lately: rates and shares over the whole time, times as means, the rest as it was last.

        Args:
            seconds: up to 30; 1, 5 and 30 as a rule. There is less until as much has passed.

        Returns:
            None before the first sample, and right after counts have begun anew.

        Raises:
            ConfigError: it is not above 0, or above 30.
        """
        if not 0 < seconds <= LONGEST:
            raise ConfigError(f"A window has at most {LONGEST:.0f} seconds.")
        span = self._windows.latest(seconds)
        return self._sample(span, self._score(span)) if span.seconds else None

    def advice(self, now: float) -> Advice | None:
        """Whether another relay should be tried, once this one was in use for 5 seconds; every 10 seconds at most."""
        if now - self._relay_since < WINDOW:
            return None
        window = self.window(WINDOW)
        if window is None:
            return None
        return self._adviser.advise(now, window.rtt_ms, window.loss_sent or 0.0)

    def _score(self, span: Span) -> float:
        missing = span.concealed / span.frames
        if not span.received and span.seconds >= SILENT:
            missing = 1.0
        return score(_mean(span.rtt, span.rtt_known), span.playout / span.seconds, missing, self._windows.burst())

    def _sample(self, span: Span, score: float) -> Sample:
        reading, seconds = self._reading, span.seconds
        return Sample(
            at=self._at - self._connected_at,
            relay=reading.relay,
            rtt_ms=_mean(span.rtt, span.rtt_known),
            loss=_share(span.lost, span.received),
            loss_sent=_share(span.lost_there, span.received_there) if span.reported else self._loss_sent,
            recovered=span.recovered / span.frames,
            concealed=span.concealed / span.frames,
            jitter_ms=span.jitter / seconds,
            queue_ms=span.queue / seconds,
            playout_delay_ms=span.playout / seconds,
            bitrate_sent=round(8 * span.bytes_sent / seconds),
            bitrate_received=round(8 * span.bytes_received / seconds),
            available=reading.available,
            audio_bitrate=reading.audio_bitrate,
            frame_rate_sent=span.frames_sent / seconds,
            frame_rate_received=span.frames_shown / seconds,
            video_bitrate_sent=round(8 * span.video_bytes_sent / seconds),
            video_bitrate_received=round(8 * span.video_bytes_received / seconds),
            video_sent=reading.video_height,
            video_received=reading.theirs.video_height,
            score=score,
            level=self.level,
        )


def _began_anew(before: Reading, reading: Reading) -> bool:
    """Whether a count is below what it was: another session, or an overflow."""
    return (
        reading.theirs.received < before.theirs.received
        or reading.packets_sent < before.packets_sent
        or reading.packets_received < before.packets_received
    )


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest else 0.0


def _mean(total: float, seconds: float) -> float | None:
    return total / seconds if seconds else None
