"""What became of a video packet, as the estimator needs it: `media.video.fates` finds it out."""

from __future__ import annotations

from typing import Protocol


class Fate(Protocol):
    """What became of one video packet."""

    @property
    def number(self) -> int:
        """Its number: whole, each packet's higher than the one before."""

    @property
    def size(self) -> int:
        """Bytes, with SRTP and without the headers below it."""

    @property
    def sent_at(self) -> float:
        """Seconds on our clock."""

    @property
    def arrived_at(self) -> float | None:
        """Seconds on any clock of the peer's; None if it did not."""

    @property
    def untold(self) -> bool:
        """Whether nobody said, since what the peer tells was lost."""
