"""Signed descriptions, from end to end: two peer connections of two people, and Mallory, who carries what they send."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable

import pytest
from aiortc import RTCCertificate, RTCDtlsTransport, RTCPeerConnection, RTCSessionDescription
from cryptography.hazmat.primitives.serialization import Encoding

from relaycall import ConfigError, MessageRefused, MessageReplayed, Relay, RelayPeerConnection, RelayServer, SdpRefused
from relaycall.call.description import describe_offer, encode_description
from relaycall.call.messages import Kind
from tests.interop.tracks import Heard, Tone
from tests.leaks import no_leaks
from tests.signers import Signer, introduce
from tests.waiting import eventually


class Rig:
    """Alice, who calls, Bob, and Mallory between them, with a peer connection towards each."""

    def __init__(self, relay: RelayServer, people: list[Signer]) -> None:
        self._relay = relay
        self.alice, self.bob, self.mallory = people
        self.caller, self.callee, self.to_caller, self.to_callee = self.all = [self.peer() for _ in range(4)]
        self.heard = {peer: Heard(peer) for peer in self.all}
        for peer in self.all:
            if peer is not self.callee and peer is not self.to_caller:
                peer.addTrack(Tone())

    def peer(self) -> RelayPeerConnection:
        return RelayPeerConnection(relays=[self._relay], laboratory=True, connect_timeout=5.0)

    async def offered(self) -> tuple[RTCSessionDescription, bytes]:
        """What Alice sends."""
        await self.caller.setLocalDescription()
        return self.caller.localDescription, await self.caller.sealed_description(self.alice.sealer, self.bob.public)

    async def answered(self) -> tuple[RTCSessionDescription, bytes]:
        """What Bob sends, once he has accepted an offer."""
        if not any(sender.track for sender in self.callee.getSenders()):
            self.callee.addTrack(Tone())
        await self.callee.setLocalDescription()
        return self.callee.localDescription, await self.callee.sealed_description(self.bob.sealer, self.alice.public)

    async def accept_offer(self, description: RTCSessionDescription, envelope: bytes) -> None:
        await self.callee.accept_sealed(description, envelope, self.bob.sealer, self.alice.public)

    async def accept_answer(self, description: RTCSessionDescription, envelope: bytes) -> None:
        await self.caller.accept_sealed(description, envelope, self.alice.sealer, self.bob.public)

    def frames(self) -> int:
        """How many frames anybody has heard."""
        return sum(heard.frames.total() for heard in self.heard.values())


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with no_leaks(), Relay(users={"user": "word"}, laboratory=True) as server:
        relay = RelayServer.parse(server.uri("udp"), username="user", password="word")
        people = [Signer() for _ in range(3)]
        await introduce(*people)
        made = Rig(relay, people)
        try:
            yield made
        finally:
            await asyncio.gather(*(peer.close() for peer in made.all))
            for task in [task for heard in made.heard.values() for task in heard._tasks]:
                task.cancel()  # aiortc does not end a track whose transport never started


def untouched(peer: RelayPeerConnection, state: str) -> None:
    """Nothing of a refused description has come to aiortc."""
    assert peer.signalingState == state
    assert peer.remoteDescription is None
    assert peer.connectionState == "new"
    assert peer.connection is None or peer.connection.remote_candidates == []


def with_fingerprint_of(description: RTCSessionDescription, other: RTCSessionDescription) -> RTCSessionDescription:
    found = re.search(r"a=fingerprint:\S+ (\S+)", other.sdp)
    assert found
    swapped = re.sub(r"(a=fingerprint:\S+) \S+", rf"\1 {found[1]}", description.sdp)
    assert swapped != description.sdp
    return RTCSessionDescription(swapped, description.type)


def peer_certificate(peer: RTCPeerConnection) -> bytes:
    """SHA-256 of the certificate that the other side has shown in the handshake."""
    (transport,) = {receiver.transport for receiver in peer.getReceivers()}
    certificate = transport._ssl.get_peer_certificate(as_cryptography=True)
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


# --- as it should be --------------------------------------------------------------------------------------------------


async def test_a_signed_call(rig: Rig) -> None:
    await rig.accept_offer(*await rig.offered())
    await rig.accept_answer(*await rig.answered())
    await eventually(lambda: all(rig.heard[peer].loudest > 1000 for peer in (rig.caller, rig.callee)), 10)
    for peer, other in ((rig.caller, rig.callee), (rig.callee, rig.caller)):
        record = other.describe()
        assert peer_certificate(peer) == record.fingerprint
        assert other.localDescription.sdp.count("a=fingerprint:") == 1
        assert peer.error is None


async def test_another_certificate_than_the_signed_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions and records are as they should be; what is shown in the handshake is not."""
    await rig.accept_offer(*await rig.offered())
    answer = await rig.answered()
    transport = rig.callee.getReceivers()[0].transport
    own = transport.getLocalParameters().fingerprints
    monkeypatch.setattr(transport, "_RTCDtlsTransport__local_certificate", RTCCertificate.generateCertificate())
    assert isinstance(transport, RTCDtlsTransport)
    assert transport.getLocalParameters().fingerprints != own
    await rig.accept_answer(*answer)
    await eventually(lambda: rig.caller.connectionState == "failed", 10)
    assert isinstance(rig.caller.error, SdpRefused)
    assert "certificate" in rig.caller.error.sentence
    assert rig.heard[rig.caller].frames.total() == 0


