"""A tube whose road is cut goes on over another, and its programs notice nothing but a pause."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import E2E, SECURABLE, Side
from tests.support.tubes import OPEN, TUBE, UNIX, opened, service, talk, told, until


def _can_cut() -> bool:
    """Whether the kernel lets go of somebody's connection when asked."""
    if not shutil.which("ss"):
        return False
    tried = subprocess.run(["ss", "-K", "-t", "dport = :1"], capture_output=True, check=False)
    return tried.returncode == 0 and not tried.stderr


pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not _can_cut(), reason="ss -K cannot be used here"),
]


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


def cut(pair: Pair) -> int:
    """Cut what connects the two daemons, or one of them and the server's proxy; how many."""
    listed = subprocess.run(["ss", "-tnpH"], capture_output=True, text=True, check=True).stdout
    pids = {f"pid={side.daemon.pid}," for side in (pair.alice, pair.bob) if side.daemon}
    found = 0
    for line in listed.splitlines():
        ports = re.findall(r":(\d+)\s", line + " ")
        if not any(pid in line for pid in pids) or str(pair.server.port) in ports:
            continue
        found += 1
        near, far = ports[:2]
        asked = ["ss", "-K", "-t", f"sport = :{near} and dport = :{far}"]
        subprocess.run(asked, capture_output=True, check=True)
    return found


async def test_connections_survive_the_loss_of_their_road(pair: Pair, tmp_path: Path) -> None:
    async with service(UNIX, tmp_path) as address:
        tube = await opened(pair, address)
        lasting_reader, lasting = await tube.connect()
        lasting.write(b"before")
        assert await lasting_reader.readexactly(6) == b"before"
        data = secrets.token_bytes(30_000_000)
        moving = asyncio.ensure_future(tube.echoed(data))
        await until(lambda: len(told(pair.bob, tube.theirs, "NewLocalConnection")) == 2)
        for _ in range(2):
            assert cut(pair) > 0
            # Nothing is lost on the way, nothing comes twice.
            lasting.write(b"x" * 100_000)
            async with asyncio.timeout(60):
                assert await lasting_reader.readexactly(100_000) == b"x" * 100_000
        async with asyncio.timeout(60):
            assert await moving == data
        assert await talk(lasting_reader, lasting, b"after") == b"after"
        lasting.close()
        for side, path in ((pair.alice, tube.mine), (pair.bob, tube.theirs)):
            await _still_open(side, path)
        await tube.close()


async def _still_open(side: Side, path: str) -> None:
    assert await side.get(path, TUBE, "State") == OPEN
    assert [each.body for each in told(side, path, "TubeChannelStateChanged")][-1] == (OPEN,)
    assert await side.get(path, SECURABLE, "Encrypted") is True
    assert await side.get(path, E2E, "Error") == ""
