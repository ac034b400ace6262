"""An audio session: both directions of a call's sound over one packet path.

aiortc's `RTCRtpSender` and `RTCRtpReceiver` do the RTP; `RtpTransport` protects what they send and checks what they
get. The keys and the SSRCs come from the call record, so there is nothing to negotiate: sound flows after `start()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from aiortc import RTCRtpCodecParameters, RTCRtpReceiver, RTCRtpSender
from aiortc.rtcrtpparameters import RTCRtcpParameters, RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from aiortc.stats import RTCInboundRtpStreamStats, RTCRemoteInboundRtpStreamStats, RTCStatsReport
from av import AudioFrame

from relaycall.errors import CallClosed, ConfigError, MediaError
from relaycall.media.audio import SAMPLE_RATE, AudioEncoding, AudioSink, AudioSource, OpusTrack
from relaycall.media.counters import TransportCounters
from relaycall.media.playout import Playout
from relaycall.media.srtp import derive_keys
from relaycall.media.transport import PacketPath, RtpTransport

PAYLOAD_TYPES = range(96, 128)  # dynamic (RFC 3551, section 6)
STOP_SECONDS = 0.6  # for each of the two steps of close()
MAX_ROUND_TRIP = 60.0  # seconds; aiortc takes it from the wall clock, so a longer one is a clock that was set

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AudioStats:
    """What a session has done so far.

    Attributes:
        frames_sent, frames_received: audio packets, of 20 ms each.
        frames_heard: packets of the peer that were decoded and delivered.
        recovered: frames of 20 ms whose packet was missing, restored from the one after it.
        concealed: frames of 20 ms that were delivered without either: made up, or silence when more than 100 ms are
            missing.
        late: packets that came too late to be heard.
        undecodable: packets that are not 20 ms of Opus.
        lost: packets of the peer that did not arrive.
        lost_by_peer: ours that did not arrive there, as the peer last reported; None before it did.
        jitter_ms: of what arrives (RFC 3550, section 6.4.1).
        playout_delay_ms: how long sound is held back after the arrival of a packet that nothing delayed.
        playout_target_ms: how long it should be held back, by what the path does.
        round_trip_ms: from RTCP; None until known.
        transport: packet counters and sizes, a copy.
    """

    frames_sent: int
    frames_received: int
    frames_heard: int
    recovered: int
    concealed: int
    late: int
    undecodable: int
    lost: int
    lost_by_peer: int | None
    jitter_ms: float
    playout_delay_ms: float
    playout_target_ms: float
    round_trip_ms: float | None
    transport: TransportCounters


class AudioSession:
    """Sound both ways over a packet path.

    Args:
        path: carries the packets.
        call_key: 32 secret bytes that both sides share and no other call has.
        caller: True on the side that placed the call.
        local_ssrc, remote_ssrc: 1 to 2**32 - 1, not equal.
        payload_type: 96 to 127 without 126, the same on both sides.
        source: what to send. The session closes it.
        sink: records what is heard. The session closes it.
        on_frame: called every 20 ms from the first packet on, with what is heard. One that raises is not called again.

    Attributes:
        finished: an event, set when the source has ended. Silence is sent from then on.

    Raises:
        ConfigError: a key, an SSRC or the payload type is out of range, or the SSRCs are equal.
        MediaError: this machine lacks SRTP with AES-GCM, or libopus.
    """

    def __init__(
        self,
        path: PacketPath,
        *,
        call_key: bytes,
        caller: bool,
        local_ssrc: int,
        remote_ssrc: int,
        payload_type: int = 111,
        source: AudioSource,
        sink: AudioSink | None = None,
        on_frame: Callable[[AudioFrame], None] | None = None,
    ) -> None:
        if not all(0 < ssrc < 1 << 32 for ssrc in (local_ssrc, remote_ssrc)):
            raise ConfigError("An SSRC is a number from 1 to 4294967295.")
        if local_ssrc == remote_ssrc:
            raise ConfigError("The two sides of a call cannot have the same SSRC.", "Choose another at random.")
        if payload_type not in PAYLOAD_TYPES:
            raise ConfigError("The payload type of the audio is a number from 96 to 127.")
        keys = derive_keys(call_key, caller=caller)
        self.on_frame = on_frame
        self._transport = RtpTransport(
            path, keys, local_ssrc=local_ssrc, remote_ssrc=remote_ssrc, payload_type=payload_type
        )
        self._local_ssrc = local_ssrc
        self._payload_type = payload_type
        self._source = source
        self._sink = sink
        self._sink_works = True
        self._track = OpusTrack(source)
        self.finished = self._track.finished
        self._playout = Playout(self._hear)
        self._sender: RTCRtpSender | None = None
        self._receiver: RTCRtpReceiver | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def transport(self) -> RtpTransport:
        """What carries the packets: in-band control, and when audio arrived."""
        return self._transport

    @property
    def muted(self) -> bool:
        """Whether encoded silence is sent instead of the source. Set at any time; size and pace stay the same."""
        return self._track.muted

    @muted.setter
    def muted(self, muted: bool) -> None:
        self._track.muted = muted

    @property
    def encoding(self) -> AudioEncoding:
        """How sound is encoded now."""
        return self._track.encoding

    def set_encoding(self, bitrate: int, expected_loss: float = 0.0) -> None:
        """Encode the sound that follows in another way. The other side needs no notice.

        Args:
            bitrate: 32000, 24000 or 16000 bit/s: packets of 80, 60 or 40 bytes. It changes at most every 5 s; a change
                that comes too early waits until then.
            expected_loss: the share of packets that gets lost on the way, 0 to 1. Above 0 packets of voice hold copies
                of the ones before, at 24000 bit/s and more.

        Raises:
            ConfigError: a value is out of range.
        """
        self._track.set_encoding(AudioEncoding(bitrate, expected_loss))

    @property
    def queue_ms(self) -> float:
        """How long sound waits on its way to us: by how much it came later than its quickest of the last 30 s.

        It is the mean of the last second in which any came; 0.0 before. Clocks that drift apart add 3 ms at 100 ppm.
        """
        return self._playout.queue_ms

    def path_changed(self) -> None:
        """Sound comes to us another way from now on: `queue_ms` begins anew."""
        self._playout.path_changed()

    @property
    def source_error(self) -> MediaError | None:
        """Why the source ended, if it failed. Silence is sent since."""
        return self._track.error

    @property
    def sink_error(self) -> MediaError | None:
        """Why nothing more is recorded, if the sink failed: what it has as its `error`, or that it raised something."""
        error = getattr(self._sink, "error", None)
        if isinstance(error, MediaError):
            return error
        return None if self._sink_works else MediaError("The sink of the sound failed.", "Give another sink.")

    @property
    def frames_sent(self) -> int:
        """Audio packets sent."""
        return self._transport.counters.audio_sent

    @property
    def frames_received(self) -> int:
        """Audio packets received that are authentic."""
        return self._transport.counters.audio_received

    @property
    def frames_heard(self) -> int:
        """Packets of the peer decoded and delivered, 20 ms each."""
        return self._playout.played

    async def start(self) -> None:
        """Send and receive from now on. A second call does nothing. Raises CallClosed after `close()`."""
        if self._closing is not None:
            raise CallClosed
        if self._sender is not None:
            return
        transport = cast(Any, self._transport)  # has what aiortc uses of an RTCDtlsTransport
        codec = RTCRtpCodecParameters(
            mimeType="audio/opus", clockRate=SAMPLE_RATE, channels=2, payloadType=self._payload_type
        )
        self._receiver = RTCRtpReceiver("audio", transport)
        self._receiver._track = RemoteStreamTrack("audio")
        self._receiver._RTCRtpReceiver__jitter_buffer = self._playout  # type: ignore[attr-defined]
        self._receiver._set_rtcp_ssrc(self._local_ssrc)
        self._sender = RTCRtpSender(self._track, transport)
        self._sender._ssrc = self._local_ssrc
        await self._receiver.receive(RTCRtpReceiveParameters(codecs=[codec]))
        self._receiver._handle_disconnect()  # ends its decoder thread: Playout decodes
        start = asyncio.get_running_loop().time()
        self._track.begin(start)
        self._playout.phase = start
        self._transport.open()  # what the peer has sent already comes at once
        rtcp = RTCRtcpParameters(cname=secrets.token_hex(8))
        await self._sender.send(RTCRtpSendParameters(codecs=[codec], rtcp=rtcp))

    def stats(self) -> AudioStats:
        """What the session has done so far."""
        inbound: RTCInboundRtpStreamStats | None = None
        outbound: RTCRemoteInboundRtpStreamStats | None = None
        if self._receiver is not None and self._sender is not None:
            for report in (*_value(self._receiver.getStats()).values(), *_value(self._sender.getStats()).values()):
                if isinstance(report, RTCInboundRtpStreamStats):
                    inbound = report
                elif isinstance(report, RTCRemoteInboundRtpStreamStats):
                    outbound = report
        # aiortc says float, and leaves None there until it knows.
        round_trip = cast("float | None", outbound.roundTripTime) if outbound else None
        return AudioStats(
            frames_sent=self.frames_sent,
            frames_received=self.frames_received,
            frames_heard=self.frames_heard,
            recovered=self._playout.recovered,
            concealed=self._playout.concealed,
            late=self._playout.late,
            undecodable=self._playout.undecodable,
            lost=max(0, inbound.packetsLost) if inbound else 0,
            lost_by_peer=max(0, outbound.packetsLost) if outbound else None,
            jitter_ms=inbound.jitter * 1000 / SAMPLE_RATE if inbound else 0.0,
            playout_delay_ms=self._playout.delay_ms,
            playout_target_ms=self._playout.target_ms,
            round_trip_ms=round_trip * 1000 if round_trip is not None and 0 <= round_trip < MAX_ROUND_TRIP else None,
            transport=copy.deepcopy(self._transport.counters),
        )

    async def close(self) -> None:
        """Stop everything and release source and sink. Returns within 2 s, raises nothing, and may be repeated."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._sender is not None:
            await _bounded(self._sender.stop())
        if self._receiver is not None:
            await _bounded(self._receiver.stop())
        self._transport.close()
        self._track.stop()
        self._playout.close()
        for end in (self._source, self._sink):
            if end is not None:
                with contextlib.suppress(Exception):  # they may be anybody's
                    end.close()

    def _hear(self, frame: AudioFrame) -> None:
        if self._sink is not None and self._sink_works:
            try:
                self._sink.write(frame)
            except Exception as error:
                self._sink_works = False
                logger.warning("the sink raised %s and is given no more", type(error).__name__)
        if self.on_frame is not None:
            try:
                self.on_frame(frame)
            except Exception as error:
                self.on_frame = None
                logger.warning("on_frame raised %s and is not called again", type(error).__name__)


async def _bounded(stopping: Coroutine[Any, Any, object]) -> None:
    """Let one of aiortc's objects stop. One that lost a task waits for it for ever."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(stopping, STOP_SECONDS)


def _value(coroutine: Coroutine[Any, Any, RTCStatsReport]) -> RTCStatsReport:
    """The result of a coroutine of aiortc that is one in name only."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        report: RTCStatsReport = end.value
        return report
    coroutine.close()
    return RTCStatsReport()
