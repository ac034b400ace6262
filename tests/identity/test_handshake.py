"""The handshake of a call: both sides or nobody has the keys, and the words are known when they may be."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relaycall.errors import HandshakeRefused
from relaycall.identity.handshake import MAX_RECORD, CalleeHandshake, CallKeys, our_offer_wins
from relaycall.identity.keys import PublicIdentity
from tests.identity.calling import (
    CALLEE_RECORD,
    CALLER_RECORD,
    COMMITMENT,
    EPHEMERAL,
    answered,
    calling,
    changed,
    differ,
    fresh,
    secrets_of,
)
from tests.identity.people import ALICE, BOB, CAROL, LOW_ORDER, MALLORY

# --- a call -----------------------------------------------------------------------------------------------------------


def test_both_sides_have_the_same_keys() -> None:
    alice = calling()
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    answer, bobs = answered(bob)
    record, alices = alice.accept(answer)
    assert (bob.record, record) == (CALLER_RECORD, CALLEE_RECORD)
    assert secrets_of(alices) == secrets_of(bobs)
    assert alice.call_id == bob.call_id
    assert len(alice.call_id) == 16
    assert len({*secrets_of(alices), alices.spoken}) == 4
    assert all(len(key) == 32 for key in (*secrets_of(alices), alices.spoken))


@given(caller=st.binary(max_size=MAX_RECORD), callee=st.binary(max_size=MAX_RECORD))
def test_any_records_arrive(caller: bytes, callee: bytes) -> None:
    alice = calling(record=caller)
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    answer, bobs = answered(bob, callee)
    record, alices = alice.accept(answer)
    assert (bob.record, record) == (caller, callee)
    assert secrets_of(alices) == secrets_of(bobs)


def test_the_words_are_known_once_they_may_be() -> None:
    alice = calling()
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    with pytest.raises(HandshakeRefused):
        alice.confirm()
    answer, bobs = answered(bob)
    _, alices = alice.accept(answer)
    assert bobs.spoken == b""
    bob.confirmed(alice.confirm())
    assert bobs.spoken == alices.spoken != b""
    bob.confirmed(alice.confirm())
    assert bobs.spoken == alices.spoken


def test_the_words_depend_on_both_nonces() -> None:
    def spoken(callers: str, callees: str) -> bytes:
        keys = CallKeys(bytes(32), bytes(32), bytes(32), bytes(32))
        keys.speak(fresh(callers), fresh(callees))
        return keys.spoken

    assert len({spoken(*pair) for pair in (("a", "b"), ("b", "a"), ("a", "c"), ("c", "b"))}) == 4


def test_every_call_has_an_id_of_its_own() -> None:
    both_ways = calling(), calling(BOB, ALICE.public), calling(ALICE, CAROL.public), calling(ALICE, which="2")
    records = calling(record=b"another")
    assert len({one.call_id for one in (*both_ways, records)}) == 5


def test_glare_has_one_outcome() -> None:
    for number in range(20):
        alice, bob = calling(which=str(number)), calling(BOB, ALICE.public, which=f"{number}b")
        assert our_offer_wins(alice.call_id, bob.call_id) != our_offer_wins(bob.call_id, alice.call_id)
    assert {our_offer_wins(calling(which=str(n)).call_id, calling(BOB, ALICE.public).call_id) for n in range(20)} == {
        True,
        False,
    }


# --- somebody between them --------------------------------------------------------------------------------------------


@given(data=st.data(), change=st.integers(1, 255))
def test_any_changed_byte_of_the_offer(data: st.DataObject, change: int) -> None:
    alice = calling()
    offer = changed(alice.offer, data.draw(st.integers(0, len(alice.offer) - 1)), change)
    try:
        bob = CalleeHandshake(BOB.identity, ALICE.public, offer)
        answer, bobs = answered(bob)
    except HandshakeRefused:
        return
    assert bob.call_id != alice.call_id
    with pytest.raises(HandshakeRefused):
        alice.accept(answer)
    named = hashlib.sha256(alice.offer).digest() + answer[32:]  # as if it were to the offer that was made
    _, alices = alice.accept(named)
    assert differ(alices, bobs)


@given(data=st.data(), change=st.integers(1, 255))
@example(data=None, change=0x80)
def test_any_changed_byte_of_the_answer(data: st.DataObject | None, change: int) -> None:
    alice = calling()
    answer, bobs = answered(CalleeHandshake(BOB.identity, ALICE.public, alice.offer))
    at = 63 if data is None else data.draw(st.integers(0, len(answer) - 1))  # 63: the bit X25519 does not look at
    try:
        _, alices = alice.accept(changed(answer, at, change))
    except HandshakeRefused:
        return
    assert at >= 32
    assert differ(alices, bobs)


@pytest.mark.parametrize("size", [0, 1, 64, 65 + MAX_RECORD + 1, 2**16])
def test_offers_of_other_sizes(size: int) -> None:
    with pytest.raises(HandshakeRefused):
        CalleeHandshake(BOB.identity, ALICE.public, b"\1" * size)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_offers_of_other_versions(version: int) -> None:
    with pytest.raises(HandshakeRefused, match="version"):
        CalleeHandshake(BOB.identity, ALICE.public, bytes([version]) + calling().offer[1:])


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    alice = calling()
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    _, bobs = answered(bob)
    for hear in (alice.accept, bob.confirmed):
        with pytest.raises(HandshakeRefused):
            hear(data)
    assert bobs.spoken == b""


def test_any_bytes_as_answer_to_this_offer() -> None:
    for size in (95, 96 + MAX_RECORD + 1):
        alice = calling()
        with pytest.raises(HandshakeRefused):
            alice.accept(hashlib.sha256(alice.offer).digest().ljust(size, b"x"))


def test_unknown_key_share() -> None:
    """Mallory passes Alice's offer to Bob as her own, and his answer back. Neither talks to whom they think."""
    alice = calling(callee=MALLORY.public)
    bob = CalleeHandshake(BOB.identity, MALLORY.public, alice.offer)
    answer, bobs = answered(bob)
    _, alices = alice.accept(answer)
    assert differ(alices, bobs)
    with pytest.raises(HandshakeRefused):  # the commitment is Alice's, and Bob thinks of Mallory
        bob.confirmed(alice.confirm())
    assert bobs.spoken == b""


