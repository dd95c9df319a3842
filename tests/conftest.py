"""Shared fixtures live in ``tests/support``."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.fixtures"]

# How long an example takes is the machine's business.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For ``make check``: the same examples each time, so that a run that fails fails again.
settings.register_profile("short", _patient, derandomize=True)
# For ``make fuzz``: the same invariants, looked at for longer, and elsewhere each time.
settings.register_profile("long", _patient, max_examples=5_000, derandomize=False)
# ``--hypothesis-profile`` is read after this.
settings.load_profile("short")
