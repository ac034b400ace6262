"""Both sides of a call's control over a network that loses, repeats and reorders: they always come to agree."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relaycall.call.control import CHANGE_BURST, INTERVAL, SEND_BURST, ControlState
from relaycall.call.control_format import LAST_SEQUENCE, LIMITS, ControlMessage, HangupReason, encode_control
from tests.call.control_network import Network
from tests.call.test_control_format import V4, V6

SETTLE = 40.0  # seconds: at 30 % loss no repeat or its answer got through with a probability below 1e-11
sides = st.integers(0, 1)
states = st.builds(
    ControlState,
    candidates=st.lists(st.sampled_from(V4 + V6), max_size=4, unique=True).map(tuple),
    muted=st.booleans(),
    video=st.booleans(),
    protect=st.booleans(),
    receive_limit=st.sampled_from([None, *LIMITS]),
)


def most_in_a_second(times: list[float]) -> int:
    return max((sum(start <= time < start + 1 for time in times) for start in times), default=0)


@pytest.mark.parametrize(("loss", "median", "worst"), [(0.0, 0.06, 0.06), (0.3, 0.06, 0.6), (0.6, 0.12, 8.0)])
def test_a_change_is_known_after_one_way_or_a_few_repeats(loss: float, median: float, worst: float) -> None:
    """Over 50 changes, in virtual time, with a way of 50 ms."""
    taken = []
    for seed in range(50):
        net = Network(random.Random(seed), loss=loss)
        net.update(0, ControlState(muted=True))
        while not net.sides[1].remote.muted:
            net.run(0.005)
        taken.append(net.now)
    assert sorted(taken)[25] <= median
    assert max(taken) <= worst


class Talk(RuleBasedStateMachine):
    """Any sequence of changes, outages, replays and forgeries by the peer itself."""

    @initialize(seed=st.integers(0, 1 << 32), loss=st.sampled_from([0.0, 0.1, 0.3]))
    def start(self, seed: int, loss: float) -> None:
        self.loss = loss
        self.net = Network(random.Random(seed), loss=loss, delay=(0.01, 0.3), copies=0.2)
        self.told: tuple[list[ControlState], list[ControlState]] = ([], [])
        self.numbers = [0, 0]

    @rule(side=sides, state=states)
    def change(self, side: int, state: ControlState) -> None:
        if self.net.sides[side].local.hangup is None:
            self.told[side].append(state)
            self.net.update(side, state)

    @rule(side=sides, state=states, count=st.integers(2, 50))
    def change_often(self, side: int, state: ControlState, count: int) -> None:
        for number in range(count):
            self.change(side, ControlState(muted=number % 2 == 0))
            self.net.run(0.002)
        self.change(side, state)

    @rule(seconds=st.floats(0.001, 2))
    def wait(self, seconds: float) -> None:
        self.net.run(seconds)

    @rule(seconds=st.floats(0.1, 100))
    def outage(self, seconds: float) -> None:
        self.net.loss = 1.0
        self.net.run(seconds)
        self.net.loss = self.loss

    @precondition(lambda self: self.net.messages)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        for side, message in data.draw(st.lists(st.sampled_from(self.net.messages), max_size=30)):
            self.net.deliver(side, message)

    @rule(side=sides, payload=st.binary(max_size=80))
    def garbage(self, side: int, payload: bytes) -> None:
        self.net.deliver(side, payload)

    @rule(side=sides, sequence=st.integers(0, LAST_SEQUENCE - 1), state=states)
    def acknowledge_the_future(self, side: int, sequence: int, state: ControlState) -> None:
        future = self.net.sides[side]._sequence + 1
        self.net.deliver(side, encode_control(ControlMessage(sequence, future, asks=True, state=state)))

    @rule(side=sides, reason=st.sampled_from(HangupReason))
    @precondition(lambda self: len(self.net.messages) > 40)
    def hang_up(self, side: int, reason: HangupReason) -> None:
        self.change(side, ControlState(hangup=reason))

    @invariant()
    def what_is_known_was_told(self) -> None:
        for side, control in enumerate(self.net.sides):
            peer = self.net.sides[1 - side]
            states = iter(self.told[1 - side])
            assert all(state in states for state in self.net.taken[side]), "in order, and nothing else"
            assert control._remote_sequence >= self.numbers[side]
            self.numbers[side] = control._remote_sequence
            assert control._remote_sequence <= peer._sequence
            if control.acknowledged:
                assert peer.remote == control.local
            assert len(control.outgoing) == 0

    @invariant()
    def what_is_sent_is_bounded(self) -> None:
        for times in self.net.sent:
            assert most_in_a_second(times[-60:]) <= SEND_BURST + 1 / INTERVAL
        for side, taken in enumerate(self.net.taken):
            assert len(taken) <= CHANGE_BURST + 1 + (self.net.now / INTERVAL), side

    def teardown(self) -> None:
        if not hasattr(self, "net"):
            return
        self.net.loss = 0.3
        self.net.run(SETTLE)
        assert self.net.settled
        before = len(self.net.messages)
        self.net.run(100)
        assert len(self.net.messages) == before, "and then silence"


Talk.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
test_talk = Talk.TestCase
