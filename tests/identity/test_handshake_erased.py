"""After a call nothing of it is left, and two stolen devices with a recording do not give its keys."""

from __future__ import annotations

import gc
import hashlib
import itertools
import types
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relaycall.errors import HandshakeRefused
from relaycall.identity.handshake import CalleeHandshake
from tests.identity.calling import (
    CALLEE_RECORD,
    CALLER_RECORD,
    COMMITMENT,
    EPHEMERAL,
    THEIR_EPHEMERAL,
    THEIR_NONCE,
    answered,
    calling,
    fresh,
    secrets_of,
)
from tests.identity.people import ALICE, BOB

# --- what is left afterwards ------------------------------------------------------------------------------------------


def held(*roots: object) -> list[object]:
    """All that can be reached from these, but for code, and for our long-term keys and others' public ones."""
    outside = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)
    seen: dict[int, object] = {id(person.identity): None for person in (ALICE, BOB)}
    todo = list(roots)
    found = []
    while todo:
        one = todo.pop()
        if id(one) not in seen and not isinstance(one, outside):
            seen[id(one)] = one
            found.append(one)
            todo += gc.get_referents(one)
    return found


def test_erased_is_gone() -> None:
    alice = calling()
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    answer, bobs = answered(bob)
    _, alices = alice.accept(answer)
    bob.confirmed(alice.confirm())
    names = "caller's key", "caller's nonce", "callee's key", "callee's nonce"
    secret = [*map(fresh, names), CALLER_RECORD, CALLEE_RECORD, *secrets_of(alices), alices.spoken, alices._words]

    def left() -> set[bytes]:
        kept = [one for one in held(alice, bob, alices, bobs) if isinstance(one, bytes)]
        return {part for part in secret for one in kept if part in one}

    assert left() >= {fresh("caller's nonce"), fresh("callee's nonce"), CALLER_RECORD, *secrets_of(alices)}
    for one in (alice, bob, alices, bobs):
        one.erase()
    assert left() == set()
    assert not [one for one in held(alice, bob, alices, bobs) if isinstance(one, X25519PrivateKey)]


def test_the_ephemeral_key_is_gone_once_there_was_an_answer() -> None:
    alice = calling()
    assert [one for one in held(alice) if isinstance(one, X25519PrivateKey)]
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    answer, _ = answered(bob)
    alice.accept(answer)
    assert not [one for one in held(alice, bob) if isinstance(one, X25519PrivateKey)]


def test_nothing_happens_after_erase() -> None:
    alice, cancelled = calling(), calling()
    bob, declined = (CalleeHandshake(BOB.identity, ALICE.public, alice.offer) for _ in range(2))
    answer, bobs = answered(bob)
    alice.accept(answer)
    confirm = alice.confirm()
    bobs.erase()
    late: list[Callable[[], object]] = [lambda: bob.confirmed(confirm)]
    for one in (alice, cancelled, bob, declined):
        one.erase()
    late += [alice.confirm, cancelled.confirm, lambda: alice.accept(answer), lambda: cancelled.accept(answer)]
    late += [lambda: bob.confirmed(confirm), lambda: answered(declined)]
    for act in late:
        with pytest.raises(HandshakeRefused):
            act()
    assert bobs.spoken == b""


def test_the_handshake_erased_while_the_keys_are_kept() -> None:
    alice = calling()
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    _, bobs = answered(bob)
    assert [one for one in held(bob) if one is bobs]
    bob.erase()
    assert not [one for one in held(bob) if one is bobs]
    assert bobs.media != b"", "they are the call's"


def test_keys_erased_while_the_handshake_is_kept() -> None:
    alice = calling()
    bob = CalleeHandshake(BOB.identity, ALICE.public, alice.offer)
    answer, bobs = answered(bob)
    alice.accept(answer)
    bobs.erase()
    with pytest.raises(HandshakeRefused):
        bob.confirmed(alice.confirm())
    assert bobs.spoken == b""


# --- a stolen device --------------------------------------------------------------------------------------------------


def media_from(offer: bytes, answer: bytes, terms: tuple[bytes, ...]) -> bytes:
    """The media key by the description, from any three secrets."""
    transcript = hashlib.sha256(b"relaycall transcript 1\0")
    for part in (ALICE.public.encode(), BOB.public.encode(), offer, answer):
        transcript.update(len(part).to_bytes(4, "big") + part)
    return HKDF(SHA256(), 32, transcript.digest(), b"relaycall/1 media").derive(b"".join(terms))


def shared(private: X25519PrivateKey, public: bytes) -> bytes:
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def test_two_stolen_devices_and_a_recording() -> None:
    alice = calling()
    answer, keys = answered(CalleeHandshake(BOB.identity, ALICE.public, alice.offer))
    ephemerals = alice.offer[EPHEMERAL], answer[THEIR_EPHEMERAL]
    of_alice, of_bob = ALICE.identity.agreement_key(), BOB.identity.agreement_key()
    publics = [*ephemerals, ALICE.public.agreement, BOB.public.agreement]
    agreed = [shared(own, public) for own in (of_alice, of_bob) for public in publics]
    known = {*agreed, *publics, answer[THEIR_NONCE], alice.offer[COMMITMENT], bytes(32)}
    candidates = itertools.product(sorted(known), repeat=3)
    assert all(media_from(alice.offer, answer, three) != keys.media for three in candidates)

    first = X25519PrivateKey.from_private_bytes(fresh("caller's key"))
    right = shared(first, ephemerals[1]), shared(of_alice, ephemerals[1]), shared(of_bob, ephemerals[0])
    assert set(right[1:]) <= known
    assert media_from(alice.offer, answer, right) == keys.media, "who knows an ephemeral key has it"
    for term in range(3):
        wrong = tuple(bytes(32) if index == term else secret for index, secret in enumerate(right))
        assert media_from(alice.offer, answer, wrong) != keys.media


@pytest.mark.parametrize("side", ["caller", "callee"])
def test_who_knows_one_sides_keys_derives_them(side: str) -> None:
    """The negative control: with what one side holds during a call, the keys come out."""
    alice = calling()
    answer, keys = answered(CalleeHandshake(BOB.identity, ALICE.public, alice.offer))
    own = X25519PrivateKey.from_private_bytes(fresh(f"{side}'s key"))
    if side == "caller":
        theirs = answer[THEIR_EPHEMERAL]
        terms = shared(own, theirs), ALICE.identity.agree(theirs), shared(own, BOB.public.agreement)
    else:
        theirs = alice.offer[EPHEMERAL]
        terms = shared(own, theirs), shared(own, ALICE.public.agreement), BOB.identity.agree(theirs)
    assert media_from(alice.offer, answer, terms) == keys.media
