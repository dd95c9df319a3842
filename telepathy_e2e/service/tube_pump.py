"""Bytes between a tube's protected stream and the local sockets of its connections.

All of it is callbacks of the loop, from the road (``tube_road``) and from the local sockets
(``tube_connection``): with a task for each a byte would wait for further turns of the loop.
Nothing here waits for a local program: what one does not take stays within the window of its
connection, and stops that connection alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Final, Protocol

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.net.streams import TURN, Stream, StreamBroken
from telepathy_e2e.service.failures import SecurityFailed
from telepathy_e2e.service.tube_connection import LocalConnection
from telepathy_e2e.service.tube_pulse import ASK_AFTER, DEAD_AFTER, Pulse
from telepathy_e2e.service.tube_road import TubeRoad, road_over
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

# Frames that are taken between two looks at the clock. In one read of the road a hostile peer puts
# thousands, of which each may cost a call of the kernel: together they would hold the loop for
# longer than anything may (hacking.md). What an honest peer sends in a read is few.
MANY: Final = 64

# Pieces for the road in one turn of the loop, a millisecond or two of work.
AT_ONCE: Final = 3

# What so many connections have to send in one turn of the loop goes out together: a record of TLS
# and a call of the kernel for a few bytes of each would cost more than the turn.
FEW: Final = 16
SMALL: Final = 4096

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
        tasks: those of the road belong to it.
        ask_after, dead_after: seconds, see ``Pulse``.
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
        self._loop = asyncio.get_running_loop()
        self._pulse = Pulse(self._ask, self._dead, ask_after=ask_after, dead_after=dead_after)
        self._connections: dict[int, LocalConnection] = {}
        self._was_ready = False
        self._closing = self._dropped = False
        # While there is one; and when it is over.
        self._road: TubeRoad | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        # Directions of the road that have come to their end.
        self._ends_reached = 0
        self._sending = self._scheduled = self._said_all = False
        self._ending: asyncio.TimerHandle | None = None

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
        over = self._over = self._loop.create_future()
        road = self._road = road_over(stream, self, self._tasks)
        self._ends_reached, self._said_all = 0, False
        self._pulse.begin()
        try:
            road.start()
            self._send()
            await over
        except (StreamBroken, SecurityFailed):
            if not self.mux.finished:
                self.mux.road_lost()
                raise
            # All has arrived; whoever closes the road first is not waited for.
        finally:
            self._road = None
            self._pulse.end()
            if self._ending is not None:
                self._ending.cancel()
            over.cancel()
            await road.close()

    # -- ``tube_road.User`` --------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Something came from the contact. Raises: PeerError, StreamBroken."""
        if self._road is None or self._dropped:
            return  # what follows a gap makes no sense, and nobody is left to hear it
        self._pulse.heard()
        if data:
            self._take_in(memoryview(data))
        elif self.mux.finished:
            self._reached_end()
        else:
            raise StreamBroken("the tube's stream ended before the tube")

    def not_full(self) -> None:
        """The road takes more."""
        self._send()

    def all_sent(self) -> None:
        """All is on the road."""
        self._reached_end()

    def lost(self, error: BaseException) -> None:
        """The road is over before the tube is."""
        self._road = None
        if not self._over.done():
            self._over.set_exception(error)

    def _take_in(self, data: memoryview) -> bool:
        """Whether all of it was taken; of the rest it takes care."""
        mux, began = self.mux, self._loop.time()
        while True:
            data = data[mux.receive_frames(data, MANY) :]
            self._happened(mux.events())
            if not data:
                break
            if self._loop.time() - began > TURN:
                self._take_later(data)
                return False
        if mux.pending or mux.finished:
            self._send()
        return True

    def _take_later(self, data: memoryview) -> None:
        """The loop has a turn first, and nothing else is read meanwhile."""
        road = self._road
        if road is None:
            return
        road.pause()

        def go_on() -> None:
            if self._road is not road or self._dropped:
                return  # what is lost with it comes again on the next
            try:
                # Not before all is taken: a task that was told to go on does so.
                if self._take_in(data) and self._road is road:
                    road.resume()
            except PeerError as error:
                self.lost(error)

        self._loop.call_soon(go_on)

    def _reached_end(self) -> None:
        self._ends_reached += 1
        if self._ends_reached == 2:
            self._finish()
        else:
            # Who has said all waits for the other's last word, and not for ever.
            self._ending = self._loop.call_later(END_SECONDS, self._finish)

    def _finish(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _send(self) -> None:
        """Give the road what there is, as long as it takes some."""
        road, mux = self._road, self.mux
        # What is still to be said after the last word answers a peer that had not heard it.
        if road is None or self._sending or self._said_all:
            return
        self._sending = True
        try:
            for _ in range(AT_ONCE):
                if road.full:
                    return
                if not (mux.pending and (chunk := mux.data_to_send(road.piece))):
                    break
                road.send(chunk)
                self._pulse.sent(len(chunk))
                if events := mux.events():
                    self._happened(events)
            else:
                self._send_soon()
                return
            if mux.finished:
                self._said_all = True
                road.end()
        except (StreamBroken, SecurityFailed, PeerError) as error:
            self.lost(error)
        finally:
            self._sending = False

    def _send_soon(self) -> None:
        """Together with what else this turn of the loop brings."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send_scheduled)

    def _send_scheduled(self) -> None:
        self._scheduled = False
        self._send()

    def _ask(self, number: int) -> None:
        with contextlib.suppress(PeerError):  # the tube is over anyway
            self.mux.ping(number)
        self._send()

    def _dead(self) -> None:
        self.lost(StreamBroken("nothing came from the contact for long"))

    # -- what the multiplexer says ---------------------------------------------------------------

    def _happened(self, events: Sequence[Event]) -> None:
        number, pieces = 0, list[memoryview]()
        for event in events:
            if self._dropped:
                return
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

    def _deliver(self, number: int, pieces: list[memoryview]) -> None:
        connection = self._connections.get(number)
        if connection is None:
            return  # given up here while this was on the way
        taken = connection.deliver(pieces)
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
            case Pong(number):
                self._pulse.answered(number)
            case Finished():
                pass  # whoever sends next sees it

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
        self._send()
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
        self._send()
        self._ends.connection_ended(number, reason)

    def leave(self) -> None:
        """Close the tube. What local programs have ended already still arrives; the rest is cut."""
        for connection in list(self._connections.values()):
            if not connection.read_all:
                self.give_up(connection.number, Reason.CANCELLED)
        self._closing = True
        with contextlib.suppress(PeerError):
            self.mux.close()
        self._send()

    def drop(self) -> None:
        """The tube is over: let go of all sockets. Nothing is told."""
        for connection in self._connections.values():
            connection.abort()
        self._connections.clear()
        self._closing = self._dropped = True

    # -- ``tube_connection.Carrier`` ---------------------------------------------------------

    def room_for(self, number: int) -> int:
        """Bytes of a local program that would be taken now."""
        try:
            return self.mux.room(number)
        except (NotAvailable, PeerError):
            return 0  # over, which comes out where the road is read

    def take(self, number: int, data: bytes | memoryview) -> int:
        """From a local program; returns how much of it was taken."""
        try:
            return self.mux.write(number, data)
        except (PeerError, NotAvailable):
            # The tube is over, which comes out where the road is read; or the connection is, which
            # is among the events that are still to be told.
            return 0

    def taken(self, size: int) -> None:
        if size < SMALL and len(self._connections) > FEW:
            self._send_soon()
        else:
            self._send()

    def end(self, number: int) -> None:
        with contextlib.suppress(PeerError):
            self.mux.eof(number)
        self._send()

    def gone_on(self, number: int, size: int) -> None:
        with contextlib.suppress(PeerError):
            self.mux.consumed(number, size)
        self._send()

    def done(self, number: int) -> None:
        if self._connections.pop(number, None) is not None:
            self._ends.connection_ended(number, None)

    def broke(self, number: int) -> None:
        self.give_up(number, Reason.CANCELLED)
