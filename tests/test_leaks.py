"""The leak counter itself: it sees every kind of leak, and nothing where there is none."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests import leaks
from tests.leaks import no_leaks

Leak = Callable[[], contextlib.AbstractContextManager[None]]


@contextmanager
def task() -> Iterator[None]:
    left = asyncio.ensure_future(asyncio.sleep(60))
    yield
    left.cancel()


@contextmanager
def timer() -> Iterator[None]:
    left = asyncio.get_running_loop().call_later(60, print)
    yield
    left.cancel()


@contextmanager
def thread() -> Iterator[None]:
    end = threading.Event()
    left = threading.Thread(target=end.wait)
    left.start()
    yield
    end.set()
    left.join()


@contextmanager
def thread_of_the_pool() -> Iterator[None]:
    end = threading.Event()
    asyncio.get_running_loop().run_in_executor(None, end.wait)
    yield
    end.set()


@contextmanager
def descriptor() -> Iterator[None]:
    with socket.socket():
        yield


@contextmanager
def exception_nobody_took() -> Iterator[None]:
    asyncio.get_running_loop().create_future().set_exception(ValueError("lost"))
    yield


LEAKS = [task, timer, thread, thread_of_the_pool, descriptor, exception_nobody_took]


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
async def test_a_leak_is_seen(leak: Leak, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "SETTLE", 0.05)
    with contextlib.ExitStack() as stack, pytest.raises(AssertionError, match=r"left behind|complained"):
        async with no_leaks():
            stack.enter_context(leak())
    await asyncio.sleep(0)


async def test_what_ends_is_no_leak() -> None:
    async with no_leaks():
        for leak in (task, timer, thread, thread_of_the_pool, descriptor):
            with leak():
                await asyncio.sleep(0)
        await asyncio.to_thread(int)


async def test_a_failure_inside_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        async with no_leaks():
            raise ZeroDivisionError
