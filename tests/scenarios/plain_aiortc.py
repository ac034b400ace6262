"""A plain aiortc peer as its author would write it, driven like `party`: what relaycall is to be compared with.

It has a TURN server, the default policy (use every kind of candidate), and one data channel.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription

from tests.scenarios.party import Answer, serve


class PlainPeer:
    """The commands."""

    def __init__(self, settings: dict[str, Any]) -> None:
        servers = [RTCIceServer(urls=uri, username=name, credential=word) for uri, name, word in settings["relays"]]
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._opened = asyncio.Event()
        self._peer.on("datachannel", lambda _channel: self._opened.set())

    async def do_offer(self) -> Answer:
        """Make an offer."""
        self._peer.createDataChannel("x").on("open", self._opened.set)
        await self._peer.setLocalDescription(await self._peer.createOffer())
        return {"sdp": self._peer.localDescription.sdp}

    async def do_answer(self, sdp: str) -> Answer:
        """Answer one."""
        await self._peer.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await self._peer.setLocalDescription(await self._peer.createAnswer())
        return {"sdp": self._peer.localDescription.sdp}

    async def do_accept(self, sdp: str) -> Answer:
        """Take the answer."""
        await self._peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        return {}

    async def do_opened(self) -> Answer:
        """Wait until the two are connected."""
        async with asyncio.timeout(10):
            await self._opened.wait()
        return {}

    async def do_close(self) -> Answer:
        """Close."""
        await self._peer.close()
        return {}


async def main() -> None:
    await serve(PlainPeer(json.loads(sys.argv[1])))


if __name__ == "__main__":
    asyncio.run(main())
