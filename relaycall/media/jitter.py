"""The jitter buffer, without I/O: which packet is heard next, and how long sound is held back.

How it works. The *head* is the timestamp of the sound that is heard next. It moves on by one frame whenever a frame is
asked for, whether its packet is there or not, so a lost packet costs its own 20 ms and no delay. Timestamps alone give
the order: a sender that stalls leaves out timestamps, not sequence numbers.

    a packet arrives ...
    at or after the head                    kept until its turn; a second one with its timestamp takes its place
    before the head, nothing else to hear   the head goes back to it: what an outage delayed is heard
    before the head, and sound went on      late: dropped
    that would leave a surplus of 240 ms,   stray: dropped; after 200 ms with nothing but strays, eight at least, the
    it is a second too early, or not a      peer's timeline is a new one, and the head goes there
    whole number of frames from the head

The *transit time* of a packet is its arrival minus its timestamp. The least of the last 1.6 s is the time the path
takes when nothing delays it. The *delay* is how much later than that a frame is heard. The *target* is one frame more
than the spread of the transit times, without the two worst blocks of 160 ms: a single spike is an accident, and to
cover it would hold back all sound for the sake of 20 ms. What is above the target is the *surplus*. Above 260 ms it is
skipped at once, and before anything was heard, above one frame. Whoever asks brings the rest to zero by making the
sound shorter or longer.

While packets get lost and the next ones hold copies of them, the target is 25 ms longer, so that the next one is there
when the copy is needed. It stays so for 20 s after each loss: rare losses must not make the delay go up and down.

Packets that arrive while our own clock is overdue waited for us, not on the way: they do not count as jitter.
"""

from __future__ import annotations

import math
from collections import deque

from relaycall.media.opus import FRAME_SAMPLES, FRAME_SECONDS, SAMPLE_RATE
from relaycall.media.queueing import Queueing

MAX_TARGET = 0.4  # seconds
MAX_SURPLUS = 12 * FRAME_SAMPLES  # samples, after the head went back
MAX_AT_ALL = 13 * FRAME_SAMPLES  # samples
MAX_AHEAD = 1.0  # seconds before the least transit time
RESTART, RESTART_PACKETS = 0.2, 8  # seconds of strays, and how many
OUTAGE = 3  # frames missing in a row
OVERDUE = 0.01  # seconds that our clock may be late
MAX_PACKETS = 200  # 4 s
BLOCK = 0.16  # seconds
BLOCKS = 10
ACCIDENTS = 2  # blocks
COPIES = 20.0  # seconds for which more losses are expected after one
COPY_WAIT = FRAME_SECONDS + 0.005  # seconds: a frame, and by how much the delay may be below its target

_HALF, _MASK = 1 << 31, (1 << 32) - 1


