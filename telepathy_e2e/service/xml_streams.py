"""The XML streams of a connection (XEP-0247, spec/xml-streams.md): whole stanzas between clients.

Nothing that comes through them gets where the server's stanzas get: messages and presences are
given to features that ask for protected ones, iqs to the handlers entered here. A peer who sends a
roster push, a carbon or somebody's event through his own stream talks to nobody.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    Disconnected,
    NotAvailable,
    NotCapable,
    Offline,
    PeerError,
    PermissionDenied,
    TelepathyError,
)
from telepathy_e2e.jingle import xml_streams
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.service.failures import NoRoad, SecurityFailed
from telepathy_e2e.service.feature import Feature
from telepathy_e2e.service.peers import is_online
from telepathy_e2e.service.protected_peer import ProtectedPeer
from telepathy_e2e.trust.policy import Policy
from telepathy_e2e.xmpp import caps
from telepathy_e2e.xmpp.iq import IqRequest
from telepathy_e2e.xmpp.jid import bare
from telepathy_e2e.xmpp.roster import RosterChange
from telepathy_e2e.xmpp.session import PING

if TYPE_CHECKING:
    from telepathy_e2e.service.account import Account
    from telepathy_e2e.service.sessions import Link
    from telepathy_e2e.service.xml_stream import XmlStream

log = logging.getLogger(__name__)

# Streams at the same time. Each has a socket and a TLS state, some 100 kB; who talks with more
# people than that at once closes the idle ones first.
MAX_STREAMS: Final = 32
# Of one contact: one for each of his programs that are running.
MAX_PER_CONTACT: Final = 4
# Streams that contacts may open in an hour without anybody here being asked: of one contact, and
# of all. Each costs a signature of the key agent and, where people are asked, a question.
HOUR: Final = 3600.0
MAX_OPENED: Final = 12
MAX_OPENED_BY_ALL: Final = 120

# Identities that were let through and are remembered; each took an answer of somebody here.
MAX_ACCEPTED: Final = 1024

ProtectedHandler = Callable[[IqRequest, ProtectedPeer], None]


class XmlStreams(Feature):
    """See the module; ``feature.ApplicationManager`` as well.

    Args:
        account: the connection's services.
        clock: monotonic, seconds.
    """

    def __init__(self, account: Account, clock: Callable[[], float] = time.monotonic) -> None:
        self._account = account
        self._clock = clock
        self._streams: dict[str, XmlStream] = {}
        self._handlers: dict[str, ProtectedHandler] = {}
        # When contacts opened streams, monotonic seconds: in all, and who.
        self._opened: deque[tuple[float, str]] = deque()
        # Identities of contacts that whoever is asked let through in this connection, oldest first.
        self._accepted: dict[tuple[str, bytes], None] = {}
        # Told of a program to which there is a stream now.
        self.opened: Callable[[str], None] = _ignore
        if account.policy is not Policy.OFF:
            self.disco = (xml_streams.FEATURE,)
        self.on_iq(f"{{{PING}}}ping", _pong)
        self.on_iq(caps.QUERY_INFO, self._asked_info)

    def on_iq(self, tag: str, handler: ProtectedHandler) -> None:
        """Answer the protected iqs with this payload; entered before there is any stream.

        A ``PeerError`` that the handler raises becomes the answer. What nobody handles is answered
        ``service-unavailable``.
        """
        self._handlers[tag] = handler

    # -- ours ---------------------------------------------------------------------------------

    async def get(self, full_jid: str, *, quiet: bool = False) -> XmlStream:
        """The stream to a program of a contact: the one that there is, or a new one.

        Args:
            quiet: a new one fails rather than ask anybody about the contact.
        Raises:
            Disconnected: not connected.
            Offline, NotCapable: it is not there, or takes none.
            PermissionDenied: the account's policy is never to protect, and streams always are.
            NotAvailable: there are too many.
            TelepathyError: why it could not be brought up.
        """
        stream = self._streams.get(full_jid) or self._open(full_jid, quiet)
        try:
            await _ready(stream)
        except TelepathyError:
            # Both sides opened one in the same moment, and the peer's counts.
            stream = self._streams.get(full_jid) or stream
            await _ready(stream)
        return stream

    def _open(self, full_jid: str, quiet: bool) -> XmlStream:
        account = self._account
        if account.policy is Policy.OFF:
            raise PermissionDenied("The account's settings do not allow protection")
        found = [each for each in account.client.resources(bare(full_jid)) if each.jid == full_jid]
        if not found:
            raise Offline("The contact's client is not online")
        if xml_streams.FEATURE not in (found[0].features or ()):
            raise NotCapable("The contact's client takes no XML streams")
        if len(self._streams) >= MAX_STREAMS:
            raise NotAvailable("There are too many XML streams already")
        stream = self._new(account.hub.open(full_jid), quiet=quiet)
        stream.initiate(found[0])
        return stream

    def _new(self, link: Link, *, quiet: bool) -> XmlStream:
        # With it come OpenSSL and a third of the memory.
        from telepathy_e2e.service.xml_stream import XmlStream

        peer = bare(link.peer)
        stream = XmlStream(
            self._account,
            link,
            received=self._account.protected_received,
            opened=lambda stream: self.opened(stream.peer),
            ended=self._ended,
            accepted=lambda fingerprint: (peer, fingerprint) in self._accepted,
            quiet=quiet,
        )
        for tag, handler in self._handlers.items():
            stream.iqs.on(tag, partial(_handle, handler, stream))
        self._streams[link.peer] = stream
        return stream

    def _ended(self, stream: XmlStream) -> None:
        if self._streams.get(stream.peer) is stream:
            del self._streams[stream.peer]

    # -- theirs -------------------------------------------------------------------------------

    def understands(self, description: Element) -> bool:
        return xml_streams.is_xml_stream(description)

    def offered(self, link: Link, content: Content) -> None:
        """A peer opens a stream. Nobody here is asked whether he may, or who he is: so he is on the
        list and sees that we are online anyhow, it is protected, and where people want to be asked
        about everybody there is none."""
        peer = bare(link.peer)
        item = self._account.client.contacts().get(peer)
        account = self._account
        asks = account.policy is Policy.VERIFIED or account.always_verify or account.ask_certificate
        if account.policy is Policy.OFF or asks or item is None or not item.sees_us:
            link.terminate("decline")
            return
        ours = self._streams.get(link.peer)
        if (ours is not None and ours.answered) or not self._may_open(peer, ours):
            link.terminate("busy")
            return
        stream = self._new(link, quiet=True)
        try:
            stream.respond(content)
        except (SecurityFailed, NoRoad, PeerError) as error:
            self._refuse(stream, error)
            if ours is not None:
                self._streams[link.peer] = ours
            if isinstance(error, PeerError):
                raise
            return
        if ours is not None:
            # Both opened one in the same moment. Ours has the higher sid: it is refused.
            ours.abandon("alternative-session", NotAvailable("The contact opened one, too"))
        link.seen_online = is_online(self._account.client, link.peer)

    def _refuse(self, stream: XmlStream, error: SecurityFailed | NoRoad | PeerError) -> None:
        match error:
            case SecurityFailed():
                log.info("an offer of an XML stream was refused: %s", error.error)
                stream.abandon(error.condition, error.error)
            case NoRoad():
                stream.abandon("unsupported-transports", NotAvailable(str(error)))
            case PeerError():
                stream.abandon(None, NotAvailable(str(error)))

    def _may_open(self, peer: str, ours: XmlStream | None) -> bool:
        others = [each for each in self._streams.values() if each is not ours]
        if len(others) >= MAX_STREAMS:
            return False
        if sum(each.target_id == peer for each in others) >= MAX_PER_CONTACT:
            return False
        now = self._clock()
        while self._opened and self._opened[0][0] < now - HOUR:
            self._opened.popleft()
        if len(self._opened) >= MAX_OPENED_BY_ALL:
            return False
        if sum(who == peer for _, who in self._opened) >= MAX_OPENED:
            return False
        self._opened.append((now, peer))
        return True

    def key_judged(self, bare_jid: str, fingerprint: bytes, *, accepted: bool) -> None:
        """See ``account.Account``."""
        self._accepted.pop((bare_jid, fingerprint), None)
        if accepted:
            self._accepted[bare_jid, fingerprint] = None
            if len(self._accepted) > MAX_ACCEPTED:
                del self._accepted[next(iter(self._accepted))]
            return
        for stream in list(self._streams.values()):
            if stream.is_with(bare_jid, fingerprint):
                stream.abandon("security-error", NotAvailable("The contact was rejected"))

    # -- what is answered ---------------------------------------------------------------------

    def _asked_info(self, request: IqRequest, peer: ProtectedPeer) -> None:
        if request.type != "get":
            raise PeerError("disco#info is asked with get", "bad-request")
        request.reply(self._account.client.info(request.payload.get("node")))

    # -- the end ------------------------------------------------------------------------------

    def roster_changed(self, changes: Sequence[RosterChange]) -> None:
        for change in changes:
            if change.after is None or not change.after.sees_us:
                for stream in list(self._streams.values()):
                    if stream.target_id == change.jid:
                        stream.abandon("gone", NotAvailable("The contact left the list"))

    def disconnected(self, error: TelepathyError, *, stopped: bool) -> None:
        for stream in list(self._streams.values()):
            stream.abandon("gone", Disconnected(str(error)))


async def _ready(stream: XmlStream) -> None:
    await asyncio.shield(stream.ready)


def _ignore(full_jid: str) -> None:
    """Nobody wants to know."""


def _handle(handler: ProtectedHandler, stream: XmlStream, request: IqRequest) -> None:
    handler(request, stream.mark())


def _pong(request: IqRequest, peer: ProtectedPeer) -> None:
    request.reply()
