"""Our connection against aioice's, and in its place under aiortc's own objects, over a real coturn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aioice
import pytest
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    RTCPeerConnection,
)

from relaycall.errors import CallClosed
from relaycall.ice.connection import Connection
from tests.coturn import Coturn
from tests.leaks import no_leaks

pytestmark = pytest.mark.interop

MEDIA = bytes((128, 111)) + b"media"  # looks like RTP: other things are not handed on
TIMEOUT = 10.0


@pytest.fixture
async def coturn() -> AsyncIterator[Coturn]:
    async with no_leaks(), Coturn() as relay:
        yield relay


def ours(coturn: Coturn, *, controlling: bool) -> Connection:
    return Connection([coturn.server("udp")], ice_controlling=controlling, laboratory=True)


def stock(coturn: Coturn, *, controlling: bool) -> aioice.Connection:
    return aioice.Connection(
        ice_controlling=controlling,
        turn_server=(coturn.ip, coturn.port),
        turn_username=coturn.username,
        turn_password=coturn.password,
        transport_policy=aioice.TransportPolicy.RELAY,
    )


async def introduce(one: Any, other: Any) -> None:
    """Gather on both sides and tell each of the other."""
    await asyncio.gather(one.gather_candidates(), other.gather_candidates())
    for side, peer in ((one, other), (other, one)):
        side.remote_username, side.remote_password = peer.local_username, peer.local_password
        assert [candidate.type for candidate in peer.local_candidates] == ["relay"]
        for candidate in peer.local_candidates:
            await side.add_remote_candidate(aioice.Candidate.from_sdp(as_sdp(candidate)))
        await side.add_remote_candidate(None)


def as_sdp(candidate: Any) -> str:
    """As aiortc writes it; to show that what we offer can be read."""
    found = aioice.Candidate(
        foundation=candidate.foundation,
        component=candidate.component,
        transport=candidate.transport,
        priority=candidate.priority,
        host=candidate.host,
        port=candidate.port,
        type=candidate.type,
    )
    return found.to_sdp()


async def talk(one: Any, other: Any) -> None:
    """A few packets each way."""
    for sender, receiver in ((one, other), (other, one)):
        for number in range(5):
            packet = MEDIA + bytes((number,))
            await sender.send(packet)
            assert await asyncio.wait_for(receiver.recv(), TIMEOUT) == packet


# --- against aioice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("controlling", [True, False], ids=["controlling", "controlled"])
async def test_against_a_stock_connection(coturn: Coturn, controlling: bool) -> None:
    mine, theirs = ours(coturn, controlling=controlling), stock(coturn, controlling=not controlling)
    try:
        await introduce(mine, theirs)
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(mine.connect(), theirs.connect())
        await talk(mine, theirs)
        assert mine.ice_controlling is controlling
    finally:
        await asyncio.gather(mine.close(), theirs.close())


async def test_a_role_conflict_with_a_stock_connection(coturn: Coturn) -> None:
    mine, theirs = ours(coturn, controlling=True), stock(coturn, controlling=True)
    try:
        await introduce(mine, theirs)
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(mine.connect(), theirs.connect())
        await talk(mine, theirs)
        assert mine.ice_controlling is not theirs.ice_controlling
    finally:
        await asyncio.gather(mine.close(), theirs.close())


@pytest.mark.slow
async def test_a_stock_connection_keeps_its_consent(coturn: Coturn) -> None:
    """aioice checks every five seconds and gives up after six failures; ours answers the first."""
    mine, theirs = ours(coturn, controlling=False), stock(coturn, controlling=True)
    try:
        await introduce(mine, theirs)
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(mine.connect(), theirs.connect())
        await asyncio.sleep(6.5)
        await talk(mine, theirs)
        (path,) = mine.path_stats()
        assert path.healthy
        assert path.checks_answered >= 5
    finally:
        await asyncio.gather(mine.close(), theirs.close())


# --- under aiortc's RTCIceTransport -----------------------------------------------------------------------------------


def ice_transport(connection: Connection | None, coturn: Coturn) -> RTCIceTransport:
    """With our connection in the four places that hold it, or with what aiortc makes."""
    gatherer = RTCIceGatherer(iceServers=[])
    transport = RTCIceTransport(gatherer)
    inside: Any = connection or stock(coturn, controlling=False)
    put_in_place(transport, inside)
    return transport


def put_in_place(transport: RTCIceTransport, connection: Any) -> None:
    transport.iceGatherer._connection = transport._connection = connection
    transport._recv, transport._send = connection.recv, connection.send


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
async def test_under_an_ice_transport(coturn: Coturn, first: bool, second: bool) -> None:
    one = ice_transport(ours(coturn, controlling=False) if first else None, coturn)
    other = ice_transport(ours(coturn, controlling=False) if second else None, coturn)
    states: list[str] = []
    one.on("statechange", lambda: states.append(one.state))
    one._connection.ice_controlling = True
    try:
        await asyncio.gather(one.iceGatherer.gather(), other.iceGatherer.gather())
        for side, peer in ((one, other), (other, one)):
            for candidate in peer.iceGatherer.getLocalCandidates():
                await side.addRemoteCandidate(candidate)
            await side.addRemoteCandidate(None)
        parameters = [side.iceGatherer.getLocalParameters() for side in (one, other)]
        assert isinstance(parameters[0], RTCIceParameters)
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(one.start(parameters[1]), other.start(parameters[0]))
        assert (one.state, other.state) == ("completed", "completed")
        assert (one.role, other.role) == ("controlling", "controlled")
        for sender, receiver in ((one, other), (other, one)):
            await sender._send(MEDIA)
            assert await asyncio.wait_for(receiver._recv(), TIMEOUT) == MEDIA
    finally:
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(one.stop(), other.stop())
    assert states == ["checking", "completed", "closed"]
    assert other.state == "closed"
    if first:
        with pytest.raises(CallClosed):
            await one._send(MEDIA)
        with pytest.raises(ConnectionError):
            await one._recv()


async def test_an_ice_transport_without_a_path_fails(coturn: Coturn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection.connect, "__defaults__", (0.3,))
    one = ice_transport(ours(coturn, controlling=True), coturn)
    nowhere = ours(coturn, controlling=False)
    try:
        await asyncio.gather(one.iceGatherer.gather(), nowhere.gather_candidates())
        for candidate in nowhere.local_candidates:
            await one._connection.add_remote_candidate(candidate)
        await one.start(RTCIceParameters(usernameFragment="nobody", password="x" * 22))
        assert one.state == "failed"
    finally:
        await asyncio.gather(one.stop(), nowhere.close())
    assert one.state == "closed"


async def test_the_end_of_a_relay_is_the_end_of_an_ice_transport(coturn: Coturn) -> None:
    """aiortc waits in `get_event` for it."""
    server = coturn.server("tcp")
    inside = [Connection([server], ice_controlling=controlling, laboratory=True) for controlling in (True, False)]
    one, other = (ice_transport(connection, coturn) for connection in inside)
    try:
        await introduce(*inside)
        parameters = [side.iceGatherer.getLocalParameters() for side in (one, other)]
        await asyncio.gather(one.start(parameters[1]), other.start(parameters[0]))
        failed = asyncio.Event()
        one.on("statechange", failed.set)
        coturn.kill()
        await asyncio.wait_for(failed.wait(), TIMEOUT)
        assert one.state == "failed"
        with pytest.raises(ConnectionError):
            await one._recv()
    finally:
        await asyncio.gather(one.stop(), other.stop())


# --- a whole peer connection ------------------------------------------------------------------------------------------


class PeerConnection(RTCPeerConnection):
    """aiortc's, with our connection below."""

    def __init__(self, coturn: Coturn) -> None:
        super().__init__(RTCConfiguration(iceServers=[]))
        self.coturn = coturn
        self.inside: list[Connection] = []

    def _RTCPeerConnection__createDtlsTransport(self) -> Any:
        dtls = super()._RTCPeerConnection__createDtlsTransport()  # type: ignore[misc]
        self.inside.append(ours(self.coturn, controlling=False))
        put_in_place(dtls.transport, self.inside[-1])
        return dtls


