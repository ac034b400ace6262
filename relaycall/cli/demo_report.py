"""What `relaycall demo` shows: for people a table, for programs one JSON object per line."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from relaycall.call.call import Call
from relaycall.call.events import RelayChanged
from relaycall.call.media_call import MediaCall
from relaycall.cli.demo_video import PartyVideo, video_rows
from relaycall.cli.hints import next_step_of
from relaycall.errors import MediaError, RelaycallError
from relaycall.quality.ladder import AUDIO_PACKETS, SRTP_HEADERS

PARTIES = ("alice", "bob")
ENOUGH = 0.95  # of the frames that the network does not lose have to arrive: this machine may be busy
FRAME_MS = 20


class SetUp(NamedTuple):
    """How long it took, in milliseconds.

    Attributes:
        sealed_ms: from the call to sound on both sides: introduction, relays, offer, answer and path.
        ms: the last part of it, from the answer on.
    """

    sealed_ms: float
    ms: float


class Network(NamedTuple):
    """The emulated network that Alice was in, and the shares of its packets that it lost, 0 to 1.

    Attributes:
        lost_up, lost_down: of what she sent; of what came to her. All packets count, and over UDP alone.
    """

    profile: str
    seed: int
    lost_up: float
    lost_down: float


@dataclass
class Party:
    """One side, after the call."""

    relays: dict[str, float]
    path: str
    path_rtt_ms: float
    candidate_types: list[str]
    frames_sent: int
    frames_received: int
    frames_heard: int
    frames_concealed: int
    voice_bit_s: list[int]
    packet_sizes: list[int]
    spoken_words: str
    dropped: dict[str, int]
    video: PartyVideo | None = None

    @classmethod
    def of(cls, call: Call, *, video: bool) -> Party:
        """Read it off a call that is still up. `video`: it shows some."""
        audio = audio_of(call)
        session, connection = audio.session, audio.connection
        assert session is not None
        stats = session.stats()
        media = stats.transport
        path = connection.path_stats()[:1]
        samples = audio.watch.history.samples if audio.watch is not None else ()
        return cls(
            relays={name: round(rtt, 2) for name, rtt in connection.relay_rtts.items()},
            path=path[0].relay if path else "",
            path_rtt_ms=round(path[0].rtt_ms, 2) if path else 0.0,
            candidate_types=sorted({found.type for found in connection.local_candidates}),
            frames_sent=session.frames_sent,
            frames_received=session.frames_received,
            frames_heard=stats.frames_heard,
            frames_concealed=stats.concealed,
            voice_bit_s=sorted({session.encoding.bitrate, *(one.audio_bitrate for one in samples)}),
            packet_sizes=sorted(media.sent_sizes),
            spoken_words=call.spoken_words,
            dropped={reason: count for reason, count in asdict(media.dropped).items() if count}
            | {reason: count for reason, count in connection.dropped.items() if count},
            video=PartyVideo.of(call) if video else None,
        )

    @property
    def sizes_of_steps(self) -> list[int]:
        """Of audio packets, in bytes: one for each bit rate that the voice was sent at."""
        return [SRTP_HEADERS + bit_s // 8 // AUDIO_PACKETS for bit_s in self.voice_bit_s]


@dataclass
class Summary:
    """The whole call."""

    alice: Party
    bob: Party
    set_up: SetUp
    recording: str
    laboratory: bool
    moves: int = 0
    gap_ms: float = 0.0
    lost: int = 0
    network: Network | None = None
    similarity: float | None = None
    signaling: str = ""
    destinations: dict[str, list[str]] = field(default_factory=dict)
    names_looked_up: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    exit_code: int = 0

    @classmethod
    def of(
        cls,
        alice: Call,
        bob: Call,
        set_up: SetUp,
        recording: str,
        laboratory: bool,
        heard: Sequence[RelayChanged],
        *,
        video: bool,
    ) -> Summary:
        """Read it off the two calls while they are up. `heard`: the changes of path, as the listener noticed them."""
        return cls(
            Party.of(alice, video=video),
            Party.of(bob, video=video),
            set_up,
            recording,
            laboratory,
            moves=len(heard),
            gap_ms=max((change.gap_ms for change in heard), default=0.0),
            lost=sum(change.lost for change in heard),
        )

    @property
    def candidate_types(self) -> list[str]:
        """On both sides."""
        return sorted({*self.alice.candidate_types, *self.bob.candidate_types})

    @property
    def packet_sizes(self) -> list[int]:
        """Distinct sizes of audio packets, both ways."""
        return sorted({*self.alice.packet_sizes, *self.bob.packet_sizes})

    def judge(self, allowed: set[str], sink_error: MediaError | None) -> None:
        """Find what did not hold; `allowed` are the addresses of the relays and the signaling server."""
        elsewhere = {place for places in self.destinations.values() for place in places} - allowed
        self._unless(self.candidate_types == ["relay"], 5, "a candidate was not a relay's")
        self._unless(not elsewhere, 5, "a party's socket talked to somebody else than a relay or the signaling server")
        words = self.alice.spoken_words
        self._unless(bool(words) and words == self.bob.spoken_words, 5, "the two sides have different words to compare")
        as_promised = all(side.packet_sizes == side.sizes_of_steps for side in (self.alice, self.bob))
        self._unless(as_promised, 5, "audio packets differ in size")
        lost_up, lost_down = (self.network.lost_up, self.network.lost_down) if self.network else (0.0, 0.0)
        for speaker, listener, lost in ((self.alice, self.bob, lost_up), (self.bob, self.alice, lost_down)):
            had_time = speaker.frames_sent - speaker.path_rtt_ms / FRAME_MS  # the latest are still on their way
            self._unless(
                listener.frames_received >= ENOUGH * (1 - lost) * had_time > 0, 3, "too many audio frames were lost"
            )
        self._unless(sink_error is None, 6, sink_error.sentence if sink_error else "")

    def _unless(self, held: bool, exit_code: int, problem: str) -> None:
        if not held and problem not in self.problems:
            self.problems.append(problem)
            self.exit_code = self.exit_code or exit_code

    def as_json(self) -> dict[str, object]:
        """The last object of `--json`."""
        return {
            "event": "summary",
            "ok": self.exit_code == 0,
            "setup_ms": self.set_up.ms,
            "sealed_setup_ms": self.set_up.sealed_ms,
            "spoken_words": self.alice.spoken_words,
            "frames_sent": self.alice.frames_sent,
            "frames_received": self.bob.frames_received,
            "relay_changes": self.moves,
            "gap_ms": self.gap_ms,
            "lost": self.lost,
            "concealed": self.bob.frames_concealed,
            "network": self.network._asdict() if self.network else None,
            "similarity": self.similarity,
            "packet_sizes": self.packet_sizes,
            "candidate_types": self.candidate_types,
            "signaling": self.signaling,
            "destinations": self.destinations,
            "names_looked_up": self.names_looked_up,
            "recording": self.recording,
            "alice": asdict(self.alice),
            "bob": asdict(self.bob),
            "laboratory": self.laboratory,
            "problems": self.problems,
        }


def audio_of(call: Call) -> MediaCall:
    """The sound of a call that is connected."""
    assert call.media is not None
    return call.media


class Reporter(Protocol):
    """Where a run tells how it goes."""

    def step(self, event: str, text: str, **data: object) -> None:
        """Something is done."""

    def progress(self, spoken: float, total: float | None) -> None:
        """So many seconds of speech have been sent."""

    def failed(self, error: RelaycallError) -> None:
        """The run ended early."""

    def summary(self, summary: Summary) -> None:
        """The run is over."""


def reporter_for(as_json: bool) -> Reporter:
    """The reporter for programs, or the one for people."""
    return JsonReporter() if as_json else TableReporter()


class JsonReporter:
    """One JSON object per line on standard output."""

    def __init__(self) -> None:
        self._second = -1

    def step(self, event: str, text: str, **data: object) -> None:
        self._print({"event": event, **data})

    def progress(self, spoken: float, total: float | None) -> None:
        if int(spoken) > self._second:
            self._second = int(spoken)
            self._print({"event": "progress", "seconds": self._second, "total": total})

    def failed(self, error: RelaycallError) -> None:
        self._print(
            {"event": "error", "code": error.code, "sentence": error.sentence, "next_step": next_step_of(error)}
        )
        self._print({"event": "summary", "ok": False, "exit_code": error.exit_code, "problems": [error.sentence]})

    def summary(self, summary: Summary) -> None:
        self._print(summary.as_json())

    @staticmethod
    def _print(entry: dict[str, object]) -> None:
        sys.stdout.write(json.dumps(entry) + "\n")
        sys.stdout.flush()


class TableReporter:
    """Steps and progress on standard error, the result on standard output."""

    def __init__(self) -> None:
        self._out = Console()
        self._err = Console(stderr=True)
        self._bar: Progress | None = None

    def step(self, event: str, text: str, **data: object) -> None:
        self._err.print(escape(text))

    def progress(self, spoken: float, total: float | None) -> None:
        if not self._err.is_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("Alice speaks"), BarColumn(), TimeElapsedColumn(), console=self._err, transient=True
            )
            self._bar.add_task("speech", total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=spoken)

    def failed(self, error: RelaycallError) -> None:
        self._stop()
        self._err.print(f"[red]error:[/red] {escape(error.sentence)}\n       {escape(next_step_of(error))}")

    def summary(self, summary: Summary) -> None:
        self._stop()
        table = Table(title="A relay-only call", title_justify="left", show_lines=False)
        table.add_column("")
        table.add_column("Alice (speaks)", overflow="fold")
        table.add_column("Bob (listens)", overflow="fold")
        for name, alice, bob in _rows(summary):
            table.add_row(name, escape(alice), escape(bob))
        self._out.print(table)
        self._out.print(
            f"Connected in {summary.set_up.sealed_ms:.0f} ms from the call on, introduction, relays and sealed set-up "
            f"included; {summary.set_up.ms:.0f} ms of it after Bob's answer."
        )
        if not summary.problems:
            self._out.print(f"Words for the two to compare, the same on both sides: {summary.alice.spoken_words}.")
        if summary.names_looked_up:
            self._out.print(f"Names looked up: {escape(', '.join(summary.names_looked_up))}")
        if summary.network:
            self._out.print(
                f"Alice was in the network {summary.network.profile}, seed {summary.network.seed}. It lost "
                f"{summary.network.lost_up:.1%} of what she sent and {summary.network.lost_down:.1%} of what came."
            )
        if summary.moves:
            self._out.print(
                f"The call changed its relay: {summary.gap_ms:.0f} ms without a new packet at Bob (20 is none), "
                f"{summary.lost} lost."
            )
        if summary.similarity is not None:
            but = " Sound that is held back for longer or shorter lowers it, too." if summary.network else ""
            self._out.print(f"Likeness of what Bob heard to the original: {summary.similarity:.2f} of 1.{but}")
        self._out.print(f"What Bob heard is in {escape(summary.recording)}.")
        if summary.laboratory:
            self._out.print("[yellow]Laboratory mode: loopback and private addresses were allowed.[/yellow]")
        for problem in summary.problems:
            self._out.print(f"[red]Not as promised: {escape(problem)}.[/red]")
        if not summary.problems:
            self._out.print(
                "[green]Neither party's sockets talked to anything but relays and the signaling server.[/green]"
            )

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _rows(summary: Summary) -> list[tuple[str, str, str]]:
    sides = (summary.alice, summary.bob)

    def row(name: str, *cells: str) -> tuple[str, str, str]:
        return name, cells[0], cells[1]

    return [
        row(
            "relays, round trip",
            *("\n".join(f"{name}  {rtt:.1f} ms" for name, rtt in side.relays.items()) for side in sides),
        ),
        row("sends through", *(side.path for side in sides)),
        row("path round trip", *(f"{side.path_rtt_ms:.1f} ms" for side in sides)),
        row("candidate types", *(", ".join(side.candidate_types) for side in sides)),
        row("audio frames sent", *(str(side.frames_sent) for side in sides)),
        row("audio frames received", *(str(side.frames_received) for side in sides)),
        row("audio frames heard", *(str(side.frames_heard) for side in sides)),
        row("audio frames made up", *(str(side.frames_concealed) for side in sides)),
        row("voice", *(", ".join(f"{bit_s // 1000} kbit/s" for bit_s in side.voice_bit_s) for side in sides)),
        row("audio packet sizes", *(", ".join(f"{size} bytes" for size in side.packet_sizes) for side in sides)),
        *video_rows(*sides),
        row("sockets talked to", *(_places(summary, party) for party in PARTIES)),
    ]


def _places(summary: Summary, party: str) -> str:
    return "\n".join(
        f"{place} (signaling)" if place == summary.signaling else place for place in summary.destinations[party]
    )
