"""The times of a call for its report, taken down while it runs. Without I/O: time comes in."""

from __future__ import annotations

from dataclasses import dataclass, field

from relaycall.call.events import RelayChanged
from relaycall.call.report.facts import CallFacts
from relaycall.call.state import CallState

MAX_MOVES = 1000  # kept; of more, the first

_ACCEPTED = (CallState.ACCEPTED, CallState.CONNECTING)


@dataclass(slots=True)
class Course:
    """When one call was where. All times but `started_at` are in seconds on a clock that never goes back.

    Attributes:
        began: when it was placed or began to ring.
        started_at: the same, in seconds since 1970.
    """

    began: float
    started_at: float
    _rang: float | None = None
    _rang_until: float | None = None
    _accepted: float | None = None
    _connected: float | None = None
    _ended: float | None = None
    _moves: list[tuple[float, RelayChanged]] = field(default_factory=list)

    def enter(self, state: CallState, now: float) -> None:
        """It is in another state."""
        if state is CallState.RINGING:
            self._rang = now if self._rang is None else self._rang
        elif self._rang is not None and self._rang_until is None:
            self._rang_until = now
        if state in _ACCEPTED and self._accepted is None:
            self._accepted = now
        if state is CallState.CONNECTED and self._connected is None:
            self._connected = now
        if state is CallState.ENDED:
            self._ended = now

    def moved(self, change: RelayChanged, at: float) -> None:
        """It moved to another path, at this time: a second before it is told what that cost."""
        if self._connected is not None and len(self._moves) < MAX_MOVES:
            self._moves.append((max(0.0, at - self._connected), change))

    def facts(self, now: float, *, caller: bool, ended: str) -> CallFacts:
        """What is known so far; `dataclasses.replace` adds the rest.

        Args:
            caller: whether this side is the caller, after all.
            ended: why it is over.
        """
        now = now if self._ended is None else self._ended
        return CallFacts(
            caller=caller,
            started_at=self.started_at,
            ended=ended,
            ringing=_between(self._rang, now if self._rang_until is None else self._rang_until),
            to_accept=_between(self.began, self._accepted),
            to_connected=_between(self._accepted, self._connected),
            connected=_between(self._connected, now),
            moves=tuple(self._moves),
        )


def _between(since: float | None, until: float | None) -> float | None:
    return None if since is None or until is None else until - since
