"""Fixtures for the scenarios with a hostile server; a module gets them by ``pytest_plugins``.

A module's two daemons and its server are started once and serve all its tests. It says in ``STAGE``
what else ``Stage.start`` is given, and in ``DAEMONS`` what both daemons' environment has besides.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.hostile.server import Attack
from tests.hostile.stage import Stage
from tests.support.side import Side


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def theatre(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """The stage of a module; tests use ``stage``."""
    options: dict[str, Any] = dict(getattr(request.module, "STAGE", {}))
    if env := getattr(request.module, "DAEMONS", None):
        both = Side.start("alice", env=env), Side.start("bob", env=env)
        options["sides"] = await asyncio.gather(*both)
    stage = await Stage.start(**options)
    yield stage
    await stage.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def stage(theatre: Stage) -> AsyncIterator[Stage]:
    """The server is honest until the test says otherwise, and again after it."""
    yield theatre
    await theatre.server.use(Attack())
    assert theatre.server.problems == []
