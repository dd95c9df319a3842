"""Tubes whose cable is cut in the middle, where the servers are still reached: they go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from telepathy_e2e.media.silence import PATIENCE_VARIABLE
from tests.support.homes import (
    Case,
    Homes,
    Middle,
    Router,
    homes_with,
    people_in,
    start_server,
    why_not,
)
from tests.support.pair import Pair
from tests.support.side import E2E, SECURABLE
from tests.support.tubes import UNIX, opened, service

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(reason := why_not()), reason=reason),
]

# Seconds in the place of half a minute: enough for ICE where many things are done at once.
PATIENCE = 10
# For what is given up, one transport after the other.
LONG = 100.0
PIECE = 50_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def between() -> AsyncIterator[tuple[Pair, Homes]]:
    server = await asyncio.to_thread(start_server)
    try:
        async with (
            homes_with(server) as homes,
            people_in(homes, server, {PATIENCE_VARIABLE: str(PATIENCE)}) as pair,
        ):
            yield pair, homes
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("before", "protocol", "after"),
    [
        (Case(), "xtls", Case(middle=Middle.REFUSING)),
        (
            Case(Router.CONE, Router.CONE),
            "dtls-sctp",
            Case(Router.CONE, Router.CONE, Middle.SILENT, stun=False),
        ),
    ],
    ids=["TCP that is refused", "UDP that nobody answers"],
)
async def test_a_tube_goes_on_through_the_servers(
    between: tuple[Pair, Homes], tmp_path: Path, before: Case, protocol: str, after: Case
) -> None:
    pair, homes = between
    homes.be(before)
    async with service(UNIX, tmp_path) as address:
        tube = await opened(pair, address, timeout=LONG)
        assert await pair.bob.get(tube.theirs, E2E, "Protocol") == protocol
        reader, writer = await tube.connect()

        async def echoed() -> None:
            """Every byte once, in order."""
            data = os.urandom(PIECE)
            writer.write(data)
            async with asyncio.timeout(LONG):
                assert await reader.readexactly(PIECE) == data

        for _ in range(3):
            await echoed()
        homes.be(after)
        await echoed()
        assert homes.carried[pair.server.port] > PIECE
        # The cable is back: what has a road keeps it, and whoever comes now is served.
        homes.be(before)
        await echoed()
        assert await tube.echoed(b"and another") == b"and another"
        writer.write_eof()
        async with asyncio.timeout(LONG):
            assert await reader.read() == b""
        writer.close()
        assert await pair.bob.get(tube.theirs, SECURABLE, "Encrypted")
        await tube.close()
