import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from telepathy_e2e.cli import names, relay
from telepathy_e2e.cli.exits import UsageError
from telepathy_e2e.cli.places import Place
from telepathy_e2e.cli.relay import Relay

PATIENCE = 60.0
ANY = Place(names.IPV4, "127.0.0.1", 0)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(params=["tcp", "unix"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return ANY if request.param == "tcp" else Place(names.UNIX, os.fsencode(tmp_path / "here"))


@contextlib.asynccontextmanager
async def running(place: Place) -> AsyncIterator[Relay]:
    made = Relay(place)
    task = asyncio.get_running_loop().create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        made.close()


@contextlib.asynccontextmanager
async def tube(serve: Serve) -> AsyncIterator[Place]:
    """In the daemon's place."""
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Place(names.IPV4, *server.sockets[0].getsockname())


async def connect(made: Relay) -> Streams:
    if made.place.is_unix:
        return await asyncio.open_unix_connection(made.place.address)
    return await asyncio.open_connection(*made.place.address)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def saying(word: bytes) -> Serve:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word)
        writer.close()

    return say


def break_off(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.002)


async def test_bytes_go_both_ways_and_are_counted(where: Place) -> None:
    async with running(where) as made, tube(echo) as target:
        made.add(target)
        reader, writer = await connect(made)
        writer.write(b"hello" * 100_000)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b"hello" * 100_000
        writer.close()
        await until(lambda: (made.sent, made.received) == (500_000, 500_000))


async def test_an_end_of_one_direction_is_passed_on_and_the_other_goes_on(where: Place) -> None:
    ended = asyncio.Event()

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b"question"
        ended.set()
        writer.write(b"answer")
        writer.close()

    async with running(where) as made, tube(answer_late) as target:
        made.add(target)
        reader, writer = await connect(made)
        writer.write(b"question")
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
            assert await reader.read() == b"answer"
        writer.close()


async def test_who_sends_first_may_also_end_first(where: Place) -> None:
    got = asyncio.get_running_loop().create_future()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        writer.write_eof()
        got.set_result(await reader.read())
        writer.close()

    async with running(where) as made, tube(greet) as target:
        made.add(target)
        reader, writer = await connect(made)
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b"welcome"
            writer.write(b"thank you")
            writer.write_eof()
            assert await got == b"thank you"
        writer.close()


async def test_no_more_is_read_than_the_other_side_takes(where: Place) -> None:
    go_on, got = asyncio.Event(), 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await go_on.wait()
        while data := await reader.read(1 << 16):
            got += len(data)
        writer.close()

    async with running(where) as made, tube(slow) as target:
        made.add(target)
        _, writer = await connect(made)
        total = 0
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.5):
                    writer.write(b"x" * 100_000)
                    total += 100_000
                    await writer.drain()
                assert total < 100_000_000, "nothing holds the program up"
        go_on.set()
        writer.write_eof()
        await until(lambda: got == total)
        writer.close()


async def test_a_connection_that_breaks_on_one_side_breaks_on_the_other() -> None:
    broken = asyncio.Event()

    async def expects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"part")
        try:
            await reader.read()
        except ConnectionError:
            broken.set()
        writer.close()

    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"part")
        await writer.drain()
        await reader.readexactly(1)
        break_off(writer)

    async with running(ANY) as made, tube(expects) as target:
        made.add(target)
        reader, writer = await connect(made)
        async with asyncio.timeout(PATIENCE):
            await reader.readexactly(4)
            break_off(writer)
            await broken.wait()
        async with tube(breaks) as other:
            made.add(other)
            reader, writer = await connect(made)
            async with asyncio.timeout(PATIENCE):
                await reader.readexactly(4)
                writer.write(b"x")
                with pytest.raises(ConnectionError):
                    await reader.read()
            writer.close()


