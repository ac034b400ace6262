"""Whether a call is good, fair or poor, or lost. Without I/O: it is told how each stretch of time was.

How it works. Two scores are looked at: that of the latest stretch, and the recent one, of the last five seconds, since
in a single second two lost packets or none make the difference. The level follows at once when both have been worth
less for two seconds, or the recent one more for five, to the level that is nearest of those they were worth meanwhile.
To be worth less or more the recent score has to be beyond a bound by a margin: so the level goes down quickly, comes
back slowly, and does not flap under steady random loss. A call that has not received a packet for two seconds is LOST;
it is POOR from the moment that half of the packets come again, and rises from there.

    nothing received for 2 s        any level ─▶ LOST
    half of the packets come        LOST ─▶ POOR
    worth less for 2 s              ─▶ the best of what it was worth
    worth more for 5 s              ─▶ the worst of what it was worth

The bounds are those of G.109: down to R = 70, some users are dissatisfied at most; down to 50, many or nearly all; what
is below is not recommended. In scores that is 3.6 and 2.6.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relaycall.quality.sample import Level

GOOD_FROM, FAIR_FROM = 3.6, 2.6  # score
MARGIN = 0.2  # score
WORSE_AFTER, BETTER_AFTER, LOST_AFTER = 2.0, 5.0, 2.0  # seconds
BACK_FROM = 25.0  # packets a second, of 50

_RANKS = {level: rank for rank, level in enumerate(Level)}  # from the best to the worst


@dataclass(frozen=True, slots=True)
class LevelChanged:
    """How the call is has changed for its listener.

    Attributes:
        at: seconds since the call was connected.
        old, new: the levels.
        score: of the last second.
    """

    at: float
    old: Level
    new: Level
    score: float


def level_of(score: float) -> Level:
    """What a score is worth: GOOD, FAIR or POOR."""
    if score >= GOOD_FROM:
        return Level.GOOD
    return Level.FAIR if score >= FAIR_FROM else Level.POOR


@dataclass(slots=True)
class LevelWatch:
    """The level of one call."""

    level: Level = Level.GOOD
    _silent: float = field(default=0.0, init=False)  # seconds
    _nearest: Level | None = field(default=None, init=False)  # of what it was worth lately, all worse or all better
    _for: float = field(default=0.0, init=False)  # seconds that it was

    def take(self, seconds: float, received: float, latest: float, recent: float) -> bool:
        """Note how it was.

        Args:
            seconds: the length of the stretch.
            received: audio packets in it.
            latest, recent: the score of it, and that of the last five seconds.

        Returns:
            whether the level is another one now.
        """
        before = self.level
        self._silent = 0.0 if received else self._silent + seconds
        if self._silent >= LOST_AFTER:
            self._to(Level.LOST)
        elif before is not Level.LOST:
            self._follow(self._worth(latest, recent), seconds)
        elif received >= BACK_FROM * seconds:
            self._to(Level.POOR)
        return self.level is not before

    def _worth(self, latest: float, recent: float) -> Level:
        less = min(level_of(latest), level_of(recent + MARGIN), key=_RANKS.__getitem__)
        more = level_of(recent - MARGIN)
        return less if _RANKS[less] > _RANKS[self.level] else min(more, self.level, key=_RANKS.__getitem__)

    def _follow(self, worth: Level, seconds: float) -> None:
        away = _RANKS[worth] - _RANKS[self.level]
        if not away:
            self._nearest = None
            return
        nearest = self._nearest
        before = _RANKS[nearest] - _RANKS[self.level] if nearest is not None else 0
        if before * away <= 0:  # it was worth its level until now, or turned from better to worse
            self._nearest, self._for = worth, 0.0
        elif abs(away) < abs(before):
            self._nearest = worth
        self._for += seconds
        if self._for >= (WORSE_AFTER if away > 0 else BETTER_AFTER) and self._nearest is not None:
            self._to(self._nearest)

    def _to(self, level: Level) -> None:
        self.level = level
        self._nearest = None
