"""SRTP with keys that come from signaling (RFC 3711, AEAD_AES_256_GCM of RFC 7714).

Audio, video and control have a master key and salt of their own in each direction, and each is bound to one SSRC:
libsrtp refuses a packet of any other before it makes any state for it. Replay protection is on. libsrtp finds a replay
before it authenticates, so the latest are kept: one copy of each, over a second path, is told from a replay.

The C library is called through pylibsrtp's own binding with one buffer for the life of the stream: 0.9 µs a packet,
where pylibsrtp's `Session` methods, which allocate for every packet, take 1.4 µs.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import pylibsrtp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pylibsrtp._binding import ffi, lib

from relaycall.errors import ConfigError, MediaError

CALL_KEY_SIZE = 32  # bytes
MASTER_SIZE = 44  # bytes: a 256-bit key and a 96-bit salt
MAX_PACKET = 1500  # bytes, protected
RTP_HEADER_SIZE = 12  # bytes, without CSRCs and extension
BARE_HEADER = 0x80  # first byte: version 2; no padding, no extension, no CSRC: what relaycall sends
RTCP_HEADER_SIZE = 8  # bytes, the sender's SSRC included
TAG_SIZE = 16  # bytes
SRTCP_INDEX_SIZE = 4  # bytes
REPLAY_WINDOW = 1024  # packets: 20 s of audio, more than any change of path reorders
# Packets kept, by the low bits of their number. With more a relay that stopped could pretend for longer.
COPIES_KNOWN = 32


class Refusal(enum.Enum):
    """Why a packet was not protected or not accepted. The value is the name of the counter for it."""

    AUTHENTICATION = "authentication"
    REPLAY = "replay"
    WRONG_SSRC = "wrong_ssrc"
    MALFORMED = "malformed"
    COPY = "copies"  # the first replay of a recent authentic packet


# Status codes of libsrtp that say more than "the packet is not as it should be".
_REFUSALS = {
    7: Refusal.AUTHENTICATION,  # srtp_err_status_auth_fail
    9: Refusal.REPLAY,  # srtp_err_status_replay_fail
    10: Refusal.REPLAY,  # srtp_err_status_replay_old
    13: Refusal.WRONG_SSRC,  # srtp_err_status_no_ctx
}


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """What one side sends and receives control or video packets with. The repr shows nothing.

    Attributes:
        send, receive: master key and salt, 44 bytes.
        send_ssrc, receive_ssrc: as derived, 32 bits; `open` makes them usable.
    """

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)
    send_ssrc: int = field(repr=False)
    receive_ssrc: int = field(repr=False)

    def open(self, *taken: int) -> tuple[int, OutgoingSrtp, IncomingSrtp]:
        """The SSRC we send with, and both directions. `taken` are SSRCs that another stream has."""
        ssrc = free_ssrc(self.send_ssrc, *taken)
        incoming = IncomingSrtp(self.receive, free_ssrc(self.receive_ssrc, *taken))
        return ssrc, OutgoingSrtp(self.send, ssrc), incoming


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """What one side sends and receives with. The repr shows nothing.

    Attributes:
        send, receive: master key and salt of the audio, 44 bytes.
        control, video: those of the other streams, with their SSRCs.
    """

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)
    control: StreamKeys
    video: StreamKeys


def derive_keys(call_key: bytes, *, caller: bool) -> SrtpKeys:
    """The SRTP keys of one side of a call (HKDF-SHA256, RFC 5869, one info string per direction).

    Args:
        call_key: 32 secret bytes that both sides share and no other call has.
        caller: True on the side that placed the call.

    Raises:
        ConfigError: the call key is not 32 bytes long.
    """
    if len(call_key) != CALL_KEY_SIZE:
        raise ConfigError(f"A call key has {CALL_KEY_SIZE} bytes, not {len(call_key)}.")

    def derive(stream: bytes, length: int) -> tuple[bytes, bytes]:
        """Ours, then the peer's."""
        to_callee, to_caller = (
            HKDF(hashes.SHA256(), length, salt=None, info=b"relaycall/1 " + stream + direction).derive(call_key)
            for direction in (b" caller to callee", b" callee to caller")
        )
        return (to_callee, to_caller) if caller else (to_caller, to_callee)

    def stream(name: bytes) -> StreamKeys:
        ours, theirs = (int.from_bytes(ssrc, "big") for ssrc in derive(name + b" ssrc", 4))
        return StreamKeys(*derive(name, MASTER_SIZE), ours, theirs)

    return SrtpKeys(*derive(b"srtp", MASTER_SIZE), stream(b"control"), stream(b"video"))


