"""The description record as bytes: what is taken for one, and the known answer of docs/protocol.md."""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack, structs

from relaycall.call.description import (
    MAX_RECORD,
    decode_description,
    describe_answer,
    describe_offer,
    encode_description,
    read_description,
)
from relaycall.call.messages import Kind
from relaycall.errors import MessageRefused, SdpRefused
from relaycall.identity.sealer import Opened
from relaycall.sdp import MAX_SECTIONS
from tests.call.descriptions import HEX, OFFER, SESSION, lines_of, text
from tests.identity.people import ALICE, BOB

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
RECORD = describe_offer(OFFER, SESSION)


# --- records from others ----------------------------------------------------------------------------------------------


@given(st.binary(max_size=2 * MAX_RECORD))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    with contextlib.suppress(SdpRefused):
        assert encode_description(decode_description(data)) == data


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.integers(0, 10), anything)
def test_any_value_in_any_entry_is_within_the_rules_or_refused(entry: int, value: Any) -> None:
    entries = msgpack.decode(encode_description(RECORD))
    entries[entry : entry + 1] = [value]
    data = msgpack.encode(entries)
    with contextlib.suppress(SdpRefused):
        assert encode_description(decode_description(data)) == data


def entries(**changes: Any) -> bytes:
    return encode_description(structs.replace(RECORD, **changes))


def with_section(*section: Any) -> bytes:
    return entries(sections=(section,))


FORMAT = [96, "opus", 48000, 2]
OUT_OF_RULES = {
    "nothing": b"",
    "version 2": entries(version=2),
    "version true": entries(version=True),
    "type": entries(type="pranswer"),
    "session of 15": entries(session=bytes(15)),
    "offer of 33": entries(offer=bytes(33)),
    "fingerprint of 31": entries(fingerprint=bytes(31)),
    "fingerprint in text": entries(fingerprint="a" * 32),
    "role": entries(setup="holdconn"),
    "ufrag of 3": entries(ufrag="abc"),
    "pwd of 21": entries(pwd="a" * 21),
    "a line end": entries(ufrag="abcd\n"),
    "no section": entries(sections=()),
    "17 sections": entries(sections=(("application", "0", "sendrecv", (), False),) * (MAX_SECTIONS + 1)),
    "kind": with_section("text", "0", "sendrecv", [FORMAT], True),
    "no mid": with_section("audio", "", "sendrecv", [FORMAT], True),
    "direction": with_section("audio", "0", "both", [FORMAT], True),
    "payload type 128": with_section("audio", "0", "sendrecv", [[128, "opus", 48000, 2]], True),
    "no codec": with_section("audio", "0", "sendrecv", [[96, "", 48000, 2]], True),
    "no clock": with_section("audio", "0", "sendrecv", [[96, "opus", 0, 2]], True),
    "no channel": with_section("audio", "0", "sendrecv", [[96, "opus", 48000, 0]], True),
    "65 formats": with_section("audio", "0", "sendrecv", [FORMAT] * 65, True),
    "one entry more": with_section("audio", "0", "sendrecv", [FORMAT], True, 1),
    "one entry less": with_section("audio", "0", "sendrecv", [FORMAT]),
    "another encoding": b"\xdc\x00\x0a" + encode_description(RECORD)[1:],
    "a byte more": encode_description(RECORD) + b"\0",
    "too long": bytes(MAX_RECORD + 1),
}


@pytest.mark.parametrize("data", OUT_OF_RULES.values(), ids=OUT_OF_RULES)
def test_a_record_that_is_none(data: bytes) -> None:
    with pytest.raises(SdpRefused, match="record"):
        decode_description(data)


def test_more_than_a_record_holds() -> None:
    formats = " ".join(str(n) for n in range(128))
    explained = "".join(f"a=rtpmap:{n} {'x' * 30}/90000\r\n" for n in range(60))
    start = OFFER.replace("SAVPF 111 0", "SAVPF " + " ".join(formats.split()[:60]))
    with pytest.raises(SdpRefused, match="longer"):
        describe_offer(re.sub("a=rtpmap:111.*\r\n", explained, start).replace("a=rtpmap:0 PCMU/8000\r\n", ""), SESSION)
    with pytest.raises(SdpRefused, match="cannot"):
        describe_offer(OFFER.replace("PCMU", "x" * 33), SESSION)


