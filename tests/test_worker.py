"""The thread for calls that may hang: bounded, one at a time, and no reason for a program not to end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from relaycall.worker import Worker
from tests.leaks import nothing_left_behind  # noqa: F401 - for every test here
from tests.waiting import eventually


def workers() -> int:
    return sum(thread.name == "test-worker" for thread in threading.enumerate())


async def test_returns_what_the_call_returns_and_raises_what_it_raises() -> None:
    worker = Worker("test-worker")
    assert await worker.run(lambda: threading.current_thread().daemon, 1.0) is True
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0, 1.0)
    assert await worker.run(lambda: 3, 1.0) == 3


async def test_calls_are_made_one_after_another_in_order() -> None:
    worker, seen, together = Worker("test-worker"), [], []

    def call(number: int) -> None:
        together.append(workers())
        time.sleep(0.002)
        seen.append(number)

    await asyncio.gather(*(worker.run(lambda n=n: call(n), 5.0) for n in range(20)))
    assert seen == list(range(20))
    assert set(together) == {1}
    await eventually(lambda: workers() == 0)


async def test_a_hanging_call_is_given_up_in_time_and_holds_one_thread() -> None:
    worker, released, late = Worker("test-worker"), threading.Event(), []
    try:
        for _ in range(3):
            start = time.monotonic()
            with pytest.raises(TimeoutError):
                await worker.run(lambda: (released.wait(30), late.append("begun")), 0.1)
            assert 0.1 <= time.monotonic() - start < 0.5
            assert workers() == 1
    finally:
        released.set()
    # Goes on as soon as it can; what was given up before it began is not made.
    assert await worker.run(lambda: "next", 2.0) == "next"
    assert late == ["begun"]
    await eventually(lambda: workers() == 0)


async def test_a_cancelled_caller_takes_its_call_along() -> None:
    worker, released, made = Worker("test-worker"), threading.Event(), []
    first = asyncio.create_task(worker.run(lambda: released.wait(30), 5.0))
    second = asyncio.create_task(worker.run(lambda: made.append(1), 5.0))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.wait([second])
    released.set()
    assert await first is True
    assert await worker.run(lambda: list(made), 2.0) == []


def test_a_hanging_call_does_not_hold_up_the_end_of_the_program() -> None:
    script = """
import asyncio, time
from relaycall.worker import Worker
async def main():
    try:
        await Worker("hanging").run(lambda: time.sleep(60), 0.2)
    except TimeoutError:
        print("given up")
asyncio.run(main())
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr, done.returncode) == ("given up\n", "", 0)
    assert time.monotonic() - start < 5
