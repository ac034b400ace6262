"""`relaycall coturn-config`: what it prints, and a real coturn that runs it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relaycall.cli import run
from relaycall.cli.coturn_config import denied_ranges
from relaycall.errors import RelayRefusedCredentials
from relaycall.ice.allocation import allocate
from relaycall.redact import Secret
from relaycall.relays.credentials import TimeLimited
from relaycall.relays.server import RelayServer
from relaycall.stun.address import IPV4, IPV6, Address, is_public_unicast
from tests.certificates import Authority
from tests.cli.conftest import Command
from tests.coturn import free_port, listens
from tests.tools import require_tool

SECRET = "canary0123456789-a.long_secret~+/=@:"
# Neighbours of what is denied, and others. They are asked for only; nothing is sent there.
PUBLIC = [
    *("1.0.0.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "172.15.255.255", "172.32.0.0"),
    *("192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"),
    *("2000::1", "2001:200::", "2001:db9::", "2003::", "2606:4700:4700::1111", "2a00::1", "3fff:1000::"),
]


FORBIDDEN = [
    *("0.1.2.3", "10.1.2.3", "100.64.1.2", "127.0.0.1", "169.254.169.254", "172.16.1.2", "192.0.0.8", "192.0.2.1"),
    *("192.88.99.1", "192.168.1.1", "198.18.1.2", "198.51.100.1", "203.0.113.1", "224.0.0.251", "255.255.255.255"),
    *("::1", "::10.0.0.1", "::ffff:10.0.0.1", "::ffff:808:808", "64:ff9b::a00:1", "100::1", "2001:0:1::1"),
    *("2001:db8::1", "2002:a00:1::1", "3fff::1", "fd00::1", "fe80::1", "ff02::1"),
]


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


def printed(*arguments: str | Path) -> str:
    """By a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "relaycall", "coturn-config", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_what_it_prints(secret_file: Path) -> None:
    text = printed("relay.example.org", "--secret-file", secret_file)
    lines = text.splitlines()
    for line in (
        "realm=relay.example.org",
        "use-auth-secret",
        f"static-auth-secret={SECRET}",
        "cert=/etc/letsencrypt/live/relay.example.org/fullchain.pem",
        "pkey=/etc/letsencrypt/live/relay.example.org/privkey.pem",
        "no-multicast-peers",
        "denied-peer-ip=10.0.0.0-10.255.255.255",
    ):
        assert line in lines
    assert not any(line.startswith("denied-peer-ip=::-") for line in lines)


def test_the_secret_by_standard_input_and_by_reference(command: Command) -> None:
    own = ("coturn-config", "relay.example.org")
    text = command(*own, "--secret-file", "-", "--cert", "/a.pem", "--key", "/b.pem", given=f"{SECRET}\n").stdout
    assert f"\nstatic-auth-secret={SECRET}\n" in text
    assert "\ncert=/a.pem\npkey=/b.pem\n" in text
    env = {**os.environ, "SECRET_OF_TEST": SECRET}
    by_reference = command(*own, "--secret-ref", "env:SECRET_OF_TEST", env=env).stdout
    assert f"\nstatic-auth-secret={SECRET}\n" in by_reference


