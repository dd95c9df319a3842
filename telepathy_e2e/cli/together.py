"""Several things at once, ended together; what goes wrong in one is raised as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from telepathy_e2e.cli.exits import Exit


async def first(*coroutines: Coroutine[Any, Any, Any]) -> tuple[int, Any]:
    """Run all until one is done or fails, then cancel the others. What counts is the very first
    end: one event often ends several, and then the first of them says best what it was.

    Returns:
        The number of the one that was done first, and its result.
    Raises:
        Exit: of the one that failed first.
    """
    ends: list[tuple[int, Any, Exit | None]] = []
    ended = asyncio.Event()

    async def run(number: int, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            ends.append((number, await coroutine, None))
        except Exit as error:
            ends.append((number, None, error))
        ended.set()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(*each)) for each in enumerate(coroutines)]
            await ended.wait()
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as failed:
        raise plain(failed) from None
    number, result, error = ends[0]
    if error is not None:
        raise error
    return number, result


def plain(error: BaseException) -> BaseException:
    """The first error inside an exception group, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
