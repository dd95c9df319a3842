"""The one gate for tasks: named, owned, cancelled with their owner, logged when they die."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class TaskOwner:
    """Holds the tasks of one object; ``close()`` when the object goes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(
        self,
        what: str,
        coroutine: Coroutine[Any, Any, Any],
        *,
        awaited: bool = False,
        script: Coroutine[Any, Any, Any] | None = None,
    ) -> asyncio.Task[Any]:
        """Run ``coroutine`` as a task called ``owner/what``.

        Args:
            awaited: others wait for it, and what it raises is for them.
            script: what ``coroutine`` awaits; a task that is cancelled before its first step never
                gets to it, and nobody else would close it.
        """
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self._name}/{what}")
        self._tasks.add(task)
        task.add_done_callback(self._drop if awaited else self._done)
        if script is not None:
            task.add_done_callback(lambda _: script.close())
        return task

    def _drop(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Those who waited may be gone by now.
        if not task.cancelled():
            task.exception()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s died", task.get_name(), exc_info=error)

    def cancel(self) -> None:
        """Cancel what still runs, without waiting; the calling task is left alone."""
        current = _current()
        for task in list(self._tasks):
            if task is not current:
                task.cancel()

    async def wait(self) -> None:
        """Wait until all that runs now has ended by itself."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def close(self) -> None:
        """Cancel what still runs and wait until it is gone; the calling task is left alone."""
        current = _current()
        self.cancel()
        pending = [task for task in self._tasks if task is not current]
        if pending:
            await asyncio.wait(pending)


def _current() -> asyncio.Task[Any] | None:
    """The calling task; a callback of the loop has none."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs: the process is ending
        return None
