"""Files over networks as they are: routers that translate addresses, and middles that drop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.support.homes import CASES, Homes, homes_with, people_in, start_server, why_not
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import E2E, SECURABLE

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(reason := why_not()), reason=reason),
]

SIZE = 300_000
# Seconds for a transfer whose first roads say nothing at all.
PATIENCE = 120.0


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    server = start_server()
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def homes(server: Prosody) -> AsyncIterator[Homes]:
    async with homes_with(server) as homes:
        yield homes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(server: Prosody, homes: Homes) -> AsyncIterator[Pair]:
    async with people_in(homes, server) as pair:
        yield pair


@pytest.mark.parametrize("name", CASES)
async def test_a_file_gets_through(pair: Pair, homes: Homes, name: str) -> None:
    case, wanted = CASES[name]
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
