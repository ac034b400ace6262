"""Two sides with a code, and whoever comes between them, message by message."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spake2 import SPAKE2_A

from relaycall.errors import MessageTooLarge, PairingFailed
from relaycall.identity.one_time_code import OneTimeCode
from relaycall.identity.pairing import MAX_PAYLOAD, MakerPairing, Pairing, PairingState, UserPairing
from tests.store.shown import shown

CODE = OneTimeCode(7, b"\x01\x1b")
WRONG = OneTimeCode(7, b"\x02\x1b")
MAKERS, USERS, EVES = (bytes((number,)) * 32 for number in (1, 2, 3))  # mailboxes
CARD_OF_MAKER, CARD_OF_USER, CARD_OF_EVE = b"canary of the maker", b"canary of the user", b"canary of Eve"

Change = Callable[[int, bytes], bytes]


def randomness(name: bytes) -> Callable[[int], bytes]:
    return lambda size: hashlib.shake_256(name).digest(size)


def maker(code: OneTimeCode = CODE, payload: bytes = CARD_OF_MAKER) -> MakerPairing:
    return MakerPairing(code, payload, MAKERS, entropy=randomness(b"maker"))


def user(code: OneTimeCode = CODE, payload: bytes = CARD_OF_USER) -> UserPairing:
    return UserPairing(code, payload, USERS, MAKERS, entropy=randomness(b"user"))


def run(one: Pairing, other: Pairing, change: Change = lambda number, envelope: envelope) -> list[bytes]:
    """Deliver all that the two send. Returns it; `change` alters what arrives, by its number from 1."""
    sent: list[bytes] = []
    while one.outgoing or other.outgoing:
        for sender, receiver in ((one, other), (other, one)):
            while sender.outgoing:
                sent.append(sender.outgoing.pop(0))
                try:
                    receiver.receive(change(len(sent), sent[-1]))
                except PairingFailed:
                    assert receiver.state is PairingState.FAILED
    return sent


def outcome(side: Pairing) -> tuple[PairingState, bytes]:
    return side.state, side.peer_payload


FAILED = (PairingState.FAILED, b"")


def test_the_right_code() -> None:
    one, other = maker(), user()
    sent = run(one, other)
    assert outcome(one) == (PairingState.DONE, CARD_OF_USER)
    assert outcome(other) == (PairingState.DONE, CARD_OF_MAKER)
    assert one.peer_mailbox == USERS
    assert [len(envelope) for envelope in sent] == 4 * [4096]
    assert not any(b"canary" in envelope for envelope in sent)


@pytest.mark.parametrize("size", [0, 1, MAX_PAYLOAD])
def test_payloads_of_any_size_look_alike(size: int) -> None:
    one, other = maker(payload=bytes(size)), user(payload=b"\xff" * size)
    sent = run(one, other)
    assert one.peer_payload == b"\xff" * size
    assert other.peer_payload == bytes(size)
    assert [len(envelope.rstrip(b"\0")) // 16 for envelope in sent] == [4, 4, 159, 157]


def test_a_payload_that_is_too_large() -> None:
    for make in (maker, user):
        with pytest.raises(MessageTooLarge):
            make(payload=bytes(MAX_PAYLOAD + 1))


@pytest.mark.parametrize(
    "wrong", [WRONG, OneTimeCode(7, b"\x01\x1c"), OneTimeCode(8, b"\x01\x1b"), OneTimeCode(7, b"\x01\x1b\0")], ids=str
)
@pytest.mark.parametrize("whose", [maker, user])
def test_a_wrong_code_fails_on_both_sides(whose: Callable[..., Pairing], wrong: OneTimeCode) -> None:
    one, other = (maker(wrong), user()) if whose is maker else (maker(), user(wrong))
    sent = run(one, other)
    assert outcome(one) == outcome(other) == FAILED
    # Two elements and two farewells: no side has sent its payload.
    assert [envelope[0] for envelope in sent] == [1, 2, 0, 0]
    assert [len(envelope.rstrip(b"\0")) > 66 for envelope in sent] == 4 * [False]
    for side in (one, other):
        with pytest.raises(PairingFailed):
            side.receive(sent[0])


def eve_between(guess: OneTimeCode) -> tuple[Pairing, Pairing, Pairing, Pairing]:
    """Eve has the server: she poses as the user to the maker, and as the maker to the user."""
    one, other = maker(), user()
    to_maker = UserPairing(guess, CARD_OF_EVE, EVES, MAKERS, entropy=os.urandom)
    to_user = MakerPairing(guess, CARD_OF_EVE, MAKERS, entropy=os.urandom)
    run(one, to_maker)
    run(to_user, other)
    return one, other, to_maker, to_user


def test_a_guess_in_the_middle() -> None:
    assert [outcome(side) for side in eve_between(WRONG)] == 4 * [FAILED]


def test_a_right_guess_in_the_middle() -> None:
    """So the test above would show it."""
    one, other, to_maker, to_user = eve_between(CODE)
    assert one.peer_payload == other.peer_payload == CARD_OF_EVE
    assert (to_maker.peer_payload, to_user.peer_payload) == (CARD_OF_MAKER, CARD_OF_USER)


def test_a_guess_learns_nothing_but_that_it_was_wrong() -> None:
    """Who claims the number gets an element and a confirmation, and no payload."""
    one = maker()
    eve = UserPairing(WRONG, b"", EVES, MAKERS, entropy=os.urandom)
    one.receive(eve.outgoing[0])
    assert [envelope[0] for envelope in one.outgoing] == [2]
    with pytest.raises(PairingFailed):
        eve.receive(one.outgoing.pop())
    for forged in (bytes(4096), b"\x03".ljust(4096, b"\0"), b"\x03".ljust(4096, b"\x01")):
        with pytest.raises(PairingFailed):
            one.receive(forged)
    assert one.outgoing == []  # the farewell was for the first of them


def test_another_mailbox_in_the_first_message() -> None:
    """The server puts another mailbox in the place of the user's: the maker's answer fits the user no more."""
    one, other = maker(), user()
    run(one, other, lambda number, envelope: envelope[:1] + EVES + envelope[33:] if number == 1 else envelope)
    assert outcome(one) == outcome(other) == FAILED


def test_another_mailbox_of_the_maker() -> None:
    """The server leads the user to the mailbox of somebody else with the same code."""
    one = MakerPairing(CODE, CARD_OF_MAKER, EVES, entropy=os.urandom)
    other = user()
    run(one, other)
    assert outcome(one) == outcome(other) == FAILED


BITS = st.integers(0, 8 * 140 - 1) | st.integers(8 * 2540, 8 * 2570) | st.integers(0, 8 * 4096 - 1)


@settings(max_examples=40)
@given(st.integers(1, 4), BITS)
@example(1, 8 * 33)  # which side it is from
@example(1, 8 * 65 + 7)  # the sign of the element
@example(2, 8 * 34)  # the maker's confirmation
@example(3, 8 * 1)  # the user's
@example(3, 8 * 33)  # what it seals
@example(4, 0)
@pytest.mark.slow
def test_no_bit_may_change(message: int, bit: int) -> None:
    def change(number: int, envelope: bytes) -> bytes:
        if number != message:
            return envelope
        altered = bytearray(envelope)
        altered[bit // 8] ^= 1 << bit % 8
        return bytes(altered)

    one, other = maker(), user()
    run(one, other, change)
    assert outcome(other) == FAILED
    assert outcome(one) == (FAILED if message < 4 else (PairingState.DONE, CARD_OF_USER))


@pytest.mark.parametrize("message", [1, 2, 3, 4])
@pytest.mark.parametrize("altered", [b"", b"\x01", bytes(4095), bytes(4097), bytes(4096), b"\xff" * 4096])
def test_something_else_in_its_place(message: int, altered: bytes) -> None:
    one, other = maker(), user()
    run(one, other, lambda number, envelope: altered if number == message else envelope)
    assert outcome(other) == FAILED
    assert outcome(one) == (FAILED if message < 4 else (PairingState.DONE, CARD_OF_USER))


@pytest.mark.parametrize("message", [1, 2, 3, 4])
def test_truncated(message: int) -> None:
    one, other = maker(), user()
    run(one, other, lambda number, envelope: envelope[:-1] if number == message else envelope)
    assert outcome(other) == FAILED


@settings(max_examples=40)
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: b"\x01" + data.ljust(4095, b"\0")))
def test_any_bytes_end_it_or_are_an_element(envelope: bytes) -> None:
    one = maker()
    try:
        one.receive(envelope)
    except PairingFailed:
        assert outcome(one) == FAILED
    else:
        assert outcome(one) == (PairingState.PAYLOAD, b"")
    with pytest.raises(PairingFailed):
        one.receive(b"\x03" + envelope)


ZERO = b"\x01".ljust(32, b"\0")  # the neutral element
OF_ORDER_TWO = (2**255 - 20).to_bytes(32, "little")
OF_ORDER_EIGHT = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")


@pytest.mark.parametrize("element", [ZERO, OF_ORDER_TWO, OF_ORDER_EIGHT, bytes(32), b"\xff" * 32], ids=bytes.hex)
def test_elements_that_force_the_key(element: bytes) -> None:
    one, other = maker(), user()
    with pytest.raises(PairingFailed):
        one.receive((b"\x01" + EVES + b"B" + element).ljust(4096, b"\0"))
    with pytest.raises(PairingFailed):
        other.receive((b"\x02" + b"A" + element + bytes(32)).ljust(4096, b"\0"))


def messages(one: Pairing, other: Pairing) -> Iterator[tuple[Pairing, bytes]]:
    """Each message of a run of both, and the side that it came to."""
    for sender, receiver in itertools.cycle(((other, one), (one, other))):
        if not sender.outgoing:
            return
        envelope = sender.outgoing.pop(0)
        receiver.receive(envelope)
        yield receiver, envelope


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_same_message_again_is_passed_over(number: int) -> None:
    one, other = maker(), user()
    for receiver, envelope in messages(one, other):
        for _ in range(number):
            waiting = list(receiver.outgoing)
            receiver.receive(envelope)
            assert receiver.outgoing == waiting
    assert outcome(one) == (PairingState.DONE, CARD_OF_USER)
    assert outcome(other) == (PairingState.DONE, CARD_OF_MAKER)
    one.receive(b"whatever comes later")
    assert outcome(one) == (PairingState.DONE, CARD_OF_USER)


def test_messages_of_an_earlier_run() -> None:
    """Same code, same mailboxes, other randomness: each recorded message is refused in its place."""
    recorded = [envelope for _, envelope in messages(maker(), user())]
    for number in (1, 2, 3, 4):
        one = MakerPairing(CODE, CARD_OF_MAKER, MAKERS, entropy=os.urandom)
        other = UserPairing(CODE, CARD_OF_USER, USERS, MAKERS, entropy=os.urandom)
        run(one, other, lambda at, envelope, number=number: recorded[at - 1] if at == number else envelope)  # type: ignore[misc]
        assert outcome(other) == FAILED


def test_reflected_messages() -> None:
    """Each side gets its own message back."""
    one, other = maker(), user()
    with pytest.raises(PairingFailed):
        other.receive(other.outgoing[0])
    one.receive(user().outgoing[0])
    with pytest.raises(PairingFailed):
        one.receive(one.outgoing[0])
    # Its element alone, as if it were the other's.
    one, other = maker(), user()
    element = other.outgoing[0][33:66]
    for reflected in (element, b"A" + element[1:]):
        with pytest.raises(PairingFailed):
            user().receive((b"\x02" + reflected + bytes(32)).ljust(4096, b"\0"))


def test_a_side_that_has_failed_stays_so() -> None:
    one, other = maker(), user()
    with pytest.raises(PairingFailed):
        one.receive(bytes(4096))
    with pytest.raises(PairingFailed):
        one.receive(other.outgoing[0])
    assert outcome(one) == FAILED


def test_nothing_is_shown() -> None:
    one, other = maker(), user(WRONG)
    one.receive(other.outgoing.pop())
    with pytest.raises(PairingFailed) as failed:
        other.receive(one.outgoing.pop())
    text = shown(failed.value) + repr(one) + repr(other)
    assert failed.value.__context__ is None
    assert repr(one) == "<MakerPairing payload>"
    for secret in ("canary", "absurd", "accrue", "bravado"):
        assert secret not in text


def test_known_answer() -> None:
    """As in docs/protocol.md."""
    one, other = maker(), user()
    found = [envelope for _, envelope in messages(one, other)]
    assert found[0][:66].hex() == (
        "01020202020202020202020202020202020202020202020202020202020202020242eca31cd23494ae7c60242c20d9b9ea"
        "6effe4a2aa3b226b891a92148e38fafebe"
    )
    assert found[1][:66].hex() == (
        "0241ee4b8865158d8a8af5fb476df31e2fa39bbd1deb90033114a63ab22d0ef7ab5b96e2a4b78f7306191799e3232c22c1"
        "9cd0ef713055ed2af0024a94462642e5c3"
    )
    assert found[2][:33].hex() == "03fb8ece1f2600bb83ef15ee35225cdea32bf98b6a6c527a427223619d2e187b42"
    assert (
        hashlib.sha256(b"".join(found)).hexdigest()
        == "eefa7d0c7ca40bd3bc479b83693ef15678785b2763dfe2f92c9d2690de8916f5"
    )
    spake2 = SPAKE2_A(b"relaycall pairing 1\x007-absurd-bravado", idA=MAKERS, idB=USERS, entropy_f=randomness(b"maker"))
    assert spake2.start() == found[1][1:34]
    assert spake2.finish(found[0][33:66]).hex() == "e26f64e51bb3df85912fafaca14ff435509ac457433b571ef31b0832475c507e"
