"""What every channel shows (Channel)."""

from __future__ import annotations

from telepathy_e2e.bus.members import Interface, Property, Signal, method
from telepathy_e2e.bus.types import Strings, TypeAndHandle
from telepathy_e2e.bus.wire import DBusBool, DBusStr, DBusUInt32
from telepathy_e2e.service import names
from telepathy_e2e.service.channel import Channel


class ChannelInterface(Interface):
    """``Channel``. Clients call its deprecated methods to see that it lives."""

    name = names.CHANNEL

    ChannelType = Property(DBusStr)
    Interfaces = Property(Strings)
    TargetHandle = Property(DBusUInt32)
    TargetID = Property(DBusStr)
    TargetHandleType = Property(DBusUInt32)
    Requested = Property(DBusBool)
    InitiatorHandle = Property(DBusUInt32)
    InitiatorID = Property(DBusStr)
    Closed = Signal()

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._channel = channel

    @property
    def interfaces(self) -> list[str]:
        return list(self._channel.interfaces)

    @method("Close")
    def close(self) -> None:
        self._channel.close()

    @method("GetChannelType")
    def get_channel_type(self) -> DBusStr:
        return self._channel.channel_type

    @method("GetHandle")
    def get_handle(self) -> TypeAndHandle:
        return self._channel.target_handle_type, self._channel.target_handle

    @method("GetInterfaces")
    def get_interfaces(self) -> Strings:
        return self.interfaces
