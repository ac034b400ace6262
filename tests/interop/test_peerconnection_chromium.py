"""`RelayPeerConnection` and Chromium, each of them calling the other, through a real coturn."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from aiortc import RTCDataChannel, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

from relaycall import RelayPeerConnection, SdpRefused
from tests.coturn import Coturn
from tests.interop.tracks import Heard, Picture, Tone
from tests.leaks import no_leaks
from tests.tools import require_tool
from tests.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.slow]

PAGE = Path(__file__).with_name("peerconnection_chromium.html")
CHROMIUM_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--allow-loopback-in-peer-connection"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
    "--autoplay-policy=no-user-gesture-required",
)
TIMEOUT = 20.0


class Call:
    """Our end of the call, and the page's way to it.

    Attributes:
        shown: the page's description, as it came.
        result: what the page reports.
    """

    def __init__(
        self, coturn: Coturn, *, offering: bool, trickle: bool, media: bool, bundle: str, policy: str = "relay"
    ) -> None:
        self.peer = RelayPeerConnection(relays=[coturn.server()], laboratory=True)
        self.heard = Heard(self.peer)
        self.messages: list[str] = []
        self.shown = ""
        self.result: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._offering = offering
        server = {"urls": coturn.uri("udp"), "username": coturn.username, "credential": coturn.password}
        self._config = {
            "offering": not offering,
            "trickle": trickle,
            "media": media,
            "configuration": {"iceServers": [server], "bundlePolicy": bundle, "iceTransportPolicy": policy},
        }
        if media:
            self.peer.addTrack(Tone())
            self.peer.addTrack(Picture())
        if offering:
            self._talk(self.peer.createDataChannel("chat"))
        else:
            self.peer.on("datachannel", self._talk)

    def _talk(self, channel: RTCDataChannel) -> None:
        @channel.on("message")
        def answer(message: str) -> None:
            self.messages.append(message)
            channel.send(f"{message}!")

        if self._offering:
            channel.on("open", lambda: channel.send("hello"))

    async def page(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE)

    async def config(self, _request: web.Request) -> web.Response:
        return web.json_response(self._config)

    async def offer(self, _request: web.Request) -> web.Response:
        await self.peer.setLocalDescription()
        return self._ours()

    async def description(self, request: web.Request) -> web.Response:
        theirs = json.loads(await request.text())
        self.shown = theirs["sdp"]
        await self.peer.setRemoteDescription(RTCSessionDescription(**theirs))
        if theirs["type"] == "answer":
            return web.json_response({})
        await self.peer.setLocalDescription()
        return self._ours()

    def _ours(self) -> web.Response:
        mine = self.peer.localDescription
        return web.json_response({"type": mine.type, "sdp": mine.sdp})

    async def candidate(self, request: web.Request) -> web.Response:
        theirs = json.loads(await request.text())
        candidate = None
        if theirs and theirs["candidate"]:
            candidate = candidate_from_sdp(theirs["candidate"].removeprefix("candidate:"))
            candidate.sdpMid, candidate.sdpMLineIndex = theirs["sdpMid"], theirs["sdpMLineIndex"]
        await self.peer.addIceCandidate(candidate)
        return web.json_response({})

    @web.middleware
    async def tell(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What our end raises is the result."""
        try:
            return await handler(request)
        except Exception as error:
            if not isinstance(error, web.HTTPException) and not self.result.done():
                self.result.set_exception(error)
            raise

    async def report(self, request: web.Request) -> web.Response:
        if not self.result.done():
            self.result.set_result(json.loads(await request.text()))
        return web.json_response({})


@asynccontextmanager
async def browser(call: Call) -> AsyncIterator[None]:
    """The page, in a Chromium of its own."""
    chromium = require_tool("chromium")
    app = web.Application(middlewares=[call.tell])
    app.router.add_get("/", call.page)
    for path, answer in [("config", call.config), ("offer", call.offer), ("description", call.description)]:
        app.router.add_post(f"/{path}", answer)
    app.router.add_post("/candidate", call.candidate)
    app.router.add_post("/result", call.report)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            process = await asyncio.create_subprocess_exec(
                *(chromium, *CHROMIUM_FLAGS, f"--user-data-dir={profile}", f"http://127.0.0.1:{port}/"),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                yield
            finally:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), 5)
                except TimeoutError:
                    process.kill()
                    await process.wait()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("offering", [True, False], ids=["we offer", "Chromium offers"])
@pytest.mark.parametrize(
    ("trickle", "bundle"), [(False, "balanced"), (True, "max-bundle")], ids=["all at once", "trickling"]
)
async def test_sound_picture_and_messages(offering: bool, trickle: bool, bundle: str) -> None:
    async with no_leaks(), Coturn() as coturn:
        call = Call(coturn, offering=offering, trickle=trickle, media=True, bundle=bundle)
        try:
            async with browser(call):
                result = await asyncio.wait_for(call.result, TIMEOUT)
                assert "failed" not in result, result
                assert result["path"] == ["relay", "relay"]
                assert result["problems"] == []
                assert result["audioHeader"] == 12  # bytes: no extension tells how loud it is
                await eventually(lambda: call.heard.loudest > 1000 and call.heard.frames["video"] > 20, 10)
                assert len(call.messages) >= 10
                assert result["messages"][0] == ("hello" if offering else "hello!")
                assert call.peer.connectionState == "connected"
                assert "typ host" not in call.shown
                assert "typ srflx" not in call.shown
        finally:
            await call.peer.close()


@pytest.mark.parametrize("offering", [True, False], ids=["we offer", "Chromium offers"])
async def test_messages_alone(offering: bool) -> None:
    async with no_leaks(), Coturn() as coturn:
        call = Call(coturn, offering=offering, trickle=False, media=False, bundle="balanced")
        try:
            async with browser(call):
                result = await asyncio.wait_for(call.result, TIMEOUT)
                assert "failed" not in result, result
                assert result["path"] == ["relay", "relay"]
                assert len(call.messages) >= 10
        finally:
            await call.peer.close()


@pytest.mark.parametrize("trickle", [False, True], ids=["all at once", "trickling"])
async def test_a_browser_that_shows_its_address_is_refused(trickle: bool) -> None:
    async with no_leaks(), Coturn() as coturn:
        call = Call(coturn, offering=False, trickle=trickle, media=False, bundle="balanced", policy="all")
        try:
            async with browser(call):
                with pytest.raises(SdpRefused, match=r"not a relay's|\.local"):
                    await asyncio.wait_for(call.result, TIMEOUT)
                assert call.peer.connection is None or call.peer.connection.remote_candidates == []
        finally:
            await call.peer.close()
