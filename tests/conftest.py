"""Settings for every test."""

from __future__ import annotations

import gc
import os
import signal

from hypothesis import HealthCheck, settings

# What is started in the background inherits an ignored SIGINT, and hands it on to the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadlines and no complaints about slow data: a busy machine is not a defect, and hypothesis builds its tables of
# characters at first use. RELAYCALL_FUZZ=n runs n cases in each test that does not say how many it has; .ci/run does.
EXAMPLES = int(os.environ.get("RELAYCALL_FUZZ", "0")) or 30
settings.register_profile(
    "relaycall", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=EXAMPLES
)
settings.load_profile("relaycall")

# Collecting the tests, and looking at their syntax trees, makes very many objects and no garbage: the garbage collector
# would look through all of them again and again, in this and in every test that calls it.
gc.set_threshold(50_000)


def pytest_collection_finish() -> None:
    gc.freeze()
