"""What a connection tells about its relays and paths. Relays are named as the user named them; no addresses."""

from __future__ import annotations

from dataclasses import dataclass

from relaycall.errors import RelayError
from relaycall.ice.pair import Pair


@dataclass(frozen=True, slots=True)
class PathSelected:
    """Packets go from our relay `relay` to the peer's candidate number `remote` from now on.

    `failed`: because the path before it fails, or fell silent.
    """

    relay: str
    remote: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class RelaySuspected:
    """The path over our relay `relay` fell silent. Media goes over a second one as well until the facts decide."""

    relay: str


@dataclass(frozen=True, slots=True)
class RelayGone:
    """An allocation is lost; the call goes on over the others, if there are any."""

    error: RelayError


@dataclass(frozen=True, slots=True)
class PathLost:
    """No path may carry packets at the moment. Sending drops; checks go on."""


@dataclass(frozen=True, slots=True)
class NoBackup:
    """There is no second path at the moment: if the relay in use fails now, the call is interrupted."""


@dataclass(frozen=True, slots=True)
class PeerUnheard:
    """Nothing has come from the peer for four seconds, on any path. The call waits for it, 90 seconds in all."""


@dataclass(frozen=True, slots=True)
class PeerHeard:
    """The peer is heard again."""


@dataclass(frozen=True, slots=True)
class PathStats:
    """One pair of relays. Times in milliseconds; 0 before the first answer."""

    relay: str
    remote: int
    selected: bool
    healthy: bool
    rtt_ms: float
    rtt_min_ms: float
    checks_sent: int
    checks_answered: int

    @classmethod
    def of(cls, pair: Pair, relay: str, remote: int, selected: bool) -> PathStats:
        """What a pair's checks have shown."""
        return cls(
            relay, remote, selected, pair.healthy, pair.rtt * 1000, pair.rtt_min * 1000, pair.sent, pair.answered
        )


ConnectionEvent = PathSelected | RelaySuspected | RelayGone | PathLost | NoBackup | PeerUnheard | PeerHeard
