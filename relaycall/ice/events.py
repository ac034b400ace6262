"""What a connection tells about its relays and paths. Relays are named as the user named them; no addresses."""

from __future__ import annotations

from dataclasses import dataclass

from relaycall.errors import RelayError
from relaycall.ice.pair import Pair


@dataclass(frozen=True, slots=True)
class PathSelected:
    """Packets go from our relay `relay` to the peer's candidate number `remote` from now on."""

    relay: str
    remote: int


@dataclass(frozen=True, slots=True)
class RelayGone:
    """An allocation is lost; the call goes on over the others, if there are any."""

    error: RelayError


@dataclass(frozen=True, slots=True)
class PathLost:
    """No path may carry packets at the moment. Sending drops; checks go on."""


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


ConnectionEvent = PathSelected | RelayGone | PathLost
