"""From mouth to ear: what a call adds to the delay of its network. Here the network takes no time at all.

Marks are in the sound: 1 kHz for 20 ms, each half second. One is spoken 20 ms before its block is read, since a block
is read when its last sample has been spoken. It is heard when its frame is delivered, plus its place in the frame.
"""

from __future__ import annotations

import asyncio
import bisect
import math
from array import array
from collections.abc import Awaitable, Callable
from itertools import cycle
from typing import Any

from aiortc import MediaStreamTrack, RTCRtpCodecParameters, RTCRtpReceiver, RTCRtpSender
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtcpParameters, RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from av import AudioFrame

from relaycall.media.audio import FRAME_SAMPLES, FRAME_SECONDS, SilenceSource, pcm_frame
from relaycall.media.session import AudioSession
from relaycall.media.srtp import derive_keys
from relaycall.media.transport import RtpTransport
from tests.benchmarks.lossy_voice import speech
from tests.benchmarks.report import Figure, Report, Table
from tests.media.paths import MemoryPath, memory_pair

TITLE = "From mouth to ear: what a call adds to the delay of its network"
CALL_KEY = bytes(range(32))
ONE, OTHER = 1, 2  # SSRCs
EVERY = 25  # blocks between two marks
LOUD, QUIETER = 16000, 8  # peak of a mark; by how much the speech between them is made quieter
HEARD = 6000  # peak from which on it is a mark
SETTLE, SECONDS = 3.0, 6.0  # after a change, and to measure
LOSE_EVERY = 20  # packets
TARGET = 80.0  # ms
AUDIO = 0x80 | 111

Phase = tuple[str, Callable[[], object]]


