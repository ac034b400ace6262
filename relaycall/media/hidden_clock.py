"""Keeps the time of day out of RTCP sender reports (RFC 3550, section 6.4.1).

aiortc puts it in to the microsecond. By how much a clock is wrong tells one device from another, and nobody needs to
know: the other side only gives the time back, so that the round trip can be known. It may be any time, as long as it
goes on as time does.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiortc.rtp import RtcpReceiverInfo

from relaycall.media.rtcp import SENDER_REPORT

SHIFT_BITS = 48  # random ones; NTP time has 32 bits of seconds and 32 of a second, and 16 of either are given back
_TIME = slice(8, 16)


class HiddenClock:
    """Another time than ours.

    Args:
        shift: by how much, in 2^-16 seconds; 48 random bits.
    """

    def __init__(self, shift: int) -> None:
        self._shift = shift

    def hide(self, compound: bytes) -> bytes:
        """A compound RTCP packet of ours as it is to be sent. The time is that of the report at its beginning."""
        if compound[1] != SENDER_REPORT or len(compound) < _TIME.stop:
            return compound
        time = int.from_bytes(compound[_TIME], "big") + (self._shift << 16)
        return compound[: _TIME.start] + (time % (1 << 64)).to_bytes(8, "big") + compound[_TIME.stop :]

    def restore(self, reports: Iterable[RtcpReceiverInfo]) -> None:
        """In reports on us, put our time in the place of what the other side was told."""
        for report in reports:
            if report.lsr:  # 0: there was none yet
                report.lsr = (report.lsr - self._shift) % (1 << 32)
