"""One end of a packet path, SRTP over ICE over TURN, by relaycall and by aiortc: no codec, no jitter buffer.

Both protect the same RTP packets with AES-256-GCM and send them through a relay; what arrives is opened, counted and
dropped. relaycall: `RtpTransport` over `Connection`. aiortc: `RTCDtlsTransport` over `RTCIceTransport`, up to where it
would parse the RTP packet.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import cycle, islice
from typing import Any

from aiortc import (
    RTCCertificate,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceServer,
    RTCIceTransport,
    RTCIceTransportPolicy,
)

from relaycall.ice.connection import Connection
from relaycall.media.budget import Budget
from relaycall.media.srtp import derive_keys
from relaycall.media.transport import RtpTransport
from relaycall.relays.server import RelayServer
from relaycall.stun.address import Address
from tests.benchmarks.calls import PASSWORD, TIMEOUT, USERNAME
from tests.benchmarks.party import CpuMeter

PAYLOAD_TYPE, PAYLOAD = 111, bytes(80)  # a relaycall audio packet
SSRCS = 1001, 1002  # of the end that offers, and of the other
CALL_KEY = bytes(32)

Send = Callable[[bytes], Awaitable[None]]


class _Transport:
    """What both have in common: sending at a pace and counting what comes."""

    def __init__(self) -> None:
        self.received = 0
        self._send: Send = _nowhere
        self._meter: CpuMeter | None = None
        self._first = 0

    def _packets(self, ssrc: int) -> None:
        header = struct.Struct("!BBHLL")
        self._rtp = cycle(
            [header.pack(0x80, PAYLOAD_TYPE, n, (960 * n) & 0xFFFFFFFF, ssrc) + PAYLOAD for n in range(65536)]
        )

    async def idle(self, seconds: float) -> float:
        """CPU seconds per second of an open connection."""
        meter = CpuMeter()
        await asyncio.sleep(seconds)
        cpu, wall = meter.read()
        return cpu / wall

    async def bursts(self, bursts: int, size: int, interval: float, dry: bool = False) -> tuple[float, float]:
        """Send that many bursts, one each interval. Returns CPU and wall seconds. Dry: go through the motions only."""
        send = _nowhere if dry else self._send
        packets = self._rtp
        meter = CpuMeter()
        start = time.monotonic()
        for index in range(bursts):
            for packet in islice(packets, size) if not dry else [PAYLOAD] * size:
                await send(packet)
            await asyncio.sleep(max(0.0, start + (index + 1) * interval - time.monotonic()))
        return meter.read()

    def watch(self) -> None:
        """Begin to account for what arrives."""
        self._first = self.received
        self._meter = CpuMeter()

    async def watched(self) -> tuple[float, float, int]:
        """CPU seconds, wall seconds and packets since then."""
        assert self._meter is not None
        return *self._meter.read(), self.received - self._first


async def _nowhere(_packet: bytes) -> None:
    return


class RelaycallTransport(_Transport):
    """By relaycall."""

    def __init__(self) -> None:
        super().__init__()
        self._connection: Connection | None = None
        self._transport: RtpTransport | None = None
        self._peer: Any = None

    async def offer(self, uri: str) -> Any:
        return await self._open(uri, offering=True)

    async def answer(self, uri: str, offer: Any) -> Any:
        self._peer = offer
        return await self._open(uri, offering=False)

    async def _open(self, uri: str, *, offering: bool) -> Any:
        server = RelayServer.parse(uri, username=USERNAME, password=PASSWORD)
        connection = self._connection = Connection([server], ice_controlling=offering, laboratory=True)
        await connection.gather_candidates()
        local, remote = SSRCS if offering else SSRCS[::-1]
        keys = derive_keys(CALL_KEY, caller=offering)
        transport = self._transport = RtpTransport(
            connection, keys, local_ssrc=local, remote_ssrc=remote, payload_type=PAYLOAD_TYPE
        )
        transport._budget = Budget(sys.maxsize)  # more than a call needs is what is wanted here
        self._send = transport._send_rtp
        self._packets(local)
        found = [(each.host, each.port, each.priority) for each in connection.local_candidates]
        return connection.local_username, connection.local_password, found

    async def connect(self, answer: Any) -> None:
        connection, transport = self._connection, self._transport
        assert connection is not None
        assert transport is not None
        connection.remote_username, connection.remote_password, candidates = answer or self._peer
        for host, port, priority in candidates:
            connection.add_remote(Address.parse(host, port), priority)
        await connection.connect(TIMEOUT)
        transport.open()

    async def watched(self) -> tuple[float, float, int]:
        assert self._transport is not None
        self.received = self._transport.counters.audio_received
        return await super().watched()

    def watch(self) -> None:
        assert self._transport is not None
        self.received = self._transport.counters.audio_received
        super().watch()

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._connection is not None:
            await self._connection.close()


class AiortcTransport(_Transport):
    """By aiortc, built from its own parts."""

    def __init__(self) -> None:
        super().__init__()
        self._gatherer: RTCIceGatherer | None = None
        self._ice: RTCIceTransport | None = None
        self._dtls: RTCDtlsTransport | None = None
        self._peer: Any = None

    async def offer(self, uri: str) -> Any:
        return await self._open(uri, offering=True)

    async def answer(self, uri: str, offer: Any) -> Any:
        self._peer = offer
        return await self._open(uri, offering=False)

    async def _open(self, uri: str, *, offering: bool) -> Any:
        relay = RTCIceServer(uri, USERNAME, PASSWORD)
        gatherer = RTCIceGatherer([relay], iceTransportPolicy=RTCIceTransportPolicy.RELAY)
        await gatherer.gather()
        ice = self._ice = RTCIceTransport(gatherer)
        ice._connection.ice_controlling = offering
        dtls = self._dtls = RTCDtlsTransport(ice, [RTCCertificate.generateCertificate()])
        dtls._set_role("client" if offering else "server")

        async def count(data: bytes, arrival_time_ms: int) -> None:
            self.received += 1

        dtls._handle_rtp_data = count  # type: ignore[method-assign]
        self._send = dtls._send_rtp
        self._packets(SSRCS[0] if offering else SSRCS[1])
        return gatherer.getLocalCandidates(), gatherer.getLocalParameters(), dtls.getLocalParameters()

    async def connect(self, answer: Any) -> None:
        assert self._ice is not None
        assert self._dtls is not None
        candidates, ice_parameters, dtls_parameters = answer or self._peer
        for candidate in [*candidates, None]:
            await self._ice.addRemoteCandidate(candidate)
        await self._ice.start(ice_parameters)
        await self._dtls.start(dtls_parameters)

    async def close(self) -> None:
        if self._dtls is not None:
            await self._dtls.stop()
        if self._ice is not None:
            await self._ice.stop()


class BareTransport(_Transport):
    """Two UDP sockets and nothing else, no relay either: what the kernel and the event loop take in any case."""

    def __init__(self) -> None:
        super().__init__()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._peer: Any = None

    def offer(self, _uri: str) -> Any:
        self._sock.bind(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self._packets(SSRCS[0])
        return self._sock.getsockname()

    def answer(self, uri: str, offer: Any) -> Any:
        self._peer = offer
        return self.offer(uri)

    def connect(self, answer: Any) -> None:
        self._sock.connect(answer or self._peer)
        write = self._sock.send

        async def send(packet: bytes) -> None:
            write(packet)

        self._send = send
        asyncio.get_running_loop().add_reader(self._sock, self._readable)

    def _readable(self) -> None:
        receive = self._sock.recv
        try:
            while True:
                receive(2048)
                self.received += 1
        except BlockingIOError:
            return

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()


KINDS: dict[str, type[_Transport]] = {
    "aiortc": AiortcTransport,
    "relaycall": RelaycallTransport,
    "bare": BareTransport,
}
