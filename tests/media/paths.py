"""Packet paths for tests: in memory, over loopback UDP, and a lossy line in virtual time."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable, Sequence
from typing import Any

from aiortc.rtp import RtpPacket
from av import AudioFrame

from relaycall.errors import CallClosed
from relaycall.media.playout import Playout

Receiver = Callable[[bytes], None]


class MemoryPath:
    """One end of a path in memory. `sent` keeps what went in; `alter` may replace, drop (None) or pass a packet."""

    def __init__(self) -> None:
        self.peer: MemoryPath | None = None
        self.receiver: Receiver | None = None
        self.sent: list[bytes] = []
        self.alter: Callable[[bytes], bytes | None] = lambda packet: packet
        self.closed = False

    def send_packet(self, data: bytes, *, once: bool = False) -> None:
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

    def send_packet(self, data: bytes, *, once: bool = False) -> None:
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


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that waits for nothing: when there is nothing to do, its time goes to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._really_select = self._selector.select
        self._selector.select = self._select

    def time(self) -> float:
        return self.now

    def _select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen"
        self.now += timeout
        return self._really_select(0)


class Line:
    """A sender of 20 ms packets, a network, and a listener, in virtual time.

    Args:
        payloads: sent in turn, over and over. Each should be another one, to be told apart.
        seconds: for which packets are sent.
        delay: of packet n on its way, seconds; None: lost.
        drift: of the sender's clock, 200e-6 for 200 ppm too slow.
        timestamp: of packet n.
        phase: of the listener's clock to the sender's, seconds.

    Attributes:
        frames: what was delivered, and when: 16-bit samples.
        heard: packets decoded: number, and time since it was sent, seconds.
        clocked: how many of the frames came by the clock; the others by close().
        stalls: of the listener's event loop: when, and for how long, seconds. Set before `run`.
        stats: at each frame: time since the start, delay, and target, seconds.
    """

    def __init__(
        self,
        payloads: Sequence[bytes],
        seconds: float,
        delay: Callable[[int], float | None] = lambda n: 0.05,
        *,
        drift: float = 0.0,
        timestamp: Callable[[int], int] = lambda n: 4294000000 + 960 * n,
        phase: float = 0.007,
    ) -> None:
        self.frames: list[tuple[float, bytes]] = []
        self.heard: list[tuple[int, float]] = []
        self.stats: list[tuple[float, float, float]] = []
        self.pts: list[int] = []
        self.clocked = 0
        self.stalls: list[tuple[float, float]] = []
        self._payloads, self._delay, self._timestamp = payloads, delay, timestamp
        self._count, self._step, self._phase = int(seconds * 50), 0.02 * (1 + drift), phase
        self._sent: dict[bytes, int] = {}

    def run(self) -> Line:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(self._run(runner.get_loop()))
        return self

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.heard]

    def delay_at(self, time: float) -> tuple[float, float]:
        """Delay and target at the first frame from this time on, milliseconds."""
        _, delay, target = next(entry for entry in self.stats if entry[0] >= time)
        return delay * 1000, target * 1000

    async def _run(self, loop: Any) -> None:
        start = loop.time()
        self.playout = playout = Playout(lambda frame: self._deliver(frame, loop.time() - start))
        playout.phase = start + self._phase
        decode = playout._decoder.decode

        def noted(payload: bytes) -> bytes | None:
            number = self._sent[payload]
            self.heard.append((number, loop.time() - start - number * self._step))
            return decode(payload)

        playout._decoder.decode = noted
        for time, seconds in self.stalls:
            loop.call_at(start + time, self._stall, loop, seconds)
        arrivals = sorted(
            (round(number * self._step + delay, 9), number)
            for number in range(self._count)
            if (delay := self._delay(number)) is not None
        )
        for arrival, number in arrivals:
            await asyncio.sleep(start + arrival - loop.time())
            payload = self._payloads[number % len(self._payloads)]
            self._sent[payload] = number
            playout.add(RtpPacket(111, 0, number & 0xFFFF, self._timestamp(number) & 0xFFFFFFFF, 1, payload))
        self.clocked = len(self.frames)
        playout.close()

    def _stall(self, loop: Any, seconds: float) -> None:
        loop.now += seconds

    def _deliver(self, frame: AudioFrame, time: float) -> None:
        self.frames.append((time, bytes(frame.planes[0])[:1920]))
        self.pts.append(frame.pts or 0)
        self.stats.append((time, self.playout._buffer.delay, self.playout._buffer.target))
