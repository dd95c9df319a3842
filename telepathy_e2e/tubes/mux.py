"""Many connections in one protected stream, each with its own flow control (spec/tubes.md).

No I/O and no clock. Bytes of the road go into ``receive_data``; after every call ``data_to_send``
may have some for it, and ``events`` what happened.
"""

from __future__ import annotations

import sys
from collections import deque

from telepathy_e2e.errors import NotAvailable, NotYet, PeerError
from telepathy_e2e.role import Role

from . import limits as bounds
from .connection import Connection
from .events import Event, Reason
from .frames import (
    HEADER_SIZE,
    MAX_DATA,
    MAX_ID,
    MAX_METADATA,
    Kind,
    Preface,
    build_preface,
    header,
    long,
)
from .limits import Limits
from .receiving import Receiver
from .state import State

# Bytes in one piece for the road: one write of it. With 96 KiB, as files have them, what a piece
# costs besides its bytes was a good part of all.
CHUNK = 240 * 1024

# With its header one frame of fifteen that fill a piece.
_PAYLOAD = MAX_DATA - HEADER_SIZE

# Frames that a connection may send in its turn. Of each turn the other side makes a call of the
# kernel, so that one frame would cost it twice as many.
_TURN = 2

# Bytes of one connection that fill a piece. Of more, the rest would go in a piece of its own.
FULL = CHUNK // MAX_DATA * _PAYLOAD


