"""Two ends of calls in virtual time: the machines, a channel that does as it is told, and the rules of the phones."""

from __future__ import annotations

from dataclasses import dataclass, field

from relaycall.call.state import NEVER, CallMachine, CallState, Do, EndReason, Input

S, I, R = CallState, Input, EndReason  # noqa: E741

OUTGOING = (S.IDLE, S.CALLING, S.RINGING)
HEARD: dict[Do | Input, Input] = {
    I.BUSY: I.BUSY,
    Do.SEND_RINGING: I.RINGS,
    Do.SEND_ANSWER: I.ANSWERED,
    Do.SEND_DECLINED: I.DECLINED,
    Do.SEND_CANCELLED: I.CANCELLED,
    Do.SEND_HUNG_UP: I.HUNG_UP,
}


@dataclass
class End:
    """One phone, which is in one call at a time.

    Attributes:
        number: of the call; 0 before there is one.
        reasons: why each call ended, by its number.
        given_way: its own calls that did not take place.
        accepted: its user has accepted, or called.
        preparing, connecting: jobs under way.
        tried: calls whose paths it has tried.
        up: there was sound.
        talking: it is in a call with somebody else.
        turned_away: calls of the other end's that came meanwhile.
        replaced: another device of its user's has the mailbox: what is sent there does not come here.
        left: calls that rang here when that happened.
    """

    name: str
    machine: CallMachine | None = None
    number: int = 0
    reasons: dict[int, EndReason] = field(default_factory=dict)
    given_way: set[int] = field(default_factory=set)
    tried: set[int] = field(default_factory=set)
    accepted: bool = False
    has_keys: bool = False
    preparing: bool = False
    connecting: bool = False
    up: bool = False
    rings: int = 0
    sent: int = 0
    talking: bool = False
    turned_away: set[int] = field(default_factory=set)
    replaced: bool = False
    left: set[int] = field(default_factory=set)

    @property
    def live(self) -> bool:
        return self.machine is not None and self.machine.state is not S.ENDED

    @property
    def state(self) -> CallState:
        return self.machine.state if self.machine is not None else S.ENDED

    @property
    def is_outgoing(self) -> bool:
        return self.machine is not None and self.machine.caller and self.state in OUTGOING


@dataclass(frozen=True)
class Letter:
    """A message under way."""

    to: str
    what: Do | Input
    number: int


