"""Things to do later, all called off at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """Timers of the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._handles: set[asyncio.TimerHandle] = set()
        self._closed = False

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call this in so many seconds; never, once `close` was called."""

        def due() -> None:
            self._handles.discard(handle)
            action()

        if not self._closed:
            handle = self._loop.call_later(seconds, due)
            self._handles.add(handle)

    def close(self) -> None:
        """Call none of them any more."""
        self._closed = True
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
