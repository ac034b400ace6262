"""The drop-in peer connection over the embedded relay, and aiortc's private names that it uses."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator

import aiortc
import pytest
from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceGatherer,
    RTCIceServer,
    RTCIceTransport,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from aiortc.sdp import candidate_from_sdp

from relaycall import (
    CallClosed,
    ConfigError,
    Connection,
    NoPath,
    NoRelay,
    PathSelected,
    Relay,
    RelayPeerConnection,
    RelayServer,
    SdpRefused,
    check_relay_only,
    rtc_configuration,
)
from relaycall.sdp import ABS_SEND_TIME
from tests.coturn import free_port
from tests.leaks import no_leaks
from tests.waiting import eventually

SERVER = RelayServer.parse("turn:relay.example.org", username="user", password="word")
TLS = RelayServer.parse("turns:other.example.org", username="user2", password="word2")
RELAY, ALL = RTCIceTransportPolicy.RELAY, RTCIceTransportPolicy.ALL


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    async with no_leaks(), Relay(users={"user": "word"}, laboratory=True) as server:
        yield RelayServer.parse(server.uri("udp"), username="user", password="word")


def dead() -> RelayServer:
    return RelayServer.parse(f"turn:127.0.0.1:{free_port('127.0.0.1')}", username="user", password="word")


@contextlib.asynccontextmanager
async def peers(*relays: RelayServer, timeout: float = 5.0) -> AsyncIterator[list[RelayPeerConnection]]:
    """Two of ours."""
    both = [RelayPeerConnection(relays=relays, laboratory=True, connect_timeout=timeout) for _ in range(2)]
    try:
        yield both
    finally:
        await asyncio.gather(*(peer.close() for peer in both))


async def negotiate(caller: RTCPeerConnection, callee: RTCPeerConnection) -> None:
    await caller.setLocalDescription(await caller.createOffer())
    await callee.setRemoteDescription(caller.localDescription)
    await callee.setLocalDescription()
    await caller.setRemoteDescription(callee.localDescription)


# --- configuration ----------------------------------------------------------------------------------------------------


def test_a_configuration_for_aiortc() -> None:
    found = rtc_configuration([TLS, SERVER])
    assert found.iceTransportPolicy is RELAY
    assert found.bundlePolicy is RTCBundlePolicy.MAX_BUNDLE
    assert [vars(server) for server in found.iceServers] == [
        vars(RTCIceServer("turns:other.example.org:5349?transport=tcp", "user2", "word2")),
        vars(RTCIceServer("turn:relay.example.org:3478?transport=udp", "user", "word")),
    ]
    assert "turns:other.example.org" in repr(found)
    assert "word" not in repr(found).replace("password", "")


def test_the_first_relay_is_the_one_that_aiortc_uses() -> None:
    inside = RTCIceGatherer(rtc_configuration([TLS, SERVER]).iceServers)._connection
    assert (inside.turn_server, inside.turn_username) == (("other.example.org", 5349), "user2")
    assert inside.stun_server is None


def test_without_relay_only_it_is_loud_each_time(caplog: pytest.LogCaptureFixture) -> None:
    for relays in ([SERVER], []):
        caplog.clear()
        found = rtc_configuration(relays, force_turn=False)
        assert found.iceTransportPolicy is ALL
        assert found.iceServers is not None  # None is Google's STUN server
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
    caplog.clear()
    rtc_configuration([SERVER])
    assert not caplog.records


@pytest.mark.parametrize(
    "relays",
    [
        [],
        [RelayServer("2001:db8::1", 3478)],
        [SERVER, RelayServer("192.0.2.1", 5349, "tls", tls_name="relay.example.org")],
        [RelayServer("relay.example.org", 5349, "tls", ssl_context=ssl.create_default_context())],
    ],
    ids=["none", "IPv6 literal", "tls_name", "ssl_context"],
)
def test_what_aiortc_cannot_have(relays: list[RelayServer]) -> None:
    with pytest.raises(ConfigError):
        rtc_configuration(relays)


TURN = RTCIceServer("turn:relay.example.org", "user", "word")


@pytest.mark.parametrize(
    "configuration",
    [
        None,
        RTCConfiguration(),
        RTCConfiguration([TURN]),
        rtc_configuration([SERVER], force_turn=False),
        RTCConfiguration(None, RELAY),
        RTCConfiguration([], RELAY),
        RTCConfiguration([RTCIceServer("stun:stun.example.org")], RELAY),
        RTCConfiguration([RTCIceServer("turn:")], RELAY),
        RTCConfiguration([RTCIceServer(["turns:relay.example.org?transport=udp"])], RELAY),
        RTCConfiguration([RTCIceServer("turn:relay.example.org", "user", "word", "oauth")], RELAY),
    ],
)
async def test_a_configuration_that_is_refused(configuration: RTCConfiguration | None) -> None:
    with pytest.raises(ConfigError):
        RelayPeerConnection(configuration)


async def test_relays_in_place_of_a_configuration() -> None:
    for relays in (None, []):
        with pytest.raises(ConfigError):
            RelayPeerConnection(relays=relays)
    with pytest.raises(ConfigError):
        RelayPeerConnection(rtc_configuration([SERVER]), relays=[SERVER])


async def test_a_configuration_is_read() -> None:
    urls = ["stun:stun.example.org", "turn:a.example.org", "turns:b.example.org", "turn:[2001:db8::1]:99?transport=tcp"]
    peer = RelayPeerConnection(RTCConfiguration([RTCIceServer(urls, "user", "word"), TURN, TURN], RELAY))
    assert [relay.name for relay in peer._servers] == [
        "turn:a.example.org:3478?transport=udp",
        "turns:b.example.org:5349?transport=tcp",
        "turn:[2001:db8::1]:99?transport=tcp",
        "turn:relay.example.org:3478?transport=udp",
    ]
    assert [relay.password.reveal() for relay in peer._servers if relay.password] == ["word"] * 4
    await peer.close()


# --- aiortc's private names -------------------------------------------------------------------------------------------


def test_the_private_names_are_there() -> None:
    assert inspect.isfunction(RTCPeerConnection._RTCPeerConnection__createDtlsTransport)  # type: ignore[attr-defined]
    gatherer = RTCIceGatherer(iceServers=[])
    transport = RTCIceTransport(gatherer)
    assert transport._connection is gatherer._connection
    assert (transport._recv, transport._send) == (transport._connection.recv, transport._connection.send)
    assert transport.iceGatherer is gatherer


async def test_ours_has_what_aiortc_asks_of_a_connection() -> None:
    ours = Connection([SERVER], ice_controlling=False)
    source = inspect.getsource(aiortc.rtcicetransport) + inspect.getsource(aiortc.rtcpeerconnection)
    names = set(re.findall(r"\._connection\.(\w+)", source))
    assert {"connect", "gather_candidates", "ice_controlling"} <= names
    assert [name for name in names if not hasattr(ours, name)] == []
    await ours.close()


async def test_whatever_is_added_first_gets_our_connection(relay: RelayServer) -> None:
    firsts = [
        lambda peer: peer.addTrack(AudioStreamTrack()),
        lambda peer: peer.addTransceiver("video"),
        lambda peer: peer.createDataChannel("chat"),
    ]
    for first in firsts:
        async with peers(relay) as (caller, callee):
            assert caller.connection is None
            first(caller)
            inside = caller.connection
            caller.addTrack(VideoStreamTrack())
            caller.createDataChannel("second")
            assert caller.connection is inside  # one for all, since everything is bundled
            await caller.setLocalDescription()
            await callee.setRemoteDescription(caller.localDescription)
            for peer in (caller, callee):
                (transport,) = {found.transport.transport for found in (*peer.getReceivers(), peer.sctp)}
                holders = (transport._connection, transport.iceGatherer._connection)
                assert holders == (peer.connection, peer.connection)
                assert transport._recv.__self__ is transport._send.__self__ is peer.connection


async def test_if_ours_does_not_come_into_its_place_there_is_no_call(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(RelayPeerConnection, "_RTCPeerConnection__createDtlsTransport")
    async with peers(relay) as (caller, _):
        caller.createDataChannel("chat")
        with pytest.raises(ConfigError):
            await caller.setLocalDescription()
        assert caller.sctp.transport.transport.iceGatherer.getLocalCandidates() == []
        await RTCPeerConnection.setLocalDescription(caller)
        assert "candidate:" not in caller.localDescription.sdp


# --- calls ------------------------------------------------------------------------------------------------------------


async def test_a_call(relay: RelayServer) -> None:
    async with peers(relay) as (caller, callee):
        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        events: list[object] = []
        caller.on("relay", events.append)

        @callee.on("datachannel")
        def opened(channel: RTCDataChannel) -> None:
            channel.on("message", lambda message: channel.send(f"heard {message}"))

        caller.addTrack(AudioStreamTrack())
        caller.addTrack(VideoStreamTrack())
        channel = caller.createDataChannel("chat")
        channel.on("open", lambda: channel.send("hello"))
        channel.on("message", heard.set_result)
        await negotiate(caller, callee)
        assert await asyncio.wait_for(heard, 5) == "heard hello"
        assert caller.connectionState == callee.connectionState == "connected"
        assert isinstance(events[0], PathSelected)
        assert caller.error is callee.error is None
        for peer in (caller, callee):
            shown = peer.localDescription.sdp
            assert shown == peer.localDescription.sdp
            check_relay_only(shown, ["127.0.0.1"], laboratory=True)
            assert shown.count("a=candidate:") == shown.count(" typ relay") == shown.count("\nm=") == 3
            assert re.findall("a=extmap:.*", shown) == [f"a=extmap:3 {ABS_SEND_TIME}\r"]
            assert "end-of-candidates" not in shown
            for transceiver in peer.getTransceivers():
                used = [found.uri for found in transceiver._headerExtensions]
                assert used == ([ABS_SEND_TIME] if transceiver.kind == "video" else [])
        assert callee.connection is not None
        assert len(callee.connection.path_stats()) == 1
    assert caller.connectionState == "closed"
    assert caller.error is None


async def test_in_whatever_order_things_are_added(relay: RelayServer) -> None:
    """aiortc's bundling stops the transport that they share, if the first added is not the first section."""
    async with peers(relay) as (caller, callee):
        opened = [asyncio.Event(), asyncio.Event()]
        for peer, event in zip((caller, callee), opened, strict=True):
            peer.createDataChannel("chat", negotiated=True, id=1).on("open", event.set)
        callee.addTrack(VideoStreamTrack())
        callee.addTrack(AudioStreamTrack())
        caller.addTrack(AudioStreamTrack())
        caller.addTrack(VideoStreamTrack())
        await negotiate(caller, callee)
        assert [line[2:7] for line in caller.localDescription.sdp.split("\r\n") if line.startswith("m=")] == [
            *("audio", "video", "appli")
        ]
        async with asyncio.timeout(5):
            await asyncio.gather(*(event.wait() for event in opened))
        assert caller.connectionState == callee.connectionState == "connected"


