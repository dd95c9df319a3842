"""What the two halves of a multiplexer, the one that reads and the one that writes, both know."""

from __future__ import annotations

from .connection import Connection
from .events import Event, Finished, Reason, Writable
from .frames import Kind, Preface, header
from .limits import Limits
from .retained import Retained


class State:
    """Connections, windows, and what waits to be told or sent.

    Args:
        limits: what the peer may make us hold.
        first: the first id that this side gives.
    """

    def __init__(self, limits: Limits, first: int) -> None:
        self.limits = limits
        self.connections: dict[int, Connection] = {}
        self.next = first
        self.own = 0
        """Connections that this side opened."""
        self.peer: Preface | None = None
        self.control = bytearray()
        """Frames without data that wait for the road; they go first."""
        self.events: list[Event] = []
        self.retained = Retained()
        self.queued = 0
        """Bytes of all connections that wait for the road."""
        self.spare = limits.pool
        """Bytes of the pool that no window has."""
        self.closing = False
        self.peer_closing = False
        self.finished = False

    def add(self, number: int, *, ours: bool) -> None:
        window = 0 if self.peer is None else self.peer.window
        self.connections[number] = Connection(number, window, self.limits.window, ours=ours)
        self.own += ours

    def grant(self, connection: Connection) -> None:
        """Let the peer send more, in steps of half a window. Whose program keeps up gets a larger
        one, up to a fair share; who has more than that gives back what is not used."""
        limits, allowance = self.limits, connection.allowance
        used = connection.credit + connection.unconsumed
        if (allowance - used) * 2 < allowance:
            return
        share = limits.pool // len(self.connections)
        fair = max(limits.window, min(limits.largest_window, share))
        if allowance < fair:
            allowance = min(fair, allowance * 2, allowance + self.spare)
        else:
            allowance = max(fair, used)
        self.spare -= allowance - connection.allowance
        connection.allowance = allowance
        if allowance > used:
            connection.credit += allowance - used
            self.control += header(Kind.WINDOW, connection.number, allowance - used)

    def unblock(self, connection: Connection) -> None:
        """There may be room for what a write did not take."""
        if connection.blocked and connection.send_window > 0:
            connection.blocked = False
            self.events.append(Writable(connection.number))

    def settle(self, connection: Connection) -> None:
        """Let a connection go of which both directions have ended."""
        if connection.done:
            self.forget(connection)

    def forget(self, connection: Connection) -> None:
        del self.connections[connection.number]
        connection.gone = True
        self.queued -= len(connection.queue)
        connection.queue = bytearray()
        self.spare += connection.allowance - self.limits.window
        self.own -= connection.ours
        self._finish()

    def refuse(self, number: int, reason: Reason) -> None:
        self.control += header(Kind.RESET, number, reason)

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.control += header(Kind.CLOSE, 0, 0)
        self._finish()

    def _finish(self) -> None:
        over = self.closing and self.peer_closing and not self.connections
        if over and not self.finished:
            self.finished = True
            self.events.append(Finished())
