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


async def test_cancelling_cancels_all() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await first(asyncio.Event().wait(), asyncio.Event().wait())
