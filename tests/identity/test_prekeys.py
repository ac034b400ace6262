"""Prekeys: the calendar of the ring, the signature, and what is refused."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import CardRefused, IdentityDamaged
from relaycall.identity.keys import Identity
from relaycall.identity.prekeys import (
    DELETE_AFTER,
    MAX_KEPT,
    MAX_RETIRED,
    ROTATE_AFTER,
    SIGNED_SIZE,
    Prekey,
    Prekeys,
    PublicPrekey,
    SignedPrekey,
)

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
DAY = 86400
NOW = 1_700_000_000
OWNER = Identity(bytes(range(96)))
OTHER = Identity(bytes(range(1, 97)))
SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def random(number: int) -> bytes:
    """96 bytes, others for each number."""
    return hashlib.shake_256(number.to_bytes(4, "big")).digest(96)


RING = Prekeys.make(NOW, random(0))
SIGNED = SignedPrekey.make(OWNER, RING.current.public)
# Points of low order, as RFC 7748, section 6.1, warns of: of order 1, 4 and 8, and 1 once more as p + 1.
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def weekly(weeks: int) -> Prekeys:
    """A ring that was rotated each week."""
    ring = RING
    for week in range(1, weeks + 1):
        ring = ring.rotate(NOW + week * ROTATE_AFTER, random(week))
    return ring


# --- the known answer ------------------------------------------------------------------------------------------------


def test_the_known_answer_in_the_protocol() -> None:
    """What docs/protocol.md prints, computed again without the library."""
    section = PROTOCOL.read_text().split("## Identity: cards and prekeys")[1].split("\n## ")[0]
    entries = re.findall(r"^ {4}(\w[\w ]*?) += ((?:[0-9a-f]+\n? *)+)$", section, re.MULTILINE)
    told = {name: bytes.fromhex("".join(value.split())) for name, value in entries}
    mlkem = MLKEM768PrivateKey.from_seed_bytes(bytes(range(0x60, 0xA0))).public_key().public_bytes_raw()
    x25519 = X25519PrivateKey.from_private_bytes(bytes(range(0xA0, 0xC0))).public_key().public_bytes_raw()
    assert hashlib.sha256(mlkem).digest() == told["mlkem sha256"]
    assert x25519 == told["prekey x25519"]
    assert hashlib.sha256(b"relaycall prekey id 1\0" + mlkem + x25519).digest() == told["prekey id"]
    public = mlkem + x25519 + (1700000000).to_bytes(8, "big")
    identity = told["signing key"] + told["agreement key"]
    signed = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).sign(
        b"relaycall prekey signature 1\0" + identity + public
    )
    assert signed == told["prekey signature"]
    # ... and with it.
    ours = Prekeys.make(1700000000.9, bytes(range(0x60, 0xC0))).current
    assert ours.id == told["prekey id"]
    assert SignedPrekey.make(OWNER, ours.public).encode() == b"\1" + public + signed


# --- signed prekeys --------------------------------------------------------------------------------------------------


def test_what_is_sealed_to_the_public_part_is_opened_by_the_private_one() -> None:
    prekey = SignedPrekey.decode(SIGNED.encode()).verify(OWNER.public, NOW)
    assert prekey == RING.current.public
    assert SUITE.decrypt(SUITE.encrypt(b"hello", prekey.hpke_key()), RING.current.hpke_key()) == b"hello"


def test_its_size() -> None:
    assert len(SIGNED.encode()) == SIGNED_SIZE == 1289


@pytest.mark.parametrize("age", [-120, 0, DELETE_AFTER - 1])
def test_the_ages_it_may_have(age: int) -> None:
    assert SIGNED.verify(OWNER.public, NOW + age) == RING.current.public


@pytest.mark.parametrize(("age", "rule"), [(-121, "from the future"), (DELETE_AFTER, "too old"), (10**12, "too old")])
def test_the_ages_it_may_not_have(age: int, rule: str) -> None:
    with pytest.raises(CardRefused, match=rule):
        SIGNED.verify(OWNER.public, NOW + age)


def test_another_owner() -> None:
    """Neither is somebody else's prekey theirs, nor one that they signed over to another identity."""
    with pytest.raises(CardRefused, match="not signed by its owner"):
        SIGNED.verify(OTHER.public, NOW)
    halves = type(OWNER.public)(OWNER.public.signing, OTHER.public.agreement)
    with pytest.raises(CardRefused, match="not signed by its owner"):
        SIGNED.verify(halves, NOW)


@given(st.integers(0, SIGNED_SIZE * 8 - 1))
def test_each_bit_counts(bit: int) -> None:
    changed = bytearray(SIGNED.encode())
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CardRefused):
        SignedPrekey.decode(bytes(changed)).verify(OWNER.public, NOW)


@given(st.binary(max_size=SIGNED_SIZE + 1) | st.binary(min_size=SIGNED_SIZE, max_size=SIGNED_SIZE))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CardRefused):
        SignedPrekey.decode(data).verify(OWNER.public, NOW)


