"""What carries RTP between aiortc's sender and receiver and a packet path.

aiortc asks eight things of a transport: `state`, `_stats_id`, `_get_stats`, `_send_rtp` and the four `_register_` and
`_unregister_` methods. Packets arrive by a plain call and are handled within it: no queue, no task.

Only what an audio call needs gets through, and everything else is dropped and counted: RTP of one SSRC and one
payload type with a bare header, and of RTCP the sender and receiver reports. SDES and BYE are accepted and end here:
a BYE would stop aiortc's decoder for good, and hanging up has its own road.
"""

from __future__ import annotations

import asyncio
import struct
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from aiortc.rtp import RtcpPacket, RtcpRrPacket, RtcpSrPacket, RtpPacket
from aiortc.stats import RTCStatsReport

from relaycall.errors import MalformedMessage, RelaycallError
from relaycall.media.srtp import MAX_PACKET, RTP_HEADER_SIZE, IncomingSrtp, OutgoingSrtp, Refusal, SrtpKeys

BARE_HEADER = 0x80  # version 2; no padding, no extension, no CSRC: what relaycall sends
RTCP_KINDS = range(192, 224)  # second byte of RTCP (RFC 5761, section 4); audio payload types never look like it
SENDER_REPORT, RECEIVER_REPORT, SOURCE_DESCRIPTION, GOODBYE = 200, 201, 202, 203
MAX_SIZES = 64  # distinct packet sizes remembered
# A peer may not keep us busier than this with packets that are its own: 4 times the audio rate, stalls included.
BUDGET_PACKETS = 1000
BUDGET_SECONDS = 5.0
MAX_WAITING = 32  # calls into aiortc that did not end at once

_RTP_HEADER = struct.Struct("!BBHLL")


class PacketPath(Protocol):
    """What carries packets to the peer and back."""

    def send_packet(self, data: bytes) -> None:
        """Send one packet now, or drop it. Never blocks; raises CallClosed once closed."""

    def set_receiver(self, receiver: Callable[[bytes], None] | None) -> None:
        """Who gets each received packet that is not STUN, by a synchronous call. None: nobody."""


@dataclass(slots=True)
class Dropped:
    """Packets dropped, by reason.

    Attributes:
        not_media: neither RTP nor RTCP, or smaller than 12 or larger than 1500 bytes.
        wrong_ssrc: not the peer's SSRC.
        wrong_payload_type: RTP that is not the call's audio.
        authentication: wrong key, or altered on the way.
        replay: seen before, or older than the replay window.
        malformed: authentic or not, but not what a relaycall peer sends; also what aiortc choked on.
        rtcp_kind: packets of a compound whose kind an audio call does not use.
        flood: authentic, but more than a call can need.
        unsent: our own packets that could not be protected.
    """

    not_media: int = 0
    wrong_ssrc: int = 0
    wrong_payload_type: int = 0
    authentication: int = 0
    replay: int = 0
    malformed: int = 0
    rtcp_kind: int = 0
    flood: int = 0
    unsent: int = 0


@dataclass(slots=True)
class TransportCounters:
    """What passed. Sizes are those of protected packets, in bytes.

    Attributes:
        packets_sent, bytes_sent: handed to the path.
        packets_received, bytes_received: everything the path delivered, what was dropped included.
        audio_sent, audio_received: RTP packets; received ones are authentic and were accepted.
        rtcp_sent, rtcp_received: compound RTCP packets, likewise.
        goodbyes: RTCP BYE packets received.
        dropped: packets dropped, by reason.
        sent_sizes, received_sizes: the distinct sizes of audio packets, 64 at most.
    """

    packets_sent: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    bytes_received: int = 0
    audio_sent: int = 0
    audio_received: int = 0
    rtcp_sent: int = 0
    rtcp_received: int = 0
    goodbyes: int = 0
    dropped: Dropped = field(default_factory=Dropped)
    sent_sizes: set[int] = field(default_factory=set)
    received_sizes: set[int] = field(default_factory=set)


