"""An event loop whose time jumps: whenever there is nothing to do, it is as late as the next timer at once.

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(an_hour_of_something())

Sockets are real. What is sent on loopback is there at once, so nothing is due before it has arrived; and while a thread
works for the loop, time stands still.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

PATIENCE = 0.0005  # seconds of real time between looks whether a thread is done


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Never waits, but for threads: instead it moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if self.threads or timeout is None:
            return super().select(PATIENCE)
        self.now += timeout
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """See above."""

    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        self._jumping.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_is_done)
        return future

    def _thread_is_done(self, _: object) -> None:
        self._jumping.threads -= 1
