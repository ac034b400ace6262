"""Video calls for tests: what is shown, what is seen, and the calls between."""

from __future__ import annotations

from typing import Any

from av import VideoFrame

from relaycall.call.call import Call
from relaycall.call.phone import Phone
from relaycall.media.srtp import RTP_HEADER_SIZE
from relaycall.media.video.receiver import VideoReceiver
from relaycall.media.video.sender import VideoSender
from relaycall.media.video.sources import TestPattern, pattern_number
from relaycall.media.video.stream import VIDEO_PAYLOAD_TYPES
from tests.call.phones import Mouth, connected, next_ring
from tests.scenarios.calling import until

EVENTS = ("video_adapted", "audio_adapted", "video_ended", "peer_changed", "level_changed", "relay_changed")


class Scene(TestPattern):
    """A test pattern that counts how often it was read and closed."""

    __test__ = False

    def __init__(self, width: int = 320, height: int = 180, frame_rate: int = 30) -> None:
        super().__init__(width, height, frame_rate)
        self.read_times = self.closed = 0

    async def read(self) -> VideoFrame | None:
        self.read_times += 1
        return await super().read()

    def close(self) -> None:
        self.closed += 1


class Screen:
    """A sink that keeps the number of each picture of a test pattern, and its size."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.sizes: set[tuple[int, int]] = set()
        self.closed = 0

    def write(self, frame: VideoFrame) -> None:
        self.numbers.append(pattern_number(frame))
        self.sizes.add((frame.width, frame.height))

    def close(self) -> None:
        self.closed += 1

    async def sees(self, count: int = 3, timeout: float = 5.0) -> None:
        """Wait for so many more pictures."""
        least = len(self.numbers) + count
        await until(lambda: len(self.numbers) >= least, timeout, f"seeing {count} pictures")


class Told:
    """The events of a call, by name, in their order."""

    def __init__(self, call: Call) -> None:
        self.events: list[tuple[str, Any]] = []
        for name in EVENTS:
            call.on(name, lambda event, name=name: self.events.append((name, event)))

    def of(self, name: str) -> list[Any]:
        return [event for told, event in self.events if told == name]


async def video_call(
    alice: Phone, bob: Phone, ours: dict[str, Any] | None = None, theirs: dict[str, Any] | None = None
) -> tuple[Call, Call, Told, Told]:
    """Alice calls Bob, each with these pictures, and both are connected."""
    outgoing = await alice.call("bob", audio=Mouth(440), **(ours or {}))
    told = Told(outgoing)
    incoming = (await next_ring(bob)).accept(audio=Mouth(660), **(theirs or {}))
    heard = Told(incoming)
    await connected(outgoing, incoming)
    return outgoing, incoming, told, heard


def sender_of(call: Call) -> VideoSender:
    assert call.media is not None
    assert call.media._running is not None
    sender = call.media._running._picture.sender
    assert sender is not None
    return sender


def receiver_of(call: Call) -> VideoReceiver:
    assert call.media is not None
    assert call.media._running is not None
    receiver = call.media._running._picture.receiver
    assert receiver is not None
    return receiver


def is_video(packet: bytes) -> bool:
    """Whether it is one of video, as a relay can tell."""
    return len(packet) > RTP_HEADER_SIZE and packet[0] == 0x80 and packet[1] & 0x7F in VIDEO_PAYLOAD_TYPES


def is_sound(packet: bytes) -> bool:
    """Whether it is one of the voice."""
    return len(packet) > RTP_HEADER_SIZE and packet[0] == 0x80 and packet[1] & 0x7F == 111
