"""The relays of a domain, asked of a DNS server on loopback that answers as it is told."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread

import dns.message
import dns.rcode
import dns.rrset
import pytest

from relaycall.errors import ConfigError
from relaycall.relays.discovery import find_relays

IP = "127.0.0.1"


@contextmanager
def nameserver(records: Mapping[str, Sequence[str]]) -> Iterator[list[tuple[str, int]]]:
    """A DNS server that knows these SRV records by name; what it does not know does not exist."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((IP, 0))

        def serve() -> None:
            while (packet := sock.recvfrom(2048))[0]:
                query = dns.message.from_wire(packet[0])
                answer = dns.message.make_response(query)
                name = query.question[0].name
                known = records.get(name.to_text(omit_final_dot=True))
                if known is None:
                    answer.set_rcode(dns.rcode.NXDOMAIN)
                else:
                    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *known))
                sock.sendto(answer.to_wire(), packet[1])

        thread = Thread(target=serve)
        thread.start()
        try:
            yield [sock.getsockname()]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", sock.getsockname())
            thread.join()


async def test_each_transport_of_a_domain_is_found_by_its_own_record() -> None:
    records = {
        "_turn._udp.example.org": ["0 0 3478 relay.example.org."],
        "_turn._tcp.example.org": ["0 0 443 relay.example.org."],
        "_turns._tcp.example.org": ["0 0 5349 other.example.net."],
    }
    with nameserver(records) as servers:
        relays = await find_relays("example.org", username="user", password="password", nameservers=servers)
    assert [relay.name for relay in relays] == [
        "turn:relay.example.org:3478?transport=udp",
        "turn:relay.example.org:443?transport=tcp",
        "turns:other.example.net:5349?transport=tcp",
    ]
    assert all(relay.username == "user" and relay.password is not None for relay in relays)


async def test_the_certificate_has_to_be_for_the_domain_and_not_for_what_dns_says() -> None:
    with nameserver({"_turns._tcp.example.org": ["0 0 5349 other.example.net."]}) as servers:
        (relay,) = await find_relays("example.org", nameservers=servers)
    assert (relay.host, relay.tls_name) == ("other.example.net", "example.org")


async def test_priority_comes_before_weight_and_weights_spread() -> None:
    records = {"_turn._udp.example.org": ["20 9 1000 c.test.", "10 90 1000 a.test.", "10 10 1000 b.test."]}
    first = []
    with nameserver(records) as servers:
        for _ in range(60):
            relays = await find_relays("example.org", nameservers=servers)
            assert relays[2].host == "c.test"
            first.append(relays[0].host)
    assert first.count("a.test") > first.count("b.test") > 0


async def test_a_domain_without_records_stands_for_itself() -> None:
    with nameserver({"_turn._udp.example.org": ["0 0 0 ."], "_turn._tcp.example.org": ["0 0 0 a.test."]}) as servers:
        relays = await find_relays("example.org", nameservers=servers)
    assert [relay.name for relay in relays] == [
        "turn:example.org:3478?transport=udp",
        "turn:example.org:3478?transport=tcp",
        "turns:example.org:5349?transport=tcp",
    ]


async def test_a_silent_nameserver_takes_no_longer_than_the_timeout() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((IP, 0))
        started = time.monotonic()
        relays = await find_relays("example.org", nameservers=[silent.getsockname()], timeout=0.2)
    assert time.monotonic() - started < 1
    assert len(relays) == 3


@pytest.mark.parametrize("domain", ["", "192.0.2.1", "::1", "example.org:3478", "turn:example.org", "a b", "x?y"])
async def test_only_a_domain_is_looked_up(domain: str) -> None:
    with pytest.raises(ConfigError):
        await find_relays(domain)
