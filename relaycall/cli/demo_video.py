"""The video of `relaycall demo --video`: what came through, each way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relaycall.call.call import Call
from relaycall.quality.sample import Sample

if TYPE_CHECKING:
    from relaycall.cli.demo_report import Party


class Unseen:
    """A sink for pictures at which nobody looks: they are decoded and counted."""

    def write(self, frame: object) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True)
class PartyVideo:
    """What one side showed and saw.

    Attributes:
        frames_sent: encoded and sent.
        frames_seen: of the other side's, those that were decoded.
        rows_seen: of the latest of them.
        packets_received, packets_lost: of the other side's video.
        bitrate_seen: of it, in bit/s, the median over the seconds in which there was some.
    """

    frames_sent: int
    frames_seen: int
    rows_seen: int
    packets_received: int
    packets_lost: int
    bitrate_seen: int

    @classmethod
    def of(cls, call: Call) -> PartyVideo:
        """Read it off a call that is still up."""
        watch = call.media.watch if call.media is not None else None
        assert watch is not None, "it was connected"
        reading = watch.reading
        return cls(
            frames_sent=reading.video_frames_sent,
            frames_seen=reading.theirs.frames_shown,
            rows_seen=reading.theirs.video_height,
            packets_received=reading.theirs.video_received,
            packets_lost=reading.theirs.video_lost,
            bitrate_seen=_median(watch.history.samples),
        )


def _median(samples: Sequence[Sample]) -> int:
    rates = sorted(one.video_bitrate_received for one in samples if one.video_bitrate_received)
    return rates[len(rates) // 2] if rates else 0


def video_rows(alice: Party, bob: Party) -> list[tuple[str, str, str]]:
    """Lines of the table, for the two; none without video."""
    if alice.video is None or bob.video is None:
        return []
    sides = (alice.video, bob.video)

    def row(name: str, *cells: str) -> tuple[str, str, str]:
        return name, cells[0], cells[1]

    return [
        row("video frames sent", *(str(side.frames_sent) for side in sides)),
        row("video frames seen", *(str(side.frames_seen) for side in sides)),
        row("video seen", *(f"{side.rows_seen} rows, {side.bitrate_seen / 1000:.0f} kbit/s" for side in sides)),
        row("video packets lost", *(f"{side.packets_lost} of {_all(side)}" for side in sides)),
    ]


def _all(side: PartyVideo) -> int:
    return side.packets_received + side.packets_lost
