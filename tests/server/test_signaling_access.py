"""Challenges and tokens: only what was given, only in time, and the same for every server of one store."""

from __future__ import annotations

import pytest

from relaycall.server.signaling_access import CHALLENGE_LIFETIME, SKEW, TOKEN_LIFETIME, Access, Holder
from relaycall.signaling.frames import Claim, CloseCode
from relaycall.signaling.keys import FreshKey, claim_message, is_proof, mailbox_of

NAMES = frozenset(["signaling.test"])
ONE, SAME, OTHER = Access(b"s" * 32, NAMES), Access(b"s" * 32, NAMES), Access(b"o" * 32, NAMES)
SESSION = b"n" * 16
NOW = 1_800_000_000.0


def claimed(nonce: bytes, name: str = "signaling.test", key: FreshKey | None = None) -> Claim:
    key = key or FreshKey()
    return Claim(name, SESSION, key.public, nonce, key.sign(claim_message(name, nonce, SESSION)))


def test_a_proof_is_accepted_by_every_server_of_the_store_in_time() -> None:
    claim = claimed(ONE.challenge(b"r" * 8, NOW))
    for now in (NOW, NOW + CHALLENGE_LIFETIME, NOW - SKEW):
        assert ONE.refusal(claim, now) is SAME.refusal(claim, now) is None
    assert OTHER.refusal(claim, NOW) is CloseCode.REFUSED
    for now in (NOW + CHALLENGE_LIFETIME + 0.1, NOW - SKEW - 0.1):
        assert ONE.refusal(claim, now) is CloseCode.TOO_SLOW


def test_a_name_of_another_server_is_told_apart() -> None:
    assert ONE.refusal(claimed(ONE.challenge(b"r" * 8, NOW), "other.test"), NOW) is CloseCode.MISNAMED


@pytest.mark.parametrize("place", range(32))
def test_a_challenge_with_one_bit_changed_is_refused(place: int) -> None:
    nonce = bytearray(ONE.challenge(b"r" * 8, NOW))
    nonce[place] ^= 1
    assert ONE.refusal(claimed(bytes(nonce)), NOW) is CloseCode.REFUSED


def test_a_token_names_its_holder_until_it_is_too_old() -> None:
    key = FreshKey()
    token = ONE.token(claimed(b"n" * 32, key=key), NOW)
    holder = Holder(mailbox_of(key.public), SESSION)
    assert ONE.holder(token, NOW + TOKEN_LIFETIME - 1) == SAME.holder(token, NOW) == holder
    assert ONE.holder(token, NOW + TOKEN_LIFETIME) is OTHER.holder(token, NOW) is None
    for wrong in (b"", token[:-1], token + b"\0", bytes(len(token))):
        assert ONE.holder(wrong, NOW) is None
    for place in range(len(token)):
        assert ONE.holder(token[:place] + bytes([token[place] ^ 1]) + token[place + 1 :], NOW) is None


def test_a_challenge_is_no_token_and_nothing_shows_the_secret() -> None:
    assert ONE.holder(ONE.challenge(b"r" * 8, NOW).ljust(88, b"\0"), NOW) is None
    assert "s" * 32 not in repr(ONE)
    assert repr(FreshKey()) == "FreshKey()"


def test_a_public_key_that_is_none_proves_nothing() -> None:
    for public in (bytes(32), b"\xff" * 32, b""):
        assert not is_proof(public, bytes(64), b"message")
