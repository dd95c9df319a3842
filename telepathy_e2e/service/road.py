"""From an agreed session to a connected stream: SOCKS5 first, in-band when that fails.

``Road`` is told what the peer says about transports and gives, from ``connect``, one stream. Which
candidate, which proxy, whether in-band: the application does not know.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected, PeerError
from telepathy_e2e.jingle import ibb, s5b
from telepathy_e2e.jingle import session as jingle
from telepathy_e2e.jingle.ibb import InBandOffer
from telepathy_e2e.jingle.s5b import Candidate, Socks5Negotiation
from telepathy_e2e.net import socks5
from telepathy_e2e.net.listener import Expectation
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.role import Role
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.failures import NoRoad
from telepathy_e2e.service.inband import InBandStream
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError

log = logging.getLogger(__name__)

# A candidate that can be reached answers in a few round trips; a firewall that drops packets
# says nothing at all, and the next candidate waits.
CANDIDATE_TIMEOUT: Final = 5.0

# All of SOCKS5: both sides' candidates one after the other, then the proxy.
SOCKS5_TIMEOUT: Final = 45.0

# The other side may still be trying its candidates when ours have failed.
REPLACE_TIMEOUT: Final = 60.0


# Proxies offered beside the direct candidates; one is enough where it works.
MAX_PROXIES: Final = 4


class Road:
    """The transport of one session.

    The initiator calls ``offer`` and ``answered``, the responder ``offered`` and ``answer``; both
    then ``connect``, and ``session_event`` for what else the peer says.
    """

    def __init__(self, account: Account, link: Link) -> None:
        self._account = account
        self._link = link
        self._tasks = TaskOwner(f"road {link.sid}")
        self._negotiation: Socks5Negotiation | None = None
        self._expectation: Expectation | None = None
        self._peer_transport: Element | None = None
        self._in_band: InBandStream | None = None
        self._closed = False
        # What the responder does first, after its session-accept is on the way.
        self._first: Sequence[s5b.Event] = ()
        self._hopeless: set[str] = set()
        # Our connection to one of the peer's candidates, or to our proxy, until it is nominated.
        self._outgoing: Stream | None = None
        loop = asyncio.get_running_loop()
        # The SOCKS5 stream, or None: SOCKS5 cannot be had.
        self._socks5: asyncio.Future[Stream | None] = loop.create_future()
        # The in-band stream that replaces it, or None: the peer refused.
        self._replacement: asyncio.Future[InBandStream | None] = loop.create_future()

    # -- offer and answer -------------------------------------------------------------------

    async def offer(self) -> Element:
        """The ``<transport/>`` of our session-initiate."""
        if self._account.roads == {"in-band"}:
            offer = InBandOffer(secrets.token_hex(16), ibb.BLOCK_SIZE)
            self._in_band = self._account.inband.stream(self._link.peer, offer)
            return ibb.build_transport(offer)
        return self._start_socks5(secrets.token_hex(16)).transport()

    def offered(self, transport: Element | None) -> None:
        """The ``<transport/>`` of the peer's session-initiate.

        Raises:
            PeerError: malformed.
            NoRoad: one that we do not know.
        """
        if transport is None:
            raise PeerError("a content without a transport")
        if transport.tag == ibb.TRANSPORT:
            ibb.parse_transport(transport)  # the stream itself waits until the user accepts
        elif transport.tag != s5b.TRANSPORT or not transport.get("sid"):
            raise NoRoad("The contact's client offers no way that is supported")
        self._peer_transport = transport

    async def answer(self) -> Element:
        """The ``<transport/>`` of our session-accept.

        Raises:
            PeerError: the peer's candidates are malformed.
        """
        transport = self._peer_transport
        if transport is None:
            raise AssertionError("answered before it was offered")
        self._peer_transport = None
        if transport.tag == ibb.TRANSPORT:
            offer = ibb.parse_transport(transport)
            self._in_band = self._account.inband.stream(self._link.peer, offer)
            return transport
        negotiation = self._start_socks5(transport.get("sid", ""))
        self._first = negotiation.receive_candidates(transport)
        return negotiation.transport()

    def answered(self, transport: Element | None) -> None:
        """The ``<transport/>`` of the peer's session-accept.

        Raises:
            PeerError: malformed, or another transport.
        """
        if transport is None:
            raise PeerError("a content without a transport")
        if self._negotiation is not None and transport.tag == s5b.TRANSPORT:
            self._act(self._negotiation.receive_candidates(transport))
        else:
            self._adopt_block_size(transport)

    def _adopt_block_size(self, transport: Element) -> None:
        if self._in_band is None:
            raise PeerError("no in-band stream was offered")
        self._in_band.agree(ibb.parse_transport(transport))

    # -- what the peer says -----------------------------------------------------------------

    def session_event(self, event: jingle.Event) -> None:
        """An event of the session that is about transports.

        Raises:
            PeerError: it makes no sense now.
        """
        match event:
            case jingle.TransportInfo(transport):
                if self._negotiation is not None and transport.tag == s5b.TRANSPORT:
                    self._act(self._negotiation.receive_info(transport))
            case jingle.TransportReplaceOffered(transport):
                self._replace_offered(transport)
            case jingle.TransportReplaced(transport):
                self._adopt_block_size(transport)
                if not self._replacement.done():
                    self._replacement.set_result(self._in_band)
            case jingle.TransportReplaceRejected():
                if not self._replacement.done():
                    self._replacement.set_result(None)
            case _:
                return

    def _replace_offered(self, transport: Element) -> None:
        up = self._closed or (self._socks5.done() and self._socks5.result() is not None)
        if up or transport.tag != ibb.TRANSPORT or self._in_band is not None:
            self._link.post(self._link.session.transport_reject())
            return
        offer = ibb.parse_transport(transport)
        if self._peer_transport is not None:
            # The user has not accepted yet: this is what will be answered then.
            self._peer_transport = transport
            self._link.post(self._link.session.transport_accept(transport))
            return
        self._in_band = self._account.inband.stream(self._link.peer, offer)
        self._link.post(self._link.session.transport_accept(transport))
        if not self._replacement.done():
            self._replacement.set_result(self._in_band)

    # -- connecting -------------------------------------------------------------------------

    async def connect(self) -> Stream:
        """The stream.

        Raises:
            NoRoad: nothing could be brought up.
            StreamBroken: in-band was agreed on, and broke.
        """
        if self._negotiation is not None:
            self._act(self._first)
            stream = await self._await_socks5()
            if stream is not None:
                return stream
            await self._fall_back()
        in_band = self._in_band
        if in_band is None:
            raise NoRoad("No connection to the contact's client could be made")
        if self._link.role is Role.INITIATOR:
            await in_band.open()
        else:
            async with _limit(REPLACE_TIMEOUT):
                await in_band.wait_open()
        return in_band

    async def _await_socks5(self) -> Stream | None:
        """The SOCKS5 stream, unless it fails, takes too long, or the peer has replaced it."""
        either: set[asyncio.Future[Any]] = {self._socks5, self._replacement}
        await asyncio.wait(
            either,
            timeout=SOCKS5_TIMEOUT,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not self._socks5.done():
            self._settle(None)  # a connection that comes now is too late, and is let go
        return self._socks5.result()

    async def _fall_back(self) -> None:
        """In-band instead: the initiator replaces the transport, the responder waits for that."""
        if self._link.role is Role.INITIATOR and self._in_band is None:
            offer = InBandOffer(secrets.token_hex(16), ibb.BLOCK_SIZE)
            self._in_band = self._account.inband.stream(self._link.peer, offer)
            replace = self._link.session.transport_replace(ibb.build_transport(offer))
            self._link.post(replace, refused=self._replace_refused)
        async with _limit(REPLACE_TIMEOUT):
            if await self._replacement is None:
                raise NoRoad("No direct connection, and the contact's client refused in-band")

    def _replace_refused(self, error: StanzaError | IqTimeout) -> None:
        del error
        if not self._replacement.done():
            self._replacement.set_result(None)

    # -- SOCKS5 -----------------------------------------------------------------------------

    def _start_socks5(self, sid: str) -> Socks5Negotiation:
        own, peer = self._link.session.own, self._link.peer
        candidates: list[Candidate] = []
        if "direct" in self._account.roads:
            self._expectation = self._account.listener.register(s5b.dstaddr(sid, own, peer))
            hosts = self._expectation.addresses
            candidates += [
                Candidate(
                    secrets.token_hex(8),
                    host,
                    port,
                    own,
                    s5b.priority("direct", len(hosts) - position),
                    "direct",
                )
                for position, (host, port) in enumerate(hosts)
            ]
        if "proxy" in self._account.roads:
            candidates += [
                Candidate(
                    secrets.token_hex(8),
                    proxy.host,
                    proxy.port,
                    proxy.jid,
                    s5b.priority("proxy", MAX_PROXIES - position),
                    "proxy",
                )
                for position, proxy in enumerate(self._account.client.proxies()[:MAX_PROXIES])
            ]
        self._negotiation = Socks5Negotiation(self._link.role, sid, own, peer, candidates)
        return self._negotiation

    def _act(self, events: Sequence[s5b.Event]) -> None:
        negotiation = self._negotiation
        if negotiation is None or self._closed:
            return
        for event in events:
            match event:
                case s5b.TryCandidates(candidates):
                    self._tasks.start("try", self._try(negotiation, candidates))
                case s5b.GiveUp(candidates):
                    self._hopeless.update(each.cid for each in candidates)
                case s5b.SendTransportInfo() if self._link.ended:
                    pass  # a sender that is done may have ended the session already
                case s5b.SendTransportInfo(transport):
                    self._link.post(self._link.session.transport_info(transport), _ignored)
                case s5b.Use(candidate, theirs):
                    self._tasks.start("use", self._use(candidate, theirs))
                case s5b.Activate(candidate):
                    self._tasks.start("activate", self._activate(negotiation, candidate))
                case s5b.AwaitActivation():
                    pass  # we are connected to the peer's proxy; he joins us
                case s5b.Failed():
                    self._settle(None)

    async def _try(self, negotiation: Socks5Negotiation, candidates: Sequence[Candidate]) -> None:
        """Connect to the first of the peer's candidates that can be reached."""
        for candidate in candidates:
            if candidate.cid in self._hopeless:
                continue
            try:
                stream = await socks5.connect(
                    candidate.host,
                    candidate.port,
                    negotiation.peer_dstaddr,
                    timeout=CANDIDATE_TIMEOUT,
                )
            except StreamBroken as error:
                log.debug("a %s candidate cannot be reached: %s", candidate.type, error)
                self._act(negotiation.failed(candidate.cid))
                continue
            events = negotiation.connected(candidate.cid)
            if events:
                self._outgoing = stream
                self._act(events)
            else:
                stream.abort()  # too late: we have said already that none works
            return
        self._act(negotiation.could_not_connect())

    async def _use(self, candidate: Candidate, theirs: bool) -> None:
        """The nominated candidate: the connection that we made, or the one that came in."""
        if theirs or candidate.type == "proxy":
            self._settle(self._outgoing)
            self._outgoing = None
            return
        if self._expectation is None:
            self._settle(None)
            return
        try:
            async with asyncio.timeout(CANDIDATE_TIMEOUT):
                self._settle(await self._expectation.stream(candidate.host))
        except (StreamBroken, TimeoutError):
            self._settle(None)

    async def _activate(self, negotiation: Socks5Negotiation, candidate: Candidate) -> None:
        """Our own proxy was nominated: connect to it, then ask it to join the two sides."""
        if self._outgoing is not None:
            self._outgoing.abort()
            self._outgoing = None
        try:
            self._outgoing = await socks5.connect(
                candidate.host,
                candidate.port,
                negotiation.own_dstaddr,
                timeout=CANDIDATE_TIMEOUT,
            )
            await self._account.client.activate_proxy(
                candidate.jid, negotiation.sid, self._link.peer
            )
        except (StreamBroken, StanzaError, IqTimeout, Disconnected) as error:
            log.info("the proxy did not join the two sides: %s", type(error).__name__)
            self._act(negotiation.proxy_failed())
            return
        self._act(negotiation.activated())

    def _settle(self, stream: Stream | None) -> None:
        if self._socks5.done():
            if stream is not None:
                stream.abort()
            return
        self._socks5.set_result(stream)
        if self._expectation is not None:
            self._expectation.close()

    # -- the end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of all that was not taken."""
        self._closed = True
        if self._expectation is not None:
            self._expectation.close()
        if self._outgoing is not None:
            self._outgoing.abort()
        if self._in_band is not None:
            self._in_band.let_go()
        self._socks5.cancel()
        self._replacement.cancel()
        self._tasks.cancel()


def _ignored(error: StanzaError | IqTimeout) -> None:
    log.info("a transport-info was refused: %s", type(error).__name__)


@asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NoRoad("The contact's client did not finish setting up the connection") from None
