"""Fixtures for the scenarios with a badly behaved peer; a module gets them by ``pytest_plugins``.

A module's daemon is started once and serves all its tests, each of which ends with
``Bench.check``. What the module's daemon is like it says in ``DAEMON``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.peer.bench import Bench
from tests.support.prosody import Prosody


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_bench(prosody: Prosody, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """The daemon of a module; tests use ``bench``."""
    options: dict[str, Any] = getattr(request.module, "DAEMON", {})
    bench = await Bench.start(prosody, **options)
    yield bench
    await bench.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def bench(one_bench: Bench) -> AsyncIterator[Bench]:
    """The daemon, and the check after the test."""
    one_bench.begin()
    yield one_bench
    await one_bench.check()
