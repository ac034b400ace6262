"""A link that is cut from 1.5 Mbit/s to 200 kbit/s in the middle of a video call, and restored.

    python -m tests.benchmarks.cut --seeds 10            # the table, about a minute for each call
    python -m tests.benchmarks.cut both --seeds 1 --show  # one call, half a second by half a second

Alice's network is cut, by an emulator in this process; each end is a process of its own, over coturn. Both libraries
get the same seeds, one call after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from relaycall.testing import LossyProxy, Profile
from relaycall.testing.conditions import Conditions
from tests.benchmarks.party import Party
from tests.benchmarks.profile_ends import AiortcEnd, RelaycallEnd
from tests.benchmarks.profiles import RELAYS, MeteredLink
from tests.benchmarks.report import Figure, Report, Table
from tests.coturn import Coturn

TITLE = "a link that is cut in the middle of a video call"
SEEDS = 10
SIZE = 960, 540  # pixels
LIMIT = 1_250_000  # bit/s of everything, so that video settles at 1.02 Mbit/s
WIDE, NARROW, QUEUE, DELAY = 1_500_000, 200_000, 0.3, 0.02  # bit/s, seconds, seconds each way
BEFORE = 3.0  # seconds at full rate before the cut
EVERY = 0.1  # seconds between two notes
LATE = 0.1  # seconds in the queue that are too many
STEADY_AFTER = 5.0  # seconds
RECOVERED = 0.8  # of the rate before


@dataclass(frozen=True)
class Times:
    """Of a call, in seconds.

    Attributes:
        settle: until the cut at most, if video does not come to its full rate.
        cut, restored: how long each lasts.
    """

    settle: float = 40.0
    cut: float = 20.0
    restored: float = 17.0


TINY = Times(1.0, 7.0, 3.0)
CASES = {"up": ("up",), "both": ("up", "down")}
HEADS = {
    "before_kbps": "before kbit/s",
    "made_up_percent": "made up %",
    "unheard_percent": "not heard %",
    "adapted_after_s": "adapted s",
    "queue_late_until_s": "100 ms in the queue until s",
    "used_percent": "link used %",
    "recovered_after_s": "recovered s",
}


@dataclass(frozen=True)
class Note:
    """How an end is at a moment: all counts since the beginning.

    Attributes:
        at: monotonic seconds, the same in all processes.
        heard, made_up: frames of 20 ms.
        video: bytes of video sent.
    """

    at: float
    heard: int
    made_up: int
    video: int


class Noting(ABC):
    """An end that notes how it is."""

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self._noting: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._noting = asyncio.ensure_future(self._note())

    async def _note(self) -> None:
        while True:
            self._notes.append(await self.now())
            await asyncio.sleep(EVERY)

    @abstractmethod
    async def now(self) -> Note:
        """How it is."""

    def notes(self) -> list[Note]:
        """What was noted since the last time."""
        notes, self._notes = self._notes, []
        return notes


class OurEnd(Noting, RelaycallEnd):
    """By relaycall."""

    def __init__(self) -> None:
        Noting.__init__(self)
        RelaycallEnd.__init__(self, *SIZE, max_bitrate=LIMIT)

    async def now(self) -> Note:
        stats = self._stats()
        heard = stats.frames_heard + stats.recovered
        return Note(time.monotonic(), heard, stats.concealed, stats.transport.video_bytes_sent)

    def told(self) -> list[tuple[float, str, str]]:
        """What happened: when, what, why."""
        assert self._call is not None
        return self._events


class TheirEnd(Noting, AiortcEnd):
    """By plain aiortc."""

    def __init__(self) -> None:
        Noting.__init__(self)
        AiortcEnd.__init__(self, *SIZE)

    async def now(self) -> Note:
        return Note(time.monotonic(), self._frames_heard, 0, await self.video_bytes())

    def told(self) -> list[tuple[float, str, str]]:
        """aiortc says nothing."""
        return []


KINDS = {"relaycall": OurEnd, "aiortc": TheirEnd}


class WatchedLink(MeteredLink):
    """A link that notes when a packet had to wait for it, and when it carried what."""

    def begin(self) -> None:
        super().begin()
        self.late: dict[str, list[float]] = {"up": [], "down": []}

    def arrival(self, direction: str, now: float, size: int) -> float | None:
        if self.fates[direction].waiting(now) > LATE:
            self.late[direction].append(time.monotonic())
        return super().arrival(direction, now, size)


@dataclass
class Course:
    """How one call went.

    Attributes:
        speaker, listener: notes of the two ends of a direction that was cut.
        cut, restored, end: monotonic seconds.
        late: when a packet waited for more than 100 ms.
        used: share of the narrow link that was used once things were steady.
        told: the speaker's events.
    """

    speaker: list[Note]
    listener: list[Note]
    cut: float
    restored: float
    end: float
    late: list[float]
    used: float
    told: list[tuple[float, str, str]]

    def figures(self) -> dict[str, float]:
        """By name; the name ends with the unit."""
        before = self.rate(self.cut - BEFORE, self.cut)
        heard, made_up = (self.grown(what, self.cut + 1, self.restored) for what in ("heard", "made_up"))
        spoken = 50 * (self.restored - self.cut - 1)
        narrow = (at - self.cut for at in self.steps(self.cut, self.restored) if self.rate(at, at + 0.5) < NARROW)
        back = (at - self.restored for at in self.steps(self.restored, self.end) if self.is_back(at, before))
        return {
            "before_kbps": before / 1000,
            "made_up_percent": 100 * made_up / spoken,
            "unheard_percent": max(0.0, 100 * (1 - heard / spoken)),
            "adapted_after_s": next(narrow, self.restored - self.cut),
            "queue_late_until_s": max((at - self.cut for at in self.late if at < self.cut + 10), default=0.0),
            "used_percent": 100 * self.used,
            "recovered_after_s": next(back, self.end - self.restored),
        }

    def steps(self, since: float, until: float) -> list[float]:
        return [since + EVERY * number for number in range(int((until - since) / EVERY) - 5)]

    def is_back(self, at: float, before: float) -> bool:
        return self.rate(at, min(at + 2.0, self.end)) >= RECOVERED * before

    def grown(self, what: str, since: float, until: float, *, of: str = "listener") -> int:
        """By how much a count has grown."""
        notes = [note for note in getattr(self, of) if since <= note.at <= until]
        return getattr(notes[-1], what) - getattr(notes[0], what) if notes else 0

    def rate(self, since: float, until: float) -> float:
        """Of video that was sent, in bit/s."""
        return 8 * self.grown("video", since, until + EVERY / 2, of="speaker") / (until - since)

    def lines(self) -> list[str]:
        """Half a second by half a second."""
        found = []
        for number in range(-4, int(2 * (self.end - self.cut)) - 1):
            at = self.cut + number / 2
            late = sum(at <= each < at + 0.5 for each in self.late)
            made_up = self.grown("made_up", at, at + 0.55)
            heard = self.grown("heard", at, at + 0.55)
            events = [f"{name} {why}" for when, name, why in self.told if at <= when < at + 0.5]
            rate = self.rate(at, at + 0.5) / 1000
            found.append(f"{number / 2:6.1f} {rate:6.0f} kbit/s {heard:3} {made_up:3} made up {late:4} late {events}")
        return found


async def call(case: str, kind: str, seed: int, relays: Sequence[Coturn], times: Times) -> list[Course]:
    """One call, by one of the libraries: a course for each direction that is cut."""
    link = WatchedLink(seed)
    good = Conditions(rate=WIDE, queue=QUEUE, delay=DELAY)
    link.imitate(Profile("cut", TITLE, good, good))
    async with AsyncExitStack() as stack:
        through = []
        for relay in relays:
            proxy = LossyProxy(relay.ip, relay.port, link=link)
            stack.push_async_callback(proxy.close)
            through.append(f"turn:127.0.0.1:{(await proxy.open())[0]}?transport=udp")
        alice, bob = [await stack.enter_async_context(Party(KINDS[kind])) for _ in range(2)]
        offer = await alice.ask("offer", through)
        answer = await bob.ask("answer", [relay.uri("udp") for relay in relays], offer)
        await asyncio.gather(alice.ask("connect", answer), bob.ask("connect", None))
        await asyncio.gather(alice.ask("begin"), bob.ask("begin"))
        notes: dict[str, list[Note]] = {"up": [], "down": []}

        async def look(seconds: float) -> float:
            await asyncio.sleep(seconds)
            for direction, end in (("up", alice), ("down", bob)):
                notes[direction] += await end.ask("notes")
            return time.monotonic()

        began = await look(1.0)
        while time.monotonic() < began + times.settle:
            await look(1.0)
            if min(_rate(notes[direction]) for direction in notes) > 0.85 * 1_020_000:
                break
        cut = await look(BEFORE)
        for direction in CASES[case]:
            link.set(direction, rate=NARROW)
        await look(STEADY_AFTER)
        steady, carried = time.monotonic(), {direction: link.sent(direction) for direction in notes}
        restored = await look(cut + times.cut - steady)
        used = {way: 8 * (link.sent(way) - carried[way]) / (restored - steady) / NARROW for way in notes}
        link.set("both", rate=WIDE)
        end = await look(times.restored)
        told = {"up": await alice.ask("told"), "down": await bob.ask("told")}
    other = {"up": "down", "down": "up"}
    return [
        Course(notes[way], notes[other[way]], cut, restored, end, link.late[way], used[way], told[way])
        for way in CASES[case]
    ]


def _rate(notes: list[Note]) -> float:
    """Of the last two seconds, in bit/s."""
    latest = [note for note in notes if note.at > notes[-1].at - 2.0]
    return 8 * (latest[-1].video - latest[0].video) / max(latest[-1].at - latest[0].at, 1.0)


async def all_calls(
    cases: Sequence[str], seeds: dict[str, int], times: Times | None = None
) -> dict[tuple[str, str], list[Course]]:
    """One after the other, the libraries in turns; so many seeds for each of them. By case and library."""
    found: dict[tuple[str, str], list[Course]] = {(case, kind): [] for case in cases for kind in seeds}
    async with AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(Coturn(ip=ip)) for ip in RELAYS]
        for seed in range(max(seeds.values())):
            for (case, kind), courses in found.items():
                if seed < seeds[kind]:
                    courses += await call(case, kind, seed, relays, times or Times())
    return found


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """Ten seeds of ours, and so many of aiortc's."""
    if tiny:
        return report(await all_calls(("up",), dict.fromkeys(KINDS, 1), TINY))
    return report(await all_calls(tuple(CASES), {"relaycall": SEEDS, "aiortc": runs}))


