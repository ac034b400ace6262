"""What a call hears: packets are put in order, decoded and delivered at once.

It stands in for aiortc's jitter buffer. That one turns a single lost packet into 280 ms of silence and a lasting delay
of as much, and hands frames to a decoder thread, whose wake-ups cost more than the decoding.
Nothing is held back for an even pace here: frames carry their timestamps, and who plays them has the clock.
"""

from __future__ import annotations

from collections.abc import Callable

from aiortc.rtp import RtpPacket
from av import AudioFrame, CodecContext, Packet
from av.audio.codeccontext import AudioCodecContext

from relaycall.media.audio import SAMPLE_RATE, TIME_BASE

MAX_WAIT = 3  # packets after a missing one before it counts as lost: 60 ms


class Playout:
    """Orders and decodes the Opus packets of one stream.

    Args:
        deliver: called with each frame: 16-bit, mono, 48 kHz, `pts` in samples since the first.

    Attributes:
        frames: delivered so far.
        late: packets that came after their turn.
        undecodable: packets that are not Opus.
    """

    def __init__(self, deliver: Callable[[AudioFrame], None]) -> None:
        self.frames = self.late = self.undecodable = 0
        self._deliver = deliver
        self._waiting: dict[int, RtpPacket] = {}  # by sequence number
        self._next: int | None = None  # sequence number whose turn it is
        self._origin = 0  # timestamp of the first packet
        codec = CodecContext.create("libopus", "r")
        assert isinstance(codec, AudioCodecContext)
        codec.sample_rate = SAMPLE_RATE
        codec.layout = "mono"
        codec.format = "s16"
        self._codec = codec

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Take a packet as it arrives. What aiortc gets back says: no keyframe is needed, no frame is for you."""
        sequence_number = packet.sequence_number
        if self._next is None:
            self._next, self._origin = sequence_number, packet.timestamp
        ahead = (sequence_number - self._next) & 0xFFFF
        if ahead >= 0x8000:
            self.late += 1
            return False, None
        self._waiting[sequence_number] = packet
        if ahead > MAX_WAIT and self._next not in self._waiting:  # what is missing is lost
            turn = self._next
            self._next = min(self._waiting, key=lambda number: (number - turn) & 0xFFFF)
        while (ready := self._waiting.pop(self._next, None)) is not None:
            self._next = (self._next + 1) & 0xFFFF
            self._decode(ready)
        return False, None

    def _decode(self, packet: RtpPacket) -> None:
        coded = Packet(packet.payload)
        coded.pts = packet.timestamp - self._origin
        coded.time_base = TIME_BASE
        try:
            frames = self._codec.decode(coded)
        except Exception:  # av.FFmpegError, as a rule: the peer may send anything
            self.undecodable += 1
            return
        for frame in frames:
            self.frames += 1
            self._deliver(frame)
