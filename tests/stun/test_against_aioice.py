"""Against another implementation: what aioice writes we read, and what we write aioice reads, byte for byte."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from aioice import stun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaycall.errors import MalformedMessage
from relaycall.stun import attributes as a
from relaycall.stun.address import Address
from relaycall.stun.message import Class, Message, Method, decode

# Neither the load of the machine nor the first run, which builds a table of Unicode, is what is tested.
steady = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

METHODS = {method: stun.Method[method.name] for method in Method if method.name in stun.Method.__members__}
CLASSES = {
    Class.REQUEST: stun.Class.REQUEST,
    Class.INDICATION: stun.Class.INDICATION,
    Class.SUCCESS: stun.Class.RESPONSE,
    Class.ERROR: stun.Class.ERROR,
}

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
text = st.text(max_size=80)
addresses = st.builds(
    lambda ip, port: Address(str(ip), port), st.ip_addresses(v=4) | st.ip_addresses(v=6), st.integers(0, 65535)
)
errors = st.builds(a.ErrorCode, st.integers(300, 699), text)
VALUES: dict[a.Attribute[Any], st.SearchStrategy[Any]] = {
    a.MAPPED_ADDRESS: addresses,
    a.USERNAME: text,
    a.ERROR_CODE: errors,
    a.CHANNEL_NUMBER: st.integers(0, 65535),
    a.LIFETIME: u32,
    a.XOR_PEER_ADDRESS: addresses,
    a.DATA: st.binary(max_size=80),
    a.REALM: text,
    a.NONCE: text,
    a.XOR_RELAYED_ADDRESS: addresses,
    a.REQUESTED_TRANSPORT: st.integers(0, 255),
    a.XOR_MAPPED_ADDRESS: addresses,
    a.PRIORITY: u32,
    a.USE_CANDIDATE: st.none(),
    a.SOFTWARE: text,
    a.ICE_CONTROLLED: u64,
    a.ICE_CONTROLLING: u64,
    a.RESPONSE_ORIGIN: addresses,
    a.OTHER_ADDRESS: addresses,
}


def theirs(attribute: a.Attribute[Any], value: Any) -> Any:
    """A value of ours as aioice writes it."""
    if attribute is a.NONCE:
        return value.encode()
    if attribute is a.REQUESTED_TRANSPORT:
        return value << 24
    return tuple(value) if isinstance(value, tuple) else value


class Both(NamedTuple):
    """One message, built by each."""

    ours: Message
    theirs: stun.Message


@st.composite
def built(draw: st.DrawFn) -> Both:
    method = draw(st.sampled_from(sorted(METHODS)))
    kind = draw(st.sampled_from(sorted(CLASSES)))
    transaction_id = draw(st.binary(min_size=12, max_size=12))
    used = draw(st.lists(st.sampled_from(list(VALUES)), unique=True))
    pairs = [(attribute, draw(VALUES[attribute])) for attribute in used]
    values = {attribute.name: theirs(attribute, value) for attribute, value in pairs}
    return Both(
        Message(method, kind, transaction_id, tuple(pairs)),
        stun.Message(METHODS[method], CLASSES[kind], transaction_id, values),
    )


keys = st.binary(max_size=80)


def test_everything_both_know_is_tried() -> None:
    assert {method.name for method in METHODS} == {method.name for method in stun.Method} - {"SHARED_SECRET"}
    both = {attribute for attribute in a.BY_TYPE.values() if attribute.name in stun.ATTRIBUTES_BY_NAME}
    assert both - set(VALUES) == {a.MESSAGE_INTEGRITY, a.FINGERPRINT}
    assert {stun.ATTRIBUTES_BY_NAME[attribute.name][0] for attribute in both} == {found.type for found in both}


@steady
@given(built())
def test_the_bytes_are_the_same(both: Both) -> None:
    assert both.ours.encode() == bytes(both.theirs)


@steady
@given(built(), keys)
def test_the_bytes_with_integrity_and_fingerprint_are_the_same(both: Both, key: bytes) -> None:
    both.theirs.add_message_integrity(key)
    assert both.ours.encode(key, fingerprint=True) == bytes(both.theirs)


@steady
@given(built())
def test_the_bytes_with_a_fingerprint_are_the_same(both: Both) -> None:
    both.theirs.add_fingerprint()
    assert both.ours.encode(fingerprint=True) == bytes(both.theirs)


@steady
@given(built(), keys, keys)
def test_theirs_is_read_here(both: Both, key: bytes, other: bytes) -> None:
    both.theirs.add_message_integrity(key)
    read = decode(bytes(both.theirs))
    assert read.attributes[:-2] == both.ours.attributes
    assert [found for found, _ in read.attributes[-2:]] == [a.MESSAGE_INTEGRITY, a.FINGERPRINT]
    assert (read.method, read.kind, read.transaction_id) == (both.ours.method, both.ours.kind, both.ours.transaction_id)
    assert read.unknown == ()
    assert read.verify(key)
    assert read.verify(other) is both.theirs.check_message_integrity(other)


@steady
@given(built(), keys, keys)
def test_ours_is_read_there(both: Both, key: bytes, other: bytes) -> None:
    read = stun.parse_message(both.ours.encode(key, fingerprint=True))
    assert list(read.attributes)[-2:] == ["MESSAGE-INTEGRITY", "FINGERPRINT"]
    assert list(read.attributes.items())[:-2] == list(both.theirs.attributes.items())
    assert read.message_method is METHODS[both.ours.method]
    assert read.message_class is CLASSES[both.ours.kind]
    assert read.transaction_id == both.ours.transaction_id
    assert read.check_message_integrity(key)
    assert read.check_message_integrity(other) is decode(both.ours.encode(key)).verify(other)


def test_an_attribute_past_the_end_is_taken_there_and_refused_here() -> None:
    short = bytearray(Message(Method.BINDING, Class.REQUEST, bytes(12), [a.SOFTWARE("abcd")]).encode())
    short[23] = 200
    assert stun.parse_message(bytes(short)).attributes == {"SOFTWARE": "abcd"}
    with pytest.raises(MalformedMessage):
        decode(bytes(short))
