"""The layouts of what phones say to each other, and what becomes of any other bytes."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.call.messages import Kind, is_tag, offer_body, read_call_id, read_offer, tag
from relaycall.errors import HandshakeRefused
from relaycall.identity.envelope import CONTENT_SIZE
from relaycall.identity.sealer import INTRODUCTION

PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
SECTION = PROTOCOL.split("\n## Call messages\n")[1].split("\n## ")[0]

KEY, CALL_ID = bytes(range(32)), bytes(range(16))
KEYS, CALL_IDS = st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16)


@given(st.binary(max_size=2000), st.binary(max_size=2000))
def test_an_offer_is_read_as_it_was_written(card: bytes, offer: bytes) -> None:
    assert read_offer(offer_body(card, offer)) == (card, offer)


@given(st.binary(max_size=CONTENT_SIZE))
def test_any_bytes_are_an_offer_or_refused(body: bytes) -> None:
    try:
        card, offer = read_offer(body)
    except HandshakeRefused:
        assert len(body) < 2 or len(body) - 2 < int.from_bytes(body[:2], "big")
    else:
        assert offer_body(card, offer) == body


@given(st.binary(max_size=200))
def test_any_bytes_are_about_a_call_or_refused(body: bytes) -> None:
    try:
        call_id, rest = read_call_id(body)
    except HandshakeRefused:
        assert len(body) < 16
    else:
        assert len(call_id) == 16
        assert call_id + rest == body


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\1", b"\xff\xff" + bytes(65534)])
def test_an_offer_that_is_cut_short(body: bytes) -> None:
    with pytest.raises(HandshakeRefused, match="length"):
        read_offer(body)


def test_an_offer_without_a_card_or_an_offer() -> None:
    """Empty parts are refused where they are read; here they are parts."""
    assert read_offer(b"\0\0") == (b"", b"")


@given(KEYS, CALL_IDS)
def test_the_tag_is_that_of_its_key_and_call(key: bytes, call_id: bytes) -> None:
    assert tag(key, call_id) == hmac.digest(key, b"relaycall hung up 1\0" + call_id, hashlib.sha256)
    assert is_tag(key, call_id, tag(key, call_id))
    assert not is_tag(bytes([key[0] ^ 1]) + key[1:], call_id, tag(key, call_id))
    assert not is_tag(key, bytes([call_id[0] ^ 1]) + call_id[1:], tag(key, call_id))


@given(KEYS, CALL_IDS, st.binary(max_size=40))
def test_other_bytes_are_no_tag(key: bytes, call_id: bytes, found: bytes) -> None:
    assert is_tag(key, call_id, found) is (found == tag(key, call_id))


def test_with_a_key_that_is_erased_nothing_is_a_tag() -> None:
    for found in (b"", tag(b"", CALL_ID), bytes(32)):
        assert not is_tag(b"", CALL_ID, found)


def test_the_known_answer_in_the_document() -> None:
    assert f"    tag = {tag(KEY, CALL_ID).hex()}\n" in SECTION


def test_the_kinds_in_the_document() -> None:
    """What is not in this table has a section of its own."""
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|", SECTION, re.M)
    assert rows == [(str(kind.value), kind.name.lower().replace("_", " ")) for kind in Kind if kind < 32]


def test_an_introduction_is_what_the_sealer_takes_for_one() -> None:
    assert INTRODUCTION == Kind.INTRODUCTION
    assert all(0 <= kind <= 255 for kind in Kind)
