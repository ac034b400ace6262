"""What sound costs: CPU per packet of SRTP and transport, per 20 ms of Opus, and per minute of a call.

The call is two sessions over a path in memory, so the relay path is not in it. Beside it runs the same call as plain
aiortc makes it: its 96 kb/s stereo encoder, its jitter buffer and decoder thread, over the same transport.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from aiortc import MediaStreamTrack, RTCRtpCodecParameters, RTCRtpReceiver, RTCRtpSender
from aiortc.codecs.opus import OpusEncoder
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtcpParameters, RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from aiortc.rtp import RtpPacket
from av import AudioFrame

from relaycall.media.audio import FRAME_SAMPLES, ConstantRateOpus, pcm_frame
from relaycall.media.budget import Budget
from relaycall.media.files import FileSource
from relaycall.media.playout import Playout
from relaycall.media.session import AudioSession
from relaycall.media.srtp import IncomingSrtp, OutgoingSrtp, derive_keys
from relaycall.media.transport import RtpTransport
from tests.media.paths import MemoryPath, VirtualLoop, memory_pair

SPEECH = Path(__file__).parents[2] / "examples" / "speech.ogg"
CALL_KEY = secrets.token_bytes(32)
ONE, OTHER = 1, 2  # SSRCs
PACKETS = 5000
REPEATS = 7


class NoPath(MemoryPath):
    """Takes packets and forgets them."""

    def send_packet(self, data: bytes, *, once: bool = False) -> None:
        pass


class NoReceiver:
    """Stands for aiortc's receiver and does nothing."""

    async def _handle_rtp_packet(self, packet: object, arrival_time_ms: int) -> None:
        pass


class SpeechTrack(MediaStreamTrack):
    """Speech as frames, paced as in aiortc's own example track."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._source = LoopedSpeech()
        self._index = 0
        self._start = 0.0

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        if self._index == 0:
            self._start = time.monotonic()
        await asyncio.sleep(self._start + self._index * 0.02 - time.monotonic())
        frame = pcm_frame(self._source.read() or b"", self._index * FRAME_SAMPLES)
        self._index += 1
        return frame


class LoopedSpeech:
    """Speech for ever, decoded beforehand, so that a file's decoder is in neither call's figure."""

    _blocks: tuple[bytes, ...] = ()

    def __init__(self) -> None:
        if not LoopedSpeech._blocks:
            source = FileSource(SPEECH)
            LoopedSpeech._blocks = tuple(iter(source.read, None))
            source.close()
        self._next: Iterator[bytes] = cycle(LoopedSpeech._blocks)

    def read(self) -> bytes | None:
        return next(self._next)

    def close(self) -> None:
        pass


def packets() -> list[bytes]:
    return [struct.pack("!BBHLL", 0x80, 0xEF, n, 960 * n, ONE) + bytes(80) for n in range(PACKETS)]


def cost(work: Callable[[], object], count: int) -> float:
    """Microseconds of CPU per item."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / count * 1e6


def srtp_cost() -> dict[str, float]:
    keys = derive_keys(CALL_KEY, caller=True)
    outgoing, incoming = OutgoingSrtp(keys.send, ONE), IncomingSrtp(keys.send, ONE)
    protected: list[Any] = []
    plain = packets()
    protect = cost(lambda: protected.extend(map(outgoing.protect_rtp, plain)), PACKETS)
    unprotect = cost(lambda: list(map(incoming.unprotect_rtp, protected)), PACKETS)
    return {"srtp_protect_us": protect, "srtp_unprotect_us": unprotect}


def transport_cost() -> dict[str, float]:
    def side(caller: bool, path: MemoryPath) -> RtpTransport:
        keys = derive_keys(CALL_KEY, caller=caller)
        local, remote = (ONE, OTHER) if caller else (OTHER, ONE)
        transport = RtpTransport(path, keys, local_ssrc=local, remote_ssrc=remote, payload_type=111)
        transport._register_rtp_receiver(NoReceiver(), None)
        transport._budget = Budget(10 * PACKETS)
        transport.open()
        return transport

    def send(transport: RtpTransport) -> None:
        for packet in plain:
            try:
                transport._send_rtp(packet).send(None)
            except StopIteration:
                continue

    plain = packets()
    keys = derive_keys(CALL_KEY, caller=True)
    protect = OutgoingSrtp(keys.send, ONE).protect_rtp
    protected: list[Any] = [protect(packet) for packet in plain]
    sender, receiver = side(True, NoPath()), side(False, NoPath())
    send_cost = cost(lambda: send(sender), PACKETS)
    receive_cost = cost(lambda: [receiver.receive(packet) for packet in protected], PACKETS)
    assert receiver.counters.audio_received == sender.counters.audio_sent == PACKETS
    return {"transport_send_us": send_cost, "transport_receive_us": receive_cost}


