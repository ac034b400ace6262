"""When the packets of video came, as it is told to their sender. Without I/O.

How it works. While packets come, a message is due every 100 ms, every 50 ms when there are more than 100 packets a
second. It begins with the first packet that was not told twice, so each is in two messages, and one of them may be
lost. A packet that is more than 72 numbers behind is not told any more, so that with too many packets for that each is
told once. When all has been told, nothing is sent.

Times are told as since the first packet: those of our clock say when this machine was started, and so which it is.
"""

from __future__ import annotations

from relaycall.media.video.feedback import MAX_ARRIVALS, Arrivals, unwrapped

INTERVAL, SHORT_INTERVAL = 0.1, 0.05  # seconds
MANY = 100  # packets a second
TIMES_TOLD = 2
REACH = 2 * MAX_ARRIVALS  # numbers behind the highest that are still told


class ArrivalReports:
    """The latest packets of one stream."""

    def __init__(self) -> None:
        self._began: float | None = None  # when the first packet came
        self._times: dict[int, float] = {}
        self._left: dict[int, int] = {}  # how often each is still to be told
        self._highest: int | None = None
        self._since = 0.0  # the latest message, or the first packet after a pause
        self._new = 0  # packets since then
        self._many = False  # at the latest message

    @property
    def due(self) -> float | None:
        """When the next message is to be sent, in seconds on the caller's clock; None: not before a packet comes."""
        if not self._left:
            return None
        return self._since + (SHORT_INTERVAL if self._many or len(self._left) > MAX_ARRIVALS else INTERVAL)

    def add(self, number: int, now: float) -> None:
        """A packet with this sequence number, of 16 bits, has come. It has not been added before."""
        if self._highest is None or self._began is None:
            self._highest, self._began = number, now
        number = unwrapped(number, self._highest)
        if number <= self._highest - REACH:
            return
        if not self._left:
            self._since = max(self._since, now - SHORT_INTERVAL)
        self._highest = max(self._highest, number)
        self._times[number] = now - self._began
        self._left[number] = TIMES_TOLD
        self._new += 1
        for old in [old for old in self._times if old <= self._highest - REACH]:
            del self._times[old]
            self._left.pop(old, None)

    def message(self, now: float) -> Arrivals | None:
        """The next message, if it is due. Its times are seconds since the first packet came."""
        due = self.due
        if due is None or now < due:
            return None
        first = min(self._left)
        last = max(number for number in self._times if number < first + MAX_ARRIVALS)
        for number in range(first, last + 1):
            left = self._left.pop(number, 0)
            if left > 1:
                self._left[number] = left - 1
        self._many = self._new > MANY * (now - self._since)
        self._since, self._new = now, 0
        return Arrivals(first & 0xFFFF, tuple(self._times.get(number) for number in range(first, last + 1)))