def report(found: dict[tuple[str, str], list[Course]]) -> Report:
    """The table."""
    table = Table(
        f"{TITLE}: from {WIDE / 1e6} Mbit/s to {NARROW // 1000} kbit/s and back",
        ["cut", "by", *HEADS.values()],
        notes=[
            "median (least–most) of the directions that were cut. before: video, in the last 3 s.",
            "made up, not heard: of the voice, from 1 s after the cut until the link is restored.",
            "used: from 5 s on. recovered: two seconds at 80 % of the rate before.",
        ],
    )
    figures = {}
    for (case, kind), courses in found.items():
        each = [course.figures() for course in courses]
        row = {name: Figure.of(one[name] for one in each) for name in HEADS}
        table.add(case, kind, *row.values())
        figures |= {f"cut_{case}_{kind}_{name}": figure for name, figure in row.items()}
    return Report([table], figures)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cut", description=TITLE)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many (default: %(default)s)")
    parser.add_argument("--show", action="store_true", help="how each call went as well")
    parser.add_argument("--only", choices=KINDS, help="by one library")
    options = parser.parse_args(arguments)
    kinds = [options.only] if options.only else list(KINDS)
    found = asyncio.run(all_calls(options.cases or tuple(CASES), dict.fromkeys(kinds, options.seeds)))
    if options.show:
        for (case, kind), courses in found.items():
            for course in courses:
                print(f"\n{case}, {kind}: {course.figures()}", *course.lines(), sep="\n")
    print("\n\n".join(str(table) for table in report(found).tables))


if __name__ == "__main__":
    main()
