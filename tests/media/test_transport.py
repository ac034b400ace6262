"""The transport under aiortc: what gets through, what is dropped and under which name it is counted."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import asdict
from typing import Any

import pytest
from aiortc.rtp import (
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaycall.media import budget
from relaycall.media import transport as transport_module
from relaycall.media.control_stream import ControlStream
from relaycall.media.counters import Dropped, TransportCounters
from relaycall.media.srtp import OutgoingSrtp, Refusal, derive_keys
from relaycall.media.transport import BUDGET_PACKETS, MAX_SIZES, MAX_WAITING, RtpTransport
from tests.media.paths import MemoryPath

CALL_KEY = bytes(32)
OURS, THEIRS = 0x0A0A0A0A, 0x0B0B0B0B
REPORT = RtcpReceiverInfo(OURS, 0, 0, 1, 0, 0, 0)
SENDER_REPORT = RtcpSrPacket(THEIRS, RtcpSenderInfo(1, 2, 3, 4))
RECEIVER_REPORT = RtcpRrPacket(THEIRS, [REPORT])
DESCRIPTION = RtcpSdesPacket([RtcpSourceInfo(THEIRS, [(1, b"name")])])


class Taker:
    """Stands for aiortc's sender or receiver."""

    def __init__(self) -> None:
        self.rtp: list[Any] = []
        self.rtcp: list[Any] = []

    async def _handle_rtp_packet(self, packet: Any, arrival_time_ms: int) -> None:
        self.rtp.append(packet)

    async def _handle_rtcp_packet(self, packet: Any) -> None:
        self.rtcp.append(packet)


class Bench:
    """A transport of the callee, and the keys of its peer."""

    def __init__(self) -> None:
        self.path = MemoryPath()
        keys = derive_keys(CALL_KEY, caller=False)
        self.transport = RtpTransport(self.path, keys, local_ssrc=OURS, remote_ssrc=THEIRS, payload_type=111)
        self.receiver, self.sender = Taker(), Taker()
        self.transport._register_rtp_receiver(self.receiver, None)
        self.transport._register_rtp_sender(self.sender, None)
        self.transport.open()
        theirs = derive_keys(CALL_KEY, caller=True)
        self.peer = OutgoingSrtp(theirs.send, THEIRS)
        self.peer_control = ControlStream(theirs, THEIRS, OURS)
        self.controls: list[bytes] = []
        self.transport.on_control = self.controls.append

    def rtp(self, number: int = 1, payload: bytes = bytes(80), first: int = 0x80, kind: int = 111) -> bytes:
        protected = self.peer.protect_rtp(rtp(number, payload, first, kind))
        assert isinstance(protected, bytes)
        return protected

    def control(self, payload: bytes) -> bytes:
        protected = self.peer_control.protect(payload)
        assert isinstance(protected, bytes)
        return protected

    def rtcp(self, *packets: Any) -> bytes:
        protected = self.peer.protect_rtcp(b"".join(bytes(packet) for packet in packets))
        assert isinstance(protected, bytes)
        return protected

    def receive(self, *packets: bytes) -> dict[str, int]:
        """What was dropped, by reason, after these packets."""
        for packet in packets:
            self.path.deliver(packet)
        return {reason: count for reason, count in asdict(self.transport.counters.dropped).items() if count}


def rtp(number: int, payload: bytes = bytes(80), first: int = 0x80, kind: int = 111, ssrc: int = THEIRS) -> bytes:
    return struct.pack("!BBHLL", first, kind, number & 0xFFFF, 960 * number & 0xFFFFFFFF, ssrc) + payload


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_refusal_has_its_counter() -> None:
    assert {refusal.value for refusal in Refusal} - {"copies"} <= set(asdict(Dropped()))
    assert TransportCounters().copies == 0