@pytest.mark.parametrize("told", [(MALLORY.public, BOB.public), (ALICE.public, MALLORY.public)])
def test_one_identity_swapped(told: tuple[PublicIdentity, PublicIdentity]) -> None:
    """Bob is told of another caller, or Alice means another callee; keys and offer are the same."""
    caller, callee = told
    alice = calling(callee=callee)
    bob = CalleeHandshake(BOB.identity, caller, alice.offer)
    answer, bobs = answered(bob)
    _, alices = alice.accept(answer)
    assert differ(alices, bobs)
    assert alice.call_id != bob.call_id


@pytest.mark.parametrize("half", ["signing", "agreement"])
def test_half_an_identity_swapped(half: str) -> None:
    other = {"signing": ALICE.public.signing, "agreement": ALICE.public.agreement, half: getattr(MALLORY.public, half)}
    alice = calling()
    answer, bobs = answered(CalleeHandshake(BOB.identity, PublicIdentity(**other), alice.offer))
    _, alices = alice.accept(answer)
    assert differ(alices, bobs)


def test_reflected() -> None:
    """Alice gets her own offer as if it were Bob's call, and her answer to it as if it were his."""
    alice = calling()
    again = CalleeHandshake(ALICE.identity, BOB.public, alice.offer)
    assert again.call_id != alice.call_id
    answer, as_callee = answered(again)
    _, as_caller = alice.accept(answer)
    assert differ(as_caller, as_callee)
    with pytest.raises(HandshakeRefused):
        again.confirmed(alice.confirm())


