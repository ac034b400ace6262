"""What brings each transport to the contract's cases."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import ssl
import subprocess
import textwrap
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from relaycall.server.signaling import SignalingServer
from relaycall.server.signaling_limits import Limits
from relaycall.signaling.base import Signaling, SignalingState
from relaycall.signaling.carried import ManualText
from relaycall.signaling.keys import MailboxKey
from relaycall.signaling.manual import ManualTransport
from relaycall.signaling.memory import MemoryTransport
from relaycall.signaling.opening import open_signaling
from relaycall.signaling.rig import MortalRig, Rig
from tests.certificates import Authority, Leaf
from tests.coturn import free_port
from tests.signaling.forwarder import Forwarder
from tests.tools import require_tool
from tests.waiting import eventually

PLENTY = Limits(
    rate=10000,
    burst=10000,
    address_rate=10000,
    address_burst=10000,
    nameplate_burst=10000,
    address_nameplate_burst=10000,
    frame_rate=10000,
    frame_burst=10000,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "signaling.md"


class MemoryRig(Rig):
    """Transports in one process; there is no connection to break, so who comes back is a new one."""

    def __init__(self) -> None:
        super().__init__()
        self._url = f"memory:{secrets.token_hex(8)}"

    async def open(self, key: MailboxKey | None = None) -> Signaling:
        client = MemoryTransport(self._url, key=key)
        self.opened.append(client)
        await client.open()
        return client

    async def reopen(self, client: Signaling) -> Signaling:
        assert isinstance(client, MemoryTransport)
        await client.close()
        return await self.open(client._key)


class ManualRig(Rig):
    """Plays the people. They send each text on in a message, where it is wrapped and quoted, and paste it there.

    Who is not there yet gets it later, and who opens it again pastes all that came so far once more.
    """

    def __init__(self) -> None:
        super().__init__()
        self._messages: defaultdict[bytes, list[str]] = defaultdict(list)  # by mailbox, oldest first
        self._readers: dict[bytes, ManualTransport] = {}

    async def open(self, key: MailboxKey | None = None) -> Signaling:
        client = open_signaling("manual:", key=key)
        assert isinstance(client, ManualTransport)
        client.on_text = self._send_on
        self.opened.append(client)
        await client.open()
        self._readers[client.mailbox] = client
        for message in self._messages[client.mailbox]:
            await client.accept(message)
        return client

    async def reopen(self, client: Signaling) -> Signaling:
        assert isinstance(client, ManualTransport)
        await client.close()
        return await self.open(client._key)

    async def _send_on(self, text: ManualText) -> None:
        lines = textwrap.wrap(text.text, 72)
        message = "Hello,\n\n> " + "\n> ".join(lines) + "\n\n-- \nwritten by hand"
        await asyncio.sleep(0)
        reader = self._readers.get(text.mailbox)
        if reader is not None and reader.state is SignalingState.OPEN:
            await reader.accept(message)
        self._messages[text.mailbox].append(message)


class Nginx:
    """nginx in front of a server: TLS to clients, plain to the server, as docs/signaling.md has it."""

    def __init__(self, folder: Path, leaf: Leaf, port: int) -> None:
        self.port = free_port("127.0.0.1")
        found = re.search(r"^    (map .*?^    \}\n)\n(    server \{.*?^    \}\n)", DOCUMENT.read_text(), re.S | re.M)
        assert found, "the document has no configuration for nginx"
        site = found[1] + found[2]
        for there, here in (
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            ("signaling.example.org.pem", str(leaf.cert)),
            ("signaling.example.org.key", str(leaf.key)),
            ("signaling.example.org", "localhost"),
            ("127.0.0.1:8443", f"127.0.0.1:{port}"),
            ("/etc/ssl/", ""),
        ):
            assert there in site
            site = site.replace(there, here)
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log stderr warn;\n"
            f"events {{}}\nhttp {{ access_log off;\n{temporary}{site}}}\n"
        )
        self._arguments = [require_tool("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Nginx:
        self._process = await asyncio.create_subprocess_exec(*self._arguments, stderr=subprocess.PIPE)
        for _ in range(200):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return self
            assert self._process.returncode is None, (await self._process.communicate())[1]
            await asyncio.sleep(0.02)
        raise AssertionError("nginx does not listen")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        await self._process.communicate()


class ServerRig(MortalRig):
    """Each client reaches the server by a forwarder of its own.

    Args:
        scheme: of the clients' URLs.
        server_tls, client_tls: for both ends, or neither.
    """

    def __init__(
        self, scheme: str, server_tls: ssl.SSLContext | None = None, client_tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__()
        self._scheme = scheme
        self._server_tls, self._client_tls = server_tls, client_tls
        self._stack = AsyncExitStack()
        self._forwarders: dict[Signaling, Forwarder] = {}
        self._server: SignalingServer | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        self._server = await self._started(0)
        self._port = self._server.port
        return self

    def _entrance(self) -> int:
        """The port that the next client's forwarder leads to."""
        return self._port

    async def _started(self, port: int) -> SignalingServer:
        server = SignalingServer(port=port, ssl_context=self._server_tls, limits=PLENTY)
        return await server.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, traceback)
        await self._stack.aclose()
        assert self._server is not None
        await self._server.close()

    async def open(self, key: MailboxKey | None = None) -> Signaling:
        forwarder = await self._stack.enter_async_context(Forwarder(self._entrance()))
        client = open_signaling(f"{self._scheme}://localhost:{forwarder.port}", key=key, ssl_context=self._client_tls)
        self.opened.append(client)
        self._forwarders[client] = forwarder
        await client.open()
        return client

    async def reopen(self, client: Signaling) -> Signaling:
        states: list[SignalingState] = []
        client.on_state = states.append
        self._forwarders[client].cut()
        await eventually(lambda: states == [SignalingState.RECONNECTING, SignalingState.OPEN], timeout=15)
        return client

    async def restart(self) -> None:
        assert self._server is not None
        for forwarder in self._forwarders.values():
            forwarder.is_open = False
            forwarder.cut()
        await self._server.close()
        await asyncio.sleep(0.1)
        self._server = await self._started(self._port)
        for forwarder in self._forwarders.values():
            forwarder.is_open = True


class NginxRig(ServerRig):
    """With nginx between the forwarders and the server."""

    def __init__(self, scheme: str, folder: Path) -> None:
        authority = Authority(folder)
        super().__init__(scheme, client_tls=authority.client_context())
        self._folder, self._leaf = folder, authority.leaf("localhost")

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            nginx = await self._stack.enter_async_context(Nginx(self._folder, self._leaf, self._port))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self._nginx = nginx
        return self

    def _entrance(self) -> int:
        return self._nginx.port

    async def _started(self, port: int) -> SignalingServer:
        server = SignalingServer(port=port, limits=PLENTY, names=["localhost"], trusted_header="X-Forwarded-For")
        return await server.__aenter__()
