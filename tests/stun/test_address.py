"""Addresses: canonical, silent, and public or not."""

from __future__ import annotations

import copy
import io
import ipaddress
import logging
import pickle
import pprint
import traceback
from dataclasses import dataclass

import pytest
import rich.console
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relaycall.stun.address import IPV4, IPV6, Address, is_public_unicast

# Neither the load of the machine nor the first run, which builds a table of Unicode, is what is tested.
steady = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

CANARY = Address("198.51.100.77", 54321)
CANARY6 = Address("2001:db8::cafe:77", 54321)

# --- parsing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:0db8::0001", "2001:db8::1"),
        ("::", "::"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
    ],
)
def test_parse_makes_canonical(host: str, canonical: str) -> None:
    assert Address.parse(host, 3478) == (canonical, 3478)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "relay.example.org",
        "localhost",
        "192.0.2",
        "192.0.2.1.",
        " 192.0.2.1",
        "192.0.2.01",
        "0xc0000201",
        "3221225985",
        "192.0.2.256",
        "192.0.2.1/32",
        "192.0.2.1:80",
        "[2001:db8::1]",
        "2001:db8::1%eth0",
        "fe80::1%1",
        "2001:db8:::1",
        "1\u0661.0.0.1",
    ],
)
def test_parse_takes_ip_literals_only_and_does_not_repeat_them(host: str) -> None:
    for check in (lambda: Address.parse(host, 1), lambda: is_public_unicast(host)):
        with pytest.raises(ValueError) as caught:
            check()
        assert not host or host not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_parse_checks_the_port(port: int) -> None:
    assert Address.parse("192.0.2.1", 0).port == 0
    assert Address.parse("192.0.2.1", 65535).port == 65535
    with pytest.raises(ValueError, match="port"):
        Address.parse("192.0.2.1", port)


