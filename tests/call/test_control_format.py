"""Control messages on the wire: one encoding for each state, and everything else is refused."""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from relaycall.call.control_format import (
    LAST_SEQUENCE,
    LIMITS,
    MESSAGE_SIZE,
    ControlMessage,
    ControlState,
    HangupReason,
    decode_control,
    encode_control,
)
from relaycall.errors import ConfigError, MalformedMessage
from relaycall.ice.candidate import MAX_CANDIDATES
from relaycall.media.control_stream import CONTROL_PAYLOAD_SIZE, ControlStream
from relaycall.media.srtp import OutgoingSrtp, derive_keys
from relaycall.stun.address import Address

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
V4 = [Address(f"9.9.9.{n}", 5000 + n) for n in range(5)]
V6 = [Address(f"2620:fe::{n}", 65535 - n) for n in range(1, 6)]

addresses = st.one_of(
    st.builds(Address, st.ip_addresses(v=4).map(str), st.integers(1024, 65535)),
    st.builds(Address, st.ip_addresses(v=6).map(str), st.integers(1024, 65535)),
)
states = st.builds(
    ControlState,
    candidates=st.lists(addresses, max_size=MAX_CANDIDATES, unique=True).map(tuple),
    muted=st.booleans(),
    video=st.booleans(),
    protect=st.booleans(),
    receive_limit=st.sampled_from([None, *LIMITS]),
    hangup=st.sampled_from([None, *HangupReason]),
)
messages = st.builds(
    ControlMessage,
    sequence=st.integers(0, LAST_SEQUENCE - 1),
    acknowledgement=st.integers(0, LAST_SEQUENCE),
    asks=st.booleans(),
    state=states,
)


def message(**changes: object) -> ControlMessage:
    return ControlMessage(1, 0, asks=True, state=replace(ControlState(), **changes))  # type: ignore[arg-type]


def raw(
    first: int = 0x11, sequence: int = 1, flags: int = 0, limit: int = 0, shape: int = 0, rest: bytes = b""
) -> bytes:
    return (struct.pack("!BHHBBB", first, sequence, 7, flags, limit, shape) + rest).ljust(80, b"\0")


def entry(address: str, port: int) -> bytes:
    return ipaddress.ip_address(address).packed + struct.pack("!H", port)


def test_the_size_is_that_of_an_audio_packet() -> None:
    assert MESSAGE_SIZE == CONTROL_PAYLOAD_SIZE == 80


@given(messages)
def test_every_message_survives_the_way(given_message: ControlMessage) -> None:
    data = encode_control(given_message)
    assert len(data) == MESSAGE_SIZE
    assert decode_control(data, laboratory=True) == given_message


def test_the_fullest_message_fits() -> None:
    state = ControlState(tuple(V6[:4]), True, True, True, LIMITS[-1], HangupReason.ERROR)
    data = encode_control(ControlMessage(LAST_SEQUENCE, LAST_SEQUENCE, asks=True, state=state))
    assert len(data) == MESSAGE_SIZE
    assert decode_control(data).state == state


def test_the_layout() -> None:
    """Written out by hand, byte for byte."""
    state = ControlState(
        (V4[1], V6[1], V4[2]), muted=True, protect=True, receive_limit=16000, hangup=HangupReason.RELAYS_LOST
    )
    data = encode_control(ControlMessage(0x0102, 0x0304, asks=True, state=state))
    assert data.hex(" ") == (
        "11 01 02 03 04 b2 05 23 "
        "09 09 09 01 13 89 "
        "26 20 00 fe 00 00 00 00 00 00 00 00 00 00 00 02 ff fd "
        "09 09 09 02 13 8a " + " ".join(["00"] * 42)
    )
    assert encode_control(message()).hex() == "1100010000100000" + "00" * 72
    assert encode_control(message(video=True))[5] == 0x50


@pytest.mark.parametrize(
    ("limit", "told"),
    [(8000, 8000), (8001, 8000), (9499, 8000), (9500, 9500), (64000, 64000), (100_000, 90400), (10**15, 13400 << 15)],
)
def test_limits_are_rounded_down(limit: int, told: int) -> None:
    assert decode_control(encode_control(message(receive_limit=limit))).state.receive_limit == told


def test_limits_rise_by_a_fifth_or_so() -> None:
    assert len(LIMITS) == 64
    assert all(1.17 < above / below < 1.2 for below, above in pairwise(LIMITS))


@pytest.mark.parametrize("limit", [7999, 0, -1])
def test_a_limit_below_the_lowest_is_no_state(limit: int) -> None:
    with pytest.raises(ConfigError):
        ControlState(receive_limit=limit)


def test_too_many_candidates_and_one_twice_are_no_state() -> None:
    with pytest.raises(ConfigError):
        ControlState(tuple(V4))
    with pytest.raises(ConfigError):
        ControlState((V4[0], V4[1], V4[0]))


@given(st.binary(max_size=100) | st.binary(min_size=80, max_size=80))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for given_data in (data, b"\x11" + data[1:]):
        for laboratory in (False, True):
            try:
                decoded = decode_control(given_data, laboratory=laboratory)
            except MalformedMessage:
                continue
            assert encode_control(decoded) == given_data


