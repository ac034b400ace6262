"""What a call was like from its beginning to now, for a report: samples and marks, a bounded number of each.

How it works. Samples are kept as they are until there are too many. From then on two stand for four neighbours, again
and again: of each figure that has extremes one of the two has the least and the other the most, in the order in which
they came, so both survive however long the call is; rates are means over the four; the rest is as it was last. Those
that come later are merged likewise before they are kept, so all stand for the same time. The merging is done a little
with each sample that is added, since all of it at once would hold up the sound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from relaycall.quality.sample import Level, Sample

MAX_SAMPLES = 3600  # an hour, once a second; a multiple of four
MAX_MARKS = 1000

_GROUPS_AT_ONCE = 2
_EXTREMES = (
    "rtt_ms",
    "loss",
    "loss_sent",
    "recovered",
    "concealed",
    "jitter_ms",
    "queue_ms",
    "playout_delay_ms",
    "available",
    "score",
    "level",
)
_RATES = (
    "bitrate_sent",
    "bitrate_received",
    "frame_rate_sent",
    "frame_rate_received",
    "video_bitrate_sent",
    "video_bitrate_received",
)
_RANKS = {level: rank for rank, level in enumerate(Level)}


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened.

    Attributes:
        at: seconds since the call was connected.
        kind: what it is about: "relay", "path", "level", "video" or "audio".
        text: a sentence. It calls relays of ours by their names, which hold hosts; a report's page does not.
    """

    at: float
    kind: str
    text: str


class History:
    """The log of one call.

    Attributes:
        marks_left_out: marks that are not kept; with more than 1,000, the first 500 and the latest are.
    """

    def __init__(self) -> None:
        self.marks_left_out = 0
        self._merged: list[Sample] = []  # anew; in order of time, then come ...
        self._to_merge: deque[Sample] = deque()
        self._samples: list[Sample] = []
        self._group_size = 1  # samples that two kept ones stand for; 1: each is kept
        self._group = _Group()
        self._first_marks: list[Mark] = []
        self._latest_marks: deque[Mark] = deque(maxlen=MAX_MARKS // 2)

    @property
    def samples(self) -> Sequence[Sample]:
        """In order of time, 3,600 at most, the latest included."""
        return (*self._merged, *self._to_merge, *self._samples, *self._group.samples())

    @property
    def marks(self) -> Sequence[Mark]:
        """In the order in which they were made, 1,000 at most."""
        return (*self._first_marks, *self._latest_marks)

    def add(self, sample: Sample) -> None:
        """Keep a sample; they come in order of time."""
        self._group.add(sample)
        if self._group.size == self._group_size:
            self._samples += self._group.samples()
            self._group = _Group()
        if self._to_merge:
            self._merge()
        elif len(self._samples) == MAX_SAMPLES:
            self._to_merge, self._samples = deque(self._samples), []
            self._group_size = 4 if self._group_size == 1 else 2 * self._group_size

    def mark(self, at: float, kind: str, text: str) -> None:
        """Keep that something happened."""
        if len(self._first_marks) < MAX_MARKS // 2:
            self._first_marks.append(Mark(at, kind, text))
            return
        self.marks_left_out += len(self._latest_marks) == self._latest_marks.maxlen
        self._latest_marks.append(Mark(at, kind, text))

    def _merge(self) -> None:
        for _ in range(_GROUPS_AT_ONCE):
            group = _Group()
            for _ in range(4):
                group.add(self._to_merge.popleft())
            self._merged += group.samples()
            if not self._to_merge:
                self._merged, self._samples = [], self._merged + self._samples
                return


class _Group:
    """Neighbours that become two samples, however many they are."""

    def __init__(self) -> None:
        self.size = 0
        self._first: Sample | None = None
        self._latest: Sample | None = None
        self._least: dict[str, tuple[Any, int]] = {}  # by figure: its value, and the number of the sample
        self._most: dict[str, tuple[Any, int]] = {}
        self._sums = dict.fromkeys(_RATES, 0.0)

    def add(self, sample: Sample) -> None:
        self._first = self._first or sample
        self._latest = sample
        for name in _EXTREMES:
            value = getattr(sample, name)
            if value is None:
                continue
            if name not in self._least or _rank(value) < _rank(self._least[name][0]):
                self._least[name] = value, self.size
            if name not in self._most or _rank(value) > _rank(self._most[name][0]):
                self._most[name] = value, self.size
        for name in _RATES:
            self._sums[name] += getattr(sample, name)
        self.size += 1

    def samples(self) -> tuple[Sample, ...]:
        """What stands for them: one as it is, or two."""
        first, latest = self._first, self._latest
        if first is None or latest is None:
            return ()
        if self.size == 1:
            return (first,)
        rates: dict[str, Any] = {name: self._mean(name) for name in _RATES}
        one, other = dict(rates), dict(rates)
        for name, (least, at_least) in self._least.items():
            most, at_most = self._most[name]
            one[name], other[name] = (least, most) if at_least <= at_most else (most, least)
        return replace(latest, at=first.at, **one), replace(latest, **other)

    def _mean(self, name: str) -> float:
        mean = self._sums[name] / self.size
        return mean if name.startswith("frame_rate") else round(mean)


def _rank(value: Any) -> Any:
    return _RANKS[value] if isinstance(value, Level) else value