@steady
@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_spelling_of_an_address_is_one(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    address = Address.parse(ip.exploded.upper(), port)
    assert address == Address.parse(str(ip), port) == Address.parse(address.host, port)
    assert ipaddress.ip_address(address.host) == ip
    assert address.family == (IPV4 if ip.version == 4 else IPV6)


def test_text() -> None:
    assert Address("192.0.2.1", 3478).text() == "192.0.2.1:3478"
    assert Address("2001:db8::1", 3478).text() == "[2001:db8::1]:3478"


# --- silence ---------------------------------------------------------------------------------------------------------


@dataclass
class Holder:
    address: Address
    more: list[Address]


def rich_text(value: object, **arguments: bool) -> str:
    console = rich.console.Console(file=io.StringIO(), width=200)
    console.print(value, **arguments)
    return console.file.getvalue()


def logged(text: str, *arguments: object) -> str:
    handler = logging.StreamHandler(io.StringIO())
    logger = logging.Logger("a logger of its own", logging.DEBUG)
    logger.addHandler(handler)
    logger.debug(text, *arguments)
    return handler.stream.getvalue()


def raised(address: Address) -> str:
    try:
        raise LookupError(address)
    except LookupError as error:
        return repr(error) + "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


SHOWN = {
    "repr": repr,
    "str": str,
    "ascii": ascii,
    "format": format,
    "format with a width": lambda address: f"{address:>40}",
    "format of the repr": lambda address: f"{address!r}",
    "str.format": "{0} {0!s} {0!r}".format,
    "per cent": lambda address: "%s %r" % (address, address),  # noqa: UP031
    "a list": lambda address: repr([address]),
    "a tuple": lambda address: repr((1, address)),
    "a set": lambda address: repr({address}),
    "a key and a value": lambda address: repr({address: address}),
    "nested": lambda address: str([{"pairs": ((address, address),)}]),
    "a dataclass": lambda address: repr(Holder(address, [address])),
    "pprint": lambda address: pprint.pformat([address, Holder(address, [address])], width=10),
    "rich": lambda address: rich_text([address, Holder(address, [address])]),
    "logging": lambda address: logged("sent to %s", address),
    "logging the repr": lambda address: logged("sent to %r, %s", address, [address]),
    "logging the address itself": lambda address: logged(address),
    "an exception and its locals": raised,
    "a copy": lambda address: repr(copy.deepcopy(address)),
    "a replacement": lambda address: repr(address._replace(port=54321)),
    "pickled and back": lambda address: repr(pickle.loads(pickle.dumps(address))),
}


@pytest.mark.parametrize("address", [CANARY, CANARY6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN.keys())
def test_nothing_shows_an_address(show: object, address: Address) -> None:
    text = show(address)
    assert "<address>" in text
    assert "54321" not in text
    assert address.host not in text
    assert address.host in address.text()  # what the other lines look for can be found


# --- public or not ---------------------------------------------------------------------------------------------------

# Every block of IANA's special-purpose registries that is not one host's on the public Internet, and others that reach
# an IPv4 address from inside an IPv6 one. Both ends of each block are tried, and the addresses just outside.
NOT_PUBLIC = """
    0.0.0.0/8           this network
    10.0.0.0/8          private
    100.64.0.0/10       carrier-grade NAT
    127.0.0.0/8         loopback
    169.254.0.0/16      link-local, and the metadata services of clouds
    172.16.0.0/12       private
    192.0.0.0/24        protocol assignments
    192.0.2.0/24        documentation
    192.88.99.0/24      6to4 relays
    192.168.0.0/16      private
    198.18.0.0/15       benchmarking
    198.51.100.0/24     documentation
    203.0.113.0/24      documentation
    224.0.0.0/4         multicast
    240.0.0.0/4         reserved, broadcast
    ::/128              unspecified
    ::1/128             loopback
    ::/96               IPv4-compatible
    ::ffff:0.0.0.0/96   IPv4-mapped
    64:ff9b::/96        NAT64
    64:ff9b:1::/48      local NAT64
    100::/64            discard only
    100:0:0:1::/64      dummy
    2001::/32           Teredo
    2001:2::/48         benchmarking
    2001:10::/28        ORCHID
    2001:20::/28        ORCHIDv2
    2001::/23           protocol assignments
    2001:db8::/32       documentation
    2002::/16           6to4
    3fff::/20           documentation
    5f00::/16           segment routing
    fc00::/7            unique local
    fe80::/10           link-local
    fec0::/10           site-local
    ff00::/8            multicast
"""
BLOCKS = [ipaddress.ip_network(line.split()[0]) for line in NOT_PUBLIC.strip().splitlines()]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_not_public(block: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
    middle = block.network_address + block.num_addresses // 2
    for ip in (block.network_address, block.network_address + min(1, block.num_addresses - 1), middle, block[-1]):
        assert not is_public_unicast(str(ip)), ip


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "172.31.255.255",
        "192.0.0.9",
        "224.0.0.251",
        "239.255.255.250",
        "255.255.255.255",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::a00:1",
        "2002:a00:1::1",
        "2002:808:808::1",
        "2001:0:808:808::f5ff:fffe",
        "fe80::1",
        "ff02::fb",
        "4000::1",
        "fd00::1",
    ],
)
def test_not_public_either(host: str) -> None:
    assert not is_public_unicast(host)
    assert not is_public_unicast(ipaddress.ip_address(host).exploded)


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "1.1.1.1",
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2003::1",
        "3ffe:ffff::1",
        "3fff:1000::1",
    ],
)
def test_public(host: str) -> None:
    assert is_public_unicast(host)


@steady
@given(st.ip_addresses(v=4))
def test_every_ipv4_address_is_in_a_block_or_public(ip: ipaddress.IPv4Address) -> None:
    assert is_public_unicast(str(ip)) is not any(ip in block for block in BLOCKS if block.version == 4)


@steady
@given(st.ip_addresses(v=4))
def test_no_ipv4_address_is_public_from_inside_an_ipv6_one(ip: ipaddress.IPv4Address) -> None:
    value = int(ip)
    for network, shift in [("::", 0), ("::ffff:0:0", 0), ("64:ff9b::", 0), ("2002::", 80), ("2001::", 64)]:
        assert not is_public_unicast(str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(network)) | value << shift)))
