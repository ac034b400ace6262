"""Which texts are taken: the order, the age, and what is known; all in invented time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relaycall.errors import (
    MailboxFull,
    TextIsOurs,
    TextNotForUs,
    TextOutOfOrder,
    TextRefused,
    TextStale,
)
from relaycall.signaling import carried
from relaycall.signaling.armor import dearmor
from relaycall.signaling.base import ENVELOPE_SIZE, envelope_id
from relaycall.signaling.carried import SKEW, TEXT_LIFETIME, Desk, ManualText, Slip, decode_slip
from relaycall.signaling.frames import START

ALICE, BOB, CAROL = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
WALL = 1_700_000_000.0
SESSION = bytes(16)
VECTOR = "RELAYCALL-ENVELOPE:1:AALOVF2EU3T6EJ7EAGF47ZLIAAAAC43FMFWGKZER4BFAK:RELAYCALL"


def envelope(number: int) -> bytes:
    return number.to_bytes(4, "big").ljust(ENVELOPE_SIZE, b"\0")


def sent(desk: Desk, mailbox: bytes, number: int, wall: float = WALL) -> ManualText:
    text = desk.write(mailbox, envelope(number), wall)
    desk.handed_over(mailbox)
    return text


def pasted(desk: Desk, text: ManualText, wall: float = WALL, now: float = 0.0) -> bool:
    return desk.take(decode_slip(dearmor("envelope", text.text)), wall, now)


def waiting(desk: Desk, now: float = 0.0) -> list[bytes]:
    desk.waiting.own(desk.mailbox, SESSION, now)
    cursor, found = START, []
    while one := desk.waiting.after(desk.mailbox, SESSION, cursor, now):
        cursor = one.cursor
        found.append(one.envelope)
    return found


def test_a_known_answer() -> None:
    assert VECTOR in (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    text = Desk(ALICE).write(BOB, b"sealed".ljust(ENVELOPE_SIZE, b"\0"), WALL)
    assert text == ManualText(BOB, VECTOR, WALL)
    assert dearmor("envelope", text.text).hex() == "ea9744a6e7e227e4018bcfe5680000017365616c6564"


@given(st.binary(max_size=ENVELOPE_SIZE))
def test_zeros_at_the_end_are_not_carried_and_come_back(start: bytes) -> None:
    whole = start.ljust(ENVELOPE_SIZE, b"\0")
    text = Desk(ALICE).write(BOB, whole, WALL)
    assert decode_slip(dearmor("envelope", text.text)).envelope == whole
    assert len(text.text) == 31 + -(-(len(start.rstrip(b"\0")) + 22) * 8 // 5)


@given(st.binary(max_size=64))
@example(b"\1" * (16 + ENVELOPE_SIZE))
@example(b"\1" * (16 + ENVELOPE_SIZE + 1))
def test_any_payload_is_refused_or_read(payload: bytes) -> None:
    if 16 <= len(payload) <= 16 + ENVELOPE_SIZE:
        assert decode_slip(payload).encode() == payload[:16] + payload[16:].rstrip(b"\0")
    else:
        with pytest.raises(TextRefused, match="no envelope"):
            decode_slip(payload)


def test_in_order_each_is_taken_once() -> None:
    alice, bob = Desk(ALICE), Desk(BOB)
    texts = [sent(alice, BOB, number) for number in range(5)]
    assert [pasted(bob, text) for text in texts] == [True] * 5
    assert [pasted(bob, text) for text in texts] == [False] * 5
    assert waiting(bob) == [envelope(number) for number in range(5)]


def test_each_text_is_younger_than_the_last_and_has_the_next_number() -> None:
    alice = Desk(ALICE)
    walls = [WALL, WALL, WALL - 30, WALL + 0.5, WALL + 0.5]
    slips = [decode_slip(dearmor("envelope", sent(alice, BOB, 0, wall).text)) for wall in walls]
    assert all(earlier.created < later.created for earlier, later in pairwise(slips))
    assert [slip.number for slip in slips] == [1, 2, 3, 4, 5]
    assert decode_slip(dearmor("envelope", sent(alice, CAROL, 0).text)).number == 1
    follows = decode_slip(dearmor("envelope", sent(alice, BOB, 0, WALL - 3600).text))
    assert follows.created == (WALL - 3600) * 1000


def test_one_before_the_earlier_is_held_back_once() -> None:
    alice, bob = Desk(ALICE), Desk(BOB)
    texts = [sent(alice, BOB, number) for number in range(3)]
    for text in texts[1:]:
        with pytest.raises(TextOutOfOrder, match="before, which was not pasted"):
            pasted(bob, text)
    assert [pasted(bob, text) for text in texts] == [True] * 3
    assert waiting(bob) == [envelope(0), envelope(1), envelope(2)]


def test_who_insists_goes_on_without_the_earlier_one() -> None:
    alice, bob = Desk(ALICE), Desk(BOB)
    lost, second, third = (sent(alice, BOB, number) for number in range(3))
    with pytest.raises(TextOutOfOrder):
        pasted(bob, second)
    assert pasted(bob, second)
    assert pasted(bob, third)
    with pytest.raises(TextOutOfOrder, match="since, which was pasted before"):
        pasted(bob, lost)
    assert pasted(bob, lost)
    assert pasted(bob, sent(alice, BOB, 3))
    assert waiting(bob) == [envelope(1), envelope(2), envelope(0), envelope(3)]


@given(st.permutations(range(6)))
def test_in_any_order_nothing_is_lost(order: list[int]) -> None:
    """Who pastes all of them twice has them all, each once, whatever the order."""
    alice, bob = Desk(ALICE), Desk(BOB)
    texts = [sent(alice, BOB, number) for number in range(6)]
    for number in [*order, *order]:
        try:
            pasted(bob, texts[number])
        except TextOutOfOrder:
            continue
    assert sorted(waiting(bob)) == [envelope(number) for number in range(6)]


def test_senders_do_not_concern_each_other() -> None:
    alice, bob, carol = Desk(ALICE), Desk(BOB), Desk(CAROL)
    late = sent(carol, BOB, 9, WALL - 60)
    assert pasted(bob, sent(alice, BOB, 1))
    assert pasted(bob, late)
    assert pasted(bob, sent(bob, BOB, 2))
    assert waiting(bob) == [envelope(1), envelope(9), envelope(2)]


def test_a_sender_that_begins_anew_is_taken() -> None:
    bob = Desk(BOB)
    alice = Desk(ALICE)
    assert all(pasted(bob, sent(alice, BOB, number)) for number in range(3))
    assert pasted(bob, sent(Desk(ALICE), BOB, 3, WALL + 1), WALL + 1)
    with pytest.raises(TextOutOfOrder):  # here the clock was set back meanwhile
        pasted(bob, sent(Desk(ALICE), BOB, 4, WALL - 10))


def test_a_text_that_was_perhaps_not_carried_leaves_no_gap() -> None:
    alice, bob = Desk(ALICE), Desk(BOB)
    in_doubt = alice.write(BOB, envelope(0), WALL)
    assert pasted(bob, sent(alice, BOB, 1))
    other = Desk(CAROL)
    alice.write(CAROL, envelope(0), WALL)
    assert pasted(other, sent(alice, CAROL, 1))
    with pytest.raises(TextOutOfOrder):
        pasted(bob, in_doubt)
    assert pasted(bob, sent(alice, BOB, 2))


@pytest.mark.parametrize(("age", "rule"), [(TEXT_LIFETIME + SKEW, None), (TEXT_LIFETIME + SKEW + 1, "12 minutes old")])
def test_how_old_a_text_may_be(age: float, rule: str | None) -> None:
    bob, text = Desk(BOB), sent(Desk(ALICE), BOB, 1)
    if rule is None:
        assert pasted(bob, text, WALL + age)
    else:
        for _ in range(2):
            with pytest.raises(TextStale, match=rule):
                pasted(bob, text, WALL + age)
        assert waiting(bob) == []


def test_a_text_may_come_from_a_clock_that_is_two_minutes_ahead() -> None:
    bob, text = Desk(BOB), sent(Desk(ALICE), BOB, 1)
    with pytest.raises(TextStale, match="in the future"):
        pasted(bob, text, WALL - SKEW - 1)
    assert pasted(bob, text, WALL - SKEW)


def test_a_text_is_known_for_as_long_as_it_holds() -> None:
    bob, text = Desk(BOB), sent(Desk(ALICE), BOB, 1)
    assert pasted(bob, text, WALL - SKEW)
    bob.waiting.own(BOB, SESSION, 0.0)
    bob.waiting.acknowledge(BOB, SESSION, envelope_id(envelope(1)), 0.0)
    span = TEXT_LIFETIME + 2 * SKEW
    assert not pasted(bob, text, WALL - SKEW + span - 1, span - 1)
    with pytest.raises(TextStale):
        pasted(bob, text, WALL - SKEW + span + 1, span + 1)
    assert waiting(bob, span + 1) == []


def test_what_was_pasted_waits_to_be_read_for_as_long_as_its_text_is_known() -> None:
    bob, text = Desk(BOB), sent(Desk(ALICE), BOB, 1)
    assert pasted(bob, text)
    span = TEXT_LIFETIME + 2 * SKEW
    assert waiting(bob, span - 1) == [envelope(1)]
    assert waiting(bob, span) == []


def test_the_same_envelope_in_two_texts_is_one() -> None:
    alice, bob = Desk(ALICE), Desk(BOB)
    assert pasted(bob, sent(alice, BOB, 1))
    assert pasted(bob, sent(alice, BOB, 1))
    assert waiting(bob) == [envelope(1)]


def test_for_whom_a_text_is() -> None:
    alice, bob = Desk(ALICE), Desk(BOB)
    text = sent(alice, BOB, 1)
    with pytest.raises(TextIsOurs):
        pasted(alice, text)
    with pytest.raises(TextNotForUs):
        pasted(Desk(CAROL), text)
    assert pasted(bob, text)


def test_a_full_desk_loses_nothing() -> None:
    alice, bob = Desk(ALICE), Desk(BOB)
    for number in range(64):
        assert pasted(bob, sent(alice, BOB, number))
    last = sent(alice, BOB, 64)
    for _ in range(2):
        with pytest.raises(MailboxFull):
            pasted(bob, last)
    assert len(waiting(bob)) == 64
    bob.waiting.acknowledge(BOB, SESSION, envelope_id(envelope(0)), 0.0)
    assert pasted(bob, last)
    assert waiting(bob) == [envelope(number) for number in range(1, 65)]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SEEN", "_RECEIVERS", "_SENDERS", "_HELD_BACK"):
        monkeypatch.setattr(carried, name, 3)
    bob = Desk(BOB)
    receiver = decode_slip(dearmor("envelope", sent(Desk(ALICE), BOB, 0).text)).receiver
    for number in range(20):
        tag = number.to_bytes(4, "big")
        with pytest.raises(TextOutOfOrder):
            bob.take(Slip(receiver, tag, int(WALL * 1000), 9, envelope(number)), WALL, 0.0)
        assert bob.take(Slip(receiver, tag, int(WALL * 1000), 1, envelope(number)), WALL, 0.0)
        sent(bob, tag * 8, number)
    assert [len(bob._seen), len(bob._last), len(bob._held_back), len(bob._numbers)] == [3, 3, 3, 3]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2**48 - 1), st.integers(0, 65535), st.integers(0, 3))))
def test_any_slip_is_taken_or_refused(slips: list[tuple[int, int, int, int]]) -> None:
    bob = Desk(BOB)
    tags = [decode_slip(dearmor("envelope", sent(bob, one, 0).text)).receiver for one in (ALICE, BOB, CAROL)]
    taken = 0
    for sender, created, number, content in slips:
        try:
            taken += bob.take(Slip(tags[1], tags[sender], created, number, envelope(content)), WALL, 0.0)
        except TextRefused:
            continue
    assert len(waiting(bob)) <= taken


def test_nothing_is_shown() -> None:
    alice = Desk(ALICE)
    text = sent(alice, BOB, 0x41424344)
    assert repr(text) == f"<a text of {len(text.text)} characters>"
    assert repr(alice) == "<desk: 0 waiting>"
