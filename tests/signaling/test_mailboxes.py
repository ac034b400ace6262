"""The mailboxes of a server, in exact time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relaycall.signaling.base import ENVELOPE_SIZE, envelope_id
from relaycall.signaling.frames import START, Verdict
from relaycall.signaling.mailboxes import IDLE, REMEMBERED, SWEEP, Mailboxes

ONE, OTHER = b"1" * 32, b"2" * 32
SESSION, LATER = b"s" * 16, b"l" * 16


def envelope(number: int) -> bytes:
    return number.to_bytes(4, "big").ljust(ENVELOPE_SIZE, b".")


class Listener:
    def __init__(self) -> None:
        self.told = 0
        self.is_replaced = False

    def news(self) -> None:
        self.told += 1

    def replaced(self) -> None:
        self.is_replaced = True


def read(
    boxes: Mailboxes, mailbox: bytes = ONE, session: bytes = SESSION, now: float = 0.0
) -> list[tuple[bytes, bool]]:
    """All that waits, from the start, and whether each came to another session before."""
    cursor, found = START, []
    while waiting := boxes.after(mailbox, session, cursor, now):
        cursor = waiting.cursor
        found.append((waiting.envelope, waiting.again))
    return found


def attached(boxes: Mailboxes, mailbox: bytes = ONE, session: bytes = SESSION, now: float = 0.0) -> Listener:
    listener = Listener()
    boxes.own(mailbox, session, now)
    assert boxes.attach(mailbox, session, listener, now)
    return listener


def test_what_waits_is_read_in_order_and_stays_until_acknowledged() -> None:
    boxes = Mailboxes()
    listener = attached(boxes)
    for number in range(3):
        assert boxes.put(ONE, envelope(number), 0.0) is Verdict.TAKEN
    assert listener.told == 3
    assert read(boxes) == read(boxes) == [(envelope(number), False) for number in range(3)]
    boxes.acknowledge(ONE, SESSION, envelope_id(envelope(1)), 0.0)
    assert read(boxes) == [(envelope(0), False), (envelope(2), False)]
    assert boxes.waiting == 2


def test_an_envelope_is_kept_for_a_minute_and_no_longer() -> None:
    boxes = Mailboxes()
    boxes.put(ONE, envelope(1), 0.0)
    attached(boxes, now=1.0)
    assert read(boxes, now=59.9) == [(envelope(1), False)]
    assert read(boxes, now=60.0) == []
    assert boxes.waiting == 0


def test_what_nobody_reads_is_gone_after_a_minute_with_its_mailbox() -> None:
    boxes = Mailboxes()
    for number in range(10):
        boxes.put(number.to_bytes(32, "big"), envelope(number), 0.0)
    assert (len(boxes), boxes.waiting) == (10, 10)
    boxes.put(ONE, envelope(11), 60.0)  # any use sees to the others
    assert (len(boxes), boxes.waiting) == (1, 1)


def test_the_same_bytes_are_one_envelope_also_after_the_acknowledgement() -> None:
    boxes = Mailboxes()
    listener = attached(boxes)
    for now in (0.0, 1.0):
        assert boxes.put(ONE, envelope(1), now) is Verdict.TAKEN
    boxes.acknowledge(ONE, SESSION, envelope_id(envelope(1)), 2.0)
    assert boxes.put(ONE, envelope(1), 61.9) is Verdict.TAKEN
    assert listener.told == 1
    assert read(boxes, now=61.9) == []
    boxes.put(ONE, envelope(1), 62.0)
    assert read(boxes, now=62.0) == [(envelope(1), False)]


def test_so_many_acknowledged_ones_are_remembered_and_no_more() -> None:
    boxes = Mailboxes()
    attached(boxes)
    for number in range(REMEMBERED + 1):
        boxes.put(ONE, envelope(number), 0.0)
        boxes.acknowledge(ONE, SESSION, envelope_id(envelope(number)), 0.0)
    boxes.put(ONE, envelope(1), 0.0)
    assert read(boxes) == []
    boxes.put(ONE, envelope(0), 0.0)
    assert read(boxes) == [(envelope(0), False)]


def test_a_full_mailbox_refuses_and_others_do_not() -> None:
    boxes = Mailboxes(queue=2)
    attached(boxes)
    assert [boxes.put(ONE, envelope(number), 0.0) for number in range(3)] == [
        Verdict.TAKEN,
        Verdict.TAKEN,
        Verdict.MAILBOX_FULL,
    ]
    assert boxes.put(ONE, envelope(1), 0.0) is Verdict.TAKEN  # it is there
    assert boxes.put(OTHER, envelope(3), 0.0) is Verdict.TAKEN
    assert boxes.put(ONE, envelope(2), 60.0) is Verdict.TAKEN  # the first two are too old


def test_unread_mailboxes_hold_half_of_all_and_read_ones_the_rest() -> None:
    boxes = Mailboxes(envelopes=4)
    assert [boxes.put(OTHER, envelope(number), 0.0) for number in range(3)] == [
        Verdict.TAKEN,
        Verdict.TAKEN,
        Verdict.BUSY,
    ]
    attached(boxes)
    assert [boxes.put(ONE, envelope(number), 0.0) for number in range(3)] == [
        Verdict.TAKEN,
        Verdict.TAKEN,
        Verdict.BUSY,
    ]


def test_unread_mailboxes_are_limited_in_number() -> None:
    boxes = Mailboxes(unread=2)
    attached(boxes)
    verdicts = [boxes.put(bytes([number]) * 32, envelope(number), 0.0) for number in range(3)]
    assert verdicts == [Verdict.TAKEN, Verdict.TAKEN, Verdict.BUSY]
    assert boxes.put(ONE, envelope(9), 0.0) is Verdict.TAKEN
    boxes.detach(ONE, Listener(), 0.0)  # another one's listener changes nothing
    assert boxes.put(ONE, envelope(10), 0.0) is Verdict.TAKEN


def test_mailboxes_left_empty_count_too() -> None:
    boxes = Mailboxes(unread=3)
    for number in range(10):
        listener = attached(boxes, number.to_bytes(32, "big"))
        boxes.detach(number.to_bytes(32, "big"), listener, 0.0)
    assert len(boxes) == 3


def test_a_later_session_takes_over_and_sees_what_came_before() -> None:
    boxes = Mailboxes()
    first = attached(boxes)
    boxes.put(ONE, envelope(1), 0.0)
    assert read(boxes) == [(envelope(1), False)]
    boxes.put(ONE, envelope(2), 0.0)
    second = attached(boxes, session=LATER)
    assert first.is_replaced
    assert not second.is_replaced
    assert read(boxes) == []
    assert read(boxes, session=LATER) == [(envelope(1), True), (envelope(2), False)]
    boxes.acknowledge(ONE, SESSION, envelope_id(envelope(1)), 0.0)  # not its mailbox any more
    assert len(read(boxes, session=LATER)) == 2
    assert not boxes.attach(ONE, SESSION, Listener(), 0.0)
    assert not boxes.own(ONE, SESSION, 0.0)  # nor by another proof
    assert boxes.own(ONE, LATER, 0.0)
    assert boxes.attach(ONE, LATER, second, 0.0)
    boxes.detach(ONE, first, 0.0)
    boxes.put(ONE, envelope(3), 0.0)
    assert second.told == 1


def test_who_comes_back_is_no_other() -> None:
    boxes = Mailboxes()
    first = attached(boxes)
    boxes.put(ONE, envelope(1), 0.0)
    read(boxes)
    attached(boxes)
    assert first.is_replaced
    assert boxes.owns(ONE, SESSION, 0.0)
    assert not boxes.owns(ONE, LATER, 0.0)
    assert read(boxes) == [(envelope(1), False)]


def test_the_owner_is_remembered_between_polls_and_forgotten_later() -> None:
    boxes = Mailboxes()
    poll = attached(boxes)
    boxes.detach(ONE, poll, 0.0)
    assert not boxes.attach(ONE, LATER, Listener(), IDLE - 0.1)
    assert boxes.attach(ONE, LATER, Listener(), IDLE)


def test_nobody_reads_what_is_not_proved() -> None:
    boxes = Mailboxes()
    boxes.put(ONE, envelope(1), 0.0)
    assert read(boxes) == []
    boxes.acknowledge(ONE, SESSION, envelope_id(envelope(1)), 0.0)
    assert boxes.waiting == 1


class Model(RuleBasedStateMachine):
    """Any order of calls: what waits is what was put, less what was acknowledged, and all counts are right."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes = Mailboxes(queue=3, envelopes=8, unread=2)
        self.now = 0.0
        self.expected: dict[bytes, dict[int, float]] = {ONE: {}, OTHER: {}}
        self.gone: dict[bytes, dict[int, float]] = {ONE: {}, OTHER: {}}
        self.listeners: dict[bytes, Listener | None] = {ONE: None, OTHER: None}

    mailboxes = st.sampled_from([ONE, OTHER])

    @rule(mailbox=mailboxes, number=st.integers(0, 5))
    def put(self, mailbox: bytes, number: int) -> None:
        known = number in self.expected[mailbox] or self.gone[mailbox].get(number, -1.0) > self.now
        verdict = self.boxes.put(mailbox, envelope(number), self.now)
        if known:
            assert verdict is Verdict.TAKEN
        elif verdict is Verdict.TAKEN:
            self.expected[mailbox][number] = self.now + 60
            assert len(self.expected[mailbox]) <= 3
        else:
            held = sum(map(len, self.expected.values()))
            assert len(self.expected[mailbox]) == 3 or held >= 4

    @rule(mailbox=mailboxes)
    def connect(self, mailbox: bytes) -> None:
        self.listeners[mailbox] = attached(self.boxes, mailbox, now=self.now)

    @rule(mailbox=mailboxes)
    def disconnect(self, mailbox: bytes) -> None:
        listener = self.listeners[mailbox]
        if listener is not None:
            self.boxes.detach(mailbox, listener, self.now)
            self.listeners[mailbox] = None

    @rule(mailbox=mailboxes, number=st.integers(0, 5))
    def acknowledge(self, mailbox: bytes, number: int) -> None:
        if self.listeners[mailbox] is not None:
            self.boxes.acknowledge(mailbox, SESSION, envelope_id(envelope(number)), self.now)
            if self.expected[mailbox].pop(number, None) is not None:
                self.gone[mailbox][number] = self.now + 60

    @rule(seconds=st.sampled_from([SWEEP, 30.0, 61.0]))  # so that all counts are of now
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for waiting in self.expected.values():
            for number in [number for number, until in waiting.items() if until <= self.now]:
                del waiting[number]

    @invariant()
    def what_waits(self) -> None:
        for mailbox in (ONE, OTHER):
            if self.listeners[mailbox] is not None:
                wanted = [envelope(number) for number in self.expected[mailbox]]
                assert [found for found, _ in read(self.boxes, mailbox, now=self.now)] == wanted
        if all(self.listeners.values()):
            assert self.boxes.waiting == sum(map(len, self.expected.values()))


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30)


def test_a_look_at_all_of_them_forgets_only_the_old() -> None:
    boxes = Mailboxes(unread=10000)
    for number in range(5000):
        boxes.put(number.to_bytes(32, "big"), envelope(number), number * 0.01)
    boxes.put(ONE, envelope(0), 85.005)
    assert len(boxes) == 5000 - 2501 + 1
