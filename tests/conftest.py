"""Settings for every test."""

from __future__ import annotations

import gc
import signal

from hypothesis import HealthCheck, settings

# What is started in the background inherits an ignored SIGINT, and hands it on to the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadlines and no complaints about slow data: a busy machine is not a defect, and hypothesis builds its tables of
# characters at first use.
settings.register_profile("relaycall", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relaycall")

# Collecting the tests, and looking at their syntax trees, makes very many objects and no garbage: the garbage collector
# would look through all of them again and again, in this and in every test that calls it.
gc.set_threshold(50_000)


def pytest_collection_finish() -> None:
    gc.freeze()
