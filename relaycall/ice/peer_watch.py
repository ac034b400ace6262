"""Whether there is any sign of the peer: without one for four seconds it is told, after 90 the call is over.

A minute and a half, since it may be a laptop that was closed for a minute. What is read right after we stalled may have
lain there for long, and is no sign.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relaycall.ice.decisions import PeerBack, PeerSilent

SILENT = 4.0  # seconds without any sign before it is told
GONE = 90.0  # ... before the call is over
LONG_STALL = 1.0  # seconds; after a shorter one nothing old is left to read
CATCH_UP = 0.5  # seconds after a long one in which what is read may be old

NEVER = float("inf")


@dataclass(slots=True)
class PeerWatch:
    """The time of the last sign, and what follows from it."""

    _sign_at: float = field(default=NEVER, init=False)
    _sign_before: float = field(default=NEVER, init=False)  # as of the last time we looked
    _attentive_from: float = field(default=-NEVER, init=False)  # before that we could not hear
    _silent: bool = field(default=False, init=False)

    def start(self, now: float) -> None:
        """The peer is expected to be heard from now on."""
        self._sign_at = self._sign_before = now

    def sign(self, now: float) -> PeerBack | None:
        """Something authentic came from the peer, over any path."""
        if now < self._attentive_from + CATCH_UP or self._sign_at == NEVER:
            return None
        self._sign_at = now
        back, self._silent = self._silent, False
        return PeerBack() if back else None

    def stalled(self, seconds: float, now: float) -> None:
        """We did nothing for so long: give the peer a moment to be heard again, however long it was."""
        if seconds >= LONG_STALL and self._sign_at != NEVER:
            self._attentive_from = now
            self._sign_at = max(self._sign_before, now + SILENT - GONE)

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        return self._sign_at + GONE if self._silent else max(self._sign_at, self._attentive_from) + SILENT

    def handle_timeout(self, now: float) -> PeerSilent | None:
        """Call this often: silence is told once, and so is the end."""
        self._sign_before = self._sign_at
        if now < self.next_timeout():
            return None
        if not self._silent:
            self._silent = True
            return PeerSilent()
        self._sign_at = NEVER
        return PeerSilent(gone=True)
