"""A contact who logs out, or whose program dies, leaves no tube behind that nobody serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import CONNECTION, TP
from tests.support.tubes import UNIX, closed, error_of, opened, service


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


@pytest.mark.parametrize("leaves", ["alice", "bob"])
@pytest.mark.parametrize("how", ["logs out", "dies"])
async def test_a_tube_ends_with_either_of_its_sides(
    pair: Pair, leaves: str, how: str, tmp_path: Path
) -> None:
    async with service(UNIX, tmp_path) as address:
        tube = await opened(pair, address)
        assert await tube.echoed(b"x") == b"x"
        goes, stays, path = pair.alice, pair.bob, tube.theirs
        if leaves == "bob":
            goes, stays, path = pair.bob, pair.alice, tube.mine
        gone = asyncio.ensure_future(closed(stays, path))
        if how == "logs out":
            await goes.cm(goes.connection, CONNECTION, "Disconnect")
        else:
            assert goes.daemon is not None
            goes.daemon.kill()
        await gone
        if how == "logs out" or leaves == "alice":
            assert error_of(stays, path) == TP + "Error.Terminated"
