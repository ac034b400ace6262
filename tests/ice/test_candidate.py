"""Candidates: what is told of our relays, and which addresses a peer may name."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaycall.errors import RecordRefused
from relaycall.ice.candidate import MAX_CANDIDATES, accept_address, candidate, priority
from relaycall.stun.address import Address

RELAYED = Address("1.2.3.4", 50000)


def test_a_candidate_is_a_relay_candidate_without_a_related_address() -> None:
    ours = candidate(RELAYED, 0, b"salt")
    assert (ours.type, ours.transport, ours.component) == ("relay", "udp", 1)
    assert (ours.host, ours.port, ours.address) == ("1.2.3.4", 50000, RELAYED)
    assert (ours.related_address, ours.related_port, ours.tcptype, ours.generation) == (None, None, None, None)


def test_earlier_relays_have_the_higher_priority() -> None:
    priorities = [priority(index) for index in range(MAX_CANDIDATES)]
    assert priorities == sorted(priorities, reverse=True)
    assert priority(0) == (0 << 24) + (65535 << 8) + (256 - 1)  # RFC 8445, section 5.1.2.1
    assert candidate(RELAYED, 3, b"salt").priority == priority(3)


def test_the_foundation_links_candidates_of_one_relay_and_not_two_calls() -> None:
    one, same, other = (candidate(Address(host, 1), 0, b"salt") for host in ("1.2.3.4", "1.2.3.4", "1.2.3.5"))
    assert one.foundation == same.foundation != other.foundation
    assert candidate(RELAYED, 0, b"another").foundation != one.foundation
    assert one.foundation != hashlib.sha256(b"1.2.3.4").hexdigest()[:16]
    assert len(one.foundation) <= 32  # RFC 8839, section 5.1


def test_a_candidate_shows_no_address() -> None:
    assert "1.2.3.4" not in f"{candidate(RELAYED, 0, b'salt')!r} {candidate(RELAYED, 0, b'salt')}"


@pytest.mark.parametrize("host", ["1.2.3.4", "2a00:1450:4001:80b::200e"])
@pytest.mark.parametrize("port", [1024, 65535])
def test_public_addresses_are_accepted(host: str, port: int) -> None:
    assert accept_address(host, port, laboratory=False) == Address(host, port)


def test_addresses_are_made_canonical() -> None:
    assert accept_address("2A00:1450:0:0:0:0:0:1", 5000, laboratory=False) == Address("2a00:1450::1", 5000)


NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.251",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:1.2.3.4",
    "64:ff9b::102:304",
    "2001:0:102:304::1",
    "2002:102:304::1",
    "fc00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_addresses_that_no_public_relay_has_are_refused(host: str) -> None:
    with pytest.raises(RecordRefused) as refused:
        accept_address(host, 5000, laboratory=False)
    assert host not in str(refused.value)
    assert accept_address(host, 5000, laboratory=True)


@pytest.mark.parametrize(
    "host", ["", "relay.example", "1.2.3", "1.2.3.4.5", "01.2.3.4", "0x1.2.3.4", "1.2.3.4 ", "[::1]"]
)
@pytest.mark.parametrize("laboratory", [False, True])
def test_what_is_no_address_literal_is_refused(host: str, laboratory: bool) -> None:
    with pytest.raises(RecordRefused) as refused:
        accept_address(host, 5000, laboratory=laboratory)
    assert not host or host not in str(refused.value)


def test_an_address_with_a_scope_is_refused() -> None:
    with pytest.raises(RecordRefused):
        accept_address("fe80::1%eth0", 5000, laboratory=True)


@pytest.mark.parametrize("port", [-1, 0, 53, 1023, 65536])
@pytest.mark.parametrize("laboratory", [False, True])
def test_low_and_impossible_ports_are_refused(port: int, laboratory: bool) -> None:
    with pytest.raises(RecordRefused):
        accept_address("1.2.3.4", port, laboratory=laboratory)


@given(st.text(max_size=50), st.integers(), st.booleans())
def test_nothing_else_than_a_refusal_is_raised(host: str, port: int, laboratory: bool) -> None:
    try:
        accepted = accept_address(host, port, laboratory=laboratory)
    except RecordRefused as refused:
        assert refused.__cause__ is None  # noqa: PT017 - either outcome is right
    else:
        assert accepted.port == port >= 1024
