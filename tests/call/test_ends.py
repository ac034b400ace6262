"""What a user gives a call is looked at first: a mistake is a ConfigError, and not a call without sound."""

from __future__ import annotations

import pytest

from relaycall.call.ends import MIN_LIMIT, Ends, MediaOptions
from relaycall.errors import ConfigError
from relaycall.media.audio import SilenceSource
from relaycall.media.tracks import HeardTrack
from relaycall.media.video.sinks import SeenTrack
from relaycall.media.video.sources import TestPattern as Pattern


def test_what_fits_is_taken() -> None:
    heard, seen = HeardTrack(), SeenTrack()
    ends = Ends.of(SilenceSource(), heard, Pattern(), seen)
    assert (ends.sink, ends.video_sink) == (heard, seen)
    assert Ends.of(SilenceSource(), None, None, None).video_sink is None


@pytest.mark.parametrize(
    ("audio", "sink", "video", "video_sink"),
    [
        (b"", None, None, None),
        (SilenceSource(), SilenceSource(), None, None),
        (SilenceSource(), 3, None, None),
        (SilenceSource(), None, 3, None),
        (SilenceSource(), None, None, "seen.mp4"),
    ],
)
def test_what_does_not_fit_is_refused(audio: object, sink: object, video: object, video_sink: object) -> None:
    with pytest.raises(ConfigError):
        Ends.of(audio, sink, video, video_sink)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_bitrate": MIN_LIMIT - 1},
        {"rtt_limit_ms": 0},
        {"rtt_limit_ms": -150.0},
        {"rtt_limit_ms": float("nan")},
        {"loss_limit": 2},  # meant as 2 %
        {"loss_limit": 0},
        {"loss_limit": -0.1},
        {"loss_limit": float("nan")},
    ],
)
def test_limits_out_of_range(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        MediaOptions(**limits)  # type: ignore[arg-type]


def test_limits_in_range() -> None:
    assert MediaOptions(max_bitrate=MIN_LIMIT, rtt_limit_ms=0.1, loss_limit=1).loss_limit == 1
    assert MediaOptions(rtt_limit_ms=None, loss_limit=None).rtt_limit_ms is None
