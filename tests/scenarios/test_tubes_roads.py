"""A tube whose road is cut goes on over another, and its programs notice nothing but a pause.

Here roads are the two daemons' own connections, and those of a SOCKS5 proxy between them.
"""

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

from tests.scenarios.test_roads import pair_with
from tests.support.pair import Pair
from tests.support.prosody import Prosody
from tests.support.side import E2E, SECURABLE, Side
from tests.support.tubes import OPEN, TUBE, UNIX, echo, opened, service, talk, told
from tests.support.waiting import PATIENCE, until


def _can_cut() -> bool:
    """Whether the kernel lets go of somebody's connection when asked."""
    if not shutil.which("ss"):
        return False
    tried = subprocess.run(["ss", "-K", "-t", "dport = :1"], capture_output=True, check=False)
    return tried.returncode == 0 and not tried.stderr


pytestmark = [
    pytest.mark.skipif(not _can_cut(), reason="ss -K cannot be used here"),
]


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


def proxy_connections(server: Prosody) -> set[str]:
    """Those of its SOCKS5 proxy, by where they come from."""
    asked = ["ss", "-tnH", "state", "established", f"sport = :{server.proxy_port}"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in listed.splitlines()}


def cut_by_proxy(server: Prosody) -> None:
    """The proxy's connections are gone, for those at their other ends too."""
    asked = ["ss", "-K", "-tH", f"sport = :{server.proxy_port}"]
    subprocess.run(asked, capture_output=True, check=True)


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
            async with asyncio.timeout(PATIENCE):
                assert await lasting_reader.readexactly(100_000) == b"x" * 100_000
        async with asyncio.timeout(PATIENCE):
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


async def test_a_tube_through_a_proxy_goes_on_when_the_proxy_cuts_it(
    prosody: Prosody, tmp_path: Path
) -> None:
    """Data both ways, and connections of which one direction has ended before the cut."""
    sent, answer = (secrets.token_bytes(3_000_000) for _ in range(2))
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    may_answer = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match await reader.readexactly(1):
            case b"e":
                await echo(reader, writer)
            case b"a":  # who asked says no more, and has the answer still to come
                assert await reader.read() == b"question"
                writer.write(b"heard")
                await may_answer.wait()
                writer.write(answer)
                writer.close()
            case _:  # the service says no more, and reads on
                writer.write(b"welcome")
                writer.write_eof()
                heard.set_result(await reader.read())
                writer.close()

    async with (
        pair_with(prosody, "proxy", "proxy") as pair,
        service(UNIX, tmp_path, serve) as address,
    ):
        tube = await opened(pair, address)
        await until(lambda: len(proxy_connections(prosody)) == 2)
        assert await tube.echoed(b"e" + sent) == sent

        asking_reader, asking = await tube.connect()
        asking.write(b"aquestion")
        asking.write_eof()
        assert await asking_reader.readexactly(5) == b"heard"
        telling_reader, telling = await tube.connect()
        telling.write(b"t")
        assert await telling_reader.read() == b"welcome"
        # In the middle of something, both ways.
        telling.write(sent[:1_000_000])
        moving = asyncio.ensure_future(tube.echoed(b"e" + sent))
        await until(lambda: len(told(pair.bob, tube.theirs, "NewLocalConnection")) == 4)
        before = proxy_connections(prosody)
        cut_by_proxy(prosody)
        telling.write(sent[1_000_000:])
        telling.write_eof()
        may_answer.set()
        async with asyncio.timeout(PATIENCE):
            assert await heard == sent
            assert await asking_reader.read() == answer
            assert await moving == sent
        await until(lambda: len(proxy_connections(prosody)) == 2)
        assert not before & proxy_connections(prosody)
        assert await tube.echoed(b"eafter") == b"after"
        for side, path in ((pair.alice, tube.mine), (pair.bob, tube.theirs)):
            await _still_open(side, path)
        for each in (asking, telling):
            each.close()
        await tube.close()


async def test_a_proxy_keeps_nothing_back(prosody: Prosody, tmp_path: Path) -> None:
    """Prosody's of 0.12 does, until more comes. Each of these would take 20 seconds."""
    async with (
        pair_with(prosody, "proxy", "proxy") as pair,
        service(UNIX, tmp_path) as address,
    ):
        tube = await opened(pair, address)
        reader, writer = await tube.connect()
        for size in (1, 2_000, 4_000, 4_096, 5_000, 6_000, 7_000, 8_000, 8_192, 12_000, 16_000):
            writer.write(bytes(size))
            await reader.readexactly(size)
        # The same in small pieces, as fast as they come.
        for _ in range(400):
            writer.write(b"x")
            await asyncio.sleep(0)
        await reader.readexactly(400)
        writer.close()
        await tube.close()
