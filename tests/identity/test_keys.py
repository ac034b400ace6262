"""Long-term keys: what they are made of, what they show, and keys under which anybody could sign."""

from __future__ import annotations

import pytest

from relaycall.errors import IdentityDamaged
from relaycall.identity.keys import _FIELD, _ORDER_8, SECRET_SIZE, Identity, PublicIdentity, is_signed
from relaycall.signaling.keys import is_proof

ALICE = Identity(bytes(range(SECRET_SIZE)))
SMALL = [0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8, _FIELD, _FIELD + 1]  # the last two are not canonical


def test_a_signature_is_for_its_domain_message_and_key_alone() -> None:
    signature = ALICE.sign(b"domain", b"message")
    assert ALICE.public.verifies(b"domain", b"message", signature)
    other = Identity(bytes(SECRET_SIZE)).public
    for public, domain, message in (
        (other, b"domain", b"message"),
        (ALICE.public, b"other", b"message"),
        (ALICE.public, b"domain", b"messagE"),
    ):
        assert not public.verifies(domain, message, signature)
    assert not ALICE.public.verifies(b"domain", b"message", signature[:-1])


@pytest.mark.parametrize("sign_bit", [0, 1])
@pytest.mark.parametrize("y", SMALL)
def test_under_a_key_of_small_order_nothing_is_signed(y: int, sign_bit: int) -> None:
    """With R = A or the neutral element, and S = 0, one signature is good for many messages, if nobody looks."""
    key = (y | sign_bit << 255).to_bytes(32, "little")
    public = PublicIdentity(key, ALICE.public.agreement)
    for r in (key, (1).to_bytes(32, "little")):
        for number in range(32):
            assert not public.verifies(b"domain", bytes([number]), r + bytes(32))


def test_a_key_that_gives_everybody_the_same_secret_is_refused() -> None:
    for low in (bytes(32), (1).to_bytes(32, "little")):
        with pytest.raises(ValueError):
            ALICE.agree(low)


def test_two_agree() -> None:
    bob = Identity(bytes(reversed(range(SECRET_SIZE))))
    assert ALICE.agree(bob.public.agreement) == bob.agree(ALICE.public.agreement)


def test_the_mailbox_key_is_another_one() -> None:
    assert ALICE.mailbox_key.public not in ALICE.public.encode()
    assert is_proof(ALICE.mailbox_key.public, ALICE.mailbox_key.sign(b"claim"), b"claim")
    signature = ALICE.sign_for_mailbox(b"domain", b"message")
    assert is_signed(ALICE.mailbox_key.public, b"domain", b"message", signature)
    assert not is_signed(ALICE.public.signing, b"domain", b"message", signature)


def test_the_secret_comes_back_and_is_not_shown() -> None:
    assert Identity(ALICE.reveal()).public == ALICE.public
    for shown in (repr(ALICE), repr(ALICE.mailbox_key), repr(ALICE.public)):
        assert ALICE.reveal()[:4].hex() not in shown
    for size in (0, SECRET_SIZE - 1, SECRET_SIZE + 1):
        with pytest.raises(IdentityDamaged):
            Identity(bytes(size))
    with pytest.raises(ValueError):
        PublicIdentity(bytes(31), bytes(32))


def test_a_fingerprint_is_sixteen_bytes_in_groups() -> None:
    groups = ALICE.public.fingerprint.split(" ")
    assert len(groups) == 8
    assert all(len(group) == 4 and int(group, 16) >= 0 for group in groups)
