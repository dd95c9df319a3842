"""In-band bytestreams as streams: blocks in iqs, several on the way, bounded on both sides."""

from __future__ import annotations

import asyncio
from collections import deque
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected, PeerError
from telepathy_e2e.jingle import ibb
from telepathy_e2e.jingle.ibb import InBandOffer, InBandReceiver, InBandSender
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.client import Client, IqRequest, IqTimeout, StanzaError

# Bytes that arrived and nobody has read. Past it the peer's blocks stay unacknowledged, and his
# window holds him up.
MAX_UNREAD = 256 * 1024

# Blocks that wait for their acknowledgement because of that; an honest sender has a window of a few
# dozen, and one that goes on without answers is cut off.
MAX_UNANSWERED = 256


class InBandHub:
    """All in-band streams of an account, by peer and stream id."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._streams: dict[tuple[str, str], InBandStream] = {}
        client.on_iq(ibb.OPEN, self._opened)
        client.on_iq(ibb.DATA, self._data)
        client.on_iq(ibb.CLOSE, self._closed)

    def stream(self, peer: str, offer: InBandOffer) -> InBandStream:
        """The stream that a session agreed on; nothing is sent yet."""
        stream = InBandStream(self, peer, offer)
        self._streams[(peer, offer.sid)] = stream
        return stream

    def forget(self, stream: InBandStream) -> None:
        self._streams.pop((stream.peer, stream.sid), None)

    def _find(self, request: IqRequest) -> InBandStream:
        stream = self._streams.get((request.from_, request.payload.get("sid", "")))
        if stream is None or request.type != "set":
            raise PeerError("no such in-band stream", "item-not-found")
        return stream

    def _opened(self, request: IqRequest) -> None:
        if (request.from_, request.payload.get("sid", "")) not in self._streams:
            # XEP-0047 section 2.1: streams that no session agreed on are not wanted.
            raise PeerError("no session agreed on this stream", "not-acceptable")
        self._find(request).opened(request)

    def _data(self, request: IqRequest) -> None:
        self._find(request).data(request)

    def _closed(self, request: IqRequest) -> None:
        self._find(request).closed(request)


class InBandStream:
    """See ``net.streams.Stream``. ``<close/>`` ends both directions at once (XEP-0047 section 2.3),
    so the end of our direction is told only when the peer's has ended too or we let go.
    """

    def __init__(self, hub: InBandHub, peer: str, offer: InBandOffer) -> None:
        self._hub = hub
        self.peer = peer
        self.sid = offer.sid
        self._offer = offer
        self._tasks = TaskOwner(f"in-band {offer.sid}")
        self._sender = InBandSender(offer.sid, offer.block_size)
        self._receiver = InBandReceiver(offer.sid, offer.block_size)
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._unanswered: deque[IqRequest] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._peer_ended = False
        self._ended = False
        self._broken: StreamBroken | None = None

    def lower_block_size(self, size: int) -> None:
        """The peer wants smaller blocks (XEP-0261 section 2.2).

        Raises:
            PeerError: larger ones.
        """
        if size > self._offer.block_size:
            raise PeerError("larger blocks than offered")
        self._offer = InBandOffer(self.sid, size)
        self._sender = InBandSender(self.sid, size)
        self._receiver = InBandReceiver(self.sid, size)

    # -- opening ----------------------------------------------------------------------------

    async def open(self) -> None:
        """The initiator's part: ``<open/>`` and its acknowledgement.

        Raises:
            StreamBroken: refused.
        """
        try:
            await self._hub.client.send_iq(self.peer, ibb.build_open(self._offer))
        except (StanzaError, IqTimeout, Disconnected) as error:
            self.abort()
            raise StreamBroken("the in-band stream was refused") from error
        self._set_ready()

    async def wait_open(self) -> None:
        """The responder's part. Raises: StreamBroken."""
        await asyncio.shield(self._ready)
        self._check()

    def opened(self, request: IqRequest) -> None:
        if self._ready.done():
            raise PeerError("opened already", "unexpected-request")
        try:
            size = int(request.payload.get("block-size", ""))
        except ValueError:
            raise PeerError("not a block size") from None
        if size > self._offer.block_size:
            raise PeerError("larger blocks than agreed", "resource-constraint")
        request.reply()
        self._set_ready()

    def _set_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    # -- receiving --------------------------------------------------------------------------

    def data(self, request: IqRequest) -> None:
        if self._peer_ended or len(self._unanswered) >= MAX_UNANSWERED:
            self._break("the peer sends without waiting for answers")
            raise PeerError("too many blocks without an answer", "resource-constraint")
        block = self._receiver.receive(request.payload)
        self._unread.append(block)
        self._unread_bytes += len(block)
        self._news.set()
        if self._unread_bytes <= MAX_UNREAD:
            request.reply()
        else:
            self._unanswered.append(request)

    def closed(self, request: IqRequest) -> None:
        request.reply()
        self._peer_ended = True
        self._news.set()
        if self._ended:
            self._hub.forget(self)

    async def read(self, limit: int) -> bytes:
        """See ``Stream.read``."""
        while not self._unread:
            if self._broken is not None:
                raise self._broken
            if self._peer_ended:
                return b""
            self._news.clear()
            await self._news.wait()
        block = self._unread.popleft()
        if len(block) > limit:
            self._unread.appendleft(block[limit:])
            block = block[:limit]
        self._unread_bytes -= len(block)
        while self._unanswered and self._unread_bytes <= MAX_UNREAD:
            self._unanswered.popleft().reply()
        return block

    # -- sending ----------------------------------------------------------------------------

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``Stream.write``: done when what waits here is within the window."""
        view = memoryview(data)
        step = self._offer.block_size * ibb.WINDOW
        for start in range(0, len(view), step):
            await self._space()
            self._put(self._sender.send(view[start : start + step]))
        await asyncio.sleep(0)

    async def _space(self) -> None:
        while True:
            self._check()
            if self._sender.can_take:
                return
            self._room.clear()
            await self._room.wait()

    def _put(self, blocks: list[Element]) -> None:
        for block in blocks:
            self._tasks.start("block", self._deliver(block))

    async def _deliver(self, block: Element) -> None:
        try:
            await self._hub.client.send_iq(self.peer, block)
        except (StanzaError, IqTimeout, Disconnected):
            self._break("a block was not taken")
            return
        self._put(self._sender.acknowledged())
        self._room.set()

    async def write_eof(self) -> None:
        """Every block is acknowledged, then ``<close/>``, unless the peer has more to say."""
        while not self._sender.idle:
            self._check()
            self._room.clear()
            await self._room.wait()
        self._check()
        self._ended = True
        if self._peer_ended:
            self._hub.forget(self)
        self._tasks.start("close", self._send_close())

    async def _send_close(self) -> None:
        try:
            await self._hub.client.send_iq(self.peer, ibb.build_close(self.sid))
        except (StanzaError, IqTimeout, Disconnected):
            self._break("the end was not taken")

    # -- the end ----------------------------------------------------------------------------

    def let_go(self) -> None:
        """The session that agreed on it is over."""
        self._break("the session is over")

    def close(self) -> None:
        """See ``Stream.close``."""
        self._break("the stream is closed")

    def abort(self) -> None:
        """See ``Stream.abort``."""
        self._break("the stream is closed")

    def _break(self, why: str) -> None:
        if self._broken is None:
            self._broken = StreamBroken(why)
            self._hub.forget(self)
            for request in self._unanswered:
                request.error(PeerError(why, "item-not-found"))
            self._unanswered.clear()
            self._news.set()
            self._room.set()
            self._set_ready()

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken
