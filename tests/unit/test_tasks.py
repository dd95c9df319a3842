"""The gate for tasks."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Coroutine
from typing import Any

from telepathy_e2e.tasks import TaskOwner


async def test_what_a_cancelled_task_never_got_to_is_closed() -> None:
    async def script() -> None:
        raise AssertionError("not begun")

    async def run(script: Coroutine[Any, Any, None]) -> None:
        await script

    owner = TaskOwner("test")
    inner = script()
    task = owner.start("script", run(inner), script=inner)
    task.cancel()
    await asyncio.wait([task])
    del inner
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
