"""Connecting to several places at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from telepathy_e2e.net import race as racing
from telepathy_e2e.net.race import MAX_AT_ONCE, Race
from telepathy_e2e.net.streams import StreamBroken

from .service_support import Pipe, until, within


class Places:
    """Places named by letters, which answer when a test says so."""

    def __init__(self, names: str) -> None:
        self.started: list[str] = []
        self.streams = {name: Pipe() for name in names}
        self.answers: dict[str, asyncio.Future[bool]] = {}
        self.failed: list[str] = []
        self.race = Race(names, self.connect, lambda place, error: self.failed.append(place))
        self.task = asyncio.create_task(self.race.run())

    async def connect(self, name: str) -> Pipe:
        self.started.append(name)
        self.answers[name] = asyncio.get_running_loop().create_future()
        if await self.answers[name]:
            return self.streams[name]
        raise StreamBroken("refused")

    async def say(self, name: str, works: bool) -> None:
        await until(lambda: name in self.answers)
        self.answers[name].set_result(works)

    async def result(self) -> str | None:
        found = await within(self.task)
        if found is None:
            return None
        place, stream = found
        assert stream is self.streams[place]
        assert not stream.aborted
        return str(place)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    def set_(stagger: float, grace: float) -> None:
        monkeypatch.setattr(racing, "STAGGER", stagger)
        monkeypatch.setattr(racing, "GRACE", grace)

    return set_


NEVER = 1000.0


async def test_the_first_that_answers_is_taken_where_nothing_better_is_being_tried(
    patient: Callable[[float, float], None],
) -> None:
    patient(NEVER, NEVER)
    places = Places("ab")
    await places.say("a", True)
    assert await places.result() == "a"
    assert places.started == ["a"]


async def test_one_that_fails_is_followed_at_once(patient: Callable[[float, float], None]) -> None:
    patient(NEVER, NEVER)
    places = Places("abc")
    await places.say("a", False)
    await places.say("b", False)
    await places.say("c", True)
    assert await places.result() == "c"
    assert places.failed == ["a", "b"]


async def test_one_that_is_silent_holds_nobody_up(patient: Callable[[float, float], None]) -> None:
    patient(0.001, 0.001)
    places = Places("ab")
    await places.say("b", True)
    assert await places.result() == "b"
    assert places.failed == []


async def test_a_better_one_that_answers_within_the_grace_wins_and_the_other_is_closed(
    patient: Callable[[float, float], None],
) -> None:
    patient(0.001, NEVER)
    places = Places("ab")
    await places.say("b", True)
    await places.say("a", True)
    assert await places.result() == "a"
    assert places.streams["b"].aborted


async def test_a_better_one_that_fails_is_not_waited_for(
    patient: Callable[[float, float], None],
) -> None:
    patient(0.001, NEVER)
    places = Places("ab")
    await places.say("b", True)
    await places.say("a", False)
    assert await places.result() == "b"


async def test_nothing_worse_is_tried_once_there_is_one(
    patient: Callable[[float, float], None],
) -> None:
    patient(NEVER, 0.05)
    places = Places("abc")
    await places.say("a", False)
    await places.say("b", True)
    assert await places.result() == "b"
    assert places.started == ["a", "b"]


async def test_all_may_fail(patient: Callable[[float, float], None]) -> None:
    patient(0.0, NEVER)
    places = Places("abc")
    for name in "cab":
        await places.say(name, False)
    assert await places.result() is None
    assert sorted(places.failed) == ["a", "b", "c"]


async def test_there_may_be_nothing_to_try() -> None:
    assert await Places("").result() is None


async def test_so_many_are_tried_at_once_and_no_more(
    patient: Callable[[float, float], None],
) -> None:
    patient(0.0, NEVER)
    places = Places("abcdefghijkl")
    await until(lambda: len(places.started) == MAX_AT_ONCE)
    await asyncio.sleep(0.02)
    assert len(places.started) == MAX_AT_ONCE
    await places.say("c", False)
    await until(lambda: len(places.started) == MAX_AT_ONCE + 1)
    places.task.cancel()


async def test_what_is_given_up_is_neither_tried_nor_waited_for(
    patient: Callable[[float, float], None],
) -> None:
    patient(NEVER, NEVER)
    places = Places("abc")
    await until(lambda: places.started == ["a"])
    places.race.give_up("b")
    places.race.give_up("a")
    await places.say("c", True)
    assert await places.result() == "c"
    assert places.started == ["a", "c"]


async def test_once_it_is_stopped_nothing_is_waited_for(
    patient: Callable[[float, float], None],
) -> None:
    patient(0.0, NEVER)
    places = Places("abc")
    await until(lambda: places.started == ["a", "b", "c"])
    places.race.stop()
    assert await places.result() is None
    assert all(each.cancelled() for each in places.answers.values())


async def test_who_stops_it_leaves_nothing_open(patient: Callable[[float, float], None]) -> None:
    patient(0.0, NEVER)
    places = Places("ab")
    await places.say("b", True)
    await until(lambda: places.race._there)
    places.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await places.task
    assert places.streams["b"].aborted
    assert places.answers["a"].cancelled()


async def test_how_long_better_ones_are_waited_for_depends_on_what_has_answered(
    patient: Callable[[float, float], None],
) -> None:
    patient(0.001, NEVER)
    places = Places("abc")
    places.race._grace = lambda place: 0.0 if place == "b" else NEVER
    await places.say("c", True)
    await until(lambda: places.race._there)
    await places.say("b", True)
    assert await places.result() == "b"
    assert places.streams["c"].aborted