async def test_the_origin_tells_no_time(relay: RelayServer) -> None:
    origin = re.compile(r"o=- ([0-9]+) ([0-9]+) IN IP4 0\.0\.0\.0\r\n")
    found = []
    async with peers(relay) as (caller, callee):
        caller.createDataChannel("chat")
        for _ in range(2):
            await negotiate(caller, callee)
            for peer in (caller, callee):
                match = origin.search(peer.localDescription.sdp)
                assert match
                found.append((peer, int(match[1]), int(match[2])))
    clock = time.time() + 2208988800  # NTP's
    assert all(abs(session - clock) > 86400 * 365 for _, session, _ in found)
    for peer in (caller, callee):
        (first, one), (second, two) = [(session, version) for owner, session, version in found if owner is peer]
        assert (second, two) == (first, one + 1)
    assert len({session for _, session, _ in found}) == 2


async def test_a_description_of_the_callers_is_cleaned_too(relay: RelayServer) -> None:
    async with peers(relay) as (caller, _):
        caller.addTrack(AudioStreamTrack())
        stock = await RTCPeerConnection.createOffer(caller)
        assert "a=extmap" in stock.sdp
        await caller.setLocalDescription(stock)
        assert "a=extmap" not in caller.localDescription.sdp
        clock = re.search("o=- ([0-9]+)", stock.sdp)
        assert clock
        assert clock[1] not in caller.localDescription.sdp