def test_audio_gets_through_and_is_counted(bench: Bench) -> None:
    assert bench.receive(bench.rtp(1, b"a" * 80), bench.rtp(2, b"b" * 80, kind=111 | 0x80)) == {}
    first, second = bench.receiver.rtp
    assert (first.payload, first.marker, first.sequence_number) == (b"a" * 80, 0, 1)
    assert (first.timestamp, first.ssrc, first.payload_type) == (960, THEIRS, 111)
    assert (second.payload, second.marker) == (b"b" * 80, 1)
    counters = bench.transport.counters
    assert (counters.packets_received, counters.bytes_received, counters.audio_received) == (2, 216, 2)
    assert counters.received_sizes == {108}


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", "not_media"),
        (b"\x80", "not_media"),
        (b"\x80" * 11, "not_media"),
        (rtp(1, bytes(1489)), "not_media"),
        (rtp(1, first=0x00), "not_media"),  # STUN
        (rtp(1, first=0x16), "not_media"),  # DTLS
        (rtp(1, first=0x40), "not_media"),  # ChannelData
        (rtp(1, first=0xC0), "not_media"),
        (rtp(1, kind=96), "wrong_payload_type"),
        (rtp(1, kind=0), "wrong_payload_type"),
        (rtp(1, ssrc=OURS), "wrong_ssrc"),
        (rtp(1, first=0x90), "malformed"),  # a header extension
        (rtp(1, first=0xA0), "malformed"),  # padding
        (rtp(1, first=0x81), "malformed"),  # a CSRC
        (rtp(1), "authentication"),
        (rtp(1, b""), "malformed"),
        (struct.pack("!BBHLL", 0x80, 200, 6, OURS, 0) + bytes(40), "wrong_ssrc"),
        (struct.pack("!BBHLL", 0x80, 200, 6, THEIRS, 0) + bytes(40), "authentication"),
    ],
)
def test_what_is_not_from_the_peer_is_dropped(bench: Bench, packet: bytes, reason: str) -> None:
    assert bench.receive(packet) == {reason: 1}
    assert bench.receive(bench.rtp(7)) == {reason: 1}, "audio goes on"
    assert len(bench.receiver.rtp) == 1
    assert bench.receiver.rtcp == bench.sender.rtcp == []


def test_authentic_packets_that_are_not_call_audio_are_dropped(bench: Bench) -> None:
    assert bench.receive(bench.rtp(1, kind=96)) == {"wrong_payload_type": 1}
    assert bench.receive(bench.rtp(2, b"\xbe\xde\0\0" + bytes(80), first=0x90)) == {
        "wrong_payload_type": 1,
        "malformed": 1,
    }
    assert bench.receiver.rtp == []


def test_an_empty_payload_is_dropped(bench: Bench) -> None:
    assert bench.receive(bench.rtp(1, b"")) == {"malformed": 1}


def test_altered_and_copied_packets(bench: Bench) -> None:
    packet, counters = bench.rtp(1), bench.transport.counters
    altered = packet[:-1] + bytes([packet[-1] ^ 1])
    assert bench.receive(altered) == {"authentication": 1}
    assert bench.receive(packet) == {"authentication": 1}
    assert bench.receive(altered) == {"authentication": 1, "replay": 1}
    assert bench.receive(packet) == {"authentication": 1, "replay": 1}
    assert counters.copies == 1
    assert bench.receive(packet) == {"authentication": 1, "replay": 2}, "each packet has one copy"
    report = bench.rtcp(SENDER_REPORT)
    altered = report[:-5] + bytes([report[-5] ^ 1]) + report[-4:]
    assert bench.receive(report, altered, report, report) == {"authentication": 1, "replay": 4}
    assert counters.copies == 2
    assert len(bench.receiver.rtp) == 1
    assert len(bench.receiver.rtcp) == 1


def test_receive_says_what_is_authentic(bench: Bench) -> None:
    receive = bench.transport.receive
    packet, report, control = bench.rtp(1), bench.rtcp(SENDER_REPORT), bench.control(bytes(80))
    for data in (packet, report, control):
        altered = bytes([*data[:-5], data[-5] ^ 1, *data[-4:]])
        for received, authentic in ((altered, False), (data, True), (altered, False), (data, True), (data, False)):
            assert receive(received) is authentic
    for data in (b"", b"\x80", rtp(2), rtp(2, kind=96), rtp(2, first=0x90), rtp(2, ssrc=OURS), rtp(2, kind=126)):
        assert receive(data) is False
    assert receive(bench.rtp(3, b"")) is True
    assert receive(bench.rtcp(struct.pack("!BBHL", 0x80, 200, 1, THEIRS))) is True
    assert len(bench.receiver.rtp) == len(bench.receiver.rtcp) == len(bench.controls) == 1


def test_arrivals_are_logged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1.0
    monkeypatch.setattr(transport_module, "monotonic", lambda: now)
    bench.receive(bench.rtp(1))
    now = 1.5
    bench.receive(bench.rtp(2), rtp(3), bench.rtp(6), bench.rtp(7, b""), bench.control(bytes(80)))
    assert bench.transport.arrivals.gap_ms(1.2) == 500
    assert bench.transport.arrivals.lost(1.2) == 3


def test_reports_reach_whom_they_are_for(bench: Bench) -> None:
    with_report = RtcpSrPacket(THEIRS, RtcpSenderInfo(1, 2, 3, 4), [REPORT])
    assert bench.receive(bench.rtcp(SENDER_REPORT), bench.rtcp(RECEIVER_REPORT), bench.rtcp(with_report)) == {}
    assert bench.receiver.rtcp == [SENDER_REPORT, with_report]
    assert bench.sender.rtcp == [RECEIVER_REPORT, with_report]
    assert bench.transport.counters.rtcp_received == 3


