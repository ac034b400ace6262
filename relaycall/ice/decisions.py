"""The words of the failover policy: where it stands, what it is told, and what it has its owner do."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from relaycall.ice.pair import Pair


class Phase(enum.Enum):
    """Where the choice stands."""

    NONE = enum.auto()
    STEADY = enum.auto()
    DOUBTED = enum.auto()


class Fact(enum.Enum):
    """What was found out about the chosen path, or about another."""

    USABLE = enum.auto()  # a path answered
    SILENT = enum.auto()  # the peer's media stopped coming
    UNANSWERED = enum.auto()  # so did the answers to checks
    UNREACHABLE = enum.auto()  # says the network, or our side gives the allocation up
    GONE = enum.auto()  # removed, or consent expired
    ALIVE = enum.auto()  # media or an answer came
    OVERDUE = enum.auto()  # neither came in time, and another path answers
    BETTER = enum.auto()  # another path is faster
    TOLD = enum.auto()  # the peer nominated another path, or has left ours


@dataclass(frozen=True, slots=True)
class Move:
    """Media goes over this pair from now on; None: over none. What was sent in the last `resend` seconds goes again.

    `failed`: the pair before it was left because it fails.
    """

    pair: Pair | None
    resend: float = 0.0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Double:
    """Media goes over these pairs as well, until told otherwise; `resend` as above."""

    pairs: tuple[Pair, ...]
    resend: float = 0.0


@dataclass(frozen=True, slots=True)
class Probe:
    """Check every pair now: the chosen one is `doubted`, or we have stalled and know nothing of any."""

    doubted: bool


@dataclass(frozen=True, slots=True)
class PeerSilent:
    """Nothing was heard from the peer on any path for four seconds; after 90, `gone`."""

    gone: bool = False


@dataclass(frozen=True, slots=True)
class PeerBack:
    """It is heard again."""


Decision = Move | Double | Probe | PeerSilent | PeerBack
