"""Which plots a call has, and what was remarkable in it, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from relaycall.call.report.facts import CallFacts
from relaycall.call.report.figures import LONGEST
from relaycall.call.report.naming import Naming
from relaycall.call.report.plots import STEPS, Line, Numbered, Plot, Stretch, draw, draw_lanes
from relaycall.quality.history import Mark
from relaycall.quality.sample import Level, Sample

RELAY, PATH, AUDIO, VIDEO = "relay", "path", "audio", "video"  # kinds of marks that plots show

_WORSE = {level: i for i, level in enumerate(Level)}


# --- what happened ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that is told with its time, in seconds. `number` is 0 if no plot shows it."""

    at: float
    kind: str
    text: str
    number: int


def happenings(facts: CallFacts, marks: Sequence[Mark], naming: Naming) -> list[Happening]:
    """What happened, in order of time. Moves are told from the facts, which say more than their marks."""
    found = [(at, RELAY, _move(move.old, move.new, move.failed, naming)) for at, move in facts.moves]
    found += [
        (one.at, one.kind, _sentence(naming.clean(one.text))) for one in marks if one.kind != RELAY or not facts.moves
    ]
    found = sorted((one for one in found if 0 <= one[0] < LONGEST), key=lambda one: one[0])
    told: list[Happening] = []
    number = 0
    for at, kind, text in found:
        shown = kind in (RELAY, PATH, AUDIO, VIDEO)
        number += shown
        told.append(Happening(at, kind, text, number if shown else 0))
    return told


def _move(old: str, new: str, failed: bool, naming: Naming) -> str:
    why = ", since the path before failed" if failed else ""
    if old == new:
        return f"The other side's relay changed, ours stayed {naming.relay(new)}{why}."
    return f"Moved from {naming.relay(old)} to {naming.relay(new)}{why}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", "…")) else ".")


# --- plots ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chart:
    """A plot before there are samples: its lines by name, and how each is read off a sample."""

    key: str
    title: str
    unit: str
    least: float
    lines: tuple[tuple[str, Callable[[Sample], float | None]], ...]
    about: str = ""
    low: float = 0.0
    kinds: tuple[str, ...] = ()
    filled: bool = False
    video: bool = False

    def of(self, samples: Sequence[Sample]) -> Plot:
        lines = [
            Line(name, [(one.at, read(one)) for one in samples], style, self.filled)
            for style, (name, read) in enumerate(self.lines)
        ]
        return Plot(self.key, self.title, self.unit, lines, self.least, self.low, self.about)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _kilo(rate: float | None) -> float | None:
    return None if rate is None else rate / 1000


