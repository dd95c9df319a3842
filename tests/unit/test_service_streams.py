"""Moving payload, and the stream inside TLS."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from telepathy_e2e.errors import EncryptionError, NetworkError
from telepathy_e2e.net.streams import CHUNK, StreamBroken
from telepathy_e2e.service import payload
from telepathy_e2e.service.failures import SecurityFailed
from telepathy_e2e.service.payload import (
    PROGRESS_INTERVAL,
    Hash,
    MoreThanAnnounced,
    Progress,
    RemoteSource,
    SinkBroken,
    SourceBroken,
    copy,
)
from telepathy_e2e.service.secure_stream import SecureStream
from tests.unit.service_support import Pipe, Secured, pipes, turns, two_sides, within

# -- copy -----------------------------------------------------------------------------------


class Through:
    """A source that a test fills and a sink that it looks at."""

    def __init__(self, data: bytes, start: int = 0) -> None:
        self.feeder, self.source = pipes()
        self.sink, self.drain = pipes()
        self.source.arrive(data)
        self.source.cut()
        self.told: list[int] = []
        self.progress = Progress(start, self.told.append)
        self.hashes: list[Hash] = [hashlib.sha256()]

    async def run(self, limit: int | None, *, exact: bool) -> int:
        return await within_int(
            copy(
                self.source,
                self.sink,
                limit=limit,
                hashes=self.hashes,
                progress=self.progress,
                exact=exact,
            )
        )


async def within_int(work: object) -> int:
    return int(await within(work))  # type: ignore[arg-type]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
async def test_every_byte_is_moved_hashed_and_counted(size: int, exact: bool) -> None:
    data = bytes(index % 251 for index in range(size))
    through = Through(data)
    assert await through.run(size, exact=exact) == size
    assert through.sink.written == data
    assert through.hashes[0].digest() == hashlib.sha256(data).digest()
    assert through.progress.count == size


async def test_a_source_without_an_announced_end_goes_to_its_own() -> None:
    assert await Through(b"12345").run(None, exact=True) == 5


async def test_nothing_of_what_is_too_much_reaches_the_sink() -> None:
    through = Through(b"12345")
    with pytest.raises(MoreThanAnnounced):
        await through.run(4, exact=True)
    assert through.sink.written == b""


async def test_a_file_that_grew_is_sent_as_long_as_it_was_announced() -> None:
    through = Through(b"12345")
    assert await through.run(4, exact=False) == 4
    assert through.sink.written == b"1234"


async def test_a_source_that_ends_early_says_how_far_it_came() -> None:
    assert await Through(b"123").run(10, exact=True) == 3


async def test_which_side_broke_is_told() -> None:
    through = Through(b"")
    through.source = Pipe()
    through.source.broke()
    with pytest.raises(SourceBroken):
        await through.run(1, exact=True)
    through = Through(b"x")
    through.sink.abort()
    with pytest.raises(SinkBroken):
        await through.run(1, exact=True)


async def test_a_slow_sink_holds_the_source_up() -> None:
    through = Through(bytes(10 * CHUNK))
    through.sink.room.clear()
    task = asyncio.create_task(through.run(None, exact=True))
    await turns()
    assert len(through.source._arrived) == 9 * CHUNK
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_source_that_is_done_may_be_silent_for_a_while_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(payload, "REST_SECONDS", 0.1)
    feeder, stream = pipes()
    source = RemoteSource(stream)
    reading = asyncio.create_task(source.read(10))
    await turns()
    # Until it is done nobody asks how long it takes.
    assert source._limit is not None
    assert source._limit.when() is None
    source.hurry()
    stream.arrive(b"on its way")
    assert await within(reading) == b"on its way"
    with pytest.raises(StreamBroken):
        await within(source.read(10))
    # What has come is read, however late somebody asks.
    stream.arrive(b"the rest")
    assert await within(source.read(10)) == b"the rest"
    feeder.close()


async def test_a_read_that_waits_already_is_hurried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "REST_SECONDS", 0.01)
    _, stream = pipes()
    source = RemoteSource(stream)
    reading = asyncio.create_task(source.read(10))
    await turns()
    source.hurry()
    with pytest.raises(StreamBroken):
        await within(reading)


async def test_progress_is_told_once_a_second_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    now = [loop.time()]
    monkeypatch.setattr(loop, "time", lambda: now[0])
    told: list[int] = []
    progress = Progress(100, told.append)
    progress.add(1)
    progress.add(1)
    now[0] += PROGRESS_INTERVAL / 2
    progress.add(1)
    assert told == [101]
    now[0] += PROGRESS_INTERVAL
    progress.add(1)
    assert told == [101, 104]
    progress.flush()
    assert told == [101, 104]
    progress.add(5)
    progress.flush()
    progress.flush()
    assert told == [101, 104, 109]


# -- inside TLS -----------------------------------------------------------------------------


async def test_reading_and_writing_go_on_side_by_side() -> None:
    async with two_sides() as (alice, bob):
        one, other = await (await Secured(alice, bob).agree()).secured()
        data = bytes(300_000)
        writes = [asyncio.create_task(stream.write(data)) for stream in (one, other)]
        for stream in (one, other):
            got = 0
            while got < len(data):
                part = await within(stream.read(50_000))
                assert 0 < len(part) <= 50_000
                got += len(part)
        await asyncio.gather(*writes)


async def test_records_of_two_writers_do_not_mix() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        one, other = await pair.secured()
        assert isinstance(one, SecureStream)
        pair.roads[0].room.clear()
        writes = [asyncio.create_task(one.write(bytes([n]) * 40_000)) for n in (1, 2)]
        writes.append(asyncio.create_task(one.flush()))
        await turns()
        assert pair.roads[0].waits == 1
        pair.roads[0].room.set()
        await asyncio.gather(*writes)
        got = b""
        while len(got) < 80_000:
            got += await within(other.read(80_000))
        assert got == b"\x01" * 40_000 + b"\x02" * 40_000


async def test_the_end_is_the_peers_word_for_it_and_not_the_roads() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        one, other = await pair.secured()
        await one.write(b"all")
        await one.write_eof()
        assert await within(other.read(10)) == b"all"
        assert await within(other.read(10)) == b""
        assert pair.ends[1].payload.failures == []
        await other.write(b"the other direction goes on")
        assert await within(one.read(100)) == b"the other direction goes on"


async def test_a_road_that_ends_without_a_word_is_a_cut() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        one, other = await pair.secured()
        await one.write(b"part")
        pair.roads[1].cut()
        assert await within(other.read(10)) == b"part"
        with pytest.raises(SecurityFailed) as failure:
            await within(other.read(10))
        assert isinstance(failure.value.error, NetworkError)


async def test_one_bit_that_changed_on_the_road_gives_nothing() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        one, other = await pair.secured()
        pair.roads[0].other, kept = pipes()[0], pair.roads[1]
        start = len(pair.roads[0].written)
        await one.write(b"pay Eve 100")
        record = bytearray(pair.roads[0].written[start:])
        record[-1] ^= 1
        kept.arrive(bytes(record))
        with pytest.raises(SecurityFailed) as failure:
            await within(other.read(100))
        assert isinstance(failure.value.error, EncryptionError)


async def test_a_reset_is_a_broken_road_and_no_tampering() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        _, other = await pair.secured()
        pair.roads[1].broke()
        with pytest.raises(StreamBroken):
            await within(other.read(10))
        assert pair.ends[1].payload.failures == []


async def test_closing_and_aborting_reach_the_road() -> None:
    async with two_sides() as (alice, bob):
        pair = await Secured(alice, bob).agree()
        one, other = await pair.secured()
        one.close()
        other.abort()
        assert pair.roads[0].closed
        assert pair.roads[1].aborted
