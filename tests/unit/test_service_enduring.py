"""Payload that goes on over another road where it was."""

from __future__ import annotations

import asyncio
import random
import secrets
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from telepathy_e2e.errors import PeerError
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.service import enduring
from telepathy_e2e.service.enduring import EnduringReceiver, EnduringSender
from telepathy_e2e.service.failures import NoRoad
from telepathy_e2e.service.secure_stream import SecureStream
from telepathy_e2e.tasks import TaskOwner
from tests.unit.service_support import Pipe, pipes, turns, until, within


class Roads:
    """Two ends, and as many roads as they want; ``lost`` is what each of them asked for."""

    def __init__(self) -> None:
        self.tasks = TaskOwner("test")
        self.pair = pipes()
        self.lost = [0, 0]
        self.none_left = False
        self._both = asyncio.Event()
        self.sender = EnduringSender(self.pair[0], lambda: self._renew(0), self.tasks)
        self.receiver = EnduringReceiver(self.pair[1], lambda: self._renew(1), self.tasks)

    async def _renew(self, end: int) -> Pipe:
        if self.none_left:
            raise NoRoad("there is none")
        self.lost[end] += 1
        if self.lost[0] == self.lost[1]:
            self.pair = pipes()
            both, self._both = self._both, asyncio.Event()
            both.set()
        else:
            await self._both.wait()
        return self.pair[end]

    def cut(self) -> None:
        """The road is gone, with all that was on it."""
        for road in self.pair:
            road._arrived.clear()
            road.broke()


@asynccontextmanager
async def roads() -> AsyncIterator[Roads]:
    made = Roads()
    try:
        yield made
    finally:
        made.sender.abort()
        made.receiver.abort()
        await made.tasks.close()


async def take(receiver: EnduringReceiver) -> bytes:
    taken = bytearray()
    while data := await receiver.read(50_000):
        taken += data
    await receiver.write_eof()
    return bytes(taken)


async def give(sender: EnduringSender, data: bytes, size: int = 70_000) -> None:
    for start in range(0, len(data), size):
        await sender.write(data[start : start + size])
    await sender.write_eof()
    await sender.delivered()


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
async def test_all_arrives_over_one_road(size: int) -> None:
    data = secrets.token_bytes(size)
    async with roads() as made:
        taken, _ = await within(asyncio.gather(take(made.receiver), give(made.sender, data)))
        assert taken == data
        assert made.lost == [0, 0]


@pytest.mark.parametrize("seed", range(20))
async def test_all_arrives_once_and_in_order_over_any_number_of_roads(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    data = rng.randbytes(1_000_000)

    async def cut(made: Roads) -> None:
        for _ in range(rng.randrange(1, 6)):
            await turns(rng.randrange(1, 60))
            made.cut()

    async with roads() as made:
        taken, _, _ = await within(
            asyncio.gather(
                take(made.receiver), give(made.sender, data, rng.randrange(1, 90_000)), cut(made)
            )
        )
        assert taken == data


async def test_a_road_that_is_lost_after_the_last_byte_is_replaced_for_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enduring, "LAST_WORD", 0.01)
    async with roads() as made:
        for road in made.pair:
            road.other.cut = lambda: None  # type: ignore[method-assign]
        giving = asyncio.get_running_loop().create_task(give(made.sender, b"all of it"))
        assert await within(made.receiver.read(100)) == b"all of it"
        await turns()
        assert not giving.done()
        made.cut()
        assert await within(take(made.receiver)) == b""
        await within(giving)
        assert made.lost == [1, 1]


async def test_a_road_that_ends_with_our_own_end_is_not_replaced_at_once() -> None:
    # A proxy ends both directions then; the receiver may have all, and says so elsewhere.
    async with roads() as made:
        await made.sender.write(b"all of it")
        await made.sender.write_eof()
        await until(lambda: made.sender._written)
        made.pair[0].cut()
        await turns()
        assert made.lost == [0, 0]
        assert not made.pair[0].aborted


class Sealed(SecureStream):
    """One whose machine encrypts nothing."""

    def __init__(self, road: Pipe) -> None:
        self.road = road
        self.said: list[str] = []

    async def read(self, limit: int) -> bytes:
        return await self.road.read(limit)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await self.road.write(data)

    async def say_end(self) -> None:
        self.said.append("end")

    async def write_eof(self) -> None:
        self.said.append("half-close")


