"""The published test vectors: RFC 5769, and RFC 8489 appendix B.1 as erratum 6268 corrects it."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, NamedTuple

import pytest

from relaycall.errors import MalformedMessage
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, Method, decode, long_term_key

SHORT_TERM = b"VOkJxbRl1RmTxUk/WvJxBt"
USERNAME = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"
REALM = "example.org"
# The password as both RFCs print it after preparation. Unprepared it is "The<U+00AD>M<U+00AA>tr<U+2168>", which only
# SASLprep maps to this: OpaqueString does not.
PASSWORD = "TheMatrIX"


class Vector(NamedTuple):
    wire: bytes
    kind: Class
    transaction_id: str
    values: list[tuple[a.Attribute[Any], Any]]
    key: bytes
    sha256: bool = False


VECTORS = {
    "RFC 5769 section 2.1, request": Vector(
        bytes.fromhex(
            "00010058 2112a442 b7e7a701bc34d686fa87dfae"
            "80220010 5354554e207465737420636c69656e74"
            "00240004 6e0001ff"
            "80290008 932ff9b151263b36"
            "00060009 6576746a3a68367659 202020"
            "00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
            "80280004 e57a3bcf"
        ),
        Class.REQUEST,
        "b7e7a701bc34d686fa87dfae",
        [
            a.SOFTWARE("STUN test client"),
            a.PRIORITY(0x6E0001FF),
            a.ICE_CONTROLLED(0x932FF9B151263B36),
            a.USERNAME("evtj:h6vY"),
            a.MESSAGE_INTEGRITY(bytes.fromhex("9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2")),
            a.FINGERPRINT(0xE57A3BCF),
        ],
        SHORT_TERM,
    ),
    "RFC 5769 section 2.2, IPv4 response": Vector(
        bytes.fromhex(
            "0101003c 2112a442 b7e7a701bc34d686fa87dfae"
            "8022000b 7465737420766563746f72 20"
            "00200008 0001a147e112a643"
            "00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7"
            "80280004 c07d4c96"
        ),
        Class.SUCCESS,
        "b7e7a701bc34d686fa87dfae",
        [
            a.SOFTWARE("test vector"),
            a.XOR_MAPPED_ADDRESS(Address("192.0.2.1", 32853)),
            a.MESSAGE_INTEGRITY(bytes.fromhex("2b91f599fd9e90c38c7489f92af9ba53f06be7d7")),
            a.FINGERPRINT(0xC07D4C96),
        ],
        SHORT_TERM,
    ),
    "RFC 5769 section 2.3, IPv6 response": Vector(
        bytes.fromhex(
            "01010048 2112a442 b7e7a701bc34d686fa87dfae"
            "8022000b 7465737420766563746f72 20"
            "00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
            "00080014 a382954e4be67bf11784c97c8292c275bfe3ed41"
            "80280004 c8fb0b4c"
        ),
        Class.SUCCESS,
        "b7e7a701bc34d686fa87dfae",
        [
            a.SOFTWARE("test vector"),
            a.XOR_MAPPED_ADDRESS(Address("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
            a.MESSAGE_INTEGRITY(bytes.fromhex("a382954e4be67bf11784c97c8292c275bfe3ed41")),
            a.FINGERPRINT(0xC8FB0B4C),
        ],
        SHORT_TERM,
    ),
    "RFC 5769 section 2.4, long-term authentication": Vector(
        bytes.fromhex(
            "00010060 2112a442 78ad3433c6ad72c029da412e"
            "00060012 e3839ee38388e383aae38383e382afe382b9 0000"
            "0015001c 662f2f3439396b39353464364f4c33346f4c39465354767936347341"
            "0014000b 6578616d706c652e6f7267 00"
            "00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666"
        ),
        Class.REQUEST,
        "78ad3433c6ad72c029da412e",
        [
            a.USERNAME(USERNAME),
            a.NONCE("f//499k954d6OL34oL9FSTvy64sA"),
            a.REALM(REALM),
            a.MESSAGE_INTEGRITY(bytes.fromhex("f67024656dd64a3e02b8e0712e85c9a28ca89666")),
        ],
        long_term_key(USERNAME, REALM, PASSWORD),
    ),
    "RFC 8489 appendix B.1 (erratum 6268), SHA-256 and USERHASH": Vector(
        bytes.fromhex(
            "00010090 2112a442 78ad3433c6ad72c029da412e"
            "001e0020 4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"
            "00150029 6f624d61744a6f733241414143662f2f3439396b39353464364f4c33346f4c39465354767936347341 000000"
            "0014000b 6578616d706c652e6f7267 00"
            "001d0004 00020000"
            "001c0020 b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65"
        ),
        Class.REQUEST,
        "78ad3433c6ad72c029da412e",
        [
            a.USERHASH(hashlib.sha256(f"{USERNAME}:{REALM}".encode()).digest()),
            a.NONCE("obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"),
            a.REALM(REALM),
            a.PASSWORD_ALGORITHM(a.PasswordAlgorithm(2)),
            a.MESSAGE_INTEGRITY_SHA256(
                bytes.fromhex("b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65")
            ),
        ],
        long_term_key(USERNAME, REALM, PASSWORD, sha256=True),
        sha256=True,
    ),
}
SEALS = (a.MESSAGE_INTEGRITY, a.MESSAGE_INTEGRITY_SHA256, a.FINGERPRINT)

each_vector = pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS.keys())


@each_vector
def test_decodes_to_its_values(vector: Vector) -> None:
    message = decode(vector.wire)
    assert (message.method, message.kind) == (Method.BINDING, vector.kind)
    assert message.transaction_id.hex() == vector.transaction_id
    assert list(message.attributes) == vector.values
    assert message.unknown == ()


@each_vector
def test_is_verified_under_its_key_and_no_other(vector: Vector) -> None:
    message = decode(vector.wire)
    assert message.verify(vector.key)
    others = {other.key for other in VECTORS.values()} - {vector.key}
    for wrong in [*others, vector.key[:-1], vector.key + b"x", b"", bytes(16)]:
        assert not message.verify(wrong)


@each_vector
def test_every_bit_is_covered(vector: Vector) -> None:
    """One bit changed anywhere: refused, or not verified. Past the integrity only the fingerprint is left."""
    survivors = 0
    for bit in range(8 * len(vector.wire)):
        changed = bytearray(vector.wire)
        changed[bit // 8] ^= 0x80 >> bit % 8
        try:
            survivors += decode(bytes(changed)).verify(vector.key)
        except MalformedMessage:
            continue
    # With another type the fingerprint is an unauthenticated attribute after the integrity, and ignored.
    assert survivors == (16 if vector.values[-1][0] is a.FINGERPRINT else 0)


@each_vector
def test_the_integrity_is_what_hashlib_says(vector: Vector) -> None:
    attribute, size, digest = (
        (a.MESSAGE_INTEGRITY_SHA256, 32, "sha256") if vector.sha256 else (a.MESSAGE_INTEGRITY, 20, "sha1")
    )
    at = vector.wire.index(attribute.type.to_bytes(2, "big") + size.to_bytes(2, "big"))
    covered = vector.wire[:2] + (at + 4 + size - 20).to_bytes(2, "big") + vector.wire[4:at]
    assert hmac.digest(vector.key, covered, digest) == vector.wire[at + 4 : at + 4 + size]


@each_vector
def test_encoding_the_values_gives_them_back(vector: Vector) -> None:
    """Not byte for byte where RFC 5769 pads with spaces: the padding is under the integrity."""
    message = decode(vector.wire)
    values = [pair for pair in message.attributes if pair[0] not in SEALS]
    again = Message(message.method, message.kind, message.transaction_id, values).encode(
        vector.key, sha256=vector.sha256, fingerprint=message.has(a.FINGERPRINT)
    )
    assert len(again) == len(vector.wire)
    assert decode(again).verify(vector.key)
    assert [pair for pair in decode(again).attributes if pair[0] not in SEALS] == values
    if message.has(a.FINGERPRINT):
        assert again != vector.wire
    else:
        assert again == vector.wire


def test_the_uncorrected_vector_of_rfc_8489_is_refused() -> None:
    """Its length field counts the header too (erratum 6268), and so does the header its MAC was made over."""
    wire = bytes.fromhex(
        "0001009c 2112a442 78ad3433c6ad72c029da412e"
        "001e0020 4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"
        "00150029 6f624d61744a6f733241414143662f2f3439396b39353464364f4c33346f4c39465354767936347341 000000"
        "0014000b 6578616d706c652e6f7267 00"
        "001c0020 e4686c8f0edeb59013e07090010a93efccbccc544c0a45d9f830aa6d6f735a01"
    )
    key = long_term_key(USERNAME, REALM, PASSWORD, sha256=True)
    with pytest.raises(MalformedMessage):
        decode(wire)
    assert hmac.digest(key, wire[:-36], "sha256") == wire[-32:]
    assert not decode(wire[:2] + (len(wire) - 20).to_bytes(2, "big") + wire[4:]).verify(key)
