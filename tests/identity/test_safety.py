"""Safety numbers: libsignal's vectors, the same on both sides, different for everybody else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relaycall.identity.keys import Identity
from relaycall.identity.safety import (
    IDENTIFIER,
    SafetyNumber,
    Scan,
    fingerprint_half,
    safety_number,
    spoken_check,
)
from relaycall.identity.words import split_words, words_to_bytes

# libsignal, rust/protocol/src/fingerprint.rs: keys, identifiers, and what they give.
ALICE_KEY = bytes.fromhex("0506863bc66d02b40d27b8d49ca7c09e9239236f9d7d25d6fcca5ce13c7064d868")
BOB_KEY = bytes.fromhex("05f781b6fb32fed9ba1cf2de978d4d5da28dc34046ae814402b5c0dbd96fda907b")
LIBSIGNAL_DIGITS = "300354477692869396892869876765458257569162576843440918079131"
LIBSIGNAL_ALICE = "1e301a0353dce3dbe7684cb8336e85136cdc0ee96219494ada305d62a7bd61df"
LIBSIGNAL_BOB = "d62cbf73a11592015b6b9f1682ac306fea3aaf3885b84d12bca631e9d4fb3a4d"

ALICE, BOB, EVE = (Identity(hashlib.shake_256(name).digest(96)).public for name in (b"alice", b"bob", b"eve"))
OURS = safety_number(ALICE, BOB)
THEIRS = safety_number(BOB, ALICE)


def libsignal() -> SafetyNumber:
    return SafetyNumber(fingerprint_half(ALICE_KEY, b"+14152222222"), fingerprint_half(BOB_KEY, b"+14153333333"))


def test_libsignal_digits() -> None:
    number = libsignal()
    assert number.digits.replace(" ", "") == LIBSIGNAL_DIGITS
    assert SafetyNumber(number.theirs, number.ours).digits == number.digits


@pytest.mark.parametrize("version", [1, 2])
def test_libsignal_qr(version: int) -> None:
    number = libsignal()
    assert number.qr(version).hex() == f"080{version}12220a20{LIBSIGNAL_ALICE}1a220a20{LIBSIGNAL_BOB}"
    swapped = SafetyNumber(number.theirs, number.ours)
    assert swapped.qr(version).hex() == f"080{version}12220a20{LIBSIGNAL_BOB}1a220a20{LIBSIGNAL_ALICE}"


def test_known_answer() -> None:
    """As in docs/protocol.md."""
    assert OURS.digits == "46209 65814 79422 28989 26944 03771 84369 80695 54623 74254 46457 84106"
    assert " ".join(OURS.words) == (
        "framework torpedo alone inventive cranky sympathy eating aftermath revenge speculate virus "
        "hemisphere kiwi souvenir spaniel virginia stairway hazardous sawdust norwegian repay mosquito "
        "snapline sardonic"
    )
    assert hashlib.sha256(OURS.qr()).hexdigest() == "013b5f50d475be1e90fd18fe64f054ebefe41afba009f10b671f927048e7594f"


def test_both_sides_show_the_same() -> None:
    assert OURS.digits == THEIRS.digits
    assert OURS.words == THEIRS.words
    assert len(OURS.digits.split(" ")) == 12
    assert all(len(group) == 5 and group.isdecimal() for group in OURS.digits.split(" "))
    assert len(OURS.words) == 24


def test_others_show_another() -> None:
    other = safety_number(ALICE, EVE)
    assert other.digits != OURS.digits
    assert other.words != OURS.words
    assert fingerprint_half(ALICE.encode(), IDENTIFIER) != fingerprint_half(ALICE.encode(), b"another")


def test_the_words_are_of_both_halves() -> None:
    first, second = sorted((OURS.ours, OURS.theirs))
    assert words_to_bytes(OURS.words) == first[:12] + second[:12]


def test_scanning() -> None:
    other = safety_number(BOB, EVE)
    half_wrong = SafetyNumber(THEIRS.ours, other.theirs)
    assert OURS.compare(THEIRS.qr()) is Scan.MATCH
    assert OURS.compare(OURS.qr()) is Scan.OWN
    assert OURS.compare(other.qr()) is Scan.MISMATCH
    assert OURS.compare(half_wrong.qr()) is Scan.MISMATCH
    assert OURS.compare(THEIRS.qr(2)) is Scan.OTHER
    assert OURS.compare(THEIRS.qr()[:-1]) is Scan.OTHER
    assert OURS.compare(THEIRS.qr() + b"\0") is Scan.OTHER


@given(st.binary(max_size=100) | st.integers(0, 8 * 74 - 1).map(lambda bit: flipped(THEIRS.qr(), bit)))
@example(b"")
def test_nothing_else_matches(scanned: bytes) -> None:
    assert OURS.compare(scanned) in (Scan.MISMATCH, Scan.OTHER)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@settings(max_examples=20)
@given(st.integers(0, 8 * 64 - 1))
def test_every_bit_of_a_key_counts(bit: int) -> None:
    key = flipped(ALICE.encode(), bit)
    assert fingerprint_half(key, IDENTIFIER) != OURS.ours


def test_leading_zeros_are_shown() -> None:
    number = SafetyNumber(bytes(32), bytes(4) + b"\x07" + bytes(27))
    assert number.digits == "00000 " * 6 + "00007 " + " ".join(["00000"] * 5)


def test_the_spoken_check() -> None:
    words = spoken_check(bytes(32))
    assert words == "neptune-disable-watchword-waterloo"  # as in docs/protocol.md
    assert len(words_to_bytes(split_words(words))) == 4
    assert spoken_check(bytes(31) + b"\x01") != words
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            spoken_check(wrong)
