"""A contact as it is kept, and who may ring."""

from __future__ import annotations

import base64
import statistics
import time
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
    counters_entry,
    decode_contact,
    decode_counters,
    encode_contact,
    encode_counters,
    may_ring,
    prekey_entry,
)
from relaycall.identity.contacts import ContactBook
from relaycall.identity.prekeys import SIGNED_SIZE
from relaycall.redact import Secret
from tests.identity.address_book import BOB, card, identity
from tests.identity.stores import MemoryStore

# --- entries ----------------------------------------------------------------------------------------------------------


KEPT = encode_contact(BOB)
BOB_COUNTED = replace(BOB, sent=1_800_000_000_250_000, received=1_800_000_000_000_001)
COUNTED = encode_counters(BOB_COUNTED)


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


REFUSED = {
    "the last rule": encode_contact(replace(BOB, identity=identity("other").public)).reveal(),
    "no text of ours": "A" * 400_000 + "-",
    "nested": base64.b64encode(b"\x91" * 300_000).decode(),
    "far too long": base64.b64encode(base64.b64decode(KEPT.reveal()) + bytes(300_000)).decode(),
}


@pytest.mark.parametrize("kept", REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_takes_little_time(kept: str) -> None:
    """However long it is. The best of some medians: a busy machine is not a defect."""
    secret = Secret(kept)

    def median() -> float:
        times = []
        for _ in range(50):
            start = time.perf_counter()
            with pytest.raises(IdentityDamaged):
                decode_contact(BOB.entry, secret)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    assert min(median() for _ in range(3)) < 0.005


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
        {"replaces": "work"},
    ],
    ids=str,
)
def test_what_could_not_be_read_again_is_not_kept(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        encode_contact(replace(BOB, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("counter", [-1, MAX_COUNTER + 1, 2**80])
def test_counters_that_could_not_be_read_again_are_not_kept(counter: int) -> None:
    for counted in (replace(BOB, sent=counter), replace(BOB, received=counter)):
        with pytest.raises(ConfigError):
            encode_counters(counted)


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: base64.b64encode(data).decode()))
@example("A" * 100_000)
@example("\ud800")
@example(COUNTED.reveal() + "AAAA")
@example(COUNTED.reveal() + "\n")
@example(KEPT.reveal())
def test_any_text_is_no_counters(kept: str) -> None:
    with pytest.raises(IdentityDamaged) as damaged:
        decode_counters(counters_entry(BOB.entry), Secret(kept))
    assert counters_entry(BOB.entry) in str(damaged.value)


@given(st.integers(0, 8 * len(base64.b64decode(COUNTED.reveal())) - 1))
def test_a_changed_bit_is_damage_or_another_counter(bit: int) -> None:
    data = bytearray(base64.b64decode(COUNTED.reveal()))
    data[bit // 8] ^= 1 << bit % 8
    try:
        counters = decode_counters(counters_entry(BOB.entry), Secret(base64.b64encode(data).decode()))
    except IdentityDamaged:
        return
    assert counters != (BOB_COUNTED.sent, BOB_COUNTED.received)


def test_counters_have_one_encoding_one_version_and_one_owner() -> None:
    entry = counters_entry(BOB.entry)
    owner = bytes.fromhex(entry.removeprefix("counters/"))
    good = b"\x94\x01\xc4\x10" + owner + b"\x07\x08"
    assert decode_counters(entry, Secret(base64.b64encode(good).decode())) == (7, 8)
    for bad in (
        good[:-1] + b"\xcc\x08",  # 8 as an integer of two bytes
        good[:1] + b"\x02" + good[2:],
        good[:-1],
        b"\x95" + good[1:] + b"\x00",
        good[:-1] + b"\xff",
        good[:-1] + b"\xcf\x80" + bytes(7),
        good.replace(owner, bytes(16)),
    ):
        with pytest.raises(IdentityDamaged):
            decode_counters(entry, Secret(base64.b64encode(bad).decode()))


def test_the_largest_contact_is_below_a_kibibyte() -> None:
    largest = replace(
        BOB,
        name="\U0001f98a" * 64,
        signaling="wss://" + "x" * 194,
        serial=2**32 - 1,
        first_seen=2**40 - 1,
        replaces=BOB.entry,
    )
    kept = encode_contact(largest)
    assert decode_contact(BOB.entry, kept) == largest
    assert len(kept.reveal()) <= 1024


def test_the_largest_counters_are_small() -> None:
    kept = encode_counters(replace(BOB, sent=MAX_COUNTER, received=MAX_COUNTER))
    assert decode_counters(counters_entry(BOB.entry), kept) == (MAX_COUNTER, MAX_COUNTER)
    assert len(kept.reveal()) == 52


def test_the_entry_of_a_contact_is_without_counters() -> None:
    assert encode_contact(BOB_COUNTED) == KEPT
    assert decode_contact(BOB.entry, KEPT) == BOB


async def test_the_size_of_a_prekey_entry() -> None:
    """As docs/identity.md says. It is the largest of a contact's three."""
    store = MemoryStore()
    book = ContactBook(store)
    await book.load()
    contact = await book.add(card("bob"), 1_800_000_000)
    await book.keep_prekey(contact, bytes(SIGNED_SIZE))
    assert len(store.kept[prekey_entry(contact.entry)].reveal()) == 1720


def test_known_answer() -> None:
    """As in docs/protocol.md."""
    assert BOB.entry == "contacts/af6d3880da8821e20e63d65a76e2d2ad"
    assert base64.b64decode(KEPT.reveal()).hex() == (
        "9a01a3426f62c4200eb6ae2998ef06a0fd8b0250d9aaf6ae87ed164a7e6be799411f9d5de4ce014dc420ea25c67c4a348eab"
        "f6daa5e49d46e6d78c87236acf3e94215fead1b58d544a14c420000000000000000000000000000000000000000000000000"
        "0000000000000000bb7773733a2f2f7369676e616c696e672e6578616d706c652e6f726701ce6b49d200c2a0"
    )
    assert counters_entry(BOB.entry) == "counters/af6d3880da8821e20e63d65a76e2d2ad"
    assert base64.b64decode(COUNTED.reveal()).hex() == (
        "9401c410af6d3880da8821e20e63d65a76e2d2adcf00066517289c5090cf0006651728988001"
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
