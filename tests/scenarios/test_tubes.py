"""A local service shared with a contact: real daemons, a real server, real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.tubes import (
    ABSTRACT,
    IPV4,
    IPV6,
    LOCALHOST,
    UNIX,
    opened,
    service,
)


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


@pytest.mark.parametrize("kind", [UNIX, ABSTRACT, IPV4, IPV6])
async def test_a_service_is_shared_over_any_kind_of_socket(
    pair: Pair, kind: int, tmp_path: Path
) -> None:
    async with service(kind, tmp_path) as address:
        tube = await opened(pair, address, offered=(kind, LOCALHOST), accepted=(kind, LOCALHOST))
        assert await tube.echoed(b"hello" * 100_000) == b"hello" * 100_000
        one, two = await asyncio.gather(tube.echoed(b"one"), tube.echoed(b"two"))
        assert (one, two) == (b"one", b"two")
        await tube.close()
