"""`relaycall doctor` against coturn in each of the states that it tells apart."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.coturn import Coturn, free_port

pytestmark = pytest.mark.interop


CREDENTIAL = "canary-password"


def coturn(**arguments: Any) -> Coturn:
    return Coturn(password=CREDENTIAL, **arguments)


async def doctor(tmp_path: Path, *relays: str, ca: Path | None = None) -> tuple[int, Any]:
    """Exit code, and findings by check, of the command in a process of its own; the conclusion is among them."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RELAYCALL_")}
    env |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    env |= {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring", "RELAYCALL_RELAYS": " ".join(relays)}
    env |= {"RELAYCALL_USERNAME": "user", "RELAYCALL_CREDENTIAL": CREDENTIAL}
    if ca is not None:
        env["SSL_CERT_FILE"] = str(ca)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "relaycall", "doctor", "--json", "--laboratory"),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    found = [json.loads(line) for line in out.splitlines()]
    assert b"Traceback" not in err
    assert b"this machine" in err
    assert CREDENTIAL.encode() not in out + err
    return process.returncode or 0, {one.get("check", "conclusion"): one for one in found}


async def test_a_relay_that_works_by_all_transports(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    leaf = authority.leaf("127.0.0.1")
    async with coturn(cert=leaf.cert, key=leaf.key) as relay:
        uris = [relay.uri("udp"), relay.uri("tls")]
        code, found = await doctor(tmp_path, *uris, ca=authority.ca_file)
        assert code == 0
        assert found["conclusion"] == {"event": "conclusion", "cause": "none", "exit_code": 0}
        transports = found["transports 127.0.0.1"]["sentence"]
        assert transports == f"UDP {relay.port} works, TLS {relay.tls_port} works, TCP {relay.port} works."


async def test_a_relay_that_refuses_the_password_is_told_from_one_that_works(tmp_path: Path) -> None:
    async with coturn() as works, Coturn(ip="127.0.0.2", password="another") as refuses:
        code, found = await doctor(tmp_path, works.uri("udp"), refuses.uri("udp"))
        assert code == 3
        assert found["conclusion"]["cause"] == "relay"
        assert found[f"relay {works.uri('udp')}"]["status"] == "ok"
        assert "refused the user name or password" in found[f"relay {refuses.uri('udp')}"]["sentence"]


async def test_a_frozen_relay_is_told_from_a_network_that_is_down(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    leaf = authority.leaf("127.0.0.1")
    async with coturn() as works, coturn(ip="127.0.0.2", cert=leaf.cert, key=leaf.key) as frozen:
        frozen.freeze()
        uris = [frozen.uri("udp"), frozen.uri("tls")]
        code, found = await doctor(tmp_path, works.uri("udp"), *uris, ca=authority.ca_file)
        assert (code, found["conclusion"]["cause"]) == (3, "relay")
        assert "ask its operator" in found[f"relay {uris[0]}"]["next_step"]
        code, found = await doctor(tmp_path, *uris, ca=authority.ca_file)  # there is no sign that anything is there
        assert (code, found["conclusion"]["cause"]) == (3, "local_network")


@asynccontextmanager
async def without_udp(relay: Coturn) -> AsyncIterator[int]:
    """A port that leads to the relay by TCP, and where UDP disappears, as behind a firewall that drops it."""
    carried: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(relay.ip, relay.port)
        carried.update({asyncio.ensure_future(carry(reader, back)), asyncio.ensure_future(carry(there, writer))})

    port = free_port("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind(("127.0.0.1", port))
        server = await asyncio.start_server(connected, "127.0.0.1", port)
        try:
            yield port
        finally:
            server.close()
            await asyncio.gather(*carried)


async def test_a_transport_that_is_blocked_on_the_way(tmp_path: Path) -> None:
    async with coturn() as relay, without_udp(relay) as port:
        udp, tcp = f"turn:127.0.0.1:{port}?transport=udp", f"turn:127.0.0.1:{port}?transport=tcp"
        code, found = await doctor(tmp_path, udp)
        assert (code, found["conclusion"]["cause"]) == (3, "blocked_transport")
        assert tcp in found[f"relay {udp}"]["next_step"]
        code, found = await doctor(tmp_path, udp, tcp)
        assert (code, found["conclusion"]["cause"]) == (0, "blocked_transport")
        assert found[f"relay {udp}"]["status"] == "warn"


async def test_a_relay_for_one_allocation_is_not_worn_out(tmp_path: Path) -> None:
    async with coturn(extra=["--user-quota=1"]) as relay:
        code, found = await doctor(tmp_path, relay.uri("tcp"))  # UDP would come first, if it were tried meanwhile
        assert (code, found["conclusion"]["cause"]) == (0, "none")
