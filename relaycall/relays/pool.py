"""A primary and a backup relay, kept allocated: measured, replaced when they die, renewed before credentials expire.

    async with RelayPool(relays) as pool:
        allocations = pool.take()  # the caller's now; the pool makes new ones

One task does all of it. What replaces an allocation is there before the old one is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Literal

from relaycall.errors import ConfigError, NoRelay, RelaycallError, RelayError
from relaycall.ice.allocation import Allocation, allocate
from relaycall.relays.credentials import CredentialsSource, RelayCredentials
from relaycall.relays.probe import probe
from relaycall.relays.probe_result import ProbeResult, Verdict
from relaycall.relays.ranking import Ranking, Selection, rank
from relaycall.relays.selecting import GRACE
from relaycall.relays.server import RelayServer

logger = logging.getLogger(__name__)

INTERVAL = 300.0  # seconds between measurements
RENEW_AFTER = 0.8  # of the time that credentials hold
FIRST_RETRY, LAST_RETRY = 1.0, 30.0  # seconds, doubled each time


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """What happened in a pool.

    Attributes:
        kind: "allocated": a relay was; "renewed": again, with fresh credentials; "lost": an allocation; "failed":
            something could not be had, and is tried again.
        relay: its name; None if it is about none in particular.
        error: why, for the last two.
    """

    kind: Literal["allocated", "renewed", "lost", "failed"]
    relay: str | None = None
    error: RelaycallError | None = None


class RelayPool:
    """Keeps allocations on the best relay and on a backup. An asynchronous context manager.

    On entering it measures the relays and allocates on the best two. When the best one dies, the backup is the best one
    at once, and another backup is looked for.

    Args:
        relays: the relays to choose from.
        credentials: gives user name and password for those relays that have none.
        interval: seconds between measurements.
        laboratory: accept relayed addresses that are not public.
        on_event: called with each `PoolEvent`.

    Raises:
        ConfigError: there are no relays.
        NoRelay: on entering, if none is usable; it holds the reason for each.
        RelaycallError: on entering, what the source of credentials raises.
    """

    def __init__(
        self,
        relays: Sequence[RelayServer],
        *,
        credentials: CredentialsSource | None = None,
        interval: float = INTERVAL,
        laboratory: bool = False,
        on_event: Callable[[PoolEvent], None] | None = None,
    ) -> None:
        if not relays:
            raise ConfigError("No relay is configured.", "Give at least one relay.")
        self._relays = tuple(relays)
        self._source = credentials
        self._interval = interval
        self._laboratory = laboratory
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._ranking = Ranking()
        self._credentials: RelayCredentials | None = None
        self._results: Sequence[ProbeResult] = ()
        self._plan: Selection | None = None
        self._held: dict[RelayServer, Allocation] = {}
        self._failures: list[RelayError] = []
        self._renew_at = self._measure_at = self._retry_at = float("inf")
        self._retry = FIRST_RETRY
        self._wake = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<RelayPool of {len(self._relays)} relays, {len(self._held)} allocated>"

    @property
    def allocations(self) -> list[Allocation]:
        """What is allocated now, the best first: two, or fewer while something is being replaced."""
        plan = self._plan
        wanted = [] if plan is None else [plan.primary, *([plan.backup] if plan.backup else [])]
        return [self._held[server] for server in wanted if server in self._held]

    @property
    def selection(self) -> Selection | None:
        """What is chosen at the moment."""
        return self._plan

    def take(self) -> list[Allocation]:
        """Take the allocations out, the best first: whoever takes them closes them. The pool makes new ones."""
        taken = self.allocations
        for allocation in taken:
            allocation.on_lost = None
        self._held = {server: kept for server, kept in self._held.items() if kept not in taken}
        self._wake.set()
        return taken

    async def __aenter__(self) -> RelayPool:
        try:
            await self._renew()
            await self._measure()
            await self._fill()
            if not self._held:
                raise NoRelay(self._failures)
        except BaseException:
            await self.close()
            raise
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Delete the allocations, within 1.2 seconds whatever the relays do. May be called twice."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        for allocation in self._held.values():
            self._give_up(allocation)
        self._held.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    # --- the one task -------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            at = min(self._renew_at, self._measure_at, self._retry_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(at):
                    await self._wake.wait()
            self._wake.clear()
            now = self._loop.time()
            try:
                if now >= self._renew_at:
                    await self._renew()
                if now >= min(self._measure_at, self._retry_at):
                    await self._measure()
                await self._fill()
            except RelaycallError as error:
                self._tell(PoolEvent("failed", None, error))
                self._try_again()

    async def _renew(self) -> None:
        """Ask for credentials, and replace each allocation that was made with older ones."""
        if self._source is None:
            return
        self._renew_at = self._loop.time() + LAST_RETRY  # if it fails
        self._credentials = await self._source.credentials()
        expires_at = self._credentials.expires_at
        left = float("inf") if expires_at is None else expires_at - time.time()
        self._renew_at = self._loop.time() + max(RENEW_AFTER * left, FIRST_RETRY)
        older = [server for server in self._held if server.username is None]
        await asyncio.gather(*(self._hold(server, "renewed") for server in older))

    async def _measure(self) -> None:
        """Probe, and choose. Raises NoRelay; what is allocated stays then."""
        self._measure_at = self._loop.time() + self._interval
        likely = self._ranking.worth_probing(self._relays)
        results = await self._probe(likely)
        if len(likely) < len(self._relays) and not any(result.usable for result in results):
            results = await self._probe(self._relays)
        self._plan = self._ranking.update(results, self._loop.time())
        self._results = self._plan.table

    async def _probe(self, servers: Sequence[RelayServer]) -> list[ProbeResult]:
        known = {result.server: result for result in self._results}
        plain = {self._dialled(server): server for server in servers}
        found = await probe(list(plain), grace=GRACE, laboratory=self._laboratory)
        results = [replace(result, server=plain[result.server]) for result in found]
        # Where a user may have one allocation only, ours is in the way of the probe, and proves the relay good.
        return [
            known.get(result.server, result)
            if result.verdict is Verdict.QUOTA and result.server in self._held
            else result
            for result in results
        ]

    async def _fill(self) -> None:
        """Allocate on the chosen relays, and then give up the others. One that fails is banned, and another chosen."""
        tried: set[RelayServer] = set()
        while missing := [server for server in self._missing() if server not in tried]:
            tried.update(missing)
            await asyncio.gather(*(self._hold(server, "allocated") for server in missing))
            if self._missing():
                self._choose()
        if self._missing():
            self._try_again()
            return
        self._retry, self._retry_at = FIRST_RETRY, float("inf")
        chosen = self.allocations
        for server, allocation in list(self._held.items()):
            if allocation not in chosen:
                del self._held[server]
                self._give_up(allocation)

    async def _hold(self, server: RelayServer, kind: Literal["allocated", "renewed"]) -> None:
        """Allocate on this relay, in place of what there is. A failure is told, not raised."""
        try:
            allocation = await allocate(self._dialled(server), laboratory=self._laboratory)
        except RelayError as error:
            self._ranking.bans.failed(server, self._loop.time())
            self._failures.append(error)
            self._tell(PoolEvent("failed", server.name, error))
            return
        allocation.on_lost = partial(self._lost, server)
        older = self._held.get(server)
        self._held[server] = allocation
        self._tell(PoolEvent(kind, server.name))
        if older is not None:
            self._give_up(older)

    def _lost(self, server: RelayServer, error: RelayError) -> None:
        self._held.pop(server).abort()
        self._ranking.bans.failed(server, self._loop.time())
        self._choose()
        self._tell(PoolEvent("lost", server.name, error))
        self._wake.set()

    def _choose(self) -> None:
        """Choose again among what was measured last. A backup that is allocated takes over."""
        plan = self._plan
        assert plan is not None
        if plan.primary not in self._held and plan.backup is not None and plan.backup in self._held:
            plan = replace(plan, primary=plan.backup, backup=None)
        self._plan = rank(self._results, previous=plan, bans=self._ranking.bans, now=self._loop.time())
        self._ranking.selection = self._plan

    def _missing(self) -> list[RelayServer]:
        plan = self._plan
        wanted = [] if plan is None else [plan.primary, plan.backup]
        return [server for server in wanted if server is not None and server not in self._held]

    def _try_again(self) -> None:
        self._retry_at = self._loop.time() + self._retry
        self._retry = min(2 * self._retry, LAST_RETRY)

    def _dialled(self, server: RelayServer) -> RelayServer:
        """The relay with credentials."""
        if server.username is not None or self._credentials is None:
            return server
        return server.with_credentials(self._credentials.username, self._credentials.password)

    def _give_up(self, allocation: Allocation) -> None:
        allocation.on_lost = None
        task = self._loop.create_task(allocation.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _tell(self, event: PoolEvent) -> None:
        if event.error is not None:
            logger.warning("%s", event.error)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                logger.exception("an event handler failed")
