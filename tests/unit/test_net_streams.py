from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from telepathy_e2e.net import streams
from telepathy_e2e.net.streams import CHUNK, SocketStream, StreamBroken

from .net_support import LOOPBACKS, nothing_left_open, read_all, stream_pair, turns

KINDS = [*LOOPBACKS, pytest.param("unix", id="unix")]
FAR_MORE_THAN_BUFFERS = bytes(range(256)) * (64 * 1024)


@pytest.fixture(autouse=True)
async def _no_leak() -> AsyncIterator[None]:
    async with nothing_left_open():
        yield


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_arrive_whole_and_in_order_and_so_does_the_end(kind: str) -> None:
    one, other = stream_pair(kind)

    async def send() -> None:
        await one.write(FAR_MORE_THAN_BUFFERS)
        await one.write_eof()

    sending = asyncio.get_running_loop().create_task(send())
    assert await read_all(other) == FAR_MORE_THAN_BUFFERS
    await sending
    await other.write(b"the other direction is open still")
    assert await one.read(100) == b"the other direction is open still"
    one.close()
    other.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_write_waits_while_the_other_side_does_not_read(kind: str) -> None:
    one, other = stream_pair(kind)
    sending = asyncio.get_running_loop().create_task(one.write(FAR_MORE_THAN_BUFFERS))
    await turns(1000)
    assert not sending.done()
    received = 0
    while received < len(FAR_MORE_THAN_BUFFERS):
        received += len(await other.read(CHUNK))
    await sending
    one.close()
    other.close()


async def test_any_buffer_of_any_item_size_is_written_as_bytes() -> None:
    one, other = stream_pair("unix")
    for data in (b"ab", bytearray(b"ab"), memoryview(b"ab"), memoryview(b"ab").cast("H")):
        await one.write(data)
        assert await other.read(10) == b"ab"
    await one.write(b"")
    assert not other.ended()
    one.close()
    other.close()


async def test_a_read_gives_no_more_than_asked_and_never_more_than_a_chunk() -> None:
    one, other = stream_pair("127.0.0.1")
    sending = asyncio.get_running_loop().create_task(one.write(bytes(4 * CHUNK)))
    assert len(await other.read(3)) == 3
    received = 3
    while received < 4 * CHUNK:
        data = await other.read(1 << 30)
        assert 0 < len(data) <= CHUNK
        received += len(data)
    await sending
    one.close()
    other.close()


async def test_other_tasks_get_their_turn_while_a_stream_is_always_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "TURN", 0.0)  # it is always due
    one, other = stream_pair("unix")
    seen: list[str] = []

    async def neighbour() -> None:
        while True:
            seen.append("neighbour")
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(neighbour())
    for _ in range(20):
        await one.write(b"x")
        seen.append("written")
        await other.read(1)
        seen.append("read")
    task.cancel()
    for before, after in pairwise(seen):
        assert "neighbour" in (before, after)
    one.close()
    other.close()


async def test_a_large_write_gives_turns_between_its_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "TURN", 0.0)  # it is always due
    one, other = stream_pair("unix")
    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * CHUNK)
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks < 1000:
            asyncio.get_running_loop().call_soon(tick)

    async def receive() -> None:
        received = 0
        while received < 8 * CHUNK:
            received += len(await other.read(CHUNK))

    receiving = asyncio.get_running_loop().create_task(receive())
    tick()
    await one.write(bytes(8 * CHUNK))
    assert ticks > 8
    ticks = 1000
    await receiving
    one.close()
    other.close()


@pytest.mark.parametrize("before_cancel", range(4))
async def test_a_cancelled_read_loses_nothing(before_cancel: int) -> None:
    one, other = stream_pair("unix")
    reading = asyncio.get_running_loop().create_task(other.read(100))
    await turns(before_cancel)
    await one.write(b"precious")
    reading.cancel()
    outcome = (await asyncio.gather(reading, return_exceptions=True))[0]
    if isinstance(outcome, asyncio.CancelledError):
        assert await other.read(100) == b"precious"
    else:
        assert outcome == b"precious"
    one.close()
    other.close()


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_closing_wakes_a_reader_and_a_writer_that_wait(how: str) -> None:
    one, other = stream_pair("127.0.0.1")
    reading = asyncio.get_running_loop().create_task(one.read(1))
    writing = asyncio.get_running_loop().create_task(one.write(FAR_MORE_THAN_BUFFERS))
    await turns(1000)
    getattr(one, how)()
    for task in (reading, writing):
        with pytest.raises(StreamBroken):
            await task
    other.close()


async def test_the_next_owner_of_a_descriptor_number_is_not_disturbed() -> None:
    one, other = stream_pair("unix")
    number = one.socket.fileno()
    reading = asyncio.get_running_loop().create_task(one.read(1))
    await turns()
    one.close()
    third, fourth = socket.socketpair()
    assert third.fileno() == number
    called = asyncio.Event()
    asyncio.get_running_loop().add_reader(number, called.set)
    with pytest.raises(StreamBroken):
        await reading
    fourth.send(b"x")
    await called.wait()
    assert asyncio.get_running_loop().remove_reader(number)
    for each in (other, third, fourth):
        each.close()


@pytest.mark.parametrize("address", LOOPBACKS)
async def test_an_abort_cannot_be_taken_for_an_end(address: str) -> None:
    one, other = stream_pair(address)
    await one.write(b"unfinished")
    assert await other.read(100) == b"unfinished"
    one.abort()
    with pytest.raises(StreamBroken, match="reset"):
        await other.read(100)
    other.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_written_before_a_close_is_delivered(kind: str) -> None:
    one, other = stream_pair(kind)
    await one.write(b"last words")
    one.close()
    assert await read_all(other) == b"last words"
    other.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_writing_to_someone_who_left_breaks_the_stream(kind: str) -> None:
    one, other = stream_pair(kind)
    other.close()
    with pytest.raises(StreamBroken):
        await one.write(FAR_MORE_THAN_BUFFERS)
    one.close()


async def test_ending_our_direction_twice_over_a_dead_connection_breaks_the_stream() -> None:
    one, other = stream_pair("127.0.0.1")
    other.abort()
    with pytest.raises(StreamBroken):
        await one.read(1)
    with pytest.raises(StreamBroken):
        await one.write_eof()
    one.close()


async def test_nothing_can_be_done_with_a_closed_stream_but_close_it_again() -> None:
    one, other = stream_pair("unix")
    one.close()
    one.close()
    one.abort()
    for attempt in (one.read(1), one.write(b"x"), one.write_eof(), one.readable()):
        with pytest.raises(StreamBroken):
            await attempt
    assert one.ended()
    assert repr(one) == "<SocketStream closed>"
    other.close()


async def test_two_readers_or_two_writers_are_a_mistake_that_shows() -> None:
    one, other = stream_pair("unix")
    reading = asyncio.get_running_loop().create_task(one.read(1))
    writing = asyncio.get_running_loop().create_task(one.write(FAR_MORE_THAN_BUFFERS))
    await turns()
    with pytest.raises(RuntimeError):
        await one.read(1)
    with pytest.raises(RuntimeError):
        await one.write(b"x")
    with pytest.raises(RuntimeError):
        await one.readable()
    one.close()
    await asyncio.gather(reading, writing, return_exceptions=True)
    other.close()


async def test_reading_nothing_is_a_mistake_that_shows() -> None:
    one, other = stream_pair("unix")
    with pytest.raises(ValueError, match="nothing"):
        await one.read(0)
    one.close()
    other.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_whether_it_has_ended_is_seen_without_taking_a_byte(kind: str) -> None:
    one, other = stream_pair(kind)
    assert not other.ended()
    await one.write(b"x")
    await other.readable()
    assert not other.ended()
    assert await other.read(10) == b"x"
    await one.write_eof()
    await other.readable()
    assert other.ended()
    one.close()
    other.close()


async def test_a_reset_connection_has_ended() -> None:
    one, other = stream_pair("127.0.0.1")
    one.abort()
    await other.readable()
    assert other.ended()
    other.close()


async def test_small_messages_are_not_held_back_on_tcp() -> None:
    one, other = stream_pair("127.0.0.1")
    assert one.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    one.close()
    other.close()


async def test_a_blocking_socket_does_not_block_the_loop() -> None:
    blocking, other = socket.socketpair()
    blocking.setblocking(True)
    stream = SocketStream(blocking)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await stream.read(1)
    stream.close()
    other.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_loss_can_be_noticed_soon(kind: str) -> None:
    one, other = stream_pair(kind)
    one.notice_loss()
    if kind != "unix":
        for option, value in streams.KEEPALIVE:
            assert one.socket.getsockopt(socket.IPPROTO_TCP, option) == value
        assert one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    one.close()
    other.close()
