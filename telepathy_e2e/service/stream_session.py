"""One Jingle session over one protected stream: what files, tubes and XML streams have in common.

Each has a **script**, which is everything that happens, in order. Whatever goes wrong comes out of
it, or out of what the peer says meanwhile, and ends in ``_end``; what went well ends in
``_complete``. Nothing else ends a session.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, ClassVar
from xml.etree.ElementTree import Element

from telepathy_e2e.errors import (
    Disconnected,
    EncryptionError,
    NotAvailable,
    PeerError,
    SecurityError,
    TelepathyError,
)
from telepathy_e2e.jingle import session as jingle
from telepathy_e2e.jingle.events import unsupported_info
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.role import Role
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.failures import (
    REASON_GRACE,
    Fault,
    NoRoad,
    SecurityFailed,
    SessionFailed,
    failure_of,
    road_broke,
)
from telepathy_e2e.service.road import Road
from telepathy_e2e.service.security import Security
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.xmpp.client import IqTimeout, Resource, StanzaError


class StreamSession:
    """See the module; ``sessions.Application``, and the part of ``guard.Payload`` that fails.

    Subclasses say what their application's answer, its session-info and an end by the peer mean,
    and let go of what they hold besides (``_release``).

    Args:
        security: of this session.
    Attributes:
        over: nothing of it goes on.
    """

    # Of the content that is offered.
    content_name: ClassVar[str]
    senders: ClassVar[str]

    object_path: str

    def __init__(self, account: Account, security: Security) -> None:
        self._account = account
        self.security = security
        self.over = False
        self._tasks = TaskOwner(self.object_path)
        self._attached = False
        # From ``_attach`` on.
        self._link: Link
        self._road: Road
        # The stream of the road, and what protects it.
        self._carried: list[Stream] = []
        # Done when the peer has accepted, and all that it says is right.
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # -- offer and answer -------------------------------------------------------------------

    def _attach(self, link: Link) -> None:
        """From here on what the peer says is heard."""
        self._link = link
        self._road = Road(self._account, link, self.security, renewable=self.security.renewable)
        link.application = self
        self._attached = True

    async def _send_initiate(self, peer: Resource, description: Element) -> None:
        """Offer the session to a program of the contact.

        Raises:
            SecurityFailed: protection is demanded and this program may not offer it.
            NoRoad: there is none that could be offered.
            StanzaError, IqTimeout, Disconnected: it is refused, or does not get there.
        """
        link, road = self._link, self._road
        link.seen_online = True
        road.features = peer.features
        # First: a transport may have its encryption of it.
        security = await self.security.offer(link, peer)
        content = self._content(description, await road.offer(), security)
        self.security.offered(content)
        await link.send(link.session.initiate(content))

    def _received_initiate(self, content: Content) -> None:
        """The peer's offer, whose description makes sense.

        Raises:
            PeerError: malformed.
            SecurityFailed: none of its fingerprints can be checked, or policy refuses it.
            NoRoad: no transport that we know.
        """
        self.security.received_offer(self._link, content)
        self._road.offered(content.transport)

    async def _send_accept(self, description: Element, security: Element | None) -> None:
        """Take the peer's offer.

        Args:
            security: what ``Security.accept`` gave. It comes first, since people may be asked, and
                the peer may replace the transport meanwhile.
        Raises:
            PeerError, SecurityFailed, NoRoad: see ``Road.answer``.
        """
        link = self._link
        content = self._content(description, await self._road.answer(), security)
        self.security.accepted(content)
        # Not awaited: the candidates can be tried while the acknowledgement is on its way.
        link.post(link.session.accept(content))

    def _content(
        self, description: Element, transport: Element, security: Element | None
    ) -> Content:
        ours = self._link.role is Role.INITIATOR
        return Content(
            creator="initiator",
            name=self.content_name if ours else self._link.session.content_name,
            senders=self.senders,
            description=description,
            transport=transport,
            security=security,
        )

    # -- the stream -------------------------------------------------------------------------

    async def _secure_stream(self) -> Stream:
        """The road, then the handshake, then the people: what this returns may carry payload.

        Raises:
            SecurityFailed: see ``Security``.
            StreamBroken: the road broke, or there is none any more.
            NoRoad: nothing could be brought up.
        """
        if self._link.ended:  # by the peer, who then closed the road; the script hears of it too
            raise StreamBroken("the session is over")
        self._road.lost = self.security.road_lost
        stream = await self._road.connect()
        self._carried = [stream]  # of a road that was lost nothing is left to let go of
        self._carried.append(await self.security.secure(stream))
        return self._carried[-1]

    # -- what the peer says -----------------------------------------------------------------

    def session_event(self, event: jingle.Event) -> None:
        """See ``sessions.Application``."""
        match event:
            case jingle.Accepted(content):
                self._accepted(content)
            case jingle.Terminated(reason):
                self._terminated(reason.condition)
            case jingle.SecurityInfo(payload):
                self.security.receive(payload)
            case jingle.SessionInfo(payload):
                self._session_info(payload)
            case _:
                self._road.session_event(event)

    def _accepted(self, content: Content) -> None:
        """The session counts as accepted, and no second accept is heard: what is wrong ends it."""
        try:
            self._read_answer(content)
        except PeerError as error:
            self._fail(error)
            if isinstance(error, SecurityError):
                return  # well-formed, so acknowledged
            raise
        try:
            self.security.answered(content)
        except PeerError as error:
            # xtls-wire, section 1: a responder whose accept was refused is not heard again.
            self._fail(SecurityFailed(EncryptionError(str(error))))
            if isinstance(error, SecurityError):
                return  # well-formed, so acknowledged
            raise
        try:
            self._check_answer()
            self._road.answered(content.transport)
        except SessionFailed as failure:
            self._fail(failure)
            return
        except PeerError as error:
            self._fail(error)
            raise
        self._answered()
        self._answer.set_result(None)

    def _read_answer(self, content: Content) -> None:
        """The peer's accept.

        Raises:
            PeerError: it makes no sense to the application.
            SecurityError: somebody has changed it.
        """
        raise NotImplementedError

    def _check_answer(self) -> None:
        """It is known how the session is protected. Raises: SessionFailed: that is no answer."""

    def _answered(self) -> None:
        """All of the answer is right."""

    def _terminated(self, condition: str) -> None:
        """The peer has ended the session, for a reason of XEP-0166 section 7.4."""
        raise NotImplementedError

    def _session_info(self, payload: tuple[Element, ...]) -> None:
        """What no other action is for. Raises: PeerError: it is not of this application."""
        raise unsupported_info()

    def session_lost(self, error: PeerError | Disconnected | StanzaError | IqTimeout) -> None:
        """See ``sessions.Application``."""
        self._fail(error)

    def peer_offline(self) -> None:
        """See ``sessions.Application``."""
        raise NotImplementedError

    def security_failed(self, failure: SecurityFailed) -> None:
        """Tampering, or what cannot be told from it: see ``guard.Payload``."""
        # A road that broke is met by the script as well, which knows how long to wait.
        if not road_broke(failure):
            self._fail(failure)

    # -- the script and its end -------------------------------------------------------------

    def _start(self, script: Coroutine[Any, Any, None], what: str = "script") -> None:
        self._tasks.start(what, self._run(script), script=script)

    async def _run(self, script: Coroutine[Any, Any, None]) -> None:
        try:
            await script
        except (SessionFailed, TelepathyError, PeerError, NoRoad, StanzaError, IqTimeout) as error:
            await self._await_reason(error)
            self._fail(error)
        finally:
            if sys.exception() is not None and not self.over:  # a fault of this program
                self._end(SessionFailed(NotAvailable("Internal error"), "cancel", Fault.OURS))

    async def _await_reason(self, error: Exception) -> None:
        """A peer that gives up closes the road and says why through the servers, which takes
        longer. Then ``_terminated`` ends the session, and this wait with it."""
        if road_broke(error):
            await asyncio.sleep(REASON_GRACE)

    def _fail(self, error: Exception) -> None:
        self._end(failure_of(error))

    def _end(self, failure: SessionFailed) -> None:
        """It is over, unless it was already."""
        if self.over:
            return
        self.over = True
        self._tell(failure.error)
        if self._attached and failure.condition is not None:
            self._link.terminate(failure.condition)
        self.security.finished()
        self._release(failure)

    def _complete(self) -> None:
        """It has come to its end, unless it was over already."""
        if self.over:
            return
        self.over = True
        self.security.finished()
        self._release(None)

    def _tell(self, error: TelepathyError) -> None:
        """Let whoever watches know what ended it."""

    def _release(self, failure: SessionFailed | None) -> None:
        """Let go of everything that the session held; nothing of it runs on.

        Args:
            failure: what ended it; None: it has come to its end.
        """
        if self._attached:
            if not self._link.ended:
                self._link.end()
            self._road.close()
        for stream in self._carried:
            let_go(stream, failure)
        self._answer.cancel()
        self._tasks.cancel()


def let_go(stream: Stream, failure: SessionFailed | None) -> None:
    """What was written is still delivered, unless something failed; then none takes it for all."""
    if failure is None:
        stream.close()
    else:
        stream.abort()
