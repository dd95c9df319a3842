"""SOCKS5 as an attempt (XEP-0260): the sockets behind ``jingle.s5b``."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import Disconnected, NotAvailable, PeerError
from telepathy_e2e.jingle import s5b
from telepathy_e2e.jingle.s5b import Candidate, Socks5Negotiation
from telepathy_e2e.jingle.ways import Way
from telepathy_e2e.net import socks5
from telepathy_e2e.net.listener import Expectation
from telepathy_e2e.net.race import GRACE, MAX_AT_ONCE, Race
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.road_attempt import NoWay
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError

log = logging.getLogger(__name__)

# Seconds. A candidate that can be reached answers in a few round trips, and two lost packets are
# three seconds; a firewall that drops packets says nothing at all.
CANDIDATE_TIMEOUT: Final = 4.0

# All of SOCKS5. We have tried all candidates after ten seconds at the latest; there are clients
# that try one after the other, and proxies, for which as much is left again.
SOCKS5_TIMEOUT: Final = 20.0

# What a direct connection may take longer than a proxy that has answered already: three round
# trips with somebody far away, where the proxy is near. It is faster afterwards, and nobody else
# has to pay for it.
PROXY_GRACE: Final = 2.0

# Proxies offered beside the direct candidates; one is enough where it works.
MAX_PROXIES: Final = 4


class Socks5Attempt:
    """See ``road_attempt.Attempt``."""

    way = Way.SOCKS5

    def __init__(self, account: Account, link: Link) -> None:
        self._account = account
        self._link = link
        self._tasks = TaskOwner(f"socks5 {link.sid}")
        self._negotiation: Socks5Negotiation | None = None
        self._expectation: Expectation | None = None
        self._first: Sequence[s5b.Event] = ()
        self._races: list[Race[Candidate]] = []
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)
        # Our connection to one of the peer's candidates, or to our proxy, until it is nominated.
        self._outgoing: Stream | None = None
        self._closed = self._taken = False
        # The stream, or None: it cannot be had.
        self._stream: asyncio.Future[Stream | None] = asyncio.get_running_loop().create_future()

    # -- offer and answer -------------------------------------------------------------------

    async def offer(self) -> Element:
        return self._start(secrets.token_hex(16)).transport()

    async def answer(self, transport: Element) -> Element:
        sid = transport.get("sid", "")
        if not sid:
            raise PeerError("a SOCKS5 transport without a sid")
        negotiation = self._start(sid)
        self._first = negotiation.receive_candidates(transport)
        return negotiation.transport()

    def answered(self, transport: Element) -> None:
        if self._negotiation is None:
            raise AssertionError("answered before it was offered")
        self._act(self._negotiation.receive_candidates(transport))

    def begin(self) -> None:
        first, self._first = self._first, ()
        self._act(first)

    def is_about(self, transport: Element) -> bool:
        return self._negotiation is not None and transport.get("sid") == self._negotiation.sid

    def info(self, transport: Element) -> None:
        negotiation = self._negotiation
        if negotiation is None:
            return
        self._act(negotiation.receive_info(transport))
        if (reached := negotiation.reached) is not None:
            self._tasks.start("hurry", self._hurry(reached))

    async def connect(self) -> Stream:
        self.begin()
        await asyncio.wait({self._stream}, timeout=SOCKS5_TIMEOUT)
        if not self._stream.done():
            self._settle(None)  # a connection that comes now is too late, and is let go
        stream = self._stream.result()
        if stream is None:
            raise NoWay("No direct connection to the contact's client could be made")
        self._taken = True
        return stream

    def _start(self, sid: str) -> Socks5Negotiation:
        own, peer = self._link.own, self._link.peer
        candidates: list[Candidate] = []
        if "direct" in self._account.roads:
            self._expectation = self._expect(s5b.dstaddr(sid, own, peer))
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

    def _expect(self, dstaddr: str) -> Expectation:
        try:
            return self._account.listener.register(dstaddr)
        except ValueError as error:  # the peer chooses the name
            raise PeerError("this SOCKS5 session is in use", "conflict") from error
        except NotAvailable as error:
            raise NoWay(str(error)) from error

    # -- what the negotiation says ----------------------------------------------------------

    def _act(self, events: Sequence[s5b.Event]) -> None:
        negotiation = self._negotiation
        if negotiation is None or self._closed:
            return
        for event in events:
            match event:
                case s5b.TryCandidates(candidates):
                    self._tasks.start("try", self._try(negotiation, candidates))
                case s5b.GiveUp(candidates):
                    for race in self._races:
                        for candidate in candidates:
                            race.give_up(candidate)
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
        """Connect to the best of the peer's candidates that can be reached."""

        def failed(candidate: Candidate, error: StreamBroken) -> None:
            log.debug("a %s candidate cannot be reached: %s", candidate.type, error)
            self._act(negotiation.failed(candidate.cid))

        async def reach(candidate: Candidate) -> Stream:
            road = "proxy" if candidate.type == "proxy" else "direct"
            if road not in self._account.roads:
                raise StreamBroken("the user allows none of these")
            # A peer may send several lists, each with a race of its own.
            async with self._at_once:
                return await socks5.connect(
                    candidate.host,
                    candidate.port,
                    negotiation.peer_dstaddr,
                    timeout=CANDIDATE_TIMEOUT,
                )

        race = Race(candidates, reach, failed, _grace)
        self._races.append(race)
        try:
            found = await race.run()
        finally:
            self._races.remove(race)
        if found is None:
            self._act(negotiation.could_not_connect())
            return
        candidate, stream = found
        events = negotiation.connected(candidate.cid)
        if events and not self._closed:
            self._outgoing = stream
            self._act(events)
        else:
            stream.abort()  # too late: we have said already that none works

    async def _hurry(self, reached: Candidate) -> None:
        """He has a connection to us: better ones get as long as if it were our own."""
        await asyncio.sleep(_grace(reached))
        for race in self._races:
            race.stop()

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

    # -- the end ----------------------------------------------------------------------------

    def _settle(self, stream: Stream | None) -> None:
        if self._stream.done():
            if stream is not None:
                stream.abort()
            return
        self._stream.set_result(stream)
        if self._expectation is not None:
            self._expectation.close()

    def close(self) -> None:
        self._closed = True
        if self._expectation is not None:
            self._expectation.close()
        if self._outgoing is not None:
            self._outgoing.abort()
            self._outgoing = None
        if not self._stream.done():
            self._stream.cancel()
        elif not self._taken and not self._stream.cancelled():
            if (stream := self._stream.result()) is not None:
                stream.abort()
        self._tasks.cancel()


def _grace(candidate: Candidate) -> float:
    """How long something better is waited for, seconds."""
    return PROXY_GRACE if candidate.type == "proxy" else GRACE


def _ignored(error: StanzaError | IqTimeout) -> None:
    log.info("a transport-info was refused: %s", type(error).__name__)
