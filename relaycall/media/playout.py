"""What a call hears: packets are held back as long as the path needs, decoded, and delivered every 20 ms.

It stands in for aiortc's jitter buffer. That one turns a single lost packet into 280 ms of silence and a lasting delay
of as much, and hands frames to a decoder thread, whose wake-ups cost more than the decoding.

`jitter` says which packet is due, libopus makes up for the missing ones, `stretch` brings the delay back to its target.
A missing packet is restored if the one after it is there and holds a copy of it; otherwise something is made up, which
fades away within 100 ms, and silence follows until there is sound again: the listener's timeline has no gaps. The clock
shares its wake-ups with the sending of packets, since waking up is most of what 20 ms of a call cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiortc.rtp import RtpPacket
from av import AudioFrame

from relaycall.media.audio import FRAME_BYTES, FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE, SILENCE, pcm_frame
from relaycall.media.jitter import JitterBuffer
from relaycall.media.opus import Decoder, has_copy
from relaycall.media.queueing import Queueing
from relaycall.media.stretch import ABOVE, BELOW, NEEDED, Stretcher, fade

MAX_BURST = 5  # frames delivered at once to catch up after the event loop stalled
FADE = 0.25  # by which the loudness of each made-up frame after the first falls: four fade away
MAX_DRAINED = 25  # frames delivered by close()


class Playout:
    """Plays the Opus packets of one stream, from the first one on, until it is closed.

    Args:
        deliver: called every 20 ms with a frame: 16-bit, mono, 48 kHz, `pts` in samples since the first, without gaps.
            Raises nothing.

    Attributes:
        phase: loop time of any moment at which frames are to be delivered; set before the first packet.
        frames: delivered so far.
        played: packets decoded for them.
        recovered: frames restored from the copy in the packet after theirs.
        concealed: the other frames, for which no packet was there, or none that is Opus.
        undecodable: packets that are not 20 ms of Opus.

    Raises:
        MediaError: there is no libopus.
    """

    def __init__(self, deliver: Callable[[AudioFrame], None]) -> None:
        self.phase = 0.0
        self.frames = self.played = self.recovered = self.concealed = self.undecodable = 0
        self._deliver = deliver
        self._buffer = JitterBuffer()
        self._decoder = Decoder()
        self._stretcher = Stretcher()
        self._pcm = b""  # decoded, not yet delivered
        self._before = SILENCE  # delivered last
        self._loudness = 1.0  # at the end of the latest frame, if it was made up
        self._missing = False  # it was made up
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # loop time of the next frame
        self._closed = False

    @property
    def late(self) -> int:
        """Packets that came after their turn."""
        return self._buffer.late

    @property
    def delay_ms(self) -> float:
        """How long sound is held back, from the arrival of a packet that nothing delayed."""
        return self._buffer.delay * 1000

    @property
    def target_ms(self) -> float:
        """How long it should be held back, by what the path does."""
        return self._buffer.target * 1000

    @property
    def queue_ms(self) -> float:
        """By how much packets of the last second came later than the quickest of the last 30 s, on average."""
        return self._buffer.queueing.mean * 1000

    @property
    def removed_ms(self) -> float:
        """Sound left out to bring the delay back."""
        return (self._buffer.skipped + self._stretcher.removed) * 1000 / SAMPLE_RATE

    def add(self, packet: RtpPacket) -> tuple[bool, None]:
        """Take a packet as it arrives. What aiortc gets back says: no keyframe is needed, no frame is for you."""
        if self._closed:
            return False, None
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            now = self._loop.time()
            self._due = now + FRAME_SECONDS + (self.phase - now) % FRAME_SECONDS
            self._timer = self._loop.call_at(self._due, self._tick)
        self._buffer.add(packet.timestamp, packet.payload, self._loop.time())
        return False, None

    def path_changed(self) -> None:
        """Packets come another way: what they took before says nothing of how long they wait now."""
        self._buffer.queueing = Queueing()

    def close(self) -> None:
        """Stop the clock, deliver what is held back, at most 500 ms, and free the decoder. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(MAX_DRAINED):
            if self._buffer.empty and not self._pcm:
                break
            pcm = self._pcm if self._buffer.empty else self._at_least(FRAME_BYTES)
            self._pcm = pcm[FRAME_BYTES:]
            self._emit(pcm[:FRAME_BYTES].ljust(FRAME_BYTES, b"\0"))
        self._decoder.close()

    def _tick(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        behind = int((now - self._due) / FRAME_SECONDS)
        if behind >= MAX_BURST:
            self._due += behind * FRAME_SECONDS  # the loop stalled: what is long overdue is left out
        while self._due <= now and not self._closed:
            self._play(self._due)
            self._due += FRAME_SECONDS
        if not self._closed:
            self._timer = self._loop.call_at(self._due, self._tick)

    def _play(self, due: float) -> None:
        surplus = self._buffer.tick(due, len(self._pcm) // 2)
        pcm = self._at_least(FRAME_BYTES) if BELOW <= surplus <= ABOVE else self._fitted(surplus)
        self._pcm = pcm[FRAME_BYTES:]
        self._emit(pcm[:FRAME_BYTES])

    def _fitted(self, surplus: int) -> bytes:
        """At least 20 ms, made shorter or longer."""
        pcm = self._at_least(FRAME_BYTES)
        if surplus > 0 and len(pcm) < 2 * NEEDED and self._buffer.ready:
            pcm += self._decoded()
        self._pcm = self._stretcher.fit(pcm, self._before, surplus, self.frames * FRAME_SAMPLES)
        return self._at_least(FRAME_BYTES)

    def _at_least(self, size: int) -> bytes:
        pcm = self._pcm
        while len(pcm) < size:
            pcm += self._decoded()
        return pcm

    def _decoded(self) -> bytes:
        """The next 20 ms of what was sent, or what stands in for them."""
        payload = self._buffer.next()
        if payload is None:
            pcm = self._restored()
        else:
            if self._missing and has_copy(payload):
                self._buffer.expect_copies()  # there was one, and we did not wait for it
            pcm = self._decoder.decode(payload)
            if pcm is not None:
                self.played += 1
            else:
                self.undecodable += 1
        if pcm is None:
            return self._made_up()
        loudness, self._loudness, self._missing = self._loudness, 1.0, False
        return pcm if loudness == 1.0 else fade(pcm, loudness, 1.0)

    def _restored(self) -> bytes | None:
        """The missing packet's 20 ms, from the one after it."""
        following = self._buffer.following
        pcm = self._decoder.restore(following) if following is not None else None
        if pcm is not None:
            self.recovered += 1
            self._buffer.expect_copies()
        return pcm

    def _made_up(self) -> bytes:
        self.concealed += 1
        loudness = self._loudness
        if loudness == 0.0:
            return SILENCE
        if self._missing:
            self._loudness -= FADE
        self._missing = True
        made_up = self._decoder.conceal()
        return made_up if loudness == self._loudness == 1.0 else fade(made_up, loudness, self._loudness)

    def _emit(self, pcm: bytes) -> None:
        self._before = pcm
        frame = pcm_frame(pcm, self.frames * FRAME_SAMPLES)
        self.frames += 1
        self._deliver(frame)
