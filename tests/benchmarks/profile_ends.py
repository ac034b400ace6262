"""One end of a call with voice and video, by relaycall and by plain aiortc: what the profiles are measured on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame

from relaycall.call.ends import MediaOptions
from relaycall.call.events import CallEvent
from relaycall.call.media_call import MediaCall
from relaycall.media.session import AudioStats
from relaycall.media.video.sources import TestPattern
from relaycall.quality.adaptation import VideoAdapted
from relaycall.quality.sample import Sample
from relaycall.relays.server import RelayServer
from tests.benchmarks.calls import PASSWORD, TIMEOUT, USERNAME, AiortcCall
from tests.benchmarks.content import Speech

FRAME_RATE = 25
FROZEN = 0.5  # seconds without a new picture


@dataclass
class Seen:
    """What one end found between `begin` and `finish`.

    Attributes:
        seconds: between the two.
        heard: frames of 20 ms of the other end's voice that it decoded or restored.
        made_up: frames for which there was nothing. Of relaycall only.
        pictures: when each picture came, in seconds.
        video_rates: bit/s of the video that it sent, once a second.
        samples: how it was from second to second; times are since `begin`. Of relaycall only.
        events: when each came, its name, and of a change of video the reason. Of relaycall only.
        cpu: of one core, as a share.
    """

    seconds: float = 0.0
    heard: int = 0
    made_up: int = 0
    pictures: list[float] = field(default_factory=list)
    video_rates: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    events: list[tuple[float, str, str]] = field(default_factory=list)
    cpu: float = 0.0

    def count(self, event: str) -> int:
        """How often this event came."""
        return sum(name == event for _, name, _ in self.events)

    @property
    def frozen(self) -> tuple[int, float]:
        """How often there was no new picture for half a second, and for how long in all; see `freezes`."""
        return freezes(self.pictures, self.seconds)


def freezes(times: Sequence[float], seconds: float) -> tuple[int, float]:
    """Pauses of more than half a second after the first picture, the last one until the end: how many, how long."""
    if not times:
        return 1, seconds
    long = [pause for earlier, later in pairwise([*times, seconds]) if (pause := later - earlier) > FROZEN]
    return len(long), sum(long)


class Screen:
    """Notes when each picture came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def write(self, frame: VideoFrame) -> None:
        self.times.append(time.monotonic())

    def close(self) -> None:
        """There is nothing to release."""


class RelaycallEnd:
    """By relaycall, over all of the relays.

    Args:
        width, height: of what it shows.
        max_bitrate: of all that it sends, in bit/s.
    """

    def __init__(self, width: int, height: int, max_bitrate: int | None = None) -> None:
        self._size = width, height
        self._options = MediaOptions(laboratory=True, max_bitrate=max_bitrate)
        self._screen = Screen()
        self._events: list[tuple[float, str, str]] = []
        self._call: MediaCall | None = None
        self._peer_record = b""
        self._began = self._cpu = 0.0
        self._connected = 0.0
        self._before: AudioStats | None = None

    async def offer(self, uris: list[str]) -> bytes:
        return await self._prepare(uris, caller=True)

    async def answer(self, uris: list[str], offer: bytes) -> bytes:
        self._peer_record = offer
        return await self._prepare(uris, caller=False)

    async def _prepare(self, uris: list[str], *, caller: bool) -> bytes:
        self._call = MediaCall(
            [RelayServer.parse(uri, username=USERNAME, password=PASSWORD) for uri in uris],
            caller=caller,
            source=Speech(),
            video=TestPattern(*self._size, FRAME_RATE),
            video_sink=self._screen,
            options=self._options,
            on_event=self._happened,
        )
        return await self._call.prepare()

    def _happened(self, event: CallEvent) -> None:
        why = str(event.reason) if isinstance(event, VideoAdapted) else ""
        self._events.append((time.monotonic() - self._began, type(event).__name__, why))

    async def connect(self, answer: bytes | None) -> None:
        """Connect, on the end that offered with the other's record."""
        assert self._call is not None
        await self._call.connect(self._peer_record if answer is None else answer, timeout=TIMEOUT)
        self._connected = time.monotonic()

    def begin(self) -> None:
        """Count from now on."""
        self._began, self._cpu, self._before = time.monotonic(), time.process_time(), self._stats()
        self._events.clear()

    def finish(self) -> Seen:
        """What there was since then."""
        assert self._call is not None
        assert self._call.watch is not None
        assert self._before is not None
        before, now = self._before, self._stats()
        late = self._began - self._connected
        samples = [sample for sample in self._call.watch.history.samples if sample.at > late]
        wall = time.monotonic() - self._began
        return Seen(
            seconds=wall,
            heard=now.frames_heard + now.recovered - before.frames_heard - before.recovered,
            made_up=now.concealed - before.concealed,
            pictures=[at - self._began for at in self._screen.times if at > self._began],
            video_rates=[float(sample.video_bitrate_sent) for sample in samples],
            samples=samples,
            events=self._events,
            cpu=(time.process_time() - self._cpu) / wall,
        )

    def _stats(self) -> AudioStats:
        assert self._call is not None
        assert self._call.session is not None
        return self._call.session.stats()

    async def close(self) -> None:
        if self._call is not None:
            await self._call.close()


