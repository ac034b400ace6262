"""One side of an audio call as a program of its own, for tests that put it into a network namespace.

    python -m tests.scenarios.party '{"relays": [...], "caller": true, ...}'

It takes one command per line as JSON, {"do": "connect", "record": "..."}, and answers each with one line: what came of
it, or {"error": code, "causes": [codes]}. The commands are the functions named `do_...` below.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

from relaycall.call.ends import MediaOptions
from relaycall.call.media_call import MediaCall
from relaycall.errors import NoRelay, RelaycallError
from relaycall.ice.allocation import Allocation
from relaycall.media.audio import ToneSource
from relaycall.media.files import FileSink
from relaycall.relays.server import RelayServer

Answer = dict[str, Any]


class Party:
    """The call and the commands on it.

    Settings: `relays` as [uri, username, password], `caller`, `tone` in hertz to send, `recording` of what is heard;
    optionally `ca_file`, and `received`: a file for every byte that comes from outside, records and packets.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        ca_file = settings.get("ca_file")
        context = ssl.create_default_context(cafile=ca_file) if ca_file else None
        servers = [
            RelayServer.parse(uri, username=username, password=password, ssl_context=context)
            for uri, username, password in settings["relays"]
        ]
        self._received = Path(settings["received"]).open("wb") if "received" in settings else None  # noqa: SIM115
        if self._received is not None:
            self._keep_what_relays_send()
        self._call = MediaCall(
            servers,
            caller=settings["caller"],
            source=ToneSource(settings["tone"]),
            sink=FileSink(settings["recording"]),
            options=MediaOptions(laboratory=True),
        )

    def _keep_what_relays_send(self) -> None:
        take, file = Allocation._receive, self._received
        assert file is not None

        def keep(allocation: Allocation, data: bytes, now: float) -> None:
            file.write(data)
            take(allocation, data, now)

        Allocation._receive = keep  # type: ignore[method-assign, assignment]

    async def do_prepare(self) -> Answer:
        """Allocate; gives the record."""
        return {"record": base64.b64encode(await self._call.prepare()).decode()}

    async def do_connect(self, record: str, timeout: float = 5.0) -> Answer:
        """Connect to the other side's record."""
        data = base64.b64decode(record)
        if self._received is not None:
            self._received.write(data)
        await self._call.connect(data, timeout=timeout)
        return {}

    async def do_hear(self, frames: int, timeout: float) -> Answer:
        """Wait for so many more frames; gives how many there were in that time."""
        session = self._call.session
        assert session is not None
        start = session.frames_heard
        async with asyncio.timeout(timeout):
            while session.frames_heard < start + frames:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return {"frames": session.frames_heard - start}

    async def do_ended(self, timeout: float) -> Answer:
        """Wait for the call to end by itself."""
        async with asyncio.timeout(timeout):
            error = (await self._call.ended()).error
        if error is not None:
            raise error
        return {}

    async def do_leak(self, host: str, port: int) -> Answer:
        """Send one packet that has no business being sent."""
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"leak", (host, port))
        return {}

    async def do_close(self) -> Answer:
        """Close the call; gives the seconds it took."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        await self._call.close()
        took = loop.time() - start
        if self._received is not None:
            self._received.flush()
        return {"seconds": took}


async def serve(commands: object) -> None:
    """Take commands from standard input until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        try:
            answer: Answer = await getattr(commands, f"do_{command.pop('do')}")(**command)
        except RelaycallError as error:
            causes = [cause.code for cause in error.failures] if isinstance(error, NoRelay) else []
            answer = {"error": error.code, "causes": causes}
        except TimeoutError:
            answer = {"error": "test_timeout", "causes": []}
        print(json.dumps(answer), flush=True)


async def main() -> None:
    await serve(Party(json.loads(sys.argv[1])))


if __name__ == "__main__":
    asyncio.run(main())