async def test_a_track_that_is_named_after_an_address(relay: RelayServer) -> None:
    async with peers(relay) as (caller, _):
        track = AudioStreamTrack()
        track._id = "camera@192.168.1.7"
        caller.addTrack(track)
        with pytest.raises(SdpRefused):
            await caller.setLocalDescription()
        assert caller.signalingState == "stable"
        assert caller.connection is not None
        assert caller.connection.local_candidates == []  # nothing was allocated for it


async def test_without_a_relay_it_says_so_and_may_be_tried_again() -> None:
    async with no_leaks(), peers(dead()) as (caller, callee):
        caller.addTrack(AudioStreamTrack())
        for _ in range(2):
            with pytest.raises(NoRelay) as caught:
                await caller.setLocalDescription()
            assert len(caught.value.failures) == 1
            assert caller.signalingState == "stable"
            assert caller.localDescription is None
        with pytest.raises(ConfigError):
            await callee.setLocalDescription()  # nothing was added


async def test_one_dead_relay_of_two(relay: RelayServer) -> None:
    async with peers(dead(), relay) as (caller, callee):
        channel = caller.createDataChannel("chat")
        await negotiate(caller, callee)
        await eventually(lambda: channel.readyState == "open")
        assert caller.connection is not None
        assert len(caller.connection.failures) == 1


