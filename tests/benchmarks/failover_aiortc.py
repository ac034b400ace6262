"""One end of a call by plain aiortc that keeps a record of what arrives."""

from __future__ import annotations

import os
import time
from typing import Any

from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtp import RtpPacket

from tests.benchmarks.calls import AiortcCall
from tests.scenarios.failover.listening import Arrivals


class AiortcEnd(AiortcCall):
    """`ca_file`: of the authority that signed the relay's certificate, for TLS."""

    def __init__(self, ca_file: str) -> None:
        super().__init__()
        os.environ["SSL_CERT_FILE"] = ca_file  # the only way to tell aioice
        self._arrivals = Arrivals()

    def gap(self, since: float) -> dict[str, Any]:
        """What an event at that time did; see `Arrivals.gap`."""
        return self._arrivals.gap(since, time.monotonic())

    async def close(self) -> None:
        """End the program: to close a call whose relay is dead takes aiortc a minute."""
        os._exit(0)

    def _listen(self, track: MediaStreamTrack) -> None:
        super()._listen(track)
        assert self._pc is not None
        [receiver] = self._pc.getReceivers()
        take = receiver._handle_rtp_packet

        async def note(packet: RtpPacket, arrival_time_ms: int) -> None:
            self._arrivals.add(packet.sequence_number, time.monotonic())
            await take(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtp_packet = note  # type: ignore[method-assign]
