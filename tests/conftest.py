"""Shared fixtures live in ``tests/support``."""

from hypothesis import settings

pytest_plugins = ["tests.support.fixtures"]

# For ``make fuzz``: the same invariants, looked at for longer.
settings.register_profile("long", max_examples=5_000, deadline=None)
