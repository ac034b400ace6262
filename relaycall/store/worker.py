"""A thread for calls that may hang: a keyring that waits for D-Bus or for its user, a file on a dead network disk."""

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
        self._lock = threading.Lock()
        self._running = False

    async def run(self, call: Callable[[], T], timeout: float) -> T:
        """What `call` returns or raises.

        A call that has not begun by then is not made any more.

        Args:
            timeout: seconds, waiting for earlier calls included.

        Raises:
            TimeoutError: it took longer. The call may still come to its end.
        """
        future: Future[T] = Future()
        with self._lock:
            self._calls.append((future, call))
            if not self._running:
                self._running = True
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        async with asyncio.timeout(timeout):
            return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._running = False
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
