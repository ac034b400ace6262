"""The turnserver.conf of docs/relay.md, given to a real coturn: it starts, serves, and denies private peers."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relaycall.ice.allocation import allocate
from relaycall.relays.server import RelayServer
from relaycall.stun.address import Address
from tests.certificates import Authority
from tests.coturn import free_port, listens
from tests.tools import require_tool

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayServer]:
    found = re.search(r"`turnserver.conf`:\n\n((?:    .*\n)+)", (ROOT / "docs" / "relay.md").read_text())
    assert found
    leaf = Authority(tmp_path).leaf("127.0.0.1")
    port, tls_port = free_port("127.0.0.1"), free_port("127.0.0.1")
    conf = re.sub(r"^    ", "", found[1], flags=re.M)
    conf = conf.replace("/etc/ssl/relay.example.org.pem", str(leaf.cert))
    conf = conf.replace("/etc/ssl/relay.example.org.key", str(leaf.key))
    conf = conf.replace("listening-port=3478", f"listening-port={port}")
    conf = conf.replace("tls-listening-port=5349", f"tls-listening-port={tls_port}")
    extra = ["listening-ip=127.0.0.1", "relay-ip=127.0.0.1", "log-file=stdout", f"pidfile={tmp_path}/pid"]
    (tmp_path / "turnserver.conf").write_text(conf + "\n".join([*extra, f"userdb={tmp_path}/users"]) + "\n")
    command = [require_tool("turnserver"), "-c", str(tmp_path / "turnserver.conf")]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        until = time.monotonic() + 10
        while not listens(process.pid, udp={port}, tcp={port, tls_port}) and time.monotonic() < until:
            assert process.poll() is None, log.read_text(errors="replace")
            time.sleep(0.05)
        assert "Bad configuration format" not in log.read_text(errors="replace")
        yield RelayServer.parse(f"turn:127.0.0.1:{port}", username="someone", password="a-long-password")
    finally:
        process.kill()
        process.wait()


async def test_it_allocates_and_denies_private_peers(relay: RelayServer) -> None:
    allocation = await allocate(relay, laboratory=True)
    try:
        refused: list[Address] = []
        allocation.on_peer_refused = lambda peer, _error: refused.append(peer)
        private = ["10.1.2.3", "127.0.0.1", "192.168.1.1", "169.254.169.254", "172.16.0.1", "100.64.0.1", "224.0.0.251"]
        public = Address("198.51.100.7", 40000)
        for host in private:
            allocation.add_peer(Address(host, 40000))
        allocation.add_peer(public)  # asked for only; nothing is sent there
        await asyncio.sleep(0.5)
        assert {peer.host for peer in refused} == set(private)
    finally:
        await allocation.close()
