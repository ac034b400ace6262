"""Envelopes: what goes in comes out, at what size and age, and what they show to who carries them."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.errors import MessageStale, MessageTooLarge
from relaycall.identity.envelope import CONTENT_SIZE, Message, Seal, check_age
from tests.identity.enclosing import (
    ONE_OF_EACH,
    PREFIX,
    SIZE,
    content,
    enclosed,
    every_seal,
    filled,
    key_of,
    opened,
    sealed,
    signed,
)
from tests.identity.people import ALICE, BOB, NOW

# --- round trips ------------------------------------------------------------------------------------------------------


@every_seal
@given(
    message=st.integers(0, 255),
    body=st.binary(max_size=1400),
    prekey=st.binary(max_size=1400),
    counter=st.integers(0, 2**64 - 1),
    now=st.integers(0, 2**33),
)
@settings(max_examples=50)
def test_round_trip(
    kind: Seal, compact: bool, message: int, body: bytes, prekey: bytes, counter: int, now: int
) -> None:
    envelope = sealed(kind, message=message, body=body, prekey=prekey, counter=counter, now=float(now), compact=compact)
    assert len(envelope) == SIZE
    assert opened(envelope) == Message(message, body, prekey, ALICE.public, counter, float(now), kind)


@every_seal
@pytest.mark.parametrize("prekey", [0, 1289, CONTENT_SIZE])
def test_content_of_the_greatest_size_and_one_byte_more(kind: Seal, compact: bool, prekey: int) -> None:
    parts = bytes(CONTENT_SIZE - prekey), bytes(prekey)
    message = opened(sealed(kind, body=parts[0], prekey=parts[1], compact=compact))
    assert (message.body, message.prekey) == parts
    for more in ((parts[0] + b"\0", parts[1]), (parts[0], parts[1] + b"\0"), (bytes(2**17), b"")):
        with pytest.raises(MessageTooLarge):
            sealed(kind, body=more[0], prekey=more[1], compact=compact)


@pytest.mark.parametrize(("kind", "least"), [(Seal.PREKEY, 1344), (Seal.IDENTITY, 256)])
def test_sizes_of_compact_envelopes(kind: Seal, least: int) -> None:
    overhead = {Seal.PREKEY: 1289, Seal.IDENTITY: 201}[kind]
    for body in (0, least - overhead, least - overhead + 1, 1000, CONTENT_SIZE):
        envelope = sealed(kind, body=b"\xff" * body, compact=True)
        size = max(least, math.ceil((overhead + body) / 64) * 64)
        assert not any(envelope[size:])
        assert any(envelope[size - 64 : size])
        assert len(opened(envelope).body) == body


def test_without_compact_all_of_it_is_ciphertext() -> None:
    for kind in Seal:
        assert all(any(sealed(kind)[at : at + 8]) for at in range(0, SIZE, 8))


@pytest.mark.parametrize("counter", [0, 2**64 - 1])
@pytest.mark.parametrize("sent_ms", [0, 2**64 - 1])
def test_extremes_of_counter_and_time(counter: int, sent_ms: int) -> None:
    inside = filled(content(counter=counter, sent_ms=sent_ms))
    message = opened(enclosed(signed(inside, BOB.to_prekey), BOB.to_prekey))
    assert message.counter == counter
    assert message.sent_at == sent_ms / 1000
    with pytest.raises(MessageStale):
        check_age(message, NOW)
    assert opened(sealed(counter=counter, now=0.0)).counter == counter


# --- what who carries it sees -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Seal)
def test_two_envelopes_of_one_message_share_nothing(kind: Seal) -> None:
    one, other = sealed(kind), sealed(kind)
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 64, "16 by chance"
    assert not {one[at : at + 5] for at in range(SIZE - 4)} & {other[at : at + 5] for at in range(SIZE - 4)}


@every_seal
def test_nothing_that_is_known_of_either_side_stands_in_it(kind: Seal, compact: bool) -> None:
    envelope = sealed(kind, body=b"hello, this is Alice", compact=compact).rstrip(b"\0")
    key_id = key_of(BOB, kind).id
    told = [ALICE.public.encode(), BOB.public.encode(), key_id, BOB.prekey.public.encode(), b"hello, this is Alice"]
    for known in told:
        assert not any(known[at : at + 5] in envelope for at in range(len(known) - 4))


MLKEM_TEN_BITS = [round(1024 * x / 3329) % 1024 for x in range(3329)]  # FIPS 203: Compress, d = 10
FOUR_WAYS = {value for value in set(MLKEM_TEN_BITS) if MLKEM_TEN_BITS.count(value) == 4}  # others come in three
MLKEM_SHARE, RANDOM_SHARE = 4 * len(FOUR_WAYS) / 3329, len(FOUR_WAYS) / 1024  # 0.309 and 0.251


def four_ways(ciphertexts: list[bytes]) -> float:
    """How often a coefficient of an ML-KEM ciphertext has one of the values that four numbers are compressed to."""
    found = []
    for ciphertext in ciphertexts:
        bits = int.from_bytes(ciphertext[:960], "little")
        found += [(bits >> 10 * index & 1023) in FOUR_WAYS for index in range(768)]
    return statistics.fmean(found)


def test_both_seals_look_alike() -> None:
    """An ML-KEM ciphertext is not evenly distributed, so random bytes could be told from it: these are not random."""
    envelopes = {kind: [sealed(kind) for _ in range(60)] for kind in Seal}
    for found in envelopes.values():
        assert four_ways([envelope[4:] for envelope in found]) == pytest.approx(MLKEM_SHARE, abs=0.015)
        assert not any(envelope[PREFIX - 1] & 0x80 for envelope in found), "the highest bit of an X25519 key"
        rest = b"".join(envelope[PREFIX:] for envelope in found)
        assert int.from_bytes(rest, "big").bit_count() / len(rest) / 8 == pytest.approx(0.5, abs=0.005)
    control = random.Random(1)
    noise = four_ways([control.randbytes(960) for _ in range(60)])
    assert noise == pytest.approx(RANDOM_SHARE, abs=0.015), "the witness sees the difference"


def test_kind_and_size_do_not_change_the_distribution() -> None:
    for message, size in ((0, 0), (255, CONTENT_SIZE)):
        rest = b"".join(sealed(message=message, body=bytes(size))[PREFIX:] for _ in range(40))
        assert int.from_bytes(rest, "big").bit_count() / len(rest) / 8 == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    ("age", "max_age", "fresh"),
    [
        (0.0, 60.0, True),
        (-120.0, 60.0, True),
        (-120.001, 60.0, False),
        (180.0, 60.0, True),
        (180.001, 60.0, False),
        (720.0, 600.0, True),
        (720.001, 600.0, False),
        (math.inf, 60.0, False),
        (-math.inf, 60.0, False),
        (math.nan, 60.0, False),
    ],
)
def test_age(age: float, max_age: float, fresh: bool) -> None:
    message = opened(ONE_OF_EACH[Seal.PREKEY, False])
    if fresh:
        check_age(message, NOW + age, max_age=max_age)
    else:
        with pytest.raises(MessageStale):
            check_age(message, NOW + age, max_age=max_age)


def test_no_repr_shows_what_is_inside() -> None:
    message = opened(sealed(body=b"secret words"))
    assert repr(message) == "<message of kind 7>"
    assert "secret" not in f"{message}"