class RtpTransport:
    """One audio stream each way over a packet path.

    Args:
        path: carries the packets.
        keys: of this side.
        local_ssrc: what we send as.
        remote_ssrc: the only source that is accepted.
        payload_type: of the audio, 96 to 127, both ways.

    Raises:
        MediaError: libsrtp lacks AES-GCM.
    """

    def __init__(
        self, path: PacketPath, keys: SrtpKeys, *, local_ssrc: int, remote_ssrc: int, payload_type: int
    ) -> None:
        self.counters = TransportCounters()
        self.state = "new"  # then "connected", then "closed": aiortc's words
        self._path = path
        self._outgoing = OutgoingSrtp(keys.send, local_ssrc)
        self._incoming = IncomingSrtp(keys.receive, remote_ssrc)
        self._remote_ssrc = remote_ssrc
        self._payload_type = payload_type
        self._sender: Any = None
        self._receiver: Any = None
        self._timestamp: int | None = None  # of the latest packet, unwrapped
        self._budget = BUDGET_PACKETS
        self._budget_end = monotonic() + BUDGET_SECONDS
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
        self._receiver = self._sender = None
        for task in self._waiting:
            task.cancel()
        try:
            self._path.set_receiver(None)
        except RelaycallError:
            return  # the path was closed first

    # --- received -----------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take one packet from the path. Raises nothing, whatever it holds."""
        counters = self.counters
        dropped = counters.dropped
        size = len(data)
        counters.packets_received += 1
        counters.bytes_received += size
        if not RTP_HEADER_SIZE <= size <= MAX_PACKET or data[0] >> 6 != 2:
            dropped.not_media += 1
            return
        kind = data[1]
        if kind in RTCP_KINDS:
            self._receive_rtcp(data)
            return
        if kind & 0x7F != self._payload_type:
            dropped.wrong_payload_type += 1
            return
        if data[0] != BARE_HEADER:
            dropped.malformed += 1
            return
        plain = self._incoming.unprotect_rtp(data)  # refuses other SSRCs; the header is authentic with the rest
        if not isinstance(plain, bytes):
            self._refused(plain)
            return
        if len(plain) == RTP_HEADER_SIZE:  # an empty payload would end aiortc's decoder for good
            dropped.malformed += 1
            return
        if not self._within_budget():
            return
        counters.audio_received += 1
        if size not in counters.received_sizes and len(counters.received_sizes) < MAX_SIZES:
            counters.received_sizes.add(size)
        if self._receiver is not None:
            _, _, sequence_number, timestamp, ssrc = _RTP_HEADER.unpack_from(plain)
            packet = RtpPacket(
                self._payload_type, kind >> 7, sequence_number, self._unwrap(timestamp), ssrc, plain[RTP_HEADER_SIZE:]
            )
            self._run(self._receiver._handle_rtp_packet(packet, 0))  # the arrival time is used for video only

    def _receive_rtcp(self, data: bytes) -> None:
        plain = self._incoming.unprotect_rtcp(data)
        if not isinstance(plain, bytes):
            self._refused(plain)
            return
        if not self._within_budget():
            return
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
        if report.reports and self._sender is not None:
            self._run(self._sender._handle_rtcp_packet(report))

    def _refused(self, refusal: Refusal) -> None:
        dropped = self.counters.dropped
        setattr(dropped, refusal.value, getattr(dropped, refusal.value) + 1)

    def _within_budget(self) -> bool:
        if not self._budget:  # the clock is read only when the packets are used up
            now = monotonic()
            if now < self._budget_end:
                self.counters.dropped.flood += 1
                return False
            self._budget_end = now + BUDGET_SECONDS
            self._budget = BUDGET_PACKETS
        self._budget -= 1
        return True

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
        protected = self._outgoing.protect_rtcp(data) if rtcp else self._outgoing.protect_rtp(data)
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


def split_compound(compound: bytes) -> Iterator[tuple[int, bytes]]:
    """Each packet of a compound RTCP packet with its type (RFC 3550, section 6.1). Raises MalformedMessage."""
    position = 0
    while position < len(compound):
        if len(compound) < position + 4 or compound[position] >> 6 != 2:
            raise MalformedMessage("An RTCP packet has no valid header.")
        end = position + 4 + 4 * int.from_bytes(compound[position + 2 : position + 4], "big")
        if end > len(compound):
            raise MalformedMessage("An RTCP packet is cut short.")
        yield compound[position + 1], compound[position:end]
        position = end


@types.coroutine
def _resume(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Go on, inside a task, with a coroutine that was started outside of one."""
    try:
        while True:
            waits_for = coroutine.send((yield waits_for))
    except StopIteration:
        return
