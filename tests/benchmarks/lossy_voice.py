"""Speech over a network that loses packets, in virtual time, and what a listener gets of it: by us, and by aiortc.

Ours are the encoder, the playout buffer, the reports and the adaptation of a call. aiortc's are its encoder, its jitter
buffer and its decoder; its listener plays frames in turn, as early as it gets them.
"""

from __future__ import annotations

import asyncio
import heapq
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from aiortc.codecs import get_decoder
from aiortc.codecs.opus import OpusEncoder
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket
from av import AudioFrame, AudioResampler

from relaycall.media.audio import AudioEncoding, ConstantRateOpus, pcm_frame
from relaycall.media.files import FileSource
from relaycall.media.opus import FRAME_BYTES, FRAME_SAMPLES, FRAME_SECONDS
from relaycall.media.playout import Playout
from relaycall.quality.adaptation import Adaptation
from relaycall.quality.sample import PeerReport
from tests.media.paths import VirtualLoop

SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"
REPORTS = 50  # packets between two
DELAY = 0.05  # seconds, of reports
TOO_LATE = 0.4  # seconds after a packet could arrive: the limit of ITU-T G.114 for talking with each other
HEADERS = 12 + 16 + 4 + 28  # bytes: RTP, SRTP, TURN, UDP and IP
LOOKAHEAD = 312  # samples by which libopus is late, by default

Arrival = Callable[[float, int], float | None]  # from the time and the size in bytes; None: lost


@dataclass
class Listened:
    """What came of so many frames that were sent, 20 ms each.

    Attributes:
        heard: decoded, or restored, and in time.
        decoded: decoded at all.
        recovered: of those that were heard, restored.
        pcm: the sound, each piece where it was in what was sent; silence where there was none.
        latency: of what was heard, in seconds, on average.
    """

    sent: int
    heard: int = 0
    decoded: int = 0
    recovered: int = 0
    pcm: bytes = b""
    latency: float = 0.0


@cache
def speech() -> tuple[bytes, ...]:
    source = FileSource(SPEECH)
    blocks = tuple(iter(source.read, None))
    source.close()
    return blocks


def spoken(frames: int) -> Iterator[bytes]:
    return islice(cycle(speech()), frames)


# --- ours -------------------------------------------------------------------------------------------------------------


def by_relaycall(frames: int, arrival: Arrival, *, expected_loss: float | None = None) -> Listened:
    """Our part of it.

    Args:
        frames: how many to send.
        arrival: when a packet arrives.
        expected_loss: what the sender expects throughout; None: what it learns from reports, from 0 on.
    """

    async def run(loop: Any) -> Listened:
        call = _OurCall(loop, frames, arrival, expected_loss)
        await call.run()
        return call.listened()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run(runner.get_loop()))


