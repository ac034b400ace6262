"""A contact as it is kept, and who may ring."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relaycall.errors import (
    ConfigError,
    IdentityDamaged,
    MessageRefused,
    NotVerified,
)
from relaycall.identity.contact import (
    MAX_COUNTER,
    Strangers,
    Unverified,
    decode_contact,
    encode_contact,
    may_ring,
)
from relaycall.identity.contacts import ContactBook
from relaycall.redact import Secret
from tests.identity.address_book import BOB
from tests.identity.stores import MemoryStore

# --- entries ----------------------------------------------------------------------------------------------------------


KEPT = encode_contact(BOB)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: base64.b64encode(data).decode()))
@example("A" * 100_000)
@example("\ud800")
@example(KEPT.reveal() + "AAAA")
@example(KEPT.reveal() + "\n")
def test_any_text_is_damage(kept: str) -> None:
    with pytest.raises(IdentityDamaged) as damaged:
        decode_contact(BOB.entry, Secret(kept))
    assert BOB.entry in str(damaged.value)
    assert damaged.value.__context__ is None


@given(st.integers(0, 8 * len(base64.b64decode(KEPT.reveal())) - 1))
def test_a_changed_bit_is_damage_or_another_contact(bit: int) -> None:
    data = bytearray(base64.b64decode(KEPT.reveal()))
    data[bit // 8] ^= 1 << bit % 8
    try:
        contact = decode_contact(BOB.entry, Secret(base64.b64encode(data).decode()))
    except IdentityDamaged:
        return
    assert contact != BOB
    assert contact.identity == BOB.identity


def test_an_entry_has_one_encoding() -> None:
    """The same values in a longer form: the serial 1 as an integer of two bytes."""
    data = base64.b64decode(KEPT.reveal())
    at = data.index(BOB.signaling.encode()) + len(BOB.signaling)
    assert data[at] == 1
    with pytest.raises(IdentityDamaged):
        decode_contact(BOB.entry, Secret(base64.b64encode(data[:at] + b"\xcc" + data[at:]).decode()))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a\nb"},
        {"mailbox": bytes(31)},
        {"signaling": "no url"},
        {"signaling": "wss://" + "x" * 200},
        {"serial": 0},
        {"first_seen": -1},
        {"sent": MAX_COUNTER + 1},
        {"received": -1},
        {"replaces": "work"},
    ],
    ids=str,
)
def test_what_could_not_be_read_again_is_not_kept(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        encode_contact(replace(BOB, **changes))  # type: ignore[arg-type]


def test_the_largest_contact_is_below_a_kibibyte() -> None:
    largest = replace(
        BOB,
        name="\U0001f98a" * 64,
        signaling="wss://" + "x" * 194,
        serial=2**32 - 1,
        first_seen=2**40 - 1,
        sent=MAX_COUNTER,
        received=MAX_COUNTER,
        replaces=BOB.entry,
    )
    kept = encode_contact(largest)
    assert decode_contact(BOB.entry, kept) == largest
    assert len(kept.reveal()) <= 1024


def test_known_answer() -> None:
    """As in docs/protocol.md."""
    assert BOB.entry == "contacts/af6d3880da8821e20e63d65a76e2d2ad"
    assert base64.b64decode(KEPT.reveal()).hex() == (
        "9c01a3426f62c4200eb6ae2998ef06a0fd8b0250d9aaf6ae87ed164a7e6be799411f9d5de4ce014dc420ea25c67c4a348eab"
        "f6daa5e49d46e6d78c87236acf3e94215fead1b58d544a14c420000000000000000000000000000000000000000000000000"
        "0000000000000000bb7773733a2f2f7369676e616c696e672e6578616d706c652e6f726701ce6b49d200c20000a0"
    )


def test_reprs_hold_no_secret() -> None:
    text = repr(replace(BOB, verified=True)) + repr(ContactBook(MemoryStore()))
    assert text == "<contact 'Bob', verified><contact book>"


# --- policy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unverified", Unverified)
@pytest.mark.parametrize("strangers", Strangers)
def test_who_may_ring(strangers: Strangers, unverified: Unverified) -> None:
    may_ring(replace(BOB, verified=True), strangers, unverified)
    if unverified is Unverified.RING:
        may_ring(BOB, strangers, unverified)
    else:
        with pytest.raises(NotVerified) as refused:
            may_ring(BOB, strangers, unverified)
        assert refused.value.name == "Bob"
    if strangers is Strangers.RING:
        may_ring(None, strangers, unverified)
    else:
        with pytest.raises(MessageRefused, match="stranger"):
            may_ring(None, strangers, unverified)
