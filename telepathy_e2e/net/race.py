"""Connecting to several places at once, the better ones first (RFC 8305, "happy eyeballs").

A place that does not answer holds nobody up: the next is tried beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from telepathy_e2e.tasks import TaskOwner

from .streams import Stream, StreamBroken

#: Seconds before the next place is tried beside those that have not answered (RFC 8305 section 8).
STAGGER: Final = 0.25

#: Seconds that a better place, which is being tried, may take longer than one that has answered.
GRACE: Final = 0.25

#: Connections that are being made at once. A peer names the places: he must not get to use us for
#: knocking on all doors of a street.
MAX_AT_ONCE: Final = 8

Place = TypeVar("Place")


class Race(Generic[Place]):
    """One race.

    Args:
        places: the best first; each is tried once.
        connect: to one of them; ends by itself. Raises ``StreamBroken``.
        failed: told of each that could not be reached, as soon as that is known.
        grace: seconds that better ones may take longer than this one, which has answered.
    """

    def __init__(
        self,
        places: Sequence[Place],
        connect: Callable[[Place], Awaitable[Stream]],
        failed: Callable[[Place, StreamBroken], None],
        grace: Callable[[Place], float] = lambda place: GRACE,
    ) -> None:
        self._grace = grace
        self._waiting = list(places)
        self._order = list(places)
        self._connect = connect
        self._failed = failed
        self._tasks = TaskOwner("race")
        self._running: dict[asyncio.Task[Stream | StreamBroken], Place] = {}
        self._there: list[tuple[int, Stream]] = []

    def give_up(self, place: Place) -> None:
        """It is of no use any more."""
        if place in self._waiting:
            self._waiting.remove(place)
        for task, each in self._running.items():
            if each == place:
                task.cancel()

    def stop(self) -> None:
        """All that have not answered are of no use any more."""
        for place in [*self._waiting, *self._running.values()]:
            self.give_up(place)

    async def run(self) -> tuple[Place, Stream] | None:
        """The best that could be reached, within the grace; None: none. All others are closed."""
        deadline: float | None = None
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        winner: Stream | None = None
        try:
            while True:
                now = loop.time()
                better = [place for place in self._running.values() if self._is_better(place)]
                if self._there:
                    if not better or (deadline is not None and now >= deadline):
                        position, winner = min(self._there, key=lambda each: each[0])
                        return self._order[position], winner
                    best = self._order[min(position for position, _ in self._there)]
                    soon = now + self._grace(best)
                    deadline = soon if deadline is None else min(deadline, soon)
                elif not self._running and not self._waiting:
                    return None
                elif (
                    self._waiting
                    and len(self._running) < MAX_AT_ONCE
                    and (now >= next_at or not self._running)
                ):
                    place = self._waiting.pop(0)
                    task = self._tasks.start("connect", self._attempt(place), awaited=True)
                    self._running[task] = place
                    next_at = now + STAGGER
                    continue
                if await self._step(self._until(now, next_at, deadline)):
                    next_at = loop.time()  # what has failed is not waited for
        finally:
            await self._close(winner)

    def _is_better(self, place: Place) -> bool:
        best = min((position for position, _ in self._there), default=len(self._order))
        return self._order.index(place) < best

    def _until(self, now: float, next_at: float, deadline: float | None) -> float | None:
        if deadline is not None:
            return max(0.0, deadline - now)
        if self._waiting and len(self._running) < MAX_AT_ONCE:
            return max(0.0, next_at - now)
        return None

    async def _step(self, timeout: float | None) -> bool:  # noqa: ASYNC109
        """Wait; whether one has failed."""
        failed = False
        done, _ = await asyncio.wait(
            self._running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            place = self._running.pop(task)
            if task.cancelled():
                continue
            outcome = task.result()
            if isinstance(outcome, StreamBroken):
                failed = True
                self._failed(place, outcome)
            else:
                self._there.append((self._order.index(place), outcome))
        return failed

    async def _attempt(self, place: Place) -> Stream | StreamBroken:
        try:
            return await self._connect(place)
        except StreamBroken as error:
            return error

    async def _close(self, winner: Stream | None) -> None:
        self._tasks.cancel()
        for task in list(self._running):
            # Done in the same turn of the loop, or before the cancellation reached it.
            if task.done() and not task.cancelled() and not task.exception():
                late = task.result()
                if not isinstance(late, StreamBroken):
                    late.abort()
        for _, stream in self._there:
            if stream is not winner:
                stream.abort()
        await self._tasks.close()