class Multiplexer:
    """One side of a tube.

    Args:
        role: of the Jingle session; it parts the numbers of connections.
        limits: what the peer may make us hold.

    A tube begins without a road: ``road_up`` says that there is one, protected. Bytes before it,
    or after ``road_lost``, are nobody's.

    ``PeerError`` out of ``receive_data`` ends the tube: every method raises the same from then on.
    """

    def __init__(self, role: Role, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        first = 1 if role is Role.INITIATOR else 2
        self._state = State(self.limits, first)
        self._receiver = Receiver(self._state, 3 - first)
        # Those that have something to send: for the first time since they had not, and the others.
        self._fresh: deque[Connection] = deque()
        self._ready: deque[Connection] = deque()
        self._preface = b""
        self._error: PeerError | None = None

    # -- the road -----------------------------------------------------------------------------

    def road_up(self) -> None:
        """A road is there, the first or the next after ``road_lost``, with nothing on it yet."""
        self._check()
        if self._receiver.listening:
            raise ValueError("the tube has a road")
        received = self._receiver.begin()
        self._preface = build_preface(
            Preface(self.limits.connections, self.limits.window, received)
        )

    def road_lost(self) -> None:
        """The road ended before the tube did. Connections stay, and wait for another."""
        self._check()
        self._receiver.end()
        self._preface = b""

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Bytes from the road, any number; returns ``events()``.

        Raises: PeerError: the stream is not one of a tube, or breaks a bound.
        """
        self.receive_frames(data, sys.maxsize)
        return self.events()

    def receive_frames(self, data: bytes | bytearray | memoryview, most: int) -> int:
        """The same for whoever has other things to do: in one read of a road a hostile peer puts
        thousands of frames. Then call ``events``.

        Args:
            most: frames that are taken, at least 1; one that is not whole counts as none.
        Returns: bytes that were taken. The others are to be given again, and first.
        Raises: PeerError: as above.
        """
        self._check()
        state = self._state
        allowed = self.limits.in_flight + bounds.MAX_CONTROL
        try:
            taken = self._receiver.receive(data, most)
            if state.retained.size + len(state.control) > allowed:
                raise PeerError("answers are asked for and not acknowledged")
        except PeerError as error:
            self._error = error
            for waiting in (self._fresh, self._ready):
                waiting.clear()
            for held in (state.connections, state.control, state.events):
                held.clear()
            raise
        return taken

    def data_to_send(self, limit: int = CHUNK) -> bytes:
        """The next piece for the road, ``b""`` if there is none now.

        Connections take turns, and who had nothing to send comes first. Call ``events`` afterwards:
        some may be writable.

        Args:
            limit: bytes, at least 64.
        """
        self._check()
        if self._preface:
            preface, self._preface = self._preface, b""
            return preface
        if not self._receiver.ready:
            return b""
        if self._receiver.again:
            return self._receiver.again.popleft()
        state = self._state
        out: list[bytes | bytearray | memoryview] = []
        if state.control:
            out.append(state.control[:limit])
            del state.control[:limit]
            limit -= len(out[0])
        if not state.control:
            kept = state.retained.size + sum(map(len, out))
            self._fill(out, min(limit, self.limits.in_flight - kept))
        chunk = b"".join(out)
        if chunk:
            state.retained.append(chunk)
        return chunk

    def events(self) -> list[Event]:
        """What happened since the last call, in order."""
        happened, self._state.events = self._state.events, []
        return happened

    @property
    def pending(self) -> bool:
        """Whether something waits to be sent, be it for another road or an acknowledgement."""
        waits = self._receiver.again or self._state.control or self._fresh or self._ready
        return bool(self._preface or waits)

    @property
    def finished(self) -> bool:
        """``Finished`` was told."""
        return self._state.finished

    # -- connections --------------------------------------------------------------------------

    def open(self, metadata: bytes = b"") -> int:
        """Open a connection; returns its id. It can be written to at once.

        Raises:
            NotYet: the peer's preface has not come (``Ready``).
            NotAvailable: no more at once, or the tube is closing.
        """
        self._check()
        if len(metadata) > MAX_METADATA:
            raise ValueError("too long metadata")
        if self._state.peer is None:
            raise NotYet("The other side of the tube is not there yet")
        if self._state.closing or self._state.peer_closing:
            raise NotAvailable("The tube is being closed")
        most = min(self.limits.own_connections, self._state.peer.connections)
        full = len(self._state.control) > bounds.MAX_CONTROL or self._state.next > MAX_ID
        if self._state.own >= most or full:
            raise NotAvailable("This tube has no room for another connection")
        number = self._state.next
        self._state.next += 2
        self._state.add(number, ours=True)
        self._state.control += header(Kind.OPEN, number, len(metadata)) + metadata
        return number

    def room(self, number: int) -> int:
        """Bytes that ``write`` would take now. Raises: NotAvailable: no such connection."""
        connection = self._get(number)
        most = bounds.QUEUE if self._state.queued < bounds.QUEUED else bounds.QUEUE_SMALL
        if len(connection.queue) >= bounds.QUEUE_SMALL:
            most = max(0, most - len(connection.queue))
        return min(connection.send_window, most)

    def write(self, number: int, data: bytes | bytearray | memoryview) -> int:
        """Send data; returns how many bytes were taken, 0 to all.

        What was not taken is the caller's to write again after ``Writable``, which comes once.

        Raises: NotAvailable: no such connection any more, or ``eof`` was said.
        """
        connection = self._get(number)
        if connection.eof_wanted:
            raise NotAvailable("This direction of the connection is closed")
        queue = connection.queue
        taken = min(len(data), self.room(number))
        if taken < len(data):
            connection.blocked = True
        if taken:
            if not queue and taken >= bounds.QUEUE_SMALL and isinstance(data, bytes):
                connection.queue = memoryview(data)[:taken]
            else:
                if isinstance(queue, memoryview):
                    connection.queue = queue = bytearray(queue)
                queue += memoryview(data)[:taken]
            connection.send_window -= taken
            self._state.queued += taken
            self._schedule(connection)
        return taken

    def eof(self, number: int) -> None:
        """Nothing more will be written; what was goes out first. Reading goes on.

        Raises: NotAvailable: no such connection any more.
        """
        connection = self._get(number)
        if not connection.eof_wanted:
            connection.eof_wanted = True
            connection.blocked = False
            self._schedule(connection)

    def reset(self, number: int, reason: Reason) -> None:
        """Give a connection up, both directions, what is queued included. No event follows; one
        that is not there any more is left alone."""
        self._check()
        connection = self._state.connections.get(number)
        if connection is not None:
            self._state.forget(connection)
            self._state.refuse(number, reason)

    def consumed(self, number: int, size: int) -> None:
        """So many bytes of ``Data`` have gone on to the program: the peer may send more."""
        self._check()
        connection = self._state.connections.get(number)
        if connection is None:
            return  # it was reset meanwhile
        if not 0 <= size <= connection.unconsumed:
            raise ValueError("more is consumed than came")
        connection.unconsumed -= size
        if connection.eof_received:
            self._state.settle(connection)
        else:
            self._state.grant(connection)

    def ping(self, number: int) -> None:
        """Ask for a ``Pong`` with this number of 64 bits: whether the road lives."""
        self._check()
        self._state.control += long(Kind.PING, number)

    def close(self) -> None:
        """Open no more and refuse what the peer opens; what is open goes on to its end."""
        self._check()
        self._state.close()

    @property
    def connections(self) -> list[int]:
        """Ids of those that are open, or have something that was not consumed."""
        return list(self._state.connections)

    # -- inside -------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _get(self, number: int) -> Connection:
        self._check()
        connection = self._state.connections.get(number)
        if connection is None:
            raise NotAvailable("This connection is closed")
        return connection

    def _schedule(self, connection: Connection) -> None:
        if not connection.scheduled:
            connection.scheduled = True
            self._fresh.append(connection)

    def _fill(self, out: list[bytes | bytearray | memoryview], room: int) -> None:
        """Add up to ``room`` bytes of frames of those that wait, in turns."""
        fresh, ready, state = self._fresh, self._ready, self._state
        while (fresh or ready) and room > HEADER_SIZE:
            first = bool(fresh)
            connection = fresh.popleft() if first else ready.popleft()
            if connection.gone:
                continue
            for _ in range(_TURN):
                take = min(len(connection.queue), _PAYLOAD, room - HEADER_SIZE)
                if take <= 0:
                    break
                out.append(header(Kind.DATA, connection.number, take))
                out.append(_cut(connection, take))
                state.queued -= take
                room -= HEADER_SIZE + take
            if connection.queue or (connection.eof_wanted and room < HEADER_SIZE):
                ready.append(connection)
            elif connection.eof_wanted:
                connection.scheduled = False
                out.append(header(Kind.EOF, connection.number, 0))
                room -= HEADER_SIZE
                connection.eof_sent = True
                state.settle(connection)
            elif first:
                # Once more among the others, empty or not (RFC 8290 section 4.2): else whoever
                # sends a little again and again would always be the first.
                ready.append(connection)
            else:
                connection.scheduled = False
            if len(connection.queue) < bounds.QUEUE_SMALL:
                state.unblock(connection)


def _cut(connection: Connection, size: int) -> bytes | bytearray | memoryview:
    """The first bytes of what waits; all of it without a copy."""
    queue = connection.queue
    if size == len(queue):
        connection.queue = bytearray()
        return queue
    piece = queue[:size]
    if isinstance(queue, bytearray):
        del queue[:size]
    else:
        connection.queue = queue[size:]
    return piece
