"""Packet paths for tests: in memory, and over loopback UDP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from relaycall.errors import CallClosed

Receiver = Callable[[bytes], None]


class MemoryPath:
    """One end of a path in memory. `sent` keeps what went in; `alter` may replace, drop (None) or pass a packet."""

    def __init__(self) -> None:
        self.peer: MemoryPath | None = None
        self.receiver: Receiver | None = None
        self.sent: list[bytes] = []
        self.alter: Callable[[bytes], bytes | None] = lambda packet: packet
        self.closed = False

    def send_packet(self, data: bytes) -> None:
        if self.closed:
            raise CallClosed
        self.sent.append(data)
        packet = self.alter(data)
        if self.peer is not None and packet is not None:
            asyncio.get_running_loop().call_soon(self.peer.deliver, packet)

    def set_receiver(self, receiver: Receiver | None) -> None:
        if self.closed:
            raise CallClosed
        self.receiver = receiver

    def deliver(self, data: bytes) -> None:
        if self.receiver is not None:
            self.receiver(data)

    def audio_sent(self) -> list[bytes]:
        return [packet for packet in self.sent if not 192 <= packet[1] < 224]

    def rtcp_sent(self) -> list[bytes]:
        return [packet for packet in self.sent if 192 <= packet[1] < 224]


def memory_pair() -> tuple[MemoryPath, MemoryPath]:
    one, other = MemoryPath(), MemoryPath()
    one.peer, other.peer = other, one
    return one, other


class UdpPath:
    """One end of a path over loopback UDP."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self._receiver: Receiver | None = None
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def connect(self, other: UdpPath) -> None:
        self._socket.connect(other._socket.getsockname())

    def send_packet(self, data: bytes) -> None:
        self._socket.send(data)

    def set_receiver(self, receiver: Receiver | None) -> None:
        self._receiver = receiver

    def _readable(self) -> None:
        data = self._socket.recv(2048)
        if self._receiver is not None:
            self._receiver(data)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


def udp_pair() -> tuple[UdpPath, UdpPath]:
    one, other = UdpPath(), UdpPath()
    one.connect(other)
    other.connect(one)
    return one, other