def free_ssrc(derived: int, *taken: int) -> int:
    """The derived SSRC, or the next higher one that is neither 0 nor taken."""
    while derived in (0, *taken):
        derived = (derived + 1) & 0xFFFFFFFF
    return derived


class _Stream:
    """One direction of one SSRC."""

    def __init__(self, key: bytes, ssrc: int) -> None:
        try:
            policy = pylibsrtp.Policy(
                key=key,
                ssrc_type=pylibsrtp.Policy.SSRC_SPECIFIC,
                ssrc_value=ssrc,
                srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
            )
            policy.window_size = REPLAY_WINDOW
            self._session = pylibsrtp.Session(policy)  # frees the context when it is collected
        except pylibsrtp.Error:
            raise MediaError(
                "SRTP with AES-256-GCM is not available.", "Install a pylibsrtp that is built with OpenSSL."
            ) from None
        self._context = self._session._srtp[0]
        self._packet = ffi.new("char[]", MAX_PACKET + TAG_SIZE + SRTCP_INDEX_SIZE)
        self._buffer = ffi.buffer(self._packet)
        self._length = ffi.new("int *")

    def _process(self, operation: Any, data: bytes, smallest: int, largest: int) -> bytes | Refusal:
        size = len(data)
        if not smallest <= size <= largest:  # libsrtp writes into the buffer: its bounds are kept here
            return Refusal.MALFORMED
        self._length[0] = size
        self._buffer[0:size] = data
        status = operation(self._context, self._packet, self._length)
        if status:
            return _REFUSALS.get(status, Refusal.MALFORMED)
        protected: bytes = self._buffer[0 : self._length[0]]
        return protected


class OutgoingSrtp(_Stream):
    """Protects what we send. `OutgoingSrtp(keys.send, our SSRC)`; MediaError if libsrtp lacks AES-GCM."""

    def protect_rtp(self, packet: bytes) -> bytes | Refusal:
        """The SRTP packet: 16 bytes longer."""
        return self._process(lib.srtp_protect, packet, RTP_HEADER_SIZE, MAX_PACKET - TAG_SIZE)

    def protect_rtcp(self, packet: bytes) -> bytes | Refusal:
        """The SRTCP packet: 20 bytes longer."""
        largest = MAX_PACKET - TAG_SIZE - SRTCP_INDEX_SIZE
        return self._process(lib.srtp_protect_rtcp, packet, RTCP_HEADER_SIZE, largest)


class IncomingSrtp(_Stream):
    """Checks and opens what the peer sent. `IncomingSrtp(keys.receive, its SSRC)`; MediaError as above."""

    def __init__(self, key: bytes, ssrc: int) -> None:
        super().__init__(key, ssrc)
        self._rtp = [b""] * COPIES_KNOWN
        self._rtcp = [b""] * COPIES_KNOWN

    def unprotect_rtp(self, packet: bytes) -> bytes | Refusal:
        """The RTP packet, or why it is not one of this stream."""
        plain = self._process(lib.srtp_unprotect, packet, RTP_HEADER_SIZE + TAG_SIZE, MAX_PACKET)
        if plain.__class__ is bytes:
            self._rtp[packet[3] % COPIES_KNOWN] = packet  # the low bits of the sequence number
        elif plain is Refusal.REPLAY and self._rtp[packet[3] % COPIES_KNOWN] == packet:
            self._rtp[packet[3] % COPIES_KNOWN] = b""  # once: a relay may not live on what it carried before
            return Refusal.COPY
        return plain

    def unprotect_rtcp(self, packet: bytes) -> bytes | Refusal:
        """The compound RTCP packet, or why it is not one of this stream."""
        smallest = RTCP_HEADER_SIZE + TAG_SIZE + SRTCP_INDEX_SIZE
        plain = self._process(lib.srtp_unprotect_rtcp, packet, smallest, MAX_PACKET)
        if plain.__class__ is bytes:
            self._rtcp[packet[-1] % COPIES_KNOWN] = packet  # the low bits of the index
        elif plain is Refusal.REPLAY and self._rtcp[packet[-1] % COPIES_KNOWN] == packet:
            self._rtcp[packet[-1] % COPIES_KNOWN] = b""
            return Refusal.COPY
        return plain
