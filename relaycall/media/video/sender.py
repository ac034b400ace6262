"""The pictures of a call, from their source to the path.

How it works. One task reads the source, without end, and puts each frame where the one before it was: the newest
counts. Another takes it from there when it is due and when what was coded before has nearly left, has it coded in the
encoder's thread, and gives the pieces to the pacer. So nothing waits in line but the one picture that is leaving, and
whatever is too slow, the source, the encoder or the path, there are fewer pictures, and they are fresh.

While there is no `encoding` the source is still read, and what it gives thrown away: a camera stays warm, a file goes
on, and the first picture afterwards is a new one.

Video is a guest in an audio call. What fails here ends the video, with `error` set, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from av import VideoFrame

from relaycall.errors import CallClosed, MediaError
from relaycall.media.transport import RtpTransport
from relaycall.media.video.encoder import VideoEncoder
from relaycall.media.video.fates import Fate, FateLog
from relaycall.media.video.feedback import ARRIVALS, WANTS, decode_arrivals, decode_wants
from relaycall.media.video.format import Encoding, VideoCodec
from relaycall.media.video.history import PacketHistory
from relaycall.media.video.pacer import Pacer, Piece, pieces_of
from relaycall.media.video.sources import VideoSource
from relaycall.media.video.stats import VideoSenderStats
from relaycall.media.video.stream import CLOCK_RATE

KEYFRAME_SECONDS = 0.5  # between two that the peer asks for
STILL_SECONDS = 0.5  # after which a keyframe that is wanted is made of the latest frame, if no other comes
BACKLOG_SECONDS = 0.5  # of what has not left, when the rate falls; more is dropped
STOP_SECONDS = 0.3  # for the tasks to end
SMOOTHING = 8  # pictures that a mean is of
HELD = 0.02  # seconds after which to look whether pictures are still held up
MIN_READ_INTERVAL = 1 / 240  # seconds: a source that never waits does not take the loop for itself

logger = logging.getLogger(__name__)


class VideoSender:
    """The video of one side. Nothing is sent before there are both a source and an `encoding`.

    Args:
        transport: carries the packets, and what the peer says of them.
        codec: what to code as.
        rtt: the round trip to the peer, seconds; None while unknown. Copies and keyframes come no faster.
        on_sent: called with the size of each packet that is sent for the first time: bytes on the path.
        on_fates: called with what became of packets, each of them once. Its times of sending are the event loop's.
        on_size: called with width and height of the source's pictures whenever they are others, and with None when
            there is no source any more.
        on_ended: called when the source has ended, with the reason if it failed.

    Attributes:
        error: why the video ended, if it failed.

    Raises:
        MediaError: this machine has no encoder for the codec.
    """

    def __init__(
        self,
        transport: RtpTransport,
        codec: VideoCodec,
        *,
        rtt: Callable[[], float | None] = lambda: None,
        on_sent: Callable[[int], None] | None = None,
        on_fates: Callable[[list[Fate]], None] | None = None,
        on_size: Callable[[tuple[int, int] | None], None] | None = None,
        on_ended: Callable[[MediaError | None], None] | None = None,
    ) -> None:
        self.error: MediaError | None = None
        self._transport, self._codec, self._rtt = transport, codec, rtt
        self._on_sent, self._on_fates, self._on_size, self._on_ended = on_sent, on_fates, on_size, on_ended
        self._encoder = VideoEncoder(codec)
        self._encoding: Encoding | None = None
        self._held = False
        self._pacer, self._history, self._fates = Pacer(), PacketHistory(), FateLog()
        self._source: VideoSource | None = None
        self._source_size: tuple[int, int] | None = None
        self._interval = 0.0  # between the source's frames, smoothed, seconds
        self._slot: tuple[VideoFrame, float] | None = None  # the newest frame, and when it came
        self._shown: tuple[VideoFrame, float] | None = None  # the one that was coded last
        self._fresh = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._coding: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._due = 0.0  # when the next frame may be coded
        # Both begin anywhere (RFC 3550, section 5.1), and numbers far from a wrap (RFC 3711, section 3.3.1).
        self._number, self._timestamp = secrets.randbelow(1 << 15), -1
        self._start = asyncio.get_running_loop().time() - secrets.randbelow(1 << 32) / CLOCK_RATE
        self._keyframe_due = True  # the stream has a gap, or begins
        self._keyframe_wanted = False  # by the peer
        self._keyframe_at = float("-inf")
        self._frames_read = self._frames_encoded = self._frames_skipped = self._keyframes = 0
        self._packets = self._bytes = self._sent_again = 0
        self._width, self._height, self._encode_ms = 0, 0, 0.0
        transport.on_kind[WANTS] = self._take_wants
        transport.on_kind[ARRIVALS] = self._take_arrivals

    @property
    def encoding(self) -> Encoding | None:
        """The step of quality. Set at any time; None: nothing is sent."""
        return self._encoding

    @encoding.setter
    def encoding(self, encoding: Encoding | None) -> None:
        before, self._encoding = self._encoding, encoding
        if encoding is None:
            self._slot = None
            self._drop_backlog(0.0)
            return
        self._pacer.bitrate = encoding.bitrate
        if before is None:
            self._show_again()
        elif encoding.bitrate < before.bitrate and self._pacer.seconds > BACKLOG_SECONDS:
            self._drop_backlog(BACKLOG_SECONDS)

    @property
    def held(self) -> bool:
        """Whether what is to be sent waits. Set at any time."""
        return self._held

    @held.setter
    def held(self, held: bool) -> None:
        if held != self._held:
            self._held = held
            self._send_due()

    @property
    def load(self) -> float:
        """How much of the time there is for a picture the encoder takes; 1 and more: it does not keep up."""
        if self._encoding is None:
            return 0.0
        return self._encode_ms / 1000 / max(1 / self._encoding.frame_rate, self._interval)

    def set_source(self, source: VideoSource | None) -> None:
        """Send the pictures of this source from now on, or none. The one before is closed. Raises CallClosed."""
        if self._closing is not None:
            raise CallClosed
        self._leave_source()
        self.error = None
        self._slot = self._shown = None
        if source is None:
            self._note_size(None)
            return
        if self._coding is None:
            self._coding = self._run(self._code_frames())
        self._source = source
        self._interval = 0.0
        self._keyframe_due = True
        self._reading = self._run(self._read_frames(source))

    def stats(self) -> VideoSenderStats:
        """What was sent so far."""
        return VideoSenderStats(
            codec=self._codec,
            frames_read=self._frames_read,
            frames_encoded=self._frames_encoded,
            frames_skipped=self._frames_skipped,
            keyframes=self._keyframes,
            packets=self._packets,
            bytes=self._bytes,
            sent_again=self._sent_again,
            refused=self._history.refused + self._fates.refused,
            width=self._width,
            height=self._height,
            encode_ms=self._encode_ms,
            error=self.error,
        )

    async def close(self) -> None:
        """Stop, and close the source. Returns within a second, raises nothing, may be repeated."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for kind, handler in ((WANTS, self._take_wants), (ARRIVALS, self._take_arrivals)):
            if self._transport.on_kind.get(kind) == handler:
                del self._transport.on_kind[kind]
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
        self._leave_source()
        self._slot = self._shown = None
        await self._encoder.close()

    # --- from the source to the encoder -------------------------------------------------------------------------------

    async def _read_frames(self, source: VideoSource) -> None:
        loop = asyncio.get_running_loop()
        error: MediaError | None = None
        previous: float | None = None
        try:
            while (frame := await source.read()) is not None:
                if not isinstance(frame, VideoFrame):
                    raise TypeError
                now = loop.time()
                self._frames_read += 1
                self._note_size((frame.width, frame.height))
                if self._encoding is not None:
                    self._frames_skipped += self._slot is not None
                    self._slot = (frame, now)
                    self._fresh.set()
                if previous is not None:
                    self._interval += (now - previous - self._interval) / (SMOOTHING if self._interval else 1)
                    await asyncio.sleep(max(0.0, previous + MIN_READ_INTERVAL - now))
                previous = loop.time()
        except MediaError as failed:
            error = failed
        except Exception:  # a source may be anybody's
            error = MediaError("The video source failed.", "Give another source.")
        if self._source is source:
            self._end(error)

    async def _code_frames(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._fresh.wait()
            encoding, slot, now = self._encoding, self._slot, loop.time()
            if encoding is None or slot is None:
                self._fresh.clear()
                continue
            wait = max(self._due - now, self._pacer.seconds - 0.5 / encoding.frame_rate, HELD if self._held else 0.0)
            if wait > 0:
                await asyncio.sleep(min(wait, 0.1))  # what it waits for may change
                continue
            self._slot = None
            self._due = max(self._due + 1 / encoding.frame_rate, now)
            self._shown = slot
            await self._code(*slot, encoding)

    async def _code(self, frame: VideoFrame, taken: float, encoding: Encoding) -> None:
        now = asyncio.get_running_loop().time()
        pause = max(KEYFRAME_SECONDS, self._rtt() or 0.0)
        keyframe = self._keyframe_due or (self._keyframe_wanted and now - self._keyframe_at >= pause)
        self._keyframe_due = False
        source = self._source
        encoding = replace(encoding, bitrate=self._history.rest(encoding.bitrate, now))
        try:
            encoded = await self._encoder.encode(frame, encoding, keyframe=keyframe, time=taken)
        except MediaError as error:
            self._keyframe_due = True
            if source is not None and self._source is source:
                self._end(error)
            return
        took = (asyncio.get_running_loop().time() - now) * 1000
        self._encode_ms += (took - self._encode_ms) / (SMOOTHING if self._encode_ms else 1)
        if encoded is None or self._encoding is None or (self._keyframe_due and not encoded.keyframe):
            self._keyframe_due = self._keyframe_due or keyframe
            self._frames_skipped += 1  # left out, or what it refers to was dropped meanwhile
            return
        self._frames_encoded += 1
        self._width, self._height = encoded.width, encoded.height
        if encoded.keyframe:
            self._keyframes += 1
            self._keyframe_at, self._keyframe_wanted = now, False
        self._timestamp = max(self._timestamp + 1, round((taken - self._start) * CLOCK_RATE))
        self._pacer.add(pieces_of(encoded.data, self._timestamp, keyframe=encoded.keyframe))
        self._send_due()

    def _show_again(self) -> None:
        """Have the latest frame coded once more, if the source gives no other for the time being."""
        now = asyncio.get_running_loop().time()
        if self._source is None or self._slot is not None or self._shown is None:
            return
        frame, taken = self._shown
        if now - taken >= STILL_SECONDS:
            self._slot = (frame, now)
            self._fresh.set()

    def _drop_backlog(self, seconds: float) -> None:
        """Send no more than this of what has not left."""
        if self._pacer.trim(seconds):
            self._number += 1  # a gap, by which the peer sees that a picture was broken off
        self._keyframe_due = True

    def _end(self, error: MediaError | None) -> None:
        self._leave_source()
        self.error = error
        self._note_size(None)
        _tell(self._on_ended, error)

    def _note_size(self, size: tuple[int, int] | None) -> None:
        if size != self._source_size:
            self._source_size = size
            _tell(self._on_size, size)

    def _leave_source(self) -> None:
        source, self._source = self._source, None
        reading, self._reading = self._reading, None
        if reading is not None and reading is not asyncio.current_task():
            reading.cancel()
        if source is not None:
            with contextlib.suppress(Exception):  # it may be anybody's
                source.close()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- from the encoder to the path ---------------------------------------------------------------------------------

    def _send_due(self) -> None:
        """Send what is due, tell what is overdue, and come back when the next is."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while not self._held and (one := self._pacer.take(now)) is not None:
            self._send(one, now)
        self._tell_fates(self._fates.overdue(now))
        if self._timer is not None:
            self._timer.cancel()
        pacer_at = None if self._held else self._pacer.next_at
        times = [time for time in (pacer_at, self._fates.next_at) if time is not None]
        self._timer = loop.call_at(min(times), self._send_due) if times and self._closing is None else None

    def _send(self, one: Piece | bytes, now: float) -> None:
        if isinstance(one, bytes):
            self._sent_again += self._transport.send_video_again(one)
            return
        number = self._number
        self._number += 1
        packet = self._transport.send_video(number, self._codec.payload_type, one.timestamp, one.payload, last=one.last)
        if packet is None:
            return
        self._packets += 1
        self._bytes += len(packet)
        self._history.add(number, packet, now)
        self._fates.sent(number, len(packet), now)
        _tell(self._on_sent, len(packet))

    # --- what the peer says -------------------------------------------------------------------------------------------

    def _take_wants(self, payload: bytes) -> None:
        wants = decode_wants(payload)  # what it raises the transport counts
        encoding, now, round_trip = self._encoding, asyncio.get_running_loop().time(), self._rtt() or 0.0
        if encoding is None:
            return
        if wants.keyframe and now - self._keyframe_at >= round_trip:  # else one is on its way
            self._keyframe_wanted = True
            self._show_again()
        again = self._history.again(wants.numbers, bitrate=encoding.bitrate, round_trip=round_trip, now=now)
        for _, packet in again:
            self._pacer.add_again(packet)
        self._send_due()
        self._tell_fates([fate for number, _ in again for fate in self._fates.sent_again(number)])

    def _take_arrivals(self, payload: bytes) -> None:
        self._tell_fates(self._fates.arrivals(decode_arrivals(payload), asyncio.get_running_loop().time()))

    def _tell_fates(self, fates: list[Fate]) -> None:
        if fates:
            _tell(self._on_fates, fates)


def _tell(callback: Callable[..., None] | None, *values: object) -> None:
    """Call what may be anybody's."""
    if callback is None:
        return
    try:
        callback(*values)
    except Exception as error:
        logger.warning("a callback of the video sender raised %s", type(error).__name__)
