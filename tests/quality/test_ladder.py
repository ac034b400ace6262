"""The steps of quality."""

from __future__ import annotations

from itertools import pairwise

import pytest

from relaycall.media.video.pacer import MAX_PIECE
from relaycall.quality.ladder import (
    AUDIO_BITRATES,
    LADDER,
    OFF,
    VIDEO_PIECE,
    VIDEO_WIRE_RATES,
    Limits,
    audio_wire_rate,
    audio_within,
    encoding_for,
    highest_for_source,
    highest_within,
)


def test_each_rung_is_more_than_the_one_below_in_everything() -> None:
    for low, high in pairwise(LADDER):
        assert low.bitrate < high.bitrate <= 1.3 * low.bitrate
        assert low.frame_rate <= high.frame_rate
        assert low.height <= high.height
    assert list(VIDEO_WIRE_RATES) == sorted(VIDEO_WIRE_RATES)


def test_the_bit_rate_gives_way_first() -> None:
    """From one resolution to the next the bit rate falls three times as often as the frame rate."""
    steps = list(pairwise(LADDER))
    assert sum(low.frame_rate != high.frame_rate for low, high in steps) < len(steps) / 2
    assert sum(low.height != high.height for low, high in steps) < len(steps) / 2


def test_headers_are_counted() -> None:
    assert audio_wire_rate(32000) == 56_000  # 140 bytes 50 times a second
    assert VIDEO_WIRE_RATES[0] == 60_000 + 7 * 61 * 8
    assert VIDEO_PIECE == MAX_PIECE


def test_what_fits() -> None:
    assert highest_within(0) == OFF
    assert highest_within(VIDEO_WIRE_RATES[3]) == 3
    assert highest_within(VIDEO_WIRE_RATES[3] - 1) == 2
    assert highest_within(float("inf")) == len(LADDER) - 1
    assert [AUDIO_BITRATES[audio_within(rate)] for rate in (1e6, 56_000, 55_999, 40_000, 1)] == [
        32000,
        32000,
        24000,
        16000,
        16000,
    ]


def test_limits() -> None:
    assert Limits().total == float("inf")
    assert Limits(max_bitrate=300_000, receive_limit=200_000, relay_cap=250_000).total == 200_000
    assert Limits(low_data=True).total == 150_000
    assert LADDER[Limits(low_data=True).highest_rung].height == 180
    assert Limits().highest_rung == len(LADDER) - 1


@pytest.mark.parametrize(
    ("size", "rows"),
    [((1280, 720), 720), ((720, 1280), 1280), ((640, 360), 720), ((1080, 1920), 1280), ((16, 4000), 1920)],
)
def test_the_rows_are_those_of_the_shorter_side(size: tuple[int, int], rows: int) -> None:
    assert encoding_for(len(LADDER) - 1, *size).height == rows


def test_a_small_picture_does_not_take_the_highest_rungs() -> None:
    assert highest_for_source(1280, 720) == len(LADDER) - 1
    assert 600_000 <= LADDER[highest_for_source(640, 360)].bitrate <= 900_000
    assert highest_for_source(16, 16) == 0