async def test_the_record_stays_while_candidates_come_and_go(rig: Rig) -> None:
    await rig.caller.setLocalDescription()
    record = rig.caller.describe()
    assert rig.caller.describe() == record
    bare = re.sub("a=candidate.*\r\n", "", rig.caller.localDescription.sdp)
    assert describe_offer(re.sub("c=.*", "c=IN IP4 0.0.0.0\r", bare).replace("\r\r", "\r"), record.session) == record


async def test_each_offer_is_another_session(rig: Rig) -> None:
    sessions = set()
    for _ in range(2):
        await rig.caller.setLocalDescription()
        sessions.add(rig.caller.describe().session)
    assert len(sessions) == 2


# --- Mallory ----------------------------------------------------------------------------------------------------------


async def test_without_records_mallory_hears_them_both(rig: Rig) -> None:
    """The control: she needs no keys but her own certificates."""
    await rig.caller.setLocalDescription()
    await rig.to_caller.setRemoteDescription(rig.caller.localDescription)
    await rig.to_callee.setLocalDescription()
    await rig.callee.setRemoteDescription(rig.to_callee.localDescription)
    rig.callee.addTrack(Tone())
    await rig.callee.setLocalDescription()
    await rig.to_callee.setRemoteDescription(rig.callee.localDescription)
    await rig.to_caller.setLocalDescription()
    await rig.caller.setRemoteDescription(rig.to_caller.localDescription)
    await eventually(lambda: all(rig.heard[peer].loudest > 1000 for peer in (rig.to_caller, rig.to_callee)), 10)
    assert [peer.connectionState for peer in rig.all] == ["connected"] * 4


@pytest.mark.slow
async def test_with_records_mallory_hears_nobody(rig: Rig) -> None:
    """The same steps, with the genuine envelopes beside her descriptions."""
    offer, envelope = await rig.offered()
    await rig.to_caller.setRemoteDescription(offer)
    await rig.to_callee.setLocalDescription()
    with pytest.raises(SdpRefused):
        await rig.accept_offer(rig.to_callee.localDescription, envelope)
    await rig.to_caller.setLocalDescription()
    hers = rig.to_caller.localDescription
    with pytest.raises(MessageRefused):  # Bob has signed nothing: she has an envelope of her own, or none
        await rig.accept_answer(hers, await rig.mallory.sealer.seal(rig.alice.public, Kind.DESCRIPTION, b""))
    with pytest.raises(SdpRefused):
        await rig.caller.setRemoteDescription(hers)
    await asyncio.sleep(1)  # the control takes a fifth of that
    assert rig.frames() == 0
    assert "connected" not in [peer.connectionState for peer in rig.all]


async def mallorys_offer(rig: Rig, genuine: RTCSessionDescription) -> RTCSessionDescription:
    await rig.to_callee.setLocalDescription()
    return rig.to_callee.localDescription


async def swapped_offer(rig: Rig, genuine: RTCSessionDescription) -> RTCSessionDescription:
    return with_fingerprint_of(genuine, await mallorys_offer(rig, genuine))


