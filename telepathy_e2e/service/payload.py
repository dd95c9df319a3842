"""Moving payload from one stream to another: counted, hashed, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from telepathy_e2e.net.streams import CHUNK, Stream, StreamBroken

# Channel.Type.FileTransfer: "the most frequent this signal will be emitted is once a second".
PROGRESS_INTERVAL = 1.0

# Seconds that the rest may keep silent after its sender has said that all was written: lost packets
# are sent again within a few of them, and what has not come after half a minute does not come.
REST_SECONDS = 30.0


class Hash(Protocol):
    """What hashlib's objects are."""

    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Source(Protocol):
    """Where payload comes from."""

    async def read(self, limit: int) -> bytes:
        """See ``Stream.read``."""


class MoreThanAnnounced(Exception):
    """The source went on after the announced end."""


class SourceBroken(Exception):
    """The stream that is read broke."""


class SinkBroken(Exception):
    """The stream that is written broke."""


class Progress:
    """Counts bytes and tells at most once in PROGRESS_INTERVAL seconds.

    Args:
        start: bytes that count as transferred already (the offset).
        tell: called with the new count.
    """

    def __init__(self, start: int, tell: Callable[[int], None]) -> None:
        self.count = start
        self._tell = tell
        self._told = start
        self._next = 0.0

    def add(self, amount: int) -> None:
        self.count += amount
        now = asyncio.get_running_loop().time()
        if now >= self._next:
            self._next = now + PROGRESS_INTERVAL
            self.flush()

    def flush(self) -> None:
        if self._told != self.count:
            self._told = self.count
            self._tell(self.count)


class RemoteSource:
    """The peer's direction of a stream, which may be silent for as long as it likes, until its
    sender says that all is on its way. What our own program takes its time for is not counted."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._hurried = False
        self._limit: asyncio.Timeout | None = None

    def hurry(self) -> None:
        """All was written: from now on silence has a bound."""
        self._hurried = True
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + REST_SECONDS)

    async def read(self, limit: int) -> bytes:
        """See ``Stream.read``."""
        try:
            async with asyncio.timeout(REST_SECONDS if self._hurried else None) as self._limit:
                return await self._stream.read(limit)
        except TimeoutError:
            raise StreamBroken("the rest of it did not come") from None
        finally:
            self._limit = None


async def copy(
    source: Source,
    sink: Stream,
    *,
    limit: int | None,
    hashes: list[Hash],
    progress: Progress,
    exact: bool,
) -> int:
    """Move bytes until the source ends or ``limit`` is reached; returns how many.

    Args:
        limit: announced number of bytes; None when it was not announced.
        hashes: each sees every byte that was moved.
        exact: go on reading at the limit until the source ends, and do not let it give more.
    Raises:
        MoreThanAnnounced: the source has more than ``limit`` and ``exact`` was asked. None of
            the surplus has been given to the sink.
        SourceBroken, SinkBroken: which of the two streams broke.
    """
    moved = 0
    while exact or limit is None or moved < limit:
        want = CHUNK
        if limit is not None and not exact:
            want = min(CHUNK, limit - moved)
        try:
            data = await source.read(want)
        except StreamBroken as error:
            raise SourceBroken from error
        if not data:
            break
        if limit is not None and moved + len(data) > limit:
            raise MoreThanAnnounced
        for digest in hashes:
            digest.update(data)
        try:
            await sink.write(data)
        except StreamBroken as error:
            raise SinkBroken from error
        moved += len(data)
        progress.add(len(data))
    return moved
