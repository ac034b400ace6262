"""Keys and SRTP streams: what is refused, and why."""

from __future__ import annotations

import hashlib
import hmac
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import ConfigError
from relaycall.media.srtp import (
    COPIES_KNOWN,
    IncomingSrtp,
    OutgoingSrtp,
    Refusal,
    SrtpKeys,
    StreamKeys,
    derive_keys,
    free_ssrc,
)

KEY = bytes(range(44))
OTHER_KEY = bytes(range(1, 45))
SSRC = 0x12345678


def rtp(sequence_number: int, ssrc: int = SSRC, payload: bytes = b"sound" * 16) -> bytes:
    return struct.pack("!BBHLL", 0x80, 111, sequence_number, 960 * sequence_number & 0xFFFFFFFF, ssrc) + payload


def receiver_report(ssrc: int = SSRC) -> bytes:
    return struct.pack("!BBHL", 0x80, 201, 1, ssrc)


def hkdf_sha256(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 written out, with the empty salt."""
    secret = hmac.digest(bytes(32), key, hashlib.sha256)
    block = output = b""
    while len(output) < length:
        block = hmac.digest(secret, block + info + bytes([len(output) // 32 + 1]), hashlib.sha256)
        output += block
    return output[:length]


def test_known_answer() -> None:
    keys = derive_keys(bytes(range(32)), caller=True)
    assert keys.send == hkdf_sha256(bytes(range(32)), b"relaycall/1 srtp caller to callee", 44)
    assert keys.receive == hkdf_sha256(bytes(range(32)), b"relaycall/1 srtp callee to caller", 44)
    assert keys.send.hex().startswith("d30ffa1c0fcb55761d34a1cfda5a0de4")
    assert keys.receive.hex().startswith("b63461b2c4a32bca1cce11c0a38bac33")
    assert keys.control.send == hkdf_sha256(bytes(range(32)), b"relaycall/1 control caller to callee", 44)
    assert keys.control.receive == hkdf_sha256(bytes(range(32)), b"relaycall/1 control callee to caller", 44)
    to_callee = hkdf_sha256(bytes(range(32)), b"relaycall/1 control ssrc caller to callee", 4)
    to_caller = hkdf_sha256(bytes(range(32)), b"relaycall/1 control ssrc callee to caller", 4)
    assert keys.control.send_ssrc == int.from_bytes(to_callee, "big")
    assert keys.control.receive_ssrc == int.from_bytes(to_caller, "big")


def test_what_one_side_sends_with_the_other_receives_with() -> None:
    caller, callee = (derive_keys(bytes(32), caller=caller) for caller in (True, False))
    assert (caller.send, caller.receive) == (callee.receive, callee.send)
    assert (caller.control.send, caller.control.receive) == (callee.control.receive, callee.control.send)
    assert caller.control.send_ssrc == callee.control.receive_ssrc
    assert caller.control.receive_ssrc == callee.control.send_ssrc
    assert caller.control.send_ssrc != caller.control.receive_ssrc
    assert len({caller.send, caller.receive, caller.control.send, caller.control.receive}) == 4
    assert derive_keys(b"\1" * 32, caller=True).send != caller.send


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_call_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ConfigError):
        derive_keys(bytes(size), caller=True)


def test_an_ssrc_in_use_is_stepped_over() -> None:
    assert free_ssrc(7, 1, 2) == 7
    assert free_ssrc(1, 1, 3) == 2
    assert free_ssrc(1, 2, 1) == 3
    assert free_ssrc(0) == 1
    assert free_ssrc(0xFFFFFFFF, 0xFFFFFFFF, 1) == 2


def test_no_repr_shows_a_key() -> None:
    keys = derive_keys(bytes(32), caller=True)
    for shown in (repr(keys), str(keys), f"{keys}", repr(OutgoingSrtp(keys.send, SSRC))):
        assert repr(keys.send)[2:12] not in shown
        assert keys.send.hex()[:10] not in shown
    keys = SrtpKeys(b"a", b"b", StreamKeys(b"c", b"d", 1, 2), StreamKeys(b"e", b"f", 3, 4))
    assert repr(keys) == "SrtpKeys(control=StreamKeys(), video=StreamKeys())"


def test_round_trip_and_sizes() -> None:
    outgoing, incoming = OutgoingSrtp(KEY, SSRC), IncomingSrtp(KEY, SSRC)
    protected = outgoing.protect_rtp(rtp(1))
    assert isinstance(protected, bytes)
    assert len(protected) == len(rtp(1)) + 16
    assert protected[:12] == rtp(1)[:12]
    assert b"sound" not in protected
    assert incoming.unprotect_rtp(protected) == rtp(1)
    protected = outgoing.protect_rtcp(receiver_report())
    assert isinstance(protected, bytes)
    assert len(protected) == len(receiver_report()) + 20
    assert incoming.unprotect_rtcp(protected) == receiver_report()


def test_wrong_key() -> None:
    outgoing, incoming = OutgoingSrtp(OTHER_KEY, SSRC), IncomingSrtp(KEY, SSRC)
    assert incoming.unprotect_rtp(outgoing.protect_rtp(rtp(1))) is Refusal.AUTHENTICATION
    rtcp = outgoing.protect_rtcp(receiver_report())
    assert incoming.unprotect_rtcp(rtcp) is Refusal.AUTHENTICATION


@given(position=st.integers(0, 107), bit=st.integers(0, 7))
def test_any_bit_changed_on_the_way_is_noticed(position: int, bit: int) -> None:
    incoming = IncomingSrtp(KEY, SSRC)
    protected = OutgoingSrtp(KEY, SSRC).protect_rtp(rtp(1))
    assert isinstance(protected, bytes)
    altered = bytearray(protected)
    altered[position] ^= 1 << bit
    assert isinstance(incoming.unprotect_rtp(bytes(altered)), Refusal)
    assert incoming.unprotect_rtp(protected) == rtp(1)


def test_replays_are_refused_near_and_far() -> None:
    outgoing, incoming = OutgoingSrtp(KEY, SSRC), IncomingSrtp(KEY, SSRC)
    packets = [outgoing.protect_rtp(rtp(number)) for number in range(1500)]
    for packet in packets:
        assert isinstance(packet, bytes)
        assert isinstance(incoming.unprotect_rtp(packet), bytes)
    for number in (1499, 1490, 1500 - COPIES_KNOWN):
        assert incoming.unprotect_rtp(packets[number]) is Refusal.COPY
    for number in (1499 - COPIES_KNOWN, 600, 0):
        assert incoming.unprotect_rtp(packets[number]) is Refusal.REPLAY


def test_replays_of_rtcp_are_refused_near_and_far() -> None:
    outgoing, incoming = OutgoingSrtp(KEY, SSRC), IncomingSrtp(KEY, SSRC)
    packets = [outgoing.protect_rtcp(receiver_report()) for _ in range(300)]
    for packet in packets:
        assert isinstance(packet, bytes)
        assert incoming.unprotect_rtcp(packet) == receiver_report()
    for number in (299, 300 - COPIES_KNOWN):
        assert incoming.unprotect_rtcp(packets[number]) is Refusal.COPY
    for number in (299 - COPIES_KNOWN, 0):
        assert incoming.unprotect_rtcp(packets[number]) is Refusal.REPLAY


def test_what_only_looks_like_a_replay_is_no_copy() -> None:
    """libsrtp looks at the number first: a forged packet of a known number is a replay to it."""
    outgoing, incoming = OutgoingSrtp(KEY, SSRC), IncomingSrtp(KEY, SSRC)
    packet, report = outgoing.protect_rtp(rtp(1)), outgoing.protect_rtcp(receiver_report())
    assert isinstance(packet, bytes)
    assert isinstance(report, bytes)
    for place in range(1, 17):
        forged = bytearray(packet)
        forged[-place] ^= 1
        assert incoming.unprotect_rtp(bytes(forged)) is Refusal.AUTHENTICATION
        forged_report = bytearray(report)
        forged_report[-place - 4] ^= 1
        assert incoming.unprotect_rtcp(bytes(forged_report)) is Refusal.AUTHENTICATION
    assert incoming.unprotect_rtp(packet) == rtp(1)
    assert incoming.unprotect_rtcp(report) == receiver_report()
    for place in range(1, 17):
        forged = bytearray(packet)
        forged[-place] ^= 1
        assert incoming.unprotect_rtp(bytes(forged)) is Refusal.REPLAY
        forged_report = bytearray(report)
        forged_report[-place - 4] ^= 1
        assert incoming.unprotect_rtcp(bytes(forged_report)) is Refusal.REPLAY
    assert incoming.unprotect_rtp(packet) is Refusal.COPY
    assert incoming.unprotect_rtcp(report) is Refusal.COPY


def test_packets_out_of_order_are_accepted_within_the_window() -> None:
    outgoing, incoming = OutgoingSrtp(KEY, SSRC), IncomingSrtp(KEY, SSRC)
    packets = [outgoing.protect_rtp(rtp(number)) for number in range(1000)]
    for packet in reversed(packets):
        assert isinstance(packet, bytes)
        assert isinstance(incoming.unprotect_rtp(packet), bytes)


def test_the_sequence_number_may_wrap() -> None:
    outgoing, incoming = OutgoingSrtp(KEY, SSRC), IncomingSrtp(KEY, SSRC)
    for number in range(65000, 66100):
        packet = outgoing.protect_rtp(rtp(number & 0xFFFF))
        assert isinstance(packet, bytes)
        assert incoming.unprotect_rtp(packet) == rtp(number & 0xFFFF)


def test_another_ssrc_is_refused_and_leaves_no_state() -> None:
    incoming = IncomingSrtp(KEY, SSRC)
    stranger = OutgoingSrtp(KEY, SSRC + 1)
    for number in range(3):  # a stream made for the first packet would accept the second
        assert incoming.unprotect_rtp(stranger.protect_rtp(rtp(number, SSRC + 1))) is Refusal.WRONG_SSRC
        rtcp = stranger.protect_rtcp(receiver_report(SSRC + 1))
        assert incoming.unprotect_rtcp(rtcp) is Refusal.WRONG_SSRC
    assert OutgoingSrtp(KEY, SSRC).protect_rtp(rtp(1, SSRC + 1)) is Refusal.WRONG_SSRC


@pytest.mark.parametrize("size", [0, 1, 11, 12, 27, 1501, 2000, 70000])
def test_sizes_out_of_bounds_never_reach_the_c_library(size: int) -> None:
    outgoing, incoming = OutgoingSrtp(KEY, SSRC), IncomingSrtp(KEY, SSRC)
    packet = (rtp(1) + bytes(size))[:size]
    assert incoming.unprotect_rtp(packet) is Refusal.MALFORMED
    assert incoming.unprotect_rtcp(packet) is Refusal.MALFORMED
    if size != 12 and size != 27:
        assert outgoing.protect_rtp(packet) is Refusal.MALFORMED
    if size < 8 or size > 1480:
        assert outgoing.protect_rtcp(packet) is Refusal.MALFORMED


def test_the_largest_packets() -> None:
    outgoing, incoming = OutgoingSrtp(KEY, SSRC), IncomingSrtp(KEY, SSRC)
    largest = rtp(1, payload=bytes(1500 - 16 - 12))
    protected = outgoing.protect_rtp(largest)
    assert isinstance(protected, bytes)
    assert len(protected) == 1500
    assert incoming.unprotect_rtp(protected) == largest


@given(st.binary(max_size=1600))
def test_garbage_is_refused(data: bytes) -> None:
    incoming = IncomingSrtp(KEY, SSRC)
    assert isinstance(incoming.unprotect_rtp(data), Refusal)
    assert isinstance(incoming.unprotect_rtcp(data), Refusal)


@given(st.binary(max_size=200))
def test_garbage_with_the_right_ssrc_is_refused(data: bytes) -> None:
    incoming = IncomingSrtp(KEY, SSRC)
    assert isinstance(incoming.unprotect_rtp(rtp(1)[:12] + data), Refusal)
    assert isinstance(incoming.unprotect_rtp(b"\xbf" + rtp(1)[1:12] + data), Refusal)
    assert isinstance(incoming.unprotect_rtcp(receiver_report() + data), Refusal)