@pytest.mark.parametrize("change", [swapped_offer, mallorys_offer], ids=["fingerprint", "all of it"])
async def test_mallory_changes_the_offer(rig: Rig, change: Callable[..., object]) -> None:
    genuine, envelope = await rig.offered()
    forged = await change(rig, genuine)  # type: ignore[misc]
    with pytest.raises(SdpRefused, match="certificate fingerprint is not the signed one"):
        await rig.accept_offer(forged, envelope)
    untouched(rig.callee, "stable")
    with pytest.raises(SdpRefused, match="without a signed record"):  # nor does he take it without one now
        await rig.callee.setRemoteDescription(forged)
    untouched(rig.callee, "stable")
    assert rig.frames() == 0


@pytest.mark.parametrize("all_of_it", [False, True], ids=["fingerprint", "all of it"])
async def test_mallory_changes_the_answer(rig: Rig, all_of_it: bool) -> None:
    offer, envelope = await rig.offered()
    await rig.accept_offer(offer, envelope)
    genuine, envelope = await rig.answered()
    await rig.to_caller.setRemoteDescription(offer)
    await rig.to_caller.setLocalDescription()
    hers = rig.to_caller.localDescription
    forged = hers if all_of_it else with_fingerprint_of(genuine, hers)
    with pytest.raises(SdpRefused, match="without a signed record"):
        await rig.caller.setRemoteDescription(forged)
    with pytest.raises(SdpRefused, match="certificate fingerprint is not the signed one"):
        await rig.accept_answer(forged, envelope)
    untouched(rig.caller, "have-local-offer")
    assert rig.frames() == 0


async def test_mallory_signs_by_herself(rig: Rig) -> None:
    await rig.offered()
    await rig.to_callee.setLocalDescription()
    envelope = await rig.to_callee.sealed_description(rig.mallory.sealer, rig.bob.public)
    with pytest.raises(MessageRefused, match="not from the other side"):
        await rig.accept_offer(rig.to_callee.localDescription, envelope)
    untouched(rig.callee, "stable")


async def test_mallory_sends_things_twice_or_in_place_of_others(rig: Rig) -> None:
    first, first_envelope = await rig.offered()
    second, second_envelope = await rig.offered()
    with pytest.raises(SdpRefused, match="not the signed one"):  # an earlier description with a later record
        await rig.accept_offer(first, second_envelope)
    for envelope in (first_envelope, second_envelope):
        with pytest.raises(MessageReplayed):
            await rig.accept_offer(second, envelope)
    third, third_envelope = await rig.offered()
    await rig.accept_offer(third, third_envelope)
    answer, answer_envelope = await rig.answered()
    await rig.offered()  # the answer is to the one before
    with pytest.raises(SdpRefused, match="not of an answer to this offer"):
        await rig.accept_answer(answer, answer_envelope)
    untouched(rig.caller, "have-local-offer")


async def test_an_offer_in_place_of_the_answer(rig: Rig) -> None:
    offer, _ = await rig.offered()
    own = rig.caller.describe()
    with pytest.raises(SdpRefused, match="type"):
        await rig.caller.setRemoteDescription(RTCSessionDescription(offer.sdp, "answer"), own)
    body = encode_description(own)
    with pytest.raises(MessageRefused, match="no description"):
        await rig.accept_offer(offer, await rig.alice.sealer.seal(rig.bob.public, Kind.OFFER, body))
    with pytest.raises(SdpRefused, match="not one of version 1"):
        await rig.accept_offer(offer, await rig.alice.sealer.seal(rig.bob.public, Kind.DESCRIPTION, body[1:]))
    untouched(rig.callee, "stable")


# --- misuse -----------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_signed(rig: Rig) -> None:
    with pytest.raises(ConfigError, match="no description"):
        rig.caller.describe()
    await rig.caller.setLocalDescription()
    await rig.callee.setRemoteDescription(rig.caller.localDescription)
    await rig.callee.setLocalDescription()
    with pytest.raises(ConfigError, match="without a record"):
        rig.callee.describe()


async def test_once_signed_always_signed(rig: Rig) -> None:
    """A second offer needs a record as the first one did."""
    await rig.accept_offer(*await rig.offered())
    await rig.accept_answer(*await rig.answered())
    await eventually(lambda: rig.callee.connectionState == "connected", 10)
    again, envelope = await rig.offered()
    with pytest.raises(SdpRefused, match="without a signed record"):
        await rig.callee.setRemoteDescription(again)
    await rig.accept_offer(again, envelope)
    await rig.accept_answer(*await rig.answered())
