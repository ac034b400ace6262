"""Every attribute: its bytes against known ones, a round trip of any value, and a refusal of every wrong length."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaycall.errors import MalformedMessage
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, Method, decode

# Neither the load of the machine nor the first run, which builds a table of Unicode, is what is tested.
steady = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

TRANSACTION_ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
IP4 = Address("192.0.2.1", 32853)
IP6 = Address("2001:db8:1234:5678:11:2233:4455:6677", 32853)

# --- known bytes: length and value, padding included -----------------------------------------------------------------

KNOWN = [
    (a.MAPPED_ADDRESS(IP4), "0008 0001 8055 c0000201"),
    (a.MAPPED_ADDRESS(IP6), "0014 0002 8055 20010db8123456780011223344556677"),
    (a.ALTERNATE_SERVER(IP4), "0008 0001 8055 c0000201"),
    (a.RESPONSE_ORIGIN(IP4), "0008 0001 8055 c0000201"),
    (a.OTHER_ADDRESS(IP4), "0008 0001 8055 c0000201"),
    (a.XOR_MAPPED_ADDRESS(IP4), "0008 0001 a147 e112a643"),
    (a.XOR_MAPPED_ADDRESS(IP6), "0014 0002 a147 0113a9faa5d3f179bc25f4b5bed2b9d9"),
    (a.XOR_PEER_ADDRESS(IP4), "0008 0001 a147 e112a643"),
    (a.XOR_RELAYED_ADDRESS(IP6), "0014 0002 a147 0113a9faa5d3f179bc25f4b5bed2b9d9"),
    (a.USERNAME("evtj:h6vY"), "0009 6576746a3a68367659 000000"),
    (a.MESSAGE_INTEGRITY(bytes(range(20))), "0014 000102030405060708090a0b0c0d0e0f10111213"),
    (a.ERROR_CODE(a.ErrorCode(438, "Stale")), "0009 0000 0426 5374616c65 000000"),
    (a.ERROR_CODE(a.ErrorCode(300)), "0004 0000 0300"),
    (a.UNKNOWN_ATTRIBUTES((0x0018, 0x7FFF, 0x001A)), "0006 0018 7fff 001a 0000"),
    (a.CHANNEL_NUMBER(0x4001), "0004 4001 0000"),
    (a.LIFETIME(600), "0004 00000258"),
    (a.DATA(b"hello"), "0005 68656c6c6f 000000"),
    (a.REALM("example.org"), "000b 6578616d706c652e6f7267 00"),
    (a.NONCE("4"), "0001 34 000000"),
    (a.REQUESTED_ADDRESS_FAMILY(2), "0004 02 000000"),
    (a.ADDITIONAL_ADDRESS_FAMILY(2), "0004 02 000000"),
    (a.EVEN_PORT(True), "0001 80 000000"),
    (a.EVEN_PORT(False), "0001 00 000000"),
    (a.REQUESTED_TRANSPORT(17), "0004 11 000000"),
    (a.DONT_FRAGMENT(None), "0000"),
    (a.ACCESS_TOKEN(b"\x00\x01"), "0002 0001 0000"),
    (a.MESSAGE_INTEGRITY_SHA256(bytes(32)), "0020" + "00" * 32),
    (a.PASSWORD_ALGORITHM(a.PasswordAlgorithm(2)), "0004 0002 0000"),
    (a.PASSWORD_ALGORITHM(a.PasswordAlgorithm(9, b"abc")), "0008 0009 0003 616263 00"),
    (a.PASSWORD_ALGORITHMS((a.PasswordAlgorithm(2), a.PasswordAlgorithm(1))), "0008 00020000 00010000"),
    (a.PASSWORD_ALGORITHMS(()), "0000"),
    (a.USERHASH(b"\x07" * 32), "0020" + "07" * 32),
    (a.RESERVATION_TOKEN(b"12345678"), "0008 3132333435363738"),
    (a.PRIORITY(0x6E0001FF), "0004 6e0001ff"),
    (a.USE_CANDIDATE(None), "0000"),
    (a.CONNECTION_ID(7), "0004 00000007"),
    (a.ADDRESS_ERROR_CODE((2, a.ErrorCode(440, "No"))), "0006 0200 0428 4e6f 0000"),
    (a.ALTERNATE_DOMAIN("a.b"), "0003 612e62 00"),
    (a.ICMP(a.Icmp(11, 1, 5)), "0008 0000 1601 00000005"),
    (a.SOFTWARE("STUN test client"), "0010 5354554e207465737420636c69656e74"),
    (a.ICE_CONTROLLED(0x932FF9B151263B36), "0008 932ff9b151263b36"),
    (a.ICE_CONTROLLING(1), "0008 0000000000000001"),
    (a.NOMINATION(3), "0004 00000003"),
    (a.MEDIA_HERE(a.MediaHere(True, 258)), "0004 01000102"),
]
# IANA's STUN parameters registry; NOMINATION is libwebrtc's.
NUMBERS = {
    "MAPPED-ADDRESS": 0x0001,
    "USERNAME": 0x0006,
    "MESSAGE-INTEGRITY": 0x0008,
    "ERROR-CODE": 0x0009,
    "UNKNOWN-ATTRIBUTES": 0x000A,
    "CHANNEL-NUMBER": 0x000C,
    "LIFETIME": 0x000D,
    "XOR-PEER-ADDRESS": 0x0012,
    "DATA": 0x0013,
    "REALM": 0x0014,
    "NONCE": 0x0015,
    "XOR-RELAYED-ADDRESS": 0x0016,
    "REQUESTED-ADDRESS-FAMILY": 0x0017,
    "EVEN-PORT": 0x0018,
    "REQUESTED-TRANSPORT": 0x0019,
    "DONT-FRAGMENT": 0x001A,
    "ACCESS-TOKEN": 0x001B,
    "MESSAGE-INTEGRITY-SHA256": 0x001C,
    "PASSWORD-ALGORITHM": 0x001D,
    "USERHASH": 0x001E,
    "XOR-MAPPED-ADDRESS": 0x0020,
    "RESERVATION-TOKEN": 0x0022,
    "PRIORITY": 0x0024,
    "USE-CANDIDATE": 0x0025,
    "CONNECTION-ID": 0x002A,
    "ADDITIONAL-ADDRESS-FAMILY": 0x8000,
    "ADDRESS-ERROR-CODE": 0x8001,
    "PASSWORD-ALGORITHMS": 0x8002,
    "ALTERNATE-DOMAIN": 0x8003,
    "ICMP": 0x8004,
    "SOFTWARE": 0x8022,
    "ALTERNATE-SERVER": 0x8023,
    "FINGERPRINT": 0x8028,
    "ICE-CONTROLLED": 0x8029,
    "ICE-CONTROLLING": 0x802A,
    "RESPONSE-ORIGIN": 0x802B,
    "OTHER-ADDRESS": 0x802C,
    "NOMINATION": 0xC001,
    "MEDIA-HERE": 0xC0DE,
}


def wire(attribute: a.Attribute[Any], data: bytes) -> bytes:
    """A message of one attribute, written without the codec."""
    body = attribute.type.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data + bytes(-len(data) % 4)
    return bytes.fromhex("0001") + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442") + TRANSACTION_ID + body


def read(attribute: a.Attribute[Any], data: bytes) -> Any:
    message = decode(wire(attribute, data))
    assert message.has(attribute)
    return message.get(attribute)


def encode(*pairs: tuple[a.Attribute[Any], Any]) -> bytes:
    return Message(Method.BINDING, Class.REQUEST, TRANSACTION_ID, pairs).encode()


def test_numbers() -> None:
    assert {attribute.name: type_ for type_, attribute in a.BY_TYPE.items()} == NUMBERS
    assert all(attribute.type == type_ for type_, attribute in a.BY_TYPE.items())


def test_a_number_is_defined_once() -> None:
    with pytest.raises(ValueError, match="0x000d is defined twice"):
        a.Attribute(0x000D, "LIFETIME-AGAIN", a.LIFETIME.pack, a.LIFETIME.unpack)
    assert a.BY_TYPE[0x000D] is a.LIFETIME


@pytest.mark.parametrize(("pair", "known"), KNOWN, ids=[f"{pair[0]}-{known[:4]}" for pair, known in KNOWN])
def test_known_bytes(pair: tuple[a.Attribute[Any], Any], known: str) -> None:
    attribute = pair[0]
    data = encode(pair)
    assert data[20:22] == attribute.type.to_bytes(2, "big")
    assert data[22:] == bytes.fromhex(known)
    assert decode(data).attributes == (pair,)


def test_every_attribute_has_known_bytes() -> None:
    """FINGERPRINT's depend on the message: test_vectors.py has them."""
    assert {pair[0] for pair, _ in KNOWN} == set(a.BY_TYPE.values()) - {a.FINGERPRINT}


