"""Byte streams with back-pressure: what a transfer is pumped through, whatever carries it.

``SocketStream`` talks to the kernel without asyncio's transports: a transport buffers in user space
and copies twice; here ``write`` is done when the kernel has every byte, so memory stays constant.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from telepathy_e2e.errors import NetworkError
from telepathy_e2e.net.loss import INFO_SIZE, INTERVAL, LossDetector

log = logging.getLogger(__name__)

#: Bytes moved by one system call at most: six TLS records. Buffers from 128 KiB on are mapped and
#: unmapped by malloc, which costs more than encrypting them, and two of these still fit a core's
#: second-level cache; with smaller ones Python's part of the work grows.
CHUNK = 96 * 1024

#: Seconds that streams may keep the loop to themselves. Far below the 20 ms that nothing may hold
#: it, and long enough that giving it a turn costs little.
TURN = 0.001

#: Where nothing is sent: seconds of silence before the other side is asked whether it is there,
#: between the questions, and how many remain unanswered.
KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 10),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 3),
)


# SocketStream has a property of that name.
_Socket = socket.socket


class _Turns:
    """When the loop last had a turn; one for all streams, since it is one loop that they share."""

    last = 0.0


async def _give_turn() -> None:
    loop = asyncio.get_running_loop()
    if loop.time() - _Turns.last >= TURN:
        await asyncio.sleep(0)
        _Turns.last = loop.time()


class StreamBroken(NetworkError):
    """The stream is gone without a proper end: reset, timed out, refused, or closed here."""


class Stream(Protocol):
    """An ordered, reliable stream of bytes, with an end in each direction.

    One task may read while another writes; two readers, or two writers, at once are an error
    (``RuntimeError``).
    """

    async def read(self, limit: int) -> bytes:
        """At least one byte, at most ``limit`` (> 0); ``b""`` when the peer's direction has ended.

        Cancelling loses no data. Raises: StreamBroken.
        """

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take all of ``data``, waiting while the other side is slow.

        A cancelled write has sent an unknown part: only ``abort`` makes sense after it. Raises:
        StreamBroken.
        """

    async def write_eof(self) -> None:
        """End our direction; reading goes on. Raises: StreamBroken."""

    def close(self) -> None:
        """Let go of it; what was written is still delivered. May be called again."""

    def abort(self) -> None:
        """Break it, so that the other side cannot take this for an end. May be called again."""


