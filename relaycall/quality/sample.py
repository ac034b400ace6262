"""What is known of a call at a moment, in figures: what the monitor takes in and what it gives out."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    """How a call is to its listener. LOST: nothing is heard."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class PeerReport:
    """What the other side says of what it gets from us; counts are totals since the beginning of the call.

    Attributes:
        received: audio packets.
        lost: audio packets that did not arrive.
        recovered: audio frames that were lost and restored from the packet after them.
        concealed: audio frames that were made up.
        jitter_ms: of our audio there (RFC 3550, section 6.4.1).
        queue_ms: by how much our audio arrived later than its quickest lately did, on average: what waits on the way.
        playout_delay_ms: how long it holds our sound back.
        video_received, video_lost: video packets.
        frames_shown: video frames that were decoded.
        video_height: rows of the latest; 0 for none.
    """

    received: int = 0
    lost: int = 0
    recovered: int = 0
    concealed: int = 0
    jitter_ms: float = 0.0
    queue_ms: float = 0.0
    playout_delay_ms: float = 0.0
    video_received: int = 0
    video_lost: int = 0
    frames_shown: int = 0
    video_height: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that is counted or measured on our side; counts are totals since the beginning of the call.

    Attributes:
        relay: our relay on the path in use, by name; "" without a path.
        rtt_ms: of that path, from client to client and back; None while unknown.
        packets_sent, bytes_sent, packets_received, bytes_received: everything that passed the relays, as media, with
            SRTP but without the headers below it.
        mine: what the other side gets from us, as it reported last; None before it did.
        theirs: what we get from the other side.
        audio_bitrate: at which our audio is encoded, in bit/s.
        video_frames_sent: encoded and sent.
        video_bytes_sent, video_bytes_received: of video packets.
        video_width, video_height: of the latest frame sent; 0 for none.
        video_target: bit rate asked of the encoder, in bit/s; 0 while video is off.
        available: what the path is estimated to carry in our direction, in bit/s; None while unknown.
    """

    relay: str = ""
    rtt_ms: float | None = None
    packets_sent: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    bytes_received: int = 0
    mine: PeerReport | None = None
    theirs: PeerReport = PeerReport()
    audio_bitrate: int = 32000
    video_frames_sent: int = 0
    video_bytes_sent: int = 0
    video_bytes_received: int = 0
    video_width: int = 0
    video_height: int = 0
    video_target: int = 0
    available: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """How a call was in the time since the sample before, a second as a rule. Losses and the like are shares, 0 to 1.

    Attributes:
        at: seconds since the call was connected.
        relay: our relay on the path in use, by name; "" without a path.
        rtt_ms: of that path; None while unknown.
        loss: of the other side's audio packets, those that did not arrive.
        loss_sent: of ours, as the other side reports; None before it did.
        recovered: of the other side's audio frames, those that were lost and restored.
        concealed: of the frames that were heard, those that were made up.
        jitter_ms: of what arrives.
        queue_ms: what waits on the way to us, on average.
        playout_delay_ms: how long sound is held back here.
        bitrate_sent, bitrate_received: bit/s, all of it.
        available: what the path is estimated to carry in our direction, in bit/s; None while unknown.
        audio_bitrate: of ours, in bit/s.
        frame_rate_sent, frame_rate_received: video frames a second.
        video_bitrate_sent, video_bitrate_received: bit/s.
        video_sent, video_received: rows of pixels of the latest frame; 0 for none.
        score: the mean opinion score that is expected of what we hear, 1 to 4.5 (ITU-T G.107, E-model).
        level: how it is, with hysteresis.
    """

    at: float
    relay: str = ""
    rtt_ms: float | None = None
    loss: float = 0.0
    loss_sent: float | None = None
    recovered: float = 0.0
    concealed: float = 0.0
    jitter_ms: float = 0.0
    queue_ms: float = 0.0
    playout_delay_ms: float = 0.0
    bitrate_sent: int = 0
    bitrate_received: int = 0
    available: int | None = None
    audio_bitrate: int = 32000
    frame_rate_sent: float = 0.0
    frame_rate_received: float = 0.0
    video_bitrate_sent: int = 0
    video_bitrate_received: int = 0
    video_sent: int = 0
    video_received: int = 0
    score: float = 4.4
    level: Level = Level.GOOD
