"""What a listener tells the speaker once a second, and how it is written: a control message of 80 bytes.

    kind 0x14 | number 4 | received 4 | lost 4 | recovered 4 | concealed 4 | jitter 2 | queue 2 | playout delay 2
    | video received 4 | video lost 4 | frames shown 4 | video height 2 | zeros

Times are in units of 0.1 ms, 6.5 s at most. Decoding is strict: a report has one encoding, and all other bytes are
refused. What it says may still be a lie.
"""

from __future__ import annotations

import struct

from relaycall.errors import MalformedMessage
from relaycall.quality.sample import PeerReport

REPORT = 0x14
REPORT_SIZE = 80  # bytes: as large as a packet of audio
MAX_NUMBER = 0xFFFFFFFF
UNITS_PER_MS = 10

_REPORT = struct.Struct("!BLLLLLHHHLLLH")
_MAX_COUNT, _MAX_UNITS = 0xFFFFFFFF, 0xFFFF


def encode_report(report: PeerReport, number: int) -> bytes:
    """The 80 bytes. What is out of range becomes the nearest that is in it.

    Args:
        number: of the report, rising, so that a late one is told from a new one.
    """
    return _REPORT.pack(
        REPORT,
        _clamped(number, MAX_NUMBER),
        _clamped(report.received, _MAX_COUNT),
        _clamped(report.lost, _MAX_COUNT),
        _clamped(report.recovered, _MAX_COUNT),
        _clamped(report.concealed, _MAX_COUNT),
        _units(report.jitter_ms),
        _units(report.queue_ms),
        _units(report.playout_delay_ms),
        _clamped(report.video_received, _MAX_COUNT),
        _clamped(report.video_lost, _MAX_COUNT),
        _clamped(report.frames_shown, _MAX_COUNT),
        _clamped(report.video_height, _MAX_UNITS),
    ).ljust(REPORT_SIZE, b"\0")


def decode_report(data: bytes) -> tuple[int, PeerReport]:
    """Its number, and what it says. Raises MalformedMessage."""
    if len(data) != REPORT_SIZE or data[0] != REPORT:
        raise MalformedMessage("It is not a report of what was received.")
    if any(data[_REPORT.size :]):
        raise MalformedMessage("A report is not padded with zeros.")
    _, number, received, lost, recovered, concealed, jitter, queue, playout, *video = _REPORT.unpack_from(data)
    times = (units / UNITS_PER_MS for units in (jitter, queue, playout))
    return number, PeerReport(received, lost, recovered, concealed, *times, *video)


def _clamped(count: int, most: int) -> int:
    return min(max(count, 0), most)


def _units(milliseconds: float) -> int:
    if not milliseconds > 0:  # nor is NaN
        return 0
    return round(min(milliseconds * UNITS_PER_MS, _MAX_UNITS))
