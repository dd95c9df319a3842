"""What the service layer tells those who watch its objects, and the little machine that tells it.

Each event is named as the D-Bus signal that the bus layer makes of it, or, where there is none,
for what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from telepathy_e2e.errors import TelepathyError

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
class StatusChanged:
    """Connection.StatusChanged; ``error`` says more where there is more to say."""

    status: int
    reason: int
    error: TelepathyError | None = None


@dataclass(frozen=True)
class ChannelOpened:
    """A channel that nobody on the bus requested is there (Requests.NewChannels)."""

    channel: Channel


@dataclass(frozen=True)
class SelfContactChanged:
    """The own handle or identifier is another one, after the server bound another resource."""

    handle: int
    identifier: str


@dataclass(frozen=True)
class PresencesChanged:
    """SimplePresence.PresencesChanged: handle to (type, status, message)."""

    presences: Mapping[int, tuple[int, str, str]]


@dataclass(frozen=True)
class ContactCapabilitiesChanged:
    """ContactCapabilities.ContactCapabilitiesChanged: handles whose classes changed."""

    handles: tuple[int, ...]


ConnectionEvent = (
    StatusChanged
    | ChannelOpened
    | SelfContactChanged
    | PresencesChanged
    | ContactCapabilitiesChanged
)


# -- of a channel ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Closed:
    """Channel.Closed; the object leaves the bus, and ChannelClosed goes out on the connection."""


@dataclass(frozen=True)
class Changed:
    """Properties of ``interface`` have new values: PropertiesChanged, read from the object."""

    interface: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class FileTransferStateChanged:
    state: int
    reason: int


@dataclass(frozen=True)
class TransferredBytesChanged:
    count: int


@dataclass(frozen=True)
class InitialOffsetDefined:
    offset: int


@dataclass(frozen=True)
class URIDefined:
    uri: str


@dataclass(frozen=True)
class PeerStarted:
    """PeerVerification1.PeerStarted: the other side began ``method``; this user has to agree."""

    method: str


@dataclass(frozen=True)
class Finished:
    """PeerVerification1.Finished."""

    state: str
    method: str


ChannelEvent = (
    Closed
    | Changed
    | FileTransferStateChanged
    | TransferredBytesChanged
    | InitialOffsetDefined
    | URIDefined
    | PeerStarted
    | Finished
)


# -- of a certificate object ----------------------------------------------------------------


@dataclass(frozen=True)
class CertificateAccepted:
    """Authentication.TLSCertificate.Accepted."""


@dataclass(frozen=True)
class CertificateRejected:
    """Authentication.TLSCertificate.Rejected with (reason, error name, details) each."""

    rejections: tuple[tuple[int, str, dict[str, object]], ...]


CertificateEvent = CertificateAccepted | CertificateRejected
