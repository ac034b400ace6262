"""What arrives, and what is heard: measured at the receiver, whatever the library says of itself.

The sound is a tone that rises by a step every 20 ms and begins again below, so that a frame that was made up by
concealment, which goes on with the pitch before it, can be told from one that was sent.
"""

from __future__ import annotations

import math
import operator
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from av import AudioFrame

from relaycall.media.audio import FRAME_SAMPLES, SAMPLE_RATE

PITCHES = range(600, 4600, 100)  # hertz: whole cycles in 20 ms, so that one joins the next
STEP = 4  # zero crossings in 20 ms from one to the next
RANGE = range(
    PITCHES[0] // 25 - 2 * STEP, PITCHES[-1] // 25 + 2 * STEP
)  # zero crossings; silence has none, and concealment can end in noise
AGAIN = -40  # a fall by more is the beginning of the next rise
PEAK = 10000
BEFORE = 0.1  # seconds ahead of an event that belong to it


class RisingTone:
    """A source, without end."""

    def __init__(self) -> None:
        self._blocks = [
            array("h", (round(PEAK * math.sin(2 * math.pi * pitch * n / SAMPLE_RATE)) for n in range(FRAME_SAMPLES)))
            for pitch in PITCHES
        ]
        self._next = 0

    def read(self) -> bytes | None:
        self._next = (self._next + 1) % len(self._blocks)
        return self._blocks[self._next].tobytes()

    def close(self) -> None:
        """Nothing to release."""


class Heard(NamedTuple):
    """A frame that was played: when, where in the listener's time (samples), how long, how high."""

    at: float
    pts: int
    samples: int
    crossings: float  # zero crossings in 20 ms


def heard(frame: AudioFrame, at: float) -> Heard:
    """What of a frame is kept: it costs a tenth of a millisecond."""
    samples = array("h", bytes(frame.planes[0])[: 2 * frame.samples])
    signs = [sample < 0 for sample in samples]
    crossings = sum(map(operator.ne, signs, signs[1:]))
    return Heard(at, frame.pts or 0, frame.samples, crossings * FRAME_SAMPLES / frame.samples)


def not_heard_ms(frames: Sequence[Heard], since: float) -> float:
    """Milliseconds that were concealed or silent in what was played from a moment on."""
    missing = 0
    last: Heard | None = None  # that was real
    before: Heard | None = None
    end: int | None = None  # of the frame before, in the listener's time
    for frame in frames:
        silent = max(0, frame.pts - end) if end is not None else 0
        end = frame.pts + frame.samples
        real = round(frame.crossings) in RANGE
        if real and last is not None and before is not None:
            rise, step = frame.crossings - last.crossings, frame.crossings - before.crossings
            real = rise > STEP / 2 or rise < AGAIN or STEP / 2 < step <= 2 * STEP
        before = frame
        if real:
            last = frame
        if frame.at >= since - BEFORE:
            missing += silent + (0 if real else frame.samples)
    return missing * 1000 / SAMPLE_RATE


@dataclass
class Arrivals:
    """The new audio packets that arrived, copies not among them."""

    times: list[float] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # sequence numbers, without their 16-bit limit

    def add(self, sequence_number: int, now: float) -> None:
        """Take note of one."""
        if self.numbers:
            last = self.numbers[-1]
            step = (sequence_number - last) & 0xFFFF
            sequence_number = last + (step if step < 0x8000 else step - 0x10000)
        self.times.append(now)
        self.numbers.append(sequence_number)

    def gap(self, since: float, now: float) -> dict[str, Any]:
        """What an event at `since` did.

        `gap_ms`: the longest time between two packets from then on; `lost`: packets that never arrived; `open_ms`: the
        time since the latest packet; `arrived`: packets since then.
        """
        first = bisect_left(self.times, since - BEFORE)
        times = [since - BEFORE, *self.times[first:], now]
        numbers = set(self.numbers[first:])
        start = max(self.numbers[:first], default=min(numbers, default=0) - 1)
        expected = range(start + 1, max(numbers, default=start) + 1)
        return {
            "gap_ms": max(later - earlier for earlier, later in pairwise(times)) * 1000,
            "lost": sum(number not in numbers for number in expected),
            "open_ms": (now - times[-2]) * 1000,
            "arrived": len(numbers),
        }
