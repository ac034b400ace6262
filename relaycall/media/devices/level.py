"""How loud 20 ms of sound are."""

from __future__ import annotations

import math
from array import array
from operator import mul
from typing import NamedTuple

FLOOR_DB = -96.0  # of what is silent
THINNED = 4  # one of so many samples is taken for the mean: the meter costs half as much, and speech allows it


class Level(NamedTuple):
    """Of 20 ms, in dB relative to full scale: from -96, which is silence, to 0.

    Attributes:
        peak_db: of the loudest sample.
        rms_db: of the mean, over its squares; a full sine has -3.
    """

    peak_db: float
    rms_db: float


SILENT = Level(FLOOR_DB, FLOOR_DB)


def level_of(pcm: bytes) -> Level:
    """The level of 16-bit mono samples."""
    samples = array("h", pcm)
    if not samples:
        return SILENT
    thinned = samples[::THINNED]
    mean = sum(map(mul, thinned, thinned)) / len(thinned)
    return Level(_db(max(max(samples), -min(samples))), _db(math.sqrt(mean)))


def _db(amplitude: float) -> float:
    return max(FLOOR_DB, min(0.0, 20 * math.log10(amplitude / 32768))) if amplitude > 0 else FLOOR_DB
