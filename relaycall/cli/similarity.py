"""How alike two recordings are, for people who want one number after a demo.

Loudness is compared, ten milliseconds by ten, after lining the two up: 1.00 means that it rises and falls alike
throughout, 0 that it does so by chance. Words that were lost or came as silence lower it; a clean codec does not.
"""

from __future__ import annotations

import math
from array import array
from operator import mul

from relaycall.errors import MediaError
from relaycall.media.audio import SAMPLE_RATE
from relaycall.media.files import FileSource

STEP = SAMPLE_RATE // 100  # samples: 10 ms
THINNING = 8  # every so many samples count; loudness needs no more
SHIFT = 100  # steps by which the second may lie after the first
FLOOR = 30.0  # added to the mean amplitude of a step, so that noise in silence counts little
MAX_SECONDS = 60


def similarity(original: str, heard: str) -> float | None:
    """Compare two sound files, the first minute of them; the second may begin later. None if one cannot be read."""
    try:
        first, second = loudness(original), loudness(heard)
    except MediaError:
        return None
    length = min(len(first), len(second))
    if length < 2:
        return None
    best = max(correlation(first, second[shift:]) for shift in range(min(SHIFT, length - 1)))
    return round(max(best, 0.0), 3)


def loudness(path: str) -> list[float]:
    """The loudness of each 10 ms, on a logarithmic scale."""
    source = FileSource(path)
    found: list[float] = []
    try:
        while len(found) < 100 * MAX_SECONDS and (block := source.read()) is not None:
            samples = array("h", block)
            for start in range(0, len(samples), STEP):
                part = samples[start : start + STEP : THINNING]
                found.append(math.log(FLOOR + sum(map(abs, part)) / len(part)))
    finally:
        source.close()
    return found


def correlation(first: list[float], second: list[float]) -> float:
    """Pearson's, over what both have; 0 where one does not vary."""
    length = min(len(first), len(second))
    a, b = first[:length], second[:length]
    mean_a, mean_b = sum(a) / length, sum(b) / length
    a, b = [value - mean_a for value in a], [value - mean_b for value in b]
    scale = math.sqrt(sum(map(mul, a, a)) * sum(map(mul, b, b)))
    return sum(map(mul, a, b)) / scale if scale > 0 else 0.0