@given(st.integers(0, SIGNED_SIZE - 1))
def test_cut_short(length: int) -> None:
    for data in (SIGNED.encode()[:length], SIGNED.encode() + b"\0"):
        with pytest.raises(CardRefused, match="1289 bytes"):
            SignedPrekey.decode(data)


def test_another_version() -> None:
    with pytest.raises(CardRefused, match="version"):
        SignedPrekey.decode(b"\2" + SIGNED.encode()[1:])


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_signed_key_of_low_order(point: str) -> None:
    bad = PublicPrekey(RING.current.public.mlkem, bytes.fromhex(point), NOW)
    with pytest.raises(CardRefused, match="is not one"):
        SignedPrekey.decode(SignedPrekey.make(OWNER, bad).encode())


def test_a_signed_mlkem_key_with_numbers_beyond_its_modulus() -> None:
    bad = PublicPrekey(b"\xff" * 1184, RING.current.public.x25519, NOW)
    with pytest.raises(CardRefused, match="is not one"):
        SignedPrekey.decode(SignedPrekey.make(OWNER, bad).encode())


@pytest.mark.parametrize(("mlkem", "x25519"), [(1183, 32), (1185, 32), (1184, 31), (1184, 33)])
def test_keys_of_another_size(mlkem: int, x25519: int) -> None:
    with pytest.raises(ValueError, match="1184 and 32"):
        PublicPrekey(bytes(mlkem), bytes(x25519), NOW)


# --- the ring by the calendar ----------------------------------------------------------------------------------------


def test_nothing_is_due_for_a_week() -> None:
    assert RING.rotate(NOW, random(1)) is RING
    assert RING.next_rotation() == NOW + ROTATE_AFTER
    assert RING.rotate(NOW + ROTATE_AFTER - 1, random(1)) is RING


def test_after_a_week_there_is_another_one() -> None:
    ring = RING.rotate(NOW + ROTATE_AFTER, random(1))
    assert [one.created for one in ring] == [NOW + ROTATE_AFTER, NOW]  # the current one first
    assert ring.current is ring.kept[-1]
    assert (ring.current.seed, ring.current.x25519) == (random(1)[:64], random(1)[64:])
    assert ring.retired == ()
    assert RING.kept == (RING.current,)  # the old ring is as it was


def test_after_two_weeks_the_first_is_deleted_and_remembered() -> None:
    ring = weekly(1)
    assert ring.next_rotation() == NOW + DELETE_AFTER
    ring = weekly(2)
    assert [one.created for one in ring.kept] == [NOW + ROTATE_AFTER, NOW + DELETE_AFTER]
    assert ring.retired == (RING.current.id,)
    assert ring.find(RING.current.id) is None
    assert ring.find(ring.current.id) is ring.current
    encoded = ring.encode()
    assert RING.current.seed not in encoded
    assert RING.current.x25519 not in encoded


def test_one_is_deleted_in_time_when_the_next_one_came_late() -> None:
    """The rotation is due two weeks after the oldest, not a week after the newest."""
    ring = RING.rotate(NOW + 10 * DAY, random(1))
    assert ring.next_rotation() == NOW + DELETE_AFTER
    assert ring.rotate(NOW + DELETE_AFTER - 1, random(2)) is ring
    later = ring.rotate(NOW + DELETE_AFTER, random(2))
    assert later.kept == (ring.current,)


def test_it_stays_small() -> None:
    ring = weekly(20)
    assert len(ring.kept) == 2
    assert ring.retired == tuple(weekly(week).kept[0].id for week in range(16, 20))
    assert len(ring.retired) == MAX_RETIRED


def test_a_long_pause() -> None:
    ring = weekly(3).rotate(NOW + 1000 * DAY, random(9))
    assert [one.created for one in ring] == [NOW + 1000 * DAY]
    assert {one.id for one in weekly(3)} < set(ring.retired)


# --- clocks that are wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [1, 3600, 30 * DAY, 400 * DAY, NOW])
def test_a_clock_set_back_deletes_nothing(back: int) -> None:
    ring = weekly(2)
    now = ring.current.created - back
    wrong = ring.rotate(now, random(9))
    assert set(ring.kept) <= set(wrong.kept)
    assert wrong.current.created <= now + 120  # or nobody would take it
    assert wrong.rotate(now, random(10)) is wrong  # once, and not at each look
    right = wrong.rotate(ring.current.created, random(11))
    assert right.current == ring.current


def test_a_clock_that_was_a_year_ahead() -> None:
    """All are too old by it, and are deleted: the sender is told so. What it made is of no use once it is right."""
    ahead = weekly(2).rotate(NOW + 365 * DAY, random(9))
    assert len(ahead.kept) == 1
    right = ahead.rotate(NOW + 15 * DAY, random(10))
    assert right.current.created == NOW + 15 * DAY
    assert right.find(ahead.current.id) is not None
    SignedPrekey.make(OWNER, right.current.public).verify(OWNER.public, NOW + 15 * DAY)


