"""A video call through each network profile, by relaycall and by plain aiortc: what is heard and seen of it.

    python -m tests.benchmarks.profiles --save docs/plots        # the tables, and the plots of docs/networks.md
    python -m tests.benchmarks.profiles 3g tor --seconds 20 --seeds 1

Alice is in the network of the profile and Bob is not; each is a process of its own. The network is emulated in this
process, which does nothing else meanwhile. Both libraries get the same seeds, one call after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from relaycall.quality.sample import Sample
from relaycall.testing import Fate, Link, LossyProxy, Profile, profile
from relaycall.testing.link import Direction as Way
from relaycall.testing.profiles import PROFILES
from tests.benchmarks.party import Party
from tests.benchmarks.profile_ends import FRAME_RATE, KINDS, Seen
from tests.benchmarks.profile_plots import Course, draw_course
from tests.benchmarks.report import Figure, Report, Table
from tests.coturn import Coturn
from tests.scenarios.video_lab import Tap

TITLE = "voice and video through the network profiles"
SECONDS = 60.0
SIZE = 640, 360  # pixels, of what both show; more, and the encoder is what limits on two cores
RELAYS = "127.0.0.1", "127.0.0.2"
DIRECTIONS: dict[Way, str] = {"up": "Alice to Bob", "down": "Bob to Alice"}
FRAMES_A_SECOND = 50  # of voice
CHECKS = "checks", "answers"
STEP = 0.1  # seconds, at which a rate is looked up


class MeteredLink(Link):
    """A link that notes what it carries: bytes by direction, and how long packets waited for their turn."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.begin()

    def begin(self) -> None:
        """Note from now on."""
        self.carried: Counter[str] = Counter()
        self.waits: defaultdict[str, list[float]] = defaultdict(list)
        self.counts.clear()

    def sent(self, direction: str) -> float:
        """Bytes that have left the queue."""
        now, fate = asyncio.get_running_loop().time(), self.fates[direction]
        return self.carried[direction] - fate.waiting(now) * (fate.at(now).rate or 0.0) / 8

    def arrival(self, direction: str, now: float, size: int) -> float | None:
        fate = self.fates[direction]
        full = fate.overflowed
        self.waits[direction].append(fate.waiting(now))
        due = super().arrival(direction, now, size)
        if fate.overflowed == full:
            self.carried[direction] += size
        return due


@dataclass
class Direction:
    """One direction of one call.

    Attributes:
        speaker, listener: what its ends found.
        used: the share of what the link could carry that it did carry.
        waited_ms: for the link's turn, the 95th percentile of all packets.
        lost: share of the packets.
    """

    speaker: Seen
    listener: Seen
    used: float
    waited_ms: float
    lost: float

    def figures(self) -> dict[str, float]:
        """By name; the name ends with the unit."""
        count, frozen = self.listener.frozen
        spoken = FRAMES_A_SECOND * self.listener.seconds
        found = {
            "heard_percent": 100 * min(self.listener.heard / spoken, 1.0),
            "video_kbps": statistics.median(self.speaker.video_rates or [0.0]) / 1000,
            "pictures_per_second": len(self.listener.pictures) / self.listener.seconds,
            "freezes_count": float(count),
            "frozen_s": frozen,
            "used_percent": 100 * self.used,
            "waited_ms": self.waited_ms,
            "lost_percent": 100 * self.lost,
        }
        if self.listener.samples:
            found |= _of_samples(self.speaker.samples, self.listener.samples)
            found["made_up_percent"] = 100 * self.listener.made_up / spoken
            found["changes_count"] = float(self.speaker.count("VideoAdapted"))
            found["off_s"] = float(sum(not one.video_sent for one in self.speaker.samples))
        return found


def _of_samples(speaker: Sequence[Sample], listener: Sequence[Sample]) -> dict[str, float]:
    median = statistics.median
    return {
        "mos": median(one.score for one in listener),
        "rtt_ms": median([one.rtt_ms for one in listener if one.rtt_ms is not None] or [0.0]),
        "rows": float(median(one.video_received for one in listener)),
        "frame_rate": median(one.frame_rate_received for one in listener),
        "playout_ms": median(one.playout_delay_ms for one in listener),
        "available_kbps": median([one.available for one in speaker if one.available is not None] or [0]) / 1000,
    }


@dataclass
class Call:
    """One call.

    Attributes:
        directions: "up" is from Alice to Bob.
        sizes: bytes on the link that Alice sent, by kind and whole second of the call.
        late_ms: by which the emulator was late, the 95th percentile of packets.
    """

    directions: dict[Way, Direction]
    sizes: dict[str, dict[int, int]]
    late_ms: float

    @property
    def check_share(self) -> float:
        """Of the bytes that Alice sent, those of checks and their answers."""
        totals = {kind: sum(sizes.values()) for kind, sizes in self.sizes.items()}
        return sum(totals.get(kind, 0) for kind in CHECKS) / max(sum(totals.values()), 1)

    @property
    def checks_most(self) -> float:
        """Bit/s of them in the worst second."""
        seconds = {second for kind in CHECKS for second in self.sizes.get(kind, {})}
        return max((8.0 * sum(self.sizes.get(kind, {}).get(at, 0) for kind in CHECKS) for at in seconds), default=0.0)


