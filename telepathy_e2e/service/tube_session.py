"""The session of a tube: what the peer says in it, and what its end lets go of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from telepathy_e2e.errors import (
    Cancelled,
    ConnectionLost,
    ConnectionRefused,
    EncryptionError,
    PeerError,
    SecurityError,
    TelepathyError,
    Terminated,
)
from telepathy_e2e.jingle import tubes
from telepathy_e2e.jingle.stanzas import Content
from telepathy_e2e.jingle.tubes import Kind, Tube, Value
from telepathy_e2e.net.local import LocalListener
from telepathy_e2e.service import names
from telepathy_e2e.service.account import Account
from telepathy_e2e.service.failures import (
    SecurityFailed,
    SessionFailed,
    ended_by_peer,
    peer_left,
)
from telepathy_e2e.service.stream_channel import StreamChannel
from telepathy_e2e.service.tube_events import TubeChannelStateChanged
from telepathy_e2e.service.tube_pump import Pump
from telepathy_e2e.trust.policy import Demands
from telepathy_e2e.tubes.events import Reason
from telepathy_e2e.tubes.limits import Limits

# Tube_Channel_State
LOCAL_PENDING, REMOTE_PENDING, OPEN, NOT_OFFERED = range(4)


class TubeSession(StreamChannel):
    """See ``tube_channel.TubeChannel``, which adds offering and accepting."""

    content_name: ClassVar[str] = "tube"
    senders: ClassVar[str] = "both"
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
            demands=demands,
            replaces=replaces,
            renewable=True,
        )
        self.receives = True  # on both sides: a cut direction has always cut payload
        self.service = service
        self.parameters: dict[str, Value] = dict(parameters or {})
        self.state = NOT_OFFERED if requested else LOCAL_PENDING
        self._listener: LocalListener | None = None
        self._pump: Pump | None = None
        self._begun = False  # offered, or accepted
        self._between_roads = False  # one was lost, and there is no other yet

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

    def _read_answer(self, content: Content) -> None:
        try:
            tubes.check_answer(content.description, self._tube)
        except PeerError as error:
            # As where its protection makes no sense: see ``_accepted``. An error in the place of an
            # acknowledgement could be there before the reason is, and the peer would know it only.
            self._fail(SecurityFailed(EncryptionError(str(error))))
            raise SecurityError(str(error)) from error

    def _terminated(self, condition: str) -> None:
        if condition == "success":
            self._end(SessionFailed(closed_there(), None))
        else:
            self._end(ended_by_peer(condition, "tube"))

    def peer_offline(self) -> None:
        """The peer's client went offline. Of an open tube the road knows whether it is over, and
        without one there is nobody to agree on another with.
        """
        if self.state != OPEN or self._between_roads:
            self._end(peer_left())

    # -- states and the end -----------------------------------------------------------------

    def _set_state(self, state: int) -> None:
        self.state = state
        self.events.emit(TubeChannelStateChanged(state))

    def _release(self, failure: SessionFailed | None) -> None:
        if self._pump is not None:
            if not self.closed:
                for number in self._pump.connections:
                    self.connection_ended(number, Reason.LOST)
            self._pump.drop()
        super()._release(failure)
        if self._listener is not None:
            self._listener.close()
        self._account.tubes.ended(self)
        self._gone()


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
