"""A way to a server that can be broken: connections to a port, passed on to another, and cut when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType


class Forwarder:
    """Forwards TCP from a port of its own on loopback."""

    def __init__(self, port: int) -> None:
        self.target = port  # where new connections go
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: set[asyncio.StreamWriter] = set()
        self.is_open = True  # whether it takes connections
        self.is_mute = False  # whether what comes back is lost
        self.port = 0

    async def __aenter__(self) -> Forwarder:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    @property
    def connections(self) -> int:
        return len(self._sockets) // 2

    def cut(self) -> None:
        """Reset every connection, both ways."""
        for writer in list(self._sockets):
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = [writer]
        self._sockets.add(writer)
        try:
            if not self.is_open:
                return
            onward, back = await asyncio.open_connection("127.0.0.1", self.target)
            writers.append(back)
            self._sockets.add(back)
            await asyncio.gather(self._pass_on(reader, back), self._pass_on(onward, writer, is_back=True))
        except OSError:
            pass
        finally:
            for one in writers:
                self._sockets.discard(one)
                one.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_back: bool = False
    ) -> None:
        try:
            while data := await reader.read(65536):
                if is_back and self.is_mute:
                    continue
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