def capacity(network: Profile, direction: Way, seconds: float) -> list[tuple[float, float]]:
    """What the link can carry, in bit/s, at times from 0 on; infinity where it has no limit."""
    fate = Fate(0)
    fate.conditions = getattr(network, direction)
    fate.run(getattr(network, f"{direction}_schedule"), 0.0)
    times = [STEP * number for number in range(round(seconds / STEP) + 1)]
    return [(at, fate.at(at + 1e-9).rate or float("inf")) for at in times]


async def call_through(name: str, kind: str, seed: int, relays: Sequence[Coturn], seconds: float) -> Call:
    """One call through this network, by one of the libraries."""
    network, link, tap = profile(name), MeteredLink(seed), Tap()
    async with AsyncExitStack() as stack:
        through, proxies = [], []
        for relay in relays:
            proxy = LossyProxy(relay.ip, relay.port, link=link)
            proxy.on_packet = tap
            stack.push_async_callback(proxy.close)
            through.append(f"turn:127.0.0.1:{(await proxy.open())[0]}?transport=udp")
            proxies.append(proxy)
        link.imitate(network)
        alice, bob = [await stack.enter_async_context(Party(KINDS[kind], *SIZE)) for _ in range(2)]
        offer = await alice.ask("offer", through)
        answer = await bob.ask("answer", [relay.uri("udp") for relay in relays], offer)
        await asyncio.gather(alice.ask("connect", answer), bob.ask("connect", None))
        link.imitate(network)
        link.begin()
        began = time.monotonic()
        await asyncio.gather(alice.ask("begin"), bob.ask("begin"))
        await asyncio.sleep(seconds - (time.monotonic() - began))
        hers, his = await asyncio.gather(alice.ask("finish"), bob.ask("finish"))
        ends: dict[Way, tuple[Seen, Seen]] = {"up": (hers, his), "down": (his, hers)}
        directions = {way: _direction(link, network, way, *both) for way, both in ends.items()}
        late = [late for proxy in proxies for late in proxy.lateness()]
    within = range(int(began) + 1, int(began + seconds))
    sizes = {kind: {at - within.start: sizes[at] for at in within} for kind, sizes in tap.sizes.items()}
    return Call(directions, sizes, _percentile(late))


def _direction(link: MeteredLink, network: Profile, direction: Way, speaker: Seen, listener: Seen) -> Direction:
    could = statistics.mean(rate for _, rate in capacity(network, direction, speaker.seconds))
    return Direction(
        speaker,
        listener,
        8 * link.sent(direction) / could / speaker.seconds,
        1000 * _percentile(link.waits[direction]),
        link.lost(direction),
    )


def _percentile(values: Iterable[float], share: float = 0.95) -> float:
    ordered = sorted(values)
    return ordered[int(share * (len(ordered) - 1))] if ordered else 0.0


# --- what is told -----------------------------------------------------------------------------------------------------

Calls = dict[str, dict[str, list[Call]]]  # by network and library, one for each seed


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """So many seeds for each network and library."""
    names, seconds = (("congested",), 4.0) if tiny else (tuple(PROFILES), SECONDS)
    return report(await all_calls(names, range(1, 2 if tiny else runs + 1), seconds), seconds)


async def all_calls(names: Sequence[str], seeds: Sequence[int], seconds: float) -> Calls:
    """One after the other, the libraries and the networks in turns."""
    calls: Calls = {name: {kind: [] for kind in KINDS} for name in names}
    async with AsyncExitStack() as stack:
        relays = [await stack.enter_async_context(Coturn(ip=ip)) for ip in RELAYS]
        for seed in seeds:
            for name, by_kind in calls.items():
                for kind, found in by_kind.items():
                    found.append(await call_through(name, kind, seed, relays, seconds))
    return calls


def report(calls: Calls, seconds: float) -> Report:
    """The tables."""
    found = Report()
    for name, by_kind in calls.items():
        for kind, made in by_kind.items():
            for direction in DIRECTIONS:
                each = [call.directions[direction].figures() for call in made]
                for figure in each[0]:
                    found.figures[_key(name, direction, kind, figure)] = Figure.of(one[figure] for one in each)
        ours = by_kind["relaycall"]
        for figure, values in _of_paths(ours).items():
            found.figures[_key(name, "both", "relaycall", figure)] = Figure.of(values)
    found.tables += [_voice(found, calls, seconds), _video(found, calls), _paths(found, calls)]
    return found


def _of_paths(calls: Sequence[Call]) -> dict[str, list[float]]:
    """What became of the paths, at both ends together."""

    def events(name: str) -> list[float]:
        return [float(sum(one.speaker.count(name) for one in call.directions.values())) for call in calls]

    return {
        "moves_count": events("RelayChanged"),
        "doubts_count": events("RelaySuspected"),
        "unheard_count": events("PeerUnheard"),
        "checks_percent": [100 * call.check_share for call in calls],
        "checks_most_kbps": [call.checks_most / 1000 for call in calls],
    }


