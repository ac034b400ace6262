"""The relay-only ICE agent (RFC 8445 with the host and reflexive parts left out), without I/O.

How it works. Every allocation of ours is paired with every relayed address of the peer's. Each pair is checked from
the moment it exists: quickly until the first answer, since a relay drops what comes before the peer's permission and
a lost check must cost tens of milliseconds; then about once a second, for ever. That keeps every pair warm, measured
and consented (RFC 7675): a pair without a valid answer for 30 seconds carries no media until it is answered again.

The controlling side nominates. Until it has a valid pair every check of its nominates, so that both sides are
connected after one round trip of checks; from then on only checks on the pair it has chosen do, each time, with a
rising number (NOMINATION), so that a lost or late one changes nothing and both ends converge. A peer without
NOMINATION is followed as RFC 8445 says. When the chosen pair ails and a healthy one exists, each side moves at once,
preferably to a pair that shares no relay with the ailing one. The chosen pair is never given up for nothing.

Which pair that is at first: the first to answer. Within half a second another takes its place if the two sides' own
round trips to their relays add up to less there; after that, the measured round trip from end to end decides alone,
with hysteresis. The nearest relay to one side need not be the best for two.

Checks come and go through `outgoing` and `receive`; `events` tells what was chosen.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from relaycall.errors import MalformedMessage
from relaycall.ice.pair import Pair, PairState
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, Method, decode

CONSENT = 30.0  # seconds (RFC 7675, section 5.1)
WARM_INTERVAL = 1.0  # seconds between checks on a pair that answers, give or take a fifth
PROBE_INTERVAL = 0.2  # seconds between checks on a pair that stopped answering
FIRST_INTERVALS = (0.01, 0.02, 0.03, 0.04, 0.05)  # seconds between the first checks of a pair; the last repeats
EAGER = 2.0  # seconds for which an unanswered pair is checked that often
IDLE_INTERVAL = 1.0  # seconds between checks on a pair that never answered
SETTLE = 0.5  # seconds after the first choice in which a pair that is expected to be better may take its place
SETTLE_RTT = 1.25  # ... unless its measured round trip is longer by this factor
BETTER_RTT = 0.8  # later, a healthy choice is left only for a pair whose round trip is surely below this share of its
BETTER_ANSWERS = 5  # ... with so many checks answered on both
BETTER_INTERVAL = 10.0  # ... and so many seconds after the last move
MAX_PAIRS = 64


@dataclass(frozen=True, slots=True)
class Selected:
    """Media goes over this pair from now on."""

    local: int
    remote: Address


@dataclass(frozen=True, slots=True)
class Unselected:
    """No pair may carry media: consent is lost, or the relays are."""


Event = Selected | Unselected


@dataclass(slots=True)
class Agent:
    """One side's agent.

    Args:
        controlling: the side that nominates; a conflict is settled by tie breaker (RFC 8445, section 7.3.1.1).
        ufrag, pwd: ours, of at least 4 and 22 characters.
        random: gives that many random bytes.
    """

    controlling: bool
    ufrag: str
    pwd: str = field(repr=False)
    random: Callable[[int], bytes] = field(repr=False)

    outgoing: deque[tuple[int, Address, bytes]] = field(default_factory=deque, repr=False)
    events: deque[Event] = field(default_factory=deque, repr=False)
    dropped: Counter[str] = field(default_factory=Counter)
    pairs: dict[tuple[int, Address], Pair] = field(default_factory=dict, repr=False)
    selected: Pair | None = None
    _locals: dict[int, tuple[int, int, float]] = field(default_factory=dict, init=False, repr=False)
    _remotes: dict[Address, tuple[int, float]] = field(default_factory=dict, init=False, repr=False)
    _refused: set[tuple[int, Address]] = field(default_factory=set, init=False, repr=False)
    _remote_ufrag: str = field(default="", init=False, repr=False)
    _remote_pwd: bytes = field(default=b"", init=False, repr=False)
    _tie_breaker: int = field(default=0, init=False, repr=False)
    _nomination: int = field(default=1, init=False, repr=False)
    _latest: int = field(default=-1, init=False, repr=False)
    _settled_at: float = field(default=0.0, init=False, repr=False)
    _moved_at: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._tie_breaker = int.from_bytes(self.random(8), "big")

    # --- candidates ---------------------------------------------------------------------------------------------------

    def set_remote(self, ufrag: str, pwd: str) -> None:
        """The peer's credentials; before its candidates."""
        self._remote_ufrag, self._remote_pwd = ufrag, pwd.encode()

    def add_local(self, local: int, family: int, priority: int, now: float, leg: float = 0.0) -> None:
        """One of our allocations, by a number of the owner's. `leg`: round trip to its relay, seconds; 0 unknown."""
        self._locals[local] = (family, priority, leg)
        for remote in self._remotes:
            self._add_pair(local, remote, now)

    def add_remote(self, remote: Address, priority: int, now: float, leg: float = 0.0) -> None:
        """One of the peer's relayed addresses; at any time. `leg`: the peer's round trip to it."""
        if remote in self._remotes:
            return
        self._remotes[remote] = (priority, leg)
        for local in self._locals:
            self._add_pair(local, remote, now)

    def remove_local(self, local: int, now: float) -> None:
        """The allocation is gone."""
        self._locals.pop(local, None)
        self._remove((pair for pair in self.pairs.values() if pair.local == local), now)

    def remove_remote(self, remote: Address, now: float) -> None:
        """The peer gave this address up."""
        self._remotes.pop(remote, None)
        self._remove((pair for pair in self.pairs.values() if pair.remote == remote), now)

    def refuse_pair(self, local: int, remote: Address, now: float) -> None:
        """Our relay forbids this peer address."""
        self._refused.add((local, remote))
        self._remove((pair for pair in self.pairs.values() if (pair.local, pair.remote) == (local, remote)), now)

    def suspect_local(self, local: int, now: float) -> None:
        """The network reports this relay of ours unreachable: use another, and see."""
        for pair in self.pairs.values():
            if pair.local == local:
                pair.suspect = True
                pair.next_check = now
        self._reconsider(now)

    @property
    def all_refused(self) -> bool:
        """Whether our relays forbid every address of the peer's."""
        return bool(self._refused) and not self.pairs

    # --- packets and time ---------------------------------------------------------------------------------------------

    def receive(self, local: int, source: Address, data: bytes, now: float) -> None:
        """Take a STUN message that came from `source` to our allocation `local`."""
        pair = self.pairs.get((local, source))
        if pair is None:
            self.dropped["unknown_pair"] += 1
            return
        try:
            message = decode(data)
        except MalformedMessage:
            self.dropped["malformed"] += 1
            return
        if message.method is not Method.BINDING or message.unknown:
            self.dropped["not_a_check"] += 1
        elif message.kind is Class.REQUEST:
            self._request(pair, message, now)
        elif message.kind is not Class.INDICATION:
            self._response(pair, message, now)

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        times = [min(pair.next_check, self._expiry(pair)) for pair in self.pairs.values()]
        return min(times, default=float("inf"))

    def handle_timeout(self, now: float) -> None:
        """Send the checks that are due, notice the ones that were missed, end consent."""
        ailing = False
        for pair in self.pairs.values():
            if now >= self._expiry(pair):
                pair.to("expired")
                ailing = True
            if now >= pair.next_check:
                ailing |= pair.state is PairState.VALID and pair.count_missed(now) > 0
                self._check(pair, now)
        if ailing:
            self._reconsider(now)

    @staticmethod
    def _expiry(pair: Pair) -> float:
        return pair.consent_until if pair.state is PairState.VALID else float("inf")

    # --- checks -------------------------------------------------------------------------------------------------------

    def _check(self, pair: Pair, now: float) -> None:
        tid = self.random(12)
        role = a.ICE_CONTROLLING if self.controlling else a.ICE_CONTROLLED
        attributes: list[tuple[a.Attribute[Any], Any]] = [
            a.USERNAME(f"{self._remote_ufrag}:{self.ufrag}"),
            role(self._tie_breaker),
            a.PRIORITY(self._locals[pair.local][1]),
        ]
        if self.controlling and self.selected in (None, pair):
            attributes += [a.USE_CANDIDATE(None), a.NOMINATION(self._nomination)]
        message = Message(Method.BINDING, Class.REQUEST, tid, attributes)
        pair.check_sent(tid, now, self.controlling)
        self.outgoing.append((pair.local, pair.remote, message.encode(self._remote_pwd, fingerprint=True)))
        pair.next_check = now + self._interval(pair, now)

    def _interval(self, pair: Pair, now: float) -> float:
        if pair.state is PairState.VALID:
            return PROBE_INTERVAL if pair.missed else pair.patience
        if pair.state is PairState.CHECKING and now - pair.created < EAGER:
            return FIRST_INTERVALS[min(pair.sent, len(FIRST_INTERVALS)) - 1]
        return IDLE_INTERVAL

    def _request(self, pair: Pair, message: Message, now: float) -> None:
        if message.get(a.USERNAME) != f"{self.ufrag}:{self._remote_ufrag}" or not message.verify(self.pwd.encode()):
            self.dropped["unauthenticated"] += 1
            return
        if self._conflict(pair, message, now):
            return
        answer = Message(Method.BINDING, Class.SUCCESS, message.transaction_id, [a.XOR_MAPPED_ADDRESS(pair.remote)])
        self.outgoing.append((pair.local, pair.remote, answer.encode(self.pwd.encode(), fingerprint=True)))
        if not self.controlling and message.has(a.USE_CANDIDATE):
            number = message.get(a.NOMINATION)
            if number is None:  # a peer without numbers: its latest word counts
                number = 0
                for other in self.pairs.values():
                    other.nomination = -1
            pair.nomination = max(pair.nomination, number)
            self._latest = max(self._latest, number)
            self._follow(pair)
        if pair.state is PairState.CHECKING and now - pair.last_sent >= FIRST_INTERVALS[0] / 2:
            self._check(pair, now)  # triggered (RFC 8445, section 7.3.1.4): the peer's permission is there now

    def _conflict(self, pair: Pair, message: Message, now: float) -> bool:
        """RFC 8445, section 7.3.1.1: the larger tie breaker stays controlling."""
        theirs = message.get(a.ICE_CONTROLLING if self.controlling else a.ICE_CONTROLLED)
        if theirs is None:
            return False
        if self.controlling == (self._tie_breaker >= theirs):
            error = Message(Method.BINDING, Class.ERROR, message.transaction_id, [a.ERROR_CODE(a.ErrorCode(487))])
            self.outgoing.append((pair.local, pair.remote, error.encode(self.pwd.encode(), fingerprint=True)))
            return True
        self._switch_role(now)
        return False

    def _switch_role(self, now: float) -> None:
        self.controlling = not self.controlling
        for pair in self.pairs.values():
            if pair.state is not PairState.VALID:
                pair.next_check = now
        self._reconsider(now)

    def _response(self, pair: Pair, message: Message, now: float) -> None:
        if message.transaction_id not in pair.outstanding:
            self.dropped["unexpected_response"] += 1
            return
        if not message.verify(self._remote_pwd):
            self.dropped["unauthenticated"] += 1
            return
        if message.kind is Class.ERROR:
            check = pair.outstanding.pop(message.transaction_id)
            error = message.get(a.ERROR_CODE)
            if error is not None and error.code == 487:
                if check.controlling == self.controlling:  # else the role was switched since
                    self._switch_role(now)
                pair.next_check = now
            return
        if not pair.check_answered(message.transaction_id, now, CONSENT):
            return
        jitter = 0.8 + 0.4 * self.random(1)[0] / 255
        pair.next_check = now + WARM_INTERVAL * jitter
        if not self.controlling and pair.nomination >= 0:
            self._follow(pair)
        self._reconsider(now)
        if self.controlling:
            self._settle(pair, now)

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _follow(self, pair: Pair) -> None:
        """Controlled: take the pair of the latest nomination once it is valid; the first one on a tie."""
        current = self.selected
        if pair.state is not PairState.VALID or pair is current or pair.nomination < self._latest:
            return
        if current is not None and current.healthy and not pair.healthy:
            return  # followed with its next answer
        if current is None or pair.nomination > current.nomination:
            self._select(pair)

    def _reconsider(self, now: float) -> None:
        """Choose when there is no choice yet, or when the chosen pair ails and another is better."""
        current = self.selected
        if current is not None and current.healthy:
            return
        if current is None and not self.controlling and not any(p.nomination >= 0 for p in self.pairs.values()):
            return
        usable = [pair for pair in self.pairs.values() if pair.state is PairState.VALID]
        better = [pair for pair in usable if pair.healthy] or ([] if current in usable else usable)
        if not better:
            if current is not None and current not in usable:
                self.selected = None
                self.events.append(Unselected())
            return
        chosen = max(better, key=lambda pair: (self._apart(pair, current), pair.nomination, pair.priority))
        if current is None:
            self._settled_at = now + SETTLE
        if self.controlling:
            self._nominate(chosen, now)
        else:
            self._select(chosen)

    def _settle(self, pair: Pair, now: float) -> None:
        """The first pair to answer was taken at once. For a moment expectation has its say, later measurement alone."""
        current = self.selected
        if current is None or pair is current or not pair.healthy:
            return
        if now <= self._settled_at:
            better = pair.preferable_to(current) and pair.rtt <= SETTLE_RTT * current.rtt
        else:
            surely = pair.rtt + pair.rtt_deviation < BETTER_RTT * (current.rtt - current.rtt_deviation)
            known = min(pair.answered, current.answered) >= BETTER_ANSWERS
            better = surely and known and now >= self._moved_at + BETTER_INTERVAL
        if better:
            self._nominate(pair, now)

    def _nominate(self, pair: Pair, now: float) -> None:
        self._moved_at = now
        self._nomination += 1
        self._select(pair)
        self._check(pair, now)

    @staticmethod
    def _apart(pair: Pair, current: Pair | None) -> int:
        """How many relays the pair does not share with the one that fails."""
        if current is None:
            return 0
        return (pair.local != current.local) + (pair.remote.host != current.remote.host)

    def _select(self, pair: Pair) -> None:
        self.selected = pair
        self.events.append(Selected(pair.local, pair.remote))

    # --- the set of pairs ---------------------------------------------------------------------------------------------

    def _add_pair(self, local: int, remote: Address, now: float) -> None:
        family, priority, leg = self._locals[local]
        remote_priority, remote_leg = self._remotes[remote]
        key = (local, remote)
        if family != remote.family or key in self.pairs or key in self._refused or len(self.pairs) >= MAX_PAIRS:
            return
        mine, theirs = (priority, remote_priority) if self.controlling else (remote_priority, priority)
        combined = (min(mine, theirs) << 32) + 2 * max(mine, theirs) + (mine > theirs)
        legs = leg + remote_leg if leg and remote_leg else 0.0
        self.pairs[key] = Pair(local, remote, combined, now, legs=legs, next_check=now)

    def _remove(self, pairs: Iterable[Pair], now: float) -> None:
        for pair in list(pairs):
            pair.to("removed")
            del self.pairs[pair.local, pair.remote]
        self._reconsider(now)
