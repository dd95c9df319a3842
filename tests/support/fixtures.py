"""Fixtures that several test packages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.prosody import Prosody, available


@pytest.fixture(scope="module")
def prosody() -> Iterator[Prosody]:
    """A real server for one test module; a test that kills its server starts its own."""
    if not available():
        pytest.skip("prosody is not installed")
    server = Prosody.start()
    yield server
    server.stop()
