"""What a call has on its way to the other side by signaling."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from relaycall.call.line import Line, Party
from relaycall.call.messages import Kind
from relaycall.errors import SignalingError

Job = Callable[[], Awaitable[None]]


class Posting:
    """Each message once at a time, however often it is said.

    Args:
        line: to post with. People carry offer and answer only: the rest is not worth it, and media says it too.
        party: who gets it.
        guarded: awaits a job, and ends the call with what it raises.

    Attributes:
        unsent: why nothing reached them so far.
        tasks: what is on its way.
    """

    def __init__(self, line: Line, party: Party, guarded: Callable[[Job], Coroutine[Any, Any, None]]) -> None:
        self.unsent: SignalingError | None = None
        self._line = line
        self._party = party
        self._guarded = guarded
        self._tasks: dict[tuple[Kind, bytes], asyncio.Task[None]] = {}

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return list(self._tasks.values())

    def say(self, kind: Kind, body: bytes) -> None:
        """Send it, unless it is on its way."""
        said = kind, body
        if self._line.carried and kind not in (Kind.OFFER, Kind.ANSWER):
            return
        if said not in self._tasks:
            task = self._tasks[said] = asyncio.create_task(self._guarded(lambda: self._post(kind, body)))
            task.add_done_callback(lambda _: self._tasks.pop(said))

    async def _post(self, kind: Kind, body: bytes) -> None:
        try:
            await self._line.post(self._party, kind, body)
            self.unsent = None
        except SignalingError as error:
            self.unsent = error  # what matters is said again, for as long as the call may take
