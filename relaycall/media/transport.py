"""What carries RTP between aiortc's sender and receiver and a packet path.

aiortc asks eight things of a transport: `state`, `_stats_id`, `_get_stats`, `_send_rtp` and the four `_register_` and
`_unregister_` methods. Packets arrive by a plain call and are handled within it: no queue, no task.

Only what an audio call needs gets through, and everything else is dropped and counted: RTP of one SSRC and one
payload type with a bare header, and of RTCP the sender and receiver reports. SDES and BYE are accepted and end here:
a BYE would stop aiortc's decoder for good, and hanging up has its own road.

That road is a second stream each way, with keys, SSRC and payload type of its own: control packets. What is in them is
the business of who sets `on_control` or `on_kind`; here they are 80 bytes, so that on the way they are as large as
audio. Video is a third stream, sent and taken in one packet at a time; who has set `on_video` knows what to do with it.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
import types
from collections.abc import Callable, Coroutine, Generator
from time import monotonic
from typing import Any, Protocol

from aiortc.rtp import RtcpPacket, RtcpRrPacket, RtcpSrPacket, RtpPacket
from aiortc.stats import RTCStatsReport

from relaycall.errors import CallClosed, ConfigError, MalformedMessage, RelaycallError
from relaycall.media.arrivals import ArrivalLog
from relaycall.media.budget import Budget
from relaycall.media.control_stream import CONTROL_PAYLOAD_TYPE, ControlStream
from relaycall.media.counters import TransportCounters
from relaycall.media.hidden_clock import SHIFT_BITS, HiddenClock
from relaycall.media.rtcp import GOODBYE, RECEIVER_REPORT, RTCP_KINDS, SENDER_REPORT, SOURCE_DESCRIPTION, split_compound
from relaycall.media.srtp import BARE_HEADER, MAX_PACKET, RTP_HEADER_SIZE, IncomingSrtp, OutgoingSrtp, Refusal, SrtpKeys
from relaycall.media.video.stream import VIDEO_PAYLOAD_TYPES, VideoStream

MAX_SIZES = 64  # distinct packet sizes remembered
# A peer may not keep us busier than this in 5 s with packets that are its own. Of audio, control and reports it is 4
# times the audio rate, stalls included; of video twice what the highest rate of relaycall's own takes.
BUDGET_PACKETS = 1000
VIDEO_BUDGET_PACKETS = 2500
MAX_WAITING = 32  # calls into aiortc that did not end at once

_RTP_HEADER = struct.Struct("!BBHLL")


class PacketPath(Protocol):
    """What carries packets to the peer and back."""

    def send_packet(self, data: bytes, *, once: bool = False) -> None:
        """Send one packet now, or drop it; `once`: over one path only. Never blocks; raises CallClosed once closed."""

    def set_receiver(self, receiver: Callable[[bytes], bool] | None) -> None:
        """Who gets each received packet that is not STUN, by a synchronous call. None: nobody.

        It returns whether the packet is authentic: the peer made it, and it or a copy of it has come.
        """


class RtpTransport:
    """One audio stream and one of control packets each way over a packet path.

    Args:
        path: carries the packets.
        keys: of this side.
        local_ssrc: what we send as.
        remote_ssrc: the only source that is accepted.
        payload_type: of the audio, 96 to 127 without 126, both ways.

    Attributes:
        on_control: called with the 80 bytes of each new control packet, within `receive`. What it raises is counted.
        on_kind: called instead of `on_control`, by the first of the 80 bytes.
        on_video: called with the RTP packet and the time of arrival of each new video packet. Without one they are
            dropped. What it raises is counted.
        begun: an event, set when the first audio packet of the peer has come.
        arrivals: the latest audio packets, for reports on gaps.

    Raises:
        ConfigError: the payload type is that of control packets.
        MediaError: libsrtp lacks AES-GCM.
    """

    def __init__(
        self, path: PacketPath, keys: SrtpKeys, *, local_ssrc: int, remote_ssrc: int, payload_type: int
    ) -> None:
        if payload_type == CONTROL_PAYLOAD_TYPE:
            raise ConfigError(f"The payload type {CONTROL_PAYLOAD_TYPE} is taken by control packets.")
        self.counters = TransportCounters()
        self.on_control: Callable[[bytes], None] | None = None
        self.on_kind: dict[int, Callable[[bytes], None]] = {}
        self.on_video: Callable[[bytes, float], None] | None = None
        self.begun = asyncio.Event()
        self.arrivals = ArrivalLog()
        self.state = "new"  # then "connected", then "closed": aiortc's words
        self._path = path
        self._outgoing = OutgoingSrtp(keys.send, local_ssrc)
        self._incoming = IncomingSrtp(keys.receive, remote_ssrc)
        self._control = ControlStream(keys, local_ssrc, remote_ssrc)
        self._video = VideoStream(keys, local_ssrc, remote_ssrc)
        self._clock = HiddenClock(secrets.randbits(SHIFT_BITS))
        self._remote_ssrc = remote_ssrc
        self._payload_type = payload_type
        self._sender: Any = None
        self._receiver: Any = None
        self._timestamp: int | None = None  # of the latest packet, unwrapped
        self._budget = Budget(BUDGET_PACKETS)
        self._video_budget = Budget(VIDEO_BUDGET_PACKETS)
        self._waiting: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin to send and receive. Raises CallClosed if the path is closed."""
        self._path.set_receiver(self.receive)
        self.state = "connected"

    def close(self) -> None:
        """Send and receive nothing any more. Idempotent, raises nothing."""
        if self.state == "new":
            self.state = "closed"
            return
        self.state = "closed"
        self._receiver = self._sender = self.on_control = self.on_video = None
        self.on_kind.clear()
        for task in self._waiting:
            task.cancel()
        try:
            self._path.set_receiver(None)
        except RelaycallError:
            return  # the path was closed first

    # --- received -----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> bool:
        """Take one packet from the path. Raises nothing, whatever it holds.

        Returns:
            Whether it is authentic: made by the peer, and new or a copy of a recent packet that was.
        """
        counters, dropped, size = self.counters, self.counters.dropped, len(data)
        counters.packets_received += 1
        counters.bytes_received += size
        if not RTP_HEADER_SIZE <= size <= MAX_PACKET or data[0] >> 6 != 2:
            dropped.not_media += 1
            return False
        kind = data[1]
        if kind in RTCP_KINDS:
            return self._receive_rtcp(data)
        if kind == CONTROL_PAYLOAD_TYPE:
            return self._receive_control(data)
        if kind & 0x7F in VIDEO_PAYLOAD_TYPES:
            return self._receive_video(data)
        if kind & 0x7F != self._payload_type:
            dropped.wrong_payload_type += 1
            return False
        if data[0] != BARE_HEADER:
            dropped.malformed += 1
            return False
        plain = self._incoming.unprotect_rtp(data)  # refuses other SSRCs; the header is authentic with the rest
        if not isinstance(plain, bytes):
            return self._refused(plain)
        if len(plain) == RTP_HEADER_SIZE:  # an empty payload would end aiortc's decoder for good
            dropped.malformed += 1
            return True
        if not self._within_budget():
            return True
        if not counters.audio_received:
            self.begun.set()
        counters.audio_received += 1
        if size not in counters.received_sizes and len(counters.received_sizes) < MAX_SIZES:
            counters.received_sizes.add(size)
        _, _, sequence_number, timestamp, ssrc = _RTP_HEADER.unpack_from(plain)
        self.arrivals.add(monotonic(), sequence_number)
        if self._receiver is not None:
            packet = RtpPacket(
                self._payload_type, kind >> 7, sequence_number, self._unwrap(timestamp), ssrc, plain[RTP_HEADER_SIZE:]
            )
            self._run(self._receiver._handle_rtp_packet(packet, 0))  # the arrival time is used for video only
        return True

    def _receive_control(self, data: bytes) -> bool:
        payload = self._control.unprotect(data)
        if not isinstance(payload, bytes):
            return self._refused(payload)
        if not self._within_budget():
            return True
        self.counters.control_received += 1
        try:
            handler = self.on_kind.get(payload[0], self.on_control)
            if handler is not None:
                handler(payload)
        except Exception:  # a fault there must not end the path
            self.counters.dropped.malformed += 1
        return True

    def _receive_video(self, data: bytes) -> bool:
        counters = self.counters
        if self.on_video is None:
            counters.dropped.wrong_payload_type += 1
            return False
        plain = self._video.unprotect(data)
        if not isinstance(plain, bytes):
            return self._refused(plain)
        now = monotonic()
        if not self._video_budget.take():
            counters.dropped.flood += 1
            return True
        counters.video_received += 1
        counters.video_bytes_received += len(data)
        try:
            self.on_video(plain, now)
        except Exception:
            counters.dropped.malformed += 1
        return True

    def _receive_rtcp(self, data: bytes) -> bool:
        plain = self._incoming.unprotect_rtcp(data)
        if not isinstance(plain, bytes):
            return self._refused(plain)
        if not self._within_budget():
            return True
        self.counters.rtcp_received += 1
        try:
            for kind, packet in split_compound(plain):
                if kind in (SENDER_REPORT, RECEIVER_REPORT):
                    self._take_report(packet)
                elif kind == GOODBYE:
                    self.counters.goodbyes += 1
                elif kind != SOURCE_DESCRIPTION:
                    self.counters.dropped.rtcp_kind += 1
        except MalformedMessage:
            self.counters.dropped.malformed += 1
        return True

    def _take_report(self, packet: bytes) -> None:
        try:
            [report] = RtcpPacket.parse(packet)
        except Exception:  # aiortc's parser: ValueError when it is kind
            self.counters.dropped.malformed += 1
            return
        assert isinstance(report, RtcpSrPacket | RtcpRrPacket)
        if report.ssrc != self._remote_ssrc:  # aiortc would keep an entry for each
            self.counters.dropped.wrong_ssrc += 1
            return
        if isinstance(report, RtcpSrPacket) and self._receiver is not None:
            self._run(self._receiver._handle_rtcp_packet(report))
        self._clock.restore(report.reports)
        if report.reports and self._sender is not None:
            self._run(self._sender._handle_rtcp_packet(report))

    def _refused(self, refusal: Refusal) -> bool:
        """Count it. A copy is no loss: it shows that this path works as well as the one that was faster."""
        counted = self.counters if refusal is Refusal.COPY else self.counters.dropped
        setattr(counted, refusal.value, getattr(counted, refusal.value) + 1)
        return refusal is Refusal.COPY

    def _within_budget(self) -> bool:
        if self._budget.take():
            return True
        self.counters.dropped.flood += 1
        return False

    def _unwrap(self, timestamp: int) -> int:
        """The timestamp without its 32-bit limit: aiortc's jitter estimate explodes where it wraps."""
        last = self._timestamp
        if last is not None:
            step = (timestamp - last) & 0xFFFFFFFF
            timestamp = last + (step if step < 0x80000000 else step - 0x100000000)
        self._timestamp = timestamp
        return timestamp

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine of aiortc within this call. For audio none of them waits; one that does becomes a task."""
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            return
        except Exception:
            self.counters.dropped.malformed += 1
            return
        if len(self._waiting) >= MAX_WAITING:
            coroutine.close()
            self.counters.dropped.flood += 1
            return
        task = asyncio.ensure_future(self._finish(coroutine, waits_for))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _finish(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        try:
            await _resume(coroutine, waits_for)
        except Exception:
            self.counters.dropped.malformed += 1

    # --- sent ---------------------------------------------------------------------------------------------------------

    def send_control(self, payload: bytes) -> None:
        """Send one control packet of 80 bytes now. Raises nothing: one that cannot be sent is counted as unsent."""
        counters = self.counters
        protected = self._control.protect(payload) if self.state == "connected" else None
        try:
            if not isinstance(protected, bytes):
                raise CallClosed
            self._path.send_packet(protected)
        except RelaycallError:  # aiortc's sender will find out by itself that the path is closed
            counters.dropped.unsent += 1
            return
        counters.control_sent += 1
        counters.packets_sent += 1
        counters.bytes_sent += len(protected)

    def send_video(self, number: int, payload_type: int, timestamp: int, payload: bytes, *, last: bool) -> bytes | None:
        """Send one video packet now. Raises nothing: one that cannot be sent is counted as unsent.

        Args:
            number: of the packet, each one higher than the one before; its low 16 bits are the sequence number.
            payload_type: 97 or 98.
            timestamp: on a clock of 90 kHz; its low 32 bits count.
            payload: 1456 bytes at most.
            last: it ends a frame.

        Returns:
            The packet as it was sent, for `send_video_again`; None if it was not.
        """
        packet = self._video.protect(number, payload_type, timestamp, payload, last=last)
        if not isinstance(packet, bytes):
            self.counters.dropped.unsent += 1
            return None
        return packet if self.send_video_again(packet) else None

    def send_video_again(self, packet: bytes) -> bool:
        """Send a packet that `send_video` returned once more. Whether the path took it."""
        counters = self.counters
        try:
            if self.state != "connected":
                raise CallClosed
            self._path.send_packet(packet, once=True)
        except RelaycallError:
            counters.dropped.unsent += 1
            return False
        counters.video_sent += 1
        counters.video_bytes_sent += len(packet)
        counters.packets_sent += 1
        counters.bytes_sent += len(packet)
        return True

    # --- what aiortc asks of a transport ------------------------------------------------------------------------------

    @property
    def _stats_id(self) -> str:
        return f"transport_{id(self)}"

    def _get_stats(self) -> RTCStatsReport:
        return RTCStatsReport()

    async def _send_rtp(self, data: bytes) -> None:
        """Protect and send one RTP or RTCP packet. ConnectionError, which ends aiortc's sender, once closed."""
        if self.state != "connected":
            raise ConnectionError
        counters = self.counters
        rtcp = data[1] in RTCP_KINDS
        protected = self._outgoing.protect_rtcp(self._clock.hide(data)) if rtcp else self._outgoing.protect_rtp(data)
        if not isinstance(protected, bytes):
            counters.dropped.unsent += 1
            return
        try:
            self._path.send_packet(protected)
        except RelaycallError:
            self.state = "closed"
            raise ConnectionError from None
        size = len(protected)
        counters.packets_sent += 1
        counters.bytes_sent += size
        if rtcp:
            counters.rtcp_sent += 1
            return
        counters.audio_sent += 1
        if size not in counters.sent_sizes and len(counters.sent_sizes) < MAX_SIZES:
            counters.sent_sizes.add(size)

    def _register_rtp_sender(self, sender: Any, parameters: object) -> None:
        self._sender = sender

    def _register_rtp_receiver(self, receiver: Any, parameters: object) -> None:
        self._receiver = receiver

    def _unregister_rtp_sender(self, sender: object) -> None:
        self._sender = None

    def _unregister_rtp_receiver(self, receiver: object) -> None:
        self._receiver = None


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Go on, inside a task, with a coroutine that was started outside of one."""
    try:
        while True:
            waits_for = coroutine.send((yield waits_for))
    except StopIteration:
        return
