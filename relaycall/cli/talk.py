"""One call at the terminal, from its first ring to its end."""

from __future__ import annotations

import asyncio

from relaycall.call.call import Call
from relaycall.call.events import Ended, PeerChanged, RelayChanged
from relaycall.call.state import CallState, EndReason
from relaycall.cli.call_sound import CallSound
from relaycall.cli.keyboard import Keyboard
from relaycall.cli.meter import Meter
from relaycall.cli.remote_text import shown
from relaycall.cli.screen import Screen
from relaycall.cli.stopping import Stop
from relaycall.errors import CallClosed, NoPath
from relaycall.ice.events import RelayGone

EVERY = 1.0  # seconds between readings
REMOTE = 7  # the exit code when they do not want to talk, or are not there
KEYS = "q hangs up, m mutes, w shows the words to compare."

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
        seconds: to hang up after, counted from the connection; None for never.
    """

    def __init__(
        self,
        call: Call,
        screen: Screen,
        keyboard: Keyboard,
        stop: Stop,
        *,
        sound: CallSound,
        seconds: float | None,
    ) -> None:
        self._call = call
        self._screen = screen
        self._keyboard = keyboard
        self._stop = stop
        self._sound = sound
        self._seconds = seconds
        self._meter = Meter(call)
        self._name = shown(call.party.name)
        self._peer_muted = False
        self._told: set[str] = set()
        self._hanging_up = False
        self._until = float("inf")
        call.on("state", self._state)
        call.on("peer_changed", self._peer_changed)
        call.on("relay_changed", self._relay_changed)
        call.on("relay_gone", self._relay_gone)

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
            return self._over(ended.result())
        finally:
            ended.cancel()
            told.cancel()
            self._stop.last.remove(self._complete_recording)
            self._keyboard.on_key = before

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
        recording = self._sound.recording
        if recording is not None and recording.error is not None:
            self._tell_once("recording_failed", f"The recording has ended: {recording.error.sentence}")

    def _tell_once(self, event: str, text: str) -> None:
        if event not in self._told:
            self._told.add(event)
            self._screen.say(event, text, sentence=text)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def _key(self, key: str) -> None:
        if key == "q":
            self.hang_up()
        elif key == "m":
            self._mute()
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

    # --- what happens -------------------------------------------------------------------------------------------------

    def _state(self, state: CallState) -> None:
        if state in _STATES:
            self._screen.say("state", _STATES[state].format(self._name), state=str(state))
        if state is CallState.CONNECTED and "keys" not in self._told and self._keyboard.there:
            self._told.add("keys")
            self._screen.ask(KEYS)

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

    def _over(self, end: Ended) -> int:
        if end.error is not None:
            self._screen.failed(end.error)
            code, text = end.error.exit_code, "The call is over."
        else:
            code, text = _ENDS[EndReason(end.reason)]
            if self._hanging_up:
                code, text = 0, "You have hung up."
        self._tell_recording()
        self._screen.say("ended", text.format(self._name), reason=end.reason, exit_code=code)
        return code
