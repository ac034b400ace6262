"""Video packets through the transport: authentic ones once, with what was sent in them, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from relaycall.media import budget
from relaycall.media.srtp import MAX_PACKET, RTP_HEADER_SIZE, TAG_SIZE, derive_keys
from relaycall.media.transport import VIDEO_BUDGET_PACKETS, RtpTransport
from relaycall.media.video.stream import H264_PAYLOAD_TYPE, MAX_VIDEO_PAYLOAD, VP8_PAYLOAD_TYPE
from tests.media.paths import MemoryPath

CALL_KEY = bytes(32)
CALLER_SSRC, CALLEE_SSRC = 0x0A0A0A0A, 0x0B0B0B0B


class Side:
    """A transport, what it sent and what it took."""

    def __init__(self, *, caller: bool, call_key: bytes = CALL_KEY) -> None:
        ours, theirs = (CALLER_SSRC, CALLEE_SSRC) if caller else (CALLEE_SSRC, CALLER_SSRC)
        self.path = MemoryPath()
        self.got: list[bytes] = []
        self.transport = RtpTransport(
            self.path, derive_keys(call_key, caller=caller), local_ssrc=ours, remote_ssrc=theirs, payload_type=111
        )
        self.transport.on_video = lambda packet, now: self.got.append(packet)
        self.transport.open()

    def send(self, number: int, payload: bytes = b"some of a frame", *, last: bool = False) -> bytes:
        packet = self.transport.send_video(number, VP8_PAYLOAD_TYPE, number * 3000, payload, last=last)
        assert packet is not None
        return packet


@pytest.fixture
async def sides() -> tuple[Side, Side]:
    await asyncio.sleep(0)
    return Side(caller=True), Side(caller=False)


async def test_a_packet_arrives_as_it_was_sent(sides: tuple[Side, Side]) -> None:
    caller, callee = sides
    packet = caller.transport.send_video(65537, H264_PAYLOAD_TYPE, (1 << 32) + 5, b"slice", last=True)
    assert packet is not None
    assert callee.transport.receive(packet) is True
    header, payload = callee.got[0][:RTP_HEADER_SIZE], callee.got[0][RTP_HEADER_SIZE:]
    assert payload == b"slice"
    assert header[:8] == bytes([0x80, 0x80 | H264_PAYLOAD_TYPE]) + (1).to_bytes(2, "big") + (5).to_bytes(4, "big")
    counters = callee.transport.counters
    assert (counters.video_received, counters.video_bytes_received) == (1, len(packet))
    assert (caller.transport.counters.video_sent, caller.transport.counters.video_bytes_sent) == (1, len(packet))


async def test_what_is_sent_again_is_taken_once(sides: tuple[Side, Side]) -> None:
    caller, callee = sides
    packet = caller.send(1)
    assert caller.transport.send_video_again(packet) is True
    for _ in range(3):
        callee.transport.receive(packet)
    assert len(callee.got) == 1
    assert callee.transport.counters.copies == 1, "over a second path, or sent again"
    assert callee.transport.counters.dropped.replay == 1


async def test_a_stranger_is_not_taken(sides: tuple[Side, Side]) -> None:
    _, callee = sides
    stranger = Side(caller=True, call_key=b"x" * 32)
    assert callee.transport.receive(stranger.send(1)) is False
    packet = bytearray(sides[0].send(2))
    packet[20] ^= 1
    assert callee.transport.receive(bytes(packet)) is False
    assert callee.transport.receive(sides[0].send(3)[: RTP_HEADER_SIZE + TAG_SIZE]) is False
    assert callee.got == []
    assert callee.transport.counters.dropped.wrong_ssrc == 1, "the SSRC comes of the key, too"
    assert callee.transport.counters.dropped.authentication == 1
    assert callee.transport.counters.dropped.malformed == 1


async def test_our_own_packet_comes_back(sides: tuple[Side, Side]) -> None:
    caller, _ = sides
    assert caller.transport.receive(caller.send(1)) is False
    assert caller.got == []


async def test_without_a_taker_it_is_dropped(sides: tuple[Side, Side]) -> None:
    caller, callee = sides
    callee.transport.on_video = None
    assert callee.transport.receive(caller.send(1)) is False
    assert callee.transport.counters.dropped.wrong_payload_type == 1


async def test_a_flood_is_dropped(sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch) -> None:
    now = budget.monotonic()
    monkeypatch.setattr(budget, "monotonic", lambda: now)
    caller, callee = sides
    for number in range(VIDEO_BUDGET_PACKETS + 10):
        assert callee.transport.receive(caller.send(number)) is True
    assert len(callee.got) == VIDEO_BUDGET_PACKETS
    assert callee.transport.counters.dropped.flood == 10
    now += 10
    callee.transport.receive(caller.send(VIDEO_BUDGET_PACKETS + 10))
    assert len(callee.got) == VIDEO_BUDGET_PACKETS + 1


async def test_what_a_taker_raises_is_counted(sides: tuple[Side, Side]) -> None:
    caller, callee = sides

    def fail(packet: bytes, now: float) -> None:
        raise ValueError

    callee.transport.on_video = fail
    assert callee.transport.receive(caller.send(1)) is True
    assert callee.transport.counters.dropped.malformed == 1


async def test_sizes(sides: tuple[Side, Side]) -> None:
    caller, callee = sides
    packet = caller.send(1, bytes(MAX_VIDEO_PAYLOAD))
    assert len(packet) == MAX_PACKET
    assert callee.transport.receive(packet) is True
    for payload in (b"", bytes(MAX_VIDEO_PAYLOAD + 1)):
        assert caller.transport.send_video(2, VP8_PAYLOAD_TYPE, 0, payload, last=True) is None
    assert caller.transport.counters.dropped.unsent == 2


async def test_nothing_is_sent_once_closed(sides: tuple[Side, Side]) -> None:
    caller, _ = sides
    packet = caller.send(1)
    caller.transport.close()
    assert caller.transport.send_video(2, VP8_PAYLOAD_TYPE, 0, b"x", last=True) is None
    assert caller.transport.send_video_again(packet) is False
    assert caller.transport.on_video is None
