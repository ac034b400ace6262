"""The ring between two clocks, and the meter."""

from __future__ import annotations

import math
import threading
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.devices.level import Level, level_of
from relaycall.media.devices.ring import WINDOW, Drift, SoundRing

STEPS = st.one_of(
    st.tuples(st.just("put"), st.binary(max_size=30)),
    st.tuples(st.just("take"), st.integers(0, 30)),
    st.tuples(st.just("keep"), st.integers(0, 30)),
    st.tuples(st.just("low"), st.none()),
)


@given(st.lists(STEPS))
def test_it_holds_the_newest_in_order(steps: list[tuple[str, object]]) -> None:
    ring, model, low, dropped = SoundRing(50), b"", 0, 0
    for what, value in steps:
        if what == "put":
            ring.put(value)
            model += value
            dropped += max(0, len(model) - 50)
            model = model[-50:]
        elif what == "take":
            assert ring.take(value) == model[:value]
            model = model[value:]
            low = min(low, len(model))
        elif what == "keep":
            ring.keep(value)
            dropped += max(0, len(model) - value)
            model = model[max(0, len(model) - value) :]
            low = len(model)
        else:
            assert ring.low() == low
            low = len(model)
        assert (ring.fill, ring.dropped) == (len(model), dropped)


def test_two_threads() -> None:
    ring, taken = SoundRing(1 << 20), bytearray()
    sent = bytes(range(250)) * 400

    def put() -> None:
        for at in range(0, len(sent), 96):
            ring.put(sent[at : at + 96])

    thread = threading.Thread(target=put)
    thread.start()
    while thread.is_alive() or ring.fill:
        taken += ring.take(77)
    thread.join()
    assert taken == sent


def test_drift_is_the_least_of_a_second_less_the_target() -> None:
    drift = Drift(100)
    for fill in [900, 300, *[700] * (WINDOW - 3)]:
        drift.read(fill)
        assert drift.surplus == 0
    drift.read(800)
    assert drift.surplus == 200
    for _ in range(WINDOW):
        drift.read(20)
    assert drift.surplus == -80
    drift.read(0)
    drift.reset()
    for _ in range(WINDOW):
        drift.read(100)
    assert drift.surplus == 0


@pytest.mark.parametrize(
    ("samples", "peak", "rms"),
    [
        ([], -96, -96),
        ([0] * 960, -96, -96),
        ([-32768] * 960, 0, 0),
        ([round(32767 * math.sin(2 * math.pi * 7 * n / 960)) for n in range(960)], 0, -3.01),
        ([3277] * 960, -20, -20),
        ([0] * 959 + [-3277], -20, -96),
        ([1], -90.3, -90.3),
    ],
)
def test_levels(samples: list[int], peak: float, rms: float) -> None:
    assert level_of(array("h", samples).tobytes()) == pytest.approx(Level(peak, rms), abs=0.05)


@given(st.binary(max_size=200).map(lambda data: data[: len(data) // 2 * 2]))
def test_any_sound_has_a_level(pcm: bytes) -> None:
    level = level_of(pcm)
    assert all(-96 <= one <= 0 for one in level)
    assert level.rms_db <= level.peak_db + 1e-9