@pytest.mark.parametrize(
    ("arguments", "secret", "said"),
    [
        (["relay.example.org"], SECRET, "needs the secret"),
        (["relay.example.org", "--secret-file", "s", "--secret-ref", "env:S"], SECRET, "needs the secret"),
        (["192.0.2.1", "--secret-file", "s"], SECRET, "domain is not a host name"),
        (["a.test\nallow-loopback-peers", "--secret-file", "s"], SECRET, "domain is not a host name"),
        (["a.test", "--secret-file", "s"], "canary-short", "16 to 512"),
        (["a.test", "--secret-file", "s"], "canary with a space in it", "16 to 512"),
        (["a.test", "--secret-file", "s"], "canary#comment#comment", "16 to 512"),
        (["a.test", "--secret-file", "s", "--cert", "/a\nno-auth"], SECRET, "certificate or key"),
        (["a.test", "--secret-file", "s", "--key", "/a b"], SECRET, "certificate or key"),
        (["a.test", "--secret-ref", "canary-not-a-reference"], SECRET, "given as a reference"),
    ],
)
def test_bad_usage_ends_with_2(
    arguments: list[str],
    secret: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").write_text(secret)
    assert run(["coturn-config", *arguments]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert "canary" not in out + err


def test_what_is_denied_is_what_is_not_public() -> None:
    """Compared as numbers, with what relaycall itself takes for public; coturn itself is asked below."""
    ranges = [(ipaddress.ip_address(low), ipaddress.ip_address(high)) for low, high in denied_ranges()]
    spans = [(first.version, int(first), int(last)) for first, last in ranges]
    for kind, version in ((ipaddress.IPv4Address, 4), (ipaddress.IPv6Address, 6)):
        highest = 2 ** kind(0).max_prefixlen - 1
        edges = {end + step for of, *ends in spans for end in ends for step in (-1, 0, 1) if of == version}
        for edge in {edge for edge in edges if 0 < edge <= highest}:  # all of 0 is refused by coturn itself
            denied = any(of == version and low <= edge <= high for of, low, high in spans)
            assert denied != is_public_unicast(str(kind(edge))), kind(edge)
    for host in (*FORBIDDEN, *PUBLIC):
        ip = ipaddress.ip_address(host)
        denied = any(of == ip.version and low <= int(ip) <= high for of, low, high in spans)
        assert denied == (host in FORBIDDEN), host


class RunningRelay:
    """What the printed file makes of coturn."""

    def __init__(self, port: int, tls_port: int, authority: Authority) -> None:
        self._port = port
        self._tls_port = tls_port
        self._authority = authority

    def server(self, transport: str, secret: str = SECRET) -> RelayServer:
        """It by UDP or TLS, with credentials made from the secret."""
        made = TimeLimited(Secret(secret), ttl=600).mint()
        login = {"username": made.username, "password": made.password}
        if transport == "udp":
            return RelayServer.parse(f"turn:127.0.0.1:{self._port}", **login)
        context = self._authority.client_context()
        uri = f"turns:127.0.0.1:{self._tls_port}"
        return RelayServer.parse(uri, tls_name="relay.example.org", ssl_context=context, **login)


@pytest.fixture
def relay(tmp_path: Path, secret_file: Path) -> Iterator[RunningRelay]:
    """coturn with the file, but for its ports, and with relayed addresses on loopback."""
    authority = Authority(tmp_path)
    leaf = authority.leaf("relay.example.org")
    text = printed("relay.example.org", "--secret-file", secret_file, "--cert", leaf.cert, "--key", leaf.key)
    port, tls_port = free_port("127.0.0.1"), free_port("127.0.0.1")
    text = text.replace("\nlistening-port=3478\n", f"\nlistening-port={port}\n")
    text = text.replace("\ntls-listening-port=5349\n", f"\ntls-listening-port={tls_port}\n")
    here = ["listening-ip=127.0.0.1", "relay-ip=127.0.0.1", "relay-ip=::1", "log-file=stdout"]
    here += [f"pidfile={tmp_path}/pid", f"userdb={tmp_path}/users"]
    (tmp_path / "turnserver.conf").write_text("\n".join([text, *here, ""]))
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [require_tool("turnserver"), "-c", tmp_path / "turnserver.conf"],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
    try:
        until = time.monotonic() + 10
        while not listens(process.pid, udp={port}, tcp={port, tls_port}) and time.monotonic() < until:
            assert process.poll() is None, log.read_text(errors="replace")
            time.sleep(0.05)
        assert "Bad configuration format" not in log.read_text(errors="replace")
        yield RunningRelay(port, tls_port, authority)
    finally:
        process.kill()
        process.wait()


async def permitted(server: RelayServer, family: int, hosts: list[str]) -> set[str]:
    """Those that the relay permits as peers."""
    found = set()
    for start in range(0, len(hosts), 50):
        asked = hosts[start : start + 50]
        allocation = await allocate(server, family=family, laboratory=True)
        try:
            refused: set[str] = set()
            allocation.on_peer_refused = lambda peer, _error, refused=refused: refused.add(peer.host)
            for host in asked:
                allocation.add_peer(Address(host, 40000))
            await asyncio.sleep(0.5)
            assert allocation.alive
            found |= set(asked) - refused
        finally:
            await allocation.close()
    return found


@pytest.mark.interop
@pytest.mark.parametrize("transport", ["udp", "tls"])
async def test_coturn_refuses_the_forbidden_peers_and_no_others(relay: RunningRelay, transport: str) -> None:
    server = relay.server(transport)
    hosts: dict[int, list[str]] = {4: [], 6: ["::"]}
    for host in FORBIDDEN:
        hosts[6 if ":" in host else 4].append(host)
    for low, high in denied_ranges():
        first, last = ipaddress.ip_address(low), ipaddress.ip_address(high)
        middle = type(first)((int(first) + int(last)) // 2)
        hosts[first.version] += [str(first), str(middle), str(last)]
    assert await permitted(server, IPV4, hosts[4]) == set()
    assert await permitted(server, IPV6, hosts[6]) == set()
    four, six = [host for host in PUBLIC if ":" not in host], [host for host in PUBLIC if ":" in host]
    assert await permitted(server, IPV4, four) == set(four)
    assert await permitted(server, IPV6, six) == set(six)


@pytest.mark.interop
async def test_coturn_takes_credentials_of_this_secret_alone(relay: RunningRelay) -> None:
    await (await allocate(relay.server("udp"), laboratory=True)).close()
    with pytest.raises(RelayRefusedCredentials):
        await allocate(relay.server("udp", "another-secret-0123456789"), laboratory=True)
