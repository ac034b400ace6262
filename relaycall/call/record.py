"""The call record: all that two sides tell each other to place a call. It takes the place of SDP.

A record is a small MessagePack map, decoded with strict types, lengths and ranges; anything else is refused. It holds
key material: it must travel sealed from one side to the other.
"""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta

from relaycall.errors import RecordRefused
from relaycall.ice.candidate import MAX_CANDIDATES, accept_address
from relaycall.stun.address import Address

MAX_RECORD = 2048  # bytes
KEY_SIZE = 32  # bytes
MAX_LEG = 2000  # milliseconds
LEG_STEP = 5  # milliseconds

IceText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/]+\Z", max_length=64)]


class RelayCandidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A relayed address of the sender's.

    Attributes:
        leg_ms: the sender's round trip to this relay in milliseconds, in steps of 5 so that it tells little about
            where the sender is; 0 for unknown.
    """

    host: Annotated[str, Meta(min_length=2, max_length=45)]
    port: Annotated[int, Meta(ge=1024, le=65535)]
    priority: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    leg_ms: Annotated[int, Meta(ge=0, le=MAX_LEG, multiple_of=LEG_STEP)] = 0

    @property
    def address(self) -> Address:
        """Where to send."""
        return Address(self.host, self.port)

    def __repr__(self) -> str:
        return "<relay candidate>"


class AudioPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the sender will send audio: mono Opus at a constant rate, 20 ms a packet."""

    ssrc: Annotated[int, Meta(ge=1, le=2**32 - 1)]
    payload_type: Literal[111] = 111
    codec: Literal["opus"] = "opus"
    bitrate: Literal[32000] = 32000


class VideoPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which video the sender of the record takes, the codec it prefers first; none at all if it shows none."""

    takes: Annotated[tuple[Literal["vp8", "h264"], ...], Meta(max_length=2)] = ()


class CallRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side of a call.

    Attributes:
        ufrag, pwd: ICE credentials (RFC 8445, section 5.3).
        key: 32 fresh random bytes; both sides' make the call key.
    """

    ufrag: Annotated[IceText, Meta(min_length=4)]
    pwd: Annotated[IceText, Meta(min_length=22)]
    candidates: Annotated[tuple[RelayCandidate, ...], Meta(min_length=1, max_length=MAX_CANDIDATES)]
    audio: AudioPlan
    key: Annotated[bytes, Meta(min_length=KEY_SIZE, max_length=KEY_SIZE)]
    video: VideoPlan = VideoPlan()
    version: Literal[1] = 1

    def __repr__(self) -> str:
        return f"<CallRecord with {len(self.candidates)} relay candidates>"


def coarse_leg(seconds: float) -> int:
    """A round trip as a record tells it: milliseconds, up to the next step of 5, at most 2000."""
    return min(LEG_STEP * math.ceil(max(seconds, 0.0) * 1000 / LEG_STEP), MAX_LEG)


_decoder = msgspec.msgpack.Decoder(CallRecord)


def encode_record(record: CallRecord) -> bytes:
    """The record as bytes; the same record gives the same bytes."""
    return msgspec.msgpack.encode(record)


def decode_record(data: bytes, *, laboratory: bool = False) -> CallRecord:
    """Read the other side's record.

    Args:
        laboratory: allow loopback and private addresses.

    Raises:
        RecordRefused: names the rule it breaks, never a value.
    """
    if len(data) > MAX_RECORD:
        raise RecordRefused(f"it is longer than {MAX_RECORD} bytes")
    try:
        record = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise RecordRefused("it is not a call record of version 1") from None
    if encode_record(record) != data:
        raise RecordRefused("it is not encoded as the rules say")  # else changed bytes could give one key
    if len(set(record.video.takes)) != len(record.video.takes):
        raise RecordRefused("it names a codec twice")
    addresses = [accept_address(entry.host, entry.port, laboratory=laboratory) for entry in record.candidates]
    if len(set(addresses)) != len(addresses):
        raise RecordRefused("it names a candidate twice")
    if any(entry.host != address.host for entry, address in zip(record.candidates, addresses, strict=True)):
        raise RecordRefused("a candidate's address is not in canonical form")
    return record


def derive_call_key(caller: CallRecord, callee: CallRecord) -> bytes:
    """The 32-byte key of the call: HKDF-SHA256 (RFC 5869) over both sides' keys, bound to both records.

    Whoever changes a byte of either record on the way makes the two sides derive different keys, and nothing decodes.

    Raises:
        RecordRefused: the two keys or the two SSRCs are the same: our own record came back.
    """
    if caller.key == callee.key or caller.audio.ssrc == callee.audio.ssrc:
        raise RecordRefused("it repeats our own")
    transcript = hashlib.sha256()
    for record in (caller, callee):
        encoded = encode_record(record)
        transcript.update(len(encoded).to_bytes(4, "big") + encoded)
    hkdf = HKDF(hashes.SHA256(), KEY_SIZE, salt=transcript.digest(), info=b"relaycall/1 call key")
    return hkdf.derive(caller.key + callee.key)
