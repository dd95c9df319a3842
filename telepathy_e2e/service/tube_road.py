"""The road of a tube, as its pump sees it: what comes is handed over, and what goes is taken.

A socket is served by callbacks of the loop, since a task that waits for it would cost a further
turn of the loop for every piece and each way; everything else is read and written by two tasks.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final, Protocol

from telepathy_e2e.errors import PeerError
from telepathy_e2e.net.streams import CHUNK as READ
from telepathy_e2e.net.streams import SocketStream, Stream, StreamBroken
from telepathy_e2e.service.failures import SecurityFailed
from telepathy_e2e.service.secure_stream import SecureStream
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.tubes.mux import CHUNK

# Bytes in a piece for a road that is not a socket: data channels and the servers are slow.
SLOW_PIECE: Final = 32 * 1024


class User(Protocol):
    """Who has the road."""

    def received(self, data: bytes) -> None:
        """Something came; ``b""``: that was all of this direction.

        Raises: PeerError: it makes no sense.
        """

    def not_full(self) -> None:
        """The road is not ``full`` any more."""

    def all_sent(self) -> None:
        """What was sent before ``end`` is on its way, and our direction has ended."""

    def lost(self, error: BaseException) -> None:
        """Nothing comes or goes any more. Whatever the user raises comes back to it here."""


class TubeRoad(Protocol):
    """See the module. Nothing happens before ``start`` and after ``close``."""

    def start(self) -> None:
        """The user is ready to be told."""

    @property
    def full(self) -> bool:
        """What was sent last has not gone yet. To be asked before each ``send``."""

    @property
    def piece(self) -> int:
        """Bytes to ``send`` at most: what is urgent waits behind the piece before it."""

    def send(self, data: bytes) -> None:
        """Raises: StreamBroken, SecurityFailed."""

    def end(self) -> None:
        """Nothing more will be sent. Raises: StreamBroken, SecurityFailed."""

    def pause(self) -> None:
        """Hand over nothing for now."""

    def resume(self) -> None:
        """Go on."""

    async def close(self) -> None:
        """Let go of the stream, which is its owner's to close."""


def road_over(stream: Stream, user: User, tasks: TaskOwner) -> TubeRoad:
    """The best there is for this stream.

    Args:
        tasks: those that it takes belong to it.
    """
    if isinstance(stream, SecureStream) and (sock := stream.socket) is not None:
        return SocketRoad(stream, sock, user)
    return TaskRoad(stream, user, tasks)


class SocketRoad:
    """TLS over a socket."""

    def __init__(self, stream: SecureStream, sock: SocketStream, user: User) -> None:
        self._stream = stream
        self._sock = sock
        self._user = user
        self._running = False
        self._reading = False  # the loop tells
        self._read_all = False
        self._soon = False  # there is more to read than the road tells of
        self._ending = False
        self._waiting = False  # for room

    def start(self) -> None:
        self._running = True
        # With what was read before the people had answered.
        self.resume()

    @property
    def full(self) -> bool:
        return self._stream.unsent

    @property
    def piece(self) -> int:
        return CHUNK

    def send(self, data: bytes) -> None:
        self._stream.write_now(data)
        self._wait()

    def end(self) -> None:
        self._ending = True
        self._stream.end_now()
        self._wait()
        if not self._waiting:
            self._end()

    def pause(self) -> None:
        self._reading = False
        self._sock.on_readable(None)

    def resume(self) -> None:
        if self._running and not self._read_all:
            self._reading = True
            self._sock.on_readable(self._readable)
            self._read_more()

    async def close(self) -> None:
        self._running = self._reading = False
        self._sock.on_readable(None)
        self._sock.on_writable(None)

    def _readable(self) -> None:
        self._do(self._read)

    def _writable(self) -> None:
        self._do(self._write)

    def _do(self, step: Callable[[], None]) -> None:
        if not self._running:
            return
        try:
            step()
        except (StreamBroken, SecurityFailed, PeerError) as error:
            self._broke(error)
        finally:
            if (fault := sys.exception()) is not None:  # of this program
                self._broke(fault)

    def _read(self) -> None:
        if not self._reading or self._soon:
            return
        data = self._stream.read_now()
        self._wait()
        if data:
            self._user.received(data)
            self._read_more()
        elif data is not None:
            self._read_all = True
            self.pause()
            self._user.received(data)

    def _read_more(self) -> None:
        """What the road will not tell of, since it came with what was read: the end, a failure,
        the other records of very many."""
        if self._reading and not self._soon and self._stream.more_now:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._soon = False
        self._readable()
        if self._reading and not self._soon:
            # A road that was closed meanwhile has told so, once.
            self._sock.on_readable(self._readable)

    def _write(self) -> None:
        self._stream.write_now(b"")
        if self._stream.unsent:
            return
        self._sock.on_writable(None)
        self._waiting = False
        if self._ending:
            self._end()
        else:
            self._user.not_full()

    def _wait(self) -> None:
        if self._stream.unsent and not self._waiting:
            self._waiting = True
            self._sock.on_writable(self._writable)

    def _end(self) -> None:
        self._sock.end_now()
        self._user.all_sent()

    def _broke(self, error: BaseException) -> None:
        self._running = self._reading = False
        self._sock.on_readable(None)
        self._sock.on_writable(None)
        self._user.lost(error)


class TaskRoad:
    """Any other stream."""

    def __init__(self, stream: Stream, user: User, tasks: TaskOwner) -> None:
        self._stream = stream
        self._user = user
        self._tasks = tasks
        self._both: set[asyncio.Task[None]] = set()
        self._waiting = b""
        self._ending = False
        self._work = asyncio.Event()
        self._reads = asyncio.Event()
        self._reads.set()

    def start(self) -> None:
        for name, script in (("read", self._read()), ("write", self._write())):
            task = self._tasks.start(name, script, awaited=True)
            task.add_done_callback(self._done)
            self._both.add(task)

    @property
    def full(self) -> bool:
        return bool(self._waiting)

    @property
    def piece(self) -> int:
        return SLOW_PIECE

    def send(self, data: bytes) -> None:
        self._waiting = data
        self._work.set()

    def end(self) -> None:
        self._ending = True
        self._work.set()

    def pause(self) -> None:
        self._reads.clear()

    def resume(self) -> None:
        self._reads.set()

    async def close(self) -> None:
        both, self._both = self._both, set()
        for task in both:
            task.cancel()
        if both:
            await asyncio.wait(both)

    async def _read(self) -> None:
        data = b"any"
        while data:
            await self._reads.wait()
            data = await self._stream.read(READ)
            self._user.received(data)

    async def _write(self) -> None:
        while not self._ending or self._waiting:
            await self._work.wait()
            self._work.clear()
            if self._waiting:
                await self._stream.write(self._waiting)
                self._waiting = b""
                self._user.not_full()
        await self._stream.write_eof()
        self._user.all_sent()

    def _done(self, task: asyncio.Task[None]) -> None:
        if task in self._both and not task.cancelled() and (error := task.exception()) is not None:
            self._user.lost(error)
