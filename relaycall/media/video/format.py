"""How video is sent: by which codec, and at which step of quality."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from relaycall.errors import ConfigError
from relaycall.media.video.stream import H264_PAYLOAD_TYPE, VP8_PAYLOAD_TYPE

MAX_WIDTH, MAX_HEIGHT = 1920, 1920  # pixels, of what is sent and of what is taken
MAX_PIXELS = 1920 * 1088
MIN_BITRATE, MAX_BITRATE = 30_000, 2_500_000  # bit/s


class VideoCodec(enum.StrEnum):
    """A codec; the value is its name in a call record."""

    VP8 = "vp8"
    H264 = "h264"

    @property
    def payload_type(self) -> int:
        """The RTP payload type of its packets."""
        return VP8_PAYLOAD_TYPE if self is VideoCodec.VP8 else H264_PAYLOAD_TYPE


@dataclass(frozen=True, slots=True)
class Encoding:
    """A step of quality.

    Attributes:
        bitrate: of the video, packets' headers not counted, in bit/s; 30000 to 2500000.
        frame_rate: frames a second at most, 1 to 60.
        height: rows of pixels at most; a frame of the source with more is made smaller, its shape kept.

    Raises:
        ConfigError: a value is out of range.
    """

    bitrate: int
    frame_rate: int
    height: int

    def __post_init__(self) -> None:
        if not MIN_BITRATE <= self.bitrate <= MAX_BITRATE:
            raise ConfigError(f"The bit rate of video is {MIN_BITRATE} to {MAX_BITRATE} bit/s.")
        if not 1 <= self.frame_rate <= 60:
            raise ConfigError("Video has 1 to 60 frames a second.")
        if not 16 <= self.height <= MAX_HEIGHT:
            raise ConfigError(f"The height of video is 16 to {MAX_HEIGHT} rows.")
