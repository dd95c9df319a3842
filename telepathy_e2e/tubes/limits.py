"""What a tube may hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Bytes of all connections that wait for the road; above it each may still have QUEUE_SMALL, so
# that nobody waits for others to be done.
QUEUED: Final = 4 << 20
# Bytes of one connection that wait for the road: one read of a local program, taken as long as
# less than QUEUE_SMALL waits already.
QUEUE: Final = 240 * 1024
QUEUE_SMALL: Final = 4096

# Received bytes of frames after which the peer is told; after half of them where something else is
# sent anyway. Far below any ``in_flight``.
ACK_EVERY: Final = 512 * 1024

# Bytes of answers (refusals, pongs, windows) that a peer may make us hold that does not read
# or does not acknowledge: fifty thousand of them.
MAX_CONTROL: Final = 1 << 20

# One connection in eight above the limit is not refused: with us a connection is open until what
# it brought is consumed, of which the peer knows nothing.
SPARE: Final = 8


@dataclass(frozen=True)
class Limits:
    """Bounds of one tube. The peer makes us hold at most ``connections * window + pool`` bytes of
    data (an eighth more, see SPARE); we hold at most ``in_flight`` + QUEUED + ``connections`` *
    QUEUE_SMALL * 2 of our own."""

    connections: int = 1024
    """Open at once that the peer opened; 0: it may open none. A web browser has 256 at most, and
    what one process may have is commonly 1,024 descriptors."""
    own_connections: int = 1024
    """The same of ours, however many more the peer allows."""
    window: int = 32 * 1024
    """Bytes that a connection may always have on the way to us: all of them stuck are 32 MiB."""
    largest_window: int = 1 << 22
    """Bytes that one may have while its program keeps up: 80 MB/s over a round trip of 50 ms."""
    pool: int = 16 << 20
    """Bytes, shared by all connections, from which windows grow."""
    in_flight: int = 8 << 20
    """Bytes sent and not acknowledged, kept for another road: 80 MB/s over 100 ms."""