async def test_under_a_peer_connection(coturn: Coturn) -> None:
    caller, callee = PeerConnection(coturn), PeerConnection(coturn)
    answered: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    @callee.on("datachannel")
    def opened(channel: RTCDataChannel) -> None:
        channel.on("message", lambda message: channel.send(f"heard {message}"))

    try:
        channel = caller.createDataChannel("chat")
        channel.on("open", lambda: channel.send("hello"))
        channel.on("message", answered.set_result)
        await caller.setLocalDescription(await caller.createOffer())
        assert caller.localDescription.sdp.count("a=candidate") == caller.localDescription.sdp.count("typ relay") == 1
        await callee.setRemoteDescription(caller.localDescription)
        await callee.setLocalDescription(await callee.createAnswer())
        await caller.setRemoteDescription(callee.localDescription)
        assert await asyncio.wait_for(answered, TIMEOUT) == "heard hello"
        assert (caller.connectionState, callee.connectionState) == ("connected", "connected")
        assert (caller.iceConnectionState, callee.iceConnectionState) == ("completed", "completed")
        assert len(caller.inside) == len(callee.inside) == 1
        assert caller.inside[0].ice_controlling is not callee.inside[0].ice_controlling
    finally:
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(caller.close(), callee.close())
    assert caller.connectionState == "closed"
