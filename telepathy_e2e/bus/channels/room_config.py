"""Channel.Interface.RoomConfig1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from telepathy_e2e.bus.members import Interface, Property, method
from telepathy_e2e.bus.types import Strings
from telepathy_e2e.bus.values import fit
from telepathy_e2e.bus.wire import DBusBool, DBusDict, DBusStr, DBusUInt32
from telepathy_e2e.errors import InvalidArgument
from telepathy_e2e.service import names

if TYPE_CHECKING:  # not before there is a room
    from telepathy_e2e.service.room_settings import RoomSettings


class Configured(Protocol):
    """See ``service.room_channel.RoomChannel``."""

    @property
    def settings(self) -> RoomSettings: ...


class RoomConfigInterface(Interface):
    """``Channel.Interface.RoomConfig1``."""

    name = names.ROOM_CONFIG

    Anonymous = Property(DBusBool, signals_changes=True)
    InviteOnly = Property(DBusBool, signals_changes=True)
    Limit = Property(DBusUInt32, signals_changes=True)
    Moderated = Property(DBusBool, signals_changes=True)
    Title = Property(DBusStr, signals_changes=True)
    Description = Property(DBusStr, signals_changes=True)
    Persistent = Property(DBusBool, signals_changes=True)
    Private = Property(DBusBool, signals_changes=True)
    PasswordProtected = Property(DBusBool, signals_changes=True)
    Password = Property(DBusStr, signals_changes=True)
    PasswordHint = Property(DBusStr, signals_changes=True)
    CanUpdateConfiguration = Property(DBusBool, signals_changes=True)
    MutableProperties = Property(Strings, signals_changes=True)
    ConfigurationRetrieved = Property(DBusBool, signals_changes=True)

    def __init__(self, channel: Configured) -> None:
        super().__init__(channel.settings)
        self._settings = channel.settings

    @method("UpdateConfiguration")
    async def update_configuration(self, Properties: DBusDict) -> None:
        declared = self.members().properties
        for name in Properties:
            if name not in declared:
                raise InvalidArgument(f"A room has no property {name}")
        await self._settings.update(
            {name: fit(name, value, declared[name].signature) for name, value in Properties.items()}
        )
