"""A real TURN server for tests: coturn on loopback, one process per instance.

    async with Coturn() as relay:
        connection = Connection([relay.server("udp")], ice_controlling=True, laboratory=True)

It keeps no file outside its own temporary directory and is ended by its own process id, whatever state it is in.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from relaycall.relays.server import RelayServer
from tests.tools import require_tool

START_TIMEOUT = 10.0  # seconds


class Coturn:
    """One `turnserver` process.

    Args:
        ip: where it listens and relays; more of 127.0.0.0/8 make relays that differ in address.
        relay_ip: where it relays, if elsewhere.
        port: for UDP and TCP; a free one by default, the same after `start()` again.
        username, password, realm: the long-term credentials it knows.
        cert, key: PEM files; with them it also serves TLS, on `tls_port`.
        min_port, max_port: of the relayed addresses; below the ports the kernel gives to others.
        extra: more arguments ("--user-quota=1").
        prefix: a command to run it under ("ip", "netns", "exec", "relay"), if it replaces itself by its argument.

    Attributes:
        pid: of the process.
    """

    def __init__(
        self,
        *,
        ip: str = "127.0.0.1",
        relay_ip: str | None = None,
        port: int | None = None,
        username: str = "user",
        password: str = "password",
        realm: str = "relay.test",
        cert: Path | None = None,
        key: Path | None = None,
        min_port: int = 20000,
        max_port: int = 29999,
        extra: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        self.ip = ip
        self.port = port or free_port(ip)
        self.tls_port = free_port(ip) if cert else 0
        self.username = username
        self.password = password
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        tls = [f"--tls-listening-port={self.tls_port}", f"--cert={cert}", f"--pkey={key}"] if cert else ["--no-tls"]
        self._arguments = [
            *prefix,
            require_tool("turnserver"),
            "-n",  # no configuration file
            f"--listening-ip={ip}",
            f"--relay-ip={relay_ip or ip}",
            f"--listening-port={self.port}",
            *tls,
            "--no-dtls",
            "--lt-cred-mech",
            f"--user={username}:{password}",
            f"--realm={realm}",
            "--allow-loopback-peers",
            "--no-cli",
            f"--min-port={min_port}",
            f"--max-port={max_port}",
            "--log-file=stdout",
            *extra,
        ]

    async def __aenter__(self) -> Coturn:
        self._directory = tempfile.TemporaryDirectory(prefix="coturn-")
        try:
            await self.start()
        except BaseException:
            self._directory.cleanup()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if self._directory is not None:
            self._directory.cleanup()

    def uri(self, transport: str) -> str:
        """The URI for "udp", "tcp" or "tls"."""
        if transport == "tls":
            return f"turns:{self.ip}:{self.tls_port}?transport=tcp"
        return f"turn:{self.ip}:{self.port}?transport={transport}"

    def server(self, transport: str = "udp", *, ssl_context: ssl.SSLContext | None = None) -> RelayServer:
        """The relay as relaycall takes it, with the credentials."""
        return RelayServer.parse(
            self.uri(transport), username=self.username, password=self.password, ssl_context=ssl_context
        )

    async def start(self) -> None:
        """Start it, or start it again after `kill`; returns when it listens."""
        assert self._directory is not None, "enter it first"
        files = [f"--userdb={self._directory.name}/users", f"--pidfile={self._directory.name}/pid"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                [*self._arguments, *files], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not self._listens():
                    if self._process.poll() is not None:
                        raise RuntimeError(f"turnserver ended:\n{self.log()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self.kill()
            raise RuntimeError(f"turnserver does not listen:\n{self.log()}") from None
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def _log(self) -> Path:
        assert self._directory is not None, "enter it first"
        return Path(self._directory.name, "log")

    def log(self) -> str:
        """What it wrote so far."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL: its sockets close at once, and what is sent there is refused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: it answers nothing, its sockets stay open; a black hole."""
        assert self._process is not None, "not running"
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: what waited in its sockets is handled now."""
        assert self._process is not None, "not running"
        self._process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        """Whether its sockets are there, seen from within its own network namespace."""
        return listens(self.pid, udp={self.port}, tcp={self.port, self.tls_port} - {0})


def listens(pid: int, *, udp: set[int], tcp: set[int]) -> bool:
    """Whether these ports are bound, seen from within that process's network namespace."""
    return udp <= _bound(pid, "udp", "07") and tcp <= _bound(pid, "tcp", "0A")


def _bound(pid: int, table: str, state: str) -> set[int]:
    found: set[int] = set()
    for name in (table, f"{table}6"):
        try:
            rows = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        fields = [row.split() for row in rows]
        found |= {int(row[1].rpartition(":")[2], 16) for row in fields if row[3] == state}
    return found


def free_port(ip: str) -> int:
    """A port that neither UDP nor TCP uses on this address at the moment."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_DGRAM) as udp, socket.socket(family, socket.SOCK_STREAM) as tcp:
            udp.bind((ip, 0))
            port = int(udp.getsockname()[1])
            try:
                tcp.bind((ip, port))
            except OSError:
                continue
            return port
