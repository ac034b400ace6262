"""A thread for calls that may hang: a keyring that waits for its user, a file on a dead disk, a frozen sound system."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Runs one call after another in a daemon thread, which lives as long as there is something to do.

    A hanging call can hold up those behind it, but neither the event loop nor the end of the program; and however
    often it is tried again, there is one thread. The event loop's own executor would be joined at exit.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._running = False

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have it made; what it returns or raises is the future's. Cancelled before it begins, it is not made."""
        future: Future[T] = Future()
        future.add_done_callback(self._forget)
        with self._changed:
            self._calls.append((future, call))
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    async def run(self, call: Callable[[], T], timeout: float) -> T:
        """What `call` returns or raises.

        A call that has not begun by then is not made any more.

        Args:
            timeout: seconds, waiting for earlier calls included.

        Raises:
            TimeoutError: it took longer. The call may still come to its end.
        """
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(self.submit(call))

    def rest(self, timeout: float) -> bool:
        """Wait until nothing is left to do. False: it takes longer than these seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout)

    def _forget(self, future: Future[Any]) -> None:
        if future.cancelled():  # behind a call that hangs, what was given up does not pile up
            with self._changed:
                self._calls = deque(entry for entry in self._calls if entry[0] is not future)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._calls:
                    self._running = False
                    self._changed.notify_all()
                    return
                future, call = self._calls.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:  # whatever it is belongs to who asked
                future.set_exception(error)
            else:
                future.set_result(result)
            del future, call
