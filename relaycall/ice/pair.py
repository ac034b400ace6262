"""One path: a relay of ours, a relay of the peer's, and what the checks between them have shown."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

from relaycall.stun.address import Address

MAX_OUTSTANDING = 64  # checks remembered per pair, so that late answers still count
LEGS_MARGIN = 0.01  # seconds; less is noise, and the order of configuration decides
FAILING_MISSED = 9  # checks in a row
FASTER_RTT, FASTER_ANSWERS = 0.8, 5  # of the other's round trip, with so many checks answered on both
ANSWER_LIFETIME = 10.0  # seconds an answer may take


class PairState(enum.Enum):
    """Where a pair stands. Only a VALID one carries media (RFC 7675: consent)."""

    CHECKING = enum.auto()
    VALID = enum.auto()
    EXPIRED = enum.auto()
    DEAD = enum.auto()


class Check(NamedTuple):
    """A check that was sent: when, and in which role."""

    at: float
    controlling: bool


_TRANSITIONS: dict[tuple[PairState, str], PairState] = {
    (PairState.CHECKING, "answered"): PairState.VALID,
    (PairState.VALID, "answered"): PairState.VALID,
    (PairState.EXPIRED, "answered"): PairState.VALID,
    (PairState.VALID, "expired"): PairState.EXPIRED,
    (PairState.CHECKING, "removed"): PairState.DEAD,
    (PairState.VALID, "removed"): PairState.DEAD,
    (PairState.EXPIRED, "removed"): PairState.DEAD,
}


@dataclass(slots=True, eq=False)
class Pair:
    """A pair of candidates.

    Attributes:
        local: which of our allocations.
        remote: the peer's relayed address.
        priority: RFC 8445, section 6.1.2.3.
        hosts: of our relay and of the peer's.
        legs: what the two sides' round trips to their relays add up to, in seconds; 0 if one is unknown.
        rtt, rtt_min: smoothed and least round trip, relay to relay and back, in seconds; 0 before the first answer.
        missed: checks since the last answer that were not answered in the time answers take on this path.
        suspect: the network reported our relay unreachable, and no check was answered since.
        retiring: one of the two is being given up, our allocation or the peer's; media is better placed elsewhere.
        heard_at: when the peer's media last came this way.
        proved_at: when a check sent since the path in use came into doubt was first answered; infinity for not yet.
        wanted_until: until when the peer asks for our media here.
        nomination: the highest nomination the peer gave this pair; -1 for none.
        consent_until: until when media may be sent without another answer.
    """

    local: int
    remote: Address
    priority: int
    created: float
    legs: float = 0.0
    hosts: tuple[str, str] = field(default=("", ""), repr=False)
    state: PairState = PairState.CHECKING
    rtt: float = 0.0
    rtt_min: float = 0.0
    rtt_deviation: float = 0.0
    sent: int = 0
    answered: int = 0
    missed: int = 0
    suspect: bool = False
    retiring: bool = False
    heard_at: float = float("-inf")
    proved_at: float = float("inf")
    wanted_until: float = float("-inf")
    excused_at: float = float("-inf")
    nomination: int = -1
    consent_until: float = 0.0
    last_sent: float = float("-inf")
    last_answer: float = float("-inf")
    next_check: float = 0.0
    outstanding: dict[bytes, Check] = field(default_factory=dict, repr=False)

    @property
    def healthy(self) -> bool:
        """Whether media is well placed here."""
        return self.state is PairState.VALID and not self.suspect and not self.retiring and self.missed < 3

    @property
    def fails(self) -> bool:
        """Whether it is as good as dead: loss alone does not do that."""
        return self.missed >= FAILING_MISSED

    def apart_from(self, other: Pair) -> tuple[int, int]:
        """How little the two share: relays, whoever's they are; and where these are on one host, allocations."""
        shared = sum(host in other.hosts for host in self.hosts)
        return -shared, (self.local != other.local) + (self.remote != other.remote)

    def preferable_to(self, other: Pair) -> bool:
        """Whether this pair is expected to be the better one, before both are measured."""
        if self.legs and other.legs and abs(self.legs - other.legs) >= LEGS_MARGIN:
            return self.legs < other.legs
        return self.priority > other.priority

    def surely_faster_than(self, other: Pair) -> bool:
        """Whether this pair's round trip is below eight tenths of the other's and 10 ms shorter, as far as is known."""
        if min(self.answered, other.answered) < FASTER_ANSWERS:
            return False
        faster = self.rtt + self.rtt_deviation < FASTER_RTT * (other.rtt - other.rtt_deviation)
        return faster and other.rtt - self.rtt >= LEGS_MARGIN

    @property
    def expiry(self) -> float:
        """When consent ends; infinity where there is none."""
        return self.consent_until if self.state is PairState.VALID else float("inf")

    @property
    def patience(self) -> float:
        """Seconds after which a check counts as missed: generous, since an answer later than that still counts."""
        return max(0.25, 1.5 * self.rtt + 4 * self.rtt_deviation)

    def check_sent(self, tid: bytes, now: float, controlling: bool) -> None:
        """Remember a check, forget the oldest."""
        self.outstanding[tid] = Check(now, controlling)
        self.sent += 1
        self.last_sent = now
        while len(self.outstanding) > MAX_OUTSTANDING:
            del self.outstanding[next(iter(self.outstanding))]

    def count_missed(self, now: float) -> int:
        """Count the checks since the last answer that had the time to be answered and were not."""
        answer, patience = self.last_answer, self.patience
        if self.excused_at + patience > now:
            self.missed = 0
        else:
            self.missed = sum(c.at > answer and c.at + patience <= now for c in self.outstanding.values())
        return self.missed

    def excuse(self, now: float) -> None:
        """We stalled: what was not answered meanwhile may lie unread. Whatever was sent counts as sent now."""
        self.excused_at = now
        self.missed = 0

    def check_answered(self, tid: bytes, now: float, consent: float) -> bool:
        """Take a valid answer. False when it is none of ours, or far too late."""
        check = self.outstanding.pop(tid, None)
        if check is None or now - check.at > ANSWER_LIFETIME:
            return False
        late = min(check.at, now - self.patience)
        for older in [other for other, sent in self.outstanding.items() if sent.at < late]:
            del self.outstanding[older]
        sample = now - check.at
        if self.answered == 0:
            self.rtt, self.rtt_min, self.rtt_deviation = sample, sample, sample / 8
        else:  # RFC 6298, section 2.3
            self.rtt_deviation += (abs(self.rtt - sample) - self.rtt_deviation) / 4
            self.rtt += (sample - self.rtt) / 8
            self.rtt_min = min(self.rtt_min, sample)
        self.answered += 1
        self.missed = 0
        self.suspect = False
        self.last_answer = now
        self.consent_until = now + consent
        self.to("answered")
        return True

    def to(self, event: str) -> None:
        """Move to the state the table gives; KeyError if it gives none."""
        self.state = _TRANSITIONS[self.state, event]
