"""What a client remembers from one connection to the next, without I/O: nothing is lost, and what comes twice is known.

How it works. What is sent is pending until the server has answered, and is written again, in order, on each new
connection; so is what is asked for about nameplates. What the server has taken is kept for another minute, the time it
would have waited there: a server that comes back with another epoch has forgotten everything, so it is sent all of that
again. It knows by the envelope what it has already.

What comes in is queued for the caller, given to it, acknowledged: if it comes again, it is dropped in the first case,
given once more as a duplicate in the second, and acknowledged once more in the third.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from relaycall.signaling.base import ENVELOPE_LIFETIME, QUEUE, Received, envelope_id
from relaycall.signaling.frames import (
    Answer,
    Deliver,
    NameplateAction,
    NameplateAnswer,
    NameplateRequest,
    Send,
    Verdict,
)

KEPT = QUEUE  # envelopes that were taken, and would be sent again to a server that forgot them
KNOWN = 1024  # envelopes that came in and are known when they come again
FIRST_DELAY = 0.1  # seconds
LONGEST_DELAY = 15.0


class _Taken(NamedTuple):
    mailbox: bytes
    envelope: bytes
    until: float


@dataclass(slots=True)
class Session:
    """One client's memory.

    Attributes:
        pending: what the server has not answered, by number, in the order of sending.
        acknowledgements: ids of envelopes that the server has yet to be told of, where that takes a request.
        inbox: what the caller has not been given yet.
        dropped: how many were dropped since the caller does not read, the oldest first.
    """

    pending: dict[int, Send | NameplateRequest] = field(default_factory=dict)
    acknowledgements: deque[bytes] = field(default_factory=deque)
    inbox: deque[Received] = field(default_factory=deque)
    dropped: int = 0
    _numbers: int = 0
    _epoch: bytes | None = None
    _taken: deque[_Taken] = field(default_factory=deque)
    _known: dict[bytes, str] = field(default_factory=dict)  # "queued", "given" or "acknowledged"

    def __repr__(self) -> str:
        return f"<session: {len(self.pending)} pending, {len(self.inbox)} in the inbox>"

    def opened(self, epoch: bytes, now: float) -> None:
        """There is a connection. All that is pending has to be written on it."""
        forgotten = self._epoch not in (None, epoch)
        self._epoch = epoch
        if forgotten:
            again = [self._numbered(taken.mailbox, taken.envelope) for taken in self._taken if now < taken.until]
            self._taken.clear()
            self.pending = {send.number: send for send in [*again, *self.pending.values()]}

    def send(self, mailbox: bytes, envelope: bytes) -> Send:
        """A new envelope; it is pending."""
        send = self._numbered(mailbox, envelope)
        self.pending[send.number] = send
        return send

    def request(self, action: NameplateAction, nameplate: int) -> NameplateRequest:
        """A new request about a nameplate; it is pending."""
        request = NameplateRequest(self._next_number(), action, nameplate)
        self.pending[request.number] = request
        return request

    def answered(self, answer: Answer | NameplateAnswer, now: float) -> bool:
        """The server's word on one of them. False if it is on another, or of the wrong kind: it is passed over."""
        asked = self.pending.get(answer.number)
        if isinstance(asked, Send) and isinstance(answer, Answer):
            if answer.verdict is Verdict.TAKEN:
                self._taken.append(_Taken(asked.mailbox, asked.envelope, now + ENVELOPE_LIFETIME))
                while len(self._taken) > KEPT or self._taken[0].until <= now:
                    self._taken.popleft()
        elif not (isinstance(asked, NameplateRequest) and isinstance(answer, NameplateAnswer)):
            return False
        del self.pending[answer.number]
        return True

    def delivered(self, frame: Deliver) -> bytes | None:
        """Take what came. Returns its id if the server has to be told once more that we have it."""
        key = envelope_id(frame.envelope)
        known = self._known.get(key)
        if known == "acknowledged":
            return key
        if known == "queued":
            return None
        self._note(key, "queued")
        self.inbox.append(Received(key, frame.envelope, frame.again or known == "given"))
        if len(self.inbox) > QUEUE:  # older than the server keeps any, or the server sends without end
            self.dropped += 1
            self._known.pop(self.inbox.popleft().id, None)
        return None

    def give(self) -> Received:
        """The oldest in the inbox, for the caller."""
        received = self.inbox.popleft()
        self._note(received.id, "given")
        return received

    def acknowledged(self, key: bytes) -> None:
        """The caller is done with it."""
        self._note(key, "acknowledged")

    def _note(self, key: bytes, state: str) -> None:
        self._known.pop(key, None)
        self._known[key] = state
        if len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]

    def _numbered(self, mailbox: bytes, envelope: bytes) -> Send:
        return Send(self._next_number(), mailbox, envelope)

    def _next_number(self) -> int:
        self._numbers = (self._numbers + 1) & 0xFFFFFFFF
        return self._numbers


def reconnect_delay(failures: int, random: float) -> float:
    """Seconds to wait before connecting once more.

    The longest wait doubles with each failure; where in it lies is random, so that not all clients of a server that
    was away come back in the same moment.

    Args:
        failures: attempts that failed since the last connection that held.
        random: between 0 and 1.
    """
    return random * min(FIRST_DELAY * 2.0 ** min(failures, 16), LONGEST_DELAY)
