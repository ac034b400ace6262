"""What a call sees: the packets of video become frames, and frames become pictures, each when it is due.

    transport ──▶ FrameBuffer ──whole frames──▶ checked ──▶ line ──when due──▶ VideoDecoder ──pictures──▶ sink
                    │                                                              │
                    └─▶ Wants: what is missing, and a keyframe ◀── undecodable ────┘
        └────────▶ ArrivalReports ──▶ Arrivals

A frame is decoded when it is due, so that its picture goes with the sound. What comes late, because a packet was
asked for again, is decoded as fast as it can be. A decoder that is half a second behind is given nothing up to the next
keyframe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic

from av import VideoFrame

from relaycall.media.budget import Budget
from relaycall.media.transport import RtpTransport
from relaycall.media.video.arrivals import ArrivalReports
from relaycall.media.video.bitstream import FrameRefusal, frame_refusal
from relaycall.media.video.decoder import Decoded, VideoDecoder
from relaycall.media.video.feedback import encode_arrivals, encode_wants
from relaycall.media.video.format import VideoCodec
from relaycall.media.video.frames import EncodedFrame, FrameBuffer
from relaycall.media.video.sinks import VideoSink
from relaycall.media.video.stats import VideoReceiverStats

MAX_DELAY = 1.0  # seconds
MAX_BEHIND = 0.5  # seconds that frames may be due and the decoder busy
MAX_LINE, MAX_LINE_BYTES = 96, 4 << 20  # frames that are not yet decoded
FRAME_BUDGET = 400  # frames in 5 s: 60 a second, and what was late before
POLL = 0.01  # seconds, while packets are missing
UNKNOWN_RTT, MAX_RTT = 0.1, 2.0  # seconds
FREEZE = 0.5  # seconds without a picture; or without a packet, and then nothing is sent

logger = logging.getLogger(__name__)


class VideoReceiver:
    """The video of one peer, from packets to pictures.

    Args:
        transport: carries the packets; its `on_video` is taken until `close`.
        takes: the codecs that may come. Packets of others are dropped and counted.
        sink: gets the pictures, and is closed with the receiver. None: they are decoded and counted only.
        rtt: the time of a question to the peer and its answer, in seconds; None: unknown.
    """

    def __init__(
        self,
        transport: RtpTransport,
        takes: tuple[VideoCodec, ...],
        sink: VideoSink | None,
        *,
        rtt: Callable[[], float | None],
    ) -> None:
        self._transport = transport
        self._payload_types = frozenset(codec.payload_type for codec in takes)
        self._sink = sink
        self._sink_works = True
        self._rtt = rtt
        self._delay = 0.0
        self._buffer = FrameBuffer()
        self._reports = ArrivalReports()
        self._line = _Line()
        self._decoder = VideoDecoder(self._decoded)
        self._budget = Budget(FRAME_BUDGET)
        self._skipping = False  # until the next keyframe
        self._behind_since: float | None = None  # the decoder has not had all that was due
        self._watch = _FreezeWatch()
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._refused = dict.fromkeys(FrameRefusal, 0)
        self._other_codec = self._decoded_frames = self._dropped = 0
        self._size = (0, 0)
        self._codec: VideoCodec | None = None
        transport.on_video = self._receive

    @property
    def delay(self) -> float:
        """How long a frame is held back after its first packet came, in seconds, 0 to 1. Set at any time."""
        return self._delay

    @delay.setter
    def delay(self, delay: float) -> None:
        self._delay = min(max(delay, 0.0), MAX_DELAY)
        if self._closing is None and self._line:
            self._step(monotonic())

    def stats(self) -> VideoReceiverStats:
        """What the receiver has done so far."""
        buffer = self._buffer
        self._watch.look(monotonic(), self._delay)
        return VideoReceiverStats(
            packets=buffer.packets,
            malformed=buffer.malformed + self._other_codec,
            lost=buffer.lost,
            recovered=buffer.recovered,
            frames_decoded=self._decoded_frames,
            frames_dropped=buffer.frames_dropped + self._dropped,
            undecodable=self._refused[FrameRefusal.KIND],
            refused_size=self._refused[FrameRefusal.SIZE],
            keyframes_wanted=buffer.keyframes_wanted,
            freezes=self._watch.freezes,
            width=self._size[0],
            height=self._size[1],
            codec=self._codec,
        )

    async def close(self) -> None:
        """Take nothing more, end the decoder, close the sink. Returns within 1 s, raises nothing, may be repeated."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._transport.on_video == self._receive:
            self._transport.on_video = None
        if self._timer is not None:
            self._timer.cancel()
        self._line.clear()
        await self._decoder.close()
        if self._sink is not None:
            with contextlib.suppress(Exception):  # it may be anybody's
                self._sink.close()

    # --- packets ------------------------------------------------------------------------------------------------------

    def _receive(self, packet: bytes, now: float) -> None:
        if self._closing is not None:
            return
        if packet[1] & 0x7F not in self._payload_types:
            self._other_codec += 1
            return
        self._watch.packet(now)
        if self._buffer.add(packet, now):
            self._reports.add(int.from_bytes(packet[2:4], "big"), now)
        self._step(now)

    def _tick(self) -> None:
        self._timer = None
        self._step(monotonic())

    def _step(self, now: float) -> None:
        """Do what is due."""
        rtt = self._rtt()
        rtt = UNKNOWN_RTT if rtt is None else min(max(rtt, 0.0), MAX_RTT)
        for frame in self._buffer.take(now, rtt):
            self._line_up(frame, now)
        self._feed(now)
        if self._skipping:
            self._buffer.restart()
        wants = self._buffer.wants(now, rtt)
        if wants is not None:
            self._transport.send_control(encode_wants(wants))
        arrivals = self._reports.message(now)
        if arrivals is not None:
            self._transport.send_control(encode_arrivals(arrivals))
        self._watch.look(now, self._delay)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        times = [time for time in (self._reports.due, self._next_due()) if time is not None]
        if self._buffer.waiting:
            times.append(now + POLL)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if times:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, min(times) - now), self._tick)

    # --- frames -------------------------------------------------------------------------------------------------------

    def _line_up(self, frame: EncodedFrame, now: float) -> None:
        if self._skipping and not frame.keyframe:
            self._dropped += 1
            return
        if not self._budget.take() or not self._line.has_room_for(frame):
            self._dropped += 1
            self._skipping = True
            return
        refusal = frame_refusal(frame.codec, frame.data, keyframe=frame.keyframe)
        if refusal is not None:
            self._refused[refusal] += 1
            self._skipping = True
            return
        self._skipping = False
        self._codec = frame.codec
        self._line.add(frame, now)

    def _next_due(self) -> float | None:
        return self._line.due(self._delay) if self._line and self._decoder.has_room else None

    def _feed(self, now: float) -> None:
        """Give the decoder what is due."""
        while (due := self._next_due()) is not None and due <= now:
            self._decoder.decode(self._line.pop())
        if not self._line or self._line.due(self._delay) > now:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        elif now > self._behind_since + MAX_BEHIND:
            self._behind_since = None
            self._line.pop()
            self._dropped += 1
            self._skip()

    def _skip(self) -> None:
        """What refers to a frame that was not decoded is not either."""
        self._dropped += self._line.skip()
        self._skipping = not self._line

    def _decoded(self, decoded: Decoded) -> None:
        if decoded.refusal is not None:
            self._refused[decoded.refusal] += 1
            if not self._decoder.has_keyframe:
                self._skip()
        for picture in decoded.pictures:
            self._show(picture)
        self._step(monotonic())

    def _show(self, picture: VideoFrame) -> None:
        self._decoded_frames += 1
        self._size = (picture.width, picture.height)
        self._watch.picture(monotonic())
        if self._sink is None or not self._sink_works:
            return
        try:
            self._sink.write(picture)
        except Exception as error:
            self._sink_works = False
            logger.warning("the video sink raised %s and is given no more", type(error).__name__)