def test_descriptions_and_goodbyes_end_here(bench: Bench) -> None:
    assert bench.receive(bench.rtcp(SENDER_REPORT, DESCRIPTION, RtcpByePacket([THEIRS]))) == {}
    assert bench.transport.counters.goodbyes == 1
    assert bench.receiver.rtcp == [SENDER_REPORT]
    assert bench.sender.rtcp == []


def test_other_kinds_of_rtcp_are_dropped_one_by_one(bench: Bench) -> None:
    others = [
        RtcpPsfbPacket(1, THEIRS, OURS),
        RtcpPsfbPacket(15, THEIRS, OURS, b"REMB"),
        RtcpRtpfbPacket(1, THEIRS, OURS, [1, 2, 3]),
        struct.pack("!BBHL", 0x80, 204, 1, THEIRS),  # APP
        struct.pack("!BBHL", 0x80, 207, 1, THEIRS),  # XR
    ]
    assert bench.receive(bench.rtcp(RECEIVER_REPORT, *others, RECEIVER_REPORT)) == {"rtcp_kind": 5}
    assert bench.sender.rtcp == [RECEIVER_REPORT, RECEIVER_REPORT]


def test_a_report_in_the_name_of_another_is_dropped(bench: Bench) -> None:
    strangers = [RtcpSrPacket(number, RtcpSenderInfo(1, 2, 3, 4)) for number in range(5)]
    assert bench.receive(bench.rtcp(RECEIVER_REPORT, *strangers)) == {"wrong_ssrc": 5}
    assert bench.receiver.rtcp == []