def _key(name: str, direction: str, kind: str, figure: str) -> str:
    return f"profiles_{name.replace('-', '_')}_{direction}_{kind}_{figure}"


def _table(found: Report, calls: Calls, title: str, columns: Sequence[tuple[str, str, str]]) -> Table:
    """A row for each network and direction; a column is a heading, a library and a figure."""
    table = Table(title, ["", *(heading for heading, _, _ in columns)])
    for name in calls:
        for direction in DIRECTIONS:
            table.add(
                f"{name}, {direction}",
                *(found.figures[_key(name, direction, kind, figure)] for _, kind, figure in columns),
            )
    return table


def _voice(found: Report, calls: Calls, seconds: float) -> Table:
    table = _table(
        found,
        calls,
        "The voice of a video call through the network profiles",
        (
            ("heard %, aiortc", "aiortc", "heard_percent"),
            ("relaycall", "relaycall", "heard_percent"),
            ("made up %", "relaycall", "made_up_percent"),
            ("MOS", "relaycall", "mos"),
            ("round trip ms", "relaycall", "rtt_ms"),
            ("held back ms", "relaycall", "playout_ms"),
            ("lost %, aiortc", "aiortc", "lost_percent"),
            ("relaycall", "relaycall", "lost_percent"),
            ("waited ms, aiortc", "aiortc", "waited_ms"),
            ("relaycall", "relaycall", "waited_ms"),
        ),
    )
    late = [call.late_ms for by_kind in calls.values() for made in by_kind.values() for call in made]
    table.notes += [
        f"Alice is in the network, Bob is not; up is from her to him. {seconds:.0f} s each, median (least–most).",
        "heard: of the frames that the other end spoke, those decoded or restored; aiortc's however late they are.",
        "lost: of all packets on the link, those that found its queue full as well. waited: p95, for their turn.",
        f"The emulator was late by {Figure.of(late)} ms (p95 of a call's packets).",
    ]
    return table


def _video(found: Report, calls: Calls) -> Table:
    table = _table(
        found,
        calls,
        f"Its video, {SIZE[0]} x {SIZE[1]} and {FRAME_RATE} a second at the source",
        (
            ("kbit/s, aiortc", "aiortc", "video_kbps"),
            ("relaycall", "relaycall", "video_kbps"),
            ("rows", "relaycall", "rows"),
            ("pictures/s, aiortc", "aiortc", "pictures_per_second"),
            ("relaycall", "relaycall", "pictures_per_second"),
            ("freezes, aiortc", "aiortc", "freezes_count"),
            ("relaycall", "relaycall", "freezes_count"),
            ("frozen s, aiortc", "aiortc", "frozen_s"),
            ("relaycall", "relaycall", "frozen_s"),
            ("link used %, aiortc", "aiortc", "used_percent"),
            ("relaycall", "relaycall", "used_percent"),
            ("changes", "relaycall", "changes_count"),
        ),
    )
    cpu = {
        kind: Figure.of(
            one.speaker.cpu for by in calls.values() for call in by[kind] for one in call.directions.values()
        )
        for kind in KINDS
    }
    table.notes += [
        "kbit/s: the median second. A freeze is half a second or more without a new picture. changes: of the rung.",
        f"CPU of an end, in cores: relaycall {cpu['relaycall']}, aiortc {cpu['aiortc']}.",
    ]
    return table


def _paths(found: Report, calls: Calls) -> Table:
    columns = {
        "moves": "moves_count",
        "doubts": "doubts_count",
        "unheard": "unheard_count",
        "checks, % of bytes": "checks_percent",
        "in the worst second, kbit/s": "checks_most_kbps",
    }
    table = Table("Its paths: two relays at each end, all of them behind Alice's link", ["", *columns])
    for name in calls:
        table.add(name, *(found.figures[_key(name, "both", "relaycall", figure)] for figure in columns.values()))
    table.notes += [
        "Both ends together. checks: sent by Alice, with her answers to Bob's. No move can help here: the link is one."
    ]
    return table


def save(calls: Calls, seconds: float, folder: Path) -> None:
    """A plot for each network: what Alice sent, in the first call."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, by_kind in calls.items():
        up = by_kind["relaycall"][0].directions["up"]
        link = capacity(profile(name), "up", seconds)
        course = Course(f"{name}: {DIRECTIONS['up']}", seconds, link, up.speaker.samples, up.listener.samples)
        (folder / f"{name}.svg").write_text(draw_course(course))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and save what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.profiles", description=TITLE)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PROFILES)}; default: all")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each call (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--save", type=Path, metavar="DIR", help="write a plot for each network to DIR")
    options = parser.parse_args(arguments)
    names = [profile(name).name for name in options.names or PROFILES]
    calls = asyncio.run(all_calls(names, range(1, options.seeds + 1), options.seconds))
    print("\n\n".join(str(table) for table in report(calls, options.seconds).tables))
    if options.save is not None:
        save(calls, options.seconds, options.save)


if __name__ == "__main__":
    main()