# --- envelopes --------------------------------------------------------------------------------------------------------


def test_a_record_from_an_envelope() -> None:
    body = encode_description(RECORD)
    assert read_description(Opened(Kind.DESCRIPTION, body, ALICE.public, None), ALICE.public) == RECORD
    for opened in (Opened(Kind.DESCRIPTION, body, BOB.public, None), Opened(Kind.OFFER, body, ALICE.public, None)):
        with pytest.raises(MessageRefused):
            read_description(opened, ALICE.public)
    with pytest.raises(SdpRefused):
        read_description(Opened(Kind.DESCRIPTION, body[1:], ALICE.public, None), ALICE.public)


# --- a known answer ---------------------------------------------------------------------------------------------------


def packed(*entries: Any) -> bytes:
    """An array in the shortest MessagePack, by hand."""
    parts = []
    for entry in entries:
        if isinstance(entry, tuple):
            parts.append(packed(*entry))
        elif isinstance(entry, bool):
            parts.append(b"\xc3" if entry else b"\xc2")
        elif isinstance(entry, int):
            size = 0 if entry < 128 else 2 if entry < 1 << 16 else 4
            parts.append({0: b"", 2: b"\xcd", 4: b"\xce"}[size] + entry.to_bytes(max(size, 1), "big"))
        elif isinstance(entry, bytes):
            parts.append(b"\xc4" + bytes([len(entry)]) + entry)
        else:
            parts.append(bytes([0xA0 | len(entry)]) + entry.encode())
    return bytes([0x90 | len(entries)]) + b"".join(parts)


def test_the_known_answer() -> None:
    """As in docs/protocol.md, and put together by hand."""
    document = PROTOCOL.read_text()
    part = document[document.index("## Signed descriptions") :]
    names = "offer record|offer hash|answer record|other lines"
    shown = dict(re.findall(rf"^    ({names}) +=((?:\s+[0-9a-f]{{2,64}}$)+)", part, re.M))
    told = {name: bytes.fromhex("".join(value.split())) for name, value in shown.items()}
    sdp = "".join(f"{line[4:]}\n" for line in re.findall(r"^    (?=[vostamc]=).*", part, re.M))

    head = "v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\na=group:BUNDLE 0\n\n"
    section = "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=fmtp:111 minptime=20\n\n"
    others = hashlib.sha256(b"relaycall description lines 1\0" + (head + section).encode()).digest()
    plan = (("audio", "0", "sendrecv", ((111, "opus", 48000, 2),), True),)
    credentials = ("Adam", "password/of/the/offer+")
    offer = packed(1, "offer", SESSION, b"", b"\xab" * 32, "actpass", *credentials, plan, others)
    hashed = hashlib.sha256(b"relaycall offered description 1\0" + offer).digest()
    answer = packed(1, "answer", SESSION, hashed, b"\xac" * 32, "active", *credentials, plan, others)
    assert told == {"other lines": others, "offer record": offer, "offer hash": hashed, "answer record": answer}

    record = describe_offer(sdp, SESSION)
    assert encode_description(record) == offer
    theirs = sdp.replace("AB", "AC").replace("actpass", "active")
    assert encode_description(describe_answer(theirs, record)) == answer


def test_the_size_of_a_browsers_record() -> None:
    """Chromium offers 8 formats of sound and 23 of pictures: about 600 bytes."""
    formats = list(range(96, 119))
    explained = "".join(f"a=rtpmap:{n} H264/90000\r\n" for n in formats)
    lines = text(lines_of("actpass", HEX)).replace("SAVPF 97 98", "SAVPF " + " ".join(map(str, formats)))
    sdp = re.sub("a=rtpmap:97.*\r\n", explained, lines).replace("a=rtpmap:98 rtx/90000\r\n", "")
    assert 500 < len(encode_description(describe_offer(sdp, SESSION))) < 700
