"""The mailboxes that a server keeps, without I/O: what waits in them, for whom, and for how long.

How it works. An envelope waits in its mailbox from `put` until it is acknowledged, or a minute old. It makes no
difference to the sender whether anybody reads the mailbox, or ever did. The same bytes again are the same envelope:
they are taken, and nothing is added, for as long as the envelope waits or the minute after it was acknowledged.

A mailbox is owned by the session that has proved its key last; an earlier one is told so, and gets no more. Over a
WebSocket the owner is attached all the time, over HTTP while it polls. The owner reads by cursor: `after` gives the
next envelope, which stays until it is acknowledged. An owner that comes back starts from the beginning.

Everything is bounded: what waits in one mailbox, what waits in all, and the mailboxes nobody is attached to. Those can
hold half of what may wait in all, so that who floods unread mailboxes does not keep others from reading theirs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from relaycall.signaling.base import ENVELOPE_LIFETIME, QUEUE, envelope_id
from relaycall.signaling.frames import CURSOR_SIZE, Verdict

REMEMBERED = 128  # acknowledged envelopes that a mailbox remembers, to know them when they are sent again
FORMER = 8  # sessions that were replaced, and may not take a mailbox back
IDLE = 60.0  # seconds for which a mailbox without a reader remembers its owner
SWEEP = 5.0  # seconds between two looks at every mailbox


class Reader(Protocol):
    """Who is attached to a mailbox. It is told, and then asks."""

    def news(self) -> None:
        """Something came."""

    def replaced(self) -> None:
        """The mailbox is another session's now."""


class Waiting(NamedTuple):
    """An envelope that waits. `again`: a session other than the one that asks was given it first."""

    cursor: bytes
    again: bool
    envelope: bytes


@dataclass(slots=True)
class _Entry:
    number: int
    envelope: bytes
    expires_at: float
    first_session: bytes | None = None


@dataclass(slots=True)
class _Mailbox:
    waiting: dict[bytes, _Entry] = field(default_factory=dict)  # by envelope id, oldest first
    forgotten: dict[bytes, float] = field(default_factory=dict)  # ids acknowledged, and until when they are known
    owner: bytes | None = None
    former: deque[bytes] = field(default_factory=lambda: deque(maxlen=FORMER))  # sessions that owned it before
    reader: Reader | None = None
    used_at: float = 0.0


