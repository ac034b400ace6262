"""How long a phone call takes to be up, by the distance to relays and signaling; and what an open phone costs.

Two phones in two processes. Each has a relay of its own, and a proxy that delays what passes between it and that relay;
between both and the signaling server there is another such proxy. Between the relays there is no delay.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from relaycall.testing.lossy import Send
from tests.benchmarks.delay_proxy import HOST, DelayProxy
from tests.benchmarks.party import Party
from tests.benchmarks.phone_end import PhoneEnd
from tests.benchmarks.report import Figure, Report, Table
from tests.benchmarks.signaling import Ours
from tests.coturn import Coturn

TITLE = "a phone call: until it is up, and what an open phone costs"
ROUND_TRIPS = 0, 50, 150  # ms, client to relay and back, and client to signaling server and back
WARM_RUNS = 5  # times as many: a warm call is quick
UP_TARGET = 2.5, 2.0, 60.0  # round trips to the relay, to the signaling server, and ms
HEARD_TARGET = 2.5, 250.0  # round trips, and ms
IMPORT_TARGET, IMPORTS = 150.0, 5  # ms; times as many runs
IDLE_SECONDS, IDLE_ROUND_TRIP = 60.0, 50
COUNTERS = 50

_IMPORT = """
import time
import aiortc
own = time.perf_counter(), time.process_time()
from relaycall import Phone
print(*((after - before) * 1000 for before, after in zip(own, (time.perf_counter(), time.process_time()))))
"""


class CountingProxy(DelayProxy):
    """Counts the bytes that it delays."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self._bytes = 0

    def bytes_passed(self) -> int:
        """Both ways, since this was last asked. What is not delayed is not counted."""
        passed, self._bytes = self._bytes, 0
        return passed

    def _at(self, due: float, send: Send, data: bytes) -> None:
        self._bytes += len(data)
        super()._at(due, send, data)


class Took(NamedTuple):
    """Milliseconds of one call: from `phone.call` to paths and both connected, from accept to what each side hears."""

    path: float
    up: float
    heard_by_callee: float
    heard_by_caller: float


class Scene:
    """Two phones, and what is between them."""

    def __init__(self, ends: tuple[Party, Party], proxies: list[Party], urls: list[str], signaling: str) -> None:
        self.ends = ends
        self.proxies = proxies  # before the two relays and before signaling
        self._urls = urls
        self._signaling = signaling
        self._folder = tempfile.TemporaryDirectory(prefix="relaycall-bench-")
        self._phones = 0

    async def __aenter__(self) -> Scene:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._folder.cleanup()

    async def distance(self, round_trip: float) -> None:
        """From now on, in ms."""
        for proxy in self.proxies:
            await proxy.ask("set_delay", round_trip / 2000)

    async def open(self, *, prewarm: bool = True, vault: bool = False) -> None:
        """New phones that have each other's card."""
        cards = []
        for name, end, url in zip(("alice", "bob"), self.ends, self._urls, strict=True):
            self._phones += 1
            path = str(Path(self._folder.name) / str(self._phones) / "vault") if vault else None
            cards.append(await end.ask("open", name, self._signaling, url, prewarm, path))
        for end, card in zip(self.ends, reversed(cards), strict=True):
            await end.ask("add", card)

    async def call(self, *, warm: bool = True) -> Took:
        """One call, hung up again."""
        caller, callee = self.ends
        if warm:
            await asyncio.gather(*(end.ask("warm") for end in self.ends))
        await caller.ask("call", "bob")
        ours, theirs = await asyncio.gather(caller.ask("up"), callee.ask("up"))
        placed, accepted = ours[0], theirs[0]
        path, up = (max(pair) for pair in zip(ours[1:3], theirs[1:3], strict=True))
        await asyncio.gather(*(end.ask("hang_up") for end in self.ends))
        took = path - placed, up - placed, theirs[3] - accepted, ours[3] - accepted
        return Took(*(seconds * 1000 for seconds in took))

    async def shut(self) -> None:
        """Close the phones."""
        await asyncio.gather(*(end.ask("shut") for end in self.ends))


async def measure(runs: int, *, tiny: bool = False) -> Report:
    """Calls, warm and cold; then an idle phone; then what importing takes."""
    round_trips = (0, 50) if tiny else ROUND_TRIPS
    report = Report()
    taken: dict[tuple[str, int], list[Took]] = {}
    counters: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        scene = await _scene(stack)
        await _warm_calls(scene, 1, False)  # imports, caches
        for round_trip in round_trips:
            await scene.distance(round_trip)
            for store, vault in (("memory", False), ("vault", True)):
                found, counter = await _warm_calls(scene, runs * WARM_RUNS, vault)
                taken[f"warm, keys in {'a vault' if vault else 'memory'}", round_trip] = found
                counters.setdefault(store, []).append(counter)
            taken["cold", round_trip] = [await _cold_call(scene) for _ in range(runs)]
        _report_calls(report, taken, counters)
        await scene.distance(IDLE_ROUND_TRIP)
        await _report_idle(report, scene, 1.0 if tiny else IDLE_SECONDS)
    await _report_imports(report, 1 if tiny else runs * IMPORTS)
    return report


