"""Signed descriptions between `RelayPeerConnection` and Chromium. The program that drives the page signs for it."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable

import pytest
from aiohttp import web
from aiortc import RTCSessionDescription

from relaycall import SdpRefused
from relaycall.call.description import (
    MAX_RECORD,
    SESSION_SIZE,
    DescriptionRecord,
    check_description,
    describe_answer,
    describe_offer,
    encode_description,
    read_description,
)
from relaycall.call.messages import Kind
from tests.coturn import Coturn
from tests.interop.test_peerconnection_chromium import TIMEOUT, Call, browser
from tests.leaks import no_leaks
from tests.signers import Signer, introduce
from tests.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.slow]


class SignedCall(Call):
    """Ours is Alice's end; Bob has the page, and signs and checks in its place.

    Attributes:
        sizes: of the page's records, in bytes.
    """

    def __init__(
        self, coturn: Coturn, people: tuple[Signer, Signer], *, offering: bool, trickle: bool, bundle: str
    ) -> None:
        super().__init__(coturn, offering=offering, trickle=trickle, media=True, bundle=bundle)
        self._alice, self._bob = people
        self._offer: DescriptionRecord | None = None  # what Bob knows of the offer
        self.sizes: list[int] = []
        self.on_the_way: Callable[[str], str] = lambda sdp: sdp

    async def offer(self, _request: web.Request) -> web.Response:
        await self.peer.setLocalDescription()
        return await self._to_page()

    async def description(self, request: web.Request) -> web.Response:
        theirs = json.loads(await request.text())
        self.shown = theirs["sdp"]
        if theirs["type"] == "offer":
            record = self._offer = describe_offer(self.shown, secrets.token_bytes(SESSION_SIZE))
        else:
            assert self._offer
            record = describe_answer(self.shown, self._offer)
        body = encode_description(record)
        self.sizes.append(len(body))
        envelope = await self._bob.sealer.seal(self._alice.public, Kind.DESCRIPTION, body)
        carried = RTCSessionDescription(self.on_the_way(self.shown), theirs["type"])
        await self.peer.accept_sealed(carried, envelope, self._alice.sealer, self._bob.public)
        if theirs["type"] == "answer":
            return web.json_response({})
        await self.peer.setLocalDescription()
        return await self._to_page()

    async def _to_page(self) -> web.Response:
        envelope = await self.peer.sealed_description(self._alice.sealer, self._bob.public)
        mine = self.peer.localDescription
        carried = self.on_the_way(mine.sdp)
        record = read_description(await self._bob.sealer.open(envelope), self._alice.public)
        check_description(record, carried, mine.type, self._offer)
        if mine.type == "offer":
            self._offer = record
        return web.json_response({"type": mine.type, "sdp": carried})


async def two() -> tuple[Signer, Signer]:
    alice, bob = Signer(), Signer()
    await introduce(alice, bob)
    return alice, bob


@pytest.mark.parametrize("offering", [True, False], ids=["we offer", "Chromium offers"])
@pytest.mark.parametrize(
    ("trickle", "bundle"), [(False, "balanced"), (True, "max-bundle")], ids=["all at once", "trickling"]
)
async def test_a_signed_call(offering: bool, trickle: bool, bundle: str) -> None:
    async with no_leaks(), Coturn() as coturn:
        call = SignedCall(coturn, await two(), offering=offering, trickle=trickle, bundle=bundle)
        try:
            async with browser(call):
                result = await asyncio.wait_for(call.result, TIMEOUT)
                assert "failed" not in result, result
                await eventually(lambda: call.heard.loudest > 1000 and call.heard.frames["video"] > 20, 10)
                assert len(call.sizes) == 1
                assert call.sizes[0] < MAX_RECORD * 2 / 3  # with room for more codecs
        finally:
            await call.peer.close()


@pytest.mark.parametrize("offering", [True, False], ids=["we offer", "Chromium offers"])
async def test_a_fingerprint_that_was_changed_on_the_way(offering: bool) -> None:
    async with no_leaks(), Coturn() as coturn:
        call = SignedCall(coturn, await two(), offering=offering, trickle=False, bundle="balanced")
        call.on_the_way = lambda sdp: re.sub(r"(a=fingerprint:sha-256) \S+", r"\1 " + ":".join(["AB"] * 32), sdp)
        try:
            async with browser(call):
                with pytest.raises(SdpRefused, match="certificate fingerprint is not the signed one"):
                    await asyncio.wait_for(call.result, TIMEOUT)
                assert call.peer.remoteDescription is None
                assert call.heard.frames.total() == 0
        finally:
            await call.peer.close()
