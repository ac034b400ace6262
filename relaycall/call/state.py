"""The course of one call, on one side. Without I/O: what happens comes in with the time, what is to be done goes out.

How it works. The caller sends an offer and is CALLING; when the other side's phone rings, it is RINGING. The callee is
RINGING from the offer on, and nothing else happens there, no relay is asked and no path is tried, until its user
accepts: ACCEPTED, while the relays and the answer are made ready. Then both are CONNECTING until a path carries sound.
A CONNECTED call whose other side is not heard is RECONNECTING until it is, or until media gives it up.

    caller   IDLE ─place─▶ CALLING ─rings─▶ RINGING ─answered─▶ CONNECTING ─up─▶ CONNECTED ⇄ RECONNECTING
    callee   IDLE ─offered─▶ RINGING ─accept─▶ ACCEPTED ─ready─▶ CONNECTING ─up─▶ CONNECTED ⇄ RECONNECTING

Every state leads to ENDED, with a reason, and nothing leads out of it. Messages may come twice, late or in any order;
what does not fit the state is ignored. What may have been lost is said again: the offer until the other side rings or
answers, the answer until the call is up. When both call each other at once, one of the two offers counts, and who sent
the other one becomes the callee, as if its user had accepted.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

RING_TIMEOUT = 60.0  # seconds a call may ring
SETUP_TIMEOUT = 30.0  # seconds from acceptance to sound
RESEND = 5.0  # seconds after which something is said again
CARRIED_TIMEOUT = 600.0  # seconds, in place of both, where people carry what is said

NEVER = float("inf")


class CallState(enum.StrEnum):
    """Where a call stands."""

    IDLE = "idle"
    CALLING = "calling"
    RINGING = "ringing"
    ACCEPTED = "accepted"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    ENDED = "ended"


class Input(enum.Enum):
    """What happens to a call."""

    PLACE = "our user calls"
    OFFERED = "the other side calls; while we call them, and their offer is the one that counts"
    RINGS = "the other side's phone rings"
    ANSWERED = "the other side has accepted"
    ACCEPT = "our user accepts"
    READY = "our answer is ready"
    UP = "the first path works"
    UNHEARD = "the other side is not heard"
    HEARD = "the other side is heard again"
    HANG_UP = "our user ends it"
    DECLINED = "the other side declines"
    BUSY = "the other side is in another call"
    CANCELLED = "the caller gave up"
    ELSEWHERE = "another device of ours took it"
    HUNG_UP = "the other side has ended it"
    FAILED = "something of ours failed"
    TIMEOUT = "it took too long"


class EndReason(enum.StrEnum):
    """Why a call is over."""

    HUNG_UP = "hung_up"  # by our user
    PEER_HUNG_UP = "peer_hung_up"
    DECLINED = "declined"  # by the callee's user
    BUSY = "busy"
    UNANSWERED = "unanswered"  # it rang for a minute, or there was nobody
    CANCELLED = "cancelled"  # by the caller, before it was answered
    ELSEWHERE = "answered_elsewhere"
    SETUP_TIMEOUT = "setup_timeout"
    FAILED = "failed"  # an error says why


class Do(enum.Enum):
    """What the owner is to do."""

    SEND_OFFER = enum.auto()
    SEND_RINGING = enum.auto()
    SEND_ANSWER = enum.auto()
    SEND_CONFIRM = enum.auto()
    SEND_DECLINED = enum.auto()
    SEND_CANCELLED = enum.auto()
    SEND_HUNG_UP = enum.auto()
    RING = enum.auto()  # tell our user
    PREPARE = enum.auto()  # our relays, our record, our answer; then READY
    CONNECT = enum.auto()  # try the paths; then UP or FAILED
    CLOSE = enum.auto()  # media, if there is any


@dataclass(slots=True)
class CallMachine:
    """One side of one call.

    Attributes:
        caller: whether this side placed it.
        carried: people carry the messages: each is sent once, and they may take ten minutes.
        state: where it stands.
        reason: why it ended.
        to_do: for the owner, in order.
    """

    caller: bool
    carried: bool = False
    state: CallState = CallState.IDLE
    reason: EndReason | None = None
    to_do: deque[Do] = field(default_factory=deque, repr=False)
    _deadline: float = NEVER
    _resend_at: float = NEVER
    _resend: Do | None = None

    def handle(self, what: Input, now: float) -> bool:
        """Something happened.

        Args:
            now: seconds on a clock that never goes back.

        Returns:
            whether it meant anything in this state.
        """
        act = (_CALLER if self.caller else _CALLEE).get((self.state, what))
        if act is None:
            return False
        act(self, now)
        return True

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        return min(self._deadline, self._resend_at)

    def handle_timeout(self, now: float) -> None:
        """Say again what may have been lost, and end what takes too long."""
        if now >= self._deadline:
            self.handle(Input.TIMEOUT, now)
        elif now >= self._resend_at and self._resend is not None:
            self.to_do.append(self._resend)
            self._resend_at = now + RESEND

    # --- steps --------------------------------------------------------------------------------------------------------

    def _place(self, now: float) -> None:
        self._to(CallState.CALLING, now + self._patience(RING_TIMEOUT))
        self._repeat(Do.SEND_OFFER, now)

    def _offered(self, now: float) -> None:
        self._to(CallState.RINGING, now + self._patience(RING_TIMEOUT))
        self.to_do += [Do.RING, Do.SEND_RINGING]

    def _offered_again(self, _: float) -> None:
        """What we said was lost; the answer is repeated by itself."""
        self.to_do.append(Do.SEND_RINGING)

    def _rings(self, _: float) -> None:
        self._to(CallState.RINGING, self._deadline)

    def _accept(self, now: float) -> None:
        self._to(CallState.ACCEPTED, now + self._patience(SETUP_TIMEOUT))
        self.to_do.append(Do.PREPARE)

    def _give_way(self, now: float) -> None:
        self.caller = False
        self._accept(now)

    def _ready(self, now: float) -> None:
        self._to(CallState.CONNECTING, self._deadline)
        self._repeat(Do.SEND_ANSWER, now)
        self.to_do.append(Do.CONNECT)

    def _answered(self, now: float) -> None:
        self._to(CallState.CONNECTING, now + SETUP_TIMEOUT)
        self.to_do += [Do.CONNECT, Do.SEND_CONFIRM]

    def _answered_again(self, _: float) -> None:
        self.to_do.append(Do.SEND_CONFIRM)

    def _up(self, _: float) -> None:
        self._to(CallState.CONNECTED, NEVER)

    def _unheard(self, _: float) -> None:
        self._to(CallState.RECONNECTING, NEVER)

    def _to(self, state: CallState, deadline: float) -> None:
        self.state, self._deadline = state, deadline
        self._resend, self._resend_at = None, NEVER

    def _repeat(self, what: Do, now: float) -> None:
        self.to_do.append(what)
        if not self.carried:
            self._resend, self._resend_at = what, now + RESEND

    def _patience(self, usual: float) -> float:
        return CARRIED_TIMEOUT if self.carried else usual


_Act = Callable[[CallMachine, float], None]


def _end(reason: EndReason, say: Do | None = None) -> _Act:
    """The call is over; `say` it to the other side."""

    def act(machine: CallMachine, _: float) -> None:
        machine.reason = reason
        machine._to(CallState.ENDED, NEVER)
        machine.to_do.clear()  # of what was still to be done nothing is left to do
        machine.to_do += [Do.CLOSE] if say is None else [say, Do.CLOSE]

    return act


S, I, R = CallState, Input, EndReason  # noqa: E741

_FROM_ANSWER: dict[tuple[CallState, Input], _Act] = {
    (state, what): act
    for state in (S.CONNECTING, S.CONNECTED, S.RECONNECTING)
    for what, act in {
        I.HANG_UP: _end(R.HUNG_UP, Do.SEND_HUNG_UP),
        I.HUNG_UP: _end(R.PEER_HUNG_UP),
        I.FAILED: _end(R.FAILED, Do.SEND_HUNG_UP),
    }.items()
}
_BOTH: dict[tuple[CallState, Input], _Act] = {
    **_FROM_ANSWER,
    (S.IDLE, I.HANG_UP): _end(R.HUNG_UP),
    (S.IDLE, I.FAILED): _end(R.FAILED),
    (S.CONNECTING, I.UP): CallMachine._up,
    (S.CONNECTING, I.TIMEOUT): _end(R.SETUP_TIMEOUT, Do.SEND_HUNG_UP),
    (S.CONNECTED, I.UNHEARD): CallMachine._unheard,
    (S.RECONNECTING, I.HEARD): CallMachine._up,
}
_CALLER: dict[tuple[CallState, Input], _Act] = {
    **_BOTH,
    (S.IDLE, I.PLACE): CallMachine._place,
    (S.IDLE, I.OFFERED): CallMachine._give_way,
    (S.IDLE, I.TIMEOUT): _end(R.UNANSWERED),
    (S.CALLING, I.RINGS): CallMachine._rings,
    **{
        (state, what): act
        for state in (S.CALLING, S.RINGING)
        for what, act in {
            I.ANSWERED: CallMachine._answered,
            I.OFFERED: CallMachine._give_way,
            I.DECLINED: _end(R.DECLINED),
            I.BUSY: _end(R.BUSY),
            I.HANG_UP: _end(R.CANCELLED, Do.SEND_CANCELLED),
            I.FAILED: _end(R.FAILED, Do.SEND_CANCELLED),
            I.TIMEOUT: _end(R.UNANSWERED, Do.SEND_CANCELLED),
        }.items()
    },
    (S.CONNECTING, I.ANSWERED): CallMachine._answered_again,
    (S.CONNECTED, I.ANSWERED): CallMachine._answered_again,
}
_CALLEE: dict[tuple[CallState, Input], _Act] = {
    **_BOTH,
    (S.IDLE, I.OFFERED): CallMachine._offered,
    (S.RINGING, I.OFFERED): CallMachine._offered_again,
    (S.RINGING, I.ACCEPT): CallMachine._accept,
    (S.RINGING, I.HANG_UP): _end(R.DECLINED, Do.SEND_DECLINED),
    (S.RINGING, I.FAILED): _end(R.FAILED, Do.SEND_DECLINED),
    (S.RINGING, I.CANCELLED): _end(R.CANCELLED),
    (S.RINGING, I.ELSEWHERE): _end(R.ELSEWHERE),
    (S.RINGING, I.TIMEOUT): _end(R.UNANSWERED),
    (S.ACCEPTED, I.READY): CallMachine._ready,
    (S.ACCEPTED, I.CANCELLED): _end(R.CANCELLED),
    (S.ACCEPTED, I.HANG_UP): _end(R.HUNG_UP, Do.SEND_DECLINED),
    (S.ACCEPTED, I.FAILED): _end(R.FAILED, Do.SEND_DECLINED),
    (S.ACCEPTED, I.TIMEOUT): _end(R.SETUP_TIMEOUT, Do.SEND_DECLINED),
    (S.CONNECTING, I.CANCELLED): _end(R.CANCELLED),
}
