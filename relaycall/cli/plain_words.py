"""What a call tells of its quality, in plain words."""

from __future__ import annotations

from relaycall.quality.adaptation import VideoAdapted
from relaycall.quality.level import LevelChanged
from relaycall.quality.sample import Level
from relaycall.quality.voice import Reason

_LEVELS = {
    Level.GOOD: "The call is good again.",
    Level.FAIR: "The call is fair: some of what they say may be hard to follow.",
    Level.POOR: "The call is poor: much of what they say is hard to follow.",
    Level.LOST: "Nothing is heard of them at the moment.",
}
_OFF = {
    Reason.RATE: "the network carries no more than the voice",
    Reason.LOSS: "the network loses too much",
    Reason.PEER: "the other side takes none, or wants no more data than the voice needs",
    Reason.LIMIT: "your own limit leaves no room for it",
    Reason.ENCODER: "this machine cannot keep up with it",
    Reason.SOURCE: "its pictures are of a size that cannot be sent",
    Reason.BETTER: "something has changed",
}


def level_text(changed: LevelChanged) -> str:
    """How the call is to its listener from now on."""
    return _LEVELS[changed.new]


def off_text(adapted: VideoAdapted) -> str:
    """That our video is off, and why."""
    return f"Your video is off: {_OFF[adapted.reason]}. The voice goes on."
