import asyncio

import pytest

from telepathy_e2e.cli.exits import Exit
from telepathy_e2e.cli.together import first


async def test_the_first_one_done_wins_and_the_others_are_cancelled() -> None:
    cancelled = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def quick() -> str:
        return "done"

    assert await first(slow(), quick()) == (1, "done")
    assert cancelled == [True]


async def test_an_error_comes_out_as_it_is() -> None:
    async def fails() -> None:
        raise Exit(4, "no")

    async def nested() -> None:
        await first(fails(), asyncio.Event().wait())

    with pytest.raises(Exit, match="no") as caught:
        await first(nested(), asyncio.Event().wait())
    assert caught.value.code == 4


async def test_what_one_event_ends_at_once_is_told_by_the_first_of_them() -> None:
    event = asyncio.Event()

    async def answers() -> str:
        await event.wait()
        return "refused"

    async def loses_sight() -> None:
        await event.wait()
        raise Exit(5, "gone")

    async def happens() -> None:
        event.set()
        await asyncio.Event().wait()

    assert await first(answers(), loses_sight(), happens()) == (0, "refused")


async def test_a_mistake_in_one_ends_all_and_is_seen() -> None:
    async def mistaken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await first(asyncio.Event().wait(), mistaken())


async def test_cancelling_cancels_all() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await first(asyncio.Event().wait(), asyncio.Event().wait())