def encoder_cost() -> dict[str, float]:
    blocks = list(islice(LoopedSpeech()._next, 300))
    ours, plain = ConstantRateOpus(), OpusEncoder()
    frames = [pcm_frame(block, n * FRAME_SAMPLES) for n, block in enumerate(blocks)]
    return {
        "opus_encode_us": cost(lambda: [ours.encode(block, n) for n, block in enumerate(blocks)], 300),
        "aiortc_opus_encode_us": cost(lambda: [plain.encode(frame) for frame in frames], 300),
    }


def playout_cost() -> dict[str, float]:
    """A packet that arrives and is played, with decoding, without the wake-ups."""
    encoder = ConstantRateOpus()
    coded = [bytes(encoder.encode(block, 0)) for block in islice(LoopedSpeech()._next, 300)]

    async def play(loop: Any) -> float:
        playout = Playout(lambda frame: None)

        def work() -> None:
            for number, payload in enumerate(coded):
                playout.add(RtpPacket(111, 0, number, FRAME_SAMPLES * number, ONE, payload))
                loop.now += 0.02
                playout._tick()

        used = cost(work, len(coded))
        playout.close()
        assert playout.played == len(coded)
        return used

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return {"playout_us": runner.run(play(runner.get_loop()))}


async def our_call(seconds: float) -> float:
    """CPU seconds per call-minute, both sides together."""
    one, other = memory_pair()
    sessions = [
        AudioSession(one, call_key=CALL_KEY, caller=True, local_ssrc=ONE, remote_ssrc=OTHER, source=LoopedSpeech()),
        AudioSession(other, call_key=CALL_KEY, caller=False, local_ssrc=OTHER, remote_ssrc=ONE, source=LoopedSpeech()),
    ]
    for session in sessions:
        await session.start()
    used = await measured(seconds)
    for session in sessions:
        assert session.frames_heard > 40 * seconds
        await session.close()
    return used


async def plain_call(seconds: float) -> float:
    """The same with what aiortc has."""
    one, other = memory_pair()
    codec = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48000, channels=2, payloadType=111)
    ends: list[tuple[RTCRtpSender, RTCRtpReceiver, asyncio.Task[None]]] = []
    for path, caller, local, remote in ((one, True, ONE, OTHER), (other, False, OTHER, ONE)):
        keys = derive_keys(CALL_KEY, caller=caller)
        transport: Any = RtpTransport(path, keys, local_ssrc=local, remote_ssrc=remote, payload_type=111)
        transport.open()
        receiver, sender = RTCRtpReceiver("audio", transport), RTCRtpSender(SpeechTrack(), transport)
        receiver._track = RemoteStreamTrack("audio")
        receiver._set_rtcp_ssrc(local)
        sender._ssrc = local
        await receiver.receive(RTCRtpReceiveParameters(codecs=[codec]))
        await sender.send(RTCRtpSendParameters(codecs=[codec], rtcp=RTCRtcpParameters(cname="name")))
        ends.append((sender, receiver, asyncio.create_task(drain(receiver.track))))
    used = await measured(seconds)
    for sender, receiver, task in ends:
        await sender.stop()
        await receiver.stop()
        await task
    return used


async def drain(track: MediaStreamTrack) -> None:
    try:
        while True:
            await track.recv()
    except MediaStreamError:
        return


async def measured(seconds: float) -> float:
    await asyncio.sleep(0.3)
    wall, start = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - start) / (time.monotonic() - wall) * 60


def medians(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    runs = [measure() for _ in range(REPEATS)]
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def run(seconds: float) -> dict[str, float]:
    """All figures. The calls take most of the time: three of each kind, one after the other, in so many seconds."""
    figures = medians(srtp_cost) | medians(transport_cost) | medians(encoder_cost) | medians(playout_cost)
    calls = [(asyncio.run(our_call(seconds / 6)), asyncio.run(plain_call(seconds / 6))) for _ in range(3)]
    ours, plain = (statistics.median(values) for values in zip(*calls, strict=True))
    figures["call_cpu_s_per_minute"] = ours
    figures["aiortc_call_cpu_s_per_minute"] = plain
    figures["call_to_aiortc_call"] = ours / plain
    return figures


if __name__ == "__main__":
    for name, value in run(30.0).items():
        print(f"{name:32} {value:8.2f}")
