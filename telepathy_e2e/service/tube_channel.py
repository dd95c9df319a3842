"""A tube, from the request or the offer to its end (Telepathy, Channel.Interface.Tube).

``_propose`` and ``_take`` are the beginnings of its two scripts, ``_carry`` what both come to. As
with files everything that goes wrong ends in ``_end``, and nothing else ends a tube.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar, Final

from telepathy_e2e.errors import (
    Cancelled,
    ConnectionLost,
    ConnectionRefused,
    Disconnected,
    EncryptionError,
    NetworkError,
    NotAvailable,
    NotCapable,
    PeerError,
    SecurityError,
    TelepathyError,
    Terminated,
)
from telepathy_e2e.jingle import session as jingle
from telepathy_e2e.jingle import tubes
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.jingle.tubes import Kind, Tube, Value
from telepathy_e2e.net.local import LocalListener
from telepathy_e2e.net.streams import Stream, StreamBroken
from telepathy_e2e.service import names
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.capabilities import takes_tubes
from telepathy_e2e.service.failures import NoRoad, SecurityFailed
from telepathy_e2e.service.file_details import LOCAL_ERROR, LOCAL_STOPPED, REMOTE_ERROR
from telepathy_e2e.service.protected import ProtectedChannel
from telepathy_e2e.service.road import Road
from telepathy_e2e.service.security import Security
from telepathy_e2e.service.sessions import Link
from telepathy_e2e.service.transfer_failures import (
    TransferFailed,
    ended_by_peer,
    failure_of,
    road_broke,
)
from telepathy_e2e.service.tube_events import TubeChannelStateChanged
from telepathy_e2e.service.tube_pump import Pump
from telepathy_e2e.tasks import TaskOwner
from telepathy_e2e.trust.policy import Demands
from telepathy_e2e.tubes.events import Reason
from telepathy_e2e.tubes.limits import Limits
from telepathy_e2e.tubes.mux import Multiplexer
from telepathy_e2e.xmpp.client import IqTimeout, Resource, StanzaError

log = logging.getLogger(__name__)

# Tube_Channel_State
LOCAL_PENDING, REMOTE_PENDING, OPEN, NOT_OFFERED = range(4)

# How long the reason may come after the road broke: a few round trips through the servers.
REASON_GRACE: Final = 2.0

# Seconds: a road that broke before was not worth having. Of these so many in a row are taken.
SHORT_LIFE: Final = 5.0
MAX_SHORT: Final = 5

# A tube that was closed here brings what its programs had ended to its end, and is cut off then.
LEAVE_SECONDS: Final = 5.0


class TubeChannel(ProtectedChannel):
    """One tube, one Jingle session, one channel.

    Args:
        service: Service, or ServiceName.
        parameters: of an offer that came.
        demands: what this channel was asked to guarantee.
        replaces: object path of the channel that this one takes over from, or ``/``.
    """

    kind: ClassVar[Kind]
    # What the side that offers may open, and the other.
    limits: ClassVar[tuple[Limits, Limits]]
    interfaces = (names.TUBE, names.SECURABLE, names.END_TO_END_SECURITY)

    def __init__(
        self,
        account: Account,
        object_path: str,
        *,
        target_handle: int,
        requested: bool,
        service: str,
        demands: Demands,
        parameters: Mapping[str, Value] | None = None,
        replaces: str = "/",
    ) -> None:
        super().__init__(
            account,
            object_path,
            target_handle=target_handle,
            requested=requested,
            replaces=replaces,
        )
        self._account = account
        self.security: Security = Security(account, self, demands, renewable=True)
        self.receives = True  # on both sides: a cut direction has always cut payload
        self.service = service
        self.parameters: dict[str, Value] = dict(parameters or {})
        self.state = NOT_OFFERED if requested else LOCAL_PENDING
        self._tasks = TaskOwner(object_path)
        self._link: Link | None = None
        self._road: Road | None = None
        self._stream: Stream | None = None
        self._listener: LocalListener | None = None
        self._pump: Pump | None = None
        self._begun = False  # offered, or accepted
        self._over = False
        self._answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def immutable_properties(self) -> dict[str, object]:
        shown = super().immutable_properties()
        if not self.requested:
            shown[names.TUBE + ".Parameters"] = self.parameters
        return shown

    @property
    def _tube(self) -> Tube:
        return Tube(self.kind, self.service, self.parameters)

    # -- what clients call ------------------------------------------------------------------

    def close(self) -> None:
        """Channel.Close: an offer is declined or taken back, an open tube closed."""
        pump = self._pump
        if self.closed:
            return
        if pump is None or self.state != OPEN or self._over:
            declined = not self.requested and not self._begun
            condition = "decline" if declined else "cancel"
            self._end(TransferFailed(LOCAL_STOPPED, _closed_here(), condition))
            return
        self._leave(_closed_here())

    def disconnected(self, error: TelepathyError, stopped: bool) -> None:
        """The connection goes: the tube with it."""
        self._end(TransferFailed(LOCAL_STOPPED if stopped else LOCAL_ERROR, error, "gone"))

    def peer_offline(self) -> None:
        """The peer's client went offline. Of an open tube the road knows whether it is over."""
        if self.state != OPEN:
            self._end(
                TransferFailed(
                    REMOTE_ERROR, Terminated("The contact's client went offline"), "gone"
                )
            )

    # -- offering ---------------------------------------------------------------------------

    def _check_offer(self, parameters: Mapping[str, Value]) -> None:
        """Whether the tube can be offered.

        Raises:
            NotAvailable: it was offered by the contact, or already, or is over.
            InvalidArgument: a service or parameters that cannot be sent.
        """
        if not self.requested:
            raise NotAvailable("The contact offers this tube; call Accept instead")
        self.check_alive()
        if self._begun:
            raise NotAvailable("This tube has been offered already")
        tubes.build(Tube(self.kind, self.service, dict(parameters)))

    async def _offer(self, parameters: Mapping[str, Value]) -> None:
        """Find whom to offer it to, and begin.

        Raises: NotAvailable, Offline: there is nobody who takes tubes.
        """
        self._begun = True
        try:
            peer = await self._account.find_peer(self.target_id, takes_tubes, "tubes")
        except NotCapable as error:
            self._begun = False
            raise NotAvailable(str(error)) from error  # what the specification says of Offer
        except TelepathyError:
            self._begun = False
            raise
        self.check_alive()
        if self.replaces != "/" and (replaced := self._account.channels.get(self.replaces)):
            replaced.close()
        self.parameters = dict(parameters)
        self._set_state(REMOTE_PENDING)
        self._start(self._propose(peer))

    async def _propose(self, peer: Resource) -> None:
        """The script of the side that offers."""
        link = self._attach(self._account.hub.open(peer.jid))
        link.seen_online = True
        road = self._road = Road(
            self._account, link, self.security, renewable=True, features=peer.features
        )
        # First: a transport may have its encryption of it.
        security = await self.security.offer(link, peer)
        content = Content(
            creator="initiator",
            name="tube",
            senders="both",
            description=tubes.build(self._tube),
            transport=await road.offer(),
            security=security,
        )
        self.security.offered(content)
        await link.send(link.session.initiate(content))
        await self._answer
        await self._carry(link, road)

    # -- accepting --------------------------------------------------------------------------

    @classmethod
    def incoming(cls, account: Account, link: Link, content: Content, handle: int) -> TubeChannel:
        """The channel for a peer's offer.

        Raises:
            PeerError: the offer makes no sense.
            SecurityFailed: none of its fingerprints can be checked, or policy refuses it.
            NoRoad: no transport that we know.
        """
        offer = tubes.parse(content.description)
        channel = cls(
            account,
            account.next_path("Tube"),
            target_handle=handle,
            requested=False,
            service=offer.service,
            parameters=offer.parameters,
            demands=Demands(encrypted=False, verified=False),
        )
        channel.security.received_offer(link, content)
        channel._road = Road(account, link, channel.security, renewable=True)
        channel._road.offered(content.transport)
        channel._attach(link)
        return channel

    def _check_accept(self) -> None:
        """Raises: NotAvailable: it is not an offer that waits."""
        if self.requested:
            raise NotAvailable("This tube is yours; call Offer instead")
        self.check_alive()
        if self._begun:
            raise NotAvailable("This tube has been accepted already")

    def _accept(self, listener: LocalListener) -> None:
        """Begin, with the socket that programs connect to. Raises: as ``_check_accept``."""
        try:
            self._check_accept()
        except TelepathyError:
            listener.close()
            raise
        self._begun = True
        self._listener = listener
        self._start(self._take())

    async def _take(self) -> None:
        """The script of the side that accepts."""
        link, road = self._link, self._road
        if link is None or road is None:  # pragma: no cover - incoming() sets both
            raise AssertionError("accepted before it was offered")
        # First, since people may be asked, and the peer may replace the transport meanwhile.
        security = await self.security.accept()
        content = Content(
            creator="initiator",
            name=link.session.content_name,
            senders="both",
            description=tubes.build_answer(self._tube),
            transport=await road.answer(),
            security=security,
        )
        self.security.accepted(content)
        # Not awaited: the candidates can be tried while the acknowledgement is on its way.
        link.post(link.session.accept(content))
        await self._carry(link, road)

    # -- what both come to ------------------------------------------------------------------

    async def _carry(self, link: Link, road: Road) -> None:
        """One road after the other, until one side has closed the tube."""
        limits = self.limits[not self.requested]
        pump = self._pump = Pump(Multiplexer(link.role, limits), self, self._tasks)
        loop = asyncio.get_running_loop()
        short = 0
        while True:
            since = loop.time()
            try:
                self._stream = await road.connect()
                stream = await self.security.secure(self._stream)
                since = loop.time()
                if self.state != OPEN:
                    self._set_state(OPEN)
                await pump.run(stream)
                break
            except (StreamBroken, SecurityFailed) as error:
                if self._stream is not None:
                    self._stream.abort()
                short = short + 1 if loop.time() - since < SHORT_LIFE else 0
                if not road_broke(error) or not self._goes_on(link) or short > MAX_SHORT:
                    raise
                log.info("a tube lost its road, and looks for another: %s", error)
            except PeerError as error:
                log.warning("a tube was ended, for what its other side sent: %s", error)
                raise TransferFailed(
                    REMOTE_ERROR,
                    NetworkError("The contact's client sent what makes no sense in a tube"),
                    "failed-application",
                ) from error
        stream.close()
        self._end(TransferFailed(REMOTE_ERROR, _closed_there(), "success"))

    def _goes_on(self, link: Link) -> bool:
        """Whether another road is wanted when one broke; the first is the road's own affair."""
        return self.state == OPEN and not self.closed and not link.ended

    def _leave(self, error: TelepathyError) -> None:
        """Close an open tube: the channel goes at once, the session when all has arrived."""
        pump = self._pump
        if pump is None or self.closed:
            return
        self._tell(error)
        if self._listener is not None:
            self._listener.close()
        pump.leave()
        for number in pump.connections:
            self.connection_ended(number, Reason.CANCELLED)
        self._account.tubes.leaves(self)
        self._gone()
        self._tasks.start("leave", self._cut_off())

    async def _cut_off(self) -> None:
        await asyncio.sleep(LEAVE_SECONDS)
        self._end(TransferFailed(LOCAL_STOPPED, _closed_here(), "success"))

    # -- ``tube_pump.Ends`` -----------------------------------------------------------------

    def tube_ready(self) -> None:
        raise NotImplementedError

    def connection_opened(self, number: int) -> None:
        raise NotImplementedError

    def connection_ended(self, number: int, reason: Reason | None) -> None:
        raise NotImplementedError

    def tube_closing(self) -> None:
        """The peer opens no more connections: none are taken any more."""
        if self._listener is not None:
            self._listener.close()

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
                if payload:
                    raise PeerError(
                        "unknown session-info", "feature-not-implemented", jingle="unsupported-info"
                    )
            case _:
                if self._road is not None:
                    self._road.session_event(event)

    def _accepted(self, content: Content) -> None:
        try:
            tubes.check_answer(content.description, self._tube)
            self.security.answered(content)
        except PeerError as error:
            # xtls-wire, section 1: a responder whose accept was refused is not heard again.
            self._fail(SecurityFailed(EncryptionError(str(error))))
            if isinstance(error, SecurityError):
                return  # well-formed, so acknowledged
            raise
        try:
            if self._road is not None:
                self._road.answered(content.transport)
        except PeerError as error:
            # The session counts as accepted, and no second accept is heard.
            self._fail(error)
            raise
        self._answer.set_result(None)

    def _terminated(self, condition: str) -> None:
        if condition == "success":
            self._end(TransferFailed(REMOTE_ERROR, _closed_there(), None))
        else:
            self._end(ended_by_peer(condition, "tube"))

    def session_lost(self, error: PeerError | Disconnected | StanzaError | IqTimeout) -> None:
        """See ``sessions.Application``."""
        self._fail(error)

    def security_failed(self, failure: SecurityFailed) -> None:
        """Tampering, or what cannot be told from it: see ``security.Payload``."""
        # A road that broke is met by the script as well, which knows how long to wait.
        if not road_broke(failure):
            self._fail(failure)

    # -- states and the end -----------------------------------------------------------------

    def _attach(self, link: Link) -> Link:
        self._link = link
        link.application = self
        return link

    def _start(self, script: Coroutine[Any, Any, None]) -> None:
        self._tasks.start("script", self._run(script))

    async def _run(self, script: Coroutine[Any, Any, None]) -> None:
        try:
            await script
        except (
            TransferFailed,
            SecurityFailed,
            TelepathyError,
            PeerError,
            NoRoad,
            StreamBroken,
            StanzaError,
            IqTimeout,
        ) as error:
            if road_broke(error):
                # A peer that gives up closes the road and says why through the servers, which
                # takes longer. Then ``_terminated`` ends the tube, and this wait with it.
                await asyncio.sleep(REASON_GRACE)
            self._fail(error)
        finally:
            if sys.exception() is not None and not self._over:  # a fault of this program
                self._end(TransferFailed(LOCAL_ERROR, NotAvailable("Internal error"), "cancel"))

    def _fail(self, error: Exception) -> None:
        self._end(failure_of(error))

    def _tell(self, error: TelepathyError) -> None:
        if self.failure is None:
            self.failure = error
            self.security_changed("Error", "ErrorMessage")

    def _end(self, failure: TransferFailed) -> None:
        if self._over:
            return
        self._over = True
        self._tell(failure.error)
        if self._link is not None and failure.condition is not None:
            self._link.terminate(failure.condition)
        self.security.finished()
        self._release()
        self._gone()

    def _release(self) -> None:
        """Let go of everything that the tube held; nothing of it runs on."""
        if self._pump is not None:
            if not self.closed:
                for number in self._pump.connections:
                    self.connection_ended(number, Reason.LOST)
            self._pump.drop()
        if self._link is not None and not self._link.ended:
            self._link.end()
        if self._road is not None:
            self._road.close()
        if self._stream is not None:
            self._stream.abort()
        if self._listener is not None:
            self._listener.close()
        self._answer.cancel()
        self._tasks.cancel()
        self._account.tubes.ended(self)

    def _set_state(self, state: int) -> None:
        self.state = state
        self.events.emit(TubeChannelStateChanged(state))


def error_of(reason: Reason | None) -> TelepathyError:
    """What ConnectionClosed says of the end of one connection."""
    match reason:
        case None:
            return Cancelled("The connection was closed")
        case Reason.CANCELLED:
            return Cancelled("The connection was given up by a program, or with the tube")
        case Reason.REFUSED:
            return ConnectionRefused("The service that was offered took no connection")
        case _:
            return ConnectionLost("The connection broke")


def _closed_here() -> TelepathyError:
    return Cancelled("The tube was closed by the local user")


def _closed_there() -> TelepathyError:
    return Terminated("The contact closed the tube")
