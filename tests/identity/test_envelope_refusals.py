"""Envelopes that are refused, and as what: altered on the way, or wrong inside."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relaycall.errors import (
    CardRefused,
    MessageRefused,
    NotForUs,
    PrekeyRetired,
    SignatureRefused,
)
from relaycall.identity.envelope import (
    CONTENT_SIZE,
    OpeningKey,
    RecipientKey,
    Seal,
    open_envelope,
    seal,
    to_identity,
)
from relaycall.identity.keys import PublicIdentity
from tests.identity.enclosing import (
    BARE_PREFIX,
    ONE_OF_EACH,
    PREFIX,
    SIZE,
    content,
    enclosed,
    every_seal,
    filled,
    opened,
    plaintext_of,
    sealed,
    selector,
    signed,
)
from tests.identity.people import ALICE, BOB, CAROL, LOW_ORDER, MALLORY, NOW


@pytest.mark.parametrize("to", [BOB.to_prekey, BOB.to_identity], ids=["prekey", "identity"])
def test_envelopes_made_by_the_description_open(to: RecipientKey) -> None:
    """Without this the refusals below would show nothing."""
    inside = filled(content(prekey=b"a prekey"))
    message = opened(enclosed(signed(inside, to), to))
    assert (message.kind, message.body, message.prekey, message.counter) == (7, b"hello", b"a prekey", 5)
    assert message.sender == ALICE.public
    assert message.sent_at == NOW
    if isinstance(to.key, X25519PublicKey):
        inside = filled(content(), BARE_PREFIX)
        assert opened(enclosed(signed(inside, to), to, stand_in=b"")).body == b"hello"


# --- refusals: from outside -------------------------------------------------------------------------------------------


@every_seal
def test_another_recipient(kind: Seal, compact: bool) -> None:
    envelope = ONE_OF_EACH[kind, compact]
    assert opened(envelope).body == b"hello" * 10
    for keys in (CAROL.keys, []):
        with pytest.raises(NotForUs):
            open_envelope(envelope, CAROL.identity, keys)


@every_seal
@given(at=st.integers(0, SIZE - 1), change=st.integers(1, 255))
@example(0, 1)
@example(3, 128)
@example(BARE_PREFIX - 1, 128)  # X25519 does not look at this bit
@example(PREFIX - 1, 128)
@example(PREFIX, 1)
@example(SIZE - 1, 1)
@settings(max_examples=300)
def test_any_changed_byte(kind: Seal, compact: bool, at: int, change: int) -> None:
    envelope = bytearray(ONE_OF_EACH[kind, compact])
    envelope[at] ^= change
    with pytest.raises(NotForUs):
        opened(bytes(envelope))


@every_seal
@given(size=st.integers(0, SIZE - 1))
def test_truncated(kind: Seal, compact: bool, size: int) -> None:
    envelope = ONE_OF_EACH[kind, compact]
    with pytest.raises(NotForUs):
        opened(envelope[:size])
    cut = envelope[:size].ljust(SIZE, b"\0")
    if cut != envelope:
        with pytest.raises(NotForUs):
            opened(cut)


@every_seal
@pytest.mark.parametrize("more", [b"\0", b"x", bytes(64), bytes(SIZE)])
def test_extended(kind: Seal, compact: bool, more: bytes) -> None:
    for envelope in (ONE_OF_EACH[kind, compact] + more, more + ONE_OF_EACH[kind, compact]):
        with pytest.raises(NotForUs):
            opened(envelope)
    if compact:
        used = ONE_OF_EACH[kind, compact].rstrip(b"\0")
        with pytest.raises(NotForUs):
            opened((used + b"x").ljust(SIZE, b"\0"))


@every_seal
@given(at=st.integers(1, SIZE - 1))
@example(4)
@example(4 + 1088)
@example(PREFIX)
@example(BARE_PREFIX)
def test_spliced(kind: Seal, compact: bool, at: int) -> None:
    one, other = ONE_OF_EACH[kind, compact], sealed(kind, body=b"hello" * 10, compact=compact)
    spliced = one[:at] + other[at:]
    if spliced not in (one, other):
        with pytest.raises(NotForUs):
            opened(spliced)


def test_the_two_seals_spliced() -> None:
    """The ML-KEM ciphertext of one before the X25519 part of the other, under a right selector."""
    to_prekey, to_long_term = ONE_OF_EACH[Seal.PREKEY, False], ONE_OF_EACH[Seal.IDENTITY, False]
    for one, other in ((to_prekey, to_long_term), (to_long_term, to_prekey)):
        for to in (BOB.to_prekey, BOB.to_identity):
            inner = one[4 : 4 + 1088] + other[4 + 1088 :]
            with pytest.raises(NotForUs):
                opened(selector(to.id, inner[:1120]) + inner)


def test_a_prekey_has_one_form_of_selector() -> None:
    """Else who knows the key could give the same envelope other bytes, and so another name."""
    envelope = ONE_OF_EACH[Seal.PREKEY, False]
    with pytest.raises(NotForUs):
        opened(selector(BOB.prekey.id, envelope[4:BARE_PREFIX]) + envelope[4:])


@pytest.mark.parametrize("compact", [False, True])
def test_a_deleted_prekey(compact: bool) -> None:
    envelope = ONE_OF_EACH[Seal.PREKEY, compact]
    retired = OpeningKey(BOB.prekey.id, None)
    with pytest.raises(PrekeyRetired):
        open_envelope(envelope, BOB.identity, [*CAROL.keys, retired])
    for other in (ONE_OF_EACH[Seal.IDENTITY, compact], sealed(recipient=CAROL, compact=compact)):
        with pytest.raises(NotForUs):
            open_envelope(other, BOB.identity, [retired])


# --- refusals: what is inside -----------------------------------------------------------------------------------------


def test_forwarded() -> None:
    """Bob seals what Alice has signed for him to somebody else, or to another key of his own."""
    inside = plaintext_of(sealed())
    for to, reader in ((CAROL.to_prekey, CAROL), (CAROL.to_identity, CAROL), (BOB.to_identity, BOB)):
        with pytest.raises(SignatureRefused):
            opened(enclosed(inside, to), reader)
    assert opened(enclosed(inside, BOB.to_prekey)).body == b"hello", "to the same key it is a replay"


def test_signed_by_another() -> None:
    inside = filled(content())
    forged = [
        signed(inside, BOB.to_prekey, by=MALLORY.identity),
        signed(inside, BOB.to_prekey, recipient=MALLORY),
        signed(inside, BOB.to_identity),
        inside + bytes(64),
        inside + ALICE.identity.sign(b"relaycall envelope 1", BOB.public.encode() + BOB.prekey.id + inside),
    ]
    for plaintext in forged:
        with pytest.raises(SignatureRefused):
            opened(enclosed(plaintext, BOB.to_prekey))


@pytest.mark.parametrize("sign", [0, 0x80])
def test_a_sender_for_whom_anybody_can_sign(sign: int) -> None:
    """The neutral point as signing key: this signature fits any message."""
    neutral = b"\1" + bytes(30) + bytes([sign])
    inside = filled(content(PublicIdentity(neutral, ALICE.public.agreement)))
    with pytest.raises(SignatureRefused):
        opened(enclosed(inside + b"\1" + bytes(63), BOB.to_prekey))


def test_another_sender_named() -> None:
    """Mallory puts her name to what Alice signed, wholly or half."""
    inside = plaintext_of(sealed())
    alice, mallory = ALICE.public, MALLORY.public
    half = PublicIdentity(alice.signing, mallory.agreement), PublicIdentity(mallory.signing, alice.agreement)
    for named in (mallory, *half):
        with pytest.raises(SignatureRefused):
            opened(enclosed(named.encode() + inside[64:], BOB.to_prekey))


@given(data=st.data())
def test_any_changed_byte_inside(data: st.DataObject) -> None:
    inside = bytearray(plaintext_of(ONE_OF_EACH[Seal.PREKEY, False]))
    inside[data.draw(st.integers(0, len(inside) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SignatureRefused):
        opened(enclosed(bytes(inside), BOB.to_prekey))


def refused(inside: bytes, to: RecipientKey) -> None:
    """Signed rightly, and refused as what breaks a rule."""
    with pytest.raises(MessageRefused) as error:
        opened(enclosed(signed(inside, to), to))
    assert type(error.value) is MessageRefused


@pytest.mark.parametrize("to", [BOB.to_prekey, BOB.to_identity], ids=["prekey", "identity"])
@pytest.mark.parametrize(
    "lengths", [(0, 65535), (65535, 0), (65535, 65535), (0, CONTENT_SIZE + 1), (1, CONTENT_SIZE), (0, 4), (4, 0)]
)
def test_lengths_that_lie(to: RecipientKey, lengths: tuple[int, int]) -> None:
    refused(filled(content(lengths=lengths)), to)


@pytest.mark.parametrize("to", [BOB.to_prekey, BOB.to_identity], ids=["prekey", "identity"])
@given(at=st.integers(0, CONTENT_SIZE - 6), value=st.integers(1, 255))
@settings(max_examples=30)
def test_padding_that_is_not_zero(to: RecipientKey, at: int, value: int) -> None:
    inside = bytearray(filled(content()))
    inside[len(content()) + at] = value
    refused(bytes(inside), to)


@pytest.mark.parametrize("size", [12, 76, 140])
def test_too_short_inside(size: int) -> None:
    with pytest.raises(MessageRefused) as error:
        opened(enclosed(b"x" * size, BOB.to_prekey))
    assert type(error.value) is MessageRefused


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8] + point.hex()[-2:])
def test_points_of_low_order(point: bytes) -> None:
    """As encapsulated key: everybody would know the secret. As recipient's key: nothing is sealed to it."""
    for to, stand_in in ((BOB.to_prekey, bytes(1088)), (BOB.to_identity, bytes(1088)), (BOB.to_identity, b"")):
        inner = stand_in + point
        with pytest.raises(NotForUs):
            opened((selector(to.id, inner) + inner).ljust(SIZE, b"\1"))
    whose = PublicIdentity(BOB.public.signing, point)
    with pytest.raises(CardRefused):
        seal(ALICE.identity, whose, to_identity(whose), kind=1, body=b"", counter=1, now=NOW)
