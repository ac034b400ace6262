"""The other side does not learn the time of day here, and its reports are understood all the same."""

from __future__ import annotations

import time

import pytest
from aiortc.clock import current_ntp_time
from aiortc.rtp import RtcpPacket, RtcpReceiverInfo, RtcpRrPacket, RtcpSenderInfo, RtcpSrPacket
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.hidden_clock import SHIFT_BITS, HiddenClock
from tests.media.test_session import Call, until

shifts = st.integers(0, (1 << SHIFT_BITS) - 1)


@given(shifts, st.integers(0, (1 << 64) - 1))
def test_what_comes_back_is_what_was_hidden(shift: int, ntp: int) -> None:
    clock = HiddenClock(shift)
    sent = RtcpSrPacket(7, RtcpSenderInfo(ntp, 2, 3, 4), [RtcpReceiverInfo(9, 0, 0, 1, 0, 5, 6)])
    [told] = RtcpPacket.parse(clock.hide(bytes(sent)))
    assert isinstance(told, RtcpSrPacket)
    assert told.sender_info.ntp_timestamp == (ntp + (shift << 16)) % (1 << 64)
    assert (told.ssrc, told.sender_info.rtp_timestamp, told.reports) == (7, 2, sent.reports)
    back = RtcpReceiverInfo(7, 0, 0, 1, 0, told.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF, 6)
    clock.restore([back])
    assert back.lsr == (ntp >> 16 & 0xFFFFFFFF if told.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF else 0)


def test_what_has_no_time_is_left_alone() -> None:
    clock = HiddenClock(123456789)
    report = RtcpReceiverInfo(7, 0, 0, 1, 0, 0, 0)
    clock.restore([report])
    assert report.lsr == 0
    for packet in (bytes(RtcpRrPacket(7, [report])), b"\x80\xc8\0\0"):
        assert clock.hide(packet) == packet


async def test_no_report_tells_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Call() as call:
        told: list[int] = []
        take = call.callee.transport._take_report

        def taken(packet: bytes) -> None:
            [report] = RtcpPacket.parse(packet)
            if isinstance(report, RtcpSrPacket) and report.sender_info.packet_count:
                told.append(report.sender_info.ntp_timestamp)
            take(packet)

        monkeypatch.setattr(call.callee.transport, "_take_report", taken)
        began = time.monotonic()
        await until(lambda: len(told) >= 2, 8)
        lasted = time.monotonic() - began
        assert all(abs(one - current_ntp_time()) > 3600 << 32 for one in told), "one in 600,000 may be near by chance"
        assert 0 < told[1] - told[0] < (lasted + 1) * (1 << 32), "it goes on as time does"
