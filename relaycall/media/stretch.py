"""Making speech shorter or longer without changing its pitch: one period is taken out, or put in twice.

Two neighbouring stretches of sound that look alike are blended into each other, so what is left out or repeated is a
whole number of pitch periods (2.5 to 15 ms) and both ends fit. How much alike is the normalised cross-correlation,
first on samples reduced by 8, then around the best of those at full rate. All of it is plain Python: 0.3 to 0.6 ms when
it is used, which is a few times a second while the delay is off its target, and never otherwise.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import mul

from relaycall.media.opus import FRAME_SAMPLES

REDUCTION = 8
SHORTEST, LONGEST = 120, 720  # samples of a period: 2.5 and 15 ms
COMPARED = 480  # samples that are compared: 10 ms
NEEDED = 2 * LONGEST  # samples, to look for every period when sound is to be shorter
ABOVE, BELOW = 720, -240  # samples of surplus that are left alone
GENTLE = 10  # a change of one sample is followed by so many samples without one
RETRY = 2 * FRAME_SAMPLES  # samples until sound that was not alike is looked at again
ALIKE = 0.7  # correlation, from 0 to 1
HURRY = 4800  # samples of surplus from which on any likeness does
QUIET = 100  # peak, of 32767, below which sound may be left out as it is


class Stretcher:
    """Brings the delay of a stream back to its target.

    Attributes:
        removed, added: samples so far.
    """

    def __init__(self) -> None:
        self.removed = self.added = 0
        self._rest_until = 0  # samples of the listener's time

    def fit(self, pcm: bytes, before: bytes, surplus: int, time: int) -> bytes:
        """The same sound a little shorter or longer, or as it is.

        Args:
            pcm: what is heard next, 16-bit samples; 30 ms of it for all periods to be found when it is to be shorter.
            before: what was heard last, 20 ms.
            surplus: samples that the delay is above its target; negative below.
            time: of the first sample, in samples since the first that was heard.

        Returns:
            At most 20 ms less in silence and 15 ms less in sound, or 15 ms more.
        """
        if BELOW <= surplus <= ABOVE:
            return pcm
        samples = array("h", pcm)
        if surplus >= FRAME_SAMPLES and len(samples) >= FRAME_SAMPLES and _peak(samples) < QUIET:
            self.removed += FRAME_SAMPLES
            return pcm[2 * FRAME_SAMPLES :]
        if time < self._rest_until:
            return pcm
        fitted = _shorter(samples, surplus) if surplus > 0 else _longer(samples, array("h", before), surplus)
        change = len(fitted) - len(samples)
        self.removed += max(0, -change)
        self.added += max(0, change)
        self._rest_until = time + (GENTLE * abs(change) or RETRY)
        return fitted.tobytes()


def fade(pcm: bytes, start: float, end: float) -> bytes:
    """The same sound with its loudness going evenly from one factor to another, each 0 to 1."""
    samples = array("h", pcm)
    count = len(samples)
    first, step = start, (end - start) / count
    return array("h", [int(sample * (first + step * n)) for n, sample in enumerate(samples)]).tobytes()


def _shorter(samples: array[int], surplus: int) -> array[int]:
    here = samples[:NEEDED]
    period = _period(here, 0, 1, min(len(here) - COMPARED, len(here) // 2), surplus)
    if not period:
        return samples
    blended = _blend(samples[:period], samples[period : 2 * period])
    return blended + samples[2 * period :]


def _longer(samples: array[int], before: array[int], surplus: int) -> array[int]:
    """The last period of what was heard is repeated, blended with the first that follows."""
    before, here = before[-LONGEST:], samples[:LONGEST]
    period = _period(before + here, len(before), -1, min(len(before), len(here)), surplus)
    if not period:
        return samples
    return _blend(samples[:period], before[-period:]) + samples


def _period(samples: array[int], start: int, direction: int, room: int, surplus: int) -> int:
    """The distance, after or before, at which the sound at `start` is most alike. 0: it is not, or there is no room."""
    longest = min(LONGEST, room)
    if longest < COMPARED:
        return 0
    ends = list(accumulate(samples, initial=0))[::REDUCTION]
    reduced = [after - before for before, after in pairwise(ends)]
    distances = range(SHORTEST // REDUCTION, longest // REDUCTION + 1)
    coarse, _ = _most_alike(reduced, start // REDUCTION, direction, distances, COMPARED // REDUCTION)
    around = range(max(SHORTEST, (coarse - 1) * REDUCTION), min(longest, (coarse + 1) * REDUCTION) + 1)
    period, likeness = _most_alike(samples, start, direction, around, COMPARED // 2)
    if likeness < ALIKE and abs(surplus) < HURRY and _peak(samples) >= QUIET:
        return 0
    return period


def _most_alike(samples: Sequence[int], start: int, direction: int, distances: range, count: int) -> tuple[int, float]:
    """The distance with the highest normalised cross-correlation over so many samples, and that."""
    first = start + min(direction * distances[0], direction * distances[-1])
    region = list(samples[first : first + distances[-1] - distances[0] + count])
    energies = list(accumulate(map(mul, region, region), initial=0))
    here = list(samples[start : start + count])
    energy = sum(map(mul, here, here))
    best, likeness = 0, -1.0
    for distance in distances:
        there = start + direction * distance - first
        scale = math.sqrt(energy * (energies[there + count] - energies[there])) or 1.0
        found = sum(map(mul, here, region[there : there + count])) / scale
        if found > likeness:
            best, likeness = distance, found
    return best, likeness


def _blend(one: array[int], other: array[int]) -> array[int]:
    """From one to the other, evenly."""
    count = len(one)
    return array("h", [(a * (count - n) + b * n) // count for n, (a, b) in enumerate(zip(one, other, strict=True))])


def _peak(samples: array[int]) -> int:
    return max(max(samples), -min(samples))
