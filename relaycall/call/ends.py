"""What our user gives a call: what to send, where to put what comes, and how."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from relaycall.errors import ConfigError
from relaycall.media.audio import AudioSink, AudioSource
from relaycall.media.tracks import Audio, source_of
from relaycall.media.video.sinks import VideoSink
from relaycall.media.video.sources import Video, VideoSource, video_source_of
from relaycall.quality.advice import Adviser
from relaycall.quality.ladder import LOW_DATA_RATE
from relaycall.quality.monitor import LOSS_LIMIT, RTT_LIMIT_MS

MIN_LIMIT = 80_000  # bit/s: sound at 32 kb/s, with everything around it


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of a call on this side.

    Attributes:
        audio: what to send.
        sink: where what is heard goes.
        video: what to show them; None: no video, for now.
        video_sink: where what they show goes; None: we take no video.
    """

    audio: AudioSource
    sink: AudioSink | None = None
    video: VideoSource | None = None
    video_sink: VideoSink | None = None

    @classmethod
    def of(cls, audio: Audio, sink: AudioSink | None, video: Video | None, video_sink: VideoSink | None) -> Ends:
        """From whatever our user gave. Raises ConfigError: it is no sound, no video, or no place for them."""
        if not (_is_sink(sink) and _is_sink(video_sink)):
            raise ConfigError("This takes no frames.", "Give a sink of relaycall, or an object with write and close.")
        return cls(source_of(audio), sink, None if video is None else video_source_of(video), video_sink)

    def close(self) -> None:
        """Close all of them. They may be anybody's, and raise what they like."""
        for end in (self.audio, self.sink, self.video, self.video_sink):
            if end is not None:
                with contextlib.suppress(Exception):
                    end.close()


def _is_sink(what: object) -> bool:
    return what is None or (hasattr(what, "write") and hasattr(what, "close"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaOptions:
    """How media is sent.

    Attributes:
        protect: audio goes over two paths that share no relay, always.
        max_bitrate: of everything we send and of everything they shall send us, in bit/s, with all headers; at least
            80000. None for no limit.
        low_data: as little as a call can do with: video is small, or off.
        rtt_limit_ms, loss_limit: above which, over five seconds, another path is looked for; None for never. The loss
            is a share of either direction, above 0, at most 1.
        laboratory: allow loopback and private addresses. For tests on one machine only.

    Raises:
        ConfigError: a limit is out of range.
    """

    protect: bool = False
    max_bitrate: int | None = None
    low_data: bool = False
    rtt_limit_ms: float | None = RTT_LIMIT_MS
    loss_limit: float | None = LOSS_LIMIT
    laboratory: bool = False

    def __post_init__(self) -> None:
        if self.max_bitrate is not None and self.max_bitrate < MIN_LIMIT:
            raise ConfigError(f"A limit on the bit rate is {MIN_LIMIT} bit/s at least.", "Use low_data instead.")
        Adviser(self.rtt_limit_ms, self.loss_limit)  # it looks at these: now, and not when there is a call

    @property
    def receive_limit(self) -> int | None:
        """What the other side is asked not to exceed, in bit/s."""
        return min(self.max_bitrate or LOW_DATA_RATE, LOW_DATA_RATE) if self.low_data else self.max_bitrate
