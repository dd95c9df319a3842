"""Payload of one direction that goes on over another road where it was (spec/resume.md).

The receiver says on the road, in the direction that is free, how many bytes it has. The sender
keeps what it has not said yet, and sends it again on the next road.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.service.secure_stream import SecureStream
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.tubes.retained import Retained

# Bytes that the sender keeps: 80 MB/s over a round trip of 100 ms.
MAX_RETAINED: Final = 8 * 1024 * 1024
# Bytes that wait to be written to the road; a source is read no faster than the road takes.
MAX_WAITING: Final = 128 * 1024
# The receiver says what it has after so many bytes, and after so many seconds in any case.
TELL_EVERY: Final = 512 * 1024
TELL_SECONDS: Final = 5.0
# A road on which the receiver has said nothing for so long is dead, seconds.
SILENCE: Final = 30.0
# Seconds until our direction of the road is half-closed after its end was said. Proxies end both
# directions with one, and what the receiver says meanwhile would cost him what they have not
# delivered yet; but there are such as deliver the last of it only then (Prosody's of 0.12).
PUSH_AFTER: Final = 0.3
# Seconds that the receiver has for the last of it where both directions have ended with ours; that
# he has it he says through the servers then.
LAST_WORD: Final = 5.0

_COUNT: Final = struct.Struct(">Q")

Renew = Callable[[], Awaitable[Stream]]


class EnduringSender:
    """See ``net.streams.Stream``; it is only written to.

    Args:
        stream: the first road, protected.
        renew: gives the next one, protected; what it raises is the end.
        tasks: of whoever has the stream.
    """

    def __init__(self, stream: Stream, renew: Renew, tasks: TaskOwner) -> None:
        self._stream = stream
        self._renew = renew
        self._tasks = tasks
        self._retained = Retained()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._ended = False
        # All is on the road, its end too.
        self._written = False
        # The receiver has said something. Before that its people may be asked, and are not hurried.
        self._heard = False
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._running = tasks.start("enduring", self._run(), awaited=True)
        self._running.add_done_callback(lambda task: self._room.set())

    async def read(self, limit: int) -> bytes:
        """Raises: StreamBroken: what the receiver says is not payload."""
        raise StreamBroken("nothing is received in this direction")

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``Stream.write``; waits while too much is on the way.

        Raises:
            StreamBroken, NoRoad, SecurityFailed, PeerError: what ended it, from ``renew`` too.
        """
        chunk = bytes(data)
        self._retained.append(chunk)
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        self._work.set()
        while self._waiting_bytes > MAX_WAITING or self._retained.size > MAX_RETAINED:
            self._room.clear()
            if self._running.done():
                break
            await self._room.wait()
        if self._running.done():
            await self._running

    async def write_eof(self) -> None:
        """That was all. Raises: as ``write``, when it has ended."""
        self._ended = True
        self._work.set()
        if self._running.done():
            await self._running

    async def written(self) -> None:
        """Wait until all is on the road, its end too. Raises: as ``write``."""
        while not self._written and not self._running.done():
            self._room.clear()
            await self._room.wait()
        if self._running.done():
            await self._running

    async def delivered(self) -> None:
        """Wait until the receiver has all, and has ended its direction. Raises: as ``write``."""
        await asyncio.shield(self._running)

    def close(self) -> None:
        """See ``Stream.close``: whoever calls it knows that all was delivered."""
        self._running.cancel()
        self._stream.close()

    def abort(self) -> None:
        """See ``Stream.abort``."""
        self._running.cancel()
        self._stream.abort()

    # -- inside -------------------------------------------------------------------------------

    async def _run(self) -> None:
        again = False
        while True:
            try:
                if again:
                    await self._begin_again()
                await self._carry()
            except StreamBroken:
                if self._written:
                    await asyncio.sleep(LAST_WORD)
                self._stream.abort()
                self._stream = await self._renew()
                again = True
            else:
                return

    async def _begin_again(self) -> None:
        """The receiver speaks first on a further road."""
        said = b""
        async with _limit(self._heard):
            while len(said) < _COUNT.size:
                data = await self._stream.read(_COUNT.size - len(said))
                if not data:
                    raise StreamBroken("the receiver has nothing to say")
                said += data
        self._heard = True
        (count,) = _COUNT.unpack(said)
        self._waiting = self._retained.since(count)
        self._waiting_bytes = sum(len(each) for each in self._waiting)
        self._room.set()

    async def _carry(self) -> None:
        """Both directions of one road, until the receiver has all and says so."""
        self._written = False
        hearing = self._tasks.start("hear", self._hear(), awaited=True)
        writing = self._tasks.start("write", self._write(), awaited=True)
        try:
            done, _ = await asyncio.wait({hearing, writing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
            # Whoever hears hears the end; what is written may end before.
            await hearing
        finally:
            for task in (hearing, writing):
                task.cancel()
            await asyncio.wait({hearing, writing})

    async def _write(self) -> None:
        while True:
            while self._waiting:
                chunk = self._waiting.popleft()
                await self._stream.write(chunk)
                self._waiting_bytes -= len(chunk)
                self._room.set()
            if self._ended:
                await self._end()
                return
            self._work.clear()
            await self._work.wait()

    async def _end(self) -> None:
        stream = self._stream
        if isinstance(stream, SecureStream):
            await stream.say_end()
            self._all_is_written()
            # Cancelled when the receiver has said that he has all.
            await asyncio.sleep(PUSH_AFTER)
        await stream.write_eof()
        self._all_is_written()

    def _all_is_written(self) -> None:
        self._written = True
        self._room.set()

    async def _hear(self) -> None:
        said = bytearray()
        while True:
            async with _limit(self._heard):
                data = await self._stream.read(64 * _COUNT.size)
            self._heard = True
            if not data:
                if self._ended and self._retained.size == 0:
                    return
                raise StreamBroken("the receiver ended before it had all")
            said += data
            whole = len(said) - len(said) % _COUNT.size
            if whole:
                (count,) = _COUNT.unpack_from(said, whole - _COUNT.size)
                self._retained.acknowledge(count)
                del said[:whole]
                self._room.set()


class EnduringReceiver:
    """See ``net.streams.Stream``; it is only read from.

    Args:
        stream, renew, tasks: as of ``EnduringSender``.
        again: the first road was lost before it was of use here; the sender may know it as such.
    """

    def __init__(
        self, stream: Stream, renew: Renew, tasks: TaskOwner, *, again: bool = False
    ) -> None:
        self._stream = stream
        self._renew = renew
        self._count = 0
        self._told = 0
        self._untold = again
        self._broken = False
        self._ended = False
        self._telling = asyncio.Lock()
        self._beating = tasks.start("beat", self._beat())

    async def read(self, limit: int) -> bytes:
        """See ``Stream.read``.

        Raises:
            NoRoad, SecurityFailed, StreamBroken: what ``renew`` raises.
        """
        while True:
            if self._broken:
                await self._begin_again()
                continue
            if self._untold:
                self._untold = False
                await self._tell()
                continue
            try:
                data = await self._stream.read(limit)
            except StreamBroken:
                self._broken = True
                continue
            self._count += len(data)
            if not data or self._count - self._told >= TELL_EVERY:
                self._ended = not data
                await self._tell()
            return data

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Raises: StreamBroken: this direction carries counts."""
        raise StreamBroken("nothing is sent in this direction")

    async def write_eof(self) -> None:
        """See ``Stream.write_eof``."""
        async with self._telling:
            self._beating.cancel()
            await self._stream.write_eof()

    def close(self) -> None:
        """See ``Stream.close``."""
        self._beating.cancel()
        self._stream.close()

    def abort(self) -> None:
        """See ``Stream.abort``."""
        self._beating.cancel()
        self._stream.abort()

    # -- inside -------------------------------------------------------------------------------

    async def _begin_again(self) -> None:
        self._stream.abort()
        self._stream = await self._renew()
        self._broken = False
        await self._tell()

    async def _tell(self) -> None:
        """Say what has come; that the road breaks meanwhile is for the next ``read``."""
        stream = self._stream
        async with self._telling:
            self._told = self._count
            try:
                await stream.write(_COUNT.pack(self._count))
            except StreamBroken:
                self._broken = self._broken or stream is self._stream

    async def _beat(self) -> None:
        """Somebody who says nothing may as well be gone."""
        while not self._ended:
            await asyncio.sleep(TELL_SECONDS)
            if not self._broken:
                await self._tell()


@contextlib.asynccontextmanager
async def _limit(limited: bool) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SILENCE if limited else None):
            yield
    except TimeoutError:
        raise StreamBroken("the receiver has said nothing for a long time") from None
