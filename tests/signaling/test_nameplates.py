"""The nameplates of a server, in exact time."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relaycall.signaling.nameplates import CLAIM_LIFETIME, NAMEPLATE_LIFETIME, Nameplates

ONE, OTHER = b"1" * 32, b"2" * 32
CLAIM, LATER = b"c" * 20, b"l" * 20


def mailbox(number: int) -> bytes:
    return number.to_bytes(32, "big")


def allocated(nameplates: Nameplates, count: int, random: float = 0.5) -> list[int | None]:
    return [nameplates.allocate(mailbox(number), random, 0.0) for number in range(count)]


def test_a_number_leads_to_its_mailbox_once() -> None:
    nameplates = Nameplates()
    one, other = nameplates.allocate(ONE, 0.0, 0.0), nameplates.allocate(OTHER, 0.0, 0.0)
    assert (one, other) == (1, 2)
    assert nameplates.claim(2, CLAIM, 1.0) == OTHER
    assert nameplates.claim(2, LATER, 1.0) is None
    assert nameplates.claim(1, LATER, 1.0) == ONE


def test_a_number_that_was_never_given_out_leads_nowhere() -> None:
    nameplates = Nameplates()
    nameplates.allocate(ONE, 0.0, 0.0)
    assert [nameplates.claim(number, CLAIM, 0.0) for number in (0, 2, 9999, 2**32 - 1)] == [None] * 4
    assert nameplates.claim(1, CLAIM, 0.0) == ONE


@pytest.mark.parametrize("random", [0.0, 0.5, 0.999999])
def test_the_shortest_numbers_go_first(random: float) -> None:
    found = allocated(Nameplates(), 200, random)
    assert sorted(found[:9]) == list(range(1, 10))
    assert sorted(found[9:99]) == list(range(10, 100))
    assert all(100 <= number < 1000 for number in found[99:])
    assert len(set(found)) == 200


def test_which_of_the_shortest_is_random() -> None:
    assert [Nameplates().allocate(ONE, step / 9, 0.0) for step in range(9)] == list(range(1, 10))


def test_when_all_are_in_use_there_is_none() -> None:
    nameplates = Nameplates(digits=1)
    assert None not in allocated(nameplates, 9)
    assert nameplates.allocate(ONE, 0.5, 1.0) is None
    assert nameplates.allocate(mailbox(4), 0.5, 1.0) is not None  # it has one
    nameplates.release(mailbox(4), 1.0)
    assert nameplates.allocate(ONE, 0.5, 1.0) is not None


def test_asked_again_it_is_the_same_and_ends_when_it_would_have() -> None:
    nameplates = Nameplates()
    first = nameplates.allocate(ONE, 0.0, 0.0)
    assert nameplates.allocate(ONE, 0.9, NAMEPLATE_LIFETIME - 0.1) == first
    assert len(nameplates) == 1
    assert nameplates.allocate(ONE, 0.9, NAMEPLATE_LIFETIME) != first
    assert len(nameplates) == 1


def test_it_ends_after_ten_minutes() -> None:
    assert NAMEPLATE_LIFETIME == 600.0
    for age, found in ((599.9, ONE), (600.0, None)):
        nameplates = Nameplates()
        nameplates.allocate(ONE, 0.0, 5.0)
        assert nameplates.claim(1, CLAIM, 5.0 + age) == found


def test_a_released_one_is_gone_and_twice_does_no_harm() -> None:
    nameplates = Nameplates()
    nameplates.allocate(ONE, 0.0, 0.0)
    nameplates.allocate(OTHER, 0.0, 0.0)
    for _ in range(2):
        nameplates.release(ONE, 1.0)
    assert nameplates.claim(1, CLAIM, 1.0) is None
    assert nameplates.claim(2, CLAIM, 1.0) == OTHER
    assert nameplates.allocate(ONE, 0.0, 1.0) == 1


def test_once_claimed_its_mailbox_is_given_another_and_releases_only_that() -> None:
    nameplates = Nameplates()
    nameplates.allocate(ONE, 0.0, 0.0)
    nameplates.claim(1, CLAIM, 0.0)
    nameplates.release(ONE, 0.0)  # there is nothing to release
    assert nameplates.claim(1, CLAIM, 0.0) == ONE
    assert nameplates.allocate(ONE, 0.0, 0.0) == 2
    assert nameplates.allocate(ONE, 0.0, CLAIM_LIFETIME) == 2  # the first is forgotten, and the second not with it


def test_a_repeated_claim_is_answered_again_and_meanwhile_the_number_is_nobody_elses() -> None:
    nameplates = Nameplates()
    nameplates.allocate(ONE, 0.0, 0.0)
    assert nameplates.claim(1, CLAIM, 1.0) == ONE
    until = 1.0 + CLAIM_LIFETIME
    assert nameplates.claim(1, CLAIM, until - 0.1) == ONE
    assert nameplates.allocate(OTHER, 0.0, until - 0.1) == 2
    assert nameplates.allocate(mailbox(3), 0.0, until) == 1
    assert nameplates.claim(1, LATER, until) == mailbox(3)


def test_repr_shows_no_mailbox_and_no_number() -> None:
    nameplates = Nameplates()
    nameplates.allocate(ONE, 0.5, 0.0)
    assert repr(nameplates) == "<1 nameplates>"


class Model(RuleBasedStateMachine):
    """Any order of calls: each number leads to one mailbox, once, for ten minutes."""

    def __init__(self) -> None:
        super().__init__()
        self.nameplates = Nameplates(digits=1)
        self.now = 0.0
        self.expected: dict[bytes, tuple[int, float]] = {}
        self.claimed: dict[int, tuple[bytes, bytes, float]] = {}
        self.claims = 0

    mailboxes = st.integers(0, 12).map(mailbox)

    @rule(mailbox=mailboxes, random=st.floats(0, 1, exclude_max=True))
    def allocate(self, mailbox: bytes, random: float) -> None:
        number = self.nameplates.allocate(mailbox, random, self.now)
        if mailbox in self.expected:
            assert number == self.expected[mailbox][0]
        elif number is None:
            assert len(self.expected) + len(self.claimed) == 9
        else:
            assert number not in {used for used, _ in self.expected.values()} | set(self.claimed)
            self.expected[mailbox] = number, self.now + 600

    @rule(number=st.integers(0, 10), is_repeated=st.booleans())
    def claim(self, number: int, is_repeated: bool) -> None:
        self.claims += not is_repeated
        claim = self.claims.to_bytes(20, "big")
        found = self.nameplates.claim(number, claim, self.now)
        owner = next((mailbox for mailbox, (used, _) in self.expected.items() if used == number), None)
        if owner is not None:
            assert found == owner
            del self.expected[owner]
            self.claimed[number] = owner, claim, self.now + 30
        elif number in self.claimed:
            assert found == (self.claimed[number][0] if self.claimed[number][1] == claim else None)
        else:
            assert found is None

    @rule(mailbox=mailboxes)
    def release(self, mailbox: bytes) -> None:
        self.nameplates.release(mailbox, self.now)
        self.expected.pop(mailbox, None)

    @rule(seconds=st.sampled_from([1.0, 29.0, 31.0, 300.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.expected = {mailbox: entry for mailbox, entry in self.expected.items() if entry[1] > self.now}
        self.claimed = {number: entry for number, entry in self.claimed.items() if entry[2] > self.now}

    @invariant()
    def nothing_is_kept_too_long(self) -> None:
        self.nameplates.claim(0, b"", self.now)  # any use sees to the old ones
        assert len(self.nameplates) == len(self.expected) + len(self.claimed)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40)
