"""Ears for tests: read a recording and compare it with what was played. No numpy."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import av

RATE = 48000  # hertz
WINDOW = 960  # samples: 20 ms


def read_samples(path: Path | str) -> array[int]:
    """The sound of a file as 16-bit mono samples at 48 kHz, decoded by FFmpeg."""
    samples = array("h")
    resampler = av.AudioResampler("s16", "mono", RATE)
    with av.open(str(path)) as container:
        for frame in [*container.decode(audio=0), None]:
            if frame is not None:
                frame.pts = None
            for mono in resampler.resample(frame):
                samples.frombytes(bytes(mono.planes[0])[: 2 * mono.samples])
    return samples


def envelope(samples: array[int]) -> list[float]:
    """The loudness (RMS) of each 20 ms."""
    blocks = (samples[start : start + WINDOW] for start in range(0, len(samples) - WINDOW + 1, WINDOW))
    return [math.sqrt(sum(sample * sample for sample in block) / WINDOW) for block in blocks]


def similarity(original: array[int], recording: array[int], max_shift: int = 25) -> float:
    """The best correlation of two loudness envelopes, -1 to 1, within a shift of so many windows."""
    one, other = envelope(original), envelope(recording)
    best = -1.0
    for shift in range(-max_shift, max_shift + 1):
        pairs = list(zip(one[max(0, shift) :], other[max(0, -shift) :], strict=False))
        if len(pairs) >= 10:
            best = max(best, _correlation(pairs))
    return best


def _correlation(pairs: list[tuple[float, float]]) -> float:
    mean_one, mean_other = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    covariance = sum((one - mean_one) * (other - mean_other) for one, other in pairs)
    spread = math.sqrt(sum((one - mean_one) ** 2 for one, _ in pairs) * sum((x - mean_other) ** 2 for _, x in pairs))
    return covariance / spread if spread else 0.0


def tone_share(samples: array[int], frequency: float) -> float:
    """How much of the energy is at a frequency, 0 to 1 (Goertzel over windows of 100 ms, so +-10 Hz)."""
    size = RATE // 10
    coefficient = 2 * math.cos(2 * math.pi * frequency / RATE)
    at_frequency = total = 0.0
    for start in range(0, len(samples) - size + 1, size):
        before = last = 0.0
        for sample in samples[start : start + size]:
            before, last = last, sample + coefficient * last - before
            total += sample * sample
        at_frequency += 2 * (last * last + before * before - coefficient * last * before) / size
    return at_frequency / total if total else 0.0