class _OurCall:
    def __init__(self, loop: Any, frames: int, arrival: Arrival, expected_loss: float | None) -> None:
        self._loop, self._frames, self._arrival = loop, frames, arrival
        self._canvas = bytearray(frames * FRAME_BYTES)
        self._playout = Playout(self._hear)
        self._encoder = ConstantRateOpus()
        self._adaptation = Adaptation() if expected_loss is None else None
        self._encoding = AudioEncoding(expected_loss=expected_loss or 0.0)
        self._encoder.configure(self._encoding)
        self._arrived = self._highest = 0

    async def run(self) -> None:
        start = self._loop.time()
        self._playout.phase = start + 0.007
        for number, block in enumerate(spoken(self._frames)):
            due = start + number * FRAME_SECONDS
            await asyncio.sleep(due - self._loop.time())
            payload = bytes(self._encoder.encode(block, number * FRAME_SAMPLES))
            arrives = self._arrival(due - start, len(payload) + HEADERS)
            if arrives is not None:
                self._loop.call_at(start + arrives, self._arrive, number, payload)
            if number % REPORTS == REPORTS - 1 and self._adaptation is not None:
                self._loop.call_at(due + DELAY, self._reported, self._report())
        await asyncio.sleep(2.0)
        self._playout.close()

    def _arrive(self, number: int, payload: bytes) -> None:
        self._arrived += 1
        self._highest = max(self._highest, number + 1)
        self._playout.add(RtpPacket(111, 0, number & 0xFFFF, number * FRAME_SAMPLES, 1, payload))

    def _report(self) -> PeerReport:
        lost = self._highest - self._arrived
        return PeerReport(received=self._arrived, lost=lost, queue_ms=self._playout.queue_ms)

    def _reported(self, report: PeerReport) -> None:
        assert self._adaptation is not None
        self._adaptation.report(self._loop.time(), report)
        self._adaptation.take_decisions()
        encoding = AudioEncoding(self._adaptation.audio_bitrate, self._adaptation.expected_loss)
        if encoding != self._encoding:
            self._encoding = encoding
            self._encoder.configure(encoding)

    def _hear(self, frame: AudioFrame) -> None:
        """Put it where the jitter buffer had taken it from."""
        end = 2 * self._playout._buffer._head - len(self._playout._pcm)
        if FRAME_BYTES <= end <= len(self._canvas):
            self._canvas[end - FRAME_BYTES : end] = bytes(frame.planes[0])[:FRAME_BYTES]

    def listened(self) -> Listened:
        playout = self._playout
        heard = playout.played + playout.recovered
        return Listened(self._frames, heard, heard, playout.recovered, bytes(self._canvas), playout._buffer.delay)


# --- plain aiortc -----------------------------------------------------------------------------------------------------


def by_aiortc(frames: int, arrival: Arrival, *, sound: bool = True) -> Listened:
    """aiortc's part of it. Without sound nothing is encoded: only counted, which is quicker."""
    encoder = OpusEncoder()
    arrivals: list[tuple[float, int, bytes]] = []
    for number, block in enumerate(spoken(frames)):
        payload = encoder.encode(pcm_frame(block, number * FRAME_SAMPLES))[0][0] if sound else b"?"
        arrives = arrival(number * FRAME_SECONDS, len(payload) + HEADERS)
        if arrives is not None:
            heapq.heappush(arrivals, (arrives, number, payload))
    buffer = JitterBuffer(capacity=16, prefetch=4)  # as RTCRtpReceiver makes it for sound
    found = Listened(frames)
    canvas = bytearray(frames * FRAME_BYTES)
    decoder = get_decoder(RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, channels=2, payloadType=111))
    resampler = AudioResampler("s16", "mono", 48000)
    free_at, least, late = 0.0, float("inf"), 0.0
    while arrivals:
        now, number, payload = heapq.heappop(arrivals)
        least = min(least, now - number * FRAME_SECONDS)
        packet = RtpPacket(111, 0, number & 0xFFFF, number * FRAME_SAMPLES, 1, payload)
        packet._data = payload  # type: ignore[attr-defined]
        _, released = buffer.add(packet)
        if released is None:
            continue
        found.decoded += 1
        free_at = max(free_at + FRAME_SECONDS, now)  # the listener plays one after the other
        waited = free_at - released.timestamp / 48000 - least
        late += waited
        found.heard += waited <= TOO_LATE
        if sound:
            start = released.timestamp * 2
            pcm = _decoded(decoder, resampler, released)
            canvas[start : start + FRAME_BYTES] = pcm if waited <= TOO_LATE else bytes(FRAME_BYTES)
    found.pcm = bytes(canvas)
    found.latency = late / max(found.decoded, 1)
    return found


def _decoded(decoder: Any, resampler: AudioResampler, frame: JitterFrame) -> bytes:
    pcm = array("h")
    for stereo in decoder.decode(frame):
        stereo.pts = None
        for mono in resampler.resample(stereo):
            pcm.frombytes(bytes(mono.planes[0])[: 2 * mono.samples])
    return pcm.tobytes()[:FRAME_BYTES].ljust(FRAME_BYTES, b"\0")
