"""Every interface that channels can have, and the types of their properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from telepathy_e2e.bus.channels.base import ChannelInterface
from telepathy_e2e.bus.channels.call import (
    CallInterface,
    CallMediaInterface,
    CallMuteInterface,
    HoldInterface,
)
from telepathy_e2e.bus.channels.call_content import (
    CallAudioControlInterface,
    CallContentInterface,
    CallDTMFInterface,
    CallStreamInterface,
)
from telepathy_e2e.bus.channels.chat_state import ChatStateInterface
from telepathy_e2e.bus.channels.dbus_tube import DBusTubeInterface
from telepathy_e2e.bus.channels.destroyable import DestroyableInterface
from telepathy_e2e.bus.channels.file_transfer import FileTransferInterface
from telepathy_e2e.bus.channels.group import GroupInterface
from telepathy_e2e.bus.channels.messages import MessagesInterface
from telepathy_e2e.bus.channels.password import PasswordInterface
from telepathy_e2e.bus.channels.room import RoomInterface
from telepathy_e2e.bus.channels.room_config import RoomConfigInterface
from telepathy_e2e.bus.channels.room_list import RoomListInterface
from telepathy_e2e.bus.channels.sasl import SASLInterface
from telepathy_e2e.bus.channels.security import EndToEndSecurityInterface, SecurableInterface
from telepathy_e2e.bus.channels.server_authentication import ServerAuthenticationInterface
from telepathy_e2e.bus.channels.server_tls import ServerTLSInterface
from telepathy_e2e.bus.channels.stream_tube import StreamTubeInterface
from telepathy_e2e.bus.channels.subject import SubjectInterface
from telepathy_e2e.bus.channels.text import TextInterface
from telepathy_e2e.bus.channels.tube import TubeInterface, shown
from telepathy_e2e.bus.channels.verification import (
    CertificateRequestInterface,
    PeerVerificationInterface,
)
from telepathy_e2e.bus.members import Interface
from telepathy_e2e.bus.values import fit, variant
from telepathy_e2e.bus.wire import Variant, plain

# Fixed properties, names of allowed ones (Requestable_Channel_Class).
ChannelClass = tuple[dict[str, object], list[str]]

PARAMETERS: Final = f"{TubeInterface.name}.Parameters"

# By name; each is made from a channel of the service layer.
INTERFACES: Final[Mapping[str, type[Interface]]] = {
    each.name: each
    for each in (
        ChannelInterface,
        FileTransferInterface,
        StreamTubeInterface,
        DBusTubeInterface,
        TubeInterface,
        TextInterface,
        MessagesInterface,
        ChatStateInterface,
        GroupInterface,
        PasswordInterface,
        RoomInterface,
        RoomConfigInterface,
        SubjectInterface,
        RoomListInterface,
        DestroyableInterface,
        SecurableInterface,
        EndToEndSecurityInterface,
        PeerVerificationInterface,
        CertificateRequestInterface,
        ServerAuthenticationInterface,
        SASLInterface,
        ServerTLSInterface,
        CallInterface,
        HoldInterface,
        CallMuteInterface,
        CallMediaInterface,
    )
}

# Of objects below a channel.
BELOW: Final[Mapping[str, type[Interface]]] = {
    each.name: each
    for each in (
        CallContentInterface,
        CallDTMFInterface,
        CallAudioControlInterface,
        CallMuteInterface,
        CallStreamInterface,
    )
}


@cache
def signatures() -> Mapping[str, str]:
    """Qualified property name to D-Bus signature, of all properties that channels can have."""
    return {
        f"{interface.name}.{name}": declared.signature
        for interface in INTERFACES.values()
        for name, declared in interface.members().properties.items()
    }


def typed(properties: Mapping[str, Any]) -> dict[str, Variant]:
    """Qualified properties with their types; parameters of a tube bring their own."""
    return {
        name: variant(signatures()[name], shown(value) if name == PARAMETERS else value)
        for name, value in properties.items()
    }


def class_list(classes: Iterable[ChannelClass]) -> list[list[Any]]:
    """Requestable channel classes with their types."""
    return [[typed(fixed), list(allowed)] for fixed, allowed in classes]


def requested(request: Mapping[str, Variant]) -> dict[str, Any]:
    """A channel request as plain values of the right types.

    Properties that no channel here has are left as they are; the service layer refuses them by
    their names.

    Raises:
        InvalidArgument: a property with a value of another type.
    """
    return {
        name: fit(name, value, signatures()[name]) if name in signatures() else plain(value)
        for name, value in request.items()
    }
