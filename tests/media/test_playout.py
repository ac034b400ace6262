"""What a call hears: order, loss, and packets that are not Opus."""

from __future__ import annotations

import pytest
from aiortc.rtp import RtpPacket
from av import AudioFrame
from hypothesis import given
from hypothesis import strategies as st

from relaycall.media.audio import ConstantRateOpus, ToneSource
from relaycall.media.playout import MAX_WAIT, Playout

PAYLOAD = bytes(ConstantRateOpus().encode(ToneSource().read() or b"", 0))


class Listener:
    def __init__(self) -> None:
        self.frames: list[AudioFrame] = []
        self.playout = Playout(self.frames.append)

    def hears(self, *numbers: int, start: int = 1000) -> list[int]:
        """Feed the packets with these numbers; which numbers have been heard so far."""
        for number in numbers:
            packet = RtpPacket(111, 0, (start + number) & 0xFFFF, 5000 + 960 * number, 1, PAYLOAD)
            assert self.playout.add(packet) == (False, None)
        return [(frame.pts or 0) // 960 for frame in self.frames]


@pytest.fixture
def listener() -> Listener:
    return Listener()


def test_packets_in_order_are_heard_at_once(listener: Listener) -> None:
    for number in range(5):
        assert listener.hears(number) == list(range(number + 1))
    frame = listener.frames[0]
    assert (frame.format.name, frame.layout.name, frame.sample_rate, frame.samples) == ("s16", "mono", 48000, 960)


def test_packets_out_of_order_are_put_in_order(listener: Listener) -> None:
    assert listener.hears(0, 2, 3) == [0]
    assert listener.hears(1) == [0, 1, 2, 3]


def test_a_lost_packet_is_waited_for_60_ms(listener: Listener) -> None:
    numbers = list(range(2, 2 + MAX_WAIT))
    assert listener.hears(0, *numbers) == [0]
    assert listener.hears(2 + MAX_WAIT) == [0, *numbers, 2 + MAX_WAIT]
    assert listener.hears(3 + MAX_WAIT)[-1] == 3 + MAX_WAIT, "no delay remains"
    assert listener.hears(1)[-1] == 3 + MAX_WAIT
    assert listener.playout.late == 1


def test_after_an_outage_sound_is_back_at_once(listener: Listener) -> None:
    assert listener.hears(0, 1, 21) == [0, 1, 21]
    assert listener.hears(10000) == [0, 1, 21, 10000]


def test_two_holes(listener: Listener) -> None:
    assert listener.hears(0, 2, 4) == [0]
    assert listener.hears(6) == [0, 2]
    assert listener.hears(7) == [0, 2, 4]
    assert listener.hears(5) == [0, 2, 4, 5, 6, 7]


def test_duplicates_are_heard_once(listener: Listener) -> None:
    assert listener.hears(0, 0, 2, 2, 1) == [0, 1, 2]


def test_sequence_numbers_wrap(listener: Listener) -> None:
    assert listener.hears(0, 1, 3, 2, 4, 9, start=65533) == [0, 1, 2, 3, 4, 9]


@given(st.lists(st.integers(0, 65535), max_size=60))
def test_any_order_is_survived_and_little_is_kept(numbers: list[int]) -> None:
    playout = Playout(lambda frame: None)
    for number in numbers:
        playout.add(RtpPacket(111, 0, number, 960 * number, 1, PAYLOAD))
        assert len(playout._waiting) <= MAX_WAIT + 1


@given(st.binary(min_size=1, max_size=300))
def test_what_is_not_opus_is_counted_and_sound_goes_on(payload: bytes) -> None:
    frames: list[AudioFrame] = []
    playout = Playout(frames.append)
    playout.add(RtpPacket(111, 0, 0, 0, 1, payload))
    playout.add(RtpPacket(111, 0, 1, 960, 1, PAYLOAD))
    assert playout.undecodable <= 1
    assert frames[-1].pts == 960
    assert frames[-1].samples == 960


def test_garbage_is_counted(listener: Listener) -> None:
    listener.playout.add(RtpPacket(111, 0, 1000, 5000, 1, b"\xff" * 5))
    assert listener.playout.undecodable == 1
    assert listener.hears(1) == [1]
