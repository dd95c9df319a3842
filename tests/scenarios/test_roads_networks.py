"""Files over networks as they are: routers that translate addresses, and middles that drop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from telepathy_e2e.media.silence import PATIENCE_VARIABLE
from tests.support.homes import CASES, Homes, homes_with, people_in, start_server, why_not
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import E2E, SECURABLE

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(reason := why_not()), reason=reason),
]

SIZE = 300_000
# Seconds for a transfer whose first roads say nothing at all.
PATIENCE = 120.0
# Seconds for ICE.
HASTE = 1


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    server = start_server()
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def homes(server: Prosody) -> AsyncIterator[Homes]:
    async with homes_with(server) as homes:
        yield homes


class People:
    """Alice and Bob, whose daemons are started anew when others are wanted."""

    def __init__(self, server: Prosody, homes: Homes) -> None:
        self._server, self._homes = server, homes
        self._stack = AsyncExitStack()
        self._pair: Pair | None = None
        self._hasty = False

    async def pair(self, *, hasty: bool) -> Pair:
        """Args: hasty: ICE is given up soon."""
        if self._pair is None or self._hasty != hasty:
            await self.stop()
            env = {PATIENCE_VARIABLE: str(HASTE)} if hasty else None
            entering = people_in(self._homes, self._server, env)
            self._pair = await self._stack.enter_async_context(entering)
            self._hasty = hasty
        return self._pair

    async def stop(self) -> None:
        self._pair = None
        await self._stack.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(server: Prosody, homes: Homes) -> AsyncIterator[People]:
    people = People(server, homes)
    yield people
    await people.stop()


@pytest.mark.parametrize("name", CASES)
async def test_a_file_gets_through(people: People, homes: Homes, name: str) -> None:
    case, wanted = CASES[name]
    # Nobody need wait long for what cannot come.
    pair = await people.pair(hasty=wanted.startswith("in-band"))
    homes.be(case)
    data = os.urandom(SIZE)
    mine, theirs = await pair.offer(data)
    got, _ = await asyncio.gather(
        pair.bob.accept(theirs), pair.alice.provide(mine, data, timeout=PATIENCE)
    )
    assert got == data, pair.alice.log
    assert await pair.alice.state(mine, 4, 5, timeout=PATIENCE) == (4, 0), pair.alice.log
    assert await pair.bob.state(theirs, 4, 5, timeout=PATIENCE) == (4, 0), pair.bob.log
    assert await pair.bob.get(theirs, SECURABLE, "Encrypted")
    protocol = await pair.alice.get(mine, E2E, "Protocol")
    assert homes.way(pair.server, SIZE, protocol) == wanted
