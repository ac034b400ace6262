"""Settings for every test."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# What is started in the background inherits an ignored SIGINT, and hands it on to the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadlines and no complaints about slow data: a busy machine is not a defect, and hypothesis builds its tables of
# characters at first use.
settings.register_profile("relaycall", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relaycall")