# --- round trips -----------------------------------------------------------------------------------------------------


def text(limit: int) -> st.SearchStrategy[str]:
    return st.text(max_size=limit).filter(lambda value: len(value.encode()) <= limit)


u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
u8 = st.integers(0, 255)
u16 = st.integers(0, 65535)
flags = st.none()
addresses = st.builds(
    lambda ip, port: Address(str(ip), port), st.ip_addresses(v=4) | st.ip_addresses(v=6), st.integers(0, 65535)
)
errors = st.builds(a.ErrorCode, st.integers(300, 699), text(763))
algorithms = st.builds(a.PasswordAlgorithm, u16, st.binary(max_size=64))
VALUES: dict[a.Attribute[Any], st.SearchStrategy[Any]] = {
    a.MAPPED_ADDRESS: addresses,
    a.USERNAME: text(513),
    a.MESSAGE_INTEGRITY: st.binary(min_size=20, max_size=20),
    a.ERROR_CODE: errors,
    a.UNKNOWN_ATTRIBUTES: st.lists(u16, max_size=128).map(tuple),
    a.CHANNEL_NUMBER: u16,
    a.LIFETIME: u32,
    a.XOR_PEER_ADDRESS: addresses,
    a.DATA: st.binary(max_size=2000),
    a.REALM: text(763),
    a.NONCE: text(763),
    a.XOR_RELAYED_ADDRESS: addresses,
    a.REQUESTED_ADDRESS_FAMILY: u8,
    a.EVEN_PORT: st.booleans(),
    a.REQUESTED_TRANSPORT: u8,
    a.DONT_FRAGMENT: flags,
    a.ACCESS_TOKEN: st.binary(max_size=2048),
    a.MESSAGE_INTEGRITY_SHA256: st.binary(min_size=32, max_size=32),
    a.PASSWORD_ALGORITHM: algorithms,
    a.USERHASH: st.binary(min_size=32, max_size=32),
    a.XOR_MAPPED_ADDRESS: addresses,
    a.RESERVATION_TOKEN: st.binary(min_size=8, max_size=8),
    a.PRIORITY: u32,
    a.USE_CANDIDATE: flags,
    a.CONNECTION_ID: u32,
    a.ADDITIONAL_ADDRESS_FAMILY: u8,
    a.ADDRESS_ERROR_CODE: st.tuples(u8, errors),
    a.PASSWORD_ALGORITHMS: st.lists(algorithms, max_size=16).map(tuple),
    a.ALTERNATE_DOMAIN: text(255),
    a.ICMP: st.builds(a.Icmp, st.integers(0, 127), st.integers(0, 511), u32),
    a.SOFTWARE: text(763),
    a.ALTERNATE_SERVER: addresses,
    a.FINGERPRINT: u32,
    a.ICE_CONTROLLED: u64,
    a.ICE_CONTROLLING: u64,
    a.RESPONSE_ORIGIN: addresses,
    a.OTHER_ADDRESS: addresses,
    a.NOMINATION: u32,
    a.MEDIA_HERE: st.builds(a.MediaHere, st.booleans(), st.integers(0, 0xFFFF)),
}
each_attribute = pytest.mark.parametrize("attribute", VALUES, ids=str)


