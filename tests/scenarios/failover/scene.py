"""Two parties, three relays, and what is done to them.

    async with scene(tmp_path) as call:
        await call.connect("udp")
        died = await call.strike("alice", "kill")
        await call.flowing(within=2)
        assert all(gap["lost"] <= 5 for gap in await call.gaps(died))

The records are exchanged once, from here; after that the parties have nothing but their relays. Every party is a
process of its own, and every relay a coturn with an address of its own.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.certificates import Authority
from tests.coturn import Coturn
from tests.scenarios.programs import Program

NAMES = "alice", "bob"
OTHER = {"alice": "bob", "bob": "alice"}
RELAYS = 3
ASK_TIMEOUT = 30.0  # seconds; a command takes less, even if a call fails
POLL = 0.05  # seconds
NEW_PACKETS = 25  # half a second of sound
PATH_EVENTS = "PathSelected", "RelayChanged", "PathLost", "RelayLost", "RelayGone"

Entry = list[str]  # a relay for a party: URI, user name, password


class End(Program):
    """A party."""

    def __init__(self, ca_file: Path | None = None, prefix: Sequence[str] = ()) -> None:
        super().__init__("failover.party", {"ca_file": str(ca_file)} if ca_file else {}, prefix)
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> End:
        await super().__aenter__()
        return self

    async def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for the answer; one that tells of an error fails the test."""
        answer = await self.attempt(do, **arguments)
        assert "error" not in answer, f"{do}: {answer}"
        return answer

    async def attempt(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for the answer."""
        async with self._asking, asyncio.timeout(ASK_TIMEOUT):
            return await super().ask(do, **arguments)

    def suspend(self) -> None:
        """SIGSTOP, as if the machine slept."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


class Scene:
    """A call between two ends.

    Attributes:
        ends: "alice", who places the calls, and "bob".
        relays: the coturns; dead ones are None in no place: they can be started again.
    """

    def __init__(self, ends: dict[str, End], relays: list[Coturn]) -> None:
        self.ends = ends
        self.relays = relays
        self._by_uri: dict[str, Coturn] = {}

    def entry(self, relay: Coturn, transport: str = "udp", *, port: int | None = None) -> Entry:
        """A relay as a party is told of it; `port`: of a proxy in front of it."""
        uri = f"turn:127.0.0.1:{port}?transport={transport}" if port else relay.uri(transport)
        self._by_uri[uri] = relay
        return [uri, relay.username, relay.password]

    def entries(self, transport: str, order: Sequence[int]) -> list[Entry]:
        """Relays by their numbers."""
        return [self.entry(self.relays[number], transport) for number in order]

    async def prepare(
        self,
        transport: str = "udp",
        *,
        alice: Sequence[int] = (0, 1, 2),
        bob: Sequence[int] = (1, 2, 0),
        entries: dict[str, list[Entry]] | None = None,
        protect: bool | None = None,
    ) -> dict[str, str]:
        """Allocate on both sides. Returns the records.

        Args:
            transport: "udp", "tcp" or "tls".
            alice, bob: the relays of each, by number.
            entries: the relays of each, as `entry` gives them, instead.
            protect: given to `MediaCall` if it is not None.
        """
        relays = entries or {name: self.entries(transport, order) for name, order in (("alice", alice), ("bob", bob))}
        options = {} if protect is None else {"protect": protect}
        answers = await self._ask_both(
            "prepare", lambda name: {"relays": relays[name], "caller": name == "alice", **options}
        )
        return {name: answer["record"] for name, answer in answers.items()}

    async def exchange(self, records: dict[str, str], timeout: float = 5.0) -> float:
        """Connect each to the other's record. Returns the seconds until both were."""
        start = time.monotonic()
        await self._ask_both("connect", lambda name: {"record": records[OTHER[name]], "timeout": timeout})
        return time.monotonic() - start

    async def connect(self, transport: str = "udp", **options: Any) -> None:
        """`prepare`, `exchange`, and a first half second of sound."""
        await self.exchange(await self.prepare(transport, **options))
        await self.flowing()

    # --- looking ------------------------------------------------------------------------------------------------------

    async def facts(self) -> dict[str, dict[str, Any]]:
        """What each party knows; see `do_facts`."""
        return await self._ask_both("facts")

    async def flowing(self, within: float = 5.0) -> float:
        """Wait until each hears half a second of new packets. Returns the seconds it took."""
        start = time.monotonic()
        before = {name: facts["arrived"] for name, facts in (await self.facts()).items()}
        await self._until(
            lambda name, facts: facts["arrived"] - before[name] >= NEW_PACKETS,
            within + NEW_PACKETS * 0.02,
            f"{NEW_PACKETS} new packets after {before}",
        )
        return time.monotonic() - start

    async def left(self, relay: Coturn, within: float) -> None:
        """Wait until neither side's selected path begins at that relay."""
        await self._until(lambda name, facts: self._by_uri.get(facts["relay"]) is not relay, within, "left the relay")

    async def well(self, relay: Coturn, within: float) -> None:
        """Wait until each side has a path over that relay that is well."""

        def is_well(_: str, facts: dict[str, Any]) -> bool:
            return any(self._by_uri[uri] is relay and healthy for uri, _, healthy in facts["paths"])

        await self._until(is_well, within, "a path over the relay")

    async def gaps(self, since: float) -> dict[str, dict[str, Any]]:
        """What an event did at each side; see `do_gap`."""
        return await self._ask_both("gap", lambda _: {"since": since})

    async def ended(self, within: float) -> dict[str, dict[str, Any]]:
        """Wait until the call has ended at each by itself. Returns how: `at` and `reason`."""
        found = await self._until(lambda _, facts: facts["ended"] is not None, within, "ended")
        return {name: facts["ended"] for name, facts in found.items()}

    async def event(self, name: str, kind: str, within: float) -> dict[str, Any]:
        """Wait for an event at one side."""
        until = time.monotonic() + within
        while True:
            events: list[dict[str, Any]] = (await self.ends[name].ask("facts"))["events"]
            for event in events:
                if event["name"] == kind:
                    return event
            assert time.monotonic() < until, f"no {kind} at {name} within {within} s: {events}"
            await asyncio.sleep(POLL)

    async def moves(self, since: float) -> list[tuple[str, dict[str, Any]]]:
        """The events that tell of another path, at either side, since then."""
        found = await self.facts()
        return [
            (name, event)
            for name, facts in found.items()
            for event in facts["events"]
            if event["name"] in PATH_EVENTS and event["at"] >= since
        ]

    async def traffic(self) -> dict[str, int]:
        """Bytes both have handed to their relays: "checks", and "all"."""
        answers = (await self._ask_both("traffic")).values()
        return {kind: sum(answer[kind] for answer in answers) for kind in ("checks", "all")}

    async def relay_in_use(self, name: str) -> Coturn:
        """The relay of that side in the selected path."""
        facts = await self.ends[name].ask("facts")
        assert facts["relay"] is not None, facts
        return self._by_uri[facts["relay"]]

    # --- doing --------------------------------------------------------------------------------------------------------

    async def strike(self, name: str, how: str, phase: float = 0.0) -> tuple[Coturn, float]:
        """After `phase` seconds "kill" or "freeze" the relay in use at one side. Returns it, and when."""
        relay = await self.relay_in_use(name)
        await asyncio.sleep(phase)
        at = time.monotonic()
        self.end(relay, how)
        return relay, at

    def end(self, relay: Coturn, how: str) -> None:
        """ "kill" or "freeze" a relay, used or not."""
        relay.kill() if how == "kill" else relay.freeze()

    async def talk(self, least: float, chance: random.Random | None = None, spread: float = 0.0) -> None:
        """Let them talk for so many seconds, and up to `spread` more by chance."""
        await asyncio.sleep(least + (chance.random() * spread if chance is not None else 0.0))

    async def close(self) -> None:
        """Close both calls, in less than two seconds."""
        answers = await self._ask_both("close")
        assert all(answer["seconds"] < 2 for answer in answers.values()), answers

    async def _until(
        self, condition: Callable[[str, dict[str, Any]], bool], within: float, what: str
    ) -> dict[str, dict[str, Any]]:
        """Wait until it holds for each name and its facts. Returns the facts."""
        until = time.monotonic() + within
        while True:
            found = await self.facts()
            if all(condition(name, facts) for name, facts in found.items()):
                return found
            assert time.monotonic() < until, f"{what}: not within {within} s: {found}"
            await asyncio.sleep(POLL)

    async def _ask_both(self, do: str, arguments: Any = lambda _: {}) -> dict[str, dict[str, Any]]:
        asked = {name: asyncio.ensure_future(end.ask(do, **arguments(name))) for name, end in self.ends.items()}
        try:
            await asyncio.gather(*asked.values())
        finally:  # if one failed, the other must not be left reading
            for task in asked.values():
                task.cancel()
            await asyncio.wait(asked.values())
        return {name: task.result() for name, task in asked.items()}


@asynccontextmanager
async def scene(folder: Path, *, relays: int = RELAYS) -> AsyncIterator[Scene]:
    """Two parties and so many coturns (UDP, TCP and TLS each) on loopback, not yet in a call."""
    authority = Authority(folder)
    async with AsyncExitStack() as stack:
        coturns = []
        for number in range(relays):
            ip = f"127.0.1.{number + 1}"  # a relay is known by its address
            leaf = authority.leaf(ip)
            coturns.append(await stack.enter_async_context(Coturn(ip=ip, cert=leaf.cert, key=leaf.key)))
        ends = {name: await stack.enter_async_context(End(authority.ca_file)) for name in NAMES}
        yield Scene(ends, coturns)