async def test_the_last_tube_counts_and_without_one_programs_are_told_at_once() -> None:
    async def word(made: Relay) -> bytes:
        reader, writer = await connect(made)
        try:
            async with asyncio.timeout(PATIENCE):
                return await reader.read()
        finally:
            writer.close()

    async with running(ANY) as made, tube(saying(b"old")) as old, tube(saying(b"new")) as new:
        with pytest.raises(ConnectionResetError):
            await word(made)
        made.add(old)
        assert await word(made) == b"old"
        made.add(new)
        assert await word(made) == b"new"
        made.remove(new)
        assert await word(made) == b"old"
        made.remove(old)
        with pytest.raises(ConnectionResetError):
            await word(made)


async def test_a_tube_that_takes_no_connection_is_told_to_the_program() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        gone = Place(names.IPV4, *sock.getsockname())
    async with running(ANY) as made:
        made.add(gone)
        reader, writer = await connect(made)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        writer.close()


async def test_no_more_connections_than_a_tube_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MAX_CONNECTIONS", 2)
    there = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal there
        there += 1
        writer.write(b"in")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with running(ANY) as made, tube(count) as target:
        made.add(target)
        streams = [await connect(made) for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            for reader, _ in streams:
                await reader.readexactly(2)
            # It is in the kernel's queue, and comes in when there is room.
            third, writer = await connect(made)
            assert there == 2
            streams[0][1].close()
            assert await third.readexactly(2) == b"in"
        writer.close()
        streams[1][1].close()


async def test_many_connections_at_once_and_one_after_the_other() -> None:
    async with running(ANY) as made, tube(echo) as target:
        made.add(target)

        async def one(number: int) -> bool:
            reader, writer = await connect(made)
            word = str(number).encode() * 1000
            writer.write(word)
            writer.write_eof()
            same = await reader.read() == word
            writer.close()
            return same

        async with asyncio.timeout(PATIENCE):
            assert all(await asyncio.gather(*(one(number) for number in range(100))))


async def test_the_end_cuts_what_is_open() -> None:
    async with tube(echo) as target:
        async with running(ANY) as made:
            made.add(target)
            reader, writer = await connect(made)
            writer.write(b"x")
            async with asyncio.timeout(PATIENCE):
                await reader.readexactly(1)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(made)


# -- the place --------------------------------------------------------------------------------


def test_any_free_port_is_told_and_a_taken_one_is_refused() -> None:
    made = Relay(ANY)
    assert made.place.port > 0
    assert made.upstream == names.IPV4
    with pytest.raises(UsageError, match="not possible to listen"):
        Relay(made.place)
    made.close()
    Relay(made.place).close()


def test_a_unix_socket_is_for_its_owner_alone_and_goes_with_the_program(tmp_path: Path) -> None:
    path = tmp_path / "here"
    made = Relay(Place(names.UNIX, os.fsencode(path)))
    assert path.stat().st_mode & 0o777 == 0o600
    assert made.upstream == names.UNIX
    made.close()
    assert not path.exists()


@pytest.mark.parametrize("abstract", [False, True])
async def test_another_user_does_not_get_through_a_unix_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    path = os.fsencode(tmp_path / "here")
    place = Place(names.ABSTRACT_UNIX, b"\0" + path) if abstract else Place(names.UNIX, path)
    async with running(place) as made, tube(saying(b"in")) as target:
        made.add(target)
        for uid, said in ((os.geteuid() + 1, b""), (os.geteuid(), b"in")):
            monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
            reader, writer = await asyncio.open_unix_connection(place.address)
            async with asyncio.timeout(PATIENCE):
                assert await reader.read() == said
            writer.close()


def test_what_a_killed_run_left_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "here"
    place = Place(names.UNIX, os.fsencode(path))
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(place.address)
    made = Relay(place)
    with pytest.raises(UsageError):  # somebody listens
        Relay(place)
    made.close()
    path.write_text("a file")
    with pytest.raises(UsageError):
        Relay(place)
    assert path.read_text() == "a file"


def test_the_place_of_somebody_else_is_left_alone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "here"
    made = Relay(Place(names.UNIX, os.fsencode(path)))
    path.rename(tmp_path / "elsewhere")
    path.write_text("a file")
    made.close()
    assert path.read_text() == "a file"
