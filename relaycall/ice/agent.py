"""The relay-only ICE agent (RFC 8445 with the host and reflexive parts left out), without I/O.

How it works. Every allocation of ours is paired with every relayed address of the peer's. Each pair is checked from
the moment it exists: quickly until the first answer, since a relay drops what comes before the peer's permission and
a lost check must cost tens of milliseconds; then for ever. That keeps every pair warm, measured and consented (RFC
7675): a pair without a valid answer for 30 seconds carries no media until it is answered again. While the peer's media
is watched, it shows that a path lives, and checks are rare: all of them cost less than two hundredths of a call.

The controlling side nominates. Until it has a valid pair every check of its nominates, so that both sides are
connected after one round trip of checks; from then on only checks on the pair it has chosen do, each time, with a
rising number (NOMINATION), so that a lost or late one changes nothing and both ends converge. A peer without
NOMINATION is followed as RFC 8445 says. Which pair is chosen, when it is left and when media goes over two is decided
in failover.py.

Checks come and go through `outgoing` and `receive`; `events` tells what was chosen.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from relaycall.errors import MalformedMessage
from relaycall.ice.agent_events import Doubled, Doubted, Event, LocalFailing, Reached, Selected, Unselected
from relaycall.ice.decisions import Double, Move, PeerBack, PeerSilent, Probe
from relaycall.ice.failover import Failover
from relaycall.ice.pacing import FIRST_INTERVALS, retry_interval, warm_interval
from relaycall.ice.pair import Pair, PairState
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, Method, decode

CONSENT = 30.0  # seconds (RFC 7675, section 5.1)
MAX_PAIRS = 64


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
    failover: Failover = field(init=False)
    _locals: dict[int, tuple[int, int, float, str]] = field(default_factory=dict, init=False, repr=False)
    _remotes: dict[Address, tuple[int, float]] = field(default_factory=dict, init=False, repr=False)
    _refused: set[tuple[int, Address]] = field(default_factory=set, init=False, repr=False)
    _remote_ufrag: str = field(default="", init=False, repr=False)
    _remote_pwd: bytes = field(default=b"", init=False, repr=False)
    _tie_breaker: int = field(default=0, init=False, repr=False)
    _nomination: int = field(default=1, init=False, repr=False)
    _latest: int = field(default=-1, init=False, repr=False)
    _retired: set[int | Address] = field(default_factory=set, init=False, repr=False)
    _failing: set[int] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        self._tie_breaker = int.from_bytes(self.random(8), "big")
        self.failover = Failover(self.pairs)

    @property
    def selected(self) -> Pair | None:
        """The pair that carries media."""
        return self.failover.chosen

    # --- candidates ---------------------------------------------------------------------------------------------------

    def set_remote(self, ufrag: str, pwd: str) -> None:
        """The peer's credentials; before its candidates."""
        self._remote_ufrag, self._remote_pwd = ufrag, pwd.encode()

    def add_local(self, local: int, family: int, priority: int, now: float, leg: float = 0.0, host: str = "") -> None:
        """An allocation of ours, by the owner's number. `leg`: seconds to the relay and back; `host`: relayed."""
        self._locals[local] = (family, priority, leg, host)
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
        self._failing.discard(local)
        self._retired.discard(local)
        self._remove((pair for pair in self.pairs.values() if pair.local == local), now)

    def remove_remote(self, remote: Address, now: float) -> None:
        """The peer gave this address up."""
        self._remotes.pop(remote, None)
        self._retired.discard(remote)
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
        self.failover.unreachable(now)
        self._carry_out(now)

    def retire_local(self, local: int, now: float) -> None:
        """This allocation is given up soon: use another."""
        self._retired.add(local)
        self._mark_retiring(now)

    def retire_remote(self, remote: Address, retired: bool, now: float) -> None:
        """The peer gives this address up soon: use another; or does not after all."""
        (self._retired.add if retired else self._retired.discard)(remote)
        self._mark_retiring(now)

    def _mark_retiring(self, now: float) -> None:
        for pair in self.pairs.values():
            pair.retiring = not self._retired.isdisjoint((pair.local, pair.remote))
        self.failover.unreachable(now)
        self._carry_out(now)

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
        self._carry_out(now)

    def is_from_peer(self, data: bytes) -> bool:
        """Whether a STUN message from an unknown address is a check that only the peer can have made."""
        try:
            message = decode(data)
        except MalformedMessage:
            return False
        return message.method is Method.BINDING and message.kind is Class.REQUEST and self._is_authentic(message)

    def heard(self, pair: Pair, now: float) -> None:
        """Authentic media of the peer came over this pair."""
        self.failover.heard(pair, now)
        if self.failover.decisions:
            self._carry_out(now)

    def protect(self, protect: bool, now: float) -> None:
        """Whether media goes over two paths always."""
        self.failover.set_protect(protect, now)
        self._carry_out(now)

    def move(self, now: float, pair: Pair | None = None) -> bool:
        """Go to this pair, or the best other one. False if there is none."""
        self.failover.move(now, pair)
        moved = any(isinstance(decision, Move) for decision in self.failover.decisions)
        self._carry_out(now)
        return moved

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        times = [min(pair.next_check, pair.expiry) for pair in self.pairs.values()]
        return min([self.failover.next_timeout(), *times])

    def handle_timeout(self, now: float) -> None:
        """Send the checks that are due, notice the ones that were missed, end consent."""
        expired = missed = False
        for pair in self.pairs.values():
            if now >= pair.expiry:
                pair.to("expired")
                expired = True
            if now >= pair.next_check:
                missed |= pair.state is PairState.VALID and pair.count_missed(now) > 0
                self._check(pair, now)
        if expired:
            self.failover.gone(now)
        if missed:
            self.failover.missed(now)
            self._find_failing()
        self.failover.handle_timeout(now)
        self._carry_out(now)

    def stalled(self, seconds: float, now: float) -> None:
        """We did nothing for so long; call this before `handle_timeout`."""
        self.failover.stalled(seconds, now)
        self._carry_out(now)

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
        moved = self.failover.asks(pair, now)
        if moved is not None:
            silent_ms = round(1000 * (now - self.failover.heard_at))
            attributes.append(a.MEDIA_HERE(a.MediaHere(moved, min(max(silent_ms, 0), 0xFFFF))))
        message = Message(Method.BINDING, Class.REQUEST, tid, attributes)
        pair.check_sent(tid, now, self.controlling)
        self.outgoing.append((pair.local, pair.remote, message.encode(self._remote_pwd, fingerprint=True)))
        pair.next_check = now + retry_interval(pair, self.failover, now)

    def _request(self, pair: Pair, message: Message, now: float) -> None:
        if not self._is_authentic(message):
            self.dropped["unauthenticated"] += 1
            return
        if self._conflict(pair, message, now):
            return
        answer = Message(Method.BINDING, Class.SUCCESS, message.transaction_id, [a.XOR_MAPPED_ADDRESS(pair.remote)])
        self.outgoing.append((pair.local, pair.remote, answer.encode(self.pwd.encode(), fingerprint=True)))
        media_here = message.get(a.MEDIA_HERE)
        if media_here is not None and pair.state is PairState.VALID:
            self._media_wanted(pair, media_here, now)
        if not self.controlling and message.has(a.USE_CANDIDATE):
            number = message.get(a.NOMINATION)
            if number is None:  # a peer without numbers: its latest word counts
                number = 0
                for other in self.pairs.values():
                    other.nomination = -1
            pair.nomination = max(pair.nomination, number)
            self._latest = max(self._latest, number)
            self._follow(pair, now)
        if pair.state is PairState.CHECKING:
            if self.selected is None:
                self.events.append(Reached(pair.local, pair.remote))
            if now - pair.last_sent >= FIRST_INTERVALS[0] / 2:
                self._check(pair, now)  # triggered (RFC 8445, section 7.3.1.4): the peer's permission is there now

    def _is_authentic(self, message: Message) -> bool:
        return message.get(a.USERNAME) == f"{self.ufrag}:{self._remote_ufrag}" and message.verify(self.pwd.encode())

    def _media_wanted(self, pair: Pair, media_here: a.MediaHere, now: float) -> None:
        self.failover.wanted(pair, media_here.silent_ms / 1000, now)
        if self.controlling and media_here.moved and pair is not self.selected and self.failover.agrees(now):
            self.failover.told(pair, now)

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
        self._choose_first(now)

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
        sent_at = pair.outstanding[message.transaction_id].at
        if not pair.check_answered(message.transaction_id, now, CONSENT):
            return
        jitter = 0.8 + 0.4 * self.random(1)[0] / 255
        if self.failover.probe_interval(now) is None:
            pair.next_check = now + warm_interval(pair, self.failover) * jitter
        self._failing.discard(pair.local)
        if not self.controlling and pair.nomination >= 0:
            self._follow(pair, now)
        self.failover.answered(pair, sent_at, now)
        self._choose_first(now)
        if self.controlling:
            self.failover.faster(pair, now)

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _choose_first(self, now: float) -> None:
        """Until there is a choice: the controlling side makes it, the other once it was told of one."""
        if self.controlling or any(pair.nomination >= 0 for pair in self.pairs.values()):
            self.failover.usable(now)

    def _follow(self, pair: Pair, now: float) -> None:
        """Controlled: take the pair of the latest nomination once it is valid; the first one on a tie."""
        current = self.selected
        if pair.state is not PairState.VALID or pair.nomination < self._latest:
            return
        if current is not None and current.healthy and not pair.healthy:
            return  # followed with its next answer
        if current is None or pair.nomination > current.nomination:
            self.failover.told(pair, now)

    def _find_failing(self) -> None:
        """Allocations on which nothing is answered any more, while others do their work."""
        if not any(pair.healthy for pair in self.pairs.values()):
            return
        for local in set(self._locals) - self._failing:
            pairs = [pair for pair in self.pairs.values() if pair.local == local and pair.answered]
            if pairs and local not in self._retired and all(pair.fails for pair in pairs):
                self._failing.add(local)
                self.events.append(LocalFailing(local))

    def _carry_out(self, now: float) -> None:
        """Do what the failover policy decided."""
        decisions = self.failover.decisions
        while decisions:
            match decisions.popleft():
                case Move(pair=None):
                    self.events.append(Unselected())
                case Move(pair=pair, resend=resend, failed=failed) if pair is not None:
                    self.events.append(Selected(pair.local, pair.remote, resend, failed))
                    if self.controlling:
                        self._nomination += 1
                        self._check(pair, now)
                    elif self.failover.asks(pair, now):
                        self._check(pair, now)
                case Double(pairs=pairs, resend=resend):
                    self.events.append(Doubled(tuple((pair.local, pair.remote) for pair in pairs), resend))
                case Probe(doubted=doubted):
                    if doubted:
                        self.events.append(Doubted())
                    for pair in self.pairs.values():
                        pair.next_check = min(pair.next_check, now)
                case PeerSilent() | PeerBack() as event:
                    self.events.append(event)

    # --- the set of pairs ---------------------------------------------------------------------------------------------

    def _add_pair(self, local: int, remote: Address, now: float) -> None:
        family, priority, leg, host = self._locals[local]
        remote_priority, remote_leg = self._remotes[remote]
        key = (local, remote)
        if family != remote.family or key in self.pairs or key in self._refused or len(self.pairs) >= MAX_PAIRS:
            return
        mine, theirs = (priority, remote_priority) if self.controlling else (remote_priority, priority)
        combined = (min(mine, theirs) << 32) + 2 * max(mine, theirs) + (mine > theirs)
        legs = leg + remote_leg if leg and remote_leg else 0.0
        retiring = not self._retired.isdisjoint((local, remote))
        self.pairs[key] = Pair(
            local, remote, combined, now, legs=legs, next_check=now, retiring=retiring, hosts=(host, remote.host)
        )

    def _remove(self, pairs: Iterable[Pair], now: float) -> None:
        for pair in list(pairs):
            pair.to("removed")
            del self.pairs[pair.local, pair.remote]
        self.failover.gone(now)
        self._carry_out(now)
