"""What two sides tell each other during a call, and how it is written: 80 bytes, as large as a packet of audio.

A message is the sender's whole state, never a change of it, so any one that arrives makes up for all that were lost.
Decoding is strict: every state has one encoding, and all other bytes are refused.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from bisect import bisect_right
from dataclasses import dataclass

from relaycall.errors import ConfigError, MalformedMessage, RecordRefused
from relaycall.ice.candidate import MAX_CANDIDATES, accept_address
from relaycall.stun.address import Address

MESSAGE_SIZE = 80  # bytes
STATE = 0x11  # first byte: version 1, kind 1
LAST_SEQUENCE = 0xFFFF  # numbers do not wrap: the last one is kept for a hangup

# Limits on the wire: four steps an octave from 8 kbit/s to 439 Mbit/s, written as 1 to 64; 0 is no limit.
LIMITS = [step << octave for octave in range(16) for step in (8000, 9500, 11300, 13400)]

_HEADER = struct.Struct("!BHHBBB")  # kind, sequence, acknowledgement, flags and hangup, limit, families and count
_MUTED, _VIDEO, _PROTECT, _ASKS = 0x80, 0x40, 0x20, 0x10
_HANGUP = 0x0F


class HangupReason(enum.Enum):
    """Why a running call ends; the value is the code on the wire."""

    FINISHED = 1
    RELAYS_LOST = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class ControlState:
    """What one side has to say about the call.

    Attributes:
        candidates: the relayed addresses it can be reached at, preferred ones first; at most 4, each once.
        muted: whether it sends silence on purpose.
        video: whether it sends video.
        protect: asks the other side to send its audio twice, over paths that share no relay.
        receive_limit: the most it wants to get, in bit/s, 8000 or more; None for no limit. On the wire it is rounded
            down to one of `LIMITS`.
        hangup: why it ended the call; None while it goes on. Final.

    Raises:
        ConfigError: too many candidates, one twice, or a limit that is too low.
    """

    candidates: tuple[Address, ...] = ()
    muted: bool = False
    video: bool = False
    protect: bool = False
    receive_limit: int | None = None
    hangup: HangupReason | None = None

    def __post_init__(self) -> None:
        if len(self.candidates) > MAX_CANDIDATES or len(set(self.candidates)) != len(self.candidates):
            raise ConfigError(f"A side of a call has at most {MAX_CANDIDATES} candidates, and each once.")
        if self.receive_limit is not None and self.receive_limit < LIMITS[0]:
            raise ConfigError(f"A limit on what is received is at least {LIMITS[0]} bit/s.")


@dataclass(frozen=True, slots=True)
class ControlMessage:
    """One message.

    Attributes:
        sequence: number of the state, 0 for the one in the call record, 65535 only with a hangup.
        acknowledgement: number of the latest state that the sender has of the other side.
        asks: the sender does not know yet that its state has arrived, and asks for an acknowledgement.
    """

    sequence: int
    acknowledgement: int
    asks: bool
    state: ControlState


def encode_control(message: ControlMessage) -> bytes:
    """The 80 bytes. The candidates are IP literals."""
    state = message.state
    flags = state.muted * _MUTED | state.video * _VIDEO | state.protect * _PROTECT | message.asks * _ASKS
    hangup = state.hangup.value if state.hangup is not None else 0
    limit = bisect_right(LIMITS, state.receive_limit) if state.receive_limit is not None else 0
    hosts = [ipaddress.ip_address(address.host).packed for address in state.candidates]
    families = sum((len(host) == 16) << (4 + index) for index, host in enumerate(hosts))
    data = _HEADER.pack(
        STATE, message.sequence, message.acknowledgement, flags | hangup, limit, families | len(hosts)
    ) + b"".join(host + address.port.to_bytes(2, "big") for host, address in zip(hosts, state.candidates, strict=True))
    return data.ljust(MESSAGE_SIZE, b"\0")


def decode_control(data: bytes, *, laboratory: bool = False) -> ControlMessage:
    """Read a message of the other side's.

    Args:
        laboratory: allow loopback and private addresses.

    Raises:
        MalformedMessage: names the rule it breaks, never a value.
    """
    if len(data) != MESSAGE_SIZE or data[0] != STATE:
        raise MalformedMessage("It is not a control message of version 1.")
    _, sequence, acknowledgement, flags, limit, shape = _HEADER.unpack_from(data)
    if limit > len(LIMITS):
        raise MalformedMessage("A control message holds an unknown limit.")
    try:
        hangup = HangupReason(flags & _HANGUP) if flags & _HANGUP else None
    except ValueError:
        raise MalformedMessage("A control message holds an unknown reason to hang up.") from None
    if sequence == LAST_SEQUENCE and hangup is None:
        raise MalformedMessage("A control message has the number of a hangup, and is none.")
    state = ControlState(
        candidates=_candidates(data, shape >> 4, shape & 0x0F, laboratory),
        muted=bool(flags & _MUTED),
        video=bool(flags & _VIDEO),
        protect=bool(flags & _PROTECT),
        receive_limit=LIMITS[limit - 1] if limit else None,
        hangup=hangup,
    )
    return ControlMessage(sequence, acknowledgement, bool(flags & _ASKS), state)


def _candidates(data: bytes, families: int, count: int, laboratory: bool) -> tuple[Address, ...]:
    if count > MAX_CANDIDATES or families >> count:
        raise MalformedMessage("A control message announces candidates that cannot be there.")
    candidates = []
    position = _HEADER.size
    for index in range(count):
        end = position + (16 if families >> index & 1 else 4)
        host = str(ipaddress.ip_address(data[position:end]))
        port = int.from_bytes(data[end : end + 2], "big")
        position = end + 2
        try:
            candidates.append(accept_address(host, port, laboratory=laboratory))
        except RecordRefused:
            raise MalformedMessage("A control message holds a candidate that cannot be a relay's.") from None
    if len(set(candidates)) != count:
        raise MalformedMessage("A control message names a candidate twice.")
    if any(data[position:]):
        raise MalformedMessage("A control message is not padded with zeros.")
    return tuple(candidates)
