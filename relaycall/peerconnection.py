"""For an aiortc app of your own: a configuration that goes through relays only, and a peer connection that does.

`RelayPeerConnection` is aiortc's `RTCPeerConnection` with our connection in the place of aioice's: several relays at
once, a warm backup, errors instead of silence. Its descriptions show no address but the relays', and neither may those
it is given. Whoever carries the descriptions can be kept from changing them: each side signs a record of its own.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDtlsTransport,
    RTCIceCandidate,
    RTCIceServer,
    RTCIceTransportPolicy,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.codecs import h264, vpx
from aiortc.exceptions import InvalidStateError
from aiortc.sdp import candidate_to_sdp

from relaycall.call.description import (
    SESSION_SIZE,
    DescriptionRecord,
    check_description,
    describe_answer,
    describe_offer,
    encode_description,
    read_description,
)
from relaycall.call.messages import Kind
from relaycall.errors import CallClosed, ConfigError, NoRelay, RelaycallError, SdpRefused
from relaycall.ice.candidate import MAX_CANDIDATES
from relaycall.ice.connection import Connection
from relaycall.ice.events import ConnectionEvent
from relaycall.identity.keys import PublicIdentity
from relaycall.identity.sealer import Sealer
from relaycall.relays.server import RelayServer
from relaycall.sdp import check_candidate, check_relay_only, incoming, outgoing

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 30.0  # seconds
MIN_VIDEO_BITRATE = 50_000  # bit/s: aiortc's 250000 and 500000 leave no room for the voice on a narrow link
_GOODBYE = 0.7  # seconds for aiortc's part of close(); that of the connection takes 1.2 at most


def rtc_configuration(relays: Sequence[RelayServer], force_turn: bool = True) -> RTCConfiguration:
    """A configuration for aiortc's own `RTCPeerConnection`, or for `RelayPeerConnection`.

    It has the relays, one transport for all media, and no STUN server. aiortc uses the first relay and drops the others
    without a word; `RelayPeerConnection` uses up to four.

    Args:
        relays: the relays, the chosen one first.
        force_turn: use relays only. Without it the far end and a STUN server learn this machine's addresses; each such
            call is logged as a warning.

    Raises:
        ConfigError: there is no relay, or one that aiortc's configuration cannot hold.
    """
    if force_turn and not relays:
        raise ConfigError("No relay is configured.", "Give at least one; without a relay there is no relay-only call.")
    if not force_turn:
        logger.warning("force_turn is off: the other side of each call learns the addresses of this machine")
    for relay in relays:
        if ":" in relay.host or relay.tls_name is not None or relay.ssl_context is not None:
            raise ConfigError(
                f"aiortc's configuration cannot hold the IPv6 literal, tls_name or ssl_context of {relay.name}.",
                "Give this relay to RelayPeerConnection(relays=[...]) instead.",
            )
    return RTCConfiguration(
        iceServers=[
            _Server(relay.name, relay.username, relay.password.reveal() if relay.password else None) for relay in relays
        ],
        iceTransportPolicy=RTCIceTransportPolicy.RELAY if force_turn else RTCIceTransportPolicy.ALL,
        bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
    )


class _Server(RTCIceServer):
    """aiortc's, whose repr shows the password."""

    def __repr__(self) -> str:
        return f"<RTCIceServer {self.urls}>"


