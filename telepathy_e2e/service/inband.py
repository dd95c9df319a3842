"""In-band bytestreams as streams: blocks in iqs, several on the way, bounded on both sides."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected, PeerError
from telepathy_e2e.jingle import ibb
from telepathy_e2e.jingle.ibb import InBandOffer, InBandReceiver, InBandSender, SenderState
from telepathy_e2e.net.streams import StreamBroken
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.client import Client, IqRequest, IqTimeout, StanzaError

# Bytes that arrived and nobody has read. Past it the peer's blocks stay unacknowledged, and his
# window holds him up.
MAX_UNREAD = 256 * 1024

# Blocks that wait for their acknowledgement because of that; an honest sender has a window of a few
# dozen, and one that goes on without answers is cut off.
MAX_UNANSWERED = 256

# The same in bytes: a window of the largest blocks. Each stream of each session may hold it.
MAX_HELD = 1024 * 1024

# What a block costs beside its bytes: an object and its place in the queue. Without it a peer
# makes a quarter of a million objects of blocks of one byte.
BLOCK_OVERHEAD = 64


class InBandHub:
    """All in-band streams of an account, by peer and stream id."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._streams: dict[tuple[str, str], InBandStream] = {}
        client.on_iq(ibb.OPEN, self._opened)
        client.on_iq(ibb.DATA, self._data)
        client.on_iq(ibb.CLOSE, self._closed)

    def stream(self, peer: str, offer: InBandOffer) -> InBandStream:
        """The stream that a session agreed on; nothing is sent yet.

        Raises:
            PeerError: another session with this peer has a stream of that name.
        """
        if (peer, offer.sid) in self._streams:
            raise PeerError("this in-band stream is in use", "conflict")
        stream = InBandStream(self, peer, offer)
        self._streams[(peer, offer.sid)] = stream
        return stream

    def forget(self, stream: InBandStream) -> None:
        if self._streams.get((stream.peer, stream.sid)) is stream:
            del self._streams[(stream.peer, stream.sid)]

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
        self._may_receive = False
        self._ended = False
        self._broken: StreamBroken | None = None

    def agree(self, answer: InBandOffer) -> None:
        """The peer's answer: it may want smaller blocks (XEP-0261 section 2.2).

        Raises:
            PeerError: another stream, or larger blocks.
        """
        self._offer = ibb.agree(self._offer, answer)
        self._sender = InBandSender(self.sid, self._offer.block_size)
        self._receiver = InBandReceiver(self.sid, self._offer.block_size)

    # -- opening ----------------------------------------------------------------------------

    async def open(self) -> None:
        """The initiator's part: ``<open/>`` and its acknowledgement.

        Raises:
            StreamBroken: refused.
        """
        self._may_receive = True  # from the acknowledgement on, which may be read together
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
        ibb.check_open(request.payload, self._offer)
        self._may_receive = True
        request.reply()
        self._set_ready()

    def _set_ready(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    # -- receiving --------------------------------------------------------------------------

    def data(self, request: IqRequest) -> None:
        if not self._may_receive:
            raise PeerError("the in-band stream is not open", "item-not-found")
        if len(self._unanswered) >= MAX_UNANSWERED or self._unread_bytes >= MAX_HELD:
            self._break("the peer sends without waiting for answers")
            raise PeerError("too many blocks without an answer", "resource-constraint")
        try:
            block = self._receiver.receive(request.payload)
        except PeerError:
            if self._receiver.broken:
                self._break("a block was lost")
            raise
        if not block:  # says nothing; in the queue it would be taken for the end
            request.reply()
            return
        self._unread.append(block)
        self._unread_bytes += len(block) + BLOCK_OVERHEAD
        self._news.set()
        if self._unread_bytes <= MAX_UNREAD:
            request.reply()
        else:
            self._unanswered.append(request)

    def closed(self, request: IqRequest) -> None:
        self._receiver.receive_close(request.payload)
        request.reply()
        self._news.set()
        if self._ended:
            self._hub.forget(self)

    async def read(self, limit: int) -> bytes:
        """See ``Stream.read``."""
        while not self._unread:
            if self._broken is not None:
                raise self._broken
            if self._receiver.closed:
                return b""
            self._news.clear()
            await self._news.wait()
        block = self._unread.popleft()
        if len(block) > limit:
            self._unread.appendleft(block[limit:])
            block = block[:limit]
        else:
            self._unread_bytes -= BLOCK_OVERHEAD
        self._unread_bytes -= len(block)
        while self._unanswered and self._unread_bytes <= MAX_UNREAD:
            self._unanswered.popleft().reply()
        return block

    # -- sending ----------------------------------------------------------------------------

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """See ``Stream.write``: done when a window or less waits for its acknowledgement."""
        view = memoryview(data)
        for start in range(0, len(view), self._sender.limit):
            await self._until(lambda: self._sender.can_take)
            self._put(self._sender.send(view[start : start + self._sender.limit]))
        await asyncio.sleep(0)

    async def write_eof(self) -> None:
        """Every block is acknowledged, then ``<close/>`` goes out. The peer may still send."""
        self._ended = True
        self._put(self._sender.close())
        await self._until(lambda: self._sender.state is not SenderState.FLUSHING)
        if self._receiver.closed:
            self._hub.forget(self)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while True:
            self._check()
            if condition():
                return
            self._room.clear()
            await self._room.wait()

    def _put(self, elements: list[Element]) -> None:
        for element in elements:
            self._tasks.start("block", self._deliver(element))

    async def _deliver(self, element: Element) -> None:
        try:
            await self._hub.client.send_iq(self.peer, element)
        except (StanzaError, IqTimeout, Disconnected):
            self._break("a block was not taken")
            return
        if element.tag == ibb.DATA:
            self._put(self._sender.acknowledged())
        else:
            self._sender.closed()
        self._room.set()

    # -- the end ----------------------------------------------------------------------------

    def let_go(self) -> None:
        """The session that agreed on it is over."""
        self._drop("the session is over")

    def close(self) -> None:
        """See ``Stream.close``."""
        self._drop("the stream is closed")

    def abort(self) -> None:
        """See ``Stream.abort``."""
        self._drop("the stream is closed")

    def _drop(self, why: str) -> None:
        """This side wants no more: who still waits to read must not be given what came before."""
        self._break(why)
        self._unread.clear()
        self._unread_bytes = 0

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
