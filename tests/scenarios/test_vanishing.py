"""Somebody goes without a word, at every step of a transfer; nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
from dbus_fast import Variant

from tests.support.pair import Pair, parameters
from tests.support.prosody import Prosody
from tests.support.side import (
    CHANNEL,
    CONNECTION,
    E2E,
    FILE_TRANSFER,
    REQUESTS,
    VERIFICATION,
    Side,
    Signal,
    descriptors,
)
from tests.support.waiting import PATIENCE

BIG = 50_000_000


@pytest.fixture
def server() -> Iterator[Prosody]:
    """A server of one's own, to be killed."""
    server = Prosody.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def pair(prosody: Prosody) -> AsyncIterator[Pair]:
    pair = await Pair.start(prosody)
    yield pair
    await pair.stop()


async def settled(side: Side, before: int) -> None:
    """The daemon lives, answers, and holds no more descriptors than before."""
    async with asyncio.timeout(PATIENCE):
        while descriptors(side) > before:
            await asyncio.sleep(0.05)
    assert side.daemon is not None
    assert side.daemon.poll() is None
    assert await side.cm(side.connection, CONNECTION, "GetStatus") == 0
    assert "Traceback" not in side.log, side.log


async def works(pair: Pair) -> None:
    data = secrets.token_bytes(100_000)
    assert await pair.send(data) == data


def _closed(path: str) -> Callable[[Signal], bool]:
    return lambda signal: signal.path == path and signal.member == "Closed"


def _released(name: str) -> Callable[[Signal], bool]:
    return lambda signal: (
        signal.member == "NameOwnerChanged" and ((signal.body[0], signal.body[2]) == (name, ""))
    )


async def _half_way(
    pair: Pair,
) -> tuple[str, str, asyncio.StreamWriter, asyncio.StreamReader, asyncio.StreamWriter]:
    """A transfer that has begun and waits for more: paths, Alice's end, Bob's ends."""
    mine, theirs = await pair.offer_sized(BIG)
    source = await pair.alice.cm(mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0))
    sink = await pair.bob.cm(theirs, FILE_TRANSFER, "AcceptFile", "uuvt", 0, 0, Variant("u", 0), 0)
    await pair.alice.state(mine, 3)
    _, writer = await asyncio.open_unix_connection(os.fsdecode(source))
    reader, back = await asyncio.open_unix_connection(os.fsdecode(sink))
    writer.write(bytes(1_000_000))
    await writer.drain()
    await reader.readexactly(1_000_000)
    return mine, theirs, writer, reader, back


async def test_the_program_that_reads_the_file_dies(pair: Pair) -> None:
    await works(pair)
    before = descriptors(pair.alice), descriptors(pair.bob)
    mine, theirs, writer, _, back = await _half_way(pair)
    back.close()
    writer.write(bytes(1_000_000))
    assert await pair.bob.state(theirs, 4, 5) == (5, 4)
    assert await pair.alice.state(mine, 4, 5) == (5, 5)
    writer.close()
    await settled(pair.alice, before[0])
    await settled(pair.bob, before[1])
    await works(pair)


async def test_the_program_that_gives_the_file_dies(pair: Pair) -> None:
    await works(pair)
    before = descriptors(pair.alice), descriptors(pair.bob)
    mine, theirs, writer, reader, back = await _half_way(pair)
    writer.close()
    assert await pair.alice.state(mine, 4, 5) == (5, 4)
    assert await pair.bob.state(theirs, 4, 5) == (5, 5)
    await reader.read()
    back.close()
    await settled(pair.alice, before[0])
    await settled(pair.bob, before[1])
    await works(pair)


async def test_either_side_cancels_half_way(pair: Pair) -> None:
    for side in (pair.alice, pair.bob):
        mine, theirs, writer, _, back = await _half_way(pair)
        path, other, its = (
            (mine, pair.bob, theirs) if side is pair.alice else (theirs, pair.alice, mine)
        )
        await side.cm(path, CHANNEL, "Close")
        assert await side.state(path, 5) == (5, 2)
        assert await other.state(its, 4, 5) == (5, 3)
        await side.signal(_closed(path))
        channels = await side.get(side.connection, REQUESTS, "Channels")
        assert path not in [each[0] for each in channels]
        writer.close()
        back.close()
    await works(pair)