@given(messages, st.integers(0, MESSAGE_SIZE - 1), st.integers(1, 255))
def test_a_changed_byte_is_another_message_or_refused(original: ControlMessage, place: int, change: int) -> None:
    data = bytearray(encode_control(original))
    data[place] ^= change
    try:
        decoded = decode_control(bytes(data), laboratory=True)
    except MalformedMessage:
        return
    assert decoded != original
    assert encode_control(decoded) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(80),
        raw()[:-1],
        raw() + b"\0",
        raw(first=0x10),
        raw(first=0x12),
        raw(first=0x21),
        raw(sequence=LAST_SEQUENCE),
        raw(flags=0x04),
        raw(flags=0x0F),
        raw(limit=65),
        raw(limit=255),
        raw(shape=0x05),
        raw(shape=0x0F),
        raw(shape=0x10),
        raw(shape=0x21, rest=entry("9.9.9.9", 5000)),
        raw(shape=0x80),
        raw(rest=bytes(71) + b"\1"),
        raw(rest=b"\1"),
        raw(shape=0x01, rest=entry("9.9.9.9", 5000) + b"\1"),
        raw(shape=0x02, rest=entry("9.9.9.9", 5000) * 2),
        raw(shape=0x01, rest=entry("9.9.9.9", 1023)),
        raw(shape=0x01, rest=entry("9.9.9.9", 0)),
        *(raw(shape=0x01, rest=entry(host, 5000)) for host in ("0.0.0.0", "10.0.0.1", "127.0.0.1", "255.255.255.255")),
        *(raw(shape=0x11, rest=entry(host, 5000)) for host in ("::", "::1", "fe80::1", "::ffff:9.9.9.9", "ff02::1")),
        raw(shape=0x22, rest=entry("9.9.9.9", 5000) + entry("fc00::1", 5000)),
    ],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_control(data)


def test_what_is_not_refused() -> None:
    """The same bytes without the fault."""
    assert decode_control(raw()).acknowledgement == 7
    assert decode_control(raw(sequence=LAST_SEQUENCE, flags=0x01)).state.hangup is HangupReason.FINISHED
    assert decode_control(raw(limit=64)).state.receive_limit == LIMITS[-1]
    assert decode_control(raw(shape=0x01, rest=entry("9.9.9.9", 1024))).state.candidates == (Address("9.9.9.9", 1024),)
    two = decode_control(raw(shape=0x22, rest=entry("9.9.9.9", 5000) + entry("2620:fe::9", 5000)))
    assert two.state.candidates == (Address("9.9.9.9", 5000), Address("2620:fe::9", 5000))
    private = raw(shape=0x01, rest=entry("10.0.0.1", 5000))
    assert decode_control(private, laboratory=True).state.candidates == (Address("10.0.0.1", 5000),)


def test_no_refusal_and_no_repr_shows_an_address() -> None:
    with pytest.raises(MalformedMessage) as refusal:
        decode_control(raw(shape=0x01, rest=entry("10.11.12.13", 5000)))
    chain = [refusal.value, refusal.value.__cause__]
    assert not any("10.11.12.13" in repr(error) + str(error) for error in chain)
    assert refusal.value.__suppress_context__
    state = ControlState((Address("10.11.12.13", 5000),))
    assert "10.11" not in repr(state) + repr(ControlMessage(1, 1, asks=False, state=state))


def test_the_known_answer_in_the_protocol() -> None:
    """What docs/protocol.md prints, computed again."""
    section = PROTOCOL.read_text().split("## In-band control")[1].split("\n## ")[0]
    # "name = hex digits", indented; a value may go on in the next lines
    entries = re.findall(r"^ {4}(\w[\w ]*?) += ((?:[0-9a-f]+\n? *)+)$", section, re.MULTILINE)
    told = {name: "".join(value.split()) for name, value in entries}
    call_key = bytes.fromhex(told["call key"])
    infos = re.findall(r'info = "([^"]+)", (\d+) bytes', section)
    derived = [HKDF(hashes.SHA256(), int(size), None, info.encode()).derive(call_key).hex() for info, size in infos]
    assert derived == [told[name] for name in ("caller to callee", "callee to caller", "caller ssrc", "callee ssrc")]
    keys = derive_keys(call_key, caller=True)
    assert keys.control.send.hex() == told["caller to callee"]
    assert keys.control.receive.hex() == told["callee to caller"]
    assert f"{keys.control.send_ssrc:08x}" == told["caller ssrc"]
    assert f"{keys.control.receive_ssrc:08x}" == told["callee ssrc"]
    state = ControlState((Address("192.0.2.1", 49152), Address("2001:db8::2", 50000)), muted=True, receive_limit=64000)
    payload = encode_control(ControlMessage(3, 2, asks=True, state=state))
    assert payload.hex() == told["message"]
    assert decode_control(payload, laboratory=True).state == state
    header = struct.pack("!BBHLL", 0x80, 126, 1, 0, keys.control.send_ssrc)
    packet = OutgoingSrtp(keys.control.send, keys.control.send_ssrc).protect_rtp(header + payload)
    assert isinstance(packet, bytes)
    assert packet.hex() == told["packet"]
    assert ControlStream(derive_keys(call_key, caller=False), 2, 1).unprotect(packet) == payload
