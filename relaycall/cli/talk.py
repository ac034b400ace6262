"""One call at the terminal, from its first ring to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from relaycall.call.call import Call
from relaycall.call.events import Ended, PeerChanged, RelayChanged, VideoEnded
from relaycall.call.report.report import CallReport
from relaycall.call.state import CallState, EndReason
from relaycall.cli.call_sound import CallSound
from relaycall.cli.call_video import CallVideo
from relaycall.cli.keyboard import Keyboard
from relaycall.cli.meter import Meter
from relaycall.cli.page_file import write_page
from relaycall.cli.plain_words import level_text, off_text
from relaycall.cli.remote_text import shown
from relaycall.cli.screen import Screen
from relaycall.cli.stopping import Stop
from relaycall.errors import CallClosed, ConfigError, NoPath, RelaycallError
from relaycall.ice.events import RelayGone
from relaycall.quality.adaptation import VideoAdapted
from relaycall.quality.level import LevelChanged

EVERY = 1.0  # seconds between readings
REMOTE = 7  # the exit code when they do not want to talk, or are not there
KEYS = "q hangs up, m mutes, w shows the words to compare."
KEYS_WITH_VIDEO = "q hangs up, m mutes, v pauses your video, w shows the words to compare."

_STATES = {
    CallState.CALLING: "Calling {}.",
    CallState.RINGING: "It rings at {}.",
    CallState.CONNECTING: "Taken; looking for a path.",
    CallState.CONNECTED: "Connected.",
    CallState.RECONNECTING: "Nothing is heard of {} at the moment; waiting.",
}
_ENDS = {
    EndReason.HUNG_UP: (0, "You have hung up."),
    EndReason.PEER_HUNG_UP: (0, "{} has hung up."),
    EndReason.DECLINED: (REMOTE, "{} does not want to talk now."),
    EndReason.BUSY: (REMOTE, "{} is in another call."),
    EndReason.UNANSWERED: (REMOTE, "Nobody answers."),
    EndReason.CANCELLED: (REMOTE, "{} has given up."),
    EndReason.ELSEWHERE: (REMOTE, "It was taken on another device of yours."),
    EndReason.SETUP_TIMEOUT: (NoPath.exit_code, "No path carried sound in time."),
}


class Talk:
    """Shows a call, and does what our user says by keys.

    Args:
        call: placed, or accepted.
        screen, keyboard: where.
        stop: hangs up when we are told to end.
        sound: what it sends, and where it goes.
        video: what it shows, and where it is recorded.
        seconds: to hang up after, counted from the connection; None for never.
        page: where its report goes; None: nowhere.
    """

    def __init__(
        self,
        call: Call,
        screen: Screen,
        keyboard: Keyboard,
        stop: Stop,
        *,
        sound: CallSound,
        video: CallVideo,
        seconds: float | None,
        page: Path | None,
    ) -> None:
        self._call = call
        self._screen = screen
        self._keyboard = keyboard
        self._stop = stop
        self._sound = sound
        self._video = video
        self._seconds = seconds
        self._page = page
        self._meter = Meter(call)
        self._name = shown(call.party.name)
        self._peer_muted = False
        self._paused = False
        self._video_off = False
        self._told: set[str] = set()
        self._hanging_up = False
        self._until = float("inf")
        call.on("state", self._state)
        call.on("peer_changed", self._peer_changed)
        call.on("relay_changed", self._relay_changed)
        call.on("relay_gone", self._relay_gone)
        call.on("level_changed", self._level_changed)
        call.on("video_adapted", self._video_adapted)
        call.on("video_ended", self._video_ended)

    def hang_up(self) -> None:
        """End it; `run` returns when that is done."""
        if not self._hanging_up:
            self._hanging_up = True
            self._ending = asyncio.ensure_future(self._call.hang_up())

    async def run(self) -> int:
        """Until it is over. Returns the exit code that its end stands for."""
        before, self._keyboard.on_key = self._keyboard.on_key, self._key
        self._stop.last.append(self._complete_recording)
        ended = asyncio.ensure_future(self._call.ended())
        told = asyncio.ensure_future(self._hang_up_when_told())
        loop = asyncio.get_running_loop()
        try:
            while not ended.done():
                self._look(loop.time())
                await asyncio.wait([ended], timeout=min(EVERY, max(0.0, self._until - loop.time())))
        finally:
            ended.cancel()
            told.cancel()
            self._keyboard.on_key = before
            await self._video.close()
            self._stop.last.remove(self._complete_recording)
        return self._over(ended.result())

    def _complete_recording(self) -> None:
        if self._sound.recording is not None:
            self._sound.recording.close()

    async def _hang_up_when_told(self) -> None:
        await self._stop.told.wait()
        self.hang_up()

    def _look(self, now: float) -> None:
        """Once a second."""
        if self._call.state is CallState.CONNECTED and self._until == float("inf") and self._seconds is not None:
            self._until = now + self._seconds
        if now >= self._until:
            self.hang_up()
            self._until = float("inf")
            self._seconds = None
        self._screen.read(self._meter.read(now, peer_muted=self._peer_muted, microphone_db=self._sound.loudest()))
        for event, sentence, data in self._sound.news():
            self._screen.say(event, sentence, sentence=sentence, **data)
        if (words := self._call.spoken_words) and "spoken_words" not in self._told:
            self._told.add("spoken_words")
            self._screen.note("spoken_words", words=words)
        session = self._call.media.session if self._call.media is not None else None
        self._tell_recording()
        if session is not None and session.finished.is_set():
            error = session.source_error
            why = f"Your sound has ended: {error.sentence}" if error else "Your sound has ended; you send silence now."
            self._tell_once("sound_ended", why)

    def _tell_recording(self) -> None:
        for recording in (self._sound.recording, self._video.recording):
            if recording is not None and recording.error is not None:
                self._tell_once("recording_failed", f"The recording has ended: {recording.error.sentence}")

    def _tell_once(self, event: str, text: str) -> None:
        if event + text not in self._told:
            self._told.add(event + text)
            self._screen.say(event, text, sentence=text)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _key(self, key: str) -> None:
        if key == "q":
            self.hang_up()
        elif key == "m":
            self._mute()
        elif key == "v" and self._video.wanted:
            self._pause_video()
        elif key == "w":
            words = self._call.spoken_words
            text = f"Read these to each other; they are the same on both sides: {words}" if words else "Not known yet."
            self._screen.say("spoken_words", text, words=words)

    def _mute(self) -> None:
        try:
            self._call.muted = not self._call.muted
        except CallClosed:
            self._screen.say("muted", "There is nothing to mute yet.", muted=False)
        else:
            muted = self._call.muted
            self._screen.say("muted", "You are muted." if muted else "You are heard again.", muted=muted)

    def _pause_video(self) -> None:
        paused = not self._paused
        try:
            source = None if paused else self._video.again()
            self._call.show(source)
        except CallClosed:
            self._screen.say("video_paused", "There is nothing to pause yet.", paused=False)
        except RelaycallError as error:
            self._screen.say("video_failed", error.sentence, code=error.code, sentence=error.sentence)
        else:
            self._paused = paused
            text = "Your video is paused." if paused else "Your video goes on."
            self._screen.say("video_paused", text, paused=paused)

    # --- what happens -------------------------------------------------------------------------------------------------

    def _state(self, state: CallState) -> None:
        if state in _STATES:
            self._screen.say("state", _STATES[state].format(self._name), state=str(state))
        if state is CallState.CONNECTED and "keys" not in self._told and self._keyboard.there:
            self._told.add("keys")
            self._screen.ask(KEYS_WITH_VIDEO if self._video.wanted else KEYS)

    def _peer_changed(self, says: PeerChanged) -> None:
        if says.muted != self._peer_muted:
            self._peer_muted = says.muted
            text = "is muted." if says.muted else "is not muted any more."
            self._screen.say("peer_muted", f"{self._name} {text}", muted=says.muted)

    def _relay_changed(self, change: RelayChanged) -> None:
        where = f"The call moved to {change.new}" if change.new != change.old else "The other side moved"
        text = f"{where}: {change.gap_ms:.0f} ms without a new packet, {change.lost} lost."
        self._screen.say("relay_changed", text, old=change.old, new=change.new, gap_ms=change.gap_ms, lost=change.lost)

    def _relay_gone(self, event: RelayGone) -> None:
        error = event.error
        self._screen.say("relay_lost", error.sentence, relay=error.relay, code=error.code, sentence=error.sentence)

    def _level_changed(self, changed: LevelChanged) -> None:
        self._screen.say("level", level_text(changed), level=changed.new, old=changed.old, score=changed.score)

    def _video_adapted(self, adapted: VideoAdapted) -> None:
        """People are told when their video goes off and comes back; the line that changes has the steps between."""
        step = adapted.encoding
        was_off, self._video_off = self._video_off, step is None
        data = {
            "reason": adapted.reason,
            "rows": step and step.height,
            "frame_rate": step and step.frame_rate,
            "bit_s": step and step.bitrate,
        }
        if self._video_off and not was_off:
            self._screen.say("video_adapted", off_text(adapted), **data)
        elif was_off and not self._video_off:
            self._screen.say("video_adapted", "Your video is on again.", **data)
        else:
            self._screen.note("video_adapted", **data)

    def _video_ended(self, ended: VideoEnded) -> None:
        self._paused = True  # what can be shown again is, by the same key
        text = "Your video has ended." if ended.error is None else f"Your video has ended: {ended.error.sentence}"
        self._screen.say("video_ended", text, sentence=text, code=ended.error.code if ended.error else None)

    def _over(self, end: Ended) -> int:
        if end.error is not None:
            self._screen.failed(end.error)
            code, text = end.error.exit_code, "The call is over."
        else:
            code, text = _ENDS[EndReason(end.reason)]
            if self._hanging_up:
                code, text = 0, "You have hung up."
        self._tell_recording()
        report = self._call.report()
        lines = [text.format(self._name)]
        if report.facts.connected is not None:  # otherwise the first line says it all
            lines.append(report.text())
        self._screen.say("ended", "\n".join(lines), reason=end.reason, exit_code=code, report=report.summary())
        if self._page is not None:
            self._write(self._page, report)
        return code

    def _write(self, page: Path, report: CallReport) -> None:
        try:
            write_page(page, report.html())
        except ConfigError as error:
            text = f"{error.sentence} {error.next_step}"
            self._screen.say("report_failed", text, code=error.code, sentence=error.sentence, next_step=error.next_step)
        else:
            self._screen.say("report", f"The report of the call is in {page}.", path=str(page))