def test_every_attribute_has_values() -> None:
    assert set(VALUES) == set(a.BY_TYPE.values())


@each_attribute
@steady
@given(data=st.data())
def test_a_value_comes_back(attribute: a.Attribute[Any], data: st.DataObject) -> None:
    value = data.draw(VALUES[attribute])
    transaction_id = data.draw(st.binary(min_size=12, max_size=12))
    packed = attribute.pack(value, transaction_id)
    again = attribute.unpack(packed, transaction_id)
    assert again == value
    assert type(again) is type(value)
    if attribute is not a.FINGERPRINT:  # a made-up one is wrong for the message
        message = Message(Method.BINDING, Class.SUCCESS, transaction_id, [(attribute, value)])
        assert decode(message.encode()) == Message(Method.BINDING, Class.SUCCESS, transaction_id, ((attribute, value),))


@steady
@given(addresses, st.binary(min_size=12, max_size=12))
def test_an_xored_address_shows_neither_address_nor_port(address: Address, transaction_id: bytes) -> None:
    packed = a.XOR_PEER_ADDRESS.pack(address, transaction_id)
    mask = bytes.fromhex("2112a442") + transaction_id
    plain = a.MAPPED_ADDRESS.pack(address, transaction_id)
    assert packed[:2] == plain[:2]
    assert bytes(x ^ m for x, m in zip(packed[2:4], mask, strict=False)) == plain[2:4]
    assert bytes(x ^ m for x, m in zip(packed[4:], mask, strict=False)) == plain[4:]
    assert plain[4:] == ipaddress.ip_address(address.host).packed


