"""What passed through a call's transport, and what did not and why."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Dropped:
    """Packets dropped, by reason.

    Attributes:
        not_media: neither RTP nor RTCP, or smaller than 12 or larger than 1500 bytes.
        wrong_ssrc: not the peer's SSRC.
        wrong_payload_type: RTP that is neither the call's audio nor video nor control.
        authentication: wrong key, or altered on the way.
        replay: seen before, or older than the replay window.
        malformed: authentic or not, but not what a relaycall peer sends; also what aiortc or a handler choked on.
        rtcp_kind: packets of a compound whose kind an audio call does not use.
        flood: authentic, but more than a call can need.
        unsent: our own packets that could not be protected, and control and video packets that the path did not take.
    """

    not_media: int = 0
    wrong_ssrc: int = 0
    wrong_payload_type: int = 0
    authentication: int = 0
    replay: int = 0
    malformed: int = 0
    rtcp_kind: int = 0
    flood: int = 0
    unsent: int = 0


@dataclass(slots=True)
class TransportCounters:
    """What passed. Sizes are those of protected packets, in bytes.

    Attributes:
        packets_sent, bytes_sent: handed to the path.
        packets_received, bytes_received: everything the path delivered, what was dropped included.
        audio_sent, audio_received: RTP packets; received ones are authentic and were accepted.
        control_sent, control_received: control packets, likewise.
        video_sent, video_received: video packets, likewise; those sent again are counted again.
        video_bytes_sent, video_bytes_received: their sizes.
        rtcp_sent, rtcp_received: compound RTCP packets, likewise.
        copies: packets that came a second time, each authentic: they went over two paths.
        goodbyes: RTCP BYE packets received.
        dropped: packets dropped, by reason.
        sent_sizes, received_sizes: the distinct sizes of audio packets, 64 at most.
    """

    packets_sent: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    bytes_received: int = 0
    audio_sent: int = 0
    audio_received: int = 0
    control_sent: int = 0
    control_received: int = 0
    video_sent: int = 0
    video_received: int = 0
    video_bytes_sent: int = 0
    video_bytes_received: int = 0
    rtcp_sent: int = 0
    rtcp_received: int = 0
    copies: int = 0
    goodbyes: int = 0
    dropped: Dropped = field(default_factory=Dropped)
    sent_sizes: set[int] = field(default_factory=set)
    received_sizes: set[int] = field(default_factory=set)
