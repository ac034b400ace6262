"""One end of a call, by relaycall and by plain aiortc, with the same methods: what set-up and CPU are measured on.

The order is that of offer and answer for both: `offer` on one end, `answer` on the other, then `connect` on both.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiortc import (
    RTCConfiguration,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from relaycall.call.ends import MediaOptions
from relaycall.call.media_call import MediaCall
from relaycall.relays.server import RelayServer
from tests.benchmarks.content import Speech, SpeechTrack
from tests.benchmarks.party import CpuMeter

USERNAME, PASSWORD = "user", "password"  # as tests.coturn has them
TIMEOUT = 30.0  # seconds


class RelaycallCall:
    """One end of a relaycall call."""

    def __init__(self) -> None:
        self._source = Speech()
        self._call: MediaCall | None = None
        self._peer_record = b""

    async def offer(self, uri: str) -> tuple[bytes, float]:
        """Allocate. Returns the record for the other end, and the seconds it took."""
        return await self._prepare(uri, caller=True)

    async def answer(self, uri: str, offer: bytes) -> tuple[bytes, float]:
        """Allocate, given the other end's record. Returns ours, and the seconds it took."""
        self._peer_record = offer
        return await self._prepare(uri, caller=False)

    async def _prepare(self, uri: str, *, caller: bool) -> tuple[bytes, float]:
        server = RelayServer.parse(uri, username=USERNAME, password=PASSWORD)
        started = time.monotonic()
        self._call = MediaCall([server], caller=caller, source=self._source, options=MediaOptions(laboratory=True))
        record = await self._call.prepare()
        return record, time.monotonic() - started

    async def connect(self, answer: bytes | None) -> float:
        """Connect, on the end that offered with the other's record. Returns when it was, by the monotonic clock."""
        assert self._call is not None
        await self._call.connect(self._peer_record if answer is None else answer, timeout=TIMEOUT)
        return time.monotonic()

    def say(self, what: str) -> None:
        """ "speech", "silence", or "mute" while the source goes on with speech."""
        assert self._call is not None
        assert self._call.session is not None
        self._source.silent = what == "silence"
        self._call.session.muted = what == "mute"

    async def talk(self, seconds: float) -> tuple[float, float, int]:
        """Talk and listen. Returns the CPU seconds and wall seconds it took, and the frames heard."""
        assert self._call is not None
        session = self._call.session
        assert session is not None
        meter, before = CpuMeter(), session.frames_heard
        await asyncio.sleep(seconds)
        return *meter.read(), session.frames_heard - before

    async def hang_up(self) -> None:
        """End the call; another may follow."""
        if self._call is not None:
            await self._call.close()
            self._call = None

    async def close(self) -> None:
        await self.hang_up()


class AiortcCall:
    """One end of a call by plain aiortc, told to use the relay only."""

    def __init__(self) -> None:
        self._source = Speech()
        self._track: SpeechTrack | None = None
        self._pc: RTCPeerConnection | None = None
        self._connected: asyncio.Future[float] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._frames_heard = 0

    def _open(self, uri: str) -> RTCPeerConnection:
        relay = RTCIceServer(uri, USERNAME, PASSWORD)
        pc = RTCPeerConnection(RTCConfiguration([relay], iceTransportPolicy=RTCIceTransportPolicy.RELAY))
        connected: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def changed() -> None:
            if pc.connectionState == "connected" and not connected.done():
                connected.set_result(time.monotonic())

        pc.on("connectionstatechange", changed)
        pc.on("track", self._listen)
        self._track = SpeechTrack(self._source)
        pc.addTrack(self._track)
        self._pc, self._connected = pc, connected
        return pc

    async def offer(self, uri: str) -> tuple[tuple[str, str], float]:
        """Allocate and describe. Returns the description, and the seconds it took."""
        started = time.monotonic()
        pc = self._open(uri)
        await pc.setLocalDescription(await pc.createOffer())
        return (pc.localDescription.type, pc.localDescription.sdp), time.monotonic() - started

    async def answer(self, uri: str, offer: tuple[str, str]) -> tuple[tuple[str, str], float]:
        """Allocate and describe, given the offer. It begins to connect with that. Returns as `offer` does."""
        started = time.monotonic()
        pc = self._open(uri)
        kind, sdp = offer
        await pc.setRemoteDescription(RTCSessionDescription(sdp, kind))
        await pc.setLocalDescription(await pc.createAnswer())
        return (pc.localDescription.type, pc.localDescription.sdp), time.monotonic() - started

    async def connect(self, answer: tuple[str, str] | None) -> float:
        """Connect, on the end that offered with the answer. Returns when it was, by the monotonic clock."""
        assert self._pc is not None
        assert self._connected is not None
        if answer is not None:
            kind, sdp = answer
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp, kind))
        return await asyncio.wait_for(self._connected, TIMEOUT)

    def say(self, what: str) -> None:
        """ "speech", "silence", or "mute", which for aiortc is to take the track away."""
        assert self._pc is not None
        self._source.silent = what == "silence"
        [sender] = self._pc.getSenders()
        sender.replaceTrack(None if what == "mute" else self._track)

    async def talk(self, seconds: float) -> tuple[float, float, int]:
        """Talk and listen. Returns the CPU seconds and wall seconds it took, and the frames heard."""
        meter, before = CpuMeter(), self._frames_heard
        await asyncio.sleep(seconds)
        return *meter.read(), self._frames_heard - before

    async def hang_up(self) -> None:
        """End the call; another may follow."""
        if self._pc is not None:
            await self._pc.close()
            self._pc = None
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
            self._listener = None

    async def close(self) -> None:
        await self.hang_up()

    def _listen(self, track: MediaStreamTrack) -> None:
        self._listener = asyncio.ensure_future(self._drain(track))

    async def _drain(self, track: Any) -> None:
        while True:
            try:
                await track.recv()
            except MediaStreamError:
                return
            self._frames_heard += 1


KINDS = {"aiortc": AiortcCall, "relaycall": RelaycallCall}