class JitterBuffer:
    """The packets of one stream, from arrival until their turn. Timestamps are those of RTP, 32 bits or unwrapped.

    Attributes:
        late: packets that came after their turn, or were strays.
        skipped: samples left out because the delay was far too long.
        delay, target: seconds, as of the latest `tick`.
        queueing: how long packets wait on their way.
    """

    def __init__(self) -> None:
        self.late = self.skipped = 0
        self.delay = 0.0
        self.target = FRAME_SECONDS
        self._surplus = 0  # samples
        self._packets: dict[int, bytes] = {}  # by unwrapped timestamp
        self._latest: int | None = None  # timestamp of the packet that arrived last
        self._head = 0
        self._heard: int | None = None  # where the latest packet that was heard ended
        self._missing = 0  # frames in a row
        self._strays = 0  # packets in a row
        self._stray_since = 0.0  # arrival of the first of them
        self.queueing = Queueing()
        self._transits = _Transits()
        self._ticked = 0.0  # time of the latest tick
        self._copies_until = 0.0  # until when copies are waited for

    @property
    def ready(self) -> bool:
        """Whether the next packet is there."""
        return self._head in self._packets

    @property
    def empty(self) -> bool:
        """Whether no packet is there."""
        return not self._packets

    @property
    def following(self) -> bytes | None:
        """The packet after the one whose turn it was, if it is there already. It stays."""
        return self._packets.get(self._head)

    def expect_copies(self) -> None:
        """A packet was lost, and the one after it holds a copy: wait for those from now on."""
        self._copies_until = self._ticked + COPIES

    def add(self, timestamp: int, payload: bytes, now: float) -> None:
        """Take a packet as it arrives."""
        if self._latest is None:
            self._latest = self._head = timestamp
            self._ticked = now
        timestamp = self._latest + ((timestamp - self._latest + _HALF) & _MASK) - _HALF
        self._latest = timestamp
        transit = now - timestamp / SAMPLE_RATE
        behind = max(0, self._head - timestamp)
        too_late = behind > 0 and self._surplus + behind > MAX_SURPLUS
        too_early = transit < self._transits.least - MAX_AHEAD
        is_stray = too_late or too_early or (timestamp - self._head) % FRAME_SAMPLES
        if is_stray and not self._is_new_timeline(timestamp, now):
            self.late += 1
            return
        self._strays = 0
        if now <= self._ticked + FRAME_SECONDS + OVERDUE or self._transits.empty:
            self._transits.add(transit, now)
            self.queueing.add(transit, now)
        if timestamp < self._head:
            if not self._goes_back_to(timestamp):
                self.late += 1
                return
            self._head = timestamp
            self._surplus += behind
        if len(self._packets) == MAX_PACKETS:
            del self._packets[min(self._packets)]
        self._packets[timestamp] = payload

    def tick(self, now: float, waiting: int) -> int:
        """Note the time, and skip what is far too late. Called before the frame that is due is asked for.

        Args:
            now: when the frame is due, seconds.
            waiting: samples that were taken from here and are not heard yet.

        Returns:
            The surplus: samples by which the delay is above its target; negative below.
        """
        self._ticked = now
        if self._transits.empty:
            return 0
        copies = COPY_WAIT if now < self._copies_until else 0.0
        self.target = min(FRAME_SECONDS + copies + self._transits.spread, MAX_TARGET)
        self.delay = now - (self._head - waiting) / SAMPLE_RATE - self._transits.least
        self._surplus = round((self.delay - self.target) * SAMPLE_RATE)
        if self._surplus > (MAX_AT_ALL if self._heard is not None else FRAME_SAMPLES):
            self._skip(self._surplus // FRAME_SAMPLES * FRAME_SAMPLES)
        return self._surplus

    def next(self) -> bytes | None:
        """The packet whose turn it is. None: it is missing, and its turn is over."""
        payload = self._packets.pop(self._head, None)
        self._head += FRAME_SAMPLES
        if payload is None:
            self._missing += 1
        else:
            self._missing = 0
            self._heard = self._head
        return payload

    def _is_new_timeline(self, timestamp: int, now: float) -> bool:
        """Whether strays are all that comes, so that the head has moved to them."""
        if not self._strays:
            self._stray_since = now
        self._strays += 1
        if now - self._stray_since < RESTART or self._strays < RESTART_PACKETS:
            return False
        self._packets.clear()
        self._transits = _Transits()
        self._head = timestamp - FRAME_SAMPLES
        self._heard = self._head
        self._missing = OUTAGE
        self._surplus = 0
        return True

    def _goes_back_to(self, timestamp: int) -> bool:
        """Whether only made-up sound was heard since, and nothing better is there."""
        if self._heard is not None and timestamp < self._heard:
            return False
        return not self._packets or self._missing >= OUTAGE

    def _skip(self, samples: int) -> None:
        self._head += samples
        self._heard = self._head if self._heard is not None else None
        self.skipped += samples
        self._surplus -= samples
        self.delay -= samples / SAMPLE_RATE
        for timestamp in [timestamp for timestamp in self._packets if timestamp < self._head]:
            del self._packets[timestamp]


class _Transits:
    """The least and the most of the recent transit times, seconds, in blocks of 160 ms."""

    def __init__(self) -> None:
        self.least = -math.inf
        self.spread = 0.0
        self._least: deque[float] = deque(maxlen=BLOCKS)
        self._most: deque[float] = deque(maxlen=BLOCKS)
        self._end = 0.0

    @property
    def empty(self) -> bool:
        return not self._least

    def add(self, transit: float, now: float) -> None:
        if now >= self._end or not self._least:
            self._end = now + BLOCK
            self._least.append(transit)
            self._most.append(transit)
        elif transit < self._least[-1]:
            self._least[-1] = transit
        elif transit > self._most[-1]:
            self._most[-1] = transit
        self.least = min(self._least)
        self.spread = sorted(self._most)[-1 - ACCIDENTS :][0] - self.least