class Mailboxes:
    """All mailboxes of one server.

    Args:
        queue: envelopes that wait in one mailbox.
        envelopes: envelopes that wait in all of them.
        unread: mailboxes that nobody is attached to.
        lifetime: seconds an envelope waits.
    """

    def __init__(
        self, *, queue: int = QUEUE, envelopes: int = 16384, unread: int = 16384, lifetime: float = ENVELOPE_LIFETIME
    ) -> None:
        self._queue = queue
        self._envelopes = envelopes
        self._unread = unread
        self._lifetime = lifetime
        self._mailboxes: dict[bytes, _Mailbox] = {}
        self._waiting = 0
        self._attached = 0
        self._numbers = 0
        self._swept_at = 0.0

    @property
    def waiting(self) -> int:
        """How many envelopes wait in all."""
        return self._waiting

    def __len__(self) -> int:
        return len(self._mailboxes)

    def put(self, mailbox: bytes, envelope: bytes, now: float) -> Verdict:
        """Take an envelope for a mailbox, if there is room."""
        box = self._current(mailbox, now)
        key = envelope_id(envelope)
        if box is not None and (key in box.waiting or key in box.forgotten):
            return Verdict.TAKEN
        if box is not None and len(box.waiting) >= self._queue:
            return Verdict.MAILBOX_FULL
        is_read = box is not None and box.reader is not None
        if self._waiting >= (self._envelopes if is_read else self._envelopes // 2):
            return Verdict.BUSY
        if box is None:
            if len(self._mailboxes) - self._attached >= self._unread:
                return Verdict.BUSY
            box = self._mailboxes[mailbox] = _Mailbox()
        self._numbers += 1
        box.waiting[key] = _Entry(self._numbers, envelope, now + self._lifetime)
        box.used_at = now
        self._waiting += 1
        if box.reader is not None:
            box.reader.news()
        return Verdict.TAKEN

    def own(self, mailbox: bytes, session: bytes, now: float) -> bool:
        """This session has proved the mailbox's key: it is the owner from now on, and not attached yet.

        False if another has taken over from it before: it has not heard of that, and must not take the mailbox back.
        """
        box = self._current(mailbox, now)
        if box is None:
            box = self._mailboxes[mailbox] = _Mailbox()
        if session in box.former:
            return False
        if box.owner not in (None, session):
            box.former.append(box.owner)
        box.owner = session
        box.used_at = now
        self._detach(box)
        return True

    def owns(self, mailbox: bytes, session: bytes, now: float) -> bool:
        """Whether no other session has proved the key since."""
        box = self._current(mailbox, now)
        return box is None or box.owner in (None, session)

    def attach(self, mailbox: bytes, session: bytes, reader: Reader, now: float) -> bool:
        """Tell this reader from now on; the one before is told that it is replaced. False if another owns it."""
        box = self._current(mailbox, now)
        if box is None:
            box = self._mailboxes[mailbox] = _Mailbox(owner=session)
        if box.owner not in (None, session):
            return False
        self._detach(box)
        box.owner, box.reader, box.used_at = session, reader, now
        self._attached += 1
        return True

    def detach(self, mailbox: bytes, reader: Reader, now: float) -> None:
        """The reader is gone. What waits goes on waiting."""
        box = self._current(mailbox, now)
        if box is None or box.reader is not reader:
            return
        box.reader, box.used_at = None, now
        self._attached -= 1
        if not box.waiting and len(self._mailboxes) - self._attached > self._unread:
            del self._mailboxes[mailbox]

    def after(self, mailbox: bytes, session: bytes, cursor: bytes, now: float) -> Waiting | None:
        """The oldest envelope that came after the cursor, if the session owns the mailbox."""
        box = self._current(mailbox, now)
        if box is None or box.owner != session:
            return None
        last = int.from_bytes(cursor, "big")
        for entry in box.waiting.values():
            if entry.number > last:
                again = entry.first_session not in (None, session)
                entry.first_session = entry.first_session or session
                return Waiting(entry.number.to_bytes(CURSOR_SIZE, "big"), again, entry.envelope)
        return None

    def acknowledge(self, mailbox: bytes, session: bytes, key: bytes, now: float) -> None:
        """Forget an envelope, if it waits and the session owns the mailbox."""
        box = self._current(mailbox, now)
        if box is None or box.owner != session or box.waiting.pop(key, None) is None:
            return
        self._waiting -= 1
        box.forgotten[key] = now + self._lifetime
        if len(box.forgotten) > REMEMBERED:
            del box.forgotten[next(iter(box.forgotten))]

    def _detach(self, box: _Mailbox) -> None:
        if box.reader is not None:
            reader, box.reader = box.reader, None
            self._attached -= 1
            reader.replaced()

    def _current(self, mailbox: bytes, now: float) -> _Mailbox | None:
        """The mailbox as of now, without what is too old."""
        if now >= self._swept_at + SWEEP:
            self._swept_at = now
            for other in list(self._mailboxes):
                self._expire(other, now)
        return self._expire(mailbox, now)

    def _expire(self, mailbox: bytes, now: float) -> _Mailbox | None:
        box = self._mailboxes.get(mailbox)
        if box is None:
            return None
        for key in [key for key, entry in box.waiting.items() if now >= entry.expires_at]:
            del box.waiting[key]
            self._waiting -= 1
        for key in [key for key, expires_at in box.forgotten.items() if now >= expires_at]:
            del box.forgotten[key]
        if box.reader is None and not box.waiting and not box.forgotten and now >= box.used_at + IDLE:
            del self._mailboxes[mailbox]
            return None
        return box