class TwoEnds:
    """Both phones and what is between them. `check` holds after every step."""

    def __init__(self, *, carried: bool = False) -> None:
        self.now = 1000.0
        self.carried = carried
        self.ends = {"a": End("a"), "b": End("b")}
        self.channel: list[Letter] = []

    def peer(self, end: End) -> End:
        return self.ends["b" if end.name == "a" else "a"]

    # --- what happens at an end ---------------------------------------------------------------------------------------

    def begin(self, end: End, *, caller: bool, number: int = 0) -> None:
        end.machine, end.number = CallMachine(caller, self.carried), number
        end.accepted = caller
        end.has_keys = end.preparing = end.connecting = end.up = False
        end.rings = end.sent = 0

    def feed(self, end: End, what: Input) -> bool:
        assert end.machine is not None
        before = end.state
        meant = end.machine.handle(what, self.now)
        assert meant or end.state is before
        assert before is not S.ENDED or not meant, "nothing leads out of ENDED"
        if what is I.ACCEPT and meant:
            end.accepted = True
        self.carry_out(end, ended=before is not S.ENDED and end.state is S.ENDED)
        return meant

    def carry_out(self, end: End, *, ended: bool) -> None:
        machine = end.machine
        assert machine is not None
        if ended:
            to_do = list(machine.to_do)
            assert to_do.pop() is Do.CLOSE
            assert to_do in ([], [Do.SEND_DECLINED], [Do.SEND_CANCELLED], [Do.SEND_HUNG_UP])
            assert machine.reason is not None
        while machine.to_do:
            self.carry_out_one(end, machine.to_do.popleft())

    def carry_out_one(self, end: End, what: Do) -> None:
        machine = end.machine
        assert machine is not None
        if what is Do.RING:
            end.rings += 1
            assert end.rings == 1
        elif what is Do.PREPARE:
            assert end.accepted, "relays were asked before anybody accepted"
            assert not end.preparing
            end.preparing = True
        elif what is Do.CONNECT:
            assert end.accepted, "a path was tried before anybody accepted"
            assert end.has_keys
            assert not end.connecting
            end.connecting = True
            end.tried.add(end.number)
        elif what is Do.CLOSE:
            assert machine.reason is not None
            if end.number:
                end.reasons[end.number] = machine.reason
            end.preparing = end.connecting = False
        elif what is not Do.SEND_HUNG_UP or end.has_keys:
            end.sent += 1
            self.channel.append(Letter(self.peer(end).name, what, end.number))

    def offer_ready(self, end: End, number: int) -> None:
        """The caller's relays and the other side's prekey are there."""
        end.number = number
        self.feed(end, I.PLACE)

    def answer_ready(self, end: End) -> None:
        end.preparing, end.has_keys = False, True
        self.feed(end, I.READY)

    def path_up(self, end: End) -> None:
        end.up = True
        self.feed(end, I.UP)

    def replace(self, end: End) -> None:
        """Another device of its user has the mailbox now. What rings is its; a call that was accepted goes on."""
        end.replaced = True
        if end.machine is not None and not end.machine.caller and end.state is S.RINGING:
            end.left.add(end.number)
            sent = end.sent
            assert self.feed(end, I.ELSEWHERE)
            assert end.sent == sent, "the other side must not be told that it was declined"

    def answered_elsewhere(self, end: End) -> None:
        """The other device accepts the call that rang here."""
        caller = self.peer(end)
        caller.has_keys = True
        assert self.feed(caller, I.ANSWERED)

    # --- letters ------------------------------------------------------------------------------------------------------

    def deliver(self, letter: Letter) -> None:
        end = self.ends[letter.to]
        if end.replaced:
            return
        if letter.what is Do.SEND_OFFER:
            self.offered(end, letter.number)
        elif letter.what is not Do.SEND_CONFIRM and end.live and end.number == letter.number:
            assert end.machine is not None
            if letter.what is Do.SEND_ANSWER and end.machine.caller:
                end.has_keys = True
            if letter.what is not Do.SEND_HUNG_UP or end.has_keys:
                self.feed(end, HEARD[letter.what])

    def offered(self, end: End, number: int) -> None:
        """As the switchboard decides."""
        if end.live and end.number == number:
            self.feed(end, I.OFFERED)
        elif number in end.turned_away or (number not in end.reasons and not end.live and end.talking):
            end.turned_away.add(number)
            self.channel.append(Letter(self.peer(end).name, I.BUSY, number))
        elif number not in end.reasons and not end.live:
            self.begin(end, caller=False, number=number)
            self.feed(end, I.OFFERED)
        elif number not in end.reasons and end.is_outgoing and not (end.number and end.number < number):
            end.given_way.add(end.number)
            end.number = number
            assert self.feed(end, I.OFFERED)

    # --- time ---------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float:
        return min(end.machine.next_timeout() if end.machine else NEVER for end in self.ends.values())

    def pass_time(self, seconds: float) -> None:
        """Let time pass; every timer is served at its time."""
        until = self.now + seconds
        while (at := self.next_timeout()) <= until:
            self.now = at
            self.serve_timers()
        self.now = until

    def serve_timers(self) -> None:
        for end in self.ends.values():
            if end.machine is not None and end.machine.next_timeout() <= self.now:
                before = end.state
                end.machine.handle_timeout(self.now)
                assert end.machine.next_timeout() > self.now, "a timer would fire for ever"
                self.carry_out(end, ended=before is not S.ENDED and end.state is S.ENDED)

    # --- what always holds --------------------------------------------------------------------------------------------

    def check(self) -> None:
        for end in self.ends.values():
            machine = end.machine
            if machine is None:
                continue
            assert not machine.to_do
            if not end.live:
                assert machine.next_timeout() == NEVER
            assert not end.up or end.accepted
        self.check_causes()

    def check_causes(self) -> None:
        """Who says that the other side did something is right."""
        a, b = self.ends.values()
        for end, other in ((a, b), (b, a)):
            for number, reason in end.reasons.items():
                theirs = other.reasons.get(number)
                if reason is R.DECLINED and theirs is not R.DECLINED:
                    # what they accepted came to nothing, or their own end came first
                    assert theirs in (None, R.HUNG_UP, R.FAILED, R.SETUP_TIMEOUT, R.CANCELLED, R.UNANSWERED)
                assert reason is not R.BUSY or (number in other.turned_away and theirs is None)
                assert (reason is R.ELSEWHERE) == (number in end.left)
                if reason is R.PEER_HUNG_UP:
                    assert theirs in (R.HUNG_UP, R.FAILED, R.SETUP_TIMEOUT)
                if reason is R.CANCELLED and theirs is not None:
                    assert theirs not in (R.PEER_HUNG_UP, R.BUSY)
