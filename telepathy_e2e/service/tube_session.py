"""The session of a tube: what the peer says in it, and its end.

As with files everything that goes wrong ends in ``_end``, and nothing else ends a tube.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, ClassVar, Final

from telepathy_e2e.errors import (
    Cancelled,
    ConnectionLost,
    ConnectionRefused,
    Disconnected,
    EncryptionError,
    NotAvailable,
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
from telepathy_e2e.service.failures import NoRoad, SecurityFailed
from telepathy_e2e.service.file_details import LOCAL_ERROR, REMOTE_ERROR
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
from telepathy_e2e.xmpp.client import IqTimeout, StanzaError

# Tube_Channel_State
LOCAL_PENDING, REMOTE_PENDING, OPEN, NOT_OFFERED = range(4)

# How long the reason may come after the road broke: a few round trips through the servers.
REASON_GRACE: Final = 2.0


class TubeSession(ProtectedChannel):
    """See ``tube_channel.TubeChannel``, which adds offering and accepting."""

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

    # -- ``tube_pump.Ends``, of each kind of tube ---------------------------------------------

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
            self._end(TransferFailed(REMOTE_ERROR, closed_there(), None))
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
        self._tasks.start("script", self._run(script), script=script)

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


def closed_here() -> TelepathyError:
    return Cancelled("The tube was closed by the local user")


def closed_there() -> TelepathyError:
    return Terminated("The contact closed the tube")