class MarkedSpeech:
    """Speech with marks in it. Also an aiortc track's worth of frames."""

    def __init__(self) -> None:
        self.spoken: list[float] = []  # when the first sample of each mark was
        self._blocks = cycle(speech())
        self._mark = array("h", (round(LOUD * math.sin(math.tau * n / 48)) for n in range(FRAME_SAMPLES))).tobytes()
        self._number = 0

    def read(self) -> bytes | None:
        self._number += 1
        if self._number % EVERY:
            return array("h", (sample // QUIETER for sample in array("h", next(self._blocks)))).tobytes()
        self.spoken.append(asyncio.get_running_loop().time() - FRAME_SECONDS)
        return self._mark

    def close(self) -> None:
        pass


class MarkedTrack(MediaStreamTrack):
    """The same as frames, at an even pace."""

    kind = "audio"

    def __init__(self, source: MarkedSpeech) -> None:
        super().__init__()
        self._source, self._index, self._start = source, 0, 0.0

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        now = asyncio.get_running_loop().time()
        self._start = self._start or now
        await asyncio.sleep(self._start + self._index * FRAME_SECONDS - now)
        frame = pcm_frame(self._source.read() or b"", self._index * FRAME_SAMPLES)
        self._index += 1
        return frame


class Ear:
    """When each mark was heard."""

    def __init__(self) -> None:
        self.heard: list[float] = []
        self._latest = 0.0

    def hear(self, frame: AudioFrame) -> None:
        now = asyncio.get_running_loop().time()
        samples = array("h", bytes(frame.planes[0])[: 2 * frame.samples * len(frame.layout.channels)])
        at = next((n for n, sample in enumerate(samples) if abs(sample) > HEARD), None)
        if at is None:
            return
        when = now + at / len(samples) * frame.samples / 48000
        if when - self._latest > 0.1:  # what is made up after it goes on from it
            self.heard.append(when)
        self._latest = when


class Loss:
    """Loses audio packets when it is told to."""

    def __init__(self, path: MemoryPath) -> None:
        self.next, self.every = False, 0
        self._count = 0
        path.alter = self._alter

    def one(self) -> None:
        self.next = True

    def _alter(self, packet: bytes) -> bytes | None:
        if packet[1] != AUDIO:
            return packet
        self._count += 1
        if self.next or (self.every and self._count % self.every == 0):
            self.next = False
            return None
        return packet


async def _measured(source: MarkedSpeech, ear: Ear, phases: list[Phase], share: float) -> dict[str, list[float]]:
    """Milliseconds of each mark, by phase."""
    loop, found = asyncio.get_running_loop(), {}
    for name, begin in phases:
        begin()
        await asyncio.sleep(SETTLE * share)
        start = loop.time()
        await asyncio.sleep(SECONDS * share)
        found[name] = [
            (heard - source.spoken[spoken - 1]) * 1000
            for heard in ear.heard
            if heard >= start and (spoken := bisect.bisect(source.spoken, heard))
        ]
    return found


async def by_relaycall(share: float) -> dict[str, list[float]]:
    """Clean; after one loss; and while losses go on and packets hold copies."""
    source, ear = MarkedSpeech(), Ear()
    path, other = memory_pair()
    loss = Loss(path)
    ends = [
        AudioSession(path, call_key=CALL_KEY, caller=True, local_ssrc=ONE, remote_ssrc=OTHER, source=source),
        AudioSession(other, call_key=CALL_KEY, caller=False, local_ssrc=OTHER, remote_ssrc=ONE, source=SilenceSource()),
    ]
    ends[1].on_frame = ear.hear

    def lossy() -> None:
        loss.every = LOSE_EVERY
        ends[0].set_encoding(32000, 1 / LOSE_EVERY)

    for end in ends:
        await end.start()
    found = await _measured(source, ear, [("clean", lambda: None), ("one lost", loss.one), ("5 % lost", lossy)], share)
    for end in ends:
        await end.close()
    return found


async def by_aiortc(share: float) -> dict[str, list[float]]:
    """Clean; after one loss."""
    source, ear = MarkedSpeech(), Ear()
    path, other = memory_pair()
    loss = Loss(path)
    codec = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, channels=2, payloadType=111)
    ends: list[Any] = []
    for side, caller, local, remote in ((path, True, ONE, OTHER), (other, False, OTHER, ONE)):
        keys = derive_keys(CALL_KEY, caller=caller)
        transport: Any = RtpTransport(side, keys, local_ssrc=local, remote_ssrc=remote, payload_type=111)
        transport.open()
        if caller:
            sender = RTCRtpSender(MarkedTrack(source), transport)
            sender._ssrc = local
            ends.append(sender)
        else:
            receiver = RTCRtpReceiver("audio", transport)
            receiver._track = RemoteStreamTrack("audio")
            receiver._set_rtcp_ssrc(local)
            await receiver.receive(RTCRtpReceiveParameters(codecs=[codec]))
            ends.append(receiver)
    await ends[0].send(RTCRtpSendParameters(codecs=[codec], rtcp=RTCRtcpParameters(cname="name")))
    listening = asyncio.create_task(_listen(ends[1].track, ear))
    found = await _measured(source, ear, [("clean", lambda: None), ("one lost", loss.one)], share)
    for end in ends:
        await end.stop()
    await listening
    return found


async def _listen(track: MediaStreamTrack, ear: Ear) -> None:
    try:
        while True:
            ear.hear(await track.recv())  # type: ignore[arg-type]
    except MediaStreamError:
        return


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """So many calls of each, in turns."""
    share = 0.3 if tiny else 1.0
    kinds: dict[str, Callable[[float], Awaitable[dict[str, list[float]]]]] = {
        "aiortc": by_aiortc,
        "relaycall": by_relaycall,
    }
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(1 if tiny else runs):
        for name, kind in kinds.items():
            for phase, delays in (await kind(share)).items():
                found.setdefault((name, phase), []).extend(delays)
    report = Report()
    table = Table(
        "From mouth to ear in ms, the network's own delay being 0: median (least–most)",
        ["", *kinds, "target"],
    )
    for phase in ("clean", "one lost", "5 % lost"):
        figures = {name: Figure.of(found[name, phase]) for name in kinds if found.get((name, phase))}
        for name, figure in figures.items():
            report.figures[f"mouth_to_ear_{name}_{phase.replace(' %', '').replace(' ', '_')}_ms"] = figure
        ours = figures["relaycall"]
        target = f"{TARGET:.0f}: {'met' if ours.median <= TARGET else 'MISSED'}" if phase == "clean" else ""
        table.add(phase, figures.get("aiortc", "-"), ours, target)
    table.notes += [
        "Marks in speech, in real time over a path in memory; 20 ms to fill a block and 6.5 ms of codec are in it.",
        "one lost: after a single lost packet. 5 % lost: packets hold copies, and the buffer waits for them.",
    ]
    report.tables.append(table)
    return report
