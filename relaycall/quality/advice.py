"""When another relay is advised: the path is slow or loses much, and has for some seconds. Without I/O.

Once it is advised, it is again every ten seconds, until the path is clearly better than the limit: below 0.8 of it.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

from relaycall.errors import ConfigError

WINDOW = 5.0  # seconds
REPEAT = 10.0  # seconds
CLEARED = 0.8  # of a limit


class Cause(enum.StrEnum):
    """What is wrong with a path."""

    RTT = "rtt"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class Advice:
    """Another relay is advised, if there is one that measures better.

    Attributes:
        cause: what is wrong; LOSS if it is both.
        value: the round trip in milliseconds, or the share that is lost of ours, over the last five seconds.
    """

    cause: Cause
    value: float


@dataclass(slots=True)
class Adviser:
    """Compares a path with its limits.

    Args:
        rtt_limit_ms, loss_limit: above which another relay is advised; None for never.

    Raises:
        ConfigError: a limit is not a number above 0, or a loss is above 1.
    """

    rtt_limit_ms: float | None
    loss_limit: float | None
    _over: set[Cause] = field(default_factory=set, init=False)
    _said_at: float = field(default=-math.inf, init=False)

    def __post_init__(self) -> None:
        for name, limit, most in (("round trip", self.rtt_limit_ms, math.inf), ("loss", self.loss_limit, 1.0)):
            if limit is not None and not 0 < limit <= most:
                raise ConfigError(f"The limit of the {name} is not one.", "Give a number above 0, a loss as a share.")

    def advise(self, now: float, rtt_ms: float | None, loss: float) -> Advice | None:
        """What follows from how the path was in the last five seconds."""
        self._compare(Cause.RTT, rtt_ms, self.rtt_limit_ms)
        self._compare(Cause.LOSS, loss, self.loss_limit)
        if not self._over or now < self._said_at + REPEAT:
            return None
        self._said_at = now
        if Cause.LOSS in self._over:
            return Advice(Cause.LOSS, loss)
        return Advice(Cause.RTT, rtt_ms or 0.0)

    def _compare(self, cause: Cause, value: float | None, limit: float | None) -> None:
        if value is None or limit is None:
            self._over.discard(cause)
        elif value > limit:
            self._over.add(cause)
        elif value < CLEARED * limit:
            self._over.discard(cause)
