"""Sound between two clocks: that of a device, which has its own thread, and ours.

A ring holds what one side has given and the other has not taken yet. The clocks differ by some parts in 100,000, so in
time it would fill up, or run dry. The least that it held during a second says what could be left out without anybody
missing it, or how much too little there is; `stretch` makes the sound shorter or longer by that.
"""

from __future__ import annotations

import threading

from relaycall.media.opus import FRAME_SECONDS

WINDOW = round(1 / FRAME_SECONDS)  # readings


class SoundRing:
    """Bytes that wait, the newest of them. For two threads.

    Args:
        capacity: bytes.

    Attributes:
        dropped: bytes that had no room; the oldest go first.
    """

    def __init__(self, capacity: int) -> None:
        self.dropped = 0
        self._capacity = capacity
        self._data = bytearray()
        self._low = 0
        self._lock = threading.Lock()

    def put(self, data: bytes) -> None:
        """Add to it."""
        with self._lock:
            self._data += data
            self._cut(self._capacity)

    def take(self, size: int) -> bytes:
        """The oldest, at most so many bytes."""
        with self._lock:
            data = bytes(self._data[:size])
            del self._data[:size]
            self._low = min(self._low, len(self._data))
            return data

    def keep(self, size: int) -> None:
        """Drop all but so many bytes, the newest."""
        with self._lock:
            self._cut(size)
            self._low = len(self._data)

    @property
    def fill(self) -> int:
        """Bytes that wait."""
        return len(self._data)

    def low(self) -> int:
        """The least that waited since this was asked last, in bytes."""
        with self._lock:
            low, self._low = self._low, len(self._data)
            return low

    def _cut(self, size: int) -> None:
        over = len(self._data) - size
        if over > 0:
            self.dropped += over
            del self._data[:over]


class Drift:
    """How far a buffer is off its target, by the least that it held within a second.

    Args:
        target: samples that it should hold at least.

    Attributes:
        surplus: samples that it holds too much; negative if there are too few. As they are put right, it is changed.
    """

    def __init__(self, target: int) -> None:
        self.surplus = 0
        self._target = target
        self._readings: list[int] = []

    def read(self, fill: int) -> None:
        """What it holds at its lowest, every 20 ms, in samples."""
        self._readings.append(fill)
        if len(self._readings) >= WINDOW:
            self.surplus = min(self._readings) - self._target
            self._readings.clear()

    def reset(self) -> None:
        """What was read does not count any more."""
        self.surplus = 0
        self._readings.clear()
