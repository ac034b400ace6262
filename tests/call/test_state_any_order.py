"""Two machines that call each other over a channel that loses, doubles and reorders, in every order of events."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relaycall.call.state import RESEND, RING_TIMEOUT, SETUP_TIMEOUT, CallState, Do, EndReason, Input
from tests.call.two_ends import End, TwoEnds

S, I, R = CallState, Input, EndReason  # noqa: E741

NUMBERS = st.integers(1, 2**31)


def at_an_end(condition: Callable[[TwoEnds, End], object], **more: st.SearchStrategy[Any]) -> Any:
    """A rule for one of the ends for which this holds."""

    def decorate(act: Callable[..., None]) -> Any:
        def ready(self: AnyOrder) -> list[End]:
            return [end for end in self.world.ends.values() if condition(self.world, end)]

        @functools.wraps(act)
        def step(self: AnyOrder, which: int, **values: Any) -> None:
            ends = ready(self)
            act(self, ends[which % len(ends)], **values)

        return precondition(ready)(rule(which=st.integers(0, 1), **more)(step))

    return decorate


class AnyOrder(RuleBasedStateMachine):
    """What may happen to two phones. The channel delivers in order; that of `Unfaithful` does what it wants."""

    def __init__(self) -> None:
        super().__init__()
        self.world = TwoEnds()
        self.used: set[int] = set()

    # --- users --------------------------------------------------------------------------------------------------------

    @at_an_end(lambda _, end: not end.live and not end.talking and not end.replaced)
    def call(self, end: End) -> None:
        self.world.begin(end, caller=True)

    @at_an_end(lambda _, end: end.live and end.state is S.IDLE, number=NUMBERS)
    def offer_is_ready(self, end: End, number: int) -> None:
        if number not in self.used:
            self.used.add(number)
            self.world.offer_ready(end, number)

    @at_an_end(lambda _, end: end.live)
    def accept(self, end: End) -> None:
        self.world.feed(end, I.ACCEPT)

    @at_an_end(lambda _, end: end.machine is not None)
    def hang_up(self, end: End) -> None:
        self.world.feed(end, I.HANG_UP)

    @at_an_end(lambda _, end: not end.live)
    def talks_to_somebody_else_or_no_longer(self, end: End) -> None:
        end.talking = not end.talking

    @at_an_end(lambda _, end: not end.replaced)
    def another_device_takes_over(self, end: End) -> None:
        self.world.replace(end)

    @at_an_end(
        lambda world, end: (
            end.number in end.left
            and world.peer(end).number == end.number
            and world.peer(end).state in (S.CALLING, S.RINGING)
        )
    )
    def the_other_device_accepts(self, end: End) -> None:
        self.world.answered_elsewhere(end)

    @at_an_end(lambda _, end: end.replaced and not end.live)
    def it_is_opened_again_here(self, end: End) -> None:
        end.replaced = False

    # --- what becomes of jobs -----------------------------------------------------------------------------------------

    @at_an_end(lambda _, end: end.preparing)
    def answer_is_ready(self, end: End) -> None:
        self.world.answer_ready(end)

    @at_an_end(lambda _, end: end.machine is not None)
    def something_fails(self, end: End) -> None:
        self.world.feed(end, I.FAILED)

    @at_an_end(lambda world, end: end.connecting and not end.up and end.number in world.peer(end).tried)
    def path_works(self, end: End) -> None:
        self.world.path_up(end)

    @at_an_end(lambda _, end: end.up, heard=st.booleans())
    def media_hears_or_not(self, end: End, heard: bool) -> None:
        self.world.feed(end, I.HEARD if heard else I.UNHEARD)

    # --- time and letters ---------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, RESEND, 7.0, SETUP_TIMEOUT, RING_TIMEOUT]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @precondition(lambda self: self.world.channel)
    @rule()
    def letter_arrives(self) -> None:
        self.world.deliver(self.world.channel.pop(0))

    @invariant()
    def it_holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        """However it stands: after two minutes without a word, what has no sound is over; and it stays so."""
        self.world.channel.clear()
        self.world.pass_time(RING_TIMEOUT + SETUP_TIMEOUT + 1)
        for end in self.world.ends.values():
            assert not end.live or end.up or end.state is S.IDLE
            sent = end.sent
            self.world.pass_time(1000)
            assert end.sent == sent
        for end in self.world.ends.values():
            if end.live:
                assert self.world.feed(end, I.HANG_UP)
            assert not end.live
        self.world.check()


class Faithful(AnyOrder):
    """Nothing is lost, and all of one sender comes in order, however late."""

    def teardown(self) -> None:
        """Once all has arrived, a call that is over for one is over for both."""
        world = self.world
        while world.channel:
            world.deliver(world.channel.pop(0))
        a, b = world.ends.values()
        for end, other in ((a, b), (b, a)):
            told = not (end.replaced or other.replaced or end.number in other.left)
            if end.live and told and end.number in other.reasons and end.number not in other.given_way:
                raise AssertionError(f"over for one with {other.reasons[end.number]}, for the other {end.state}")
        super().teardown()


class Unfaithful(AnyOrder):
    """Letters are lost, come twice, and overtake each other."""

    @precondition(lambda self: self.world.channel)
    @rule(which=st.integers(0, 63), keep=st.booleans())
    def any_letter_arrives(self, which: int, keep: bool) -> None:
        channel = self.world.channel
        letter = channel[which % len(channel)]
        if not keep:
            channel.remove(letter)
        self.world.deliver(letter)

    @precondition(lambda self: self.world.channel)
    @rule(which=st.integers(0, 63))
    def a_letter_is_lost(self, which: int) -> None:
        del self.world.channel[which % len(self.world.channel)]


TestFaithful = Faithful.TestCase
TestFaithful.settings = settings(max_examples=80, stateful_step_count=30)
TestUnfaithful = Unfaithful.TestCase
TestUnfaithful.settings = settings(max_examples=80, stateful_step_count=30)


class TestFaithfulAtLength(Faithful.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=1000, stateful_step_count=50)
    pytestmark = pytest.mark.slow


class TestUnfaithfulAtLength(Unfaithful.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=1000, stateful_step_count=50)
    pytestmark = pytest.mark.slow


# --- by hand ----------------------------------------------------------------------------------------------------------


def calling(name: str, number: int, world: TwoEnds) -> End:
    end = world.ends[name]
    world.begin(end, caller=True)
    world.offer_ready(end, number)
    return end


def flush(world: TwoEnds) -> None:
    while world.channel:
        world.deliver(world.channel.pop(0))


@pytest.mark.parametrize(("number_a", "number_b"), [(1, 2), (2, 1)])
def test_glare_is_one_call(number_a: int, number_b: int) -> None:
    world = TwoEnds()
    a, b = calling("a", number_a, world), calling("b", number_b, world)
    flush(world)
    loser = a if number_a > number_b else b
    world.answer_ready(loser)
    flush(world)
    assert a.number == b.number == 1
    assert a.state is b.state is S.CONNECTING
    assert a.machine is not None
    assert b.machine is not None
    assert a.machine.caller is not b.machine.caller
    assert a.rings == b.rings == 0
    for end in (a, b):
        world.path_up(end)
    world.pass_time(1000)
    assert world.channel == []


def test_accepting_and_cancelling_at_once_ends_both() -> None:
    world = TwoEnds()
    a, b = calling("a", 1, world), world.ends["b"]
    flush(world)
    world.feed(b, I.ACCEPT)
    world.answer_ready(b)
    world.feed(a, I.HANG_UP)
    flush(world)
    assert (a.reasons, b.reasons) == ({1: R.CANCELLED}, {1: R.CANCELLED})


def test_who_is_in_another_call_is_busy_and_does_not_ring() -> None:
    world = TwoEnds()
    b = world.ends["b"]
    b.talking = True
    a = calling("a", 1, world)
    flush(world)
    assert a.reasons == {1: R.BUSY}
    assert (b.machine, b.rings) == (None, 0)
    world.pass_time(1000)
    assert world.channel == []
    b.talking = False
    calling("a", 2, world)
    flush(world)
    assert b.rings == 1, "he can be called again"


def test_the_device_that_did_not_take_the_call_says_nothing() -> None:
    world = TwoEnds()
    a, b = calling("a", 1, world), world.ends["b"]
    flush(world)
    assert a.state is b.state is S.RINGING
    world.replace(b)
    assert b.reasons == {1: R.ELSEWHERE}
    world.answered_elsewhere(b)
    assert [letter.what for letter in world.channel] == [Do.SEND_CONFIRM]
    flush(world)
    assert a.state is S.CONNECTING
    assert not b.live


def test_what_is_lost_is_said_again_until_it_works() -> None:
    """Of each kind the first two letters are lost."""
    world = TwoEnds()
    a, b = calling("a", 1, world), world.ends["b"]
    lost: dict[Do, int] = {}
    while a.state is not S.CONNECTING:
        while world.channel:
            letter = world.channel.pop(0)
            lost[letter.what] = lost.get(letter.what, 0) + 1
            if lost[letter.what] > 2:
                world.deliver(letter)
        if b.state is S.RINGING and b.machine is not None and lost.get(Do.SEND_RINGING, 0) >= 3:
            world.feed(b, I.ACCEPT)
            world.answer_ready(b)
        world.pass_time(1.0)
        assert world.now < 1100.0
    assert b.state is S.CONNECTING


def test_an_hour_in_a_call_needs_no_word() -> None:
    world = TwoEnds()
    a, b = calling("a", 1, world), world.ends["b"]
    flush(world)
    world.feed(b, I.ACCEPT)
    world.answer_ready(b)
    flush(world)
    for end in (a, b):
        world.path_up(end)
    world.channel.clear()
    world.pass_time(3600)
    assert world.channel == []
    assert a.state is b.state is S.CONNECTED
