"""What a client remembers from one connection to the next."""

from __future__ import annotations

import pytest

from relaycall.signaling.base import ENVELOPE_SIZE, QUEUE
from relaycall.signaling.frames import (
    NO_MAILBOX,
    START,
    Answer,
    Deliver,
    NameplateAction,
    NameplateAnswer,
    NameplateOutcome,
    NameplateRequest,
    Send,
    Verdict,
)
from relaycall.signaling.session import KEPT, KNOWN, LONGEST_DELAY, Session, reconnect_delay

MAILBOX = b"m" * 32
HERE, ELSEWHERE = b"h" * 16, b"e" * 16


def envelope(number: int) -> bytes:
    return number.to_bytes(4, "big").ljust(ENVELOPE_SIZE, b".")


def deliver(session: Session, number: int, *, again: bool = False) -> bytes | None:
    return session.delivered(Deliver(START, again, envelope(number)))


def pending(session: Session) -> list[bytes]:
    assert [send.number for send in session.pending.values()] == list(session.pending)
    return [send.envelope for send in session.pending.values() if isinstance(send, Send)]


def answered(session: Session, number: int, verdict: Verdict, now: float) -> bool:
    return session.answered(Answer(number, verdict, 0), now)


def test_what_is_not_answered_stays_pending() -> None:
    session = Session()
    session.opened(HERE, 0.0)
    first, second = session.send(MAILBOX, envelope(1)), session.send(MAILBOX, envelope(2))
    assert first.number != second.number
    assert answered(session, second.number, Verdict.MAILBOX_FULL, 0.0)
    assert not answered(session, 99, Verdict.TAKEN, 0.0)
    session.opened(HERE, 1.0)
    assert pending(session) == [envelope(1)]


def test_a_server_that_forgot_is_sent_the_last_minute_again_before_the_rest() -> None:
    session = Session()
    session.opened(HERE, 0.0)
    for number in range(4):
        send = session.send(MAILBOX, envelope(number))
        answered(session, send.number, Verdict.TAKEN if number != 1 else Verdict.BUSY, number * 1.0)
    session.send(MAILBOX, envelope(4))
    session.opened(HERE, 10.0)
    assert pending(session) == [envelope(4)]
    session.opened(ELSEWHERE, 60.0)  # the first is a minute old
    assert pending(session) == [envelope(2), envelope(3), envelope(4)]
    for number in list(session.pending):
        answered(session, number, Verdict.TAKEN, 61.0)
    session.opened(HERE, 62.0)
    assert pending(session) == [envelope(2), envelope(3), envelope(4)]


def test_a_request_about_a_nameplate_stays_pending_among_the_envelopes() -> None:
    session = Session()
    session.opened(HERE, 0.0)
    answered(session, session.send(MAILBOX, envelope(1)).number, Verdict.TAKEN, 0.0)
    request = session.request(NameplateAction.CLAIM, 7)
    send = session.send(MAILBOX, envelope(2))
    session.opened(ELSEWHERE, 1.0)
    assert [type(one) for one in session.pending.values()] == [Send, NameplateRequest, Send]
    assert session.pending[request.number] == NameplateRequest(request.number, NameplateAction.CLAIM, 7)
    done = NameplateAnswer(send.number, NameplateOutcome.DONE, 0, 0, NO_MAILBOX)
    assert not session.answered(done, 2.0)  # of the wrong kind
    assert not answered(session, request.number, Verdict.TAKEN, 2.0)
    assert len(session.pending) == 3
    assert session.answered(done._replace(number=request.number), 2.0)
    session.opened(HERE, 3.0)
    assert pending(session) == [envelope(1), envelope(2)]


def test_only_so_many_are_kept() -> None:
    session = Session()
    session.opened(HERE, 0.0)
    for number in range(KEPT + 5):
        answered(session, session.send(MAILBOX, envelope(number)).number, Verdict.TAKEN, 0.0)
    session.opened(ELSEWHERE, 1.0)
    assert pending(session) == [envelope(number) for number in range(5, KEPT + 5)]


def test_what_comes_twice() -> None:
    session = Session()
    assert deliver(session, 1) is None
    assert deliver(session, 1) is None  # it is in the inbox
    first = session.give()
    assert not first.duplicate
    assert not session.inbox
    assert deliver(session, 1) is None  # it was given
    assert session.give().duplicate
    session.acknowledged(first.id)
    assert deliver(session, 1) == first.id  # to be acknowledged once more
    assert not session.inbox


def test_what_an_earlier_client_was_given_is_a_duplicate() -> None:
    session = Session()
    deliver(session, 1, again=True)
    assert session.give().duplicate


def test_an_inbox_that_is_not_read_keeps_the_latest() -> None:
    session = Session()
    for number in range(QUEUE + 3):
        deliver(session, number)
    assert session.dropped == 3
    assert [session.give().envelope for _ in range(QUEUE)] == [envelope(number) for number in range(3, QUEUE + 3)]
    deliver(session, 0)  # dropped, so not given before
    assert not session.give().duplicate


def test_what_is_known_is_bounded() -> None:
    session = Session()
    for number in range(KNOWN + 100):
        deliver(session, number)
        session.acknowledged(session.give().id)
    assert len(session._known) == KNOWN


@pytest.mark.parametrize(
    ("failures", "longest"), [(0, 0.1), (1, 0.2), (5, 3.2), (9, LONGEST_DELAY), (10**6, LONGEST_DELAY)]
)
def test_waits_grow_to_a_longest_and_are_random(failures: int, longest: float) -> None:
    assert reconnect_delay(failures, 0.0) == 0.0
    assert reconnect_delay(failures, 1.0) == pytest.approx(longest)
    assert reconnect_delay(failures, 0.5) == pytest.approx(longest / 2)


def test_repr_shows_no_envelope() -> None:
    session = Session()
    session.send(MAILBOX, b"secret".ljust(ENVELOPE_SIZE))
    deliver(session, 1)
    assert repr(session) == "<session: 1 pending, 1 in the inbox>"
    assert "secret" not in repr(session)