# --- wrong lengths and values ----------------------------------------------------------------------------------------

ERROR = bytes((0, 0, 4, 1))
# For each attribute: data to cut or repeat, and the lengths that are right.
LENGTHS: dict[a.Attribute[Any], list[tuple[bytes, range | set[int]]]] = {
    **{
        attribute: [(b"\0\1", {8}), (b"\0\2", {20}), (b"\0\0", set()), (b"\0\3", set())]
        for attribute, strategy in VALUES.items()
        if strategy is addresses
    },
    **{attribute: [(b"", {4})] for attribute, strategy in VALUES.items() if strategy is u32},
    **{attribute: [(b"", {8})] for attribute, strategy in VALUES.items() if strategy is u64},
    **{attribute: [(b"", {0})] for attribute, strategy in VALUES.items() if strategy is flags},
    a.USERNAME: [(b"", range(513 + 1))],
    a.MESSAGE_INTEGRITY: [(b"", {20})],
    a.ERROR_CODE: [(ERROR, range(4, 4 + 763 + 1))],
    a.UNKNOWN_ATTRIBUTES: [(b"", range(0, 256 + 1, 2))],
    a.CHANNEL_NUMBER: [(b"", {4})],
    a.DATA: [(b"", range(2100))],
    a.REALM: [(b"", range(763 + 1))],
    a.NONCE: [(b"", range(763 + 1))],
    a.REQUESTED_ADDRESS_FAMILY: [(b"", {4})],
    a.EVEN_PORT: [(b"", {1})],
    a.REQUESTED_TRANSPORT: [(b"", {4})],
    a.ACCESS_TOKEN: [(b"", range(2048 + 1))],
    a.MESSAGE_INTEGRITY_SHA256: [(b"", {32})],
    # One entry whose parameters have three bytes: with the padding or without it.
    a.PASSWORD_ALGORITHM: [(b"\0\1\0\3", {7, 8})],
    # ... and then entries of no parameters, up to sixteen in all.
    a.PASSWORD_ALGORITHMS: [(b"\0\1\0\3", {0, 7, *range(8, 8 + 15 * 4 + 1, 4)})],
    a.USERHASH: [(b"", {32})],
    a.RESERVATION_TOKEN: [(b"", {8})],
    a.ADDITIONAL_ADDRESS_FAMILY: [(b"", {4})],
    a.ADDRESS_ERROR_CODE: [(ERROR, range(4, 4 + 763 + 1))],
    a.ALTERNATE_DOMAIN: [(b"", range(255 + 1))],
    a.ICMP: [(b"", {8})],
    a.MEDIA_HERE: [(b"", {4})],
    a.SOFTWARE: [(b"", range(763 + 1))],
}


@each_attribute
def test_every_wrong_length_is_refused(attribute: a.Attribute[Any]) -> None:
    for start, right in LENGTHS[attribute]:
        for size in range(2100):
            data = (start + bytes(size))[:size]
            if size not in right:
                with pytest.raises(MalformedMessage):
                    decode(wire(attribute, data))
            elif attribute is a.FINGERPRINT:
                assert attribute.unpack(data, TRANSACTION_ID) == 0
            else:
                read(attribute, data)


def test_data_may_fill_the_message() -> None:
    assert read(a.DATA, bytes(65528)) == bytes(65528)


@pytest.mark.parametrize("attribute", [a.USERNAME, a.REALM, a.NONCE, a.SOFTWARE, a.ALTERNATE_DOMAIN], ids=str)
@pytest.mark.parametrize("data", [b"\xff", b"\xc3", b"a\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"], ids=bytes.hex)
def test_text_that_is_not_utf8_is_refused(attribute: a.Attribute[str], data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="not UTF-8"):
        decode(wire(attribute, data))


