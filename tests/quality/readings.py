"""A call for the monitor: readings of a path with this loss, this delay and so on, second by second."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from relaycall.quality.monitor import Monitor
from relaycall.quality.sample import PeerReport, Reading, Sample

AUDIO_BYTES = 108  # of a packet


@dataclass
class Course:
    """Goes on by stretches of time, and reads at the end of each.

    Attributes:
        relay, rtt_ms: of the readings to come; set at any time.
        samples: all that came, None included.
    """

    monitor: Monitor
    now: float = 1000.0
    relay: str = "relay.example.org"
    rtt_ms: float | None = 60.0
    samples: list[Sample | None] = field(default_factory=list)
    _reading: Reading = field(default_factory=Reading)

    def read(self, **changes: Any) -> Sample | None:
        """A reading at once."""
        self._reading = replace(self._reading, relay=self.relay, rtt_ms=self.rtt_ms, **changes)
        self.samples.append(self.monitor.read(self.now, self._reading))
        return self.samples[-1]

    def begin(self) -> Course:
        """The first reading, of zeros."""
        assert self.read() is None
        return self

    def go(
        self,
        seconds: float = 1.0,
        *,
        lost: float = 0,
        silent: bool = False,
        concealed: float | None = None,
        recovered: float = 0,
        late: float = 0,
        told: float = 0,
        report: tuple[float, float] | None = (0, 50),
        **changes: Any,
    ) -> Sample:
        """One stretch, and a reading.

        Args:
            lost: of its audio packets, reported as lost.
            silent: nothing comes, and nothing is reported.
            concealed: frames made up; all that are lost and not recovered by default.
            late: packets that came after all, and are no longer reported as lost.
            told: packets reported as lost that are not of this stretch.
            report: what the other side reports to have lost and received in it; None for no report.
        """
        self.now += seconds
        frames = round(50 * seconds)
        received = 0 if silent else frames - lost
        made_up = (frames if silent else lost - recovered) if concealed is None else concealed
        theirs, mine = self._reading.theirs, self._reading.mine
        if report is not None:
            there = mine or PeerReport()
            mine = replace(there, lost=there.lost + report[0], received=there.received + report[1])
        sample = self.read(
            packets_sent=self._reading.packets_sent + frames,
            bytes_sent=self._reading.bytes_sent + frames * AUDIO_BYTES,
            packets_received=self._reading.packets_received + received + late,
            bytes_received=self._reading.bytes_received + received * AUDIO_BYTES,
            mine=mine,
            theirs=replace(
                theirs,
                received=theirs.received + received + late,
                lost=theirs.lost + (0 if silent else lost) - late + told,
                recovered=theirs.recovered + recovered,
                concealed=theirs.concealed + made_up,
            ),
            **changes,
        )
        assert sample is not None
        return sample

    def gauge(self, **changes: Any) -> None:
        """What the readings to come say of the other side's stream, beside its counts."""
        self._reading = replace(self._reading, theirs=replace(self._reading.theirs, **changes))


def course(**limits: Any) -> Course:
    """A call that was connected at 1000 s and was read once."""
    return Course(Monitor(1000.0, **limits)).begin()
