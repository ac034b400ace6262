"""The packets of video: an SRTP stream each way beside the audio, with keys and SSRCs of its own.

Their header is bare, as that of audio. A packet that is sent again is the very same one: what the peer has already is
a replay there and is dropped.
"""

from __future__ import annotations

import struct

from relaycall.media.srtp import (
    BARE_HEADER,
    MAX_PACKET,
    RTP_HEADER_SIZE,
    TAG_SIZE,
    Refusal,
    SrtpKeys,
)

VP8_PAYLOAD_TYPE, H264_PAYLOAD_TYPE = 97, 98
VIDEO_PAYLOAD_TYPES = (VP8_PAYLOAD_TYPE, H264_PAYLOAD_TYPE)
CLOCK_RATE = 90000  # hertz (RFC 3551, section 5)
MAX_VIDEO_PAYLOAD = MAX_PACKET - RTP_HEADER_SIZE - TAG_SIZE  # bytes

_HEADER = struct.Struct("!BBHLL")
_LAST = 0x80  # the marker bit


class VideoStream:
    """Both directions of one side.

    Args:
        keys: of this side.
        local_ssrc, remote_ssrc: those of the audio, which video does not share.

    Raises:
        MediaError: libsrtp lacks AES-GCM.
    """

    def __init__(self, keys: SrtpKeys, local_ssrc: int, remote_ssrc: int) -> None:
        self._ssrc, self._outgoing, self._incoming = keys.video.open(local_ssrc, remote_ssrc)

    def protect(self, number: int, payload_type: int, timestamp: int, payload: bytes, *, last: bool) -> bytes | Refusal:
        """The SRTP packet with this number, of which the low 16 bits travel; an empty payload is refused."""
        if not payload:
            return Refusal.MALFORMED
        kind = payload_type | (_LAST if last else 0)
        header = _HEADER.pack(BARE_HEADER, kind, number & 0xFFFF, timestamp & 0xFFFFFFFF, self._ssrc)
        return self._outgoing.protect_rtp(header + payload)

    def unprotect(self, packet: bytes) -> bytes | Refusal:
        """The RTP packet, header and payload, or why it is not a packet of the peer's."""
        if len(packet) <= RTP_HEADER_SIZE + TAG_SIZE or packet[0] != BARE_HEADER:
            return Refusal.MALFORMED
        return self._incoming.unprotect_rtp(packet)
