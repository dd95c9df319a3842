"""The stream inside TLS: who writes never keeps who reads from reading."""

from __future__ import annotations

import asyncio
import socket

import pytest

from telepathy_e2e.net.streams import SocketStream, StreamBroken
from telepathy_e2e.service.secure_stream import SecureStream
from tests.unit.service_support import pipes, turns, within


class Plain:
    """A machine that protects nothing, and answers each feed with an "ack"."""

    def __init__(self) -> None:
        self.arrived = bytearray()
        self.pending = bytearray()
        self.peer_closed = False

    def feed(self, data: bytes) -> None:
        self.arrived += data
        self.pending += b"ack"

    def take(self) -> bytes:
        pending, self.pending = bytes(self.pending), bytearray()
        return pending

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        self.pending += data

    def decrypt(self, limit: int) -> bytes:
        data = bytes(self.arrived[:limit])
        del self.arrived[:limit]
        return data

    def close_notify(self) -> None:
        self.pending += b"end"

    @property
    def more(self) -> bool:
        return bool(self.arrived)


async def test_reading_goes_on_while_a_write_waits_and_its_answers_follow_the_write() -> None:
    ours, theirs = pipes()
    stream = SecureStream(ours, Plain())
    ours.room.clear()
    writing = asyncio.ensure_future(stream.write(b"a lot"))
    await turns()
    assert ours.waits == 1
    ours.arrive(b"hello")
    assert await within(stream.read(100)) == b"hello"
    assert not writing.done()
    ours.room.set()
    await within(writing)
    assert await theirs.read(100) == b"a lotack"


async def test_answers_are_sent_at_once_when_nobody_writes() -> None:
    ours, theirs = pipes()
    stream = SecureStream(ours, Plain())
    ours.arrive(b"hello")
    assert await within(stream.read(100)) == b"hello"
    assert await theirs.read(100) == b"ack"


async def test_the_end_comes_after_what_is_being_written() -> None:
    ours, theirs = pipes()
    stream = SecureStream(ours, Plain())
    ours.room.clear()
    writing = asyncio.ensure_future(stream.write(b"data"))
    await turns()
    ending = asyncio.ensure_future(stream.write_eof())
    await turns()
    ours.room.set()
    await within(writing)
    await within(ending)
    assert await theirs.read(100) == b"dataend"
    assert await theirs.read(100) == b""


async def test_what_is_written_now_and_not_taken_goes_first() -> None:
    one, other = socket.socketpair()
    with other:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        stream = SecureStream(SocketStream(one), Plain())
        stream.write_now(b"small")
        assert not stream.unsent
        stream.write_now(b"x" * 1_000_000)
        assert stream.unsent
        stream.write_now(b"more")
        other.setblocking(False)
        writing = asyncio.ensure_future(stream.write(b"last"))
        got = bytearray()
        loop = asyncio.get_running_loop()
        while len(got) < 1_000_013:
            got += await within(loop.sock_recv(other, 1 << 16))
        await within(writing)
        assert not stream.unsent
        assert got == b"small" + b"x" * 1_000_000 + b"more" + b"last"
        stream.close()
        with pytest.raises(StreamBroken):
            stream.write_now(b"too late")


async def test_what_was_read_from_the_road_before_is_read_now_first() -> None:
    one, other = socket.socketpair()
    with other:
        machine = Plain()
        machine.feed(b"early")
        stream = SecureStream(SocketStream(one), machine)
        assert stream.read_now() == b"early"
        assert stream.read_now() is None
        other.send(b"later")
        assert stream.read_now() == b"later"
        other.close()
        assert stream.read_now() == b""
        stream.close()


async def test_only_a_socket_is_read_without_waiting() -> None:
    ours, _theirs = pipes()
    stream = SecureStream(ours, Plain())
    assert stream.socket is None
    with pytest.raises(RuntimeError):
        stream.read_now()
