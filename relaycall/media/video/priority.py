"""Threads that code and decode pictures give way to the one that sends and plays the voice.

On a busy machine there are fewer pictures then, and more is heard.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

LOWER = 5  # steps of niceness, of 40


def lower_priority() -> None:
    """Have this thread run behind the main one, where a thread can: on Linux. Raises nothing, and may be repeated."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), usual + LOWER)
