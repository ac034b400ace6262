"""Sound from and for other programs: aiortc's tracks, and anything that gives or takes frames.

    call = await phone.call("bob", audio=player.audio, sink=(heard := HeardTrack()))
    recorder.addTrack(heard)

A call takes 20 ms whenever they are due, and a track gives frames whenever it likes: between the two is half a second
of buffer at most, and silence while it is empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, AudioResampler

from relaycall.errors import ConfigError, MediaError
from relaycall.media.audio import FRAME_BYTES, SAMPLE_RATE, SILENCE, AudioSource

AHEAD = 25 * FRAME_BYTES  # bytes: half a second
WAITING = 25  # frames that a track holds for a reader; the oldest go first

Audio = AudioSource | MediaStreamTrack | AsyncIterator[AudioFrame]


class FramesSource:
    """What an asynchronous iterator of frames gives, of any rate, layout and length.

    Reading it begins with the call, goes on as fast as the sound is needed, and ends the sound when it ends.

    Args:
        frames: as `MediaPlayer` or a generator gives them.
    """

    def __init__(self, frames: AsyncIterator[AudioFrame]) -> None:
        self._frames = frames
        self._pcm = bytearray()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error: MediaError | None = None

    def read(self) -> bytes | None:
        """The next 20 ms: silence while there are none yet. Raises MediaError: reading the frames failed."""
        if self._task is None:
            self._task = asyncio.create_task(self._fill())
        if len(self._pcm) >= FRAME_BYTES:
            pcm = bytes(self._pcm[:FRAME_BYTES])
            del self._pcm[:FRAME_BYTES]
            self._room.set()
            return pcm
        if not self._task.done():
            return SILENCE
        if self._error is not None:
            raise self._error
        rest, self._pcm = bytes(self._pcm), bytearray()
        return rest.ljust(FRAME_BYTES, b"\0") if rest else None

    def close(self) -> None:
        """Read no more. Idempotent."""
        if self._task is not None:
            self._task.cancel()
        self._pcm.clear()

    async def _fill(self) -> None:
        resampler = AudioResampler("s16", "mono", SAMPLE_RATE)
        try:
            async for frame in self._frames:
                for mono in resampler.resample(frame):
                    self._pcm += bytes(mono.planes[0])[: mono.samples * 2]
                while len(self._pcm) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except Exception:  # they may be anybody's
            self._error = MediaError("Reading the sound's frames failed.", "Give another source.")


class TrackSource(FramesSource):
    """The sound of an aiortc track. `close` stops the track.

    Args:
        track: of kind "audio".

    Raises:
        ConfigError: a track of another kind.
    """

    def __init__(self, track: MediaStreamTrack) -> None:
        if track.kind != "audio":
            raise ConfigError("A track of this kind holds no sound.", "Give one of kind audio.")
        super().__init__(frames_of(track))
        self._track = track

    def close(self) -> None:
        super().close()
        self._track.stop()


class HeardTrack(MediaStreamTrack):
    """What is heard in a call, as a track for aiortc's recorders, relays and players. Give it as a call's `sink`.

    `recv` gives frames of 20 ms, 16-bit, mono, at 48 kHz. A reader that is slow misses the oldest: half a second waits
    for it, and no more.
    """

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._frames: asyncio.Queue[AudioFrame | None] = asyncio.Queue(WAITING)
        self._over = False

    async def recv(self) -> AudioFrame:
        """The next frame. Raises aiortc's MediaStreamError when the call is over."""
        frame = await self._frames.get() if self.readyState == "live" else None
        if frame is None:
            self.stop()
            raise MediaStreamError
        return frame

    def write(self, frame: AudioFrame) -> None:
        """For the call: something is heard."""
        self._put(frame)

    def close(self) -> None:
        """For the call: it is over. What waits can still be read."""
        if not self._over:  # a second end would push out a frame
            self._over = True
            self._put(None)

    def _put(self, what: AudioFrame | None) -> None:
        if self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(what)


def source_of(audio: Audio) -> AudioSource:
    """What a call sends for this: a source as it is, a track, or frames.

    Raises:
        ConfigError: it is none of these.
    """
    if isinstance(audio, MediaStreamTrack):
        return TrackSource(audio)
    if isinstance(audio, AsyncIterator):
        return FramesSource(audio)
    if hasattr(audio, "read") and hasattr(audio, "close"):
        return audio
    raise ConfigError("This gives no sound.", "Give a source of relaycall, an aiortc track, or an iterator of frames.")


async def frames_of(track: MediaStreamTrack) -> AsyncIterator[Any]:
    """What an aiortc track gives, of either kind, until it ends."""
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        yield frame
