"""A data channel as a ``net.streams.Stream``, with back-pressure both ways and two ends.

``spec/data-channels.md`` says what is on the wire.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from aiortc.rtcdtlstransport import RTCDtlsTransport

from telepathy_e2e.media.inside_sctp import OneStream
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xtls.association import Export, Handshake

#: Bytes of one message. Others take 64 KiB at least (RFC 8841 section 6); smaller ones let the
#: loop have its turns.
MESSAGE: Final = 16 * 1024

#: Seconds that what was written may take to arrive after ``close``.
LINGER: Final = 15.0


# Bytes. Messages smaller than this are kept together, in so many: the window counts bytes, and one
# or two in an object of their own cost fifty.
_SMALL: Final = 512
_TOGETHER: Final = 4096


#: What streams and their roads do after their owners have let go of them: a few datagrams.
closing = TaskOwner("data channels")


class DataStream:
    """See ``net.streams.Stream`` and ``service.secure_stream.DtlsStream``.

    Args:
        transport: DTLS, which is up.
        handshake, export: what it agreed on, and its keys.
        let_go: ends everything below SCTP.
        ours, theirs: ports of SCTP.
        opens: whether we open the channel.
        label: of the channel.
    """

    def __init__(
        self,
        transport: RTCDtlsTransport,
        handshake: Handshake,
        export: Export,
        let_go: Callable[[], Awaitable[None]],
        *,
        ours: int,
        theirs: int,
        opens: bool,
        label: str,
    ) -> None:
        self._handshake = handshake
        self._export = export
        self._let_go = let_go
        self._theirs = theirs
        self._sctp = OneStream(transport, ours, self, opens=opens, label=label)
        self._unread: deque[bytes | bytearray] = deque()
        self._opened = asyncio.Event()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._gone = asyncio.Event()
        self._broken: StreamBroken | None = None
        self._peer_ended = False
        self._we_ended = False
        self._closed = False

    def __repr__(self) -> str:
        return "<DataStream>"

    async def open(self) -> None:
        """Wait until both sides have the channel. Raises: StreamBroken."""
        try:
            await self._sctp.begin(self._theirs)
        except ConnectionError as error:
            raise StreamBroken("the connection broke") from error
        await self._opened.wait()
        if self._broken is not None:
            raise self._broken

    @property
    def handshake(self) -> Handshake:
        """What DTLS agreed on."""
        return self._handshake

    def export(self, label: bytes, context: bytes, length: int) -> bytes:
        """Key material (RFC 5705)."""
        return self._export(label, context, length)

    async def wait_broken(self) -> None:
        """Until nothing can come from it any more but what is here, and it has not ended well."""
        await self._gone.wait()

    # -- ``net.streams.Stream`` -----------------------------------------------------------------

    async def read(self, limit: int) -> bytes:
        """See ``Stream.read``. What came before the road broke is given out first."""
        while not self._unread:
            if self._closed:
                raise StreamBroken("the stream is closed")
            if self._peer_ended:
                return b""
            if self._broken is not None:
                raise self._broken
            self._news.clear()
            await self._news.wait()
        pieces: list[bytes | bytearray] = []
        room = limit
        while self._unread and room:
            piece = self._unread.popleft()
            if len(piece) > room:
                self._unread.appendleft(piece[room:])
                piece = piece[:room]
            pieces.append(piece)
            room -= len(piece)
        self._sctp.consumed(limit - room)
        return b"".join(pieces)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``Stream.write``: done when less than ``inside_sctp.MAX_QUEUED`` pieces wait."""
        with memoryview(data) as whole, whole.cast("B") as view:
            for start in range(0, len(view), MESSAGE):
                await self._until(lambda: self._sctp.has_room)
                with view[start : start + MESSAGE] as part:
                    await self._sctp.send(bytes(part))
        await asyncio.sleep(0)

    async def write_eof(self) -> None:
        """See ``Stream.write_eof``."""
        if self._we_ended:
            return
        self._check()
        self._we_ended = True
        await self._sctp.send_end()

    def close(self) -> None:
        """See ``Stream.close``."""
        if not self._closed:
            self._shut()
            closing.start("linger", self._linger())

    def abort(self) -> None:
        """See ``Stream.abort``."""
        if not self._closed:
            self._shut()
            closing.start("abort", self._end())

    # -- ``inside_sctp.Taker`` ------------------------------------------------------------------

    def opened(self) -> None:
        self._opened.set()

    def arrived(self, data: bytes) -> None:
        if self._closed:
            self._sctp.consumed(len(data))
            return
        if len(data) >= _SMALL:
            self._unread.append(data)
        elif (
            self._unread
            and isinstance(last := self._unread[-1], bytearray)
            and len(last) < _TOGETHER
        ):
            last += data
        else:
            self._unread.append(bytearray(data))
        self._news.set()

    def ended(self) -> None:
        self._peer_ended = True
        self._news.set()

    def closed(self, why: str) -> None:
        self.break_(why)

    def room(self) -> None:
        self._room.set()

    def break_(self, why: str) -> None:
        """The road is gone."""
        if self._broken is None:
            self._broken = StreamBroken(why)
            if not self._peer_ended:
                self._gone.set()
            self._opened.set()
            self._news.set()
            self._room.set()

    # -- the end --------------------------------------------------------------------------------

    def _shut(self) -> None:
        self._closed = True
        self._unread.clear()
        self._gone.set()
        self._news.set()
        self._room.set()
        self._opened.set()

    async def _linger(self) -> None:
        """What was written is delivered, if the peer takes it."""
        if self._broken is None and self._sctp.is_up:
            if not self._we_ended:
                self._we_ended = True
                await self._sctp.send_end()
            try:
                async with asyncio.timeout(LINGER):
                    while self._broken is None and not self._sctp.idle:
                        self._room.clear()
                        await self._room.wait()
            except TimeoutError:
                pass
        await self._end()

    async def _end(self) -> None:
        self.break_("the stream is closed")
        await self._sctp.end()
        await self._let_go()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while True:
            self._check()
            if condition():
                return
            self._room.clear()
            await self._room.wait()

    def _check(self) -> None:
        if self._closed:
            raise StreamBroken("the stream is closed")
        if self._broken is not None:
            raise self._broken