@pytest.mark.parametrize(
    "compound",
    [
        struct.pack("!BBHL", 0x80, 200, 1, THEIRS),  # a sender report without its sender
        struct.pack("!BBHL", 0x81, 201, 1, THEIRS),  # a report is announced and missing
        struct.pack("!BBHL", 0xA0, 201, 1, THEIRS),  # padding of a wrong length
        struct.pack("!BBHL", 0x80, 201, 2, THEIRS),  # longer than the packet
        bytes(RECEIVER_REPORT) + b"\x80",
        bytes(RECEIVER_REPORT) + b"\x00\xc9\0\0",
        bytes(RECEIVER_REPORT) + struct.pack("!BBH", 0x80, 201, 0),
    ],
)
def test_malformed_rtcp(bench: Bench, compound: bytes) -> None:
    assert bench.receive(bench.rtcp(compound)) == {"malformed": 1}


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_garbage_never_escapes(packets: list[bytes]) -> None:
    bench = Bench()
    bench.receive(*packets)
    assert sum(asdict(bench.transport.counters.dropped).values()) == len(packets)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_authentic_garbage_never_escapes(rtp_payload: bytes, rtcp_payload: bytes) -> None:
    bench = Bench()
    bench.receive(bench.rtp(1, rtp_payload))
    bench.receive(bench.rtcp(struct.pack("!BBHL", 0x80, 201, 1, THEIRS), rtcp_payload))
    bench.receive(bench.rtcp(struct.pack("!BBHL", 0x80, 200, 1 + len(rtcp_payload) // 4, THEIRS), rtcp_payload))
    assert bench.transport.counters.audio_received == bool(rtp_payload)


@pytest.mark.parametrize(
    "error",
    [StopIteration, AssertionError, IndexError, KeyError, AttributeError, TypeError, struct.error, RuntimeError],
)
def test_what_aiortc_raises_is_counted(bench: Bench, error: type[Exception]) -> None:
    async def fail(*args: object) -> None:
        raise error

    bench.receiver._handle_rtp_packet = fail  # type: ignore[method-assign]
    bench.sender._handle_rtcp_packet = fail  # type: ignore[method-assign]
    assert bench.receive(bench.rtp(1), bench.rtcp(RECEIVER_REPORT)) == {"malformed": 2}


async def test_a_handler_that_waits_goes_on_as_a_task(bench: Bench, no_leaks: None) -> None:
    steps: list[object] = []
    door: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handle(packet: Any, arrival_time_ms: int) -> None:
        steps.append("entered")
        await asyncio.sleep(0)
        steps.append(await door)
        await asyncio.sleep(0.001)
        steps.append("left")

    bench.receiver._handle_rtp_packet = handle  # type: ignore[method-assign]
    bench.receive(bench.rtp(1))
    assert steps == ["entered"]
    await asyncio.sleep(0.01)
    door.set_result("door opened")
    await asyncio.sleep(0.02)
    assert steps == ["entered", "door opened", "left"]
    assert bench.receive() == {}


async def test_a_handler_that_fails_after_waiting_is_counted(bench: Bench, no_leaks: None) -> None:
    async def handle(packet: Any, arrival_time_ms: int) -> None:
        await asyncio.sleep(0)
        raise KeyError

    bench.receiver._handle_rtp_packet = handle  # type: ignore[method-assign]
    bench.receive(bench.rtp(1))
    await asyncio.sleep(0.01)
    assert bench.receive() == {"malformed": 1}


async def test_handlers_that_wait_are_bounded_and_end_with_the_transport(bench: Bench, no_leaks: None) -> None:
    async def handle(packet: Any, arrival_time_ms: int) -> None:
        await asyncio.Event().wait()

    bench.receiver._handle_rtp_packet = handle  # type: ignore[method-assign]
    before = len(asyncio.all_tasks())
    assert bench.receive(*(bench.rtp(number) for number in range(MAX_WAITING + 5))) == {"flood": 5}
    assert len(asyncio.all_tasks()) == before + MAX_WAITING
    bench.transport.close()
    await asyncio.sleep(0.01)
    assert len(asyncio.all_tasks()) == before


def test_a_peer_cannot_keep_us_busy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now = budget.monotonic()
    monkeypatch.setattr(budget, "monotonic", lambda: now)
    packets = [bench.rtp(number) for number in range(BUDGET_PACKETS + 10)]
    assert bench.receive(*packets) == {"flood": 10}
    for packet in (bench.rtp(2000), bench.rtcp(RECEIVER_REPORT), bench.control(bytes(80))):
        assert bench.transport.receive(packet) is True, "authentic, though not taken"
    assert len(bench.receiver.rtp) == BUDGET_PACKETS
    now += 10
    assert bench.receive(bench.rtp(5000)) == {"flood": 13}
    assert len(bench.receiver.rtp) == BUDGET_PACKETS + 1


def test_forged_packets_do_not_use_up_the_budget(bench: Bench) -> None:
    assert bench.receive(*(rtp(number) for number in range(2 * BUDGET_PACKETS))) == {
        "authentication": 2 * BUDGET_PACKETS
    }
    bench.receive(bench.rtp(1))
    assert len(bench.receiver.rtp) == 1


def test_timestamps_go_on_where_32_bits_end(bench: Bench) -> None:
    start = (1 << 32) // 960 - 2
    bench.receive(*(bench.rtp(number) for number in (start, start + 1, start + 3, start + 2, start + 4)))
    assert [packet.timestamp // 960 - start for packet in bench.receiver.rtp] == [0, 1, 3, 2, 4]


def test_the_sizes_remembered_are_bounded(bench: Bench) -> None:
    bench.receive(*(bench.rtp(size, bytes(size)) for size in range(1, 200)))
    assert len(bench.transport.counters.received_sizes) == MAX_SIZES


async def test_sending(bench: Bench) -> None:
    await bench.transport._send_rtp(rtp(1, ssrc=OURS))
    await bench.transport._send_rtp(bytes(RtcpRrPacket(OURS)))
    await bench.transport._send_rtp(rtp(2, bytes(1480), ssrc=OURS))
    assert [len(packet) for packet in bench.path.sent] == [108, 28]
    counters = bench.transport.counters
    assert (counters.packets_sent, counters.bytes_sent) == (2, 136)
    assert (counters.audio_sent, counters.rtcp_sent, counters.dropped.unsent) == (1, 1, 1)
    assert counters.sent_sizes == {108}


async def test_nothing_is_sent_before_open_or_after_close() -> None:
    path = MemoryPath()
    keys = derive_keys(CALL_KEY, caller=False)
    transport = RtpTransport(path, keys, local_ssrc=OURS, remote_ssrc=THEIRS, payload_type=111)
    with pytest.raises(ConnectionError):
        await transport._send_rtp(rtp(1, ssrc=OURS))
    transport.open()
    assert path.receiver is not None
    transport.close()
    assert path.receiver is None
    with pytest.raises(ConnectionError):
        await transport._send_rtp(rtp(1, ssrc=OURS))
    assert path.sent == []


async def test_a_path_that_is_closed_ends_sending_as_aiortc_expects(bench: Bench) -> None:
    bench.path.closed = True
    with pytest.raises(ConnectionError):
        await bench.transport._send_rtp(rtp(1, ssrc=OURS))
    assert bench.transport.state == "closed"
    bench.transport.close()
    bench.transport.close()


def test_after_unregistering_packets_go_nowhere(bench: Bench) -> None:
    bench.transport._unregister_rtp_receiver(bench.receiver)
    bench.transport._unregister_rtp_sender(bench.sender)
    assert bench.receive(bench.rtp(1), bench.rtcp(SENDER_REPORT), bench.rtcp(RECEIVER_REPORT)) == {}
    assert bench.receiver.rtp == bench.receiver.rtcp == bench.sender.rtcp == []
