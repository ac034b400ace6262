"""Settings for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No deadlines and no complaints about slow data: a busy machine is not a defect, and hypothesis builds its tables of
# characters at first use.
settings.register_profile("relaycall", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relaycall")
