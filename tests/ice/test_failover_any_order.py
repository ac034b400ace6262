"""The failover policy under any sequence of facts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relaycall.ice.decisions import Double, Move, Phase
from relaycall.ice.pair import Pair, PairState
from tests.ice.policy_world import NEVER, World

# --- whatever happens -------------------------------------------------------------------------------------------------


class Owner(World):
    """Does to the policy what an agent does, in any order, and follows what it decides."""

    def __init__(self) -> None:
        super().__init__(watched=False, chosen=False)
        self.path: Pair | None = None
        self.also: tuple[Pair, ...] = ()

    def happen(self, what: str, number: int, seconds: float) -> None:
        failover, now, pair = self.failover, self.now, self.pairs.get(number)
        if what == "time":
            until = now + seconds
            while failover.next_timeout() <= until:
                self.wake()
                self.follow()
            self.now = until
            failover.handle_timeout(until)
        elif what in ("usable", "move", "missed"):
            getattr(failover, what)(now)
        elif what == "watch":
            failover.watch(now)
        elif what == "protect":
            failover.set_protect(seconds > 1, now)
        elif what == "stall":
            self.now += seconds
            failover.stalled(seconds, self.now)
        elif pair is None:
            self.add(number)
        elif what in ("remove", "expire"):
            self.remove(number) if what == "remove" else pair.state is PairState.VALID and pair.to("expired")
            failover.gone(now)
        elif what == "unreachable":
            pair.suspect = seconds > 1
            pair.retiring = not pair.suspect
            failover.unreachable(now)
        elif what == "check":
            self.check(pair, now)
            pair.count_missed(now)
        elif what == "answer":
            self.answer(number, now, min(seconds, 1.0))
            failover.faster(pair, now)
        elif what == "heard":
            failover.heard(pair, now)
        elif pair.state is PairState.VALID and pair is not failover.chosen:
            failover.told(pair, now) if what == "told" else failover.wanted(pair, seconds, now)

    def follow(self) -> None:
        """Take what was decided, and see that it makes sense."""
        decisions = self.take()
        assert len(decisions) <= 6
        for decision in decisions:
            match decision:
                case Move(pair=pair, resend=resend):
                    assert pair is not self.path
                    assert pair is None or pair.state is PairState.VALID
                    assert 0 <= resend <= 61
                    self.path = pair
                    self.also = () if pair is None else self.also
                case Double(pairs=pairs, resend=resend):
                    assert all(pair.state is PairState.VALID for pair in pairs)
                    assert 0 <= resend <= 61
                    assert len(set(pairs)) == len(pairs)
                    self.also = pairs
        failover = self.failover
        assert (failover.chosen, failover.also) == (self.path, self.also)
        assert (failover.phase is Phase.NONE) == (failover.chosen is None)
        assert failover.chosen is None or failover.chosen in self.pairs.values()
        assert failover.chosen not in failover.also
        assert set(failover.also) <= set(self.pairs.values())
        assert failover.next_timeout() < NEVER or failover.phase is not Phase.DOUBTED


WITHOUT_A_PAIR = "time", "usable", "move", "missed", "watch", "protect", "stall"
WITH_A_PAIR = "remove", "expire", "unreachable", "check", "answer", "heard", "told", "wanted"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("time", *WITHOUT_A_PAIR, *WITH_A_PAIR)),
            st.integers(0, 3),
            st.sampled_from([0.02, 0.1, 0.35, 1.5, 10.0]),
        ),
        max_size=60,
    )
)
def test_whatever_happens_the_choice_makes_sense(happenings: list[tuple[str, int, float]]) -> None:
    owner = Owner()
    for what, number, seconds in [("usable", 0, 0.0), ("watch", 0, 0.0), *happenings]:
        owner.happen(what, number, seconds)
        owner.follow()
