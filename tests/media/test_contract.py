"""The private names of aiortc and pylibsrtp that media/ relies on. A new version that lacks one fails here first."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pylibsrtp
import pytest
from aiortc import RTCRtpCodecParameters, RTCRtpReceiver, RTCRtpSender
from aiortc.rtcrtpparameters import RTCRtcpParameters, RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from aiortc.rtp import RtcpPacket, RtcpRrPacket, RtcpSrPacket, RtpPacket
from pylibsrtp._binding import ffi, lib

from relaycall.media.audio import ConstantRateOpus, OpusTrack, SilenceSource
from relaycall.media.playout import Playout
from relaycall.media.srtp import _REFUSALS, Refusal
from relaycall.media.transport import RtpTransport

CODEC = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, channels=2, payloadType=111)


class Recorder:
    """Notes every attribute aiortc asks a transport for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.packets: list[bytes] = []

    def __getattr__(self, name: str) -> object:
        self.asked.add(name)
        if name == "state":
            return "connected"
        if name == "_stats_id":
            return "transport"
        if name == "_get_stats":
            return dict
        if name == "_send_rtp":
            return self._send
        return lambda *args: None

    async def _send(self, data: bytes) -> None:
        self.packets.append(data)


async def test_what_aiortc_asks_of_a_transport(no_leaks: None) -> None:
    recorder = Recorder()
    receiver, sender = RTCRtpReceiver("audio", recorder), RTCRtpSender(OpusTrack(SilenceSource()), recorder)
    receiver._track = RemoteStreamTrack("audio")
    receiver._set_rtcp_ssrc(1)
    sender._ssrc = 1
    await receiver.receive(RTCRtpReceiveParameters(codecs=[CODEC]))
    await sender.send(RTCRtpSendParameters(codecs=[CODEC], rtcp=RTCRtcpParameters(cname="name")))
    await receiver._handle_rtp_packet(RtpPacket(111, 0, 1, 1, 2, bytes(80)), 0)
    await receiver._handle_rtcp_packet(RtcpSrPacket.parse(bytes(24), 0))
    await sender._handle_rtcp_packet(RtcpRrPacket.parse(bytes(28), 1))
    await asyncio.sleep(1.6)
    await receiver.getStats()
    await sender.getStats()
    await sender.stop()
    await receiver.stop()
    await asyncio.sleep(0.01)
    offered = {name for name in dir(RtpTransport) if not name.startswith("__")} | {"state"}
    assert recorder.asked <= offered, "aiortc asks for something RtpTransport does not have"
    assert recorder.asked == {
        *("state", "_stats_id", "_get_stats", "_send_rtp", "_register_rtp_sender", "_register_rtp_receiver"),
        *("_unregister_rtp_sender", "_unregister_rtp_receiver"),
    }
    kinds = {packet[1] for packet in recorder.packets}
    assert kinds == {111 | 0x80, 200, 201, 203}


async def test_the_jitter_buffer_of_a_receiver_can_be_replaced(no_leaks: None) -> None:
    receiver = RTCRtpReceiver("audio", Recorder())
    assert hasattr(receiver, "_RTCRtpReceiver__jitter_buffer")
    heard: list[object] = []
    receiver._RTCRtpReceiver__jitter_buffer = playout = Playout(heard.append)
    receiver._track = RemoteStreamTrack("audio")
    await receiver.receive(RTCRtpReceiveParameters(codecs=[CODEC]))
    threads = threading.active_count()
    receiver._handle_disconnect()
    assert threading.active_count() == threads - 1, "it ends the decoder thread, and nothing else"
    payload = bytes(ConstantRateOpus().encode(bytes(1920), 0))
    for number in range(3):
        coroutine = receiver._handle_rtp_packet(RtpPacket(111, 0, number, 960 * number, 2, payload), 0)
        with pytest.raises(StopIteration):  # it never waits
            coroutine.send(None)
    await receiver.stop()
    playout.close()
    assert len(heard) == playout.played == 3
    assert await receiver._track._queue.get() is None
    assert receiver._track._queue.qsize() == 0, "aiortc does not decode as well"


def test_handlers_and_statistics_are_coroutines_that_never_wait() -> None:
    for function in (
        *(RTCRtpReceiver._handle_rtp_packet, RTCRtpReceiver._handle_rtcp_packet, RTCRtpReceiver.getStats),
        *(RTCRtpSender._handle_rtcp_packet, RTCRtpSender.getStats, RTCRtpSender.stop, RTCRtpReceiver.stop),
    ):
        assert inspect.iscoroutinefunction(function)
    assert list(inspect.signature(RtpPacket).parameters) == [
        *("payload_type", "marker", "sequence_number", "timestamp", "ssrc", "payload")
    ]
    assert inspect.ismethod(RtcpPacket.parse)


def test_the_binding_of_pylibsrtp() -> None:
    assert {"protect", "protect_rtcp", "unprotect", "unprotect_rtcp"} <= {name[5:] for name in dir(lib)}
    assert lib.srtp_err_status_ok == 0
    session = pylibsrtp.Session()
    assert ffi.typeof(session._srtp[0]) is ffi.typeof("srtp_t")
    length = ffi.new("int *")
    assert lib.srtp_unprotect(session._srtp[0], ffi.new("char[]", 100), length) != 0


def test_the_status_codes_of_libsrtp_mean_what_we_think() -> None:
    assert {pylibsrtp.ERRORS[status]: refusal for status, refusal in _REFUSALS.items()} == {
        "authentication failure": Refusal.AUTHENTICATION,
        "replay check failed (bad index)": Refusal.REPLAY,
        "replay check failed (index too old)": Refusal.REPLAY,
        "no appropriate context found": Refusal.WRONG_SSRC,
    }
