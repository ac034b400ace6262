"""The call record: what is accepted, what is refused, and the key that both sides make of two of them."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from relaycall.call.record import (
    MAX_RECORD,
    AudioPlan,
    CallRecord,
    RelayCandidate,
    VideoPlan,
    decode_record,
    derive_call_key,
    encode_record,
)
from relaycall.errors import RecordRefused

KEY = bytes(range(32))
PUBLIC = "8.8.8.8"


def a_record(**changes: Any) -> CallRecord:
    whole = CallRecord(
        ufrag="Alic",
        pwd="caller/password+0123456",
        candidates=(RelayCandidate(PUBLIC, 49152, 16777215), RelayCandidate("2606:4700::1111", 1024, 1)),
        audio=AudioPlan(ssrc=1),
        key=KEY,
    )
    return msgspec.structs.replace(whole, **changes)


CALLER = a_record()
CALLEE = a_record(ufrag="Bobb", audio=AudioPlan(ssrc=2**32 - 1), key=KEY[::-1])


def raw(**changes: Any) -> dict[str, Any]:
    """The record as the map it is on the wire, with fields changed; None takes one out."""
    fields: dict[str, Any] = msgpack.decode(encode_record(CALLER))
    for path, value in changes.items():
        *outer, last = path.split("__")
        at: Any = fields
        for step in outer:
            at = at[int(step) if step.isdigit() else step]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return fields


def refused(data: bytes, *, laboratory: bool = True) -> str:
    with pytest.raises(RecordRefused) as found:
        decode_record(data, laboratory=laboratory)
    return found.value.sentence


# --- round trip -------------------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was() -> None:
    data = encode_record(CALLER)
    assert decode_record(data) == CALLER
    assert len(data) < 512


def test_the_same_record_gives_the_same_bytes() -> None:
    assert encode_record(a_record()) == encode_record(decode_record(encode_record(CALLER)))


ice_text = st.text("ABCabc019+/", min_size=22, max_size=64)
records = st.builds(
    CallRecord,
    ufrag=ice_text,
    pwd=ice_text,
    candidates=st.lists(
        st.builds(
            RelayCandidate,
            host=st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
            port=st.integers(1024, 65535),
            priority=st.integers(1, 2**31 - 1),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda entry: (entry.host, entry.port),
    ).map(tuple),
    audio=st.builds(AudioPlan, ssrc=st.integers(1, 2**32 - 1), payload_type=st.just(111)),
    video=st.builds(VideoPlan, takes=st.lists(st.sampled_from(["vp8", "h264"]), unique=True).map(tuple)),
    key=st.binary(min_size=32, max_size=32),
)


@pytest.mark.slow
@given(records)
def test_every_record_within_the_rules_comes_back(record: CallRecord) -> None:
    assert decode_record(encode_record(record), laboratory=True) == record


# --- anything else is refused -----------------------------------------------------------------------------------------


@given(st.binary(max_size=2 * MAX_RECORD))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    with contextlib.suppress(RecordRefused):
        assert encode_record(decode_record(data)) == data


json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
fields = st.sampled_from(
    [
        "ufrag",
        "pwd",
        "candidates",
        "candidates__0__host",
        "candidates__1__port",
        "candidates__0__priority",
        "audio",
        "audio__ssrc",
        "audio__payload_type",
        "audio__codec",
        "audio__bitrate",
        "key",
        "version",
        "more",
    ]
)


@given(fields, json_like)
@settings(max_examples=100)
def test_any_value_in_any_field_is_within_the_rules_or_refused(field: str, value: Any) -> None:
    data = msgpack.encode(raw(**{field: value}) if value is not None else raw())
    with contextlib.suppress(RecordRefused):
        assert encode_record(decode_record(data)) == data


OUT_OF_RULES: dict[str, dict[str, Any]] = {
    "ufrag of 3": {"ufrag": "abc"},
    "ufrag of 65": {"ufrag": "a" * 65},
    "ufrag with a newline": {"ufrag": "abcd\n"},
    "ufrag with a space": {"ufrag": "ab cd"},
    "ufrag with a colon": {"ufrag": "ab:cd"},
    "ufrag with other letters": {"ufrag": "abcdé"},
    "ufrag as bytes": {"ufrag": b"abcd"},
    "pwd of 21": {"pwd": "a" * 21},
    "pwd of 65": {"pwd": "a" * 65},
    "no candidate": {"candidates": []},
    "five candidates": {"candidates": [{"host": PUBLIC, "port": 2000 + n, "priority": 1} for n in range(5)]},
    "candidates as a map": {"candidates": {}},
    "port 1023": {"candidates__0__port": 1023},
    "port 65536": {"candidates__0__port": 65536},
    "port -1": {"candidates__0__port": -1},
    "port as text": {"candidates__0__port": "5000"},
    "port as a float": {"candidates__0__port": 5000.0},
    "priority 0": {"candidates__0__priority": 0},
    "priority 2**31": {"candidates__0__priority": 2**31},
    "priority true": {"candidates__0__priority": True},
    "a candidate type": {"candidates__0__type": "host"},
    "a candidate's related address": {"candidates__0__raddr": "192.168.1.2"},
    "ssrc 0": {"audio__ssrc": 0},
    "ssrc 2**32": {"audio__ssrc": 2**32},
    "ssrc true": {"audio__ssrc": True},
    "payload type 96": {"audio__payload_type": 96},
    "payload type 112": {"audio__payload_type": 112},
    "another codec": {"audio__codec": "PCMU"},
    "another bitrate": {"audio__bitrate": 96000},
    "more in audio": {"audio__dtx": False},
    "no audio": {"audio": None},
    "another video codec": {"video__takes": ["av1"]},
    "a video codec twice": {"video__takes": ["vp8", "vp8"]},
    "three video codecs": {"video__takes": ["vp8", "h264", "vp8"]},
    "no video plan": {"video": None},
    "more in video": {"video__fec": True},
    "key of 31": {"key": bytes(31)},
    "key of 33": {"key": bytes(33)},
    "key as text": {"key": "k" * 32},
    "no key": {"key": None},
    "version 0": {"version": 0},
    "version 2": {"version": 2},
    "version true": {"version": True},
    "version left out": {"version": None},
    "an unknown field": {"sdp": "v=0"},
}


@pytest.mark.parametrize("rule", OUT_OF_RULES)
def test_ranges_lengths_and_types_are_enforced(rule: str) -> None:
    refused(msgpack.encode(raw(**OUT_OF_RULES[rule])))


@pytest.mark.parametrize(
    "host",
    [
        *["relay.example.org", "localhost", "8.8.8", "8.8.8.8:53", "008.8.8.8", "0x8080808", "1e2", "٨.8.8.8"],
        *["2606:4700::1111%eth0", "[2606:4700::1111]", "::ffff:8.8.8.8%0"],
        *(" 8.8.8.8", "8.8.8.8\n", "", "8" * 46),
    ],
)
def test_only_ip_literals_are_hosts(host: str) -> None:
    sentence = refused(msgpack.encode(raw(candidates__0__host=host)))
    assert not host or host not in sentence


PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "192.0.2.1",
    "224.0.0.251",
    "255.255.255.255",
    "240.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "ff02::fb",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_only_public_unicast_addresses_are_hosts(host: str) -> None:
    data = encode_record(a_record(candidates=(RelayCandidate(host, 5000, 1),)))
    assert host not in refused(data, laboratory=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "fd00::1"])
def test_a_laboratory_allows_private_addresses(host: str) -> None:
    data = encode_record(a_record(candidates=(RelayCandidate(host, 5000, 1),)))
    assert decode_record(data, laboratory=True).candidates[0].host == host


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("2606:4700:0:0:0:0:0:1111", "2606:4700::1111"),
        ("2606:4700::ABCD", "2606:4700::abcd"),
        ("2606:4700::0:1111", "2606:4700::1111"),
        ("2606:4700::8.8.8.8", "2606:4700::808:808"),
    ],
)
def test_an_address_has_one_form(host: str, canonical: str) -> None:
    assert "canonical" in refused(encode_record(a_record(candidates=(RelayCandidate(host, 5000, 1),))))
    decode_record(encode_record(a_record(candidates=(RelayCandidate(canonical, 5000, 1),))))


def test_a_candidate_is_named_once() -> None:
    same = RelayCandidate(PUBLIC, 5000, 1)
    assert "twice" in refused(encode_record(a_record(candidates=(same, RelayCandidate(PUBLIC, 5000, 2)))))
    decode_record(encode_record(a_record(candidates=(same, RelayCandidate(PUBLIC, 5001, 1)))))


def test_a_record_has_one_encoding() -> None:
    """Or two sides could agree on a key though the bytes between them were changed."""
    data = encode_record(CALLER)
    assert data[0] == 0x87  # a map of seven
    duplicate = b"\x88" + data[1:] + msgpack.encode("version") + msgpack.encode(1)
    wide_map = b"\xde\x00\x07" + data[1:]
    signed_port = data.replace(b"port\xcd\x04\x00", b"port\xd1\x04\x00")
    backwards = msgpack.encode(dict(reversed(raw().items())))
    for other in (duplicate, wide_map, signed_port, backwards, data + b"\x00", data[:-1], b""):
        assert other != data
        refused(other)


def test_each_changed_byte_is_refused_or_changes_the_key() -> None:
    data = encode_record(CALLEE)
    agreed = derive_call_key(CALLER, CALLEE)
    survived = 0
    for at in range(len(data)):
        for bit in range(8):
            altered = bytearray(data)
            altered[at] ^= 1 << bit
            try:
                record = decode_record(bytes(altered), laboratory=True)
            except RecordRefused:
                continue
            survived += 1
            assert derive_call_key(CALLER, record) != agreed, f"byte {at}"
            assert derive_call_key(record, CALLER) != derive_call_key(CALLEE, CALLER)
    assert survived > 32 * 8  # the key's bits at least


# --- cost -------------------------------------------------------------------------------------------------------------


def test_more_than_2048_bytes_are_refused_unread() -> None:
    assert "longer" in refused(bytes(MAX_RECORD + 1))
    assert "longer" not in refused(bytes(MAX_RECORD))


head, tail = encode_record(CALLER).split(b"candidates\x92", 1)
HEAVY = {
    "arrays in arrays": b"\x91" * MAX_RECORD,
    "maps in maps": b"\x81\xa1x" * 682,
    "maps as keys": b"\x81" * MAX_RECORD,
    "candidates in candidates": head + b"candidates" + b"\x91" * 1500,
    "2**32 - 1 candidates declared": head + b"candidates\xdd\xff\xff\xff\xff" + tail,
    "2**32 - 1 candidates, 1500 there": head + b"candidates\xdd\xff\xff\xff\xff" + b"\xc0" * 1500,
    "2**32 - 1 fields declared": b"\xdf\xff\xff\xff\xff" + encode_record(CALLER)[1:],
    "a text of 2**32 - 1": b"\x81\xa5ufrag\xdb\xff\xff\xff\xff" + b"a" * 100,
    "bytes of 2**32 - 1": b"\x81\xa3key\xc6\xff\xff\xff\xff" + b"a" * 100,
    "an extension of 2**32 - 1": b"\x81\xa3key\xc9\xff\xff\xff\xff\x01" + b"a" * 100,
    "bad UTF-8": b"\x81\xa5ufrag\xa4\xff\xfe\xfd\xfc",
}


@pytest.mark.parametrize("kind", HEAVY)
def test_what_claims_to_be_huge_costs_nothing(kind: str) -> None:
    start = time.perf_counter()
    refused(HEAVY[kind])
    assert time.perf_counter() - start < 1.0


# --- the key ----------------------------------------------------------------------------------------------------------


def test_the_call_key_is_hkdf_over_both_records() -> None:
    """RFC 5869 written out."""
    one, other = encode_record(CALLER), encode_record(CALLEE)
    transcript = len(one).to_bytes(4, "big") + one + len(other).to_bytes(4, "big") + other
    extracted = hmac.digest(hashlib.sha256(transcript).digest(), CALLER.key + CALLEE.key, "sha256")
    expanded = hmac.digest(extracted, b"relaycall/1 call key\x01", "sha256")
    assert derive_call_key(CALLER, CALLEE) == expanded
    assert expanded.hex() == "1fafc760cb1cf851cb12d8f32b376b76fbbebb4be09400d4dfec2ab75c780cf9"


def test_both_sides_agree_and_the_roles_count() -> None:
    at_callee = derive_call_key(decode_record(encode_record(CALLER)), CALLEE)
    assert derive_call_key(CALLER, decode_record(encode_record(CALLEE))) == at_callee
    assert derive_call_key(CALLEE, CALLER) != at_callee


def test_our_own_record_coming_back_is_refused() -> None:
    with pytest.raises(RecordRefused, match="repeats our own"):
        derive_call_key(CALLER, decode_record(encode_record(CALLER)))
    with pytest.raises(RecordRefused):
        derive_call_key(CALLER, a_record(audio=AudioPlan(ssrc=5)))  # the same key
    with pytest.raises(RecordRefused):
        derive_call_key(CALLER, a_record(key=KEY[::-1]))  # the same SSRC


def test_a_record_shows_nothing() -> None:
    shown = f"{CALLER!r} {CALLER} {CALLER.candidates} {CALLER.audio}"
    for secret in (CALLER.ufrag, CALLER.pwd, PUBLIC, "49152", "16777215", repr(KEY), KEY.hex()):
        assert secret not in shown


def test_a_refusal_names_the_rule_and_no_value() -> None:
    for changes in ({"ufrag": "canary!"}, {"canary": 1}, {"key": b"canary"}, {"candidates__0__host": "canary.example"}):
        with pytest.raises(RecordRefused) as found:
            decode_record(msgpack.encode(raw(**changes)))
        error = found.value
        assert "canary" not in f"{error} {error!r} {error.__cause__} {error.args}"
        assert error.__suppress_context__ or error.__context__ is None
