"""What the service layer tells those who watch its objects, and the little machine that tells it.

An event that becomes a D-Bus signal has the signal's name, its arguments as fields in their order,
and says in ``interface`` whose signal it is (empty: that of the channel's type). Modules of one
feature declare their own events beside it; here are those that several need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from telepathy_e2e.errors import TelepathyError
from telepathy_e2e.service import names

if TYPE_CHECKING:
    from telepathy_e2e.service.channel import Channel

E = TypeVar("E")


class Emitter(Generic[E]):
    """Calls its subscribers, in the order in which they came, synchronously."""

    def __init__(self) -> None:
        self._subscribers: list[Callable[[E], None]] = []

    def subscribe(self, callback: Callable[[E], None]) -> Callable[[], None]:
        """Call ``callback`` with each later event; returns what takes it off the list again."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def emit(self, event: E) -> None:
        for callback in list(self._subscribers):
            callback(event)


# -- of a connection ------------------------------------------------------------------------


@dataclass(frozen=True)
class ConnectionEvent:
    """Something happened to a connection."""

    interface: ClassVar[str] = names.CONNECTION


@dataclass(frozen=True)
class StatusChanged(ConnectionEvent):
    """Connection.StatusChanged; ``error`` says more where there is more to say."""

    status: int
    reason: int
    error: TelepathyError | None = None


@dataclass(frozen=True)
class ChannelOpened(ConnectionEvent):
    """A channel that nobody on the bus requested is there (Requests.NewChannels)."""

    channel: Channel


@dataclass(frozen=True)
class SelfContactChanged(ConnectionEvent):
    """The own handle or identifier is another one, after the server bound another resource."""

    handle: int
    identifier: str


@dataclass(frozen=True)
class PresencesChanged(ConnectionEvent):
    """SimplePresence.PresencesChanged: handle to (type, status, message)."""

    interface = names.SIMPLE_PRESENCE

    presences: Mapping[int, tuple[int, str, str]]


@dataclass(frozen=True)
class PowerSavingChanged(ConnectionEvent):
    """PowerSaving.PowerSavingChanged."""

    interface = names.POWER_SAVING

    active: bool


@dataclass(frozen=True)
class ContactCapabilitiesChanged(ConnectionEvent):
    """ContactCapabilities.ContactCapabilitiesChanged: handles whose classes changed."""

    interface = names.CONTACT_CAPABILITIES

    handles: tuple[int, ...]


# -- of a channel ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ChannelEvent:
    """Something happened to a channel."""

    interface: ClassVar[str] = ""


@dataclass(frozen=True)
class Closed(ChannelEvent):
    """Channel.Closed; the object leaves the bus, and ChannelClosed goes out on the connection."""


@dataclass(frozen=True)
class Changed(ChannelEvent):
    """Properties of interface ``of`` have new values: PropertiesChanged, read from the object."""

    of: str
    names: tuple[str, ...]


class Shown(Protocol):
    """Something below a channel that is an object on the bus of its own."""

    object_path: str
    object_interface: str
    interfaces: tuple[str, ...]
    events: Emitter[ChannelEvent]

    @property
    def objects(self) -> Sequence[Shown]:
        """What is below it in turn."""


@dataclass(frozen=True)
class ObjectAdded(ChannelEvent):
    """A content of a call and the like, with what is below it; told before any signal names it."""

    shown: Shown


@dataclass(frozen=True)
class ObjectRemoved(ChannelEvent):
    """It is gone, with what is below it."""

    object_path: str


@dataclass(frozen=True)
class FileTransferStateChanged(ChannelEvent):
    state: int
    reason: int


@dataclass(frozen=True)
class TransferredBytesChanged(ChannelEvent):
    count: int


@dataclass(frozen=True)
class InitialOffsetDefined(ChannelEvent):
    offset: int


@dataclass(frozen=True)
class URIDefined(ChannelEvent):
    uri: str


@dataclass(frozen=True)
class PeerStarted(ChannelEvent):
    """PeerVerification1.PeerStarted: the other side began ``method``; this user has to agree."""

    method: str


@dataclass(frozen=True)
class CeremonyFailed(ChannelEvent):
    """PeerVerification1.CeremonyFailed: it came to no result, for this reason."""

    method: str
    reason: str
    spent: bool


@dataclass(frozen=True)
class Finished(ChannelEvent):
    """PeerVerification1.Finished."""

    state: str
    method: str


@dataclass(frozen=True)
class SASLStatusChanged(ChannelEvent):
    """SASLAuthentication.SASLStatusChanged."""

    interface = names.SASL_AUTHENTICATION

    status: int
    reason: str
    details: Mapping[str, str | bool]


@dataclass(frozen=True)
class NewChallenge(ChannelEvent):
    """SASLAuthentication.NewChallenge."""

    interface = names.SASL_AUTHENTICATION

    challenge_data: bytes


# -- of a certificate object ----------------------------------------------------------------


@dataclass(frozen=True)
class CertificateAccepted:
    """Authentication.TLSCertificate.Accepted."""


@dataclass(frozen=True)
class CertificateRejected:
    """Authentication.TLSCertificate.Rejected with (reason, error name, details) each."""

    rejections: tuple[tuple[int, str, dict[str, object]], ...]


CertificateEvent = CertificateAccepted | CertificateRejected
