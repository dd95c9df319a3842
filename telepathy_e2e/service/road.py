"""From an agreed session to a connected stream, and to another one when that breaks.

``Road`` is told what the peer says about transports and gives, from ``connect``, one stream. Which
transport, which candidate, which proxy: the application does not know. ``jingle.ways`` says in
which order; each transport is an ``Attempt`` of a module of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import NotAvailable, PeerError
from telepathy_e2e.jingle import data_channel, ibb, s5b, ways
from telepathy_e2e.jingle import session as jingle
from telepathy_e2e.jingle.ways import Way
from telepathy_e2e.net import addresses
from telepathy_e2e.net.streams import SocketStream, Stream, StreamBroken
from telepathy_e2e.role import Role
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.failures import NoRoad, SecurityFailed
from telepathy_e2e.service.road_attempt import Attempt, NoWay, Protection
from telepathy_e2e.service.road_in_band import InBandAttempt
from telepathy_e2e.service.road_socks5 import Socks5Attempt
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError
from telepathy_e2e.xmpp.jid import bare

log = logging.getLogger(__name__)

#: Seconds. The other side may still be trying its candidates when ours have failed.
REPLACE_TIMEOUT: Final = 60.0

#: Seconds that whoever answered the session waits for the other side to offer a new road, before
#: it offers one itself: the other side may not have noticed yet that there is none.
RENEWAL_PATIENCE: Final = 3.0

#: Seconds that a data channel may be silent before another road is looked for (``media.silence``
#: adds those after which it counts as silent). Where there is no other it waits longer.
RENEWABLE_SILENCE: Final = 10.0

#: Seconds for all transports of one round together.
ROUND_TIMEOUT: Final = 150.0

#: Transports that a peer may offer in the place of others, in one round and in a whole session
#: that is renewable. Each costs us sockets and names to look up.
MAX_OFFERS: Final = 6
MAX_ALL_OFFERS: Final = 1000

#: Transport-infos that came before our answer.
MAX_EARLY: Final = 32


class Road:
    """The transport of one session.

    The initiator calls ``offer`` and ``answered``, the responder ``offered`` and ``answer``; both
    then ``connect``, and ``session_event`` for what else the peer says.

    Args:
        security: of the session, where a transport may have its encryption of it.
        renewable: after a stream of it broke, ``connect`` may be called again, and gives another.
            When the peer has lost the road first, the stream that there was is aborted.
        features: what the peer's client lists; None: not known.
    """

    def __init__(
        self,
        account: Account,
        link: Link,
        security: Protection | None = None,
        *,
        renewable: bool = False,
        features: Collection[str] | None = None,
    ) -> None:
        self._account = account
        self._link = link
        self._security = security
        self.renewable = renewable
        self.features = features
        # Told when a stream of this road is aborted for another: who has it may not be reading.
        self.lost: Callable[[], None] = lambda: None
        self._tasks = TaskOwner(f"road {link.sid}")
        self._closed = False
        self._answered = False
        # The responder's, until the user has accepted.
        self._peer_transport: Element | None = None
        # What is agreed on, and being connected or in use.
        self._attempt: Attempt | None = None
        # What we have offered in its place, and the peer's answer to that: whether he takes it.
        self._offering: Attempt | None = None
        self._reply: asyncio.Future[bool] | None = None
        # What the peer has offered in its place, while we find our side of it.
        self._taking: Attempt | None = None
        self._early: list[Element] = []
        self._changed = asyncio.Event()
        self._stream: Stream | None = None
        self._failed: set[Way] = set()
        self._peers: set[Way] = set()
        self._failure: SecurityFailed | None = None
        self._offers = self._all_offers = 0
        self._rounds = 0
        self._began: datetime | None = None

    # -- offer and answer -------------------------------------------------------------------

    async def offer(self) -> Element:
        """The ``<transport/>`` of our session-initiate.

        Raises:
            NoRoad: there is none that could be offered.
        """
        for way in self._order():
            attempt = self._make(way)
            try:
                transport = await attempt.offer()
            except NoWay:
                attempt.close()
                self._failed.add(way)
                continue
            self._attempt = attempt
            return transport
        raise NoRoad("There is no way to the contact's client")

    def offered(self, transport: Element | None) -> None:
        """The ``<transport/>`` of the peer's session-initiate.

        Raises:
            PeerError: malformed.
            NoRoad: one that we do not know, or that the user does not allow.
        """
        if transport is None:
            raise PeerError("a content without a transport")
        match _way_of(transport):
            case Way.IN_BAND if self._allowed(Way.IN_BAND):
                ibb.parse_transport(transport)  # the stream itself waits until the user accepts
            case Way.ICE if self._allowed(Way.ICE):
                data_channel.parse(transport)
            case Way.SOCKS5 if transport.get("sid"):
                pass
            case _:
                raise NoRoad("The contact's client offers no way that is supported")
        self._peer_transport = transport
        self._has(_way_of(transport))

    def _has(self, way: Way | None) -> None:
        """The peer has offered it."""
        if way is not None:
            self._peers.add(way)

    async def answer(self) -> Element:
        """The ``<transport/>`` of our session-accept.

        Raises:
            PeerError: the peer's candidates are malformed.
            SecurityFailed: it is for another certificate than the session's.
            NoRoad: it cannot be had here.
        """
        transport = self._peer_transport
        if transport is None:
            raise AssertionError("answered before it was offered")
        way = _way_of(transport)
        if way is None or not self._allowed(way):
            raise NoRoad("The contact's client offers no way that is supported")
        attempt = self._taking = self._make(way)
        self._peer_transport = None
        try:
            answer = await attempt.answer(transport)
        except NoWay as error:
            raise NoRoad(str(error)) from error
        self._taking, self._attempt = None, attempt
        self._answered = True
        self._replay(attempt)
        return answer

    def answered(self, transport: Element | None) -> None:
        """The ``<transport/>`` of the peer's session-accept.

        Raises:
            PeerError: malformed, or another transport.
        """
        if transport is None:
            raise PeerError("a content without a transport")
        self._answered = True
        attempt = self._attempt
        if attempt is None or _way_of(transport, attempt.way) is not attempt.way:
            raise PeerError("an answer to another transport")
        if not self._allowed(attempt.way):
            # What it would be protected by was not agreed on; another road does not need it.
            attempt.close()
            self._attempt = None
            return
        self._take_answer(attempt, transport)

    def _take_answer(self, attempt: Attempt, transport: Element) -> None:
        try:
            attempt.answered(transport)
        except SecurityFailed as failure:
            self._failure = failure
            self._changed.set()

    # -- what the peer says -----------------------------------------------------------------

    def session_event(self, event: jingle.Event) -> None:
        """An event of the session that is about transports.

        Raises:
            PeerError: it makes no sense now.
        """
        match event:
            case jingle.TransportInfo(transport):
                self._info(transport)
            case jingle.TransportReplaceOffered(transport):
                self._replace_offered(transport)
            case jingle.TransportReplaced(transport):
                self._replaced(transport)
            case jingle.TransportReplaceRejected():
                self._rejected()
            case _:
                return

    def _info(self, transport: Element) -> None:
        waiting = self._taking is not None or self._peer_transport is not None
        for attempt in (self._offering, self._attempt):
            if attempt is not None and attempt.is_about(transport):
                attempt.info(transport)
                return
        if waiting and len(self._early) < MAX_EARLY:
            self._early.append(transport)
            return
        log.debug("news of a transport that is not in use")

    def _replay(self, attempt: Attempt) -> None:
        """What came before we had our side of it; its senders have their answers."""
        early, self._early = self._early, []
        for transport in early:
            try:
                if attempt.is_about(transport):
                    attempt.info(transport)
            except PeerError as error:
                log.info("news of a transport were of no use: %s", error)

    def _replaced(self, transport: Element) -> None:
        """The peer takes what we have offered in the place of another."""
        attempt, reply = self._offering, self._reply
        if attempt is None or reply is None or reply.done():
            raise PeerError("nothing was offered", "unexpected-request")
        try:
            self._take_answer(attempt, transport)
        except PeerError:
            reply.set_result(False)
            raise
        self._offering, self._attempt = None, attempt
        reply.set_result(True)

    def _rejected(self) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(False)

    def _replace_offered(self, transport: Element) -> None:
        way = _way_of(transport)
        if self._peer_transport is not None and not self._closed:
            # The user has not accepted yet, and nothing of ours is told before. What needs nothing
            # of ours is what will be answered then.
            if way is not Way.IN_BAND or not self._allowed(way) or self._offers >= MAX_OFFERS:
                self._reject()
                return
            ibb.parse_transport(transport)
            self._offers += 1
            self._peer_transport = transport
            self._link.post(self._link.session.transport_accept(transport))
            return
        up = self._stream is not None and not self.renewable
        # Our answer to the session is being made: what it answers cannot change any more.
        busy = up or self._closed or self._taking is not None
        if way is None or busy or not self._allowed(way) or not self._counted():
            self._reject()
            return
        self._has(way)
        attempt = self._make(way)
        if isinstance(attempt, InBandAttempt):
            # Its stream is opened as soon as the peer has our answer.
            self._accepted(attempt, attempt.take(transport))
            return
        self._early.clear()
        self._taking = attempt
        self._tasks.start("take", self._take(attempt, transport))

    def _counted(self) -> bool:
        self._offers += 1
        self._all_offers += 1
        return self._offers <= MAX_OFFERS and self._all_offers <= MAX_ALL_OFFERS

    async def _take(self, attempt: Attempt, transport: Element) -> None:
        """Our side of what the peer has offered in the place of another."""
        try:
            answer = await attempt.answer(transport)
        except (PeerError, NoWay) as error:
            log.info("another transport was not taken: %s", error)
            self._drop(attempt)
            return
        except SecurityFailed as failure:
            self._failure = failure
            self._drop(attempt)
            self._changed.set()
            return
        if self._taking is attempt and not self._closed:
            self._accepted(attempt, answer)
            self._replay(attempt)
        else:
            attempt.close()

    def _drop(self, attempt: Attempt) -> None:
        attempt.close()
        if self._taking is attempt:
            self._taking = None
            self._reject()
            self._changed.set()  # who waits for it has to offer something else

    def _accepted(self, attempt: Attempt, answer: Element) -> None:
        """The peer's transport is that of the session from here on."""
        try:
            accept = self._link.session.transport_accept(answer)
        except (NotAvailable, ValueError):
            attempt.close()
            return
        self._taking = None
        self._lose()
        if self._offering is not None:  # overruled by the peer's (XEP-0166 section 7.2.16)
            self._offering.close()
            self._offering = None
            self._rejected()
        self._link.post(accept)
        self._attempt = attempt
        self._changed.set()
        attempt.begin()

    def _reject(self) -> None:
        try:
            self._link.post(self._link.session.transport_reject())
        except NotAvailable:
            return  # the session is over, or our own offer has overruled it

    # -- connecting -------------------------------------------------------------------------

    async def connect(self) -> Stream:
        """The stream; where the road is renewable, another one each time.

        Raises:
            NoRoad: nothing could be brought up.
            StreamBroken: in-band was agreed on, and broke; never where the road is renewable.
            SecurityFailed: the transport's own encryption is not with whom it should be.
        """
        if self._rounds and not self.renewable:
            raise AssertionError("this road cannot be renewed")
        if self._stream is not None:  # else the peer has lost it first, and offered another
            self._lose()
        self._rounds += 1
        self._began = self._began or datetime.now(UTC)
        self._failed.clear()
        self._offers = 0
        try:
            async with asyncio.timeout(ROUND_TIMEOUT):
                stream = await self._round()
        except TimeoutError:
            raise NoRoad("No connection to the contact's client came up in time") from None
        if self.renewable and isinstance(stream, SocketStream):
            stream.notice_loss()
        self._stream = stream
        return stream

    async def _round(self) -> Stream:
        while True:
            if self._failure is not None:
                raise self._failure
            attempt = self._attempt
            if attempt is None:
                await self._next()
                continue
            self._changed.clear()
            stream = await self._connected(attempt)
            if stream is not None:
                self._remember(attempt.way)
                return stream

    async def _connected(self, attempt: Attempt) -> Stream | None:
        """The stream; None: it failed, or the peer has another in its place."""
        connecting = self._tasks.start("connect", attempt.connect(), awaited=True)
        changed = self._tasks.start("changed", self._changed.wait(), awaited=True)
        stream: Stream | None = None
        try:
            await asyncio.wait({connecting, changed}, return_when=asyncio.FIRST_COMPLETED)
            if self._attempt is not attempt or self._failure is not None:
                return None
            stream = await connecting
        except (NoWay, StreamBroken) as error:
            if isinstance(error, StreamBroken) and not self.renewable:
                raise
            log.info("%s does not work: %s", attempt.way, error)
            self._failed.add(attempt.way)
            attempt.close()
            if self._attempt is attempt:
                self._attempt = None
        finally:
            changed.cancel()
            if stream is None:
                _dispose(connecting)
        return stream

    async def _next(self) -> None:
        """Until another transport is agreed on. Raises: NoRoad."""
        if self._link.role is Role.RESPONDER:
            # The peer's part, unless there was a road already whose loss he may not have seen.
            patience = RENEWAL_PATIENCE if self._rounds > 1 else REPLACE_TIMEOUT
            if await self._offered_another(patience):
                return
            if self._rounds == 1:
                raise NoRoad("The contact's client did not finish setting up the connection")
        if self._taking is not None:
            if not await self._offered_another(REPLACE_TIMEOUT, self._taking):
                raise NoRoad("The contact's client did not finish setting up the connection")
            return
        for way in self._order():
            if await self._replace(way) or self._attempt is not None or self._failure is not None:
                return
        # The other side may have more to offer than we know that it takes.
        if self._link.role is Role.RESPONDER and await self._offered_another(REPLACE_TIMEOUT):
            return
        raise NoRoad("No connection to the contact's client could be made")

    async def _offered_another(self, patience: float, taking: Attempt | None = None) -> bool:
        """Whether something has come of it: of ``taking`` also that it cannot be taken."""
        try:
            async with asyncio.timeout(patience):
                while self._attempt is None and self._failure is None:
                    if taking is not None and self._taking is not taking:
                        break
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _replace(self, way: Way) -> bool:
        """Offer it; whether the peer takes it."""
        attempt = self._make(way)
        reply: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        try:
            transport = await attempt.offer()
            if self._attempt is not None or self._taking is not None:
                return True  # the peer was faster
            replace = self._link.session.transport_replace(transport)
            self._offering, self._reply = attempt, reply
            self._link.post(replace, refused=lambda error: self._refused(reply, error))
            attempt.begin()
            async with asyncio.timeout(REPLACE_TIMEOUT):
                taken = await reply
        except NoWay as error:
            log.info("%s cannot be offered: %s", way, error)
            self._failed.add(way)
            return False
        except NotAvailable as error:
            raise NoRoad("No other transport can be agreed on now") from error
        except TimeoutError:
            raise NoRoad("The contact's client did not finish setting up the connection") from None
        finally:
            if self._offering is attempt:
                self._offering = None
            if self._attempt is not attempt:
                attempt.close()
        if not taken:
            self._failed.add(way)
        return taken

    def _refused(self, reply: asyncio.Future[bool], error: StanzaError | IqTimeout) -> None:
        del error
        # A tie-break is followed by the peer's own offer.
        if not reply.done():
            reply.set_result(False)

    # -- which one --------------------------------------------------------------------------

    def _make(self, way: Way) -> Attempt:
        match way:
            case Way.SOCKS5:
                return Socks5Attempt(self._account, self._link)
            case Way.IN_BAND:
                return InBandAttempt(self._account.inband, self._link)
            case Way.ICE:
                from telepathy_e2e.service.road_ice import IceAttempt

                if self._security is None:
                    raise AssertionError("a data channel without a protection")
                return IceAttempt(
                    self._account, self._link, self._security, self._silence, self._wall
                )

    def _silence(self) -> float | None:
        """Whether there is another road is known with the answer to the offer."""
        return RENEWABLE_SILENCE if self.renewable else None

    def _wall(self) -> datetime:
        """By which certificates are judged: that of the first round."""
        return self._began or datetime.now(UTC)

    def _order(self) -> tuple[Way, ...]:
        memory = self._account.road_memory
        return ways.order(
            self._account.roads,
            self._features(),
            protected=self._protected,
            offered=self._peers,
            failed=self._failed,
            first=memory.first(bare(self._link.peer), _network(), time.monotonic()),
        )

    def _features(self) -> Collection[str] | None:
        if self.features is None:
            for each in self._account.client.resources(bare(self._link.peer)):
                if each.jid == self._link.peer:
                    self.features = each.features
        return self.features

    def _allowed(self, way: Way) -> bool:
        """Whether it may be agreed on, whoever offers it."""
        # The peer's own SOCKS5 may be answered even where ours has nothing to offer: it fails then.
        if way is Way.SOCKS5:
            return True
        return ways.allowed(way, self._account.roads, protected=self._protected)

    @property
    def _protected(self) -> bool:
        security = self._security
        if security is None or security.credentials is None:
            # The responder has none before the user has accepted.
            return security is not None and bool(security.peer_fingerprints_offered)
        return not self._answered or bool(security.peer_fingerprints_offered)

    def _remember(self, way: Way) -> None:
        self._account.road_memory.note(
            bare(self._link.peer), _network(), way, self._failed, time.monotonic()
        )

    # -- the end ----------------------------------------------------------------------------

    def _lose(self) -> None:
        """The stream that there was, and what it came from."""
        if self._stream is not None:
            self._stream.abort()
            self._stream = None
            self.lost()
        if self._attempt is not None:
            self._attempt.close()
            self._attempt = None

    def close(self) -> None:
        """Let go of all that was not taken."""
        self._closed = True
        for attempt in (self._attempt, self._offering, self._taking):
            if attempt is not None:
                attempt.close()
        if self._reply is not None:
            self._reply.cancel()
        self._tasks.cancel()


def _way_of(transport: Element, known: Way | None = None) -> Way | None:
    """Args: known: of what it answers; an answer need not say again that it is for data."""
    if transport.tag == s5b.TRANSPORT:
        return Way.SOCKS5
    if transport.tag == ibb.TRANSPORT:
        return Way.IN_BAND
    if data_channel.is_data(transport):
        return Way.ICE
    return Way.ICE if known is Way.ICE and transport.tag == data_channel.TRANSPORT else None


def _network() -> tuple[str, ...]:
    """Where this machine is, as far as its addresses say."""
    return tuple(addresses.usable_addresses())


def _dispose(connecting: asyncio.Task[Stream]) -> None:
    """Nobody wants what it gives."""

    def done(task: asyncio.Task[Stream]) -> None:
        if not task.cancelled() and task.exception() is None:
            task.result().abort()

    connecting.cancel()
    connecting.add_done_callback(done)
