"""Relays that are ready before there is a call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from relaycall.call.media_call import KEEP
from relaycall.errors import ConfigError, RelaycallError
from relaycall.relays.credentials import CredentialsSource
from relaycall.relays.pool import PoolEvent, RelayPool
from relaycall.relays.server import RelayServer

PATIENCE = 0.5  # seconds that a pool nobody wants any more has to get what it asked for


class WarmPool:
    """Has a pool for the next call open while there is no call; one at a time, since relays have quotas.

    Args:
        relays: to choose from, in order of preference.
        credentials: gives user name and password for those that have none.
        prewarm: keep one open. Otherwise a pool is opened when a call takes it.
        laboratory: accept relayed addresses that are not public.
        on_event: called with what happens to a pool while it is not a call's.

    Raises:
        ConfigError: there are no relays.
    """

    def __init__(
        self,
        relays: Sequence[RelayServer],
        *,
        credentials: CredentialsSource | None = None,
        prewarm: bool = True,
        laboratory: bool = False,
        on_event: Callable[[PoolEvent], None] | None = None,
    ) -> None:
        if not relays:
            raise ConfigError("No relay is configured.", "Give at least one relay.")
        self._relays = list(relays)
        self._credentials = credentials
        self._prewarm = prewarm
        self._laboratory = laboratory
        self._on_event = on_event
        self._opening: asyncio.Task[RelayPool] | None = None
        self._unwanted: set[asyncio.Task[None]] = set()
        self._taken = 0

    def __repr__(self) -> str:
        return f"<WarmPool of {len(self._relays)} relays>"

    def start(self) -> None:
        """Have a pool open soon, if none is in use."""
        if self._prewarm and self._opening is None and self._taken == 0:
            self._opening = asyncio.create_task(self._open(measure=True))
            self._opening.add_done_callback(_seen)

    async def take(self) -> RelayPool:
        """A pool for one call, which closes it and then calls `give_back`.

        Raises:
            NoRelay: no relay can be used.
            RelaycallError: there are no credentials for them.
        """
        opening, self._opening = self._opening, None
        self._taken += 1
        try:
            if opening is not None:
                with contextlib.suppress(RelaycallError):  # that was then
                    return await self._opened(opening)
            return await self._opened(asyncio.create_task(self._open(measure=False)))
        except BaseException:
            self.give_back()
            raise

    def give_back(self) -> None:
        """A call's pool is closed: there may be one for the next."""
        self._taken -= 1
        self.start()

    def stop(self) -> None:
        """Have none open any more but for calls."""
        self._prewarm = False
        if self._opening is not None:
            self._discard(self._opening)
            self._opening = None

    async def close(self) -> None:
        """Close what is open and not a call's, within two seconds."""
        self.stop()
        if self._unwanted:
            await asyncio.wait(self._unwanted)

    async def _opened(self, opening: asyncio.Task[RelayPool]) -> RelayPool:
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._discard(opening)
            raise

    def _discard(self, opening: asyncio.Task[RelayPool]) -> None:
        task = asyncio.create_task(_close(opening))
        self._unwanted.add(task)
        task.add_done_callback(self._unwanted.discard)

    async def _open(self, *, measure: bool) -> RelayPool:
        """To measure takes a while, and there is none when a call waits."""
        options = {} if measure else {"keep": min(len(self._relays), KEEP)}
        pool = RelayPool(
            self._relays,
            credentials=self._credentials,
            measure=measure,
            laboratory=self._laboratory,
            on_event=self._on_event,
            **options,
        )
        return await pool.__aenter__()


def _seen(task: asyncio.Task[RelayPool]) -> None:
    """Why it failed is told again when a call needs it."""
    if not task.cancelled():
        task.exception()


async def _close(opening: asyncio.Task[RelayPool]) -> None:
    """What is about to be granted can be given back only once it is."""
    await asyncio.wait([opening], timeout=PATIENCE)
    opening.cancel()
    with contextlib.suppress(RelaycallError, asyncio.CancelledError):
        await (await opening).close()
