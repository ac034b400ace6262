"""Another address of this machine is noticed without a packet."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

import pytest

from relaycall.ice.allocation import Allocation, allocate
from relaycall.relays.routes import has_moved, source_of
from relaycall.relays.server import RelayServer
from relaycall.server.turn import Relay
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.netns import Allowed, Network
from tests.scripted import PASSWORD, USERNAME

# Prints a line with the address each time it is given one.
ASK = """
import json, socket, sys
from relaycall.relays.routes import source_of
for line in sys.stdin:
    family, sockaddr = json.loads(line)
    print(json.dumps(source_of(family, tuple(sockaddr))), flush=True)
"""


async def test_a_new_allocation_has_not_moved_and_one_with_another_address_or_none_has() -> None:
    async with Relay(users={USERNAME: PASSWORD}, laboratory=True) as relay:
        for transport in ("udp", "tcp"):
            server = RelayServer.parse(relay.uri(transport), username=USERNAME, password=PASSWORD)
            allocation = await allocate(server, laboratory=True)
            asked: list[object] = []

            def elsewhere(*address: object, asked: list[object] = asked) -> str:
                asked.append(address)
                return "127.0.0.2"

            def unknown(*_address: object) -> str:
                raise OSError

            assert not has_moved(allocation)
            assert has_moved(allocation, elsewhere)
            assert asked == [(socket.AF_INET, ("127.0.0.1", relay.udp_port if transport == "udp" else relay.tcp_port))]
            assert has_moved(allocation, lambda *_: None)
            assert not has_moved(allocation, unknown)
            await allocation.close()


async def test_one_that_was_never_connected_is_left_alone() -> None:
    allocation = Allocation(RelayServer.parse("turn:relay.test"), 1, laboratory=False)
    assert not has_moved(allocation, lambda *_: None)
    allocation.abort()
    await asyncio.sleep(0)


def test_the_address_is_asked_of_the_kernel_for_both_families() -> None:
    assert source_of(socket.AF_INET, ("127.0.0.1", 3478)) == "127.0.0.1"
    assert source_of(socket.AF_INET6, ("::1", 3478, 0, 0)) == "::1"


@pytest.mark.netns
def test_a_real_machine_that_gets_another_address_or_loses_its_route_is_noticed_and_sends_nothing() -> None:
    with Network("alice", "relay") as network:
        alice = network.prefix("alice")
        target = socket.AF_INET, (network.ip("relay"), 3478)
        target6 = socket.AF_INET6, (network.ip6("relay"), 3478, 0, 0)
        process = subprocess.Popen(
            [*alice, sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None

            def ask(where: object) -> object:
                print(json.dumps(where), file=process.stdin, flush=True)
                assert process.stdout is not None
                return json.loads(process.stdout.readline())

            def ip(*arguments: str) -> None:
                subprocess.run([*alice, "ip", *arguments], check=True)

            network.count("alice", [Allowed("relay", network.ip("relay"), udp=(3478,))])
            assert ask(target) == network.ip("alice")
            assert ask(target6) == network.ip6("alice")
            ip("link", "add", "tunnel", "type", "veth", "peer", "name", "far")
            ip("address", "add", "10.99.0.7/24", "dev", "tunnel")
            ip("link", "set", "tunnel", "up")
            ip("link", "set", "far", "up")
            assert ask(target) == network.ip("alice"), "it comes up, and is not the way"
            ip("route", "add", f"{network.ip('relay')}/32", "dev", "tunnel")
            assert ask(target) == "10.99.0.7"
            ip("link", "delete", "tunnel")
            assert ask(target) == network.ip("alice")
            ip("route", "delete", "default")
            ip("-6", "route", "delete", "default")
            assert ask(target) is None
            assert ask(target6) is None
            counted = network.counted("alice")
            assert counted["relay"] == 0
            assert not set(network.strangers("alice")) & {network.ip("relay"), network.ip6("relay")}
            process.stdin.close()