async def test_nobody_comes(relay: RelayServer) -> None:
    async with peers(relay, timeout=0.3) as (caller, callee):
        caller.createDataChannel("chat")
        await caller.setLocalDescription()
        await callee.setRemoteDescription(caller.localDescription)
        await callee.setLocalDescription()
        await eventually(lambda: callee.connectionState == "failed", 2)
        assert isinstance(callee.error, NoPath)
        assert callee.iceConnectionState == "failed"


async def test_nobody_answers_the_handshake(relay: RelayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with peers(relay, timeout=0.5) as (caller, callee):
        caller.createDataChannel("chat")
        await caller.setLocalDescription()
        await callee.setRemoteDescription(caller.localDescription)
        started = asyncio.Event()

        async def no_start(_parameters: object) -> None:
            started.set()

        monkeypatch.setattr(callee.sctp.transport, "start", no_start)
        await callee.setLocalDescription()
        await caller.setRemoteDescription(callee.localDescription)
        await asyncio.wait_for(started.wait(), 5)
        await eventually(lambda: caller.connectionState == "failed")
        assert isinstance(caller.error, SdpRefused)
        assert "handshake" in caller.error.sentence


async def test_another_certificate(relay: RelayServer) -> None:
    async with peers(relay) as (caller, callee):
        channel = caller.createDataChannel("chat")
        await caller.setLocalDescription()
        await callee.setRemoteDescription(caller.localDescription)
        await callee.setLocalDescription()
        answer = callee.localDescription
        forged = re.sub(r"(a=fingerprint:\S+ )..", r"\g<1>00", answer.sdp)
        await caller.setRemoteDescription(RTCSessionDescription(forged, "answer"))
        await eventually(lambda: caller.connectionState == "failed")
        assert isinstance(caller.error, SdpRefused)
        assert channel.readyState == "connecting"
    assert isinstance(caller.error, SdpRefused)  # and it stays


# --- what the peer says -----------------------------------------------------------------------------------------------


async def offer_from(relay: RelayServer) -> str:
    async with peers(relay) as (caller, _):
        caller.addTrack(AudioStreamTrack())
        await caller.setLocalDescription()
        return caller.localDescription.sdp


async def test_a_bad_description_changes_nothing(relay: RelayServer) -> None:
    good = await offer_from(relay)
    bad = [
        good.replace("typ relay", "typ host"),
        good.replace("s=-\r\n", "s=-\u2028a=candidate:1 1 udp 1 9.9.9.9 9 typ host\r\n"),
        re.sub("a=candidate.*\r\n", "", good),
        good + "x" * 40000,
        re.sub("m=audio [0-9]+", "m=audio x", good),  # AssertionError in aiortc
        good.replace("a=rtpmap:96 opus/48000/2", "a=rtpmap:x"),  # ValueError
        good + "a=fmtp:120 apt=1\r\n",  # StopIteration
        good.replace("a=setup:actpass", "a=x"),  # AttributeError
        good.replace("a=rtcp-mux", "a=x"),  # ValueError
    ]
    async with peers(relay) as (_, callee):
        for description in bad:
            with pytest.raises(SdpRefused):
                await callee.setRemoteDescription(RTCSessionDescription(description, "offer"))
            assert callee.connection is None
            assert callee.getTransceivers() == []
            assert callee.signalingState == "stable"
        await callee.setRemoteDescription(RTCSessionDescription(good, "offer"))
        assert callee.signalingState == "have-remote-offer"


async def test_misuse_is_told_as_aiortc_tells_it(relay: RelayServer) -> None:
    good = await offer_from(relay)
    async with peers(relay) as (caller, callee):
        with pytest.raises(InvalidStateError):
            await caller.setRemoteDescription(RTCSessionDescription(good.replace("actpass", "active"), "answer"))
        callee.createDataChannel("chat")
        await callee.close()
        with pytest.raises(InvalidStateError):
            await callee.setLocalDescription()
        with pytest.raises(CallClosed):
            await callee.setLocalDescription(RTCSessionDescription(good, "offer"))


async def test_candidates_that_follow(relay: RelayServer) -> None:
    async with peers(relay) as (caller, callee):
        channel = caller.createDataChannel("chat")
        await caller.setLocalDescription()
        shown = caller.localDescription.sdp
        line = re.search("a=candidate:(.*)\r\n", shown)
        assert line
        later = re.sub("a=candidate.*\r\n", "a=ice-options:trickle\r\n", re.sub("c=.*", "c=IN IP4 0.0.0.0\r", shown))
        await callee.setRemoteDescription(RTCSessionDescription(later.replace("\r\r", "\r"), "offer"))
        await callee.setLocalDescription()
        await caller.setRemoteDescription(callee.localDescription)
        candidate = candidate_from_sdp(line[1])
        candidate.sdpMid = "0"
        with pytest.raises(InvalidStateError):
            await RelayPeerConnection(relays=[relay], laboratory=True).addIceCandidate(candidate)
        unheard = RelayPeerConnection(relays=[relay], laboratory=True)
        unheard.createDataChannel("chat")
        with pytest.raises(InvalidStateError):
            await unheard.addIceCandidate(candidate)
        await unheard.close()
        candidate.type = "host"
        with pytest.raises(SdpRefused):
            await callee.addIceCandidate(candidate)
        assert callee.connection is not None
        assert callee.connection.remote_candidates == []
        await callee.addIceCandidate(None)  # does not keep later ones out
        candidate.type = "relay"
        await callee.addIceCandidate(candidate)
        await eventually(lambda: channel.readyState == "open")
        candidate.port, candidate.sdpMid = 4999, "1"  # of a section bundled with another
        await callee.addIceCandidate(candidate)
        assert len(callee.connection.remote_candidates) == 1
        candidate.sdpMid = "0"
        for port in range(5000, 5009):
            candidate.port = port
            await callee.addIceCandidate(candidate)
        assert len(callee.connection.remote_candidates) == 4


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_closing_is_bounded_when_aiortc_hangs(relay: RelayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does after a peer has sent from 300 sources."""
    async with peers(relay) as (caller, callee):
        channel = caller.createDataChannel("chat")
        caller.addTrack(AudioStreamTrack())
        await negotiate(caller, callee)
        await eventually(lambda: channel.readyState == "open")
        (receiver,) = caller.getReceivers()
        stop = receiver.stop
        monkeypatch.setattr(receiver, "stop", asyncio.Event().wait)
        states = []
        caller.on("connectionstatechange", lambda: states.append(caller.connectionState))
        start = time.monotonic()
        await asyncio.gather(caller.close(), caller.close())
        assert time.monotonic() - start < 2
        assert states[-1] == caller.connectionState == "closed"
        await stop()
        (sender,) = caller.getSenders()
        await sender.stop()


async def test_a_close_that_is_given_up_goes_on(relay: RelayServer) -> None:
    async with peers(relay) as (caller, _):
        caller.createDataChannel("chat")
        await caller.setLocalDescription()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await caller.close()
        await eventually(lambda: caller.connectionState == "closed")
