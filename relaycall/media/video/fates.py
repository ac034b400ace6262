"""What became of each packet of video, as the peer tells it, without I/O.

How it works. Every packet sent has one fate. It arrived: a message says so, and when, by the peer's clock. Or it was
lost: three messages told of later ones and not of it; or two seconds passed; or the peer asked for it again, and the
copy that comes then would look like one that was on the way for long. Messages repeat each other, and only the first
word on a packet counts.

Or nobody says: messages are lost, too. Each packet that came is told twice. When the newest that was told is passed
over before it was told again, a message is missing, and what lies between is `untold`; so is what is overdue while
nothing was told of later packets. It says nothing of the way that video takes.

The peer may lie. A message that tells of packets that were never sent, or whose times go otherwise than ours have since
the last one, is dropped whole. After it times may begin anew, as they do when the peer's program was restarted.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from relaycall.media.video.feedback import TIME_UNIT, Arrivals, unwrapped

LOST_SECONDS = 2.0  # longer than a long way, its queue and the way back
LOST_MESSAGES = 3
MAX_SHIFT = 20.0  # seconds that the peer's time may have gone otherwise than ours between two messages
WRAP = TIME_UNIT * 2**32  # seconds after which times begin anew


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a packet.

    Attributes:
        number: of the packet, each one higher than the one before.
        size: on the path, bytes.
        sent_at: seconds on our clock.
        arrived_at: seconds on the peer's clock, which began anywhere; None: it did not arrive, or is untold.
        untold: whether messages are missing that would have told.
    """

    number: int
    size: int
    sent_at: float
    arrived_at: float | None
    untold: bool = False


@dataclass(slots=True)
class _Sent:
    size: int
    sent_at: float
    passed: int = 0  # messages that told of later packets


class FateLog:
    """The packets whose fate is not known.

    Attributes:
        refused: messages that cannot be true.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._sent: OrderedDict[int, _Sent] = OrderedDict()
        self._latest = -1  # number
        self._told = -1  # the highest number that a message told of
        self._told_again = True  # whether another message told of it, too
        self._ahead: float | None = None  # our clock's time less the peer's, when it last told one; seconds
        self._wrapped = 0.0  # what is added to the peer's times, so that they go on

    def __len__(self) -> int:
        return len(self._sent)

    def sent(self, number: int, size: int, now: float) -> None:
        """A packet was sent; its number is higher than the one before."""
        self._sent[number] = _Sent(size, now)
        self._latest = number

    def sent_again(self, number: int) -> list[Fate]:
        """The peer asked for it."""
        return self._lost([number] if number in self._sent else [])

    def overdue(self, now: float) -> list[Fate]:
        """What is lost because so much time has passed."""
        late = []
        for number, sent in self._sent.items():
            if now - sent.sent_at < LOST_SECONDS:
                break
            late.append(number)
        return [replace(fate, untold=fate.number > self._told) for fate in self._lost(late)]

    @property
    def next_at(self) -> float | None:
        """When `overdue` will have something to tell, if nothing is heard."""
        return next(iter(self._sent.values())).sent_at + LOST_SECONDS if self._sent else None

    def arrivals(self, message: Arrivals, now: float) -> list[Fate]:
        """What a message of the peer's makes known."""
        first = unwrapped(message.first, self._latest)
        last = first + len(message.times) - 1
        if first < 0 or last > self._latest or not self._in_time(message, now):
            self.refused += 1
            return []
        fates = self._untold(first, last)
        for number, time in enumerate(message.times, first):
            sent = self._sent.pop(number, None) if time is not None else None
            if sent is not None and time is not None:
                fates.append(Fate(number, sent.size, sent.sent_at, time + self._wrapped))
        passed = []
        for number, sent in self._sent.items():
            if number > last:
                break
            sent.passed += 1
            if sent.passed >= LOST_MESSAGES:
                passed.append(number)
        return fates + self._lost(passed)

    def _untold(self, first: int, last: int) -> list[Fate]:
        """What lies between the newest that was told and the first of a message that should have told it again."""
        told, missed = self._told, first > self._told and not self._told_again
        if last > told:
            self._told, self._told_again = last, False
        elif first <= told:
            self._told_again |= last == told
        hole = [number for number in range(told + 1, first) if number in self._sent] if missed else []
        return [replace(fate, untold=True) for fate in self._lost(hole)]

    def _in_time(self, message: Arrivals, now: float) -> bool:
        """Whether its newest time is about where the last message's and our clock let expect it."""
        newest = max(time for time in message.times if time is not None)
        if self._ahead is None:
            self._wrapped = 0.0
        else:
            wraps = round((now - self._ahead - self._wrapped - newest) / WRAP)
            self._wrapped += wraps * WRAP
            if abs(now - self._ahead - self._wrapped - newest) > MAX_SHIFT:
                self._ahead = None
                return False
        self._ahead = now - (newest + self._wrapped)
        return True

    def _lost(self, numbers: list[int]) -> list[Fate]:
        fates = []
        for number in numbers:
            sent = self._sent.pop(number)
            fates.append(Fate(number, sent.size, sent.sent_at, None))
        return fates
