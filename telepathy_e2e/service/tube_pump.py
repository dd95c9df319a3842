"""Bytes between a tube's protected stream and the local sockets of its connections.

One task reads the stream, one writes it, and the local sockets are served by callbacks of the
loop: with a task for each connection a byte would wait for two more turns of the loop on each side.
Nothing here waits for a local program while it reads: what one does not take stays within the
window of its connection, and stops that connection alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Final, Protocol

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.net.streams import CHUNK, TURN, Stream, StreamBroken
from telepathy_e2e.service.failures import SecurityFailed
from telepathy_e2e.service.secure_stream import SecureStream
from telepathy_e2e.service.tube_connection import LocalConnection
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.tubes.events import (
    Closing,
    Data,
    Eof,
    Event,
    Finished,
    Opened,
    Pong,
    Ready,
    Reason,
    Reset,
    Writable,
)
from telepathy_e2e.tubes.mux import Multiplexer

# Bytes of the road that the multiplexer gets at a time. In more a hostile peer puts as many
# openings as would hold the loop for longer than anything may (hacking.md).
PIECE: Final = 16 * 1024

# Bytes that somebody may be waiting for, as with a key that is pressed: they are sent at once,
# where there are few connections. With many it is better to send together what all have.
URGENT: Final = 1024
FEW: Final = 16

# Events that are collected from several pieces. What an honest peer sends in so many is few.
MANY: Final = 64

# Seconds without a byte from the peer: then it is asked for one, and then the road is dead.
ASK_AFTER: Final = 20.0
DEAD_AFTER: Final = 40.0

# After so many bytes something more is sent when nothing else has followed for so many seconds:
# some proxies keep what they have read until more comes. Prosody's of 0.12 takes 8 KiB at a time
# and passes on half of it; single bytes are four times as many on the road, being protected.
BURST: Final = 1024
PUSH_AFTER: Final = 0.05

# Seconds from the end of one direction of a tube that both sides have closed to that of the other.
END_SECONDS: Final = 5.0


class Ends(Protocol):
    """What stands behind the pump: the channel."""

    def tube_ready(self) -> None:
        """The other side is there: connections can be opened. Once for a tube."""

    def connection_opened(self, number: int) -> None:
        """The peer opened one: ``attach`` a socket to it, or ``refuse`` it."""

    def connection_ended(self, number: int, reason: Reason | None) -> None:
        """It is over and its socket closed; None: both directions came to their end."""

    def tube_closing(self) -> None:
        """The peer opens no more connections and takes none."""


class Pump:
    """See the module.

    Args:
        mux: the tube's.
        ends: told what happens.
        tasks: what the two tasks belong to.
        ask_after, dead_after: seconds, see above.
    """

    def __init__(
        self,
        mux: Multiplexer,
        ends: Ends,
        tasks: TaskOwner,
        *,
        ask_after: float = ASK_AFTER,
        dead_after: float = DEAD_AFTER,
    ) -> None:
        self.mux = mux
        self._ends = ends
        self._tasks = tasks
        self._ask_after, self._dead_after = ask_after, dead_after
        self._loop = asyncio.get_running_loop()
        self._connections: dict[int, LocalConnection] = {}
        self._was_ready = False
        self._closing = False
        self._idle: asyncio.Future[None] | None = None
        # Writes at once what is small and urgent; None: the road cannot.
        self._direct: SecureStream | None = None
        self._sending = False
        self._dead: asyncio.Future[None] | None = None
        self._heard = 0.0
        # The peer has said something. Before that its people may be asked, and are not hurried.
        self._spoken = False
        self._pings = 0
        self._timer: asyncio.TimerHandle | None = None
        self._push: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> list[int]:
        """Ids of those that are not over."""
        return list(self._connections)

    @property
    def closing(self) -> bool:
        """One side has closed the tube: no more connections are opened."""
        return self._closing

    def has(self, number: int) -> bool:
        """Whether a connection is not over."""
        return number in self._connections

    # -- the road -----------------------------------------------------------------------------

    async def run(self, stream: Stream) -> None:
        """Carry the tube over this stream until both sides have closed it.

        Raises:
            StreamBroken, SecurityFailed: the road ended before the tube did. Connections wait.
            PeerError: what the peer sent makes no sense.
        """
        self.mux.road_up()
        self._dead = self._loop.create_future()
        self._direct = stream if isinstance(stream, SecureStream) else None
        self._heard = self._loop.time()
        if self._spoken:
            self._watch()
        both = {
            self._tasks.start("read", self._read(stream), awaited=True),
            self._tasks.start("write", self._write(stream), awaited=True),
        }
        try:
            waiting: set[asyncio.Future[None]] = {*both, self._dead}
            while both & waiting:
                # Who has said all waits for the other's last word, and not for ever.
                patience = END_SECONDS if len(both & waiting) < len(both) else None
                done, waiting = await asyncio.wait(
                    waiting, return_when=asyncio.FIRST_COMPLETED, timeout=patience
                )
                if not done:
                    return
                for each in done:
                    each.result()
        except (StreamBroken, SecurityFailed):
            if not self.mux.finished:
                self.mux.road_lost()
                raise
            # All has arrived; whoever closes the road first is not waited for.
        finally:
            self._direct = None
            if self._timer is not None:
                self._timer.cancel()
            if self._push is not None:
                self._push.cancel()
            self._dead.cancel()
            for each in both:
                each.cancel()
            await asyncio.wait(both)

    async def _read(self, stream: Stream) -> None:
        mux, loop = self.mux, self._loop
        while True:
            data = await stream.read(CHUNK)
            self._heard = began = loop.time()
            if not self._spoken:
                self._spoken = True
                self._watch()
            if not data:
                if mux.finished:
                    return
                raise StreamBroken("the tube's stream ended before the tube")
            events: list[Event] = []
            with memoryview(data) as whole:
                for start in range(0, len(data), PIECE):
                    if events and (len(events) > MANY or loop.time() - began > TURN):
                        self._happened(events)
                        events = []
                        await asyncio.sleep(0)
                        began = loop.time()
                    events += mux.receive_data(whole[start : start + PIECE])
            self._happened(events)
            if mux.pending or mux.finished:
                self._wake()

    async def _write(self, stream: Stream) -> None:
        mux, burst = self.mux, 0
        while True:
            if self._direct is not None and self._direct.unsent:
                await self._direct.flush()
            chunk = mux.data_to_send()
            self._happened(mux.events())
            if chunk:
                await stream.write(chunk)
                burst += len(chunk)
            elif mux.finished:
                await stream.write_eof()
                return
            else:
                if burst >= BURST:
                    if self._push is not None:
                        self._push.cancel()
                    self._push = self._loop.call_later(PUSH_AFTER, self._ask)
                    burst = 0
                self._idle = self._loop.create_future()
                await self._idle

    def _wake(self) -> None:
        idle = self._idle
        if idle is not None and not idle.done():
            idle.set_result(None)

    def _send_now(self) -> bool:
        """Write what there is without a turn of the loop; False: the task has to."""
        direct, idle = self._direct, self._idle
        if direct is None or self._sending or idle is None or idle.done():
            return False
        if not direct.can_write_now:
            return False
        self._sending = True
        try:
            chunk = self.mux.data_to_send(URGENT * 2)
            if not chunk:
                return False
            try:
                direct.write_now(chunk)
            except (StreamBroken, SecurityFailed) as error:
                if self._dead is not None and not self._dead.done():
                    self._dead.set_exception(error)
                return True
            self._happened(self.mux.events())
            return not (self.mux.pending or direct.unsent)
        finally:
            self._sending = False

    def _watch(self) -> None:
        """Whether the road lives: looked at when it might not, and not for every byte."""
        silent = self._loop.time() - self._heard
        if silent >= self._dead_after:
            if self._dead is not None and not self._dead.done():
                self._dead.set_exception(StreamBroken("nothing came from the contact for long"))
            return
        following = self._ask_after
        if silent >= self._ask_after:
            self._ask()
            following = self._dead_after
        self._timer = self._loop.call_later(max(0.001, following - silent), self._watch)

    def _ask(self) -> None:
        self._pings += 1
        with contextlib.suppress(PeerError):  # the tube is over anyway
            self.mux.ping(self._pings)
        self._wake()

    # -- what the multiplexer says ---------------------------------------------------------------

    def _happened(self, events: Sequence[Event]) -> None:
        number, pieces = 0, list[bytes]()
        for event in events:
            if isinstance(event, Data):
                # One call of the kernel for what came at once, in however many frames.
                if event.id != number:
                    self._deliver(number, pieces)
                    number, pieces = event.id, []
                pieces.append(event.data)
                continue
            self._deliver(number, pieces)
            number, pieces = 0, []
            self._other(event)
        self._deliver(number, pieces)

    def _deliver(self, number: int, pieces: list[bytes]) -> None:
        connection = self._connections.get(number)
        if connection is None:
            return  # given up here while this was on the way
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        taken = connection.deliver(data)
        if taken:
            self.mux.consumed(number, taken)

    def _other(self, event: Event) -> None:
        match event:
            case Writable(number):
                if (connection := self._connections.get(number)) is not None:
                    connection.resume()
            case Opened(number):
                self._connections[number] = LocalConnection(number, self)
                self._ends.connection_opened(number)
            case Eof(number):
                if (connection := self._connections.get(number)) is not None:
                    connection.end_delivery()
            case Reset(number, reason):
                if (connection := self._connections.pop(number, None)) is not None:
                    connection.abort()
                    self._ends.connection_ended(number, reason)
            case Ready():
                if not self._was_ready:
                    self._was_ready = True
                    self._ends.tube_ready()
            case Closing():
                self._closing = True
                self._ends.tube_closing()
            case Pong() | Finished():
                pass  # it was heard; and both tasks look for the end themselves

    # -- connections ------------------------------------------------------------------------------

    def open(self, sock: socket.socket | None = None) -> int:
        """Open a connection for a local socket, which it owns from then on; returns its id.

        Args:
            sock: None: ``attach`` follows.
        Raises: NotYet, NotAvailable: see ``Multiplexer.open``; the socket is the caller's still.
        """
        try:
            number = self.mux.open()
        except PeerError as error:
            raise NotAvailable("The tube is over") from error
        connection = self._connections[number] = LocalConnection(number, self)
        self._wake()
        if sock is not None:
            connection.attach(sock)
        return number

    def attach(self, number: int, sock: socket.socket, read: bytes = b"") -> bool:
        """The local socket of a connection.

        Args:
            read: what was read from it already and is the first of its data.
        Returns: False: the connection is over meanwhile, and the socket closed.
        """
        connection = self._connections.get(number)
        if connection is None:
            sock.close()
            return False
        connection.attach(sock, read)
        return True

    def refuse(self, number: int) -> None:
        """There is nobody to connect to."""
        self.give_up(number, Reason.REFUSED)

    def give_up(self, number: int, reason: Reason) -> None:
        """End a connection at once, in both directions."""
        connection = self._connections.pop(number, None)
        if connection is None:
            return
        connection.abort()
        with contextlib.suppress(PeerError):  # the tube is over, which the road's reader tells
            self.mux.reset(number, reason)
        self._wake()
        self._ends.connection_ended(number, reason)

    def leave(self) -> None:
        """Close the tube. What local programs have ended already still arrives; the rest is cut."""
        for connection in list(self._connections.values()):
            if not connection.read_all:
                self.give_up(connection.number, Reason.CANCELLED)
        self._closing = True
        with contextlib.suppress(PeerError):
            self.mux.close()
        self._wake()

    def drop(self) -> None:
        """The tube is over: let go of all sockets. Nothing is told."""
        for connection in self._connections.values():
            connection.abort()
        self._connections.clear()
        self._closing = True
        self._wake()

    # -- ``tube_connection.Carrier`` ---------------------------------------------------------

    def take(self, number: int, data: bytes | memoryview) -> int:
        """From a local program; returns how much of it was taken."""
        try:
            taken = self.mux.write(number, data)
        except PeerError:
            return 0  # the tube is over, which comes out where the road is read
        urgent = len(data) <= URGENT and len(self._connections) <= FEW
        if not (urgent and self._send_now()):
            self._wake()
        return taken

    def end(self, number: int) -> None:
        with contextlib.suppress(PeerError):
            self.mux.eof(number)
        self._wake()

    def gone_on(self, number: int, size: int) -> None:
        with contextlib.suppress(PeerError):
            self.mux.consumed(number, size)
        self._wake()

    def done(self, number: int) -> None:
        if self._connections.pop(number, None) is not None:
            self._ends.connection_ended(number, None)

    def broke(self, number: int) -> None:
        self.give_up(number, Reason.CANCELLED)
