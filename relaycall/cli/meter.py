"""How a call is at the moment, read off it once a second."""

from __future__ import annotations

from dataclasses import dataclass

from relaycall.call.call import Call

WINDOW = 10  # seconds that the loss is taken over


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a call; None is what is not.

    Attributes:
        state: where it stands.
        seconds: since it was connected.
        level: good, fair, poor or lost.
        score: the opinion score that is expected of what is heard, 1 to 4.5.
        relay: ours, by name.
        rtt_ms: to the other side and back, over both relays.
        loss: of their packets in the last ten seconds, 0 to 1.
        sent_bit_s, received_bit_s: what goes over the path, in bit/s, in the last second.
        video_sent, video_received: rows of the latest picture; None while there is no video.
        frame_rate_sent, frame_rate_received: pictures in the last second; None while there is no video.
        muted: whether silence is sent.
        peer_muted: whether they say that they send silence.
        microphone_db: the loudest of the microphone since the reading before, -96 to 0; None without one.
    """

    state: str
    seconds: float | None = None
    level: str | None = None
    score: float | None = None
    relay: str | None = None
    rtt_ms: float | None = None
    loss: float | None = None
    sent_bit_s: int | None = None
    received_bit_s: int | None = None
    video_sent: int | None = None
    video_received: int | None = None
    frame_rate_sent: float | None = None
    frame_rate_received: float | None = None
    muted: bool = False
    peer_muted: bool = False
    microphone_db: float | None = None

    def text(self) -> str:
        """In one line, without what is not known."""
        parts = ["getting ready" if self.state == "idle" else self.state]
        if self.seconds is not None:
            parts[0] += f" {int(self.seconds) // 60}:{int(self.seconds) % 60:02}"
        if self.level is not None and self.score is not None:
            parts.append(f"{self.level} {self.score:.1f}")
        if self.muted:
            parts.append("muted")
        if self.peer_muted:
            parts.append("they are muted")
        if self.microphone_db is not None:
            parts.append(f"mic {self.microphone_db:.0f} dB")
        if self.rtt_ms is not None:
            parts.append(f"RTT {self.rtt_ms:.0f} ms")
        if self.loss is not None:
            parts.append(f"loss {self.loss:.1%}")
        if self.sent_bit_s is not None and self.received_bit_s is not None:
            parts.append(f"{self.sent_bit_s / 1000:.0f} kbit/s out, {self.received_bit_s / 1000:.0f} in")
        if self.video_sent is not None:
            parts.append(f"video out {self.video_sent} rows, {self.frame_rate_sent:.0f}/s")
        if self.video_received is not None:
            parts.append(f"video in {self.video_received} rows, {self.frame_rate_received:.0f}/s")
        if self.relay is not None:
            parts.append(self.relay)
        return " | ".join(parts)


class Meter:
    """Reads one call."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._since: float | None = None

    def read(self, now: float, *, peer_muted: bool = False, microphone_db: float | None = None) -> Reading:
        """How it is. `now`: seconds, on the clock of the loop."""
        call = self._call
        session = call.media.session if call.media is not None else None
        if call.media is None or session is None or not session.frames_sent:
            return Reading(str(call.state))
        if self._since is None:
            self._since = now
        path = next((path for path in call.media.connection.path_stats() if path.selected), None)
        sample = call.stats()
        lately = call.media.watch.window(WINDOW) if sample is not None and call.media.watch is not None else None
        sent, received = (sample.frame_rate_sent, sample.frame_rate_received) if sample is not None else (0.0, 0.0)
        return Reading(
            state=str(call.state),
            seconds=round(now - self._since, 1),
            level=str(sample.level) if sample is not None else None,
            score=round(sample.score, 2) if sample is not None else None,
            relay=path.relay if path is not None else None,
            rtt_ms=round(path.rtt_ms, 1) if path is not None and path.checks_answered else None,
            loss=round(lately.loss, 4) if lately is not None else None,
            sent_bit_s=sample.bitrate_sent if sample is not None else None,
            received_bit_s=sample.bitrate_received if sample is not None else None,
            video_sent=sample.video_sent if sample is not None and sent else None,
            video_received=sample.video_received if sample is not None and received else None,
            frame_rate_sent=round(sent, 1) if sent else None,
            frame_rate_received=round(received, 1) if received else None,
            muted=call.muted,
            peer_muted=peer_muted,
            microphone_db=round(microphone_db, 1) if microphone_db is not None else None,
        )
