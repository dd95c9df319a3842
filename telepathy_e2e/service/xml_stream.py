"""One XML stream with one program of a contact (XEP-0247), from offer to end.

``_initiate`` and ``_respond`` are the two scripts; ``stream_session`` says how they end. There is
no channel: nobody here asked for one, and what a stream carries is shown by whoever it is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, ClassVar, Final, Literal
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    Disconnected,
    NetworkError,
    NotAvailable,
    PeerError,
    SecurityError,
    TelepathyError,
)
from telepathy_e2e.jingle import xml_streams
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.role import Role
from telepathy_e2e.service.failures import (
    REASON_GRACE,
    Fault,
    NoRoad,
    SessionFailed,
    failure_of,
    road_broke,
)
from telepathy_e2e.service.protected_peer import ProtectedPeer
from telepathy_e2e.service.stream_session import StreamSession
from telepathy_e2e.service.xml_stream_security import StreamSecurity
from telepathy_e2e.xmpp.client import Resource
from telepathy_e2e.xmpp.iq import IQ, IQ_TIMEOUT, Iqs
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xmpp.peer_stream import (
    PeerClosed,
    PeerFailed,
    PeerOpened,
    PeerStream,
    Received,
)

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account
    from telepathy_e2e.service.sessions import Link

log = logging.getLogger(__name__)

# Seconds from the offer until stanzas can flow. Roads and handshakes have their own limits, which
# are shorter; this one is for people who do not answer the question that policy puts.
SETUP_SECONDS: Final = 300.0
# Seconds without a stanza after which a stream is closed; the next one opens another.
IDLE_SECONDS: Final = 120.0
# Seconds for the other side's closing tag, and for its session-terminate: some round trips.
CLOSE_SECONDS: Final = 5.0
# Bytes read at once, and parsed before everybody else has a turn.
CHUNK: Final = 16 * 1024
SLICE: Final = 4 * 1024
# Bytes that wait for the road. Past it nothing more of the peer is read: he could ask without
# reading the answers. Two stanzas of the largest size.
MAX_UNSENT: Final = 512 * 1024
# After so many bytes a blank is sent when nothing else has followed for so many seconds, as in
# tubes: some proxies (Prosody 0.12) keep up to 4 KiB of what they have read until more comes. Then
# further ones: a proxy that is busy may have found the first beside what it was to push.
BURST: Final = 1024
PUSH_AFTER: Final = (0.05, 1.0, 10.0)


class XmlStream(StreamSession):
    """See the module, and ``guard.Payload``.

    Args:
        account: the connection's services.
        link: the session.
        received: gets each message and presence, in order.
        opened: told once, when stanzas can be sent.
        ended: told once, when it is over.
        accepted, quiet: see ``StreamSecurity``.
    Attributes:
        iqs: who answers the peer's questions is entered here before the stream opens.
        ours: this side initiated the session.
        ready: done when stanzas can be sent; holds the error if that never came.
        answered: the session is accepted, or this side did not initiate it.
    """

    content_name: ClassVar[str] = xml_streams.CONTENT_NAME
    senders: ClassVar[str] = "both"
    security: StreamSecurity
    receives = True

    def __init__(
        self,
        account: Account,
        link: Link,
        *,
        received: Callable[[Element, ProtectedPeer], None],
        opened: Callable[[XmlStream], None],
        ended: Callable[[XmlStream], None],
        accepted: Callable[[bytes], bool],
        quiet: bool,
    ) -> None:
        self._received = received
        self._opened = opened
        self._ended = ended
        # A name for questions about it; there is no object of this path.
        self.object_path = account.next_path("XMLStream")
        self.target_id = bare(link.peer)
        self.target_handle = account.handles.of_jid(self.target_id)
        super().__init__(account, StreamSecurity(account, self, accepted=accepted, quiet=quiet))
        self.peer = link.peer
        self.ours = link.role is Role.INITIATOR
        self.answered = not self.ours
        self._machine = PeerStream(link.role, link.own, link.peer)
        self.iqs = Iqs(self._send_or_drop)
        self.iqs.own = link.own
        self._idle: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        # The peer ended the session; the peer's closing tag came.
        self._peer_ended: asyncio.Future[None] = loop.create_future()
        self._peer_closed: asyncio.Future[None] = loop.create_future()
        self._closes = False
        self._in_flight = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        # All that was queued is on the road.
        self._written = asyncio.Event()
        self._attach(link)

    # -- what features do with it -------------------------------------------------------------

    def mark(self) -> ProtectedPeer:
        """Who is at the other end, as far as is known now.

        Raises:
            NotAvailable: not protected yet.
        """
        return ProtectedPeer(
            self.peer,
            self.security.identity(),
            self.security.verified,
            tuple(self.security.verified_methods),
        )

    def is_with(self, bare_jid: str, fingerprint: bytes) -> bool:
        """Whether this identity of a contact is at the other end."""
        return self.target_id == bare_jid and self.security.shows(fingerprint)

    def send(self, stanza: Element) -> None:
        """Send a message, presence or iq after all that was sent before.

        Raises:
            Disconnected: not open, or over.
            InvalidArgument: see ``PeerStream.send``.
            NotAvailable: the peer does not read what was sent before.
        """
        if not self.ready.done() or self.over:
            raise Disconnected("There is no stream to the contact's client")
        if not self._room.is_set():
            raise NotAvailable("The contact's client does not read what is sent to it")
        self._machine.send(stanza)
        self._active()
        self._queued()

    async def ask(
        self,
        payload: Element,
        type: Literal["get", "set"] = "get",
        timeout: float = IQ_TIMEOUT,  # noqa: ASYNC109, as ``Client.send_iq``
    ) -> Element | None:
        """Ask the peer; see ``Client.send_iq``.

        Raises:
            StanzaError, IqTimeout, Disconnected, InvalidArgument: as there.
        """
        return await self.iqs.ask(self.peer, payload, type, timeout)

    def close(self) -> None:
        """End it in order: what was sent before still arrives."""
        if not self.ready.done():
            self._end(SessionFailed(Disconnected("The stream was closed"), "cancel", Fault.OURS))
        elif not self.over and not self._machine.closing:
            self._closes = True
            self._machine.close()
            self._queued()
            self._start(self._closing(), "close")

    def abandon(self, condition: str | None, error: TelepathyError) -> None:
        """End it at once: the contact left the list, the connection goes.

        Args:
            condition: the reason for the peer; None: he is told by other means.
        """
        self._end(SessionFailed(error, condition, Fault.OURS))

    # -- the two scripts ----------------------------------------------------------------------

    def initiate(self, peer: Resource) -> None:
        self._start(self._initiate(peer))

    def respond(self, content: Content) -> None:
        """The peer's offer.

        Raises:
            PeerError, NoRoad, SecurityFailed: it cannot be taken.
        """
        xml_streams.check_offer(content.description, content.senders)
        self._received_initiate(content)
        self._start(self._respond())

    async def _initiate(self, peer: Resource) -> None:
        async with _limit(SETUP_SECONDS):
            await self._send_initiate(peer, xml_streams.build())
            await self._answer
            stream = await self._protect()
        await self._talk(stream)

    async def _respond(self) -> None:
        async with _limit(SETUP_SECONDS):
            security = await self.security.accept()
            await self._send_accept(xml_streams.build(), security)
            stream = await self._protect()
        await self._talk(stream)

    async def _protect(self) -> Stream:
        """It is protected, and with whoever holds an identity, or this raises."""
        stream = await self._secure_stream()
        self.security.check_identity()
        return stream

    async def _talk(self, stream: Stream) -> None:
        self._machine.start()
        self._active()
        self._queued()
        self._start(self._write(stream), "write")
        while not self._machine.over:
            data = await stream.read(CHUNK)
            if not data:
                self._machine.receive_eof()
            for start in range(0, len(data), SLICE):
                self._read(data[start : start + SLICE])
                await asyncio.sleep(0)
                await self._room.wait()

    def _read(self, data: bytes) -> None:
        for event in self._machine.receive_data(data):
            if self.over:
                return  # by what came before it
            match event:
                case PeerOpened():
                    log.debug("an XML stream is open: %s", self.object_path)
                    self.ready.set_result(None)
                    self._opened(self)
                case Received(stanza):
                    self._active()
                    if stanza.tag == IQ:
                        self.iqs.receive(stanza)
                    else:
                        self._received(stanza, self.mark())
                case PeerFailed(condition):
                    raise SessionFailed(NetworkError(condition), "failed-application")
                case PeerClosed():
                    self._peer_closed.set_result(None)
                    if not self._closes:
                        self._start(self._closed_by_peer(), "close")
        self._queued()

    async def _write(self, stream: Stream) -> None:
        """What is queued, until our closing tag is on the way."""
        burst = 0
        pushes: tuple[float, ...] = ()
        while True:
            try:
                async with asyncio.timeout(pushes[0] if pushes else None):
                    await self._news.wait()
            except TimeoutError:
                self._machine.push()
                pushes = pushes[1:]
            self._news.clear()
            data = self._machine.data_to_send()
            burst += len(data)
            if burst >= BURST:
                burst, pushes = 0, PUSH_AFTER
            self._in_flight = len(data)
            if data:
                await stream.write(data)
            self._in_flight = 0
            self._measure()
            if not self._machine.unsent:
                if self._machine.closing:
                    with contextlib.suppress(StreamBroken):  # who has all may be gone
                        await stream.write_eof()
                    self._written.set()
                    return
                self._written.set()

    def _queued(self) -> None:
        self._written.clear()
        self._news.set()
        self._measure()

    def _measure(self) -> None:
        if self._machine.unsent + self._in_flight > MAX_UNSENT:
            self._room.clear()
        else:
            self._room.set()

    # -- the end ------------------------------------------------------------------------------

    async def _closing(self) -> None:
        """Our closing tag is on the way: the peer answers with his, then we end the session."""
        await self._either(self._peer_closed, self._peer_ended)
        self._finish()

    async def _closed_by_peer(self) -> None:
        """His closing tag came and ours is on its way. He ends the session (XEP-0247)."""
        await self._either(self._peer_ended)
        self._finish()

    def _finish(self) -> None:
        self._link.terminate("success")
        self._complete()

    async def _either(self, *futures: asyncio.Future[None], seconds: float = CLOSE_SECONDS) -> None:
        await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def _await_reason(self, error: Exception) -> None:
        if road_broke(error):
            await self._either(self._peer_ended, seconds=REASON_GRACE)
        elif isinstance(error, PeerError):
            await self._say_why()

    async def _say_why(self) -> None:
        """What was queued about the peer's mistake, if he still reads."""
        if not self._machine.unsent and not self._in_flight:
            return  # it was not made in the stream
        self._queued()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._written.wait()

    def _fail(self, error: Exception) -> None:
        log.info("an XML stream failed: %s", error)
        failure = failure_of(error)
        if isinstance(error, PeerError) and not isinstance(error, SecurityError):
            failure = SessionFailed(failure.error, "failed-application")
        self._end(failure)

    def _release(self, failure: SessionFailed | None) -> None:
        super()._release(failure)
        if self._idle is not None:
            self._idle.cancel()
        self.iqs.close()
        if failure is not None and not self.ready.done():
            self.ready.set_exception(failure.error)
            self.ready.exception()  # nobody need wait for it
        self._ended(self)

    def _active(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self.close)

    def _send_or_drop(self, stanza: Element) -> None:
        """As ``Iqs`` wants it."""
        if not self.over and not self._machine.closing:
            self._machine.send(stanza)
            self._active()
            self._queued()

    # -- what the peer says -------------------------------------------------------------------

    def _read_answer(self, content: Content) -> None:
        self.answered = True
        xml_streams.check_answer(content.description, content.senders)

    def _terminated(self, condition: str) -> None:
        if not self._peer_ended.done():
            self._peer_ended.set_result(None)
        if condition != "success" or not self._machine.closing:
            self._end(SessionFailed(NetworkError("The contact's client ended the stream"), None))

    def peer_offline(self) -> None:
        self._end(SessionFailed(NetworkError("The contact's client went offline"), "gone"))

    # -- ``guard.Payload`` --------------------------------------------------------------------

    def security_changed(self, *changed: str) -> None:
        """Nobody is told: who gets a stanza gets a mark with it."""


@contextlib.asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NoRoad("The stream did not come up in time") from None
