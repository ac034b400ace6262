"""What the receiver of video tells its sender: control messages of 80 bytes beside the state of the call.

    arrivals   kind 0x12 | first number 2 | base time 4 | count 1 | count times: 0 for not there, or 1 + time 2 | zeros
    wants      kind 0x13 | flags 1: keyframe 1 | count 1 | count times: number 2                              | zeros

Numbers are RTP sequence numbers, times are in units of 0.25 ms: the base time on any clock of the receiver's, the
others since then. Decoding is strict: a message has one encoding, and all other bytes are refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

from relaycall.errors import MalformedMessage
from relaycall.media.control_stream import CONTROL_PAYLOAD_SIZE

ARRIVALS, WANTS = 0x12, 0x13
TIME_UNIT = 0.00025  # seconds
MAX_ARRIVALS = 36  # packets in a message
MAX_WANTS = 38

_ARRIVALS, _WANTS = struct.Struct("!BHLB"), struct.Struct("!BBB")
_KEYFRAME = 1
_NOT_THERE = 0
_LATEST = 0xFFFE  # units


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Which packets have come, and when.

    Attributes:
        first: sequence number of the first of them; the others follow, 36 in all at most.
        times: when each came, in seconds on the receiver's clock; None: not yet. The first and the last came, and no
            two are more than 16 seconds apart.
    """

    first: int
    times: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Wants:
    """What is needed.

    Attributes:
        numbers: sequence numbers of packets that are to be sent again, 38 at most, each later than the one before and
            less than 32768 later than the first.
        keyframe: whether a keyframe is. If not, there is a number.
    """

    numbers: tuple[int, ...] = ()
    keyframe: bool = False


def encode_arrivals(arrivals: Arrivals) -> bytes:
    """The 80 bytes. A time too long after the earliest becomes the latest that can be told.

    Raises:
        MalformedMessage: there are no times or too many, or the first or the last is None.
    """
    if not 0 < len(arrivals.times) <= MAX_ARRIVALS or arrivals.times[0] is None or arrivals.times[-1] is None:
        raise MalformedMessage("It tells of no packet, or of too many, or does not begin and end with one that came.")
    units = [None if time is None else round(time / TIME_UNIT) for time in arrivals.times]
    base = min(unit for unit in units if unit is not None)
    entries = [_NOT_THERE if unit is None else 1 + min(unit - base, _LATEST) for unit in units]
    head = _ARRIVALS.pack(ARRIVALS, arrivals.first & 0xFFFF, base & 0xFFFFFFFF, len(entries))
    return _padded(head + struct.pack(f"!{len(entries)}H", *entries))


def decode_arrivals(data: bytes) -> Arrivals:
    """Read a message. Its times begin anew every 12 days. Raises MalformedMessage."""
    _check(data, ARRIVALS)
    _, first, base, count = _ARRIVALS.unpack_from(data)
    if not 0 < count <= MAX_ARRIVALS:
        raise MalformedMessage("It tells of no packet, or of too many.")
    entries = struct.unpack_from(f"!{count}H", data, _ARRIVALS.size)
    there = [entry for entry in entries if entry != _NOT_THERE]
    if not entries[0] or not entries[-1] or min(there) != 1:
        raise MalformedMessage("It does not begin and end with a packet that came, or at its base time.")
    _check_padding(data, _ARRIVALS.size + 2 * count)
    times = (None if entry == _NOT_THERE else (base + entry - 1) * TIME_UNIT for entry in entries)
    return Arrivals(first, tuple(times))


def encode_wants(wants: Wants) -> bytes:
    """The 80 bytes. Raises MalformedMessage: it wants nothing or too much, or numbers that are not in order."""
    _check_wants(wants)
    head = _WANTS.pack(WANTS, _KEYFRAME if wants.keyframe else 0, len(wants.numbers))
    return _padded(head + struct.pack(f"!{len(wants.numbers)}H", *wants.numbers))


def decode_wants(data: bytes) -> Wants:
    """Read a message. Raises MalformedMessage."""
    _check(data, WANTS)
    _, flags, count = _WANTS.unpack_from(data)
    if count > MAX_WANTS or flags not in (0, _KEYFRAME):
        raise MalformedMessage("It wants too many packets, or something unknown.")
    _check_padding(data, _WANTS.size + 2 * count)
    wants = Wants(struct.unpack_from(f"!{count}H", data, _WANTS.size), bool(flags))
    _check_wants(wants)
    return wants


def _check_wants(wants: Wants) -> None:
    """Each wish has one encoding: its numbers in order, none of them twice."""
    numbers = wants.numbers
    if len(numbers) > MAX_WANTS or not (numbers or wants.keyframe):
        raise MalformedMessage("It wants nothing, or too much.")
    later = [(number - numbers[0]) & 0xFFFF for number in numbers]
    if any(before >= after for before, after in pairwise(later)) or (later and later[-1] >= 0x8000):
        raise MalformedMessage("Its numbers are not in order.")


def _padded(data: bytes) -> bytes:
    return data.ljust(CONTROL_PAYLOAD_SIZE, b"\0")


def _check(data: bytes, kind: int) -> None:
    if len(data) != CONTROL_PAYLOAD_SIZE or data[0] != kind:
        raise MalformedMessage("It is not a message of this kind.")


def _check_padding(data: bytes, end: int) -> None:
    if any(data[end:]):
        raise MalformedMessage("It is not padded with zeros.")


def unwrapped(number: int, near: int) -> int:
    """The whole number with these low 16 bits that is nearest to `near`."""
    return near + ((number - near + 0x8000) & 0xFFFF) - 0x8000
