"""A running call, looked at once a second: how it is, and what the other side says of what we send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from relaycall.call.events import AudioEnded, CallEvent, SinkFailed
from relaycall.ice.connection import Connection
from relaycall.ice.events import PathStats
from relaycall.media.session import AudioSession, AudioStats
from relaycall.quality.history import History
from relaycall.quality.monitor import LOSS_LIMIT, RTT_LIMIT_MS, Monitor
from relaycall.quality.report_format import REPORT, decode_report, encode_report
from relaycall.quality.sample import PeerReport, Reading, Sample

EVERY = 1.0  # seconds


class Watch:
    """Samples of one call, from its connection to its end.

    Args:
        session: its audio.
        connection: its path.
        rtt_limit_ms, loss_limit: above which, over five seconds, another path is looked for; None for never.
        complete: adds to a reading what is known of the video.
        on_advice: called when another path is advised.
        on_report: called with what the other side reports, once a second.
        on_event: called with each change of level, when our sound has ended, and when the sink has failed.

    Attributes:
        sample: the latest; None before the first second is over.
        reading: what was counted when it was looked at last.
        history: all that was seen.
    """

    def __init__(
        self,
        session: AudioSession,
        connection: Connection,
        *,
        rtt_limit_ms: float | None = RTT_LIMIT_MS,
        loss_limit: float | None = LOSS_LIMIT,
        complete: Callable[[Reading], Reading],
        on_advice: Callable[[], None],
        on_report: Callable[[float, PeerReport], None],
        on_event: Callable[[CallEvent], None],
    ) -> None:
        self.sample: Sample | None = None
        self.reading = Reading()
        self.history = History()
        self._session = session
        self._connection = connection
        self._complete = complete
        self._on_advice = on_advice
        self._on_report = on_report
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._monitor = Monitor(self._began, rtt_limit_ms=rtt_limit_ms, loss_limit=loss_limit)
        self._number = 0
        self._their_number = -1
        self._mine: PeerReport | None = None
        self._speaks = self._records = True
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()

    def start(self) -> None:
        """From now on."""
        self._session.transport.on_kind[REPORT] = self._reported
        self._monitor.read(self._loop.time(), self._read())
        self._timer = self._loop.call_later(EVERY, self._look)

    def close(self) -> None:
        """The call is over; what was seen stays. May be called twice."""
        if self._over.is_set():
            return
        self._over.set()
        self._read()
        if self._timer is not None:
            self._timer.cancel()

    def mark(self, kind: str, text: str) -> None:
        """Something happened that belongs into a report."""
        self.history.mark(self._loop.time() - self._began, kind, text)

    def window(self, seconds: float) -> Sample | None:
        """How the call was lately. Raises ConfigError: not above 0, or above 30 seconds."""
        return self._monitor.window(seconds)

    async def samples(self, interval: float) -> AsyncIterator[Sample]:
        """One each `interval` seconds, 1 to 30, over that time, until the call is over."""
        due = self._loop.time()
        while not self._over.is_set():
            due = max(due + interval, self._loop.time())
            try:
                async with asyncio.timeout_at(due):
                    await self._over.wait()
            except TimeoutError:
                sample = self._monitor.window(interval)
                if sample is not None:
                    yield sample

    def _look(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(EVERY, self._look)
        reading = self._read()
        self._number += 1
        self._session.transport.send_control(encode_report(reading.theirs, self._number))
        sample = self._monitor.read(now, reading)
        if sample is not None:
            self.sample = sample
            self.history.add(sample)
        while self._monitor.decisions:
            changed = self._monitor.decisions.popleft()
            self.history.mark(changed.at, "level", f"{changed.old} before, {changed.new} from here on")
            self._on_event(changed)
        self._tell_ends()
        if self._monitor.advice(now) is not None:
            self._on_advice()

    def _tell_ends(self) -> None:
        """Once, that there is no more to say, or nothing more is recorded."""
        if self._session.finished.is_set() and self._speaks:
            self._speaks = False
            self._on_event(AudioEnded(self._session.source_error))
        if self._session.sink_error is not None and self._records:
            self._records = False
            self._on_event(SinkFailed(self._session.sink_error))

    def _read(self) -> Reading:
        stats = self._session.stats()
        path = next((path for path in self._connection.path_stats() if path.selected), None)
        self.reading = self._complete(_reading(stats, path, self._mine, self._session))
        return self.reading

    def _reported(self, payload: bytes) -> None:
        number, report = decode_report(payload)
        if number > self._their_number:
            self._their_number = number
            self._mine = report
            self._on_report(self._loop.time(), report)


def _reading(stats: AudioStats, path: PathStats | None, mine: PeerReport | None, session: AudioSession) -> Reading:
    passed = stats.transport
    return Reading(
        relay=path.relay if path is not None else "",
        rtt_ms=path.rtt_ms if path is not None and path.checks_answered else None,
        packets_sent=passed.packets_sent,
        bytes_sent=passed.bytes_sent,
        packets_received=passed.packets_received,
        bytes_received=passed.bytes_received,
        video_bytes_sent=passed.video_bytes_sent,
        video_bytes_received=passed.video_bytes_received,
        mine=mine,
        theirs=PeerReport(
            received=stats.frames_received,
            lost=stats.lost,
            recovered=stats.recovered,
            concealed=stats.concealed,
            jitter_ms=stats.jitter_ms,
            queue_ms=session.queue_ms,
            playout_delay_ms=stats.playout_delay_ms,
        ),
        audio_bitrate=session.encoding.bitrate,
    )
