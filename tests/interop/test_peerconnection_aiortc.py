"""`RelayPeerConnection` and plain aiortc, each of them calling the other, and two of ours that lose a relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
)

from relaycall import NoRelay, RelayGone, RelayPeerConnection, check_relay_only, rtc_configuration
from tests.coturn import Coturn
from tests.interop.tracks import Heard, Picture, Tone
from tests.leaks import no_leaks
from tests.waiting import eventually

pytestmark = pytest.mark.interop


class Chat:
    """A data channel both ways, on both ends.

    Attributes:
        heard: by the caller: what the callee answered.
    """

    def __init__(self, caller: RTCPeerConnection, callee: RTCPeerConnection) -> None:
        self.heard: list[str] = []
        self.channel = caller.createDataChannel("chat")
        self.channel.on("message", self.heard.append)
        callee.on("datachannel", self._answer)

    def _answer(self, channel: RTCDataChannel) -> None:
        channel.on("message", lambda message: channel.send(f"heard {message}"))

    async def say(self, text: str, timeout: float = 10.0) -> None:
        """Say something, and wait for the answer."""
        await eventually(lambda: self.channel.readyState == "open", timeout)
        self.channel.send(text)
        await eventually(lambda: f"heard {text}" in self.heard, timeout)


@asynccontextmanager
async def closing(*peers: RTCPeerConnection) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await asyncio.gather(*(peer.close() for peer in peers))


async def negotiate(caller: RTCPeerConnection, callee: RTCPeerConnection) -> None:
    await caller.setLocalDescription(await caller.createOffer())
    await callee.setRemoteDescription(caller.localDescription)
    await callee.setLocalDescription(await callee.createAnswer())
    await caller.setRemoteDescription(callee.localDescription)


def plain(coturn: Coturn, bundle: RTCBundlePolicy) -> RTCPeerConnection:
    server = RTCIceServer(coturn.uri("udp"), coturn.username, coturn.password)
    return RTCPeerConnection(RTCConfiguration([server], RTCIceTransportPolicy.RELAY, bundle))


def ours(*coturns: Coturn, timeout: float = 10.0) -> RelayPeerConnection:
    relays = [coturn.server() for coturn in coturns]
    return RelayPeerConnection(relays=relays, laboratory=True, connect_timeout=timeout)


def all_media(*peers: RTCPeerConnection) -> list[Heard]:
    for peer in peers:
        peer.addTrack(Tone())
        peer.addTrack(Picture())
    return [Heard(peer) for peer in peers]


@pytest.mark.parametrize(
    "bundle", [RTCBundlePolicy.BALANCED, RTCBundlePolicy.MAX_BUNDLE], ids=["balanced", "max-bundle"]
)
@pytest.mark.parametrize("offering", [True, False], ids=["we offer", "aiortc offers"])
async def test_sound_picture_and_messages(offering: bool, bundle: RTCBundlePolicy) -> None:
    async with no_leaks(), Coturn() as coturn:
        mine, theirs = ours(coturn), plain(coturn, bundle)
        caller, callee = (mine, theirs) if offering else (theirs, mine)
        async with closing(caller, callee):
            all_heard = all_media(caller, callee)
            chat = Chat(caller, callee)
            await negotiate(caller, callee)
            await chat.say("hello")
            await eventually(lambda: all(heard.loudest > 1000 and heard.frames["video"] > 5 for heard in all_heard))
            assert mine.connectionState == theirs.connectionState == "connected"
            assert mine.iceConnectionState == "completed"
            check_relay_only(theirs.localDescription.sdp, [coturn.ip], laboratory=True)
            assert mine.connection is not None
            assert len(mine.connection.local_candidates) == 1


async def test_two_plain_ones_with_our_configuration() -> None:
    async with no_leaks(), Coturn() as coturn:
        caller, callee = (RTCPeerConnection(rtc_configuration([coturn.server()])) for _ in range(2))
        async with closing(caller, callee):
            chat = Chat(caller, callee)
            await negotiate(caller, callee)
            await chat.say("hello")
            for peer in (caller, callee):
                check_relay_only(peer.localDescription.sdp, [coturn.ip], laboratory=True)


async def test_ours_with_our_configuration() -> None:
    async with no_leaks(), Coturn() as coturn:
        configuration = rtc_configuration([coturn.server()])
        caller, callee = (RelayPeerConnection(configuration, laboratory=True) for _ in range(2))
        async with closing(caller, callee):
            chat = Chat(caller, callee)
            await negotiate(caller, callee)
            await chat.say("hello")


@pytest.mark.parametrize("transport", ["kill", "freeze"])
async def test_one_of_two_relays_is_lost(transport: str) -> None:
    async with no_leaks(), Coturn(ip="127.0.0.1") as first, Coturn(ip="127.0.0.2") as second:
        caller, callee = ours(first, second), ours(first, second)
        async with closing(caller, callee):
            events: list[object] = []
            caller.on("relay", events.append)
            caller.addTrack(Tone())
            heard = Heard(callee)
            chat = Chat(caller, callee)
            await negotiate(caller, callee)
            await chat.say("before")
            inside = [peer.connection for peer in (caller, callee)]
            await eventually(lambda: all(path.rtt_ms for side in inside if side for path in side.path_stats()))
            used = [side.path_stats()[0].relay for side in inside if side]
            lost = first if first.uri("udp") in used else second
            before = heard.frames["audio"]
            if transport == "kill":
                lost.kill()
            else:
                lost.freeze()
            try:
                await chat.say("after")
                await eventually(lambda: heard.frames["audio"] > before + 100)
                assert caller.connectionState == callee.connectionState == "connected"
                assert caller.error is callee.error is None
                now = [side.path_stats()[0].relay for side in inside if side]
                assert lost.uri("udp") not in now
                if transport == "kill":
                    await eventually(lambda: any(isinstance(event, RelayGone) for event in events), 15)
            finally:
                start = time.monotonic()
                await asyncio.gather(caller.close(), callee.close())
                assert time.monotonic() - start < 2
                if transport == "freeze":
                    lost.thaw()


async def test_the_loss_of_the_only_relay_is_told() -> None:
    async with no_leaks(), Coturn() as coturn:
        caller, callee = (
            RelayPeerConnection(relays=[coturn.server("tcp")], laboratory=True),
            RelayPeerConnection(relays=[coturn.server("tcp")], laboratory=True),
        )
        async with closing(caller, callee):
            states: list[str] = []
            caller.on("connectionstatechange", lambda: states.append(caller.connectionState))
            chat = Chat(caller, callee)
            await negotiate(caller, callee)
            await chat.say("before")
            coturn.kill()
            await eventually(lambda: states[-1] in ("failed", "closed"))
            await eventually(lambda: isinstance(caller.error, NoRelay))


async def test_closing_while_every_relay_is_frozen() -> None:
    async with no_leaks(), Coturn(ip="127.0.0.1") as first, Coturn(ip="127.0.0.2") as second:
        caller, callee = ours(first, second), ours(first, second)
        all_media(caller, callee)
        chat = Chat(caller, callee)
        await negotiate(caller, callee)
        await chat.say("hello")
        first.freeze()
        second.freeze()
        try:
            start = time.monotonic()
            await asyncio.gather(caller.close(), callee.close())
            assert time.monotonic() - start < 2
        finally:
            first.thaw()
            second.thaw()
        assert caller.connectionState == callee.connectionState == "closed"
