"""What a call tells while it runs, beside what its connection tells."""

from __future__ import annotations

from dataclasses import dataclass

from relaycall.errors import MediaError, RelaycallError
from relaycall.ice.events import ConnectionEvent
from relaycall.quality.adaptation import AudioAdapted, VideoAdapted
from relaycall.quality.level import LevelChanged
from relaycall.relays.pool import PoolEvent


@dataclass(frozen=True, slots=True)
class RelayChanged:
    """The call moved to another path, a second ago.

    Attributes:
        old, new: our relay before and after, by name; the same one if only the peer's changed.
        failed: whether this side left the path because it failed; False where it followed the other side, or was asked.
        gap_ms: the longest time without new audio from the peer around the move; 20 is none.
        lost: packets of the peer's that did not arrive in it.
    """

    old: str
    new: str
    failed: bool
    gap_ms: float
    lost: int


@dataclass(frozen=True, slots=True)
class PeerChanged:
    """The peer says that it is muted, or sends video, or no longer."""

    muted: bool
    video: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a call is over.

    Attributes:
        reason: the value of an `EndReason`, of which a `MediaCall` knows "hung_up" by this side and "peer_hung_up"; or
            the code of the error.
        error: what ended it, if something did.
    """

    reason: str
    error: RelaycallError | None = None


@dataclass(frozen=True, slots=True)
class AudioEnded:
    """What we say has ended: its source has, or it failed. Silence is sent, and the call goes on.

    Attributes:
        error: why, if it failed.
    """

    error: MediaError | None = None


@dataclass(frozen=True, slots=True)
class SinkFailed:
    """What is heard is kept no more: the disk is full, for instance. The call goes on.

    Attributes:
        error: why.
    """

    error: MediaError


@dataclass(frozen=True, slots=True)
class VideoEnded:
    """What we show has ended: its source has, or it failed. The call goes on.

    Attributes:
        error: why, if it failed.
    """

    error: MediaError | None = None


Stopped = AudioEnded | VideoEnded | SinkFailed
MediaEvent = RelayChanged | PeerChanged | LevelChanged | VideoAdapted | AudioAdapted | Stopped
CallEvent = ConnectionEvent | PoolEvent | MediaEvent