@pytest.mark.parametrize("attribute", [a.ERROR_CODE, a.ADDRESS_ERROR_CODE], ids=str)
def test_error_codes_outside_300_to_699_are_refused(attribute: a.Attribute[Any]) -> None:
    accepted = set()
    for hundreds in range(8):
        for number in range(256):
            try:
                value = read(attribute, bytes((0, 0, hundreds, number)))
            except MalformedMessage:
                continue
            code = value if attribute is a.ERROR_CODE else value[1]
            assert code == a.ErrorCode(hundreds * 100 + number)
            accepted.add(code.code)
    assert accepted == set(range(300, 700))


def test_reserved_bits_are_ignored() -> None:
    """RFC 8489 section 14 and RFC 8656 section 18: reserved bits are ignored on receipt."""
    assert read(a.ERROR_CODE, bytes.fromhex("fffffc26")) == a.ErrorCode(438)
    assert read(a.MAPPED_ADDRESS, bytes.fromhex("ff018055c0000201")) == IP4
    assert read(a.CHANNEL_NUMBER, bytes.fromhex("4001ffff")) == 0x4001
    assert read(a.REQUESTED_TRANSPORT, bytes.fromhex("11ffffff")) == 17
    assert read(a.EVEN_PORT, b"\x7f") is False
    assert read(a.EVEN_PORT, b"\xff") is True
    assert read(a.ICMP, bytes.fromhex("ffff160100000005")) == a.Icmp(11, 1, 5)


def test_a_reason_that_is_not_utf8_does_not_hide_the_code() -> None:
    assert read(a.ERROR_CODE, ERROR + b"\xff") == a.ErrorCode(401, "\N{REPLACEMENT CHARACTER}")


def test_a_long_reason_is_cut() -> None:
    assert decode(encode(a.ERROR_CODE(a.ErrorCode(500, "x" * 800)))).get(a.ERROR_CODE) == a.ErrorCode(500, "x" * 763)


@pytest.mark.parametrize(
    "data",
    ["0001", "00010001", "0001ffff", "00010004aaaaaa", "0001000000", "0001000000010003aaaa"],
)
def test_password_algorithms_that_do_not_add_up_are_refused(data: str) -> None:
    for attribute in (a.PASSWORD_ALGORITHM, a.PASSWORD_ALGORITHMS):
        with pytest.raises(MalformedMessage):
            decode(wire(attribute, bytes.fromhex(data)))


def test_password_algorithm_is_one() -> None:
    with pytest.raises(MalformedMessage):
        decode(wire(a.PASSWORD_ALGORITHM, bytes.fromhex("0001000000020000")))


@pytest.mark.parametrize(
    "pair",
    [
        a.LIFETIME(2**32),
        a.LIFETIME(-1),
        a.ICE_CONTROLLED(2**64),
        a.REQUESTED_TRANSPORT(256),
        a.CHANNEL_NUMBER(65536),
        a.USERNAME("x" * 514),
        a.USERNAME("\ud800"),
        a.REALM("x" * 764),
        a.ALTERNATE_DOMAIN("x" * 256),
        a.DATA(bytes(65536)),
        a.RESERVATION_TOKEN(b"1234567"),
        a.USERHASH(bytes(20)),
        a.MESSAGE_INTEGRITY(bytes(32)),
        a.ACCESS_TOKEN(bytes(2049)),
        a.UNKNOWN_ATTRIBUTES((65536,)),
        a.UNKNOWN_ATTRIBUTES((0,) * 40000),
        a.PASSWORD_ALGORITHM(a.PasswordAlgorithm(65536)),
        a.PASSWORD_ALGORITHM(a.PasswordAlgorithm(1, bytes(65536))),
        a.ADDRESS_ERROR_CODE((256, a.ErrorCode(440))),
        a.ICMP(a.Icmp(256, 0, 0)),
        a.MEDIA_HERE(a.MediaHere(True, 65536)),
        a.XOR_PEER_ADDRESS(Address("192.0.2.1", 65536)),
        a.XOR_PEER_ADDRESS(Address("relay.example.org", 1)),
    ],
    ids=lambda pair: str(pair[0]),
)
def test_a_value_that_does_not_fit_is_a_value_error(pair: tuple[a.Attribute[Any], Any]) -> None:
    with pytest.raises(ValueError):
        encode(pair)