_CHARTS = (
    _Chart(
        "score",
        "Expected opinion of what you heard",
        "1 to 4.5",
        4.5,
        (("score", lambda one: one.score),),
        "The mean opinion score that listeners would give, from 1, bad, to 4.5 (ITU-T G.107).",
        low=1.0,
        kinds=(AUDIO,),
    ),
    _Chart(
        "rtt",
        "Round trip",
        "ms",
        50.0,
        (("there, back", lambda one: one.rtt_ms),),
        "From you to the other side and back, over both relays.",
    ),
    _Chart(
        "loss",
        "Loss",
        "%",
        1.0,
        (("to you", lambda one: _percent(one.loss)), ("to them", lambda one: _percent(one.loss_sent))),
        "Audio packets that did not arrive.",
        kinds=(AUDIO,),
    ),
    _Chart(
        "delay",
        "Jitter and delay",
        "ms",
        50.0,
        (
            ("held back", lambda one: one.playout_delay_ms),
            ("jitter", lambda one: one.jitter_ms),
            ("queueing", lambda one: one.queue_ms),
        ),
        "How long sound is held back here so that it plays evenly, how unevenly it arrives, and what waits on the way.",
    ),
    _Chart(
        "bitrate",
        "Bit rate",
        "kbit/s",
        50.0,
        (
            ("sent", lambda one: _kilo(one.bitrate_sent)),
            ("received", lambda one: _kilo(one.bitrate_received)),
            ("available", lambda one: _kilo(one.available)),
            ("your voice", lambda one: _kilo(one.audio_bitrate)),
        ),
        "All that passed the relays, what the path is estimated to carry from you, and what your voice takes of it.",
        kinds=(AUDIO, VIDEO),
    ),
    _Chart(
        "heard",
        "What you heard",
        "%",
        1.0,
        (
            ("made up", lambda one: _percent(one.concealed)),
            ("or restored", lambda one: _percent(one.concealed + one.recovered)),
        ),
        "Of the sound, what was lost and made up, and above it what was lost and restored. The rest is as it was sent.",
        kinds=(AUDIO,),
        filled=True,
    ),
    _Chart(
        "video-bitrate",
        "Video: bit rate",
        "kbit/s",
        100.0,
        (
            ("sent", lambda one: _kilo(one.video_bitrate_sent)),
            ("received", lambda one: _kilo(one.video_bitrate_received)),
            ("available", lambda one: _kilo(one.available)),
        ),
        "Of video alone, and what the path is estimated to carry from you in all.",
        kinds=(VIDEO,),
        video=True,
    ),
    _Chart(
        "video-rate",
        "Video: frames",
        "a second",
        30.0,
        (("sent", lambda one: one.frame_rate_sent), ("received", lambda one: one.frame_rate_received)),
        kinds=(VIDEO,),
        video=True,
    ),
    _Chart(
        "video-size",
        "Video: resolution",
        "rows",
        360.0,
        (("sent", lambda one: one.video_sent), ("received", lambda one: one.video_received)),
        "Rows of pixels of a frame.",
        kinds=(VIDEO,),
        video=True,
    ),
)


def draw_all(samples: Sequence[Sample], told: Sequence[Happening], naming: Naming, until: float) -> list[str]:
    """Every plot that there is something for, as figures of HTML.

    Args:
        samples: in order of time, at least one.
        until: the end of the time, in seconds, above 0.
    """

    def marks(*kinds: str) -> list[Numbered]:
        return [Numbered(one.at, one.number, one.kind) for one in told if one.number and one.kind in kinds]

    video = has_video(samples)
    lanes = [
        ("relay", _stretches(samples, until, lambda inside: naming.letter(inside[-1].relay))),
        ("quality", _stretches(samples, until, _worst)),
    ]
    about = "The relay of yours that was in use, and how it was to listen. What the numbers stand for is below."
    drawn = [draw_lanes("course", "The course of the call", lanes, until, marks(RELAY, PATH, AUDIO, VIDEO), about)]
    return drawn + [
        draw(chart.of(samples), until, marks(RELAY, PATH, *chart.kinds))
        for chart in _CHARTS
        if video or not chart.video
    ]


def has_video(samples: Sequence[Sample]) -> bool:
    """Whether there was any, either way."""
    return any(
        one.video_sent or one.video_received or one.frame_rate_sent or one.frame_rate_received for one in samples
    )


def _worst(samples: Sequence[Sample]) -> str:
    return str(max((one.level for one in samples), key=lambda level: _WORSE[level]))


def _stretches(samples: Sequence[Sample], until: float, label: Callable[[Sequence[Sample]], str]) -> list[Stretch]:
    """Times of one label each: that of the samples in one step of the time is found together."""
    found: list[Stretch] = []
    since = 0.0
    for inside in _steps(samples, until):
        name, at = label(inside), inside[-1].at
        if found and found[-1].label == name:
            found[-1] = Stretch(found[-1].start, at, name, found[-1].look)
        else:
            found.append(Stretch(since, at, name, f"is-{name.lower() if name in set(Level) else 'relay'}"))
        since = at
    return found


def _steps(samples: Sequence[Sample], until: float) -> Iterator[list[Sample]]:
    step: list[Sample] = []
    for sample in samples:
        if step and int(sample.at / until * STEPS) != int(step[-1].at / until * STEPS):
            yield step
            step = []
        step.append(sample)
    if step:
        yield step
