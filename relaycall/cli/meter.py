"""How a call is at the moment, read off it once a second."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from relaycall.call.call import Call

WINDOW = 10  # readings that the loss is taken over


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a call; None is what is not.

    Attributes:
        state: where it stands.
        seconds: since it was connected.
        relay: ours, by name.
        rtt_ms: to the other side and back, over both relays.
        loss: of their packets in the last ten seconds, 0 to 1.
        sent_bit_s, received_bit_s: what goes over the path, in bit/s, since the reading before.
        muted: whether silence is sent.
        peer_muted: whether they say that they send silence.
        microphone_db: the loudest of the microphone since the reading before, -96 to 0; None without one.
    """

    state: str
    seconds: float | None = None
    relay: str | None = None
    rtt_ms: float | None = None
    loss: float | None = None
    sent_bit_s: int | None = None
    received_bit_s: int | None = None
    muted: bool = False
    peer_muted: bool = False
    microphone_db: float | None = None

    def text(self) -> str:
        """In one line, without what is not known."""
        parts = ["getting ready" if self.state == "idle" else self.state]
        if self.seconds is not None:
            parts[0] += f" {int(self.seconds) // 60}:{int(self.seconds) % 60:02}"
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
        if self.relay is not None:
            parts.append(self.relay)
        return " | ".join(parts)


class _Counted(NamedTuple):
    at: float
    lost: int
    received: int
    bytes_sent: int
    bytes_received: int


class Meter:
    """Reads one call."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._since: float | None = None
        self._counted: deque[_Counted] = deque(maxlen=WINDOW + 1)

    def read(self, now: float, *, peer_muted: bool = False, microphone_db: float | None = None) -> Reading:
        """How it is. `now`: seconds, on the clock of the loop."""
        call = self._call
        session = call.media.session if call.media is not None else None
        if call.media is None or session is None or not session.frames_sent:
            return Reading(str(call.state))
        if self._since is None:
            self._since = now
        stats = session.stats()
        passed = stats.transport
        self._counted.append(_Counted(now, stats.lost, stats.frames_received, passed.bytes_sent, passed.bytes_received))
        path = next((path for path in call.media.connection.path_stats() if path.selected), None)
        sent, received = self._rates()
        return Reading(
            state=str(call.state),
            seconds=round(now - self._since, 1),
            relay=path.relay if path is not None else None,
            rtt_ms=round(path.rtt_ms, 1) if path is not None and path.checks_answered else None,
            loss=self._loss(),
            sent_bit_s=sent,
            received_bit_s=received,
            muted=call.muted,
            peer_muted=peer_muted,
            microphone_db=round(microphone_db, 1) if microphone_db is not None else None,
        )

    def _loss(self) -> float | None:
        """Lost ones may turn up later, so the number may fall."""
        first, last = self._counted[0], self._counted[-1]
        lost, received = max(0, last.lost - first.lost), last.received - first.received
        return round(lost / (lost + received), 4) if lost + received else None

    def _rates(self) -> tuple[int | None, int | None]:
        if len(self._counted) < 2 or self._counted[-1].at <= self._counted[-2].at:
            return None, None
        before, last = self._counted[-2], self._counted[-1]
        seconds = last.at - before.at
        return (
            round((last.bytes_sent - before.bytes_sent) * 8 / seconds),
            round((last.bytes_received - before.bytes_received) * 8 / seconds),
        )