async def _scene(stack: AsyncExitStack) -> Scene:
    relays = [
        await stack.enter_async_context(Coturn(ip=HOST, min_port=low, max_port=low + 4999)) for low in (20000, 25000)
    ]
    server = await stack.enter_async_context(Party(Ours))
    targets = [(relay.ip, relay.port) for relay in relays] + [(HOST, await server.ask("start"))]
    proxies = [await stack.enter_async_context(Party(CountingProxy, *target)) for target in targets]
    ports = [await proxy.ask("open") for proxy in proxies]
    ends = [await stack.enter_async_context(Party(PhoneEnd)) for _ in range(2)]
    urls = [f"turn:{HOST}:{udp}?transport=udp" for udp, _ in ports[:2]]
    scene = Scene((ends[0], ends[1]), proxies, urls, f"ws://{HOST}:{ports[2][1]}")
    return await stack.enter_async_context(scene)


async def _warm_calls(scene: Scene, count: int, vault: bool) -> tuple[list[Took], float]:
    """Calls one after the other, without the first one; and what a counter takes to be kept, in ms."""
    await scene.open(vault=vault)
    await scene.call()
    taken = [await scene.call() for _ in range(count)]
    counter = await scene.ends[0].ask("counters", "bob", COUNTERS)
    await scene.shut()
    return taken, counter


async def _cold_call(scene: Scene) -> Took:
    """The first call ever between the two, with no relay allocated before."""
    await scene.open(prewarm=False)
    took = await scene.call(warm=False)
    await scene.shut()
    return took


def _report_calls(report: Report, taken: dict[tuple[str, int], list[Took]], counters: dict[str, list[float]]) -> None:
    table = Table(
        "Until a call is up, in ms, median (least–most)",
        ["", "R", "path", "up", "target", "accept to heard by callee", "by caller", "target"],
    )
    relay, signaling, up_ms = UP_TARGET
    heard_relay, heard_ms = HEARD_TARGET
    for (kind, round_trip), calls in sorted(taken.items(), key=lambda entry: entry[0]):
        path, up, callee, caller = (Figure.of(values) for values in zip(*calls, strict=True))
        up_limit = (relay + signaling) * round_trip + up_ms
        heard_limit = heard_relay * round_trip + heard_ms
        judged = f"{up_limit:.0f}: {_verdict(up.median <= up_limit)}" if kind != "cold" else ""
        heard = f"{heard_limit:.0f}: {_verdict(max(callee.median, caller.median) <= heard_limit)}"
        table.add(kind, f"{round_trip} ms", path, up, judged, callee, caller, heard)
        key = f"phone_{kind.split()[-1]}_rtt{round_trip}"
        report.figures[f"{key}_path_ms"] = path
        report.figures[f"{key}_up_ms"] = up
        report.figures[f"{key}_callee_hears_ms"] = callee
        report.figures[f"{key}_caller_hears_ms"] = caller
    for store, values in counters.items():
        report.figures[f"phone_counter_{store}_ms"] = Figure.of(values)
    table.notes += [
        "R: round trip between a phone and its relay, and as much between it and the signaling server. The callee",
        "accepts at once. From phone.call, path: until both sides have one; up: until connected() has returned on",
        "both, which is when they have heard each other. heard: the first sound at the sink that is not silence.",
        "warm: relays allocated, prekeys known. cold: prewarm=False, and the first call between the two, which begins",
        "with an introduction.",
        f"target: up {relay} R + {signaling} signaling round trips + {up_ms:.0f} ms; heard {heard_relay} R + "
        f"{heard_ms:.0f} ms.",
        "To keep a counter, once for each message on each side, takes "
        + ", ".join(f"{Figure.of(values)} ms in {store}" for store, values in counters.items())
        + ".",
    ]
    report.tables.append(table)


async def _report_idle(report: Report, scene: Scene, seconds: float) -> None:
    for proxy in scene.proxies:
        await proxy.ask("bytes_passed")
    await scene.open()
    alice = scene.ends[0]
    await asyncio.gather(*(end.ask("warm") for end in scene.ends))
    opening = await scene.proxies[0].ask("bytes_passed")
    await scene.proxies[2].ask("bytes_passed")
    cpu, wall = await alice.ask("idle", seconds)
    relay, signaling = [await scene.proxies[index].ask("bytes_passed") for index in (0, 2)]
    await scene.shut()
    table = Table(f"An open phone that does nothing, over {wall:.0f} s", ["", "each minute"])
    for name, what, value in (
        ("cpu_s", "CPU s", cpu),
        ("relay_bytes", "bytes to and from its relay", relay),
        ("signaling_bytes", "bytes to and from the signaling server", signaling / 2),  # both phones
    ):
        figure = report.figures[f"phone_idle_{name}_per_minute"] = Figure.of([value / wall * 60])
        table.add(what, figure)
    report.figures["phone_measurement_bytes"] = Figure.of([float(opening)])
    table.notes += [
        f"Without IP and UDP or TCP headers. To measure the relay and to allocate took {opening} bytes; it is measured",
        "every five minutes, and refreshed about as often.",
    ]
    report.tables.append(table)


async def _report_imports(report: Report, runs: int) -> None:
    wall, cpu = [], []
    for _ in range(runs):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _IMPORT, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        out, _ = await process.communicate()
        one, other = map(float, out.split())
        wall.append(one)
        cpu.append(other)
    table = Table("from relaycall import Phone, after import aiortc, in ms, median (least–most)", ["", "ms", "target"])
    figure = report.figures["phone_import_ms"] = Figure.of(wall)
    table.add("wall", figure, f"{IMPORT_TARGET:.0f}: {_verdict(figure.median <= IMPORT_TARGET)}")
    report.figures["phone_import_cpu_ms"] = Figure.of(cpu)
    table.add("CPU", Figure.of(cpu), "")
    report.tables.append(table)


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"