@pytest.mark.parametrize("victim", ["alice", "bob"])
@pytest.mark.parametrize("step", ["offered", "asked", "half way"])
async def test_the_other_daemon_is_killed(prosody: Prosody, victim: str, step: str) -> None:
    handles = (FILE_TRANSFER, VERIFICATION) if step == "asked" else (FILE_TRANSFER,)
    pair = await Pair.start(prosody, alice_handles=handles, bob_handles=handles)
    try:
        survivor = pair.bob if victim == "alice" else pair.alice
        before = descriptors(survivor)
        writers = []
        if step == "offered":
            mine, theirs = await pair.offer_sized(BIG)
        elif step == "asked":
            mine, theirs = await pair.offer_sized(BIG)
            await pair.alice.cm(mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0))
            await pair.bob.cm(theirs, FILE_TRANSFER, "AcceptFile", "uuvt", 0, 0, Variant("u", 0), 0)
            question, _ = await survivor.new_channel(VERIFICATION)
        else:
            mine, theirs, writer, _, back = await _half_way(pair)
            writers = [writer, back]
        (pair.alice if victim == "alice" else pair.bob).kill_daemon()
        path = theirs if victim == "alice" else mine
        assert await survivor.state(path, 4, 5) == (5, 5)
        assert await survivor.get(path, E2E, "Error") != ""
        if step == "asked":
            await survivor.signal(lambda s: s.path == question and s.member == "Closed")
        for each in writers:
            each.close()
        await survivor.cm(path, CHANNEL, "Close")
        # OpenSSL and its kin opened nothing that stays; two for imports that read a file.
        await settled(survivor, before + 2)
    finally:
        await pair.stop()


async def test_the_server_is_killed_half_way(server: Prosody) -> None:
    pair = await Pair.start(server)
    try:
        mine, theirs, writer, _, back = await _half_way(pair)
        server.kill()
        for side, path in ((pair.alice, mine), (pair.bob, theirs)):
            assert await side.state(path, 4, 5) == (5, 4)
            await side.signal(_closed(path))
            gone = await side.signal(lambda s: s.member == "StatusChanged" and s.body[0] == 2)
            assert gone.body == (2, 2)
            error = await side.signal(lambda s: s.member == "ConnectionError")
            assert error.body[0].startswith("org.freedesktop.Telepathy.Error.")
            await side.signal(_released(side.bus_name))
        writer.close()
        back.close()
        server.restart()
        for side in (pair.alice, pair.bob):
            side.signals.clear()
            await side.connect(parameters(server, server.jid(side.name)), handles=(FILE_TRANSFER,))
        await pair.sees(pair.alice, server.jid("bob"))
        await works(pair)
        for side in (pair.alice, pair.bob):
            assert "Traceback" not in side.log, side.log
    finally:
        await pair.stop()


async def test_the_bus_goes_and_the_daemon_with_it(prosody: Prosody) -> None:
    side = await Side.start("alice")
    try:
        await side.connect(parameters(prosody, prosody.jid("alice")), handles=())
        side.kill_bus()
        assert side.daemon is not None
        assert await asyncio.to_thread(side.daemon.wait, PATIENCE) == 0
        assert "Traceback" not in side.log, side.log
    finally:
        await side.stop()


async def test_sigterm_says_goodbye_to_everybody(pair: Pair) -> None:
    mine, theirs, writer, _, back = await _half_way(pair)
    assert pair.alice.daemon is not None
    pair.alice.daemon.send_signal(signal.SIGTERM)
    assert (await pair.bob.state(theirs, 4, 5))[0] == 5
    assert await asyncio.to_thread(pair.alice.daemon.wait, PATIENCE) == 0
    assert "Traceback" not in pair.alice.log, pair.alice.log
    del mine
    writer.close()
    back.close()


async def test_a_cut_transfer_goes_on_where_it_was(pair: Pair) -> None:
    data = secrets.token_bytes(BIG // 5)
    mine, theirs = await pair.offer(data)
    source = await pair.alice.cm(mine, FILE_TRANSFER, "ProvideFile", "uuv", 0, 0, Variant("u", 0))
    sink = await pair.bob.cm(theirs, FILE_TRANSFER, "AcceptFile", "uuvt", 0, 0, Variant("u", 0), 0)
    await pair.alice.state(mine, 3)
    _, writer = await asyncio.open_unix_connection(os.fsdecode(source))
    reader, back = await asyncio.open_unix_connection(os.fsdecode(sink))
    writer.write(data[: len(data) // 2])
    got = await reader.readexactly(len(data) // 3)
    await pair.alice.cm(mine, CHANNEL, "Close")
    writer.close()
    back.close()

    mine, theirs = await pair.offer(data)
    receiving = asyncio.ensure_future(pair.bob.accept(theirs, offset=len(got)))
    defined = await pair.alice.signal(
        lambda s: s.path == mine and s.member == "InitialOffsetDefined"
    )
    await pair.alice.provide(mine, data[defined.body[0] :])
    assert got + await receiving == data
    assert await pair.bob.state(theirs, 4, 5) == (4, 0)


@pytest.mark.timeout(1500)
async def test_a_gigabyte_needs_no_more_memory_than_a_megabyte(pair: Pair) -> None:
    from benchmarks.files import transfer
    from benchmarks.run import memory

    await transfer(pair, 1_000_000)
    assert pair.alice.daemon is not None
    assert pair.bob.daemon is not None
    before = [memory(side.daemon.pid, "VmHWM") for side in (pair.alice, pair.bob) if side.daemon]
    await transfer(pair, 1_000_000_000)
    after = [memory(side.daemon.pid, "VmHWM") for side in (pair.alice, pair.bob) if side.daemon]
    # MB; a few chunks of 256 KiB are in flight at full speed, and allocators keep some
    assert all(late - early < 12 for early, late in zip(before, after, strict=True)), (
        before,
        after,
    )
