"""Several things at once, ended together; what goes wrong in one is raised as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first(*coroutines: Coroutine[Any, Any, Any]) -> tuple[int, Any]:
    """Run all until one is done, then cancel the others.

    Returns:
        The number of the one that was done first, and its result.
    Raises:
        What the first that failed raised.
    """
    done = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
            for task in tasks:
                task.add_done_callback(lambda _: done.set())
            await done.wait()
            winner = next(number for number, task in enumerate(tasks) if task.done())
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as failed:
        raise plain(failed) from None
    return winner, tasks[winner].result()


def plain(error: BaseException) -> BaseException:
    """The first error inside an exception group, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
