"""Sound and pictures to send through aiortc's peer connections, and what came of them."""

from __future__ import annotations

import array
import asyncio
from collections import Counter

from aiortc import RTCPeerConnection
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack, VideoStreamTrack
from av import AudioFrame, VideoFrame

_HALF_PERIOD = 20  # samples


class Tone(AudioStreamTrack):
    """A square wave."""

    async def recv(self) -> AudioFrame:
        frame = await super().recv()
        samples = array.array("h", ((8000, -8000)[n // _HALF_PERIOD % 2] for n in range(frame.samples)))
        frame.planes[0].update(samples.tobytes())
        return frame


class Picture(VideoStreamTrack):
    """A small grey picture that changes."""

    _shade = 0

    async def recv(self) -> VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = VideoFrame(width=160, height=120)
        self._shade = (self._shade + 8) % 256
        for plane in frame.planes:
            plane.update(bytes([self._shade]) * plane.buffer_size)
        frame.pts, frame.time_base = pts, time_base
        return frame


class Heard:
    """What the tracks of the other side bring.

    Attributes:
        frames: by kind.
        loudest: the largest sample.
    """

    def __init__(self, peer: RTCPeerConnection) -> None:
        self.frames: Counter[str] = Counter()
        self.loudest = 0
        self._tasks: set[asyncio.Task[None]] = set()
        peer.on("track", self._start)

    def _start(self, track: MediaStreamTrack) -> None:
        self._tasks.add(asyncio.ensure_future(self._take(track)))

    async def _take(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self.frames[track.kind] += 1
            if isinstance(frame, AudioFrame):
                samples = array.array("h", bytes(frame.planes[0]))
                self.loudest = max(self.loudest, *samples)