def test_an_answer_with_our_own_ephemeral_key() -> None:
    """Our own part of the secrets sent back: whoever sends it does not know what comes of it."""
    alice = calling()
    ours = alice.offer[EPHEMERAL]
    _, keys = alice.accept(hashlib.sha256(alice.offer).digest() + ours + bytes(32))
    assert len(set(secrets_of(keys))) == 3


def test_an_answer_to_another_offer() -> None:
    one, two = calling(), calling(which="2")
    answer, _ = answered(CalleeHandshake(BOB.identity, ALICE.public, two.offer))
    with pytest.raises(HandshakeRefused, match="another offer"):
        one.accept(answer)
    with pytest.raises(HandshakeRefused):
        one.confirm()
    two.accept(answer)  # a wrong one before does not spoil the right one


def test_two_answers() -> None:
    alice = calling()
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    first, _ = answered(bob)
    second, _ = answered(CalleeHandshake(BOB.identity, ALICE.public, alice.offer), which="2")
    with pytest.raises(HandshakeRefused):
        answered(bob)
    alice.accept(first)
    for again in (first, second):
        with pytest.raises(HandshakeRefused):
            alice.accept(again)


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8] + point.hex()[-2:])
def test_points_of_low_order(point: bytes) -> None:
    alice = calling()
    answer, _ = answered(CalleeHandshake(BOB.identity, ALICE.public, alice.offer))
    with pytest.raises(HandshakeRefused):
        alice.accept(answer[:32] + point + answer[64:])
    with pytest.raises(HandshakeRefused):
        answered(CalleeHandshake(BOB.identity, ALICE.public, alice.offer[:1] + point + alice.offer[33:]))
    nobody = PublicIdentity(MALLORY.public.signing, point)
    with pytest.raises(HandshakeRefused):
        answered(CalleeHandshake(BOB.identity, nobody, alice.offer))
    to_nobody = calling(callee=nobody)
    with pytest.raises(HandshakeRefused):
        to_nobody.accept(hashlib.sha256(to_nobody.offer).digest() + answer[32:])


# --- the commitment ---------------------------------------------------------------------------------------------------


def test_another_nonce_is_refused() -> None:
    alice = calling()
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    answer, bobs = answered(bob)
    alice.accept(answer)
    right = alice.confirm()
    wrong = [changed(right, at, 1) for at in range(len(right))]
    for confirm in (*wrong, right[:-1], right + b"\0", b"", right[:32] + fresh("callee's nonce")):
        with pytest.raises(HandshakeRefused):
            bob.confirmed(confirm)
        assert bobs.spoken == b""
    bob.confirmed(right)


def test_a_confirmation_before_the_answer() -> None:
    alice = calling()
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    answer, _ = answered(CalleeHandshake(BOB.identity, ALICE.public, alice.offer))
    alice.accept(answer)
    with pytest.raises(HandshakeRefused):
        bob.confirmed(alice.confirm())


def test_the_commitment_is_the_callers_alone() -> None:
    """Who copies it into an offer of his own cannot open it, even once he knows the nonce."""
    alice = calling(callee=MALLORY.public)
    mallorys = calling(MALLORY)
    stolen = mallorys.offer[:33] + alice.offer[COMMITMENT] + mallorys.offer[65:]
    bob = CalleeHandshake(BOB.identity, MALLORY.public, stolen)
    answered(bob)
    with pytest.raises(HandshakeRefused):
        bob.confirmed(hashlib.sha256(stolen).digest() + fresh("caller's nonce"))


def test_no_repr_shows_a_key() -> None:
    alice = calling()
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    answer, bobs = answered(bob)
    _, alices = alice.accept(answer)
    assert [repr(one) for one in (alice, bob, alices, bobs)] == [
        "<CallerHandshake>",
        "<CalleeHandshake>",
        "CallKeys()",
        "CallKeys()",
    ]
