"""What was sent and may have to be sent again, on another road."""

from __future__ import annotations

from collections import deque
from typing import Final

from telepathy_e2e.errors import PeerError

# Bytes. Smaller pieces are kept together: one byte in an object of its own costs sixty.
_SMALL: Final = 4096


class Retained:
    """The end of the stream of frames, from what the peer has acknowledged on.

    Bytes are counted from the first frame of the tube.
    """

    def __init__(self) -> None:
        self._chunks: deque[bytes | bytearray] = deque()
        self._start = 0
        self.end = 0
        """Bytes sent."""
        self.acknowledged = 0

    @property
    def size(self) -> int:
        """Bytes on the way."""
        return self.end - self.acknowledged

    def append(self, chunk: bytes) -> None:
        self.end += len(chunk)
        if len(chunk) >= _SMALL:
            self._chunks.append(chunk)
        elif (
            self._chunks and isinstance(tail := self._chunks[-1], bytearray) and len(tail) < _SMALL
        ):
            tail += chunk
        else:
            self._chunks.append(bytearray(chunk))

    def acknowledge(self, count: int) -> None:
        """The peer has this many bytes. What it said before is ignored: acknowledgements are
        frames too, and come again on another road.

        Raises: PeerError: more than was sent.
        """
        if count > self.end:
            raise PeerError("more is acknowledged than was sent")
        if count <= self.acknowledged:
            return
        self.acknowledged = count
        while self._chunks and self._start + len(self._chunks[0]) <= count:
            self._start += len(self._chunks.popleft())

    def since(self, count: int) -> deque[bytes]:
        """What the peer lacks that has this many bytes.

        Raises: PeerError: it has less than it acknowledged, or more than was sent.
        """
        if count < self.acknowledged:
            raise PeerError("what was acknowledged is asked for again")
        self.acknowledge(count)
        missing: deque[bytes] = deque()
        skip = count - self._start
        for chunk in self._chunks:
            missing.append(bytes(chunk[skip:]))
            skip = 0
        return missing
