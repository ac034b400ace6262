"""Video over a path that loses packets both ways: how many pictures are seen, and for how long none is.

In virtual time, from the sender's pacer to the receiver's decoder, with packets as large as those of real encoders.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from av import VideoFrame

from relaycall.media import budget, transport
from relaycall.media.srtp import derive_keys
from relaycall.media.transport import RtpTransport
from relaycall.media.video import receiver as video_receiver
from relaycall.media.video.decoder import Decoded
from relaycall.media.video.encoder import Encoded
from relaycall.media.video.format import Encoding, VideoCodec
from relaycall.media.video.frames import EncodedFrame
from relaycall.media.video.receiver import VideoReceiver
from relaycall.media.video.sender import VideoSender
from tests.media.paths import VirtualLoop
from tests.media.video.coded import vp8_header
from tests.media.video.test_sender import Ticking

RATE, BITRATE = 15, 330_000
SECONDS = 12.0
SEEDS = (0, 1)
FRAME = VideoFrame(16, 16, "yuv420p")


class LossyPath:
    """One end of a path, which loses packets independently of each other."""

    def __init__(self, luck: random.Random, loss: float, delay: float) -> None:
        self.peer: LossyPath | None = None
        self._luck, self._loss, self._delay = luck, loss, delay
        self._receiver: Callable[[bytes], bool] | None = None

    def send_packet(self, data: bytes, *, once: bool = False) -> None:
        assert self.peer is not None
        if self._luck.random() >= self._loss:
            delay = self._delay + self._luck.random() * 0.002
            asyncio.get_running_loop().call_later(delay, self.peer._deliver, data)

    def set_receiver(self, receiver: Callable[[bytes], bool] | None) -> None:
        self._receiver = receiver

    def _deliver(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver(data)


class SomeEncoder:
    """Frames of the bit rate it is given; a keyframe is as large as four."""

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck

    async def encode(self, frame: VideoFrame, encoding: Encoding, *, keyframe: bool, time: float) -> Encoded:
        await asyncio.sleep(0.004)
        size = int(encoding.bitrate / 8 / RATE * self._luck.uniform(0.7, 1.3) * (4 if keyframe else 1))
        header = vp8_header(640, 360, keyframe=keyframe)
        return Encoded(header + bytes(size - len(header)), keyframe, 640, 360)

    async def close(self) -> None:
        pass


class SomeDecoder:
    """A picture for each frame that has the one before it."""

    def __init__(self, deliver: Callable[[Decoded], None]) -> None:
        self._deliver = deliver
        self._in_hand: deque[EncodedFrame] = deque()

    @property
    def has_room(self) -> bool:
        return len(self._in_hand) < 2

    @property
    def has_keyframe(self) -> bool:
        return any(frame.keyframe for frame in self._in_hand)

    def decode(self, frame: EncodedFrame) -> None:
        self._in_hand.append(frame)
        asyncio.get_running_loop().call_later(0.003, self._done)

    def _done(self) -> None:
        self._in_hand.popleft()
        self._deliver(Decoded((FRAME,)))

    async def close(self) -> None:
        pass


class Sink:
    """When pictures were seen."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def write(self, frame: VideoFrame) -> None:
        self.times.append(asyncio.get_running_loop().time())

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Seen:
    """Of what a camera gave: which share was seen, and the longest time without a picture, in seconds."""

    share: float
    gap: float
    resent: float  # share of the packets


async def _call(loss: float, delay: float, seed: int) -> Seen:
    loop = asyncio.get_running_loop()
    luck = random.Random(f"{loss} {delay} {seed}")
    here, there = LossyPath(luck, loss, delay), LossyPath(luck, loss, delay)
    here.peer, there.peer = there, here
    keys = [derive_keys(bytes(32), caller=caller) for caller in (True, False)]
    ours = RtpTransport(here, keys[0], local_ssrc=1, remote_ssrc=2, payload_type=111)
    theirs = RtpTransport(there, keys[1], local_ssrc=2, remote_ssrc=1, payload_type=111)
    for end in (ours, theirs):
        end.open()
    sink = Sink()
    sender = VideoSender(ours, VideoCodec.VP8, rtt=lambda: 2 * delay)
    sender._encoder = SomeEncoder(luck)  # type: ignore[assignment]
    receiver = VideoReceiver(theirs, (VideoCodec.VP8,), sink, rtt=lambda: 2 * delay)
    sender.encoding = Encoding(BITRATE, RATE, 360)
    start = loop.time()
    source = Ticking(RATE)
    sender.set_source(source)
    await asyncio.sleep(SECONDS)
    stats = sender.stats()
    await sender.close()
    await receiver.close()
    assert receiver.stats().undecodable == 0
    times = [start, *sink.times, start + SECONDS]
    return Seen(
        len(sink.times) / source.read_frames,
        max(after - before for before, after in pairwise(times)),
        stats.sent_again / stats.packets,
    )


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float, int], Seen]:
    """A call in virtual time, with what has threads or reads the clock replaced."""

    def run(loss: float, delay: float, seed: int) -> Seen:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            loop: Any = runner.get_loop()
            for module in (transport, budget, video_receiver):
                monkeypatch.setattr(module, "monotonic", loop.time)
            monkeypatch.setattr(video_receiver, "VideoDecoder", SomeDecoder)
            return runner.run(_call(loss, delay, seed))

    return run


@pytest.mark.parametrize(
    ("loss", "delay", "share", "gap"),
    [
        (0.0, 0.04, 0.97, 0.4),
        (0.1, 0.04, 0.95, 1.0),
        (0.3, 0.04, 0.8, 2.0),
        (0.1, 0.3, 0.8, 2.0),
    ],
)
def test_what_is_seen_of_a_lossy_path(
    call: Callable[[float, float, int], Seen], loss: float, delay: float, share: float, gap: float
) -> None:
    found = [call(loss, delay, seed) for seed in SEEDS]
    print(loss, delay, found)
    assert sum(seen.share for seen in found) / len(found) > share
    assert max(seen.gap for seen in found) < gap
    assert all(seen.resent < 0.8 for seen in found)