class RelayPeerConnection(RTCPeerConnection):
    """aiortc's `RTCPeerConnection` over relays only.

    Beside aiortc's events it emits "relay" with a `ConnectionEvent`: a path was selected or lost, a relay is gone.
    What aiortc documents to raise on misuse (InvalidStateError) is raised as it is.
    Video may go down to 50 kbit/s, of every peer connection in this process: aiortc holds the bound for all of them.

    Args:
        configuration: with TURN servers and the policy RELAY. STUN servers in it are never asked.
        relays: the relays in its place, in order of preference; the first four are used.
        laboratory: allow loopback and private addresses. For tests on one machine only; it is logged.
        connect_timeout: seconds for the other side to appear, once both descriptions are set on this side, and as
            many for the DTLS handshake. To be raised where people carry the descriptions by hand.

    Raises:
        ConfigError: no relay, both or neither of the first two, a URI that is malformed or not supported, or a
            configuration whose policy is not RELAY.
    """

    def __init__(
        self,
        configuration: RTCConfiguration | None = None,
        *,
        relays: Sequence[RelayServer] | None = None,
        laboratory: bool = False,
        connect_timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        if (configuration is None) == (relays is None):
            raise ConfigError("RelayPeerConnection takes either a configuration or relays.", "Give one of the two.")
        if configuration is not None and configuration.iceTransportPolicy is not RTCIceTransportPolicy.RELAY:
            raise ConfigError(
                "The configuration's iceTransportPolicy is not RELAY, and RelayPeerConnection uses relays only.",
                "Make it with rtc_configuration(relays), or set RTCIceTransportPolicy.RELAY.",
            )
        servers = list(relays or []) or _servers(configuration)
        if not servers:
            raise ConfigError("No relay is configured.", "Give at least one TURN server.")
        vpx.MIN_BITRATE = min(vpx.MIN_BITRATE, MIN_VIDEO_BITRATE)  # for all of aiortc in this process
        h264.MIN_BITRATE = min(h264.MIN_BITRATE, MIN_VIDEO_BITRATE)
        self._servers = servers[:MAX_CANDIDATES]
        self._laboratory = laboratory
        self._connect_timeout = connect_timeout
        self._ice: _Ice | None = None
        self._dtls: RTCDtlsTransport | None = None
        self._first: tuple[str, int] | None = None
        self._session = secrets.randbits(62)
        self._version = 0
        self._signing = False
        self._signed_session = b""
        self._signed_offer: DescriptionRecord | None = None  # the peer's
        self._closing: asyncio.Task[None] | None = None
        # aioice is given no server, so that it has no candidate even if ours should not come into its place.
        super().__init__(
            RTCConfiguration(
                iceServers=[],
                iceTransportPolicy=RTCIceTransportPolicy.RELAY,
                bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
                alwaysNegotiateDataChannels=configuration is not None and configuration.alwaysNegotiateDataChannels,
            )
        )

    @property
    def connection(self) -> Connection | None:
        """The connection below: its relays, failures and paths. None before there is a track or a data channel."""
        return self._ice

    @property
    def error(self) -> RelaycallError | None:
        """Why it failed; None while it has not, and when it was closed."""
        if self._ice is not None and self._ice.error is not None:
            return self._ice.error
        if self._dtls is not None and self._dtls.state == "failed":
            return SdpRefused("the DTLS handshake failed, as it does with a certificate that it does not announce")
        return None

    # --- aiortc's methods ---------------------------------------------------------------------------------------------

    @property
    def localDescription(self) -> RTCSessionDescription:  # noqa: N802
        """Ours, with the relay candidates once it is set."""
        found = super().localDescription
        return self._clean(found) if found else found

    async def createOffer(self) -> RTCSessionDescription:  # noqa: N802
        """An offer, to be set first: it has no candidates yet."""
        return self._clean(await super().createOffer())

    async def createAnswer(self) -> RTCSessionDescription:  # noqa: N802
        """An answer, to be set first: it has no candidates yet."""
        return self._clean(await super().createAnswer())

    async def setLocalDescription(self, sessionDescription: RTCSessionDescription | None = None) -> None:  # noqa: N802, N803
        """Allocate on every relay, and set the description. After an error it may be tried again.

        Raises:
            NoRelay: no relay could be used; it holds the reason for each.
            ConfigError: there is neither a track nor a data channel.
            SdpRefused: an address is in it, as in the name of a track.
            CallClosed: it was closed meanwhile.
        """
        if sessionDescription is None:
            answering = self.signalingState == "have-remote-offer"
            sessionDescription = await (self.createAnswer() if answering else self.createOffer())  # noqa: N806
        check_relay_only(self._clean(sessionDescription).sdp, laboratory=self._laboratory)
        if self._ice is None:
            raise ConfigError("There is nothing to offer.", "Add a track or a data channel first.")
        await self._ice.gather_candidates()  # before aiortc does, which would change its state and then fail
        if not self._ice.local_candidates:
            raise self._ice.error or NoRelay()
        self._version += 1
        self._signed_session = secrets.token_bytes(SESSION_SIZE)
        await super().setLocalDescription(sessionDescription)

    async def setRemoteDescription(  # noqa: N802
        self,
        sessionDescription: RTCSessionDescription,  # noqa: N803
        record: DescriptionRecord | None = None,
    ) -> None:
        """Set the peer's description, if it shows no address but a relay's, and is the one that was signed.

        Args:
            record: what the peer has signed. Once a record was given or made here, each description needs one.

        Raises:
            SdpRefused: it does, differs from the record, breaks another rule, or cannot be understood.
        """
        check_relay_only(sessionDescription.sdp, laboratory=self._laboratory)
        self._check_record(sessionDescription, record)
        found = incoming(sessionDescription.sdp)
        try:
            await super().setRemoteDescription(RTCSessionDescription(found.sdp, sessionDescription.type))
        except (InvalidStateError, RelaycallError):
            raise
        except Exception as error:  # its parser raises anything
            raise SdpRefused(f"aiortc does not understand it ({type(error).__name__})") from None
        self._first = found.mid, found.place
        if sessionDescription.type == "offer":
            self._signed_offer = record

    async def addIceCandidate(self, candidate: RTCIceCandidate | None) -> None:  # noqa: N802
        """Add a relay candidate of the peer's, after its description.

        The end of candidates (None) means nothing, a fifth is not used, nor is one of a section that is bundled with
        another.

        Raises:
            SdpRefused: it is not a relay's.
            InvalidStateError: there is no description yet.
        """
        if candidate is None:
            return
        check_candidate(f"candidate:{candidate_to_sdp(candidate)}", laboratory=self._laboratory)
        if self._ice is None or self._dtls is None or self._first is None:
            raise InvalidStateError("Cannot add a candidate before the remote description")
        if candidate.sdpMid not in (None, self._first[0]) or candidate.sdpMLineIndex not in (None, self._first[1]):
            return
        if len(self._ice.remote_candidates) < MAX_CANDIDATES:
            await self._dtls.transport.addRemoteCandidate(candidate)

    # --- signed descriptions ------------------------------------------------------------------------------------------

    def describe(self) -> DescriptionRecord:
        """The record of our local description, for the peer. From now on each of the peer's needs one too.

        Raises:
            ConfigError: there is no local description, or it answers an offer that came without a record.
            SdpRefused: it holds more than a record can.
        """
        local = self.localDescription
        if local is None:
            raise ConfigError("There is no description to sign.", "Set the local description first.")
        if local.type == "offer":
            record = describe_offer(local.sdp, self._signed_session)
        elif self._signed_offer is None:
            raise ConfigError("The offer came without a record.", "Sign the answer to a signed offer only.")
        else:
            record = describe_answer(local.sdp, self._signed_offer)
        self._signing = True
        return record

    async def sealed_description(self, sealer: Sealer, to: PublicIdentity) -> bytes:
        """The record of our local description in an envelope of 4096 bytes. Raises as `describe` and `Sealer.seal`.

        Args:
            to: the peer, of whom the sealer has to know a prekey, unless people carry the envelopes.
        """
        return await sealer.seal(to, Kind.DESCRIPTION, encode_description(self.describe()))

    async def accept_sealed(
        self, description: RTCSessionDescription, envelope: bytes, sealer: Sealer, sender: PublicIdentity
    ) -> None:
        """Set the peer's description, if it is the one whose record is in the envelope.

        Args:
            description, envelope: from anybody. An envelope can be opened once.
            sender: the peer.

        Raises:
            SdpRefused: as `setRemoteDescription`; nothing was set.
            MessageRefused, IdentityDamaged, StoreError: as `Sealer.open`, or it is not the peer's record.
        """
        opened = await sealer.open(envelope)
        await self.setRemoteDescription(description, read_description(opened, sender))

    def _check_record(self, description: RTCSessionDescription, record: DescriptionRecord | None) -> None:
        """Before aiortc sees the description."""
        if record is None:
            if self._signing:
                raise SdpRefused("it came without a signed record")
            return
        self._signing = True
        local = self.localDescription
        awaited = local is not None and local.type == "offer" and record.type == "answer"
        offer = describe_offer(local.sdp, self._signed_session) if awaited else None
        check_description(record, description.sdp, description.type, offer)

    async def close(self) -> None:
        """Close, within two seconds whatever the relays and the peer do. May be called twice."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        parts = asyncio.ensure_future(super().close())
        await asyncio.wait({parts}, timeout=_GOODBYE)
        if self._ice is not None:
            await self._ice.close()
        await asyncio.wait({parts}, timeout=0.05)
        if not parts.done():
            logger.warning("aiortc did not close in time and was left behind")
            parts.cancel()
            await asyncio.wait({parts}, timeout=0.05)
        if not parts.done() or parts.cancelled():
            self.remove_all_listeners()
        elif error := parts.exception():
            logger.warning("aiortc failed to close: %s", type(error).__name__)

    # --- the seam -----------------------------------------------------------------------------------------------------

    def _RTCPeerConnection__createDtlsTransport(self) -> RTCDtlsTransport:  # noqa: N802 - aiortc's private name
        """Put our connection into the four places that hold aioice's."""
        dtls: RTCDtlsTransport = super()._RTCPeerConnection__createDtlsTransport()  # type: ignore[misc]
        ice = _Ice(self._servers, self._laboratory, self._connect_timeout, self._announce)
        transport = dtls.transport
        transport.iceGatherer._connection = transport._connection = ice  # type: ignore[assignment]
        transport._recv, transport._send = ice.recv, ice.send
        ice.handshake_is_over = lambda: dtls.state not in ("new", "connecting")
        self._ice, self._dtls = ice, dtls
        return dtls

    def _announce(self, event: ConnectionEvent) -> None:
        self.emit("relay", event)

    def _clean(self, description: RTCSessionDescription) -> RTCSessionDescription:
        return RTCSessionDescription(outgoing(description.sdp, self._session, self._version), description.type)


class _Ice(Connection):
    """A connection that ends when the peer does not appear in time: aiortc waits for packets for ever."""

    def __init__(
        self,
        servers: Sequence[RelayServer],
        laboratory: bool,
        connect_timeout: float,
        on_event: Callable[[ConnectionEvent], None],
    ) -> None:
        super().__init__(servers, ice_controlling=False, laboratory=laboratory, on_event=on_event)
        self.handshake_is_over: Callable[[], bool] = lambda: True
        self._connect_timeout = connect_timeout
        self._handshake_timer: asyncio.TimerHandle | None = None

    async def connect(self, timeout: float | None = None) -> None:
        """aiortc gives no timeout. Raises as `Connection.connect` does."""
        try:
            await super().connect(self._connect_timeout if timeout is None else timeout)
        except RelaycallError as error:
            self._fail(error)
            if isinstance(error, ConnectionError):
                raise
            raise CallClosed from None  # aiortc catches ConnectionError only
        self._handshake_timer = self._loop.call_later(self._connect_timeout, self._handshake_is_due)

    def _handshake_is_due(self) -> None:
        if not self.handshake_is_over():
            self._fail(SdpRefused("nobody answers the DTLS handshake"))

    def _begin_close(self) -> asyncio.Task[None]:
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
        return super()._begin_close()


def _servers(configuration: RTCConfiguration | None) -> list[RelayServer]:
    """The TURN servers of a configuration."""
    found = []
    for server in (configuration.iceServers if configuration else None) or []:
        for uri in [server.urls] if isinstance(server.urls, str) else server.urls:
            if uri.lower().startswith(("stun:", "stuns:")):
                continue
            if server.credentialType != "password":
                raise ConfigError(
                    "A TURN server of the configuration wants another kind of credential than a password."
                )
            found.append(RelayServer.parse(uri, username=server.username, password=server.credential))
    return found
