"""What is known of a call when it is over, beside how it went from second to second."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from relaycall.call.events import RelayChanged
from relaycall.quality.sample import PeerReport
from relaycall.relays.server import RelayServer, Transport

SignalingKind = Literal["wss", "ws", "https", "http", "memory", "manual", "other"]
_WITH_HOST: tuple[SignalingKind, ...] = ("wss", "ws", "https", "http")
_KINDS: tuple[SignalingKind, ...] = (*_WITH_HOST, "memory", "manual")


@dataclass(frozen=True, slots=True)
class RelayFact:
    """A relay of ours that was asked for an allocation for this call, whether or not media went over it.

    Attributes:
        name: as `RelayServer.name` and `Sample.relay` have it; it holds the host.
        transport: "udp", "tcp" or "tls", between us and the relay.
        operator: who runs it, in our user's own words; "" if they did not say.
        shared: whether a relay of the other side's is on the same host; None if that is not known.
    """

    name: str = field(repr=False)
    transport: Transport
    operator: str = ""
    shared: bool | None = None

    @classmethod
    def of(cls, server: RelayServer, *, shared: bool | None = None) -> RelayFact:
        """Of a relay, without its credentials."""
        return cls(server.name, server.transport, server.operator or "", shared)

    @property
    def host(self) -> str:
        """The host in its name, without brackets."""
        return self.name.split("?")[0].partition(":")[2].rpartition(":")[0].strip("[]")


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known of one call on one side. Times that did not come are None; counts are totals.

    Attributes:
        caller: whether this side placed it.
        started_at: when it was placed or began to ring, in seconds since 1970.
        ended: why it is over, as `Ended.reason`.
        party: the other side's name, as a contact of ours or as a stranger says.
        contact, verified: whether they are a contact, and their safety number was compared.
        words_compared: whether the spoken words of this call were the same on both sides; None if nobody said.
        ringing: for how long it rang, in seconds.
        to_accept: from the beginning until it was accepted, in seconds.
        to_connected: from then on until there was sound, in seconds.
        connected: for how long there was a connection, in seconds.
        relays: ours, the preferred one first.
        peer_hosts: the hosts of the other side's relays, shown only on request.
        protect: audio was sent over two paths, always.
        signaling: how messages travelled before there was a path.
        signaling_host: of the server, shown only on request.
        bytes_sent, bytes_received, packets_sent, packets_received: everything that passed the relays.
        theirs: what we got from the other side.
        mine: what the other side got from us, as it reported last; None if it never did.
        moves: each change of path, with its time in seconds since the call was connected.
        video_sent, video_received: whether there was any.
    """

    caller: bool
    started_at: float
    ended: str
    party: str = field(default="", repr=False)
    contact: bool = False
    verified: bool = False
    words_compared: bool | None = None
    ringing: float | None = None
    to_accept: float | None = None
    to_connected: float | None = None
    connected: float | None = None
    relays: tuple[RelayFact, ...] = ()
    peer_hosts: tuple[str, ...] = field(default=(), repr=False)
    protect: bool = False
    signaling: SignalingKind = "other"
    signaling_host: str = field(default="", repr=False)
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    theirs: PeerReport = field(default_factory=PeerReport)
    mine: PeerReport | None = None
    moves: tuple[tuple[float, RelayChanged], ...] = field(default=(), repr=False)
    video_sent: bool = False
    video_received: bool = False

    @property
    def shared(self) -> bool | None:
        """Whether a relay of ours served the other side, too; None if that is not known."""
        known = [relay.shared for relay in self.relays if relay.shared is not None]
        return any(known) if known else None

    @property
    def loss(self) -> float | None:
        """The share of the other side's audio packets that did not arrive, 0 to 1; None if none were sent."""
        return _share(self.theirs.lost, self.theirs)

    @property
    def loss_sent(self) -> float | None:
        """The same of ours; None if the other side never told."""
        return None if self.mine is None else _share(self.mine.lost, self.mine)

    @property
    def recovered(self) -> float | None:
        """The share of the other side's sound that was lost and restored, 0 to 1; None if there was none."""
        return _share(self.theirs.recovered, self.theirs)

    @property
    def concealed(self) -> float | None:
        """The share of the other side's sound that was made up, 0 to 1; None if there was none."""
        return _share(self.theirs.concealed, self.theirs)


def signaling_of(url: str) -> tuple[SignalingKind, str]:
    """How messages travel by a signaling URL, and the host of the server; "" if it has none."""
    scheme = url.partition(":")[0].lower()
    kind: SignalingKind = next((kind for kind in _KINDS if kind == scheme), "other")
    try:
        host = urlsplit(url).hostname if kind in _WITH_HOST else None
    except ValueError:
        host = None
    return kind, host or ""


def _share(part: int, counted: PeerReport) -> float | None:
    whole = counted.received + counted.lost
    return min(part / whole, 1.0) if whole > 0 else None