@pytest.mark.parametrize(("patience", "expected"), [(60.0, ["end"]), (0.0, ["end", "half-close"])])
async def test_the_road_is_half_closed_only_when_the_receiver_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, patience: float, expected: list[str]
) -> None:
    monkeypatch.setattr(enduring, "PUSH_AFTER", patience)
    pair = pipes()
    stream, tasks = Sealed(pair[0]), TaskOwner("test")
    sender = EnduringSender(stream, _never, tasks)
    await sender.write(b"four")
    await sender.write_eof()
    await until(lambda: stream.said == expected)
    pair[0].arrive(struct.pack(">Q", 4))
    pair[0].cut()
    await within(sender.delivered())
    assert stream.said == expected
    await tasks.close()


async def _never() -> Pipe:
    raise AssertionError("no other road is wanted")


async def test_a_road_is_replaced_while_the_source_has_nothing() -> None:
    async with roads() as made:
        await made.sender.write(b"first")
        assert await within(made.receiver.read(100)) == b"first"
        reading = asyncio.get_running_loop().create_task(made.receiver.read(100))
        await turns()
        made.cut()
        await until(lambda: made.lost == [1, 1])
        await made.sender.write(b"second")
        assert await within(reading) == b"second"


async def test_a_source_is_held_back_by_a_road_that_is_full() -> None:
    async with roads() as made:
        made.pair[0].room.clear()
        writing = asyncio.get_running_loop().create_task(
            give(made.sender, bytes(enduring.MAX_WAITING * 4), 1000)
        )
        await turns(1000)
        assert made.sender._waiting_bytes <= enduring.MAX_WAITING + 1000
        made.pair[0].room.set()
        await within(take(made.receiver))
        await within(writing)


async def test_what_waits_for_the_road_is_not_written() -> None:
    async with roads() as made:
        made.pair[0].room.clear()
        await made.sender.write(b"the end of the file")
        await made.sender.write_eof()
        written = asyncio.get_running_loop().create_task(made.sender.written())
        await turns()
        assert not written.done()
        made.pair[0].room.set()
        await within(written)


async def test_what_is_kept_is_bounded_by_what_the_receiver_says() -> None:
    async with roads() as made:
        piece = bytes(enduring.MAX_WAITING)

        async def endless() -> None:
            while True:
                await made.sender.write(piece)

        writing = asyncio.get_running_loop().create_task(endless())
        await turns(1000)
        # The road takes all, and nobody says that it has arrived.
        assert made.sender._retained.size <= enduring.MAX_RETAINED + len(piece)
        assert not writing.done()
        writing.cancel()


async def test_a_receiver_that_claims_more_than_was_sent_ends_it() -> None:
    async with roads() as made:
        await made.sender.write(b"four")
        made.pair[0].arrive(struct.pack(">Q", 5))
        with pytest.raises(PeerError):
            await within(made.sender.delivered())
        with pytest.raises(PeerError):
            await within(made.sender.write(b"more"))


async def test_a_receiver_that_ends_before_it_has_all_has_lost_its_road() -> None:
    async with roads() as made:
        await made.sender.write(b"four")
        made.none_left = True
        made.pair[0].cut()
        with pytest.raises(NoRoad):
            await within(made.sender.delivered())


async def test_when_there_is_no_other_road_both_are_told() -> None:
    async with roads() as made:
        made.none_left = True
        made.cut()
        with pytest.raises(NoRoad):
            await within(made.receiver.read(10))
        with pytest.raises(NoRoad):
            await within(made.sender.delivered())
        with pytest.raises(NoRoad):
            await within(made.sender.write_eof())


async def test_silence_of_the_receiver_is_the_end_of_the_road(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enduring, "SILENCE", 0.05)
    async with roads() as made:
        await asyncio.sleep(0.1)
        # Its people may be asked before it says anything.
        assert made.lost == [0, 0]
        await made.pair[1].write(struct.pack(">Q", 0))
        await until(lambda: made.lost[0] == 1)


async def test_a_receiver_that_waits_says_now_and_then_that_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enduring, "TELL_SECONDS", 0.01)
    async with roads() as made:
        await until(lambda: len(made.pair[1].written) >= 3 * 8)
        assert set(made.pair[1].written) == {0}


async def test_each_end_has_one_direction() -> None:
    async with roads() as made:
        with pytest.raises(StreamBroken):
            await made.sender.read(1)
        with pytest.raises(StreamBroken):
            await made.receiver.write(b"x")
