"""On which paths media goes: the policy, without I/O.

How it works. One path is chosen; both ends move to another one when it fails, and only then, or when another is clearly
faster. Certainty takes a few round trips, and a listener notices a tenth of a second. So there is a state in between:

    NONE ──usable──▶ STEADY ──silent──▶ DOUBTED ──overdue──▶ STEADY, on another path
                        ▲                  │
                        └──────alive───────┘

A relaycall peer sends a packet every 20 ms, so silence shows after a few of them: when it is a good deal longer than
the pauses that loss and jitter make on this path, 70 ms at least. Then the path is in doubt. Our media goes over a
second path as well, what was sent since the silence began goes there again (SRTP drops the copies), the peer is asked
to do the same (MEDIA-HERE), and every path is checked each 50 ms until the facts decide. The second path is the one
that shares the fewest relays with the first. A path in doubt that delivers again is kept. It is left once it has been
silent for LEAVE_AFTER, three checks on it were not answered in the time they take there, and another path has answered
a tenth of a second ago: when nothing answers, the fault is the peer's, or ours, and no path is better than another.

A relay that the network reports unreachable is left at once, if there is another path. Nothing is left because we
stalled ourselves: `stalled` excuses every path. A path without media to watch is judged by its checks alone.

The side that nominates decides; the other may leave a failing path by itself, says so (MEDIA-HERE, moved), and is
followed. `decisions` tells the owner what to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relaycall.ice.decisions import Decision, Double, Fact, Move, Phase, Probe
from relaycall.ice.pair import Pair, PairState
from relaycall.ice.peer_watch import LONG_STALL, PeerWatch

SILENCE_MIN, SILENCE_MAX = 0.07, 0.4  # seconds without media until a path is in doubt, whatever its pauses are
SILENCE_FACTOR, SILENCE_EXTRA = 1.25, 0.02  # of the pause that one packet in 2000 exceeds, and seconds
PAUSE_MIN, PAUSE_UP, PAUSE_DOWN = 0.04, 0.02, 0.00001  # seconds: that pause at least, and how fast it is learnt
LEAVE_AFTER = 0.3  # seconds of silence at least before a path is left for it
FAIR_CHANCE = 0.1  # seconds the path in doubt has to answer once another has
UNANSWERED = 3  # checks
LOOK = 0.02  # seconds between looks at a path in doubt
REDOUBT = 1.0  # seconds after a check was answered on a silent path before it is in doubt again
NEW = 0.6  # seconds for which a pair that was not answered yet may still be
WANTED = 0.5  # seconds for which a request for media holds; it is repeated with every check in doubt
PROBING = (0.05, 1.0), (0.2, 5.0), (0.5, 15.0), (1.0, float("inf"))  # seconds between checks, and until when, in doubt
AGREE_AFTER = 0.5  # seconds after our own move before the other side's word is followed
SETTLE = 0.5  # seconds after the first choice in which a path that is expected to be better may take its place
SETTLE_RTT = 1.25  # ... unless its measured round trip is longer by this factor
BETTER_INTERVAL = 10.0  # seconds after a move before a healthy choice is left for one that is surely faster

NEVER = float("inf")


@dataclass(slots=True)
class Failover:
    """The choice among the pairs of one agent.

    Args:
        pairs: all of them, owned by the agent.

    Attributes:
        chosen: the pair that carries media.
        also: the pairs that carry it as well.
        watching: whether the peer's media is expected on the chosen path all the time.
        protect: send over a second path always.
        heard_at: when the peer's media last came, over any pair.
        decisions: what the owner is to do, in order.
    """

    pairs: Mapping[Any, Pair] = field(repr=False)
    phase: Phase = Phase.NONE
    chosen: Pair | None = None
    also: tuple[Pair, ...] = ()
    watching: bool = False
    protect: bool = False
    decisions: deque[Decision] = field(default_factory=deque, repr=False)
    heard_at: float = field(default=0.0, init=False)
    _settled_at: float = field(default=0.0, init=False)
    _moved_at: float = field(default=-NEVER, init=False)
    _left_at: float = field(default=-NEVER, init=False)
    _doubted_at: float = field(default=-NEVER, init=False)
    _quiet_from: float = field(default=-NEVER, init=False)  # silence counts from here at the earliest
    _pause: float = field(default=PAUSE_MIN, init=False)  # that one packet in 2000 exceeds
    _heard: int = field(default=0, init=False)  # packets on the chosen path since it came into doubt
    _peer: PeerWatch = field(default_factory=PeerWatch, init=False)
    _look_at: float = field(default=NEVER, init=False)

    # --- facts --------------------------------------------------------------------------------------------------------

    def watch(self, now: float) -> None:
        """From now on the peer's media is expected."""
        self.watching = True
        self._quiet_from = now + SILENCE_MAX
        self.heard_at = now
        self._peer.start(now)

    def set_protect(self, protect: bool, now: float) -> None:
        """Whether media goes over two paths always."""
        self.protect = protect
        self._redouble(now)

    def heard(self, pair: Pair, now: float) -> None:
        """Authentic media of the peer came over this pair."""
        pause = now - max(pair.heard_at, self._quiet_from)
        pair.heard_at = self.heard_at = now
        self._sign(now)
        if pair is self.chosen:
            # Stochastic approximation of the quantile: one pause in 2000 is longer where up and down cancel out.
            longer = pause - self._pause
            self._pause = max(
                self._pause + min(longer, PAUSE_UP) if longer > 0 else self._pause - PAUSE_DOWN, PAUSE_MIN
            )
            if self.phase is Phase.DOUBTED:
                self._heard += 1
                if self._heard >= UNANSWERED:
                    self._fact(Fact.ALIVE, now)

    def answered(self, pair: Pair, sent_at: float, now: float) -> None:
        """A check on this pair, sent at `sent_at`, was answered."""
        self._sign(now)
        if sent_at >= self._doubted_at and pair.proved_at == NEVER:
            pair.proved_at = now
        if pair is self.chosen and sent_at >= self._doubted_at:
            self._quiet_from = now + REDOUBT if self.phase is Phase.DOUBTED else self._quiet_from
            self._fact(Fact.ALIVE, now)
        self._reconsider(now)
        self._redouble(now)

    def usable(self, now: float) -> None:
        """Some pair answered, and this side may choose."""
        self._fact(Fact.USABLE, now)

    def missed(self, now: float) -> None:
        """Checks on the chosen pair are not answered."""
        self._reconsider(now)

    def unreachable(self, now: float) -> None:
        """Pairs were marked as suspect or retiring."""
        self._reconsider(now)
        self._redouble(now)

    def move(self, now: float, pair: Pair | None = None) -> None:
        """The owner wants this path, or the best other one, though the chosen one works."""
        spare = pair or self._spare()
        if spare is not None:
            self._fact(Fact.BETTER, now, spare)

    def gone(self, now: float) -> None:
        """Pairs were removed, or their consent has expired."""
        if self.chosen is not None and self.chosen.state is not PairState.VALID:
            self._fact(Fact.GONE, now)
        self._redouble(now)

    def faster(self, pair: Pair, now: float) -> None:
        """This pair answered: is it a better choice? For the side that nominates."""
        if self.phase is not Phase.STEADY or self.chosen is None or pair is self.chosen:
            return
        if not pair.healthy or not self.chosen.healthy:
            return
        if self._is_better(pair, self.chosen, now):
            self._fact(Fact.BETTER, now, pair)

    def told(self, pair: Pair, now: float) -> None:
        """The peer nominated this pair, or has left the chosen one for it."""
        self._fact(Fact.TOLD, now, pair)

    def agrees(self, now: float) -> bool:
        """Whether the other side's move is to be followed, rather than our own that it has not heard of yet."""
        return now - self._left_at >= AGREE_AFTER

    def wanted(self, pair: Pair, silent: float, now: float) -> None:
        """The peer asks for our media on this pair, having heard nothing for `silent` seconds."""
        pair.wanted_until = now + WANTED
        self._redouble(now, resend=silent + pair.rtt)

    def stalled(self, seconds: float, now: float) -> None:
        """We did nothing for so long: nobody else is to blame for what was not read meanwhile."""
        patience = self._patience
        self._quiet_from = max(self._quiet_from, now if seconds >= LONG_STALL else now - patience + LOOK)
        if seconds >= 0.1:
            for pair in self.pairs.values():
                pair.excuse(now)
        self._peer.stalled(seconds, now)
        if seconds >= LONG_STALL:
            self.decisions.append(Probe(doubted=False))

    # --- time ---------------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float:
        """When `handle_timeout` wants to be called; infinity for never."""
        silent_at = self._silent_at if self.watching and self.phase is Phase.STEADY else NEVER
        return min(self._look_at, self._peer.next_timeout(), silent_at)

    def handle_timeout(self, now: float) -> None:
        """Notice silence, decide what is in doubt, end what was asked for a while."""
        silent = self._peer.handle_timeout(now)
        if silent is not None:
            self.decisions.append(silent)
        if now >= self._look_at:
            self._look_at = NEVER
            self._redouble(now)
        if self.phase is Phase.STEADY and self.watching and now >= self._silent_at:
            self._fact(Fact.SILENT, now)
        elif self.phase is Phase.DOUBTED:
            if self._overdue(now):
                self._fact(Fact.OVERDUE, now)
            else:
                self._look_at = min(self._look_at, now + LOOK)

    def probe_interval(self, now: float) -> float | None:
        """Seconds between checks on every pair while the choice is in doubt, or just made; None while it is not."""
        if self.phase is Phase.DOUBTED:
            return next(interval for interval, until in PROBING if now - self._doubted_at < until)
        return PROBING[0][0] if self._just_left(now) else None

    def silence(self, now: float) -> float:
        """Seconds since the chosen pair last delivered media."""
        return 0.0 if self.chosen is None else min(now - self.chosen.heard_at, 60.0)

    def asks(self, pair: Pair, now: float) -> bool | None:
        """Whether a check on this pair asks for media there: None no, False in doubt, True having moved there."""
        if pair is self.chosen:
            return True if self._just_left(now) else None
        return False if self.phase is Phase.DOUBTED and pair in self.also else None

    def has_backup(self, now: float) -> bool:
        """Whether there is another pair that media could go over, or one that is too new to know."""
        others = [pair for pair in self.pairs.values() if pair is not self.chosen]
        usable = [pair for pair in others if not (pair.suspect or pair.retiring or pair.fails)]
        return any(pair.state is PairState.VALID or now - pair.created < NEW for pair in usable)

    def _just_left(self, now: float) -> bool:
        """Whether we moved, and the peer has not followed yet."""
        if self.chosen is None or not self.watching:
            return False
        return now - self._left_at < WANTED and self.chosen.heard_at < self._left_at

    @property
    def _patience(self) -> float:
        return min(max(SILENCE_FACTOR * self._pause + SILENCE_EXTRA, SILENCE_MIN), SILENCE_MAX)

    @property
    def _silent_at(self) -> float:
        return NEVER if self.chosen is None else max(self.chosen.heard_at, self._quiet_from) + self._patience

    def _sign(self, now: float) -> None:
        back = self._peer.sign(now)
        if back is not None:
            self.decisions.append(back)

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _fact(self, fact: Fact, now: float, pair: Pair | None = None) -> None:
        act = _TABLE.get((self.phase, fact))
        if act is not None:
            self.phase = act(self, now, pair)

    def _reconsider(self, now: float) -> None:
        """Whether the chosen pair is still fit. As long as media comes, lost checks are for the peer to complain of."""
        chosen = self.chosen
        if chosen is None or chosen.healthy:
            return
        if chosen.suspect or chosen.retiring:
            self._fact(Fact.UNREACHABLE, now)
        elif not (self.watching and self.silence(now) < LEAVE_AFTER):
            self._fact(Fact.UNANSWERED, now)

    def _take(self, now: float, _: Pair | None) -> Phase:
        """The first choice, or the first after there was none."""
        usable = [pair for pair in self.pairs.values() if pair.state is PairState.VALID]
        if not usable:
            return Phase.NONE
        self._settled_at = now + SETTLE
        return self._move(max(usable, key=lambda pair: (pair.healthy, pair.nomination, pair.priority)), now)

    def _doubt(self, now: float, _: Pair | None) -> Phase:
        """Double, check everything, and look again soon."""
        self._doubted_at = now
        self._heard = 0
        self._look_at = now + LOOK
        for pair in self.pairs.values():
            pair.proved_at = NEVER
        self.phase = Phase.DOUBTED
        self._redouble(now)
        self.decisions.append(Probe(doubted=True))
        return Phase.DOUBTED

    def _relax(self, now: float, _: Pair | None) -> Phase:
        """It was nothing."""
        self.phase = Phase.STEADY
        self._redouble(now)
        return Phase.STEADY

    def _leave(self, now: float, _: Pair | None) -> Phase:
        """Go to the best other pair. Without one stay, unless there is nothing left to stay on."""
        spare = self._spare()
        current = self.chosen
        assert current is not None
        if spare is not None:
            return self._move(spare, now, failed=not current.retiring)
        if current.state is PairState.VALID:
            return self.phase
        usable = [pair for pair in self.pairs.values() if pair.state is PairState.VALID]
        if usable:
            return self._move(max(usable, key=self._fitness), now, failed=True)
        self.chosen = None
        self.decisions.append(Move(None))
        return Phase.NONE

    def _obey(self, now: float, pair: Pair | None) -> Phase:
        assert pair is not None
        return self._move(pair, now, told=True)

    def _improve(self, now: float, pair: Pair | None) -> Phase:
        assert pair is not None
        return self._move(pair, now)

    def _move(self, pair: Pair, now: float, *, failed: bool = False, told: bool = False) -> Phase:
        before, again = self.chosen, 0.0
        if failed and before is not None and self.watching and pair not in self.also:
            again = self.silence(now) + before.rtt
        if before is not None and not told:
            self._left_at = now
        if before is not None and self.watching and self.phase is Phase.STEADY and (failed or told):
            self.decisions.append(Probe(doubted=False))  # whatever struck it may have struck others too
        self.chosen, self.phase = pair, Phase.STEADY
        self._moved_at = now
        self._quiet_from = now + pair.rtt + SILENCE_MIN  # the peer needs as long to follow
        self.decisions.append(Move(pair, again, failed))
        self._redouble(now)
        return Phase.STEADY

    def _overdue(self, now: float) -> bool:
        chosen = self.chosen
        assert chosen is not None
        since = max(chosen.heard_at, self._quiet_from, self._doubted_at)
        if now - since < LEAVE_AFTER or chosen.count_missed(now) < UNANSWERED:
            return False
        return any(pair.healthy and pair.proved_at <= now - FAIR_CHANCE for pair in self.pairs.values())

    def _spare(self) -> Pair | None:
        """The best other pair that is healthy."""
        healthy = [pair for pair in self.pairs.values() if pair is not self.chosen and pair.healthy]
        return max(healthy, key=self._fitness, default=None)

    def _promise(self, pair: Pair) -> tuple[bool, tuple[bool, tuple[int, int], int, int]]:
        """For sending there as well, where checks may be lost as easily as media."""
        return pair.healthy, self._fitness(pair)

    def _fitness(self, pair: Pair) -> tuple[bool, tuple[int, int], int, int]:
        """Proved first; then far from the chosen one: sharing no relay with it, on either side."""
        apart = (0, 0) if self.chosen is None else pair.apart_from(self.chosen)
        proved = self.phase is Phase.DOUBTED and pair.proved_at < NEVER
        return proved, apart, pair.nomination, pair.priority

    def _redouble(self, now: float, resend: float = 0.0) -> None:
        """Work out anew where media goes besides."""
        asked = [pair for pair in self.pairs.values() if pair.wanted_until > now and pair.state is PairState.VALID]
        wanted = sorted((pair for pair in asked if pair is not self.chosen), key=lambda pair: -pair.wanted_until)[:1]
        if self.phase is Phase.DOUBTED or (self.protect and self.chosen is not None):
            others = [pair for pair in self.pairs.values() if pair is not self.chosen]
            trusted = [pair for pair in others if pair.state is PairState.VALID and not pair.suspect]
            wanted += [max(trusted, key=self._promise)] if trusted else []
            if self.phase is Phase.DOUBTED and self.chosen is not None:
                resend = max(resend, self.silence(now) + self.chosen.rtt)
        also = tuple(dict.fromkeys(wanted))
        ends = [pair.wanted_until for pair in also if pair.wanted_until > now]
        self._look_at = min([self._look_at, *ends])
        if also != self.also:
            self.also = also
            self.decisions.append(Double(also, resend))

    def _is_better(self, pair: Pair, current: Pair, now: float) -> bool:
        """Expectation has its say for a moment, later measurement alone."""
        if now <= self._settled_at:
            return pair.preferable_to(current) and pair.rtt <= SETTLE_RTT * current.rtt
        return pair.surely_faster_than(current) and now >= self._moved_at + BETTER_INTERVAL


_TABLE: dict[tuple[Phase, Fact], Callable[[Failover, float, Pair | None], Phase]] = {
    (Phase.NONE, Fact.USABLE): Failover._take,
    (Phase.NONE, Fact.TOLD): Failover._obey,
    (Phase.STEADY, Fact.SILENT): Failover._doubt,
    (Phase.STEADY, Fact.UNANSWERED): Failover._leave,
    (Phase.STEADY, Fact.UNREACHABLE): Failover._leave,
    (Phase.STEADY, Fact.GONE): Failover._leave,
    (Phase.STEADY, Fact.BETTER): Failover._improve,
    (Phase.STEADY, Fact.TOLD): Failover._obey,
    (Phase.DOUBTED, Fact.ALIVE): Failover._relax,
    (Phase.DOUBTED, Fact.OVERDUE): Failover._leave,
    (Phase.DOUBTED, Fact.UNREACHABLE): Failover._leave,
    (Phase.DOUBTED, Fact.GONE): Failover._leave,
    (Phase.DOUBTED, Fact.TOLD): Failover._obey,
    (Phase.DOUBTED, Fact.BETTER): Failover._improve,
}
