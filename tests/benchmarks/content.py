"""What the parties of a benchmark say: the same samples for both libraries, decoded before anything is measured."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from functools import cache
from pathlib import Path

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from relaycall.media.audio import FRAME_BYTES, FRAME_SAMPLES, SAMPLE_RATE, SILENCE
from relaycall.media.files import FileSource

SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"


@cache
def speech() -> tuple[bytes, ...]:
    """The speech clip in blocks of 20 ms."""

    source = FileSource(SPEECH)
    blocks = []
    while (block := source.read()) is not None:
        blocks.append(block)
    source.close()
    return tuple(blocks)


class Speech:
    """The clip over and over, or silence, as a relaycall source.

    Attributes:
        silent: give silence instead. Set at any time.
    """

    def __init__(self) -> None:
        self.silent = False
        self._blocks = speech()
        self._next = 0

    def take(self) -> bytes:
        self._next = (self._next + 1) % len(self._blocks)
        return SILENCE if self.silent else self._blocks[self._next]

    def read(self) -> bytes | None:
        return self.take()

    def close(self) -> None:
        """Nothing to release."""


class SpeechTrack(MediaStreamTrack):
    """The same as frames, paced as aiortc's own tracks are."""

    kind = "audio"

    def __init__(self, source: Speech) -> None:
        super().__init__()
        self._source = source
        self._start = 0.0
        self._index = -1

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        loop = asyncio.get_running_loop()
        self._index += 1
        if self._index == 0:
            self._start = loop.time()
        await asyncio.sleep(self._start + self._index * FRAME_SAMPLES / SAMPLE_RATE - loop.time())
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME_SAMPLES)
        assert FRAME_BYTES == 2 * FRAME_SAMPLES
        frame.planes[0].update(self._source.take())
        frame.sample_rate = SAMPLE_RATE
        frame.pts = self._index * FRAME_SAMPLES
        frame.time_base = Fraction(1, SAMPLE_RATE)
        return frame