class Readiness:
    """Waits until a descriptor can be read or written, and wakes who waits when it is closed.

    ``loop.sock_recv`` and its kin cannot be woken by a close: the waiter would hang, and the
    selector would keep a descriptor number that the next socket gets.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiters: dict[str, asyncio.Future[None]] = {}
        self._callbacks: dict[str, Callable[[], object]] = {}
        self._closed = False

    def on_readable(self, callback: Callable[[], object] | None) -> None:
        """Call it whenever there is something to read, and once more when closed meanwhile; None:
        not any more. Instead of ``readable``, by who has no task to spare."""
        loop = asyncio.get_running_loop()
        self._call("read", callback, loop.add_reader, loop.remove_reader)

    def on_writable(self, callback: Callable[[], object] | None) -> None:
        """The same for writing."""
        loop = asyncio.get_running_loop()
        self._call("write", callback, loop.add_writer, loop.remove_writer)

    def _call(
        self,
        what: str,
        callback: Callable[[], object] | None,
        add: Callable[..., None],
        remove: Callable[[int], bool],
    ) -> None:
        if callback is not None:
            if what in self._waiters:
                raise RuntimeError(f"a task waits to {what}")
            self._callbacks[what] = callback
            if self._closed:
                asyncio.get_running_loop().call_soon(self._tell_closed, what)
            else:
                add(self._descriptor, callback)
        elif self._callbacks.pop(what, None) is not None and not self._closed:
            remove(self._descriptor)

    def _tell_closed(self, what: str) -> None:
        if (callback := self._callbacks.get(what)) is not None:
            callback()

    async def readable(self) -> None:
        """Raises: StreamBroken when closed meanwhile."""
        loop = asyncio.get_running_loop()
        await self._wait("read", loop.add_reader, loop.remove_reader)

    async def writable(self) -> None:
        """Raises: StreamBroken when closed meanwhile."""
        loop = asyncio.get_running_loop()
        await self._wait("write", loop.add_writer, loop.remove_writer)

    async def _wait(
        self, what: str, add: Callable[..., None], remove: Callable[[int], bool]
    ) -> None:
        if self._closed:
            raise StreamBroken("the stream is closed")
        if what in self._waiters or what in self._callbacks:
            raise RuntimeError(f"two wait to {what}")
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[what] = waiter
        add(self._descriptor, _wake, waiter)
        try:
            await waiter
        finally:
            _Turns.last = asyncio.get_running_loop().time()
            del self._waiters[what]
            if not self._closed:  # once closed, the number may be somebody else's
                remove(self._descriptor)

    def close(self) -> None:
        """Call before the descriptor is closed."""
        if self._closed:
            return
        self._closed = True
        for what, waiter in self._waiters.items():
            loop = waiter.get_loop()
            (loop.remove_reader if what == "read" else loop.remove_writer)(self._descriptor)
            if not waiter.done():
                waiter.set_exception(StreamBroken("the stream was closed"))
        for what in self._callbacks:
            loop = asyncio.get_running_loop()
            (loop.remove_reader if what == "read" else loop.remove_writer)(self._descriptor)
            loop.call_soon(self._tell_closed, what)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class SocketStream:
    """A ``Stream`` over a connected stream socket, which it owns from here on.

    Buffers of TCP sockets are left to the kernel, which tunes them by itself and stops doing so
    when told a size.

    Every read and write first gives the loop a turn: a socket that is always ready would otherwise
    never suspend the task that pumps it, and D-Bus and XMPP would wait for the end of the file. The
    turn comes before the system call, so that a cancellation never meets bytes that were taken from
    the kernel and not yet handed over.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # hellos and the last record are small and somebody waits for them
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._readiness = Readiness(sock.fileno())
        self._closed = False
        self._reading = False
        self._writing = False
        self._looking: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<SocketStream {'closed' if self._closed else self._sock.fileno()}>"

    @property
    def socket(self) -> socket.socket:
        """For options, addresses and credentials; never for payload."""
        return self._sock

    async def read(self, limit: int) -> bytes:
        """See ``Stream.read``; gives ``CHUNK`` bytes at most."""
        if self._reading:
            raise RuntimeError("two tasks read one stream")
        if limit <= 0:
            raise ValueError("nothing to read")
        limit = min(limit, CHUNK)
        self._reading = True
        try:
            await _give_turn()
            while True:
                self._check_open()
                try:
                    return self._sock.recv(limit)
                except (BlockingIOError, InterruptedError):
                    await self._readiness.readable()
                except OSError as error:
                    raise _broken(error) from error
        finally:
            self._reading = False

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``Stream.write``."""
        if self._writing:
            raise RuntimeError("two tasks write one stream")
        self._writing = True
        try:
            with memoryview(data) as whole, whole.cast("B") as view:
                sent = 0
                while sent < len(view):
                    await _give_turn()
                    sent += await self._send(view[sent : sent + CHUNK])
        finally:
            self._writing = False

    def on_readable(self, callback: Callable[[], object] | None) -> None:
        """See ``Readiness.on_readable``; for ``read_now``."""
        self._readiness.on_readable(callback)

    def on_writable(self, callback: Callable[[], object] | None) -> None:
        """See ``Readiness.on_writable``; for ``write_now``."""
        self._readiness.on_writable(callback)

    def read_now(self, limit: int) -> bytes | None:
        """What is there, ``limit`` bytes at most; ``b""`` at the end, None if there is nothing now.

        Raises: StreamBroken.
        """
        self._check_open()
        try:
            return self._sock.recv(limit)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise _broken(error) from error

    def write_now(self, data: bytes | memoryview) -> int:
        """Take what the kernel takes at once; how many bytes. Raises: StreamBroken."""
        self._check_open()
        if self._writing:
            return 0
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise _broken(error) from error

    async def _send(self, view: memoryview) -> int:
        with view:
            while True:
                self._check_open()
                try:
                    return self._sock.send(view)
                except (BlockingIOError, InterruptedError):
                    await self._readiness.writable()
                except OSError as error:
                    raise _broken(error) from error

    async def write_eof(self) -> None:
        """See ``Stream.write_eof``."""
        self.end_now()

    def end_now(self) -> None:
        """``write_eof``, which never waits. Raises: StreamBroken."""
        self._check_open()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise _broken(error) from error

    def notice_loss(self) -> None:
        """Break within half a minute when the other side is not heard any more.

        Else TCP goes on trying for a quarter of an hour, and for ever where nothing is sent. For
        those who have somewhere else to go.
        """
        if self._sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        for option, value in KEEPALIVE:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.IPPROTO_TCP, option, value)
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._look_for_loss(LossDetector())

    def _look_for_loss(self, detector: LossDetector) -> None:
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_SIZE)
        if detector.look(info, loop.time()):
            log.info("a connection is lost: what was sent is not acknowledged any more")
            self.abort()
        else:
            self._looking = loop.call_later(INTERVAL, self._look_for_loss, detector)

    async def readable(self) -> None:
        """Wait until a read would not wait, without reading. Raises: StreamBroken."""
        await self._readiness.readable()

    def ended(self) -> bool:
        """Whether there is nothing to read and never will be. Takes no byte from the stream."""
        if self._closed:
            return True
        try:
            return self._sock.recv(1, socket.MSG_PEEK) == b""
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True

    def detach(self) -> _Socket:
        """The socket, which is the caller's from here on; this stream is closed to all others."""
        self._check_open()
        self._let_go()
        return self._sock

    def close(self) -> None:
        """See ``Stream.close``. Whoever waits on this stream gets StreamBroken."""
        if not self._closed:
            self._let_go()
            self._sock.close()

    def _let_go(self) -> None:
        self._closed = True
        self._readiness.close()
        if self._looking is not None:
            self._looking.cancel()

    def abort(self) -> None:
        """See ``Stream.abort``: a reset on TCP. A Unix socket knows none, its peer sees an end."""
        if not self._closed and self._sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StreamBroken("the stream is closed")


def _broken(error: OSError) -> StreamBroken:
    return StreamBroken(f"the connection broke: {os.strerror(error.errno or 0)}")
