"""Shorter and longer sound: pitch, clicks, pace."""

from __future__ import annotations

import itertools
import math
import random
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.audio import FRAME_BYTES, FRAME_SAMPLES, ToneSource
from relaycall.media.stretch import ABOVE, BELOW, GENTLE, LONGEST, NEEDED, Stretcher, fade
from tests.media.listening import read_samples, similarity, tone_share

SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"
FAR = 3840  # samples: 80 ms


def voice(pitch: float, seconds: float = 1.0) -> array[int]:
    """A pitch with overtones, as of a vowel."""
    weights = [0.5, 0.3, 0.2, 0.15, 0.1, 0.05]
    return array(
        "h",
        (
            int(12000 * sum(w * math.sin(2 * math.pi * pitch * (k + 1) * n / 48000) for k, w in enumerate(weights)))
            for n in range(int(48000 * seconds))
        ),
    )


def tone(frequency: float, seconds: float = 1.0) -> array[int]:
    source = ToneSource(frequency)
    return array("h", b"".join(source.read() or b"" for _ in range(int(50 * seconds))))


def refitted(samples: array[int], surplus: int, stretcher: Stretcher | None = None) -> array[int]:
    """What is heard when the sound goes through in 20 ms frames and the surplus is never used up."""
    stretcher = stretcher or Stretcher()
    sound = samples.tobytes()
    heard: list[bytes] = []
    before, waiting = bytes(FRAME_BYTES), b""
    while sound:
        size = 2 * NEEDED if surplus > 0 else FRAME_BYTES
        while len(waiting) < size and sound:
            waiting, sound = waiting + sound[:FRAME_BYTES], sound[FRAME_BYTES:]
        waiting = stretcher.fit(waiting, before, surplus, len(heard) * FRAME_SAMPLES)
        if len(waiting) >= FRAME_BYTES:
            before, waiting = waiting[:FRAME_BYTES], waiting[FRAME_BYTES:]
            heard.append(before)
    return array("h", b"".join(heard))


def steepest(samples: array[int]) -> int:
    return max(abs(later - earlier) for earlier, later in itertools.pairwise(samples))


