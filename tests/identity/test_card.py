"""Contact cards: one encoding, one signature, and a refusal for everything else."""

from __future__ import annotations

import re
import struct
import time
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from relaycall.errors import CardRefused, ConfigError, TextRefused
from relaycall.identity.card import (
    MAX_CARD,
    MAX_SERIAL,
    MAX_TIME,
    Card,
    card_from_text,
    card_to_text,
    decode_card,
    name_fault,
    url_fault,
)
from relaycall.identity.keys import Identity
from relaycall.signaling.armor import armor
from relaycall.signaling.keys import mailbox_of
from tests.identity.test_keys import SMALL
from tests.identity.test_prekeys import LOW_ORDER

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
OWNER = Identity(bytes(range(96)))
OTHER = Identity(bytes(range(1, 97)))
URL = "wss://signal.example.org"
CARD = Card.make(OWNER, serial=1, name="Ada", signaling=URL, created=1_700_000_000)
ENCODED = CARD.encode()
_SIGNED, _PROVED = b"relaycall card signature 1\0", b"relaycall card mailbox 1\0"
SIGNING, MAILBOX = (Ed25519PrivateKey.from_private_bytes(bytes(range(at, at + 32))) for at in (0, 64))  # the owner's


def ended(content: bytes, *, by: Ed25519PrivateKey = SIGNING, proved_by: Ed25519PrivateKey = MAILBOX) -> bytes:
    """A card of this content, with its two signatures."""
    return content + b"\xc4\x40" + by.sign(_SIGNED + content) + b"\xc4\x40" + proved_by.sign(_PROVED + content)


def content_of(**fields: object) -> bytes:
    """What is signed of a card with other fields."""
    values = {**msgspec.structs.asdict(CARD), **fields, "signature": bytes(64), "proof": bytes(64)}
    return msgspec.msgpack.encode(list(values.values()))[:-132]


def signed(**fields: object) -> bytes:
    """A card with other fields, under signatures that fit them."""
    return ended(content_of(**fields))


def packed(*entries: bytes) -> bytes:
    """An array of ten: these encoded entries, and the signatures."""
    return ended(b"\x9a" + b"".join(entries))


# --- what is right ---------------------------------------------------------------------------------------------------


def test_the_known_answer_in_the_protocol() -> None:
    """What docs/protocol.md prints, put together again by hand."""
    section = PROTOCOL.read_text().split("## Identity: cards and prekeys")[1].split("\n## ")[0]
    entries = re.findall(r"^ {4}(\w[\w ]*?) += ((?:[0-9a-f]+\n? *)+)$", section, re.MULTILINE)
    told = {name: bytes.fromhex("".join(value.split())) for name, value in entries}
    assert MAILBOX.public_key().public_bytes_raw() == told["mailbox key"]
    assert mailbox_of(told["mailbox key"]) == told["mailbox"] == CARD.mailbox
    by_hand = packed(
        b"\1\1\xa3Ada",
        b"\xc4\x20" + told["signing key"],
        b"\xc4\x20" + told["agreement key"],
        b"\xc4\x20" + told["mailbox key"],
        b"\xb8" + URL.encode(),
        b"\xce" + struct.pack("!I", 1_700_000_000),
    )
    assert by_hand == told["card"] == ENCODED


def test_it_comes_back() -> None:
    card = decode_card(ENCODED)
    assert card == CARD
    assert card.identity == OWNER.public
    assert card.mailbox == mailbox_of(OWNER.mailbox_key.public)
    assert (card.serial, card.name, card.signaling, card.created) == (1, "Ada", URL, 1_700_000_000)
    assert signed() == ENCODED  # what the refusals below are made with


def test_as_text() -> None:
    text = card_to_text(CARD)
    assert card_from_text(text) == CARD
    assert card_from_text(f"My card:\n> {text[:50]}\n> {text[50:]}\n\nAda") == CARD


