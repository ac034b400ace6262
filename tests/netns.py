"""Network namespaces for tests: hosts around a router, and counters for what leaves a host.

    with Network("alice", "bob", "relay") as network:
        network.count("alice", [Allowed("relay", network.ip("relay"), udp=(3478,))])
        subprocess.run([*network.prefix("alice"), "program", "of", "alice's"])
        assert network.counted("alice")["elsewhere"] == 0

Each host has its own link and subnets (IPv4 and IPv6) and a default route to the router, which forwards everything:
whatever a host may not send would arrive. Names carry the process id and a random part; leaving the context removes
them. Needs root.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pytest

from tests.tools import require_tool

TABLE = "counting"


@dataclass(frozen=True, slots=True)
class Allowed:
    """A destination that is counted as `name`: these ports of one address, nothing else there."""

    name: str
    ip: str
    udp: tuple[int, ...] = ()
    tcp: tuple[int, ...] = ()


def require_namespaces() -> None:
    """Skip the test where namespaces cannot be made; fail it where CI must be able to."""
    for tool in ("ip", "nft", "sysctl"):
        require_tool(tool)
    if os.geteuid() != 0:
        reason = "network namespaces need root"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Network:
    """A router and its hosts, one namespace each. A context manager."""

    def __init__(self, *hosts: str) -> None:
        self._hosts = hosts
        self._tag = f"rc{os.getpid()}{secrets.token_hex(2)}"
        self._made: list[str] = []

    def __enter__(self) -> Network:
        require_namespaces()
        try:
            self._build()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def ip(self, host: str) -> str:
        """The IPv4 address of a host."""
        return f"10.77.{self._number(host)}.2"

    def ip6(self, host: str) -> str:
        """The IPv6 address of a host."""
        return f"fd77:{self._number(host)}::2"

    def prefix(self, host: str) -> tuple[str, ...]:
        """What to put before a command to run it on a host; it replaces itself by the command."""
        return ("ip", "netns", "exec", self._name(host))

    def nft(self, host: str, rules: str) -> None:
        """Load nftables rules on a host."""
        subprocess.run([*self.prefix(host), "nft", "-f", "-"], input=rules.encode(), check=True)

    def count(self, host: str, allowed: Sequence[Allowed]) -> None:
        """Count from now on, from zero, every IP packet this host sends.

        Left out are the ICMPv6 messages by which a kernel finds its neighbours and routers and tells of its groups
        (they stay on the link), and port-unreachable answers to the allowed addresses, which a kernel sends for packets
        that come after a socket was closed. Nothing is let off for going over the loopback interface.
        """
        counters = [*(entry.name for entry in allowed), "kernel", "elsewhere"]
        rules = []
        for entry in allowed:
            for protocol, ports in (("udp", entry.udp), ("tcp", entry.tcp)):
                if ports:
                    listed = ", ".join(map(str, ports))
                    rules.append(
                        f"ip daddr {entry.ip} {protocol} dport {{ {listed} }} counter name {entry.name} accept"
                    )
            rules.append(f"ip daddr {entry.ip} icmp type destination-unreachable counter name kernel accept")
        rules.append(
            "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, "
            "mld-listener-report, mld2-listener-report } counter name kernel accept"
        )
        rules += [
            "meta nfproto ipv4 counter name elsewhere add @strangers { ip daddr }",
            "meta nfproto ipv6 counter name elsewhere add @strangers6 { ip6 daddr }",
        ]
        body = "\n".join(f"    {rule}" for rule in rules)
        declared = "\n".join(f"  counter {name} {{}}" for name in counters)
        self.nft(
            host,
            f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{declared}\n"
            "  set strangers { type ipv4_addr; flags dynamic; size 256; }\n"
            "  set strangers6 { type ipv6_addr; flags dynamic; size 256; }\n"
            f"  chain sent {{\n    type filter hook output priority 0; policy accept;\n{body}\n  }}\n}}\n",
        )

    def counted(self, host: str) -> dict[str, int]:
        """Packets by counter name since `count`."""
        found = self._list(host, "counters")
        return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in found if "counter" in entry}

    def strangers(self, host: str) -> list[str]:
        """Where the packets counted as `elsewhere` went."""
        sets = self._list(host, "sets")
        return sorted(str(address) for entry in sets if "set" in entry for address in entry["set"].get("elem", []))

    def _list(self, host: str, what: str) -> list[dict[str, Any]]:
        command = [*self.prefix(host), "nft", "-j", "list", what, "table", "inet", TABLE]
        listed: list[dict[str, Any]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)[
            "nftables"
        ]
        return listed

    # --- making and removing ------------------------------------------------------------------------------------------

    def _number(self, host: str) -> int:
        return self._hosts.index(host) + 1

    def _name(self, host: str) -> str:
        return f"{self._tag}-{host}"

    def _build(self) -> None:
        router = self._name("router")
        self._add(router)
        _run("ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for host in self._hosts:
            number, name = self._number(host), self._name(host)
            self._add(name)
            link = f"to{number}"
            _run("ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", link, "netns", router)
            for namespace, device, last in ((name, "eth0", 2), (router, link, 1)):
                _run("ip", "-n", namespace, "address", "add", f"10.77.{number}.{last}/24", "dev", device)
                _run("ip", "-n", namespace, "address", "add", f"fd77:{number}::{last}/64", "dev", device, "nodad")
                _run("ip", "-n", namespace, "link", "set", device, "up")
            _run("ip", "-n", name, "route", "add", "default", "via", f"10.77.{number}.1")
            _run("ip", "-n", name, "-6", "route", "add", "default", "via", f"fd77:{number}::1")

    def _add(self, namespace: str) -> None:
        _run("ip", "netns", "add", namespace)
        self._made.append(namespace)
        _run("ip", "-n", namespace, "link", "set", "lo", "up")

    def _remove(self) -> None:
        for namespace in reversed(self._made):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)
        self._made.clear()


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