@pytest.mark.parametrize("surplus", [FAR, -FAR])
@pytest.mark.parametrize("frequency", [70, 101, 220, 440, 997, 3000])
def test_a_tone_keeps_its_pitch_and_has_no_clicks(frequency: int, surplus: int) -> None:
    original = tone(frequency)
    stretcher = Stretcher()
    heard = refitted(original, surplus, stretcher)
    assert stretcher.removed + stretcher.added > 0.05 * len(original)
    assert tone_share(heard[: len(heard) // 4800 * 4800], frequency) > 0.9
    assert steepest(heard) <= 1.3 * steepest(original) + 8


@pytest.mark.parametrize("surplus", [FAR, -FAR])
@pytest.mark.parametrize("pitch", [80, 120, 210, 330])
def test_a_vowel_loses_or_gains_whole_periods(pitch: float, surplus: int) -> None:
    original = voice(pitch)
    heard = refitted(original, surplus)
    assert steepest(heard) <= 1.2 * steepest(original)
    crossings = [n for n in range(1, len(heard)) if heard[n - 1] < 0 <= heard[n]]
    periods = sorted(later - earlier for earlier, later in itertools.pairwise(crossings))
    middle = periods[len(periods) // 10 : -len(periods) // 10]
    assert max(middle) - min(middle) <= 8


@pytest.mark.parametrize("surplus", [FAR, -FAR])
@pytest.mark.parametrize("period", [355, 476, 611, 715])
def test_sound_of_whole_periods_stays_that(period: int, surplus: int) -> None:
    """To the sample: what repeats itself exactly goes on repeating itself exactly."""
    overtones = [(1, 7000), (2, 5000), (7, 3000), (20, 2000)]
    one = [round(sum(a * math.sin(2 * math.pi * k * n / period + k) for k, a in overtones)) for n in range(period)]
    original = array("h", (one * (48000 // period + 1))[:48000])
    stretcher = Stretcher()
    heard = refitted(original, surplus, stretcher)
    assert stretcher.removed + stretcher.added > 0.05 * len(original)
    assert max(abs(heard[n] - heard[n - period]) for n in range(period, len(heard))) <= 1


@pytest.mark.parametrize("surplus", [FAR, -FAR])
def test_the_pace_changes_by_a_tenth_at_most(surplus: int) -> None:
    samples = voice(120, 2)
    stretcher = Stretcher()
    sound, done = samples.tobytes(), 0
    for start in range(0, len(sound) - 2 * NEEDED, FRAME_BYTES):
        block, before = sound[start : start + 2 * NEEDED], sound[max(0, start - FRAME_BYTES) : start]
        stretcher.fit(block, before, surplus, start // 2)
        changed = stretcher.removed + stretcher.added
        assert changed <= start / 2 / GENTLE + LONGEST
        done = max(done, changed)
    assert done > 0.05 * len(samples), "and it does change"


def test_near_the_target_nothing_is_done() -> None:
    pcm = voice(120, 0.03).tobytes()
    for surplus in (BELOW, 0, ABOVE):
        assert Stretcher().fit(pcm, pcm[:FRAME_BYTES], surplus, 0) is pcm


def test_in_silence_whole_frames_are_left_out() -> None:
    stretcher = Stretcher()
    quiet = array("h", [random.Random(1).randint(-60, 60) for _ in range(NEEDED)]).tobytes()
    assert len(stretcher.fit(quiet, quiet, FRAME_SAMPLES, 0)) == len(quiet) - FRAME_BYTES
    assert len(stretcher.fit(quiet, quiet, FRAME_SAMPLES, 960)) == len(quiet) - FRAME_BYTES, "one after the other"
    assert stretcher.removed == 2 * FRAME_SAMPLES
    speech = voice(120, 0.03).tobytes()
    assert len(stretcher.fit(speech, speech, FRAME_SAMPLES, 0)) > len(speech) - FRAME_BYTES


def test_noise_is_left_alone_until_it_hurries() -> None:
    generator = random.Random(3)
    noise = array("h", [generator.randint(-8000, 8000) for _ in range(NEEDED)]).tobytes()
    assert Stretcher().fit(noise, noise[:FRAME_BYTES], 1000, 0) == noise
    assert len(Stretcher().fit(noise, noise[:FRAME_BYTES], 7000, 0)) < len(noise)


def test_speech_stays_the_same_speech() -> None:
    original = read_samples(SPEECH)
    stretcher = Stretcher()
    heard = refitted(original, 900, stretcher)
    assert 0.85 < len(heard) / len(original) < 0.97
    assert steepest(heard) <= 1.3 * steepest(original)
    # Brought back to its length by leaving out or repeating whole windows, its loudness runs as before.
    windows = [heard[start : start + 960] for start in range(0, len(heard) - 959, 960)]
    count = len(original) // 960
    again = array("h", b"".join(windows[n * len(windows) // count].tobytes() for n in range(count)))
    assert similarity(original, again) > 0.6


@given(
    st.binary(min_size=0, max_size=6000).map(lambda data: data[: len(data) // 2 * 2]),
    st.sampled_from([0, 100, 960]),
    st.integers(-50000, 50000),
    st.integers(0, 10000),
)
def test_any_sound_is_survived(pcm: bytes, before: int, surplus: int, time: int) -> None:
    fitted = Stretcher().fit(pcm, bytes(2 * before), surplus, time)
    assert len(pcm) - FRAME_BYTES <= len(fitted) <= len(pcm) + 2 * LONGEST
    assert len(fitted) % 2 == 0


def test_fading() -> None:
    pcm = array("h", [10000, -10000] * 480).tobytes()
    assert fade(pcm, 1.0, 1.0) == pcm
    faded = array("h", fade(pcm, 1.0, 0.5))
    assert (faded[0], len(faded)) == (10000, FRAME_SAMPLES)
    assert faded[-2] == pytest.approx(5000, abs=30)
    assert array("h", fade(pcm, 0.0, 1.0))[0] == 0