def test_the_longest() -> None:
    name, url = "\U0001f600" * 64, "w:" + "x" * 198
    card = Card.make(OWNER, serial=MAX_SERIAL, name=name, signaling=url, created=MAX_TIME)
    assert len(card.encode()) == MAX_CARD
    assert card_from_text(card_to_text(card)) == card


@pytest.mark.parametrize(
    "name", ["A", "Ada Lovelace", "Søren", "Жанна", "李小龍", "أحمد", "नीला", "O'Neil-Smith", "x" * 64, "🦊", "\u1ea1"]
)
def test_names(name: str) -> None:
    assert name_fault(name) is None
    assert decode_card(signed(name=name)).name == name


@pytest.mark.parametrize("url", [URL, "memory:x", "manual:", "http://[::1]:8080/a?b=c", "x-y.z+1:~"])
def test_urls(url: str) -> None:
    assert url_fault(url) is None
    assert decode_card(signed(signaling=url)).signaling == url


# --- what is not -----------------------------------------------------------------------------------------------------

NAMES = {
    "": "1 to 64",
    "x" * 65: "1 to 64",
    **dict.fromkeys(
        ["a\nb", "a\0", "\x1b[31mred", "a\x7f", "a\x9b", "a\u2028b", "a\xa0b", "a\u3000b", "a\xad"], "cannot be seen"
    ),
    **dict.fromkeys(["a\u200bb", "a\u200db", "\ufeffa", "a\u2060b", "a\U000e0041"], "cannot be seen"),
    **dict.fromkeys(["a\u202eb", "a\u2066b", "\u200fa", "\u061ca"], "cannot be seen"),
    **dict.fromkeys(["a\ufe0f", "\u3164", "\uffa0", "a\u034f", "\u2800", "a\U000e0100", "a\u180e"], "cannot be seen"),
    **dict.fromkeys(["\ue000", "\U000fffff", "\u0378"], "cannot be seen"),  # private, and not assigned
    **dict.fromkeys(["a\u0323", "\u212b", "\u1112\u1161"], "NFC"),
    **dict.fromkeys([" a", "a ", " ", "\u0301a"], "begins"),
}
URLS = {
    "x:" + "y" * 199: "200",
    **dict.fromkeys(["", "x", "//host", ":x", "1x:y", "Wss://host", "wss ://host", "wss://a b"], "is not one"),
    **dict.fromkeys(
        ["wss://a\n", "wss://\u00e4", "wss://a\x1b", "wss://user:password@host", "wss://a\x7f"], "is not one"
    ),
}


