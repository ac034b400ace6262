"""Which of the texts that people carry are taken, without I/O: what is on them beside the envelope, and what is known.

The payload of a text of the kind "envelope":

    receiver 4 | sender 4 | created 6, unix time in ms | number 2 | envelope without the zeros at its end

Receiver and sender are the first bytes of a hash of their mailbox ids, which tell the two from each other and from
strangers, in an honest text. Nothing here is signed: who sent an envelope, and when, is proved inside of it.

How it works. `created` rises from one text of a sender to the next, and `number` counts those to one receiver from 1. A
text is taken if it is younger than the last one taken of its sender, and its number at most one higher: then nothing
that was made before can still come. Any other is refused once, since people can then paste the earlier one first, and
taken if it is pasted again. A number that stays or falls back says no more than that its sender has begun anew, or does
not know whether the last text was carried. What was taken is known for as long as it is not stale; after that it is.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from relaycall.errors import (
    MailboxFull,
    TextIsOurs,
    TextNotForUs,
    TextOutOfOrder,
    TextRefused,
    TextStale,
)
from relaycall.signaling.armor import armor
from relaycall.signaling.base import ENVELOPE_SIZE, QUEUE, envelope_id
from relaycall.signaling.frames import Verdict
from relaycall.signaling.mailboxes import Mailboxes

URL = "manual:"
TEXT_LIFETIME = 600.0  # seconds from making a text to pasting it
SKEW = 120.0  # seconds by which the two clocks may differ

_HEADER = struct.Struct("!4s4s6sH")
_TAG = b"relaycall mailbox on a text 1\0"
_LAST_NUMBER = 0xFFFF
_SEEN = 1024  # texts that are known when they are pasted again
_RECEIVERS = 1024  # whose texts are counted
_SENDERS = 64  # whose last text is known
_HELD_BACK = 64  # texts that were refused for their order
_SET_BACK = 60_000  # ms; a clock that is set back by more is followed

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class ManualText:
    """A text to be carried to the other side.

    Attributes:
        mailbox: whose it is, 32 bytes.
        text: one line of capitals, digits, hyphens and colons.
        created: unix time in seconds.
    """

    mailbox: bytes
    text: str
    created: float

    def __repr__(self) -> str:
        return f"<a text of {len(self.text)} characters>"


class Slip(NamedTuple):
    """What is on a text."""

    receiver: bytes
    sender: bytes
    created: int
    number: int
    envelope: bytes

    def encode(self) -> bytes:
        header = _HEADER.pack(self.receiver, self.sender, self.created.to_bytes(6, "big"), self.number)
        return header + self.envelope.rstrip(b"\0")


def decode_slip(payload: bytes) -> Slip:
    """Raises TextRefused."""
    if not _HEADER.size <= len(payload) <= _HEADER.size + ENVELOPE_SIZE:
        raise TextRefused("it holds no envelope")
    receiver, sender, created, number = _HEADER.unpack_from(payload)
    envelope = payload[_HEADER.size :].ljust(ENVELOPE_SIZE, b"\0")
    return Slip(receiver, sender, int.from_bytes(created, "big"), number, envelope)


class _Last(NamedTuple):
    """The last text taken of a sender."""

    created: int
    number: int


@dataclass
class Desk:
    """Where the texts of one mailbox are written and pasted.

    Attributes:
        mailbox: its id.
        waiting: what was pasted and not acknowledged yet.
    """

    mailbox: bytes
    waiting: Mailboxes = field(
        default_factory=lambda: Mailboxes(envelopes=2 * QUEUE, unread=1, lifetime=TEXT_LIFETIME + 2 * SKEW)
    )
    _created: int = 0
    _numbers: dict[bytes, int] = field(default_factory=dict)  # the last one, by receiver's mailbox
    _seen: dict[bytes, float] = field(default_factory=dict)  # until when it is known, by the text's hash
    _last: dict[bytes, _Last] = field(default_factory=dict)  # by sender's tag
    _held_back: dict[bytes, None] = field(default_factory=dict)  # hashes of texts

    def __repr__(self) -> str:
        return f"<desk: {self.waiting.waiting} waiting>"

    def write(self, mailbox: bytes, envelope: bytes, wall: float) -> ManualText:
        """A text with this envelope. `wall`: unix time in seconds.

        Its number is used again for the next one, unless `handed_over` is called.
        """
        clock = int(wall * 1000)
        self._created = clock if clock < self._created - _SET_BACK else max(clock, self._created + 1)
        number = self._numbers.get(mailbox, 0) % _LAST_NUMBER + 1
        slip = Slip(_tag(mailbox), _tag(self.mailbox), self._created, number, envelope)
        return ManualText(mailbox, armor("envelope", slip.encode()), self._created / 1000)

    def handed_over(self, mailbox: bytes) -> None:
        """The text that was written last for this mailbox is on its way."""
        number = self._numbers.pop(mailbox, 0) % _LAST_NUMBER + 1
        _put(self._numbers, mailbox, number, _RECEIVERS)

    def take(self, slip: Slip, wall: float, now: float, lifetime: float = TEXT_LIFETIME) -> bool:
        """Put a pasted envelope to what is waiting. Returns False if the same text was taken before.

        Args:
            wall: unix time in seconds.
            now: seconds of the monotonic clock.
            lifetime: how old the text may be, in seconds.

        Raises:
            TextIsOurs, TextNotForUs, TextStale, TextOutOfOrder: it is not taken.
            MailboxFull: what was pasted before has not been acknowledged.
        """
        own = _tag(self.mailbox)
        if slip.receiver != own:
            raise TextIsOurs if slip.sender == own else TextNotForUs
        key = envelope_id(slip.encode())
        for other in [other for other, until in self._seen.items() if now >= until]:
            del self._seen[other]
        if key in self._seen:
            return False
        age = wall - slip.created / 1000
        if age > lifetime + SKEW:
            raise TextStale(f"it is {int(age / 60)} minutes old")
        if age < -SKEW:
            raise TextStale("it was made in the future: one of the two clocks is wrong")
        last = self._last.get(slip.sender, _Last(0, 0))
        if key not in self._held_back:
            if slip.created <= last.created:
                self._hold_back(key, "its sender has made another one since, which was pasted before")
            if slip.number > last.number + 1:
                self._hold_back(key, "its sender has made another one before, which was not pasted")
        if self.waiting.put(self.mailbox, slip.envelope, now) is not Verdict.TAKEN:
            raise MailboxFull(URL)
        _put(self._seen, key, now + lifetime + 2 * SKEW, _SEEN)
        _put(self._last, slip.sender, max(last, _Last(slip.created, slip.number)), _SENDERS)
        return True

    def _hold_back(self, key: bytes, rule: str) -> None:
        _put(self._held_back, key, None, _HELD_BACK)
        raise TextOutOfOrder(rule)


def _tag(mailbox: bytes) -> bytes:
    return hashlib.sha256(_TAG + mailbox).digest()[:4]


def _put(known: dict[bytes, _Value], key: bytes, value: _Value, most: int) -> None:
    """Keep it as the newest, and forget the oldest if there are too many."""
    known.pop(key, None)
    known[key] = value
    if len(known) > most:
        del known[next(iter(known))]
