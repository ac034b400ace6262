"""In-band control without I/O: what the two sides of a running call tell each other on the media path.

How it works. Each side has one state (`ControlState`), and at the start each knows the other's from its call record.
Whenever its state changes, a side gives it the next number and sends all of it, at once, and again after 20, 40, 80 ms
and so on, then every second, until the other side acknowledges that number. It never gives up, since a path may be dead
for a while. Only the latest state is repeated: an earlier one that was lost is of no use to anybody.

Every message carries the sender's state and acknowledges the other's. One whose sender still waits for an
acknowledgement asks for it, and is answered; an answer that asks for nothing is not, so the two fall silent once each
knows what the other knows. A message with a number that is known changes nothing, however late it comes.

                                  number is higher                       number is known
    the peer's call goes on       its state is taken, if asked: answer   if asked: answer
    ... too many changes          dropped: the peer repeats it           if asked: answer
    the peer has hung up          dropped: a hangup is final             if asked: answer

Neither side can keep the other busy: what is sent is bounded, whatever arrives, and so are the changes that are taken.
Changes that name new relays are taken more slowly than others, since each address is checked: a peer could have our
relays knock at one host after another. A change that waits for its turn to be sent has no number yet, so changes that
come too fast are merged. Numbers have 16
bits and do not wrap: 65534 changes take an hour at full speed, and after that all that can change is to hang up.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from relaycall.call.control_format import (
    LAST_SEQUENCE,
    MESSAGE_SIZE,
    STATE,
    ControlMessage,
    ControlState,
    decode_control,
    encode_control,
)
from relaycall.errors import CallClosed, MalformedMessage, MediaError

FIRST_REPEAT = 0.02  # seconds, then doubled
LAST_REPEAT = 1.0  # seconds
INTERVAL = 0.05  # seconds for each message sent, and for each change taken ...
SEND_BURST = 5  # ... of which so many may come at once, after a pause
CHANGE_BURST = 10  # more than the peer may send at once, since a path may hold messages up
ADDRESS_INTERVAL = 2.0  # seconds for each change taken that names an address that the one before did not

_NEVER = float("inf")


class _Pace:
    """So many at once, then one an interval: a token bucket, told by the time at which it is full."""

    def __init__(self, burst: int, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._slack = (burst - 1) * interval
        self._full_at = -_NEVER

    @property
    def free_at(self) -> float:
        return self._full_at - self._slack

    def take(self, now: float) -> None:
        self._full_at = max(self._full_at, now) + self._interval


@dataclass(slots=True)
class Control:
    """One side's control of one call.

    Args:
        local: our state as the call record told it: our candidates in it, preferred ones first.
        remote: the other side's, likewise.
        laboratory: allow the other side loopback and private addresses.

    Attributes:
        local: our latest state.
        remote: the latest one that is known of the other side.
        outgoing: messages to send now, of 80 bytes. Take them after each call.
        dropped: messages that were dropped, by reason: `kind` is for a later version, `malformed`, `acknowledgement`
            of what was never sent, `flood`, `after_hangup`.
    """

    local: ControlState
    remote: ControlState
    laboratory: bool = False

    outgoing: deque[bytes] = field(default_factory=deque, init=False, repr=False)
    dropped: Counter[str] = field(default_factory=Counter, init=False)
    _sequence: int = field(default=0, init=False, repr=False)
    _acknowledged: int = field(default=0, init=False, repr=False)
    _remote_sequence: int = field(default=0, init=False, repr=False)
    _unnumbered: bool = field(default=False, init=False, repr=False)  # our latest state was not sent yet
    _repeat_at: float = field(default=_NEVER, init=False, repr=False)
    _answer_at: float = field(default=_NEVER, init=False, repr=False)
    _repeat: float = field(default=FIRST_REPEAT, init=False, repr=False)
    _sending: _Pace = field(default_factory=lambda: _Pace(SEND_BURST), init=False, repr=False)
    _changes: _Pace = field(default_factory=lambda: _Pace(CHANGE_BURST), init=False, repr=False)
    _addresses: _Pace = field(default_factory=lambda: _Pace(CHANGE_BURST, ADDRESS_INTERVAL), init=False, repr=False)

    @property
    def acknowledged(self) -> bool:
        """Whether the other side is known to have our latest state."""
        return not self._unnumbered and self._acknowledged == self._sequence

    def update(self, state: ControlState, now: float) -> None:
        """This is our state from now on. The one we have already is not sent again.

        Raises:
            CallClosed: we hung up before.
            MediaError: 65534 changes were sent, and this is no hangup.
        """
        if state == self.local:
            return
        if self.local.hangup is not None:
            raise CallClosed
        if state.hangup is None and self._sequence + 1 == LAST_SEQUENCE:
            raise MediaError("This call has changed too often to change once more.", "Place a new call.")
        self.local = state
        self._unnumbered = True
        self._repeat = FIRST_REPEAT
        self._repeat_at = now
        self.handle_timeout(now)

    def receive(self, payload: bytes, now: float) -> ControlState | None:
        """Take a message; it is authentic, or it would not come here. Raises nothing, whatever it holds.

        Returns:
            The other side's new state, or None if the message holds none.
        """
        if len(payload) == MESSAGE_SIZE and payload[0] != STATE:
            self.dropped["kind"] += 1
            return None
        try:
            message = decode_control(payload, laboratory=self.laboratory)
        except MalformedMessage:
            self.dropped["malformed"] += 1
            return None
        if message.acknowledgement > self._sequence:
            self.dropped["acknowledgement"] += 1
            return None
        self._acknowledged = max(self._acknowledged, message.acknowledgement)
        if self.acknowledged:
            self._repeat_at = _NEVER
        news = message.sequence > self._remote_sequence
        if news and not self._take(message, now):
            return None
        if message.asks:
            self._answer_at = now
        self.handle_timeout(now)
        return self.remote if news else None

    def _take(self, message: ControlMessage, now: float) -> bool:
        """Whether this new state may take the place of the one we know."""
        if self.remote.hangup is not None:
            self.dropped["after_hangup"] += 1
            return False
        if message.state.hangup is None:  # a hangup comes once, and need not wait
            paces = [self._changes]
            if not set(message.state.candidates) <= set(self.remote.candidates):
                paces.append(self._addresses)
            if any(now < pace.free_at for pace in paces):
                self.dropped["flood"] += 1
                return False
            for pace in paces:
                pace.take(now)
        self._remote_sequence, self.remote = message.sequence, message.state
        return True

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        return max(min(self._repeat_at, self._answer_at), self._sending.free_at)

    def handle_timeout(self, now: float) -> None:
        """Send what is due."""
        if now < self.next_timeout():
            return
        if self._unnumbered:
            self._sequence += 1
            self._unnumbered = False
        asks = not self.acknowledged
        message = ControlMessage(self._sequence, self._remote_sequence, asks, self.local)
        self.outgoing.append(encode_control(message))
        self._sending.take(now)
        self._answer_at = _NEVER
        if asks:
            self._repeat_at = now + self._repeat
            self._repeat = min(2 * self._repeat, LAST_REPEAT)
