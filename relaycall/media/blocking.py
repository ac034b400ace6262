"""Something of FFmpeg's that blocks: used in a thread, by one call at a time, and closed when no call is in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from relaycall.errors import CallClosed
from relaycall.worker import Worker

T = TypeVar("T")


class Blocking:
    """Runs calls in a thread that lives as long as there is one, and a last one when none is running.

    Args:
        name: of the thread.
        release: closes what the calls use. Called once, by `close` or, while a call runs, by its thread after it.
    """

    def __init__(self, name: str, release: Callable[[], None]) -> None:
        self._worker = Worker(name)
        self._release: Callable[[], None] | None = release
        self._closed = False
        self._lock = threading.Lock()

    async def run(self, call: Callable[[], T], timeout: float) -> T:
        """What `call` returns or raises.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: it took longer, and may still come to its end.
            CallClosed: `close` was called.
        """
        return await self._worker.run(lambda: self._call(call), timeout)

    def close(self) -> None:
        """Make no more calls and release what they use, now or after the one that is running. Idempotent."""
        self._closed = True
        self._release_if_unused()

    def _call(self, call: Callable[[], T]) -> T:
        try:
            with self._lock:
                if self._closed:
                    raise CallClosed
                return call()
        finally:
            if self._closed:
                self._release_if_unused()

    def _release_if_unused(self) -> None:
        if not self._lock.acquire(blocking=False):
            return  # whoever holds it looks at `_closed` afterwards
        try:
            release, self._release = self._release, None
            if release is not None:
                release()
        finally:
            self._lock.release()
