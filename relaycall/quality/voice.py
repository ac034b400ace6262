"""How the voice is encoded: its bit rate and what loss its coding is prepared for. Without I/O.

How it works. The voice keeps 32 kbit/s as long as it can, since its packets' size shall say nothing. Only when there is
no video left to give way, and the voice itself still fills the path, does it take 24, then 16. Each look follows one
report of the peer's, a second apart.

    video is off, in 4 reports the voice waited 100 ms on average, and
    in the last one longer than before, or some was lost                 a step down, "rate"
    video is off, and in 5 reports 8 % or more were lost                 a step down, "loss", on trial
    ... after 6 s the loss is as before                                  the step up again; it is not our doing
    for 20 s, doubled by each failure, it waited less than 50 ms         a step up
    limits say so                                                        a step down at once, "limit" or "peer"

A queue of our own grows or spills. One that stands still and loses nothing is the path's: less voice would not help.

At least 10 s are between two changes, but for those by limits. The loss that is expected is one of few figures, too:
the lowest that is not exceeded. It rises at once and falls when the loss has been lower for 10 s.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from relaycall.quality.hearing import Hearing
from relaycall.quality.ladder import AUDIO_BITRATES

WAITS, CLEAN_WAIT = 0.1, 0.05  # seconds on the way
GROWS = 0.015  # seconds from one report to the next
WAITS_REPORTS, LOSES_REPORTS = 4, 5
LOSES, CLEAN_LOSS = 0.08, 0.05  # shares
TRIAL = 6.0  # seconds
LOWEST_WITH_COPIES = 1  # step: below it no packet has room for a copy of the one before
UNCHANGED, AGAIN = 0.5, 1.7  # of the loss before: what is still the same, and what is worth another trial
BETWEEN = 10.0  # seconds
UP_AFTER, MAX_UP_AFTER = 20.0, 160.0  # seconds
EXPECTED = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)
NO_LOSS = 0.01
FALL_AFTER = 10.0  # seconds

NEVER = float("inf")


class Reason(enum.StrEnum):
    """Why something was changed.

    RATE: the path carries no more. LOSS: too much is lost, whatever is sent. PEER: the other side wants no more.
    LIMIT: our own settings, or the relay's. ENCODER: it cannot keep up. SOURCE: the size of the pictures. BETTER: the
    reason of an earlier change is gone, or the path carries more than is used.
    """

    RATE = "rate"
    LOSS = "loss"
    PEER = "peer"
    LIMIT = "limit"
    ENCODER = "encoder"
    SOURCE = "source"
    BETTER = "better"


@dataclass(slots=True)
class Voice:
    """The voice of one call.

    Attributes:
        step: of AUDIO_BITRATES.
        floor: the step it takes at least, by limits.
        expected_loss: a share, one of EXPECTED.
        reason: of the latest change.
    """

    step: int = 0
    floor: int = 0
    expected_loss: float = 0.0
    reason: Reason = Reason.BETTER
    _changed_at: float = -NEVER
    _waiting: int = 0  # reports in a row
    _waited: float = 0.0  # seconds, by the last
    _losing: int = 0
    _clean_since: float = NEVER
    _up_after: float = UP_AFTER
    _risen_at: float = -NEVER
    _trial: tuple[float, float] | None = None  # until when, and the loss before
    _inherent: float = 0.0  # loss that was the same at a lower rate
    _low_since: float = NEVER

    @property
    def bitrate(self) -> int:
        """Bit/s."""
        return AUDIO_BITRATES[self.step]

    def limit(self, now: float, floor: int, reason: Reason) -> None:
        """It takes this step at least."""
        self.floor = floor
        if self.step < floor:
            self._move(now, floor, reason)

    def look(self, now: float, hearing: Hearing, *, video: bool) -> None:
        """A report came. Whether video is sent: then that is what is to give way."""
        self._expect(now, hearing.loss)
        self._waiting = self._waiting + 1 if hearing.queue > WAITS and not video else 0
        grows = hearing.queue > self._waited + GROWS or hearing.latest_loss > 0
        self._waited = hearing.queue
        losing = hearing.loss >= max(LOSES, AGAIN * self._inherent) and not video
        self._losing = self._losing + 1 if losing else 0
        clean = hearing.queue < CLEAN_WAIT and hearing.loss < max(CLEAN_LOSS, AGAIN * self._inherent)
        self._clean_since = min(self._clean_since, now) if clean else NEVER
        if self._trial is not None:
            self._judge(now, hearing.loss)
        elif now < self._changed_at + BETWEEN:
            return
        elif self.step + 1 < len(AUDIO_BITRATES) and self._waiting >= WAITS_REPORTS and grows:
            self._down(now, Reason.RATE)
        elif self.step < LOWEST_WITH_COPIES and self._losing >= LOSES_REPORTS:
            self._trial = (now + TRIAL, hearing.loss)
            self._down(now, Reason.LOSS)
        elif self.step > self.floor and now - self._clean_since >= self._up_after:
            self._risen_at = now
            self._move(now, self.step - 1, Reason.BETTER)

    def _judge(self, now: float, loss: float) -> None:
        """Whether the step down has helped against loss."""
        assert self._trial is not None
        until, before = self._trial
        if now < until:
            return
        self._trial = None
        if loss >= UNCHANGED * before:
            self._inherent = loss
            if self.step > self.floor:
                self._move(now, self.step - 1, Reason.BETTER)

    def _down(self, now: float, reason: Reason) -> None:
        failed = now < self._risen_at + 3 * BETWEEN
        self._up_after = min(2 * self._up_after, MAX_UP_AFTER) if failed else UP_AFTER
        self._move(now, self.step + 1, reason)

    def _move(self, now: float, step: int, reason: Reason) -> None:
        self.step, self.reason, self._changed_at = step, reason, now
        self._waiting = self._losing = 0
        self._clean_since = NEVER

    def _expect(self, now: float, loss: float) -> None:
        if loss < UNCHANGED * self._inherent:
            self._inherent = 0.0
        wanted = 0.0
        if loss >= NO_LOSS:
            wanted = next((step for step in EXPECTED[1:] if loss <= step), EXPECTED[-1])
        if wanted >= self.expected_loss:
            self._low_since = NEVER
            self.expected_loss = wanted
        else:
            self._low_since = min(self._low_since, now)
            if now - self._low_since >= FALL_AFTER:
                self.expected_loss, self._low_since = wanted, NEVER
