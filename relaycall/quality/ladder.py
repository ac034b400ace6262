"""The steps of quality that a call goes up and down, and what each takes on the wire.

Going down, the bit rate of video gives way first, then its frame rate, then its resolution, then all of it; then the
voice. A step is a quarter more than the one below: so one of them takes between 0.74 and 0.92 of any link.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from relaycall.media.video.format import MAX_HEIGHT, Encoding

# Bytes of a packet besides what is encoded, IPv4 counted: RTP 12 and tag 16; TURN channel 4, UDP 8 and IP 20.
SRTP_HEADERS, LOWER_HEADERS = 28, 32
VIDEO_PIECE = 1100  # bytes of a frame in one packet, and a byte that describes them
AUDIO_PACKETS = 50  # a second

AUDIO_BITRATES = (32000, 24000, 16000)  # bit/s, best first

LADDER = tuple(
    Encoding(bitrate, frame_rate, height)
    for bitrate, frame_rate, height in (
        (60_000, 7, 180),
        (72_000, 7, 180),
        (86_000, 10, 180),
        (108_000, 12, 180),
        (135_000, 12, 180),
        (170_000, 12, 270),
        (210_000, 15, 270),
        (265_000, 15, 270),
        (330_000, 15, 360),
        (415_000, 20, 360),
        (520_000, 20, 360),
        (650_000, 20, 540),
        (820_000, 25, 540),
        (1_020_000, 25, 540),
        (1_280_000, 25, 720),
        (1_600_000, 30, 720),
        (2_000_000, 30, 720),
        (2_500_000, 30, 720),
    )
)
START = 5  # rung of a call's first video
LOW_DATA_HEIGHT = 180  # rows
LOW_DATA_RATE = 150_000  # bit/s on the wire

BITS_PER_PIXEL = 3.7  # a second: with more, a small picture gets no better
OFF = -1  # the rung below all


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be used, whatever the path carries. All in bit/s on the wire, of voice and video together, or None.

    Attributes:
        max_bitrate: what the user allows.
        receive_limit: what the other side wants to get at most; a browser says so by REMB.
        relay_cap: what the relay allows.
        low_data: 150000 bit/s and 180 rows at most.
    """

    max_bitrate: int | None = None
    receive_limit: int | None = None
    relay_cap: int | None = None
    low_data: bool = False

    @property
    def own(self) -> float:
        """The lowest of our own."""
        own = (self.max_bitrate, self.relay_cap, LOW_DATA_RATE if self.low_data else None)
        return min((limit for limit in own if limit is not None), default=float("inf"))

    @property
    def peer(self) -> float:
        """The other side's."""
        return float("inf") if self.receive_limit is None else self.receive_limit

    @property
    def highest_rung(self) -> int:
        """The highest rung by its rows."""
        return sum(encoding.height <= LOW_DATA_HEIGHT for encoding in LADDER) - 1 if self.low_data else len(LADDER) - 1

    @property
    def total(self) -> float:
        """The lowest of all."""
        return min(self.own, self.peer)


def audio_wire_rate(bitrate: int) -> int:
    """Bit/s on the wire of a voice at this bit rate: 32000 become 56000."""
    return bitrate + AUDIO_PACKETS * 8 * (SRTP_HEADERS + LOWER_HEADERS)


def video_wire_rate(encoding: Encoding) -> int:
    """Bit/s on the wire of video at this step, when nothing is sent again."""
    pieces = ceil(encoding.bitrate / 8 / encoding.frame_rate / VIDEO_PIECE)
    return encoding.bitrate + encoding.frame_rate * pieces * 8 * (1 + SRTP_HEADERS + LOWER_HEADERS)


VIDEO_WIRE_RATES = tuple(video_wire_rate(rung) for rung in LADDER)


def highest_within(rate: float) -> int:
    """The highest rung whose video takes no more than this on the wire, in bit/s; OFF if none does."""
    return sum(needed <= rate for needed in VIDEO_WIRE_RATES) - 1


def highest_for_source(width: int, height: int) -> int:
    """The highest rung that is of use for pictures of this size; 0 at least."""
    return max(sum(encoding.bitrate <= BITS_PER_PIXEL * width * height for encoding in LADDER) - 1, 0)


def encoding_for(rung: int, width: int, height: int) -> Encoding:
    """The rung for a source of this size. The ladder's rows are those of the shorter side: a phone is held upright."""
    step = LADDER[rung]
    rows = step.height * height // min(width, height) if height > width else step.height
    return Encoding(step.bitrate, step.frame_rate, min(rows, MAX_HEIGHT))


def pixel_rate(rung: int, rows: int) -> int:
    """What a rung asks of the encoder when the source's shorter side has so many rows; to be compared, without unit."""
    return LADDER[rung].frame_rate * int(min(LADDER[rung].height, rows)) ** 2


def audio_within(rate: float) -> int:
    """The step of AUDIO_BITRATES that fits into this rate on the wire, in bit/s; the lowest if none does."""
    fits = (step for step, bitrate in enumerate(AUDIO_BITRATES) if audio_wire_rate(bitrate) <= rate)
    return next(fits, len(AUDIO_BITRATES) - 1)
