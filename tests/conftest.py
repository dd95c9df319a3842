"""Shared fixtures live in ``tests/support``."""

from hypothesis import settings

pytest_plugins = ["tests.support.fixtures"]

# For ``make check``: the same examples each time, so that a run that fails fails again.
settings.register_profile("short", derandomize=True, deadline=None)
# For ``make fuzz``: the same invariants, looked at for longer, and elsewhere each time.
settings.register_profile("long", max_examples=5_000, derandomize=False, deadline=None)
# ``--hypothesis-profile`` is read after this.
settings.load_profile("short")
