"""Video and voice both ways with Chromium, through the drop-in, when our link carries 400 kbit/s each way.

The sender and its way of adapting are aiortc's own, by REMB. Its least rate of 250 kbit/s, with the voice's 140, is
more than such a link carries: measured before it was lowered, a quarter of all that we sent was lost from the sixth
second on, a fifth of the voice with it, and packets that were sent again took another 100 kbit/s.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiortc import MediaStreamTrack
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtp import RtcpPsfbPacket, unpack_remb_fci
from av import VideoFrame

from relaycall import RelayPeerConnection, RelayServer
from relaycall.media.video.sources import TestPattern
from relaycall.peerconnection import MIN_VIDEO_BITRATE
from relaycall.testing import lossy_link
from tests.coturn import Coturn
from tests.interop.test_peerconnection_chromium import Call, browser
from tests.interop.tracks import Heard, Tone
from tests.leaks import no_leaks
from tests.waiting import eventually

PAGE = Path(__file__).with_name("video_chromium.html")
RATE = 400_000  # bit/s each way


class Scene(MediaStreamTrack):
    """A test pattern, 20 times a second, with enough in it to need its bit rate."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._pattern = TestPattern(640, 480, 20)
        self._start = time.monotonic()

    async def recv(self) -> VideoFrame:
        frame = await self._pattern.read()
        assert frame is not None
        frame.pts, frame.time_base = int((time.monotonic() - self._start) * 90000), Fraction(1, 90000)
        return frame


class VideoCall(Call):
    """It keeps all that the page tells, and the REMB that comes.

    Attributes:
        told: by the page, each second.
        rembs: when, and bit/s.
    """

    def __init__(self, coturn: Coturn, peer: RelayPeerConnection) -> None:
        self.told: list[dict[str, Any]] = []
        self.rembs: list[tuple[float, int]] = []
        super().__init__(coturn, offering=True, trickle=False, media=False, bundle="max-bundle")
        self.peer = peer
        self.heard = Heard(peer)
        peer.addTrack(Tone())
        self.sender: RTCRtpSender = peer.addTrack(Scene())
        handle = self.sender._handle_rtcp_packet

        async def note(packet: Any) -> None:
            if isinstance(packet, RtcpPsfbPacket) and packet.fmt == 15:
                self.rembs.append((time.monotonic(), unpack_remb_fci(packet.fci)[0]))
            await handle(packet)

        self.sender._handle_rtcp_packet = note  # type: ignore[method-assign]

    @property
    def target(self) -> int:
        """What our encoder is asked for, in bit/s."""
        encoder: Any = self.sender._RTCRtpSender__encoder  # type: ignore[attr-defined]
        return encoder.target_bitrate if encoder is not None else 0

    async def page(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE)

    async def report(self, request: web.Request) -> web.Response:
        self.told.append({"at": time.monotonic(), "target": self.target, **await request.json()})
        return web.json_response({})


def sizes_by_kind(into: Counter[str]) -> Any:
    def tap(data: bytes) -> None:
        payload = data[4:] if 0x40 <= data[0] < 0x80 else b""
        media = len(payload) > 12 and payload[0] >> 6 == 2 and not 192 <= payload[1] < 224
        kind = {96: "voice", 97: "video"}.get(payload[1] & 0x7F, f"rtp {payload[1] & 0x7F}") if media else "other"
        into[kind] += len(data) + 28

    return tap


def test_what_aiortc_takes_for_the_least_is_lowered() -> None:
    """A contract: its encoders read the constants when they are given a rate."""
    RelayPeerConnection(relays=[RelayServer.parse("turn:relay.example", username="user", password="word")])
    for encoder in (Vp8Encoder(), H264Encoder()):
        encoder.target_bitrate = 60_000
        assert encoder.target_bitrate == 60_000
        encoder.target_bitrate = 1
        assert encoder.target_bitrate == MIN_VIDEO_BITRATE


def in_between(call: VideoCall, since: float, what: str) -> int:
    """By how much one of the page's figures has grown since then."""
    told = [told[what] for told in call.told if told["at"] >= since]
    return int(told[-1] - told[0])


@pytest.mark.interop
@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_the_voice_survives_a_narrow_link() -> None:
    sizes: Counter[str] = Counter()
    async with no_leaks(), Coturn() as coturn, lossy_link(coturn.server(), seed=7) as (link, through):
        link.on_packet = sizes_by_kind(sizes)
        call = VideoCall(coturn, RelayPeerConnection(relays=[through], laboratory=True))
        try:
            async with browser(call):
                await eventually(lambda: any(told.get("framesDecoded", 0) > 20 for told in call.told), 30)
                link.set("both", delay=0.02, queue=0.3, rate=RATE)
                narrow = time.monotonic()
                await asyncio.sleep(3.0)  # REMB comes within one
                sizes.clear()
                heard, counted = Counter(call.heard.frames), Counter(link.counts)
                start = time.monotonic()
                await asyncio.sleep(12.0)
                passed = time.monotonic() - start
                lost, frames = link.counts - counted, call.heard.frames - heard
                sent = {kind: round(8 * size / passed / 1000) for kind, size in sizes.items()}
                missing = in_between(call, start, "audioConcealed") / in_between(call, start, "audioSamples")
                print(f"sent, kbit/s: {sent}; packets {dict(lost)}; frames from the page {dict(frames)}")
                pictures, freezes = (in_between(call, start, what) for what in ("framesDecoded", "freezes"))
                print(
                    f"the page lacks {missing:.1%} of the voice, decoded {pictures} pictures in 12 s, froze {freezes}×"
                )
                rembs = [(round(at - narrow, 1), rate // 1000) for at, rate in call.rembs if at > narrow]
                print(f"it sends {call.told[-1]['sentTarget'] // 1000} kbit/s; REMB, kbit/s: {rembs}")
                assert not [told for told in call.told if "failed" in told]
                assert call.peer.connectionState == "connected"
                assert call.target < 250_000, "aiortc would not go below"
                assert sum(sent.values()) < RATE / 1000
                assert lost["up", "lost"] < 0.05 * lost["up", "passed"]
                assert lost["down", "lost"] < 0.05 * lost["down", "passed"]
                assert missing < 0.05
                assert pictures > 5 * passed
                assert frames["audio"] > 40 * passed
                assert frames["video"] > 5 * passed
        finally:
            await call.peer.close()
