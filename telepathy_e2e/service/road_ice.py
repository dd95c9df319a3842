"""A data channel as an attempt (XEP-0343): the stanzas around ``media.data_road``."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import EncryptionError, PeerError, SecurityError
from telepathy_e2e.jingle import data_channel, ice
from telepathy_e2e.jingle.data_channel import DataTransport
from telepathy_e2e.jingle.ice import Candidate, DtlsFingerprint, Transport
from telepathy_e2e.jingle.ways import Way
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.role import Role
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.call_servers import find_servers
from telepathy_e2e.service.failures import REASON_GRACE, SecurityFailed
from telepathy_e2e.service.road_attempt import NoWay, Protection
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError

if TYPE_CHECKING:
    from telepathy_e2e.media.data_road import DataRoad

log = logging.getLogger(__name__)

#: Seconds. ICE has tried everything five times after eight; what has not come up until now is
#: behind something that lets nothing through, and people wait.
ICE_TIMEOUT: Final = 12.0

#: Seconds more for DTLS and SCTP, once there is a way: a lost packet is three of them.
CHANNEL_TIMEOUT: Final = 15.0

#: Transport-infos of the peer that wait for our sockets.
MAX_EARLY: Final = 32


class IceAttempt:
    """See ``road_attempt.Attempt``.

    Args:
        silence: seconds after which a peer who is not heard is given up, as soon as both sides have
            agreed on what they do then; None: as in calls.
        wall: the time of day by which the peer's certificate is judged: sessions may live longer
            than it (xtls-wire, section 8).
    """

    way = Way.ICE

    def __init__(
        self,
        account: Account,
        link: Link,
        protection: Protection,
        silence: Callable[[], float | None] = lambda: None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._silence = silence
        self._wall = wall
        self._account = account
        self._link = link
        self._protection = protection
        self._tasks = TaskOwner(f"ice {link.sid}")
        self._road: DataRoad | None = None
        self._own: Transport | None = None
        self._setup = ""
        self._peer: DataTransport | None = None
        self._role = ""
        self._taken = self._closed = False
        # What is to be told of our candidates once the offer, or our answer, is out.
        self._untold: list[Candidate] = []
        self._complete = False
        self._may_tell = False
        self._early: list[Transport] = []

    # -- offer and answer -------------------------------------------------------------------

    async def offer(self) -> Element:
        return await self._local("actpass")

    async def answer(self, transport: Element) -> Element:
        offered = self._check(transport)
        try:
            setup = ice.answer_setup(offered.ice.fingerprints[0].setup)
        except SecurityError as error:
            raise _refused(error) from error
        element = await self._local(setup)
        self._agree(setup, offered)
        return element

    def answered(self, transport: Element) -> None:
        self._agree("actpass", self._check(transport))

    def begin(self) -> None:
        if not self._may_tell:
            self._may_tell = True
            self._tell()

    def _check(self, transport: Element) -> DataTransport:
        announced = self._protection.peer_fingerprints_offered
        if not announced:
            raise PeerError("a data channel in a session without protection")
        try:
            offered = data_channel.parse(transport)
            data_channel.check(offered, [(each.hash, each.digest) for each in announced])
        except SecurityError as error:
            raise _refused(error) from error
        return offered

    def _agree(self, setup: str, peer: DataTransport) -> None:
        try:
            self._role = ice.dtls_role(setup, peer.ice.fingerprints[0].setup)
        except SecurityError as error:
            raise _refused(error) from error
        self._peer = peer
        self._take(peer.ice)
        early, self._early = self._early, []
        for each in early:
            self._take(each)

    async def _local(self, setup: str) -> Element:
        credentials = self._protection.credentials
        if credentials is None:
            raise NoWay("there is no certificate for a data channel")
        # Forty megabytes of libraries; the loop goes on meanwhile.
        try:
            await asyncio.to_thread(importlib.import_module, "telepathy_e2e.media.data_road")
        except ImportError as error:
            raise NoWay("the libraries for data channels are not installed") from error
        from telepathy_e2e.media.data_road import DataRoad

        if self._closed:
            raise NoWay("the session is over")
        self._road = DataRoad(
            controlling=self._link.role is Role.INITIATOR,
            credentials=credentials,
            label=self._link.session.content_name if self._link.base.offered else self._link.sid,
            told=self._found,
            wall=self._wall,
        )
        await self._road.gather(lambda: find_servers(self._account))
        own = self._own = self._road.local_transport(setup)
        self._untold.clear()  # it has those already
        if not own.candidates:
            raise NoWay("this machine has no address")
        return data_channel.build(DataTransport(own))

    # -- candidates -------------------------------------------------------------------------

    def is_about(self, transport: Element) -> bool:
        ufrag = transport.get("ufrag")
        return (
            transport.tag == data_channel.TRANSPORT
            and self._own is not None
            and (ufrag is None or self._peer is None or ufrag == self._peer.ice.ufrag)
        )

    def info(self, transport: Element) -> None:
        news = ice.parse(transport)
        if self._peer is None:
            if len(self._early) < MAX_EARLY:
                self._early.append(news)
        else:
            self._take(news)

    def _take(self, transport: Transport) -> None:
        """The peer's. Its credentials count once: it does not begin anew."""
        if self._road is not None and self._peer is not None:
            same = not transport.ufrag or transport.ufrag == self._peer.ice.ufrag
            if same:
                self._road.remote_transport(transport)

    def _found(self, candidates: tuple[Candidate, ...], complete: bool) -> None:
        self._untold += candidates
        self._complete |= complete
        self._tell()

    def _tell(self) -> None:
        own, untold = self._own, self._untold
        if not self._may_tell or own is None or self._closed or self._link.ended:
            return
        if not untold and not self._complete:
            return
        self._untold, complete, self._complete = [], self._complete, False
        news = Transport(own.ufrag, own.pwd, tuple(untold), gathering_complete=complete)
        info = self._link.session.transport_info(ice.build(news))
        self._link.post(info, _ignored)

    # -- the stream -------------------------------------------------------------------------

    async def connect(self) -> Stream:
        self.begin()
        road, peer = self._road, self._peer
        if road is None or peer is None or peer.port is None:
            raise AssertionError("connected before it was agreed on")
        announced = self._protection.peer_fingerprints_offered
        # The certificate has to be that of the session, and that of the transport.
        leaf = tuple(DtlsFingerprint(each.hash, each.digest, None) for each in announced)
        reached = False
        try:
            async with asyncio.timeout(ICE_TIMEOUT) as limit:

                def found() -> None:
                    nonlocal reached
                    reached = True
                    with contextlib.suppress(RuntimeError):  # nobody waits any more
                        limit.reschedule(asyncio.get_running_loop().time() + CHANNEL_TIMEOUT)

                prints = (*leaf, *peer.ice.fingerprints)
                stream = await road.connect(self._role, prints, peer.port, found, self._silence())
        except SecurityError as error:
            raise _refused(error) from error
        except StreamBroken as error:
            if reached:
                await asyncio.sleep(REASON_GRACE)
            raise NoWay(str(error)) from error
        except TimeoutError:
            raise NoWay("No data channel to the contact's client came up in time") from None
        self._taken = True
        return stream

    def close(self) -> None:
        self._closed = True
        self._tasks.cancel()
        if self._road is not None and not self._taken:
            self._road.let_go()


def _refused(error: SecurityError) -> SecurityFailed:
    return SecurityFailed(EncryptionError(str(error)))


def _ignored(error: StanzaError | IqTimeout) -> None:
    log.info("candidates were refused: %s", type(error).__name__)
