"""The packets of in-band control: an SRTP stream each way beside the audio, with keys and SSRCs of its own.

Every packet is as large as an audio packet: 80 bytes of payload, 108 with header and tag.
"""

from __future__ import annotations

import secrets
import struct

from relaycall.media.srtp import (
    BARE_HEADER,
    RTP_HEADER_SIZE,
    TAG_SIZE,
    Refusal,
    SrtpKeys,
)

CONTROL_PAYLOAD_TYPE = 126
CONTROL_PAYLOAD_SIZE = 80  # bytes: the Opus payload of an audio packet

_PACKET_SIZE = RTP_HEADER_SIZE + CONTROL_PAYLOAD_SIZE + TAG_SIZE


class ControlStream:
    """Both directions of one side.

    Args:
        keys: of this side.
        local_ssrc, remote_ssrc: those of the audio, which control does not share.

    Raises:
        MediaError: libsrtp lacks AES-GCM.
    """

    def __init__(self, keys: SrtpKeys, local_ssrc: int, remote_ssrc: int) -> None:
        self._ssrc, self._outgoing, self._incoming = keys.control.open(local_ssrc, remote_ssrc)
        # Random (RFC 3550, section 5.1), and far from where the receiver has to guess a wrap (RFC 3711, section 3.3.1).
        self._sequence_number = secrets.randbelow(1 << 15)

    def protect(self, payload: bytes) -> bytes | Refusal:
        """The next SRTP packet, of 108 bytes. The payload has 80, or it is refused as malformed."""
        if len(payload) != CONTROL_PAYLOAD_SIZE:
            return Refusal.MALFORMED
        self._sequence_number = (self._sequence_number + 1) & 0xFFFF
        header = struct.pack("!BBHLL", BARE_HEADER, CONTROL_PAYLOAD_TYPE, self._sequence_number, 0, self._ssrc)
        return self._outgoing.protect_rtp(header + payload)

    def unprotect(self, packet: bytes) -> bytes | Refusal:
        """The 80 bytes of payload, or why it is not a packet of the peer's."""
        if len(packet) != _PACKET_SIZE or packet[0] != BARE_HEADER:
            return Refusal.MALFORMED
        plain = self._incoming.unprotect_rtp(packet)
        return plain[RTP_HEADER_SIZE:] if isinstance(plain, bytes) else plain
