"""The bytes of a vault: they open with the passphrase, and in no other way."""

from __future__ import annotations

import json
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaycall.errors import StoreError, VaultDamaged, VaultRefused
from relaycall.redact import Secret
from relaycall.store.vault_format import (
    COST,
    HIGHEST,
    LOWEST,
    MAX_SIZE,
    Cost,
    Header,
    decode_header,
    derive_key,
    seal,
    unseal,
)

HEADER = Header(LOWEST, bytes(range(16)), bytes(range(100, 112)))
PASSPHRASE = Secret("correct horse")
KEY = derive_key(PASSPHRASE, HEADER.salt, HEADER.cost)
ENTRIES = {"work": Secret("p4ss"), "home": Secret("ü\udcff\n")}
SEALED = seal(ENTRIES, KEY, HEADER)
NAME = "/somewhere/vault"

# Made once by this version, so that later ones still read it.
FIRST_VAULT = bytes.fromhex(
    "524c595641554c540100004c000000000101000102030405060708090a0b0c0d0e0f6465666768696a6b6c6d6e6f7da43dfa"
    "5cc664879fb7c41ba79c2ae4106dd3d9401b02eb2c71c8f2aa4c6427b224837f2580c24f7202ca7025cc5081933540392761"
    "5d"
)


def opened(data: bytes) -> dict[str, Secret]:
    """As a store does it."""
    header = decode_header(data, NAME)
    key = KEY if header[:2] == HEADER[:2] else derive_key(PASSPHRASE, header.salt, header.cost)
    return unseal(data, key, NAME)


def test_a_vault_opens_with_what_it_was_sealed_with() -> None:
    assert opened(SEALED) == ENTRIES
    assert opened(seal({}, KEY, HEADER)) == {}


def test_the_layout_is_the_documented_one() -> None:
    magic, version, memory, iterations, lanes, salt, nonce = struct.unpack(">8sBIIB16s12s", SEALED[:46])
    assert (magic, version, memory, iterations, lanes) == (b"RLYVAULT", 1, *LOWEST)
    assert (salt, nonce) == (HEADER.salt, HEADER.nonce)
    plain = json.dumps({"home": "ü\udcff\n", "work": "p4ss"}, separators=(",", ":"))
    assert len(SEALED) == 46 + len(plain) + 16


def test_a_vault_of_the_first_version_still_opens() -> None:
    assert FIRST_VAULT[34:46] == HEADER.nonce
    assert opened(FIRST_VAULT) == ENTRIES
    assert FIRST_VAULT == SEALED  # canonical: the same in, the same out


def test_nothing_readable_is_in_it() -> None:
    for words in (b"work", b"home", b"p4ss", b"correct horse"):
        assert words not in SEALED


def test_the_cost_is_no_less_than_owasp_asks_for() -> None:
    assert COST.memory >= 19456
    assert COST.memory * COST.iterations >= 19456 * 2
    assert all(low <= value <= high for low, value, high in zip(LOWEST, COST, HIGHEST, strict=True))


def test_wrong_passphrase_and_altered_file_look_alike() -> None:
    texts = set()
    altered = SEALED[:-1] + bytes([SEALED[-1] ^ 1])
    for data, passphrase in ((SEALED, Secret("wrong horse")), (altered, PASSPHRASE)):
        with pytest.raises(VaultRefused) as caught:
            unseal(data, derive_key(passphrase, HEADER.salt, HEADER.cost), NAME)
        texts.add(str(caught.value))
    assert len(texts) == 1
    assert NAME in texts.pop()


@given(position=st.integers(0, len(SEALED) - 1), flipped=st.integers(1, 255))
def test_any_changed_byte_is_refused(position: int, flipped: int) -> None:
    data = bytearray(SEALED)
    data[position] ^= flipped
    with pytest.raises((VaultDamaged, VaultRefused)):
        # The cost is not spent: what changes it is refused by its limits, or gives another key.
        unseal(bytes(data), KEY if decode_header(bytes(data), NAME)[:2] == HEADER[:2] else bytes(32), NAME)


@given(length=st.integers(0, len(SEALED) - 1))
def test_any_cut_is_refused(length: int) -> None:
    with pytest.raises((VaultDamaged, VaultRefused)):
        opened(SEALED[:length])


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"RLYVAULT\x01" + rest))
@settings(max_examples=100)
def test_any_bytes_are_refused_and_cost_nothing(data: bytes) -> None:
    try:
        header = decode_header(data, NAME)
    except VaultDamaged:
        return
    assert header.cost <= HIGHEST
    with pytest.raises(VaultRefused):
        unseal(data, bytes(32), NAME)


@pytest.mark.parametrize(
    "cost",
    [
        Cost(0xFFFFFFFF, 3, 4),
        Cost(HIGHEST.memory + 1, 3, 4),
        Cost(COST.memory, 0xFFFFFFFF, 4),
        Cost(COST.memory, HIGHEST.iterations + 1, 4),
        Cost(COST.memory, 0, 4),
        Cost(COST.memory, 3, 0),
        Cost(COST.memory, 3, 255),
        Cost(0, 3, 4),
        Cost(LOWEST.memory - 1, 3, 4),
    ],
)
def test_a_hostile_cost_is_refused_before_it_is_spent(cost: Cost) -> None:
    data = seal(ENTRIES, KEY, Header(cost, HEADER.salt, HEADER.nonce))
    tracemalloc.start()
    with pytest.raises(VaultDamaged, match="cost"):
        decode_header(data, NAME)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a vault"),
        (b"RLYVAUL", "not a vault"),
        (b"x" * 500, "not a vault"),
        (SEALED[:61], "cut short"),
        (b"RLYVAULT", "cut short"),
        (SEALED + bytes(MAX_SIZE), "too long"),
        (SEALED[:8] + b"\x02" + SEALED[9:], "version 2"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, words: str) -> None:
    with pytest.raises(VaultDamaged, match=words) as caught:
        decode_header(data, NAME)
    assert NAME in caught.value.sentence


@given(st.dictionaries(st.text(), st.text(), max_size=20))
def test_any_names_and_secrets(entries: dict[str, str]) -> None:
    kept = {name: Secret(value) for name, value in entries.items()}
    assert unseal(seal(kept, KEY, HEADER), KEY, NAME) == kept


def test_a_vault_is_not_written_larger_than_one_may_be() -> None:
    with pytest.raises(StoreError, match="larger"):
        seal({"work": Secret("x" * MAX_SIZE)}, KEY, HEADER)


def test_a_passphrase_may_be_any_text() -> None:
    assert len({derive_key(Secret(text), HEADER.salt, LOWEST) for text in ("a", "ä", "\udcff", " a")}) == 4
