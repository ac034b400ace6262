"""How loud 20 ms of sound are, and telling it."""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Callable
from operator import mul
from typing import NamedTuple

from relaycall.media.audio import SILENCE

FLOOR_DB = -96.0  # of what is silent
THINNED = 4  # one of so many samples is taken for the mean: the meter costs half as much, and speech allows it

logger = logging.getLogger(__name__)


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


class Meter:
    """Tells a program how loud each 20 ms are: `on_level`, or None for nobody. One that raises is not called again."""

    def __init__(self, on_level: Callable[[Level], object] | None) -> None:
        self._on_level = on_level

    def tell(self, pcm: bytes) -> None:
        """Of 16-bit mono samples."""
        if self._on_level is None:
            return
        try:
            self._on_level(SILENT if pcm is SILENCE else level_of(pcm))
        except Exception as error:
            self._on_level = None
            logger.warning("on_level raised %s and is not called again", type(error).__name__)
