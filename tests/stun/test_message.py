"""Messages: type numbers, what decoding accepts and ignores, integrity, fingerprint and keys."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaycall.errors import MalformedMessage
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import (
    MAX_ATTRIBUTES,
    Class,
    Message,
    Method,
    decode,
    is_stun,
    long_term_key,
    opaque_string,
)

# Neither the load of the machine nor the first run, which builds a table of Unicode, is what is tested.
steady = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

TRANSACTION_ID = bytes(range(12))
KEY = b"the key"

# Method, then request, indication, success, error: as RFC 8489 and RFC 8656 and IANA write the types.
TYPES = {
    Method.BINDING: (0x0001, 0x0011, 0x0101, 0x0111),
    Method.ALLOCATE: (0x0003, 0x0013, 0x0103, 0x0113),
    Method.REFRESH: (0x0004, 0x0014, 0x0104, 0x0114),
    Method.SEND: (0x0006, 0x0016, 0x0106, 0x0116),
    Method.DATA: (0x0007, 0x0017, 0x0107, 0x0117),
    Method.CREATE_PERMISSION: (0x0008, 0x0018, 0x0108, 0x0118),
    Method.CHANNEL_BIND: (0x0009, 0x0019, 0x0109, 0x0119),
    Method.CONNECT: (0x000A, 0x001A, 0x010A, 0x011A),
    Method.CONNECTION_BIND: (0x000B, 0x001B, 0x010B, 0x011B),
    Method.CONNECTION_ATTEMPT: (0x000C, 0x001C, 0x010C, 0x011C),
}
CLASSES = (Class.REQUEST, Class.INDICATION, Class.SUCCESS, Class.ERROR)


def raw(*attributes: tuple[int, bytes], type_: int = 0x0001) -> bytes:
    """A message written without the codec."""
    body = b"".join(struct.pack("!HH", kind, len(data)) + data + bytes(-len(data) % 4) for kind, data in attributes)
    return struct.pack("!HHI", type_, len(body), 0x2112A442) + TRANSACTION_ID + body


def message(*attributes: tuple[a.Attribute[Any], Any]) -> Message:
    return Message(Method.BINDING, Class.REQUEST, TRANSACTION_ID, attributes)


def with_fingerprint(data: bytes) -> bytes:
    """FINGERPRINT added without the codec (RFC 8489 section 14.7)."""
    longer = data[:2] + struct.pack("!H", len(data) - 20 + 8) + data[4:]
    return longer + struct.pack("!HHI", 0x8028, 4, binascii.crc32(longer) ^ 0x5354554E)


# --- the header ------------------------------------------------------------------------------------------------------


def test_every_method_is_in_the_table() -> None:
    assert set(TYPES) == set(Method)
    assert set(CLASSES) == set(Class)


@pytest.mark.parametrize("method", Method)
def test_types(method: Method) -> None:
    for kind, number in zip(CLASSES, TYPES[method], strict=True):
        encoded = Message(method, kind, TRANSACTION_ID).encode()
        assert encoded == struct.pack("!HHI", number, 0, 0x2112A442) + TRANSACTION_ID
        decoded = decode(encoded)
        assert (decoded.method, decoded.kind, decoded.transaction_id) == (method, kind, TRANSACTION_ID)
        assert type(decoded.method) is Method
        assert type(decoded.kind) is Class


def test_every_other_type_is_refused() -> None:
    known = {number for row in TYPES.values() for number in row}
    accepted = set()
    for number in range(0x10000):
        try:
            decode(raw(type_=number))
        except MalformedMessage:
            continue
        accepted.add(number)
    assert accepted == known


GOOD = message(a.LIFETIME(600)).encode()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(GOOD[:19], id="a byte short of a header"),
        pytest.param(GOOD[:-1], id="shorter than its length"),
        pytest.param(GOOD + b"\0", id="longer than its length"),
        pytest.param(GOOD + bytes(4), id="longer by a word"),
        pytest.param(GOOD[:4] + b"\x21\x12\xa4\x43" + GOOD[8:], id="another cookie"),
        pytest.param(b"\x40" + GOOD[1:], id="ChannelData"),
        pytest.param(b"\x80" + GOOD[1:], id="RTP"),
        pytest.param(GOOD[:2] + b"\0\x09" + GOOD[4:] + b"\0", id="a length that is no multiple of four"),
    ],
)
def test_what_is_not_stun(data: bytes) -> None:
    assert is_stun(GOOD)
    assert not is_stun(data)
    with pytest.raises(MalformedMessage, match="not a STUN message"):
        decode(data)


def test_an_attribute_may_not_reach_past_the_end() -> None:
    with pytest.raises(MalformedMessage, match="cut short"):
        decode(raw((0x8022, b"ab"))[:-6] + b"\0\5ab\0\0")
    with pytest.raises(MalformedMessage, match="cut short"):
        decode(raw((0x8022, b""))[:-2] + b"\xff\xff")


# --- attributes ------------------------------------------------------------------------------------------------------


def test_the_first_of_equal_attributes_counts() -> None:
    """RFC 8489 section 14; XOR-PEER-ADDRESS may stand many times (RFC 8656 section 9.1)."""
    peers = [Address("192.0.2.1", 0), Address("192.0.2.2", 0)]
    decoded = decode(message(*map(a.XOR_PEER_ADDRESS, peers), a.LIFETIME(0)).encode())
    assert decoded.get(a.XOR_PEER_ADDRESS) == peers[0]
    assert decoded.all(a.XOR_PEER_ADDRESS) == peers
    assert decoded.get(a.LIFETIME) == 0
    assert decoded.get(a.REALM) is None
    assert decoded.all(a.REALM) == []


def test_a_flag_is_asked_for_with_has() -> None:
    decoded = decode(message(a.USE_CANDIDATE(None)).encode())
    assert decoded.has(a.USE_CANDIDATE)
    assert not decoded.has(a.DONT_FRAGMENT)


def test_unknown_attributes() -> None:
    """Those that must be understood are listed, in order; the others are ignored (RFC 8489 section 14)."""
    decoded = decode(raw((0x7FFF, b"x"), (0x000D, bytes(4)), (0x8000 | 0x7FFF, b"y" * 5), (0x0003, b""), (0x7FFF, b"")))
    assert decoded.unknown == (0x7FFF, 0x0003, 0x7FFF)
    assert decoded.attributes == (a.LIFETIME(0),)


def test_the_padding_may_hold_anything() -> None:
    """RFC 8489 section 14: padding bits are ignored on receipt."""
    assert decode(raw((0x8022, b"abc"))[:-1] + b"\xff").get(a.SOFTWARE) == "abc"


def test_no_more_than_so_many_attributes() -> None:
    assert len(decode(message(*[a.LIFETIME(1)] * MAX_ATTRIBUTES).encode()).attributes) == MAX_ATTRIBUTES
    with pytest.raises(MalformedMessage, match="too many"):
        decode(message(*[a.LIFETIME(1)] * (MAX_ATTRIBUTES + 1)).encode())
    with pytest.raises(MalformedMessage, match="too many"):
        decode(raw(*[(0x8FFF, b"")] * (MAX_ATTRIBUTES + 1)))


# --- FINGERPRINT -----------------------------------------------------------------------------------------------------


def test_fingerprint() -> None:
    encoded = message(a.LIFETIME(600)).encode(fingerprint=True)
    assert encoded == with_fingerprint(GOOD)
    assert decode(encoded).has(a.FINGERPRINT)
    assert not decode(GOOD).has(a.FINGERPRINT)


@pytest.mark.parametrize("at", range(28 + 8))
def test_a_wrong_fingerprint_is_refused(at: int) -> None:
    changed = bytearray(message(a.LIFETIME(600)).encode(fingerprint=True))
    changed[at] ^= 0x80
    if 28 <= at < 30:
        assert not decode(bytes(changed)).has(a.FINGERPRINT)  # not a fingerprint any more
    else:
        with pytest.raises(MalformedMessage):
            decode(bytes(changed))


def test_the_fingerprint_must_be_last() -> None:
    good = with_fingerprint(raw())
    for more in ((0x8022, b""), (0x8028, good[-4:])):
        after = raw((0x8028, good[-4:]), more)
        crc = binascii.crc32(after[:20]) ^ 0x5354554E  # right for the header it stands in
        after = after[:24] + struct.pack("!I", crc) + after[28:]
        with pytest.raises(MalformedMessage, match="FINGERPRINT"):
            decode(after)


# --- integrity -------------------------------------------------------------------------------------------------------


def mac(data: bytes, key: bytes, digest: str) -> bytes:
    """The value of MESSAGE-INTEGRITY(-SHA256) for what stands before it (RFC 8489 sections 14.5 and 14.6)."""
    size = hashlib.new(digest).digest_size
    return hmac.new(key, data[:2] + struct.pack("!H", len(data) - 20 + 4 + size) + data[4:], digest).digest()


@pytest.mark.parametrize("fingerprint", [False, True])
@pytest.mark.parametrize(("sha256", "digest", "type_"), [(False, "sha1", 0x0008), (True, "sha256", 0x001C)])
def test_integrity(sha256: bool, digest: str, type_: int, fingerprint: bool) -> None:
    encoded = message(a.LIFETIME(600)).encode(KEY, sha256=sha256, fingerprint=fingerprint)
    expected = raw((0x000D, struct.pack("!I", 600)), (type_, mac(GOOD, KEY, digest)))
    assert encoded == (with_fingerprint(expected) if fingerprint else expected)
    decoded = decode(encoded)
    assert decoded.verify(KEY)
    assert not decoded.verify(b"another key")
    assert not decoded.verify(b"")


def test_without_integrity_nothing_is_verified() -> None:
    assert not decode(GOOD).verify(KEY)
    assert not decode(raw()).verify(KEY)
    assert not decode(message().encode(fingerprint=True)).verify(b"")


def test_an_empty_key_is_a_key() -> None:
    assert decode(message().encode(b"")).verify(b"")


@steady
@given(st.integers(0, 27), st.integers(0, 7), st.booleans())
def test_what_stands_before_the_integrity_is_covered(at: int, bit: int, sha256: bool) -> None:
    changed = bytearray(message(a.LIFETIME(600)).encode(KEY, sha256=sha256))
    changed[at] ^= 1 << bit
    try:
        verified = decode(bytes(changed)).verify(KEY)
    except MalformedMessage:
        verified = False
    assert not verified


def test_what_follows_the_integrity_is_ignored() -> None:
    """RFC 8489 section 14.5: known, unknown and malformed attributes alike, and a second integrity."""
    head = raw((0x000D, bytes(4)))
    sealed = (0x0008, mac(head, KEY, "sha1"))
    extra = [(0x0006, b"mallory"), (0x7FFF, b""), (0x0014, b"\xff"), (0x0008, bytes(20)), (0x0008, bytes(3))]
    decoded = decode(with_fingerprint(raw((0x000D, bytes(4)), sealed, *extra)))
    assert [found for found, _ in decoded.attributes] == [a.LIFETIME, a.MESSAGE_INTEGRITY, a.FINGERPRINT]
    assert decoded.unknown == ()
    assert decoded.verify(KEY)


def test_what_stands_between_the_two_integrities_is_ignored() -> None:
    """Only the stronger one still counts there (RFC 8489 section 14.5), and then it is what is verified."""
    lifetime = (0x000D, bytes(4))
    sha1 = (0x0008, mac(raw(lifetime), KEY, "sha1"))
    extra = (0x0006, b"mallory")
    sha256 = (0x001C, mac(raw(lifetime, sha1, extra), KEY, "sha256"))
    decoded = decode(raw(lifetime, sha1, extra, sha256, extra))
    assert [found for found, _ in decoded.attributes] == [a.LIFETIME, a.MESSAGE_INTEGRITY, a.MESSAGE_INTEGRITY_SHA256]
    assert decoded.verify(KEY)

    forged = decode(raw(lifetime, sha1, (0x001C, bytes(32))))
    assert not forged.verify(KEY)


def test_after_the_stronger_integrity_the_weaker_is_ignored() -> None:
    sha256 = (0x001C, mac(raw(), KEY, "sha256"))
    decoded = decode(raw(sha256, (0x0008, bytes(20)), (0x001C, bytes(32))))
    assert [found for found, _ in decoded.attributes] == [a.MESSAGE_INTEGRITY_SHA256]
    assert decoded.verify(KEY)


def test_the_type_of_the_integrity_chooses_the_hash() -> None:
    """A digest of the one under the type of the other is never right."""
    sha1, sha256 = mac(raw(), KEY, "sha1"), mac(raw(), KEY, "sha256")
    assert not decode(raw((0x001C, sha1 + sha256[20:]))).verify(KEY)
    assert not decode(raw((0x0008, sha256[:20]))).verify(KEY)


# --- limits, equality, silence ---------------------------------------------------------------------------------------


def test_the_longest_message() -> None:
    """The length is a multiple of four below 65536: 4 bytes of attribute header, and 65528 bytes of data at most."""
    assert decode(message(a.DATA(bytes(65528))).encode()).get(a.DATA) == bytes(65528)
    for size, arguments in [
        (65528 - 8, {"fingerprint": True}),
        (65528 - 24, {"key": KEY}),
        (65528 - 36, {"key": KEY, "sha256": True}),
        (65528 - 32, {"key": KEY, "fingerprint": True}),
    ]:
        encoded = message(a.DATA(bytes(size))).encode(**arguments)
        assert len(encoded) == 20 + 65532
        assert decode(encoded).verify(KEY) is ("key" in arguments)
        with pytest.raises(ValueError, match="too long"):
            message(a.DATA(bytes(size + 1))).encode(**arguments)
    with pytest.raises(ValueError, match="too long"):
        message(a.DATA(bytes(65529))).encode()


def test_equality_is_of_content_not_of_bytes() -> None:
    decoded = decode(raw((0x8022, b"abc")))
    assert decoded == decode(raw((0x8022, b"abc"))[:-1] + b"\xff")
    assert decoded != decode(raw((0x8022, b"abd")))


def test_a_message_shows_no_values() -> None:
    decoded = decode(message(a.USERNAME("alice"), a.XOR_PEER_ADDRESS(Address("198.51.100.7", 5000))).encode(KEY))
    for shown in (repr(decoded), str(decoded), f"{decoded}", repr([decoded]), repr({"message": decoded})):
        assert "BINDING" in shown
        assert "alice" not in shown
        assert "198.51.100.7" not in shown
        assert repr(TRANSACTION_ID) not in shown


# --- keys ------------------------------------------------------------------------------------------------------------


def test_long_term_key() -> None:
    """The example of RFC 5389 section 15.4."""
    assert long_term_key("user", "realm", "pass").hex() == "8493fbc53ba582fb4c044c456bdc40eb"
    assert long_term_key("user", "realm", "pass", sha256=True) == hashlib.sha256(b"user:realm:pass").digest()


def test_realm_and_password_are_prepared_and_the_username_is_sent_as_it_is() -> None:
    assert long_term_key("u", "caf\u0065\u0301", "a\u00a0b") == hashlib.md5("u:caf\u00e9:a b".encode()).digest()
    assert long_term_key("e\u0301", "r", "p") == hashlib.md5("e\u0301:r:p".encode()).digest()


def test_opaque_string() -> None:
    """RFC 8265 section 4.2.2, with its examples of section 4.3 that are allowed."""
    for same in (
        "correct horse battery staple",
        "Correct Horse Battery Staple",
        "\u03c0\u00df\u00e5",
        "Jack of \u2666s",
    ):
        assert opaque_string(same) == same
    assert opaque_string("foo\u1680bar") == "foo bar"
    assert opaque_string("\u2168\uff21") == "\u2168\uff21"  # NFC, not NFKC: compatibility characters stay
    assert opaque_string("e\u0301") == "\u00e9"


def test_a_password_that_is_not_text_still_gives_a_key() -> None:
    """An encoding error would carry the password in its arguments."""
    assert long_term_key("user", "realm", "pass\udcff") != long_term_key("user", "realm", "pass\udcfe")
