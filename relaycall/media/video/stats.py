"""What a call's video has done so far: figures of the sender and of the receiver."""

from __future__ import annotations

from dataclasses import dataclass

from relaycall.errors import MediaError
from relaycall.media.video.format import VideoCodec


@dataclass(frozen=True, slots=True)
class VideoSenderStats:
    """What was sent so far.

    Attributes:
        codec: what is coded as.
        frames_read: given by the sources.
        frames_encoded: coded, and given to the path.
        frames_skipped: not sent, because a newer one came before it was its turn or to hold the bit rate. Those read
            while there was no encoding are not counted.
        keyframes: of those encoded.
        packets, bytes: sent for the first time, as on the path.
        sent_again: packets, because the peer asked for them.
        refused: packets that the peer asked for in vain, and messages of its that cannot be true.
        width, height: of the latest picture, pixels; 0 before the first.
        encode_ms: time that coding a picture takes, smoothed; 0 before the first.
        error: why the video ended, if it failed.
    """

    codec: VideoCodec
    frames_read: int
    frames_encoded: int
    frames_skipped: int
    keyframes: int
    packets: int
    bytes: int
    sent_again: int
    refused: int
    width: int
    height: int
    encode_ms: float
    error: MediaError | None


@dataclass(frozen=True, slots=True)
class VideoReceiverStats:
    """What a receiver has done so far.

    Attributes:
        packets: taken.
        malformed: packets that are no piece of a frame, contradict others, or are of a codec that is not taken.
        lost: packets that did not come in time.
        recovered: packets that came after they had been asked for.
        frames_decoded: pictures.
        frames_dropped: frames of which something came, and that were not decoded, but for the next two.
        undecodable: frames that are not what they should be, and those that refer to one.
        refused_size: keyframes that are too large, or do not say how large they are.
        keyframes_wanted: wishes for one that were sent.
        freezes: times without a new picture for 500 ms while packets came.
        width, height: of the latest picture, in pixels; 0 before there is one.
        codec: of the latest frame.
    """

    packets: int
    malformed: int
    lost: int
    recovered: int
    frames_decoded: int
    frames_dropped: int
    undecodable: int
    refused_size: int
    keyframes_wanted: int
    freezes: int
    width: int
    height: int
    codec: VideoCodec | None