@pytest.mark.parametrize(("name", "rule"), NAMES.items(), ids=ascii)
def test_names_that_are_refused(name: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        Card.make(OWNER, serial=1, name=name, signaling=URL, created=0)
    with pytest.raises(CardRefused) as caught:
        decode_card(signed(name=name))
    assert rule in caught.value.sentence or not 1 <= len(name) <= 64  # those are not even of the type


@pytest.mark.parametrize(("url", "rule"), URLS.items(), ids=ascii)
def test_urls_that_are_refused(url: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        Card.make(OWNER, serial=1, name="Ada", signaling=url, created=0)
    with pytest.raises(CardRefused):
        decode_card(signed(signaling=url))


def test_a_name_with_half_a_character() -> None:
    with pytest.raises(ConfigError):
        Card.make(OWNER, serial=1, name="a\ud800", signaling=URL, created=0)
    with pytest.raises(CardRefused):
        decode_card(ENCODED.replace(b"Ada", b"\xed\xa0\x80"))


@pytest.mark.parametrize(("serial", "created"), [(0, 0), (-1, 0), (2**32, 0), (1, -1), (1, 2**40)])
def test_numbers_out_of_range(serial: int, created: int) -> None:
    with pytest.raises(ConfigError, match="range"):
        Card.make(OWNER, serial=serial, name="Ada", signaling=URL, created=created)
    with pytest.raises(CardRefused, match="not a card"):
        decode_card(signed(serial=serial, created=created))


@pytest.mark.parametrize("field", ["signing", "agreement", "mailbox_key"])
@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_of_another_size(field: str, size: int) -> None:
    with pytest.raises(CardRefused):
        decode_card(signed(**{field: bytes(size)}))


@pytest.mark.parametrize("field", ["serial", "name", "signing", "agreement", "mailbox_key", "signaling", "created"])
@pytest.mark.parametrize("value", [None, True, 1.0, -1, "a\n", b"", [], {}, [[]]], ids=repr)
def test_fields_of_another_type(field: str, value: object) -> None:
    with pytest.raises(CardRefused):
        decode_card(signed(**{field: value}))


@pytest.mark.parametrize("point", LOW_ORDER)
def test_an_agreement_key_of_low_order(point: str) -> None:
    with pytest.raises(CardRefused, match="agreement key"):
        decode_card(signed(agreement=bytes.fromhex(point)))


def test_a_later_version() -> None:
    for data in (signed(version=2), b"\x93\x02\xc0\xc0"):
        with pytest.raises(CardRefused, match="version"):
            decode_card(data)


def test_signed_by_another_key() -> None:
    """Its parts do not belong together: the key, the mailbox or a field is from elsewhere."""
    for data in (
        ended(content_of(), by=MAILBOX),
        signed(signing=OTHER.public.signing),
        ENCODED.replace(b"Ada", b"Eve"),
        ENCODED.replace(CARD.mailbox_key, OTHER.mailbox_key.public),
        ENCODED.replace(CARD.agreement, OTHER.public.agreement),
    ):
        with pytest.raises(CardRefused, match="not signed by its own key"):
            decode_card(data)


def test_a_signature_made_for_something_else() -> None:
    content = ENCODED[:-132]
    for other in (OWNER.sign(b"relaycall envelope signature 1", content), OWNER.sign(_PROVED[:-1], content)):
        with pytest.raises(CardRefused, match="not signed"):
            decode_card(content + b"\xc4\x40" + other + ENCODED[-66:])


def test_the_mailbox_of_somebody_else() -> None:
    """Mallory owns the card and signs it anew; what he lacks is the mailbox's own word for this card."""
    theirs = content_of(mailbox_key=OTHER.mailbox_key.public)
    their_card = Card.make(OTHER, serial=1, name="Ada", signaling=URL, created=1_700_000_000)
    for data in (
        ended(theirs),
        ended(theirs, proved_by=SIGNING),
        ended(theirs)[:-64] + their_card.proof,
        ended(theirs)[:-64] + bytes(64),
        ended(theirs)[:-64] + OTHER.mailbox_key.sign(b"relaycall mailbox claim 1\0" + theirs),  # for a server
        ended(theirs)[:-64] + OTHER.mailbox_key.sign(_SIGNED + theirs),
        ended(theirs)[:-64] + OTHER.mailbox_key.sign(theirs),
        ended(theirs)[:-64] + OTHER.sign_for_mailbox(_PROVED[:-1], content_of()),  # for another card of Mallory's
    ):
        with pytest.raises(CardRefused, match="its mailbox is not proved"):
            decode_card(data)
    proved = decode_card(ended(theirs)[:-64] + OTHER.sign_for_mailbox(_PROVED[:-1], theirs))
    assert proved.mailbox == mailbox_of(OTHER.mailbox_key.public)


def test_the_signatures_in_the_other_order() -> None:
    content = ENCODED[:-132]
    with pytest.raises(CardRefused, match="not signed by its own key"):
        decode_card(content + ENCODED[-66:] + ENCODED[-132:-66])


@pytest.mark.parametrize("y", SMALL)
def test_a_mailbox_key_of_small_order(y: int) -> None:
    """Anybody can sign under it: R = A or the neutral element, and S = 0, fits one message of eight, or each."""
    key = y.to_bytes(32, "little")
    for number in range(16):
        card = ended(content_of(mailbox_key=key, created=number))
        for r in (key, (1).to_bytes(32, "little")):
            with pytest.raises(CardRefused, match="its mailbox is not proved"):
                decode_card(card[:-64] + r + bytes(32))


def test_another_encoding_of_the_same() -> None:
    """Signed as it is, so that the signature is not what refuses it."""
    keys = b"".join(b"\xc4\x20" + key for key in (CARD.signing, CARD.agreement, CARD.mailbox_key))
    end = b"\xb8" + URL.encode() + b"\xce" + struct.pack("!I", CARD.created)
    for start in (b"\1\xcc\1\xa3Ada", b"\1\1\xd9\3Ada", b"\xcc\1\1\xa3Ada"):
        with pytest.raises(CardRefused, match="encoded as the rules say"):
            decode_card(packed(start, keys, end))
    assert decode_card(packed(b"\1\1\xa3Ada", keys, end)) == CARD


@pytest.mark.parametrize("more", [b"\0", b"\xc0", ENCODED])
def test_more_after_it(more: bytes) -> None:
    with pytest.raises(CardRefused):
        decode_card(ENCODED + more)


def test_an_entry_more_or_less() -> None:
    for data in (b"\x9b" + ENCODED[1:] + b"\xc0", b"\x99" + ENCODED[1:-66]):
        with pytest.raises(CardRefused, match="not a card"):
            decode_card(data)


@given(st.integers(0, len(ENCODED) * 8 - 1))
def test_each_bit_counts(bit: int) -> None:
    changed = bytearray(ENCODED)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CardRefused):
        decode_card(bytes(changed))


@given(st.integers(0, len(ENCODED) - 1))
def test_cut_short(length: int) -> None:
    with pytest.raises(CardRefused):
        decode_card(ENCODED[:length])


@given(st.binary(max_size=MAX_CARD + 1))
@example(b"\x9a" * MAX_CARD)  # nested
@example(b"\x81" * MAX_CARD)
@example(b"\xdd\xff\xff\xff\xff\1")  # says that it has 4294967295 entries
@example(b"\xdb\xff\xff\xff\xff")
@example(b"")
@example(b"\x9a")
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(CardRefused):
        decode_card(data)
    with pytest.raises(CardRefused):
        card_from_text(armor("card", data))


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    with pytest.raises(TextRefused):
        card_from_text(text)


def _structures() -> st.SearchStrategy[object]:
    leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
    return st.lists(leaves | st.lists(leaves, max_size=3) | st.dictionaries(st.text(), leaves, max_size=2), max_size=11)


@given(_structures())
def test_any_array(entries: object) -> None:
    with pytest.raises(CardRefused):
        decode_card(msgspec.msgpack.encode(entries))


@given(st.text(min_size=1, max_size=64), st.integers(1, MAX_SERIAL), st.integers(0, MAX_TIME))
def test_whatever_can_be_made_can_be_read(name: str, serial: int, created: int) -> None:
    if name_fault(name) is None:
        card = Card.make(OWNER, serial=serial, name=name, signaling=URL, created=created)
        assert card_from_text(card_to_text(card)) == card


def test_a_refusal_takes_little_time() -> None:
    """The whole way: well formed and signed, but for the last rule."""
    bad = signed(agreement=bytes(32))
    times = []
    for _ in range(20):
        start = time.perf_counter()
        with pytest.raises(CardRefused):
            decode_card(bad)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005


def test_nothing_of_it_is_shown() -> None:
    assert repr(CARD) == f"<card 1 of {OWNER.public!r}>"
    for data in (signed(name="a\ncanary"), signed(signaling="canary"), ENCODED.replace(b"Ada", b"Eve")):
        with pytest.raises(CardRefused) as caught:
            decode_card(data)
        shown = str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)
        assert "canary" not in shown
        assert "Eve" not in shown
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