class PatternTrack(MediaStreamTrack):
    """The same pictures, for aiortc."""

    kind = "video"

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self._pattern = TestPattern(width, height, FRAME_RATE)
        self._start = time.monotonic()

    async def recv(self) -> VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        frame = await self._pattern.read()
        assert frame is not None
        frame.pts, frame.time_base = int((time.monotonic() - self._start) * 90000), Fraction(1, 90000)
        return frame


class AiortcEnd(AiortcCall):
    """By plain aiortc with its own defaults, told to use the relay only; it takes one relay.

    Args:
        width, height: of what it shows.
    """

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self._size = width, height
        self._screen = Screen()
        self._watching: list[asyncio.Task[None]] = []
        self._rates: list[float] = []
        self._began = self._cpu = 0.0
        self._heard = 0

    def _open(self, uri: str) -> RTCPeerConnection:
        pc = super()._open(uri)
        pc.addTrack(PatternTrack(*self._size))
        return pc

    def _listen(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            super()._listen(track)
        else:
            self._watching.append(asyncio.ensure_future(self._watch(track)))

    async def _watch(self, track: Any) -> None:
        with suppress(MediaStreamError):
            while True:
                self._screen.write(await track.recv())

    def begin(self) -> None:
        """Count from now on."""
        self._began, self._cpu, self._heard = time.monotonic(), time.process_time(), self._frames_heard
        self._watching.append(asyncio.ensure_future(self._measure_rates()))

    async def _measure_rates(self) -> None:
        sent, due = await self.video_bytes(), time.monotonic()
        while True:
            due += 1
            await asyncio.sleep(due - time.monotonic())
            before, sent = sent, await self.video_bytes()
            self._rates.append(8.0 * (sent - before))

    async def video_bytes(self) -> int:
        """So many were sent."""
        assert self._pc is not None
        [sender] = [each for each in self._pc.getSenders() if each.kind == "video"]
        stats = await sender.getStats()
        return int(next(each.bytesSent for each in stats.values() if each.type == "outbound-rtp"))

    def finish(self) -> Seen:
        """What there was since then."""
        wall = time.monotonic() - self._began
        return Seen(
            seconds=wall,
            heard=self._frames_heard - self._heard,
            pictures=[at - self._began for at in self._screen.times if at > self._began],
            video_rates=self._rates,
            cpu=(time.process_time() - self._cpu) / wall,
        )

    async def offer(self, uris: list[str]) -> tuple[str, str]:  # type: ignore[override]
        return (await super().offer(uris[0]))[0]

    async def answer(self, uris: list[str], offer: tuple[str, str]) -> tuple[str, str]:  # type: ignore[override]
        return (await super().answer(uris[0], offer))[0]

    async def close(self) -> None:
        for task in self._watching:
            task.cancel()
        await super().close()


KINDS = {"relaycall": RelaycallEnd, "aiortc": AiortcEnd}
