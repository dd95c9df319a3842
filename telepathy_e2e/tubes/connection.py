"""One connection of a tube: its two directions and what each may still send."""

from __future__ import annotations


class Connection:
    """State of a connection, kept by the multiplexer and touched by nobody else.

    Args:
        number: the id.
        send_window: bytes that may be sent now.
        allowance: bytes that the peer may have sent and nobody consumed.
        ours: this side opened it.
    """

    __slots__ = (
        "allowance",
        "blocked",
        "credit",
        "eof_received",
        "eof_sent",
        "eof_wanted",
        "gone",
        "number",
        "ours",
        "queue",
        "scheduled",
        "send_window",
        "unconsumed",
    )

    def __init__(self, number: int, send_window: int, allowance: int, *, ours: bool) -> None:
        self.number = number
        self.ours = ours
        self.send_window = send_window
        self.queue: bytearray | memoryview = bytearray()
        """What waits for the road; a view where it came in one piece, which saves copying it."""
        self.scheduled = False
        self.blocked = False
        """A write did not take all; ``Writable`` is due."""
        self.eof_wanted = False
        self.eof_sent = False
        self.allowance = allowance
        self.credit = allowance
        """Bytes that the peer may send now; with ``unconsumed`` never above ``allowance``."""
        self.unconsumed = 0
        self.eof_received = False
        self.gone = False

    @property
    def done(self) -> bool:
        """Nothing more can happen to it. What is unconsumed is memory, and counts as open."""
        return self.eof_sent and self.eof_received and self.unconsumed == 0
