"""What all channels have in common (Telepathy, Channel), without D-Bus."""

from __future__ import annotations

from typing import ClassVar, Protocol

from telepathy_e2e.errors import TelepathyError
from telepathy_e2e.service import names
from telepathy_e2e.service.events import ChannelEvent, Closed, Emitter
from telepathy_e2e.service.handles import HANDLE_TYPE_CONTACT


class Owner(Protocol):
    """What a channel asks of its connection."""

    object_path: str

    def channel_closed(self, channel: Channel) -> None: ...


class Channel:
    """One channel. Subclasses name their type and interfaces and add attributes.

    Attributes named like D-Bus properties in snake case (``target_handle`` for ``TargetHandle``)
    hold their values; the bus layer reads them.
    """

    channel_type: ClassVar[str]
    interfaces: tuple[str, ...] = ()

    def __init__(
        self,
        owner: Owner,
        object_path: str,
        *,
        target_handle: int,
        target_id: str,
        requested: bool,
        initiator_handle: int,
        initiator_id: str,
        target_handle_type: int = HANDLE_TYPE_CONTACT,
    ) -> None:
        self.owner = owner
        self.object_path = object_path
        self.target_handle_type = target_handle_type
        self.target_handle = target_handle
        self.target_id = target_id
        self.requested = requested
        self.initiator_handle = initiator_handle
        self.initiator_id = initiator_id
        self.closed = False
        self.events: Emitter[ChannelEvent] = Emitter()

    def immutable_properties(self) -> dict[str, object]:
        """Qualified name to plain value, as NewChannels and CreateChannel show them."""
        return {
            names.CHANNEL + ".ChannelType": self.channel_type,
            names.CHANNEL + ".Interfaces": list(self.interfaces),
            names.CHANNEL + ".TargetHandleType": self.target_handle_type,
            names.CHANNEL + ".TargetHandle": self.target_handle,
            names.CHANNEL + ".TargetID": self.target_id,
            names.CHANNEL + ".Requested": self.requested,
            names.CHANNEL + ".InitiatorHandle": self.initiator_handle,
            names.CHANNEL + ".InitiatorID": self.initiator_id,
        }

    def begin(self) -> None:
        """It was requested, and everybody knows of it now: tell nothing of a channel before."""

    def disconnected(self, error: TelepathyError, stopped: bool) -> None:
        """The connection goes, and the channel with it.

        Args:
            stopped: the user asked for it.
        """
        self._gone()

    def peer_offline(self) -> None:
        """The client that the channel's session is with went offline."""

    def close(self) -> None:
        """Channel.Close by a client: end what the channel stands for, then the channel."""
        self._gone()

    def _gone(self) -> None:
        """The channel is over: tell everybody, once."""
        if self.closed:
            return
        self.closed = True
        self.events.emit(Closed())
        self.owner.channel_closed(self)
