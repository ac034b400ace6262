"""Whether what is played comes back through the microphone, so that the other side hears itself.

Loudness over time is compared, not sound: it survives the room, the speaker and the device's own processing. Every
20 ms the level of what was played and of what was recorded is noted. Once a second the last four seconds are compared
at every delay up to half a second. Two people who talk to each other take turns, so their levels do not rise and fall
together; an echo does, some hundredths of a second later. It has to do so four times in a row, at about the same
delay.

    watch = EchoWatch()
    microphone = Microphone(on_level=watch.recorded)
    speaker = Speaker(on_level=watch.played)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from operator import mul

from relaycall.media.devices.level import FLOOR_DB, Level

STEPS = 200  # of 20 ms, that are compared
DELAYS = 25  # steps
EVERY = 50  # steps
QUIET_DB = -60.0  # what is below counts as this
LIVELY_DB = 6.0  # standard deviation of what is played, below which nothing can be said
ALIKE = 0.8  # correlation; with 4 times, no false alarm in 10 simulated hours of two who talk all the time
TIMES = 4
NEAR = 3  # steps between the delays of two comparisons in a row


class EchoWatch:
    """Finds an echo. Time goes on with each call of `recorded`.

    Attributes:
        found: it was heard; stays so.
    """

    def __init__(self) -> None:
        self.found = False
        self._playing = FLOOR_DB
        self._played: deque[float] = deque(maxlen=STEPS + DELAYS)
        self._recorded: deque[float] = deque(maxlen=STEPS)
        self._steps = 0
        self._delays: list[int] = []

    def played(self, level: Level) -> None:
        """20 ms are given to the speaker."""
        self._playing = level.rms_db

    def recorded(self, level: Level) -> None:
        """20 ms came from the microphone."""
        if self.found:
            return
        self._played.append(max(QUIET_DB, self._playing))
        self._recorded.append(max(QUIET_DB, level.rms_db))
        self._steps += 1
        if self._steps % EVERY == 0 and len(self._played) == STEPS + DELAYS:
            self._compare()

    def _compare(self) -> None:
        delay, likeness = _best_delay(list(self._played), list(self._recorded))
        if likeness < ALIKE or (self._delays and abs(delay - self._delays[-1]) > NEAR):
            self._delays.clear()
        if likeness >= ALIKE:
            self._delays.append(delay)
        self.found = len(self._delays) >= TIMES


def _best_delay(played: Sequence[float], recorded: Sequence[float]) -> tuple[int, float]:
    """The delay in steps at which the recorded levels are most like the played ones, and their correlation there."""
    heard, power = _centred(recorded)
    best, likeness = 0, 0.0
    for delay in range(DELAYS + 1):
        start = DELAYS - delay
        given, given_power = _centred(played[start : start + STEPS])
        if math.sqrt(given_power / STEPS) < LIVELY_DB or power == 0:
            continue
        found = sum(map(mul, heard, given)) / math.sqrt(power * given_power)
        if found > likeness:
            best, likeness = delay, found
    return best, likeness


def _centred(levels: Sequence[float]) -> tuple[list[float], float]:
    """Without their mean, and the sum of their squares then."""
    mean = sum(levels) / len(levels)
    centred = [level - mean for level in levels]
    return centred, sum(map(mul, centred, centred))
