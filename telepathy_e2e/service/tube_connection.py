"""The local end of one connection of a tube: a socket that the loop serves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from typing import Protocol

from telepathy_e2e.net.streams import CHUNK
from telepathy_e2e.tubes.mux import FULL

# Pieces that are given to the kernel where they are. It takes 1,024; of many small ones putting
# them together costs less.
_GATHERED = 64

# Bytes that are read, and wait here, before it is known whether there is room for them.
_LEAST = 4096

_LINGER_NOT = struct.pack("ii", 1, 0)


class Carrier(Protocol):
    """What carries the connection to the contact; see ``tube_pump.Pump``."""

    def room_for(self, number: int) -> int:
        """Bytes that ``take`` would take now."""

    def take(self, number: int, data: bytes | memoryview) -> int:
        """Data of the local program; how many bytes were taken. The rest waits for ``resume``."""

    def taken(self, size: int) -> None:
        """So much was taken and may go on its way, which may call ``resume`` already."""

    def end(self, number: int) -> None:
        """The local program writes no more."""

    def gone_on(self, number: int, size: int) -> None:
        """The local program has taken so many bytes that waited."""

    def done(self, number: int) -> None:
        """Both directions are over, and the socket is closed."""

    def broke(self, number: int) -> None:
        """The local program is gone."""


class LocalConnection:
    """See the module. It holds at most the window of the connection, and ``_LEAST`` of the program.

    Args:
        number: the connection's id.
    """

    __slots__ = (
        "_carrier",
        "_fd",
        "_loop",
        "_no_more",
        "_out",
        "_rest",
        "_sock",
        "_writing",
        "number",
        "read_all",
    )

    def __init__(self, number: int, carrier: Carrier) -> None:
        self.number = number
        self.read_all = False
        """The local program has ended its direction, and all of it was taken."""
        self._carrier = carrier
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._fd = -1
        self._rest: bytes | memoryview = b""  # read, and not taken yet
        self._out = bytearray()  # came, and the program has not taken it yet
        self._no_more = False  # nothing comes after ``_out``
        self._writing = False  # the loop tells when it takes more

    def attach(self, sock: socket.socket, read: bytes = b"") -> None:
        """See ``Pump.attach``."""
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock, self._fd = sock, sock.fileno()
        if read:
            self._rest = read
            self.resume()
        else:
            self._loop.add_reader(self._fd, self._readable)
        if self._out or self._no_more:
            self._writable()

    # -- to the contact -----------------------------------------------------------------------

    def _readable(self) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            # What would have to wait here is not read, so that many that wait hold little.
            data = sock.recv(min(FULL, max(_LEAST, self._carrier.room_for(self.number))))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._carrier.broke(self.number)
            return
        if not data:
            self._loop.remove_reader(self._fd)
            self.read_all = True
            self._carrier.end(self.number)
            self._settle()
            return
        taken = self._carrier.take(self.number, data)
        if taken < len(data):
            self._rest = memoryview(data)[taken:]
            self._loop.remove_reader(self._fd)
        if taken:
            self._carrier.taken(taken)

    def resume(self) -> None:
        """There is room for what was not taken."""
        if self._sock is None:
            return
        taken = 0
        if self._rest:
            taken = self._carrier.take(self.number, self._rest)
            self._rest = self._rest[taken:]
        if not self._rest and not self.read_all:
            self._rest = b""
            self._loop.add_reader(self._fd, self._readable)
        if taken:
            self._carrier.taken(taken)

    # -- from the contact ---------------------------------------------------------------------

    def deliver(self, pieces: Sequence[memoryview]) -> int:
        """Give data to the program; how many bytes it took at once. Of others ``gone_on`` tells."""
        if self._out or self._sock is None:
            self._out += b"".join(pieces)
            return 0
        try:
            if len(pieces) == 1:
                sent = self._sock.send(pieces[0])
            elif len(pieces) <= _GATHERED:
                sent = self._sock.sendmsg(pieces)
            else:
                sent = self._sock.send(b"".join(pieces))
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._carrier.broke(self.number)
            return 0
        if sent < sum(map(len, pieces)):
            self._out += b"".join(pieces)[sent:]
            self._writing = True
            self._loop.add_writer(self._fd, self._writable)
        return sent

    def end_delivery(self) -> None:
        """Nothing comes after what was delivered."""
        self._no_more = True
        if not self._out and self._sock is not None:
            self._shut()

    def _writable(self) -> None:
        sock, out = self._sock, self._out
        if sock is None:
            return
        if out:
            sent = 0
            try:
                with memoryview(out) as whole, whole[:CHUNK] as piece:
                    sent = sock.send(piece)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._carrier.broke(self.number)
                return
            del out[:sent]
            if sent:
                self._carrier.gone_on(self.number, sent)
        if out:
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._fd, self._writable)
        else:
            if self._writing:
                self._writing = False
                self._loop.remove_writer(self._fd)
            if self._no_more:
                self._shut()

    # -- the end ------------------------------------------------------------------------------

    def _shut(self) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):  # the program is gone, and says so when it is read
                self._sock.shutdown(socket.SHUT_WR)
        self._settle()

    def _settle(self) -> None:
        if self.read_all and self._no_more and not self._out:
            self._close()
            self._carrier.done(self.number)

    def abort(self) -> None:
        """Let go of the socket, so that the program can tell this from an end where it can."""
        if self._sock is not None and self._sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._close()

    def _close(self) -> None:
        sock, self._sock = self._sock, None
        self._out = bytearray()
        self._rest = b""
        if sock is not None:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            sock.close()
