"""What an agent tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from relaycall.ice.decisions import PeerBack, PeerSilent
from relaycall.stun.address import Address


@dataclass(frozen=True, slots=True)
class Reached:
    """The peer has checked this pair, and none carries media yet: what is sent there is wanted, and may arrive."""

    local: int
    remote: Address


@dataclass(frozen=True, slots=True)
class Selected:
    """Media goes over this pair from now on. What was sent in the last `resend` seconds goes again.

    `failed`: because the pair before it fails.
    """

    local: int
    remote: Address
    resend: float = 0.0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Unselected:
    """No pair may carry media: consent is lost, or the relays are."""


@dataclass(frozen=True, slots=True)
class Doubled:
    """Media goes over these pairs as well; `resend` as above, on those that are new."""

    pairs: tuple[tuple[int, Address], ...]
    resend: float = 0.0


@dataclass(frozen=True, slots=True)
class Doubted:
    """The selected pair may be failing."""


@dataclass(frozen=True, slots=True)
class LocalFailing:
    """No pair of this allocation is answered, while others are."""

    local: int


Event = Reached | Selected | Unselected | Doubled | Doubted | LocalFailing | PeerSilent | PeerBack
