"""Relays kept allocated for one user: replaced when they die, renewed before credentials expire.

    async with RelayPool(relays) as pool:  # before the call: allocations are there when it begins
        pool.lend(connection)  # from now on it is given new ones, and told which to leave

Which relays are allocated is decided in `relaycall.relays.keeping`; this is the shell with the sockets and the clock.
One task, the keeper, looks what there is to do whenever something happened, and once a second. What takes time (an
allocation, a measurement, new credentials) is a task of its own, so that nothing waits for what does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, Protocol

from relaycall.errors import ConfigError, NoRelay, RelaycallError, RelayError, RelayForgot, RelayRefusedCredentials
from relaycall.ice.allocation import Allocation, allocate
from relaycall.relays.credentials import CredentialsSource
from relaycall.relays.keeping import Condition, Hold, Keeping
from relaycall.relays.probe import probe
from relaycall.relays.probe_result import ProbeResult, Verdict
from relaycall.relays.ranking import Selection
from relaycall.relays.renewing import Renewal
from relaycall.relays.routes import has_moved
from relaycall.relays.selecting import GRACE
from relaycall.relays.server import RelayServer

logger = logging.getLogger(__name__)

INTERVAL, REMEASURE = 300.0, 60.0  # seconds between measurements, and the least when one is wanted sooner
OPEN_GRACE = 0.5  # seconds the others get once one relay has answered; later ones are taken as well
MEASURED_KEEP, MOST_KEPT = 2, 4
WATCH = 1.0  # seconds between looks at this machine's own address
CLOSE_TIMEOUT = 2.0  # seconds, should anything take longer than the 1.2 of an allocation


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """What happened in a pool.

    Attributes:
        kind: "allocated": a relay was; "renewed": again, with fresh credentials; "lost": an allocation; "failed":
            something could not be had, and is tried again. Each kind of failure of a relay is told once until it works.
        relay: its name; None if it is about none in particular.
        error: why, for the last two.
    """

    kind: Literal["allocated", "renewed", "lost", "failed"]
    relay: str | None = None
    error: RelaycallError | None = None


class Borrower(Protocol):
    """Who uses the allocations of a pool: a call's connection.

    Both are called from the event loop and must not wait. Whatever they raise is logged, and the pool closes the
    allocation.
    """

    def add_allocation(self, allocation: Allocation) -> None:
        """Use this one too. It is the borrower's from now on, to close it and to set `on_lost` and its other callbacks.

        When it is gone, tell the pool by `lost`.
        """

    def retire_allocation(self, allocation: Allocation) -> None:
        """Move off this one and then close it; a better or fresher one was added before."""


class RelayPool:
    """Keeps allocations on the best relays for one user, as long as that user runs. An asynchronous context manager.

    On entering it allocates on the wanted relays at once. It returns when each has answered or failed, at most half a
    second after the first answered; a later one is still taken. What dies is replaced from the other relays. One that
    failed is left alone for 30 seconds, doubled each time up to 30 minutes; but while no allocation works at all, every
    relay is tried once a second. What replaces an allocation is there before the old one is given up.

    Args:
        relays: the relays to choose from, in order of preference if they are not measured.
        credentials: gives user name and password for those relays that have none.
        measure: choose by measurement, on entering and every `interval`: the best relay, and a backup that is unlikely
            to fail with it. Otherwise the first ones of the list are used; then nothing is probed, so that entering
            takes no longer than allocating.
        keep: how many to keep allocated, 1 to 4; 2 when they are measured.
        interval: seconds between measurements.
        laboratory: accept relayed addresses that are not public.
        on_event: called with each `PoolEvent`.

    Raises:
        ConfigError: there are no relays, or `keep` is out of range.
        NoRelay: on entering, if none is usable; it holds the reason for each.
        RelaycallError: on entering, what the source of credentials raises; a CredentialsError for what it may not.
    """

    def __init__(
        self,
        relays: Sequence[RelayServer],
        *,
        credentials: CredentialsSource | None = None,
        measure: bool = True,
        keep: int = MEASURED_KEEP,
        interval: float = INTERVAL,
        laboratory: bool = False,
        on_event: Callable[[PoolEvent], None] | None = None,
    ) -> None:
        if not relays:
            raise ConfigError("No relay is configured.", "Give at least one relay.")
        if measure and keep != MEASURED_KEEP:
            raise ConfigError("A pool that measures keeps two relays.", "Leave keep out, or give measure=False.")
        if not 1 <= keep <= MOST_KEPT:
            raise ConfigError("A pool keeps one to four relays.")
        self._measures = measure
        self._interval = interval
        self._laboratory = laboratory
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._keeping: Keeping[Allocation] = Keeping(relays, keep, self._loop.time())
        self._renewal = Renewal(credentials)
        self._borrower: Borrower | None = None
        self._failures: dict[RelayServer, RelayError] = {}
        self._told: dict[RelayServer, str] = {}
        self._measure_at = self._measured_at = float("inf")
        self._watch_at = 0.0
        self._wake = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._jobs: dict[asyncio.Task[None], RelayServer | None] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<RelayPool of {len(self._keeping.relays)} relays, {len(self._keeping.holds)} allocated>"

    @property
    def allocations(self) -> list[Allocation]:
        """What is allocated now, the best first; also what is being replaced. After `lend` these are the borrower's."""
        return [hold.allocation for hold in self._keeping.ordered]

    @property
    def selection(self) -> Selection | None:
        """What is chosen at the moment; None if nothing is measured."""
        return self._keeping.ranking.selection

    # --- whom it serves -----------------------------------------------------------------------------------------------

    def lend(self, borrower: Borrower) -> None:
        """Give the allocations to whoever uses them: those there are at once, the best first, later ones as they come.

        What is given up from now on is retired through the borrower, right after what replaces it was added.

        Raises:
            ConfigError: the pool is not open, or lent already: it serves one user.
        """
        if self._keeper is None or self._keeper.done() or self._borrower is not None:
            raise ConfigError("A pool is lent once, while it is open.", "Use one for each call.")
        self._borrower = borrower
        for hold in self._keeping.ordered:
            self._hand_over(hold)

    def remeasure(self) -> None:
        """Measure soon, if at all and unless that was done in the last minute: the path in use has become bad."""
        self._measure_at = min(self._measure_at, max(self._loop.time(), self._measured_at + REMEASURE))
        self._wake.set()

    def lost(self, allocation: Allocation, error: RelayError) -> None:
        """The borrower's word that an allocation is gone, as its `on_lost` told. Another takes its place."""
        hold = self._keeping.of(allocation)
        if hold is not None:
            self._keeping.lost(hold, self._loop.time(), forgotten=isinstance(error, RelayForgot))
            self._tell(PoolEvent("lost", hold.server.name, error))
            self._wake.set()

    def failing(self, allocation: Allocation) -> None:
        """The borrower's word that no packets come through: its relay may be frozen or dead.

        Another takes its place as if it were lost; then it is retired. When no other can be had, it is kept.
        """
        hold = self._keeping.of(allocation)
        if hold is not None:
            logger.info("No packets come through the relay %s.", hold.server.name)
            self._keeping.failing(hold, self._loop.time())
            self._wake.set()

    # --- from beginning to end ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> RelayPool:
        try:
            await self._renew()
            if self._measures:
                await self._measure()
            await self._open()
            if not self._keeping.holds:
                raise NoRelay([self._failures[one] for one in self._keeping.relays if one in self._failures])
        except BaseException:
            await self.close()
            raise
        self._keeping.opened()
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop, and delete what was not lent, within 1.2 seconds whatever the relays do. May be called twice."""
        tasks = [*self._jobs, *([self._keeper] if self._keeper is not None else [])]
        for task in tasks:
            task.cancel()
        for hold in self._keeping.holds:
            if self._borrower is None:
                self._give_up(hold.allocation)
        self._keeping.holds.clear()
        if tasks or self._closing:
            await asyncio.wait([*tasks, *self._closing], timeout=CLOSE_TIMEOUT)

    async def _open(self) -> None:
        """Allocate for the first time, on each relay once."""
        until = float("inf")
        while True:
            at = self._step()
            if self._keeping.holds:
                until = min(until, self._loop.time() + OPEN_GRACE)
            if self._keeping.full or self._loop.time() >= until or not self._jobs:
                return
            await self._pause(min(at, until))

    async def _keep(self) -> None:
        while True:
            now = self._loop.time()
            if now >= self._watch_at:
                self._watch_at = now + WATCH
                self._watch()
            if now >= self._renewal.at:
                self._renewal.at = float("inf")
                self._start(self._in_background(self._renew))
            if now >= self._measure_at:
                self._measure_at = self._measured_at = float("inf")
                self._start(self._in_background(self._measure))
            await self._pause(min(self._step(), self._watch_at, self._renewal.at, self._measure_at))

    async def _pause(self, until: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        self._wake.clear()

    async def _in_background(self, job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except RelaycallError as error:
            self._tell(PoolEvent("failed", None, error))

    def _start(self, job: Coroutine[Any, Any, None], server: RelayServer | None = None) -> None:
        task = self._loop.create_task(job)
        self._jobs[task] = server
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._jobs[task]
        self._wake.set()

    # --- allocations --------------------------------------------------------------------------------------------------

    def _step(self) -> float:
        """Begin what there is to do. Returns when there may be more."""
        now = self._loop.time()
        self._retire(now)
        trying = {server for server in self._jobs.values() if server is not None}
        for server in self._keeping.to_try(now, trying):
            self._start(self._try(server), server)
        return self._keeping.next_timeout(now)

    async def _try(self, server: RelayServer) -> None:
        try:
            allocation = await allocate(self._renewal.dialled(server), laboratory=self._laboratory)
        except RelayError as error:
            self._refused(server, error)
            return
        if allocation.error is None:
            self._granted(server, allocation)
        else:  # lost again, before anybody could hear of it
            self._refused(server, allocation.error)
            allocation.abort()

    def _granted(self, server: RelayServer, allocation: Allocation) -> None:
        now = self._loop.time()
        again = any(one.server == server and one.condition is Condition.EXPIRING for one in self._keeping.holds)
        hold = self._keeping.granted(server, allocation, now)
        if hold is None:
            self._give_up(allocation)
            return
        hold.watched = not has_moved(allocation)
        self._told.pop(server, None)
        self._renewal.worked()
        if self._borrower is None:
            allocation.on_lost = lambda error: self._lost_before(allocation, error)
        else:
            self._hand_over(hold)
        self._tell(PoolEvent("renewed" if again else "allocated", server.name))
        self._retire(now)

    def _lost_before(self, allocation: Allocation, error: RelayError) -> None:
        """An allocation is gone that was not lent yet."""
        allocation.abort()
        self.lost(allocation, error)

    def _refused(self, server: RelayServer, error: RelayError) -> None:
        if not self._keeping.refused(server, self._loop.time()):
            return
        if isinstance(error, RelayRefusedCredentials) and server.username is None:
            self._renewal.refused()
        if self._keeping.opening:
            self._failures[server] = error
        if self._told.get(server) != error.code:
            self._told[server] = error.code
            self._tell(PoolEvent("failed", server.name, error))

    def _retire(self, now: float) -> None:
        """Give up what is no longer needed."""
        for hold in self._keeping.surplus(now):
            if self._borrower is None:
                self._give_up(hold.allocation)
                continue
            try:
                self._borrower.retire_allocation(hold.allocation)
            except Exception:
                logger.exception("the user of a pool failed to retire an allocation")
                self._give_up(hold.allocation)

    def _hand_over(self, hold: Hold[Allocation]) -> None:
        assert self._borrower is not None
        hold.allocation.on_lost = None
        try:
            self._borrower.add_allocation(hold.allocation)
        except Exception:
            logger.exception("the user of a pool failed to add an allocation")
            self._keeping.lost(hold, self._loop.time())
            self._give_up(hold.allocation)

    def _give_up(self, allocation: Allocation) -> None:
        allocation.on_lost = None
        task = self._loop.create_task(allocation.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _watch(self) -> None:
        for hold in self._keeping.holds:
            if hold.watched and hold.condition < Condition.MOVED and has_moved(hold.allocation):
                logger.info("The way to the relay %s has changed.", hold.server.name)
                self._keeping.moved(hold)

    # --- credentials and measurements ---------------------------------------------------------------------------------

    async def _renew(self) -> None:
        """Ask for credentials; if there are new ones, every allocation with older ones is to be replaced."""
        if await self._renewal.ask():
            self._keeping.renewed()
            for task, server in self._jobs.items():
                if server is not None and server.username is None:
                    task.cancel()  # it is tried again, with the new ones

    async def _measure(self) -> None:
        """Probe, and choose. Raises NoRelay; what is allocated stays then."""
        ranking, relays = self._keeping.ranking, self._keeping.relays
        try:
            likely = ranking.worth_probing(relays)
            results = await self._probe(likely)
            if len(likely) < len(relays) and not any(result.usable for result in results):
                results = await self._probe(relays)
            self._keeping.measured(results, self._loop.time())
        finally:
            self._measured_at = self._loop.time()
            self._measure_at = self._measured_at + self._interval

    async def _probe(self, servers: Sequence[RelayServer]) -> list[ProbeResult]:
        plain = {self._renewal.dialled(server): server for server in servers}
        found = await probe(list(plain), grace=GRACE, laboratory=self._laboratory)
        results = [replace(result, server=plain[result.server]) for result in found]
        held = {hold.server for hold in self._keeping.holds}
        # Where a user may have one allocation only, ours is in the way of the probe, and proves the relay good.
        return [
            self._keeping.known(result.server) or result
            if result.verdict is Verdict.QUOTA and result.server in held
            else result
            for result in results
        ]

    def _tell(self, event: PoolEvent) -> None:
        if event.error is not None:
            logger.warning("%s", event.error)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                logger.exception("an event handler failed")