class _Line:
    """Frames that wait until they are due, each with the time at which it was whole."""

    def __init__(self) -> None:
        self._frames: deque[tuple[EncodedFrame, float]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def has_room_for(self, frame: EncodedFrame) -> bool:
        return len(self._frames) < MAX_LINE and self._bytes + len(frame.data) <= MAX_LINE_BYTES

    def due(self, delay: float) -> float:
        """When the first frame is to be decoded."""
        frame, whole_at = self._frames[0]
        return max(frame.arrived_at + delay, whole_at)

    def add(self, frame: EncodedFrame, now: float) -> None:
        self._frames.append((frame, now))
        self._bytes += len(frame.data)

    def pop(self) -> EncodedFrame:
        frame, _ = self._frames.popleft()
        self._bytes -= len(frame.data)
        return frame

    def skip(self) -> int:
        """Drop all up to the next keyframe: how many."""
        count = 0
        while self._frames and not self._frames[0][0].keyframe:
            self.pop()
            count += 1
        return count

    def clear(self) -> None:
        self._frames.clear()
        self._bytes = 0


class _FreezeWatch:
    """Counts how often there was no new picture although packets came."""

    def __init__(self) -> None:
        self.freezes = 0
        self._packet_at = -FREEZE
        self._picture_at = 0.0  # or when packets began to come
        self._frozen = False

    def packet(self, now: float) -> None:
        if now > self._packet_at + FREEZE:
            self._picture_at = now
            self._frozen = False
        self._packet_at = now

    def picture(self, now: float) -> None:
        self._picture_at = now
        self._frozen = False

    def look(self, now: float, delay: float) -> None:
        if not self._frozen and now <= self._packet_at + FREEZE and now > self._picture_at + FREEZE + delay:
            self._frozen = True
            self.freezes += 1