@pytest.mark.slow
@given(st.lists(st.integers(0, 60 * DAY), max_size=25))
def test_whatever_the_clock_does(times: list[int]) -> None:
    ring = RING
    made = {RING.current.id}
    for number, time in enumerate(times):
        before, ring = ring, ring.rotate(NOW + time, random(number + 1))
        made |= {one.id for one in ring}
        assert 1 <= len(ring.kept) <= MAX_KEPT
        assert len(ring.retired) <= MAX_RETIRED
        assert -120 <= NOW + time - ring.current.created < ROTATE_AFTER
        assert all(NOW + time - one.created < DELETE_AFTER for one in ring)
        gone = {one.id for one in before} - {one.id for one in ring}
        assert gone <= set(ring.retired)
        assert not {one.id for one in ring} & set(ring.retired)
        assert ring.rotate(NOW + time, random(999)) is ring
        assert Prekeys.decode(ring.encode()) == ring


# --- two rings -------------------------------------------------------------------------------------------------------


def test_what_two_programs_made_at_the_same_time_is_kept() -> None:
    one = RING.rotate(NOW + ROTATE_AFTER, random(1))
    two = RING.rotate(NOW + ROTATE_AFTER, random(2))
    for ring in (one.merge(two), two.merge(one)):
        rotated = ring.rotate(NOW + ROTATE_AFTER, random(3))
        assert {prekey.id for prekey in rotated} == {RING.current.id, one.current.id, two.current.id}
    merged = one.merge(two).rotate(NOW + ROTATE_AFTER, random(3))
    assert merged.merge(one) is merged
    assert merged.merge(two) is merged
    assert two.merge(one).rotate(NOW + ROTATE_AFTER, random(3)) == merged


def test_what_is_too_old_does_not_come_back() -> None:
    ring, now = weekly(3), NOW + 3 * ROTATE_AFTER
    assert ring.merge(RING).rotate(now, random(9)) == ring
    assert weekly(20).merge(RING).rotate(NOW + 20 * ROTATE_AFTER, random(9)).kept == weekly(20).kept


def test_what_was_deleted_by_either_is_remembered() -> None:
    now = NOW + DELETE_AFTER
    one = weekly(2)
    two = Prekeys.make(NOW - 1, random(50)).rotate(now, random(51))
    merged = one.merge(two).rotate(now, random(52))
    assert set(merged.retired) == {RING.current.id, *two.retired}
    assert merged.merge(one) is merged
    assert merged.merge(two) is merged


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40 * DAY)), max_size=12))
def test_merging_comes_to_an_end(steps: list[tuple[bool, int]]) -> None:
    """Two rings that go their own ways: after one exchange in each direction neither changes the other any more."""
    rings, now = [RING, RING], NOW
    for number, (which, time) in enumerate(steps):
        now = NOW + time
        rings[which] = rings[which].rotate(now, random(number + 1))
    one = rings[0].merge(rings[1]).rotate(now, random(90))
    two = one.merge(rings[1]).rotate(now, random(91))
    assert two == one
    assert len(one.kept) <= MAX_KEPT


# --- the ring kept ---------------------------------------------------------------------------------------------------


def test_the_ring_comes_back() -> None:
    for ring in (RING, weekly(1), weekly(9)):
        assert Prekeys.decode(ring.encode()) == ring
    full = Prekeys(tuple(Prekey(random(n)[:64], random(n)[64:], n) for n in range(4)), tuple(weekly(9).retired))
    assert len(full.encode()) == 547
    assert Prekeys.decode(full.encode()) == full


@given(st.binary(max_size=600))
def test_any_bytes_as_a_ring(data: bytes) -> None:
    with pytest.raises(IdentityDamaged):
        Prekeys.decode(data)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=40))
def test_a_ring_cut_short_or_longer(length: int, more: bytes) -> None:
    whole = weekly(9).encode()
    for data in (whole[: min(length, len(whole) - 1)], whole + more):
        with pytest.raises(IdentityDamaged):
            Prekeys.decode(data)


def test_a_ring_with_one_twice_or_without_any() -> None:
    entry = RING.encode()[2:-1]
    twice = b"\1\2" + entry + entry + b"\0"
    retired = RING.encode()[:-1] + b"\1" + RING.current.id
    five = weekly(9).encode()[:-129] + b"\5" + bytes(range(160))
    for data in (twice, retired, five, b"\1\0\0", b"\2" + RING.encode()[1:]):
        with pytest.raises(IdentityDamaged) as caught:
            Prekeys.decode(data)
        assert "prekeys" in caught.value.sentence


def test_randomness_of_another_size() -> None:
    for size in (0, 95, 97):
        with pytest.raises(ValueError, match="96 bytes"):
            Prekeys.make(NOW, bytes(size))


def test_no_repr_shows_a_key() -> None:
    shown = repr([RING, RING.current, RING.current.public, SIGNED, weekly(3)])
    for key in (RING.current.seed, RING.current.x25519, RING.current.public.x25519, SIGNED.signature):
        assert key.hex() not in shown
        assert repr(key)[2:12] not in shown
