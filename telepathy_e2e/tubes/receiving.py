"""The half of the multiplexer that reads what the peer sent."""

from __future__ import annotations

from collections import deque
from typing import Final

from telepathy_e2e.errors import PeerError

from .events import Closing, Data, Eof, Opened, Pong, Ready, Reason, Reset
from .frames import (
    HEADER_SIZE,
    MAX_DATA,
    MAX_ID,
    MAX_METADATA,
    MAX_WINDOW,
    PREFACE_SIZE,
    Kind,
    long,
    parse_preface,
    read_header,
)
from .limits import ACK_EVERY, MAX_CONTROL, SPARE
from .state import State

# By the kinds that have something after the header: OPEN, DATA.
_OPEN_DATA: Final = 1
_LEAST: Final = (0, 1)
_MOST: Final = (MAX_METADATA, MAX_DATA)


class Receiver:
    """Frames into events.

    Args:
        state: what the frames change.
        first: the first id that the peer gives.
    """

    def __init__(self, state: State, first: int) -> None:
        self._state = state
        self._next = first
        self._theirs = first % 2
        self._buffer = bytearray()
        self._preface = bytearray()
        self._received = 0
        self._told = 0
        self.listening = False
        """There is a road."""
        self.ready = False
        """The peer's preface on this road was read."""
        self.again: deque[bytes] = deque()
        """What the peer lacks, and was sent on another road."""

    def begin(self) -> int:
        """A road is up; returns how many bytes of frames have arrived so far."""
        self.listening = True
        self._preface.clear()
        self._told = self._received
        return self._received

    def end(self) -> None:
        """The road is lost. Half a frame stays: the peer goes on with its other half."""
        self.listening = self.ready = False
        self.again.clear()

    def receive(self, data: bytes | bytearray | memoryview, most: int) -> int:
        """Up to ``most`` frames; returns how many bytes were taken. Raises: PeerError."""
        if not self.listening:
            raise ValueError("the tube has no road")
        before = 0
        if not self.ready:
            before = PREFACE_SIZE - len(self._preface)
            self._preface += data[:before]
            if len(self._preface) < PREFACE_SIZE:
                return len(data)
            data = data[before:]
            self._begun()
        taken = self._take(memoryview(data), most)
        self._received += taken
        due = ACK_EVERY // 2 if self._state.control else ACK_EVERY
        if self._received - self._told >= due:
            self._told = self._received
            self._state.control += long(Kind.ACK, self._received)
        return before + taken

    def _begun(self) -> None:
        state = self._state
        peer = parse_preface(self._preface)
        if state.peer is not None and (peer.connections, peer.window) != (
            state.peer.connections,
            state.peer.window,
        ):
            raise PeerError("a tube has other limits on another road")
        self.again = state.retained.since(peer.received)
        state.peer = peer
        self.ready = True
        state.events.append(Ready())

    def _take(self, data: memoryview, most: int) -> int:
        """Frames are read where they are; only one that is not whole is copied, to wait."""
        buffer, size = self._buffer, len(data)
        while buffer and data:
            missing = _frame_size(buffer) - len(buffer)
            buffer += data[:missing]
            data = data[missing:]
            if len(buffer) == _frame_size(buffer) > 0:
                whole, self._buffer = buffer, bytearray()
                buffer = self._buffer
                self._frames(memoryview(whole), 1)
                most -= 1
        if not data:
            return size
        position, whole_ones = self._frames(data, most)
        if whole_ones < most:
            self._buffer += data[position:]
            return size
        return size - len(data) + position

    def _frames(self, data: memoryview, most: int) -> tuple[int, int]:
        """What up to ``most`` whole frames say; returns where the next begins, which is not whole
        unless they were so many, and how many they were."""
        position, size, count = 0, len(data), 0
        connections, events = self._state.connections, self._state.events
        while count < most and size - position >= HEADER_SIZE:
            kind, number, n = read_header(data, position)
            start = position + HEADER_SIZE
            if kind > _OPEN_DATA:
                position = start
                count += 1
                self._control(kind, number, n)
                continue
            if not _LEAST[kind] <= n <= _MOST[kind]:
                raise PeerError("a frame that is empty or too long")
            if size - start < n:
                break
            position = start + n
            count += 1
            if kind == 0:
                self._open(number, bytes(data[start:position]))
                continue
            connection = connections.get(number)
            if connection is None:
                self._must_be_old(number)
                continue
            if connection.eof_received:
                raise PeerError("data after the end of a connection")
            if n > connection.credit:
                raise PeerError("more data than the window of a connection")
            connection.credit -= n
            connection.unconsumed += n
            events.append(Data(number, data[start:position]))
        return position, count

    def _open(self, number: int, metadata: bytes) -> None:
        state = self._state
        if number != self._next or number > MAX_ID:
            raise PeerError("a connection with a number out of turn")
        self._next += 2
        most = state.limits.connections
        theirs = len(state.connections) - state.own
        if state.closing or theirs >= most + most // SPARE:
            state.refuse(number, Reason.REFUSED)
            self._check_control()
            return
        state.add(number, ours=False)
        state.events.append(Opened(number, metadata))

    def _control(self, kind: int, number: int, n: int) -> None:
        state = self._state
        match kind:
            case Kind.WINDOW:
                self._window(number, n)
            case Kind.EOF:
                self._eof(number)
            case Kind.RESET:
                self._reset(number, Reason.of(n))
            case Kind.ACK:
                state.retained.acknowledge(number << 32 | n)
            case Kind.PING:
                state.control += long(Kind.PONG, number << 32 | n)
                self._check_control()
            case Kind.PONG:
                state.events.append(Pong(number << 32 | n))
            case Kind.CLOSE:
                self._close()
            case _:
                raise PeerError("a frame of an unknown kind")

    def _window(self, number: int, n: int) -> None:
        connection = self._state.connections.get(number)
        if connection is None:
            self._must_be_old(number)
            return
        if not 0 < n <= MAX_WINDOW - connection.send_window:
            raise PeerError("a window that is empty or too large")
        connection.send_window += n
        self._state.unblock(connection)

    def _eof(self, number: int) -> None:
        state = self._state
        connection = state.connections.get(number)
        if connection is None:
            self._must_be_old(number)
            return
        if connection.eof_received:
            raise PeerError("a connection ends twice")
        connection.eof_received = True
        state.events.append(Eof(number))
        state.settle(connection)

    def _reset(self, number: int, reason: Reason) -> None:
        state = self._state
        connection = state.connections.get(number)
        if connection is None:
            self._must_be_old(number)
            return
        state.events.append(Reset(number, reason))
        state.forget(connection)

    def _close(self) -> None:
        state = self._state
        if not state.peer_closing:
            state.peer_closing = True
            state.events.append(Closing())
            state.close()

    def _must_be_old(self, number: int) -> None:
        """What crossed our own reset is for a connection that there was; nothing else may be."""
        following = self._next if number % 2 == self._theirs else self._state.next
        if not 0 < number < following:
            raise PeerError("a frame for a connection that never was")

    def _check_control(self) -> None:
        if len(self._state.control) > MAX_CONTROL:
            raise PeerError("answers are asked for and not read")


def _frame_size(beginning: bytearray) -> int:
    """Bytes of the frame that begins so: those of its header until that is whole."""
    if len(beginning) < HEADER_SIZE:
        return HEADER_SIZE
    kind, n = beginning[0], int.from_bytes(beginning[5:HEADER_SIZE], "big")
    if kind > _OPEN_DATA:
        return HEADER_SIZE
    if n > _MOST[kind]:
        raise PeerError("a frame that is too long")
    return HEADER_SIZE + n
